"""The real table in a network of its own: load a configuration, let packets come by, see what opened."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable

from tests.netns import DEADLINE, Network, Sender, mac, stay_on_one_core, until, until_carries, up, veth
from tests.packets import ACK, SYN, ipv4, ipv6, tcp, udp

from knockgate.config.doors import Configuration, parse
from knockgate.firewall.ruleset import compile_ruleset

HERE = {4: "10.0.0.1", 6: "fd00::1"}


def nft(text: str) -> None:
    """Load a text with plain ``nft -f``; its complaint fails the test."""
    done = subprocess.run(
        ["nft", "-f", "-"], input=text, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n{text[:2000]}"


def load(configuration: str | Configuration, *, grace: bool = False) -> Configuration:
    """Compile and load; the chains of an earlier configuration are deleted."""
    known = parse(configuration) if isinstance(configuration, str) else configuration
    nft(compile_ruleset(known, stale_chains=chains(), grace=grace))
    return known


def listing(*what: str) -> list[dict[str, object]]:
    """Objects of ``nft -j list``, without the first, which tells versions."""
    done = subprocess.run(
        ["nft", "-j", "list", *what], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    found: list[dict[str, object]] = json.loads(done.stdout)["nftables"][1:] if done.returncode == 0 else []
    return found


def chains() -> set[str]:
    """The chains that the live table has."""
    found = [each["chain"] for each in listing("chains", "inet") if "chain" in each]
    return {str(each["name"]) for each in found if isinstance(each, dict) and each["table"] == "knockgate"}


def elements(name: str) -> list[dict[str, object]]:
    """``{"val", "timeout", "expires"}`` of each element of a set or map."""
    (found,) = listing("set", "inet", "knockgate", name) or listing("map", "inet", "knockgate", name)
    ((_, described),) = found.items()
    assert isinstance(described, dict)
    plain = []
    for each in described.get("elem", []):
        element = each[0] if isinstance(each, list) else each  # of a map: key and value
        plain.append(element.get("elem", {"val": element}) if isinstance(element, dict) else {"val": element})
    return plain


def leases() -> dict[str, dict[str, float]]:
    """source -> port -> whole seconds left, opened by knocks; ``ssh`` is known by tcp/22."""
    found: dict[str, dict[str, float]] = {}
    for name in ("leases4", "leases6"):
        for each in elements(name):
            assert isinstance(each["val"], dict)
            source, protocol, port = each["val"]["concat"]
            found.setdefault(source, {})[f"{protocol}/{port}"] = float(str(each["expires"]))
    return found


def doors_of(configuration: Configuration, ports: Iterable[str]) -> set[str]:
    """The doors whose ports are all there."""
    there = set(ports)
    return {
        door.name
        for door in configuration.doors
        if door.ports and {str(port) for port in door.ports} <= there
    }


class Cable:
    """A host (here) and somebody on the other end, who may send from any address."""

    def __init__(self) -> None:
        stay_on_one_core()  # packets arrive in the order in which they are sent
        self.client = Network()
        veth("near", "far", self.client)
        up("near", f"{HERE[4]}/8", f"{HERE[6]}/16")
        near = mac("near")
        with self.client:
            up("far", "10.0.0.2/8", "fd00::2/16")
            self._wire = Sender("far", near)
        until_carries(self._wire, "near")

    def send(
        self,
        family: int,
        source: str,
        packet: str,
        *,
        source_port: int = 40000,
        to: str = "",
        link: bytes | None = None,
    ) -> None:
        """``t7000``, ``u8000`` or ``a22`` from ``source``; to this host unless other addresses are given."""
        kind, port = packet[0], int(packet[1:])
        inner = udp(port, source_port=source_port)
        if kind != "u":
            inner = tcp(port, source_port=source_port, flags=SYN if kind == "t" else ACK)
        protocol = 17 if kind == "u" else 6
        make = ipv4 if family == 4 else ipv6
        whole = make(inner, protocol, source=source, destination=to or HERE[family])
        self._wire.send(whole, destination=link)

    def settle(self, knock: str, port: str) -> None:
        """Wait until all that was sent has been through the chains: ``knock`` is one, and opens ``port``."""
        mark = "10.99.99.99"
        self.send(4, mark, knock)
        until(lambda: port in leases().get(mark, {}), "the mark at the end has opened its door")
