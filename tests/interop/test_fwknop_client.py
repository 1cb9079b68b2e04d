"""Debian's fwknop client opens our doors, in every digest, HMAC and mode that it can produce."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from tests.interop.fwknop import DOORS, Client, stage, until_open
from tests.knockgate.daemon.running import CLIENT, OTHER, all_leases, leases
from tests.netns import isolated, until

from knockgate.spa.fwknop import Hash, Mode, Secret

pytestmark = pytest.mark.skipif(not shutil.which("fwknop"), reason="needs Debian's fwknop-client")

ALICE, BOB = Secret(b"a" * 32, b"A" * 64), Secret(b"b" * 32, b"B" * 64)
BOTH = 'doors = ["ssh", "web"]'


def kinds() -> list[tuple[Hash | None, Mode]]:
    """The HMACs, or none, and the modes; the client makes no HMAC in legacy mode."""
    every = itertools.product([None, *Hash], Mode)
    return [(hmac, mode) for hmac, mode in every if hmac is None or mode is not Mode.LEGACY]


def test_there_are_as_many_kinds_as_the_client_has() -> None:
    assert len(kinds()) == len(set(kinds())) == 7 * 5 + 6


@isolated
def test_each_digest_hmac_and_mode_opens(tmp_path: Path) -> None:
    """Each HMAC with each mode is a key of its own for a door of its own, each digest is for an address.

    So what is open at the end says which packets were taken, and by which key.
    """
    doors, keys, secrets, expected = "", {}, {}, set()
    addresses = {digest: f"10.0.0.{number}" for number, digest in enumerate(Hash, 20)}
    for number, (hmac, mode) in enumerate(kinds()):
        name, port = f"{hmac.value if hmac else 'none'}-{mode.value}", f"tcp/{2000 + number}"
        doors += f'[doors.{name}]\nports = ["{port}"]\nlease = "1h"\n'
        hmac_key = b"H%03d" % number * 16 if hmac else None
        secrets[name] = Secret(b"K%03d" % number * 8, hmac_key, hmac or Hash.SHA256, mode)
        keys[name] = (secrets[name], f'doors = ["{name}"]')
        expected |= {(port, address) for address in addresses.values()}
    client = Client(tmp_path, secrets)
    with stage(tmp_path, keys, doors=doors) as gate:
        for (number, name), (digest, address) in itertools.product(enumerate(keys), addresses.items()):
            client.knock(name, "-A", f"tcp/{2000 + number}", source=address, digest=digest)
        until_open(*expected)
        assert gate.refused() == {}
        # The control: a key opens its own door, and no other.
        client.knock("sha256-cbc", "-A", "tcp/2000", source=OTHER)
        gate.until_refused("port-denied")
        until_open(*expected)


@isolated
def test_the_time_asked_for_is_what_the_door_allows_at_most(tmp_path: Path) -> None:
    keys = {"alice": (ALICE, BOTH), "bob": (BOB, f'{BOTH}\nlongest = "2m"')}
    client = Client(tmp_path, {"alice": ALICE, "bob": BOB})
    with stage(tmp_path, keys):

        def lasts(*options: str, key: str = "alice") -> float:
            """Of the lease that a knock of the client's gives."""
            before = {lease.source for lease in all_leases()}
            source = f"10.0.0.{20 + len(before)}"
            client.knock(key, *options, source=source)
            until(lambda: len(all_leases()) > len(before), "it is open")
            (lease,) = [lease for lease in all_leases() if lease.source not in before]
            assert lease.lasts - 5 < lease.left <= lease.lasts
            return lease.lasts

        assert lasts("-A", "tcp/22") == 30
        assert lasts("-A", "tcp/22", "-f", "7") == 7
        assert lasts("-A", "tcp/22", "-f", "599") == 599
        assert lasts("-A", "tcp/22", "-f", "601") == 600
        assert lasts("-A", "tcp/22", "-f", "65536") == 600
        assert lasts("-A", "tcp/22", "-f", "119", key="bob") == 119
        assert lasts("-A", "tcp/22", "-f", "121", key="bob") == 120


