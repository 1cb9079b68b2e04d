"""What it costs to let somebody in, and what a packet pays, by the number of those who are in already."""

from __future__ import annotations

import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator

from bench.figures import Figure, Finding
from bench.lab import Lab
from bench.results import Value
from bench.wire import DOOR, PORT
from knockdemo import config, firewall
from knockgate.config.doors import parse
from knockgate.errors import Unavailable
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.ruleset import compile_ruleset
from knockgate.model import Port, Protocol

__all__ = ["FIGURE", "TITLES"]

TITLES = {
    "iptables": "iptables: a rule each (knockd, fwknopd)",
    "nft": "nft: an element each, by the program (lane A)",
    "knockgate": "knockgate: an element each, by netlink",
}
#: Who is let in while it is measured, how often.
_ADDED = {"iptables": 10, "nft": 30, "knockgate": 300}
#: More in one message need root (iptables asks for room in its socket's buffer).
_RULES_AT_ONCE = 400
_LEASED, _STRANGER = "10.250.0.1", "10.250.0.2"
_LANE_A = config.Config(service_port=PORT)
_LANE_A_SET = f"inet {_LANE_A.nft_table} {_LANE_A.nft_set}"


def _measure(lab: Lab, name: str) -> Iterator[Finding]:
    for count in lab.args.leases:
        lab.clear()
        _FILL[name](lab, count)
        add, shut = _adder(lab, name), lab.syn(_STRANGER, PORT)
        costs = [add(number) for number in range(_ADDED[name])]
        values: dict[str, Value] = {
            "add_us": round(statistics.median(costs) * 1e6, 1),
            "stranger_us": round(lab.cost(shut) / 1e3, 3),
            "unrelated_us": round(lab.cost(lab.syn(_STRANGER, 81)) / 1e3, 3),
        }
        yield Finding(str(count), values)
    lab.clear()


def _member(number: int) -> str:
    return f"10.{100 + number // 65536}.{number // 256 % 256}.{number % 256}"


def _fill_iptables(lab: Lab, count: int) -> None:
    rules = [f"-A INPUT -s {_member(n)} -p tcp --dport {PORT} -j ACCEPT\n" for n in range(count)]
    rules.append(f"-A INPUT -p tcp --dport {PORT} -j DROP\n")
    for start in range(0, len(rules), _RULES_AT_ONCE):
        text = f"*filter\n{''.join(rules[start : start + _RULES_AT_ONCE])}COMMIT\n"
        done = lab.site.host.run(["iptables-restore", "--noflush"], stdin=text, timeout=600)
        if done.returncode:
            raise Unavailable(f"measurement failed: {done.stderr.strip()}")
    if (there := lab.site.host.run(["iptables", "-S", "INPUT"]).stdout.count("-j ACCEPT\n")) != count:
        raise Unavailable(f"measurement failed: {there} rules of {count} are there")


def _fill_nft(lab: Lab, count: int) -> None:
    lab.load(firewall.base_ruleset(_LANE_A))
    _add_elements(lab, _LANE_A_SET, count, "{} timeout 1h")


def _fill_knockgate(lab: Lab, count: int) -> None:
    lab.load(compile_ruleset(parse(DOOR)))
    _add_elements(lab, "inet knockgate leases4", count, f"{{}} . tcp . {PORT} timeout 1h")


def _add_elements(lab: Lab, where: str, count: int, element: str) -> None:
    for start in range(0, count, 1000):
        members = (element.format(_member(n)) for n in range(start, min(count, start + 1000)))
        lab.load(f"add element {where} {{ {', '.join(members)} }}\n")


_FILL: dict[str, Callable[[Lab, int], None]] = {
    "iptables": _fill_iptables,
    "nft": _fill_nft,
    "knockgate": _fill_knockgate,
}


def _adder(lab: Lab, name: str) -> Callable[[int], float]:
    """What lets the source of that number in, and tells the seconds it took."""
    if name == "knockgate":
        with lab.site.host.inside():
            table = Nftables(own=False)
        port = [Port(Protocol.TCP, PORT)]

        def by_netlink(number: int) -> float:
            source = socket.inet_aton(f"10.251.{number // 250}.{number % 250}")
            began = time.perf_counter()
            with lab.site.host.inside():
                table.open(port, source, 3600, "daemon sequence")
            return time.perf_counter() - began

        return by_netlink

    def by_program(number: int) -> float:
        source = f"10.251.{number // 250}.{number % 250}"
        rule = ["INPUT", "-s", source, "-p", "tcp", "--dport", str(PORT), "-j", "ACCEPT"]
        argv = {
            "iptables": ["iptables", "-I", *rule],
            "nft": [
                "nft",
                f"add element inet {_LANE_A.nft_table} {_LANE_A.nft_set} {{ {source} timeout 30s }}",
            ],
        }[name]
        began = time.perf_counter()
        # As the gate's way, and without a program of the lab's own in front: they start it by its name too.
        with lab.site.host.inside():
            done = subprocess.run(
                argv, capture_output=True, text=True, check=False, env=dict(lab.site.host.environment)
            )
        took = time.perf_counter() - began
        if done.returncode:
            raise Unavailable(f"measurement failed: {' '.join(argv)}: {done.stderr.strip()}")
        return took

    return by_program


FIGURE = Figure("leases", tuple(TITLES), _measure)