@isolated
def test_several_ports_open_their_doors_or_none(tmp_path: Path) -> None:
    keys = {"alice": (ALICE, BOTH), "bob": (BOB, 'doors = ["web"]')}
    client = Client(tmp_path, {"alice": ALICE, "bob": BOB})
    web = {("tcp/80", OTHER), ("udp/80", OTHER)}
    with stage(tmp_path, keys) as gate:
        client.knock("bob", "-A", "tcp/80,tcp/22")  # the one is his, the other is not
        gate.until_refused("port-denied")
        client.knock("alice", "-A", "udp/22")  # guarded is tcp/22
        gate.until_refused("port-denied", 2)
        assert leases() == set()
        client.knock("bob", "-A", "udp/80", source=OTHER)
        until_open(*web)
        client.knock("alice", "-A", "tcp/22,tcp/80")
        until_open(*web, ("tcp/22", CLIENT), ("tcp/80", CLIENT), ("udp/80", CLIENT))


@isolated
def test_who_names_no_address_is_let_in_where_the_key_says_so(tmp_path: Path) -> None:
    keys = {"alice": (ALICE, BOTH), "bob": (BOB, f"{BOTH}\nobserved = true")}
    client = Client(tmp_path, {"alice": ALICE, "bob": BOB})
    with stage(tmp_path, keys) as gate:
        client.knock("alice", "-A", "tcp/22", "-s", source="")
        gate.until_refused("unstated-source")
        assert leases() == set()
        client.knock("bob", "-A", "tcp/22", "-s", source="")
        until_open(("tcp/22", CLIENT))


@isolated
def test_what_a_key_is_for(tmp_path: Path) -> None:
    """Addresses let in, addresses knocked from and user names; each refusal beside what is as it must be."""
    lines = {
        "sources": 'sources = ["10.0.0.0/28"]',
        "senders": f'senders = ["{OTHER}"]',
        "username": 'username = "alice"',
    }
    secrets = {name: Secret(name.encode() * 4, name.encode() * 5) for name in [*lines, "here"]}
    keys = {name: (secrets[name], f"{BOTH}\n{line}") for name, line in lines.items()}
    keys["here"] = (secrets["here"], f'{BOTH}\nsenders = ["{CLIENT}"]')
    client = Client(tmp_path, secrets)
    with stage(tmp_path, keys) as gate:
        client.knock("sources", "-A", "tcp/22", source="10.0.0.16")
        gate.until_refused("source-denied")
        client.knock("senders", "-A", "tcp/22")
        gate.until_refused("sender-denied")
        client.knock("username", "-A", "tcp/22", "-U", "bob")
        gate.until_refused("user-denied")
        assert leases() == set()
        client.knock("sources", "-A", "tcp/22", source="10.0.0.15")
        client.knock("here", "-A", "tcp/22", source="10.0.0.17")
        client.knock("username", "-A", "tcp/22", "-U", "alice", source="10.0.0.18")
        until_open(*(("tcp/22", f"10.0.0.{number}") for number in (15, 17, 18)))


@isolated
def test_other_types_than_access_are_refused_with_a_reason_of_their_own(tmp_path: Path) -> None:
    client = Client(tmp_path, {"alice": ALICE})
    inside = ["-A", "tcp/22", "-N", "10.0.0.9:22"]
    with stage(tmp_path, {"alice": (ALICE, BOTH)}, doors=DOORS) as gate:
        for times, options in enumerate(
            [["-C", "id"], inside, [*inside, "-f", "9"], [*inside, "--nat-local"]], 1
        ):
            client.knock("alice", *options)
            gate.until_refused("type-denied", times)
        assert leases() == set()
        client.knock("alice", "-A", "tcp/22")
        until_open(("tcp/22", CLIENT))
