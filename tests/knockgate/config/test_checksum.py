"""The checksum of a configuration: whatever differs makes another one, and nothing else does."""

from __future__ import annotations

import dataclasses
import itertools
import random
from ipaddress import ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.config.every_key import EVERY_KEY, MEANT, tcp, udp
from tests.packets import raw

from knockgate.config import schema
from knockgate.config.doors import Configuration, parse
from knockgate.config.readers import Devices, Flags, LogFormat, Observed, Reliance, RunsIn, Suite
from knockgate.model import TcpFlag

#: For each field another value than in MEANT's door web.2.
OTHERWISE: dict[type[object], dict[str, object]] = {
    schema.Gate: {
        "interface": "wan1",
        "sources": 17,
        "hurried": 17,
        "leases": 17,
        "log_group": 17,
        "log": LogFormat.TEXT,
        "tracked": 17,
        "clock": Reliance.TRUSTED,
        "allow": (ip_network("203.0.113.0/25"), ip_network("2001:db8::7")),
        "shadow": False,
        "run_directory": "/x",
        "state_directory": "/x",
    },
    schema.Door: {
        "name": "web",
        "ports": (udp(443),),
        "lease": 60.001,
        "longest": 61.0,
        "keyed": True,
        "allow": (ip_network("203.0.113.0/25"),),
        "shadow": True,
        "sequence": None,
        "commands": None,
        "sealed": schema.Demands(touch=True),
    },
    schema.Sequence: {
        "steps": (tcp(1),),
        "within": 5.0,
        "runs_in": RunsIn.KERNEL,
        "flags": Flags(TcpFlag.SYN, TcpFlag.ACK),
        "target": raw("192.0.2.7"),
        "one_time": "/etc/knockgate/twice",
    },
    schema.Commands: {
        "open": ("/bin/echo", "opened", "for %IP%"),
        "close": (),
        "open6": None,
        "close6": None,
        "shell": True,
        "time_limit": 3.5,
    },
    schema.Demands: {
        "observed": Observed.ALWAYS,
        "touch": False,
        "devices": Devices.ANY,
    },
    schema.Sealed: {
        "port": udp(8),
        "suites": (Suite.X25519, Suite.X_WING),
        "budget": 17,
        "devices": 17,
    },
    schema.Fwknop: {
        "port": udp(8),
        "freshness": 61.0,
        "remembered": 17,
    },
}


def with_other(table: type[object], name: str, value: object) -> Configuration:
    """MEANT, but for one field, of the gate or of the second door; what a door demands, of the last."""
    gate, fwknop, sealed, (first, door, *more, last) = MEANT.gate, MEANT.fwknop, MEANT.sealed, MEANT.doors
    change: dict[str, Any] = {name: value}
    if table is schema.Gate:
        gate = dataclasses.replace(gate, **change)
    elif table is schema.Fwknop and fwknop:
        fwknop = dataclasses.replace(fwknop, **change)
    elif table is schema.Sealed and sealed:
        sealed = dataclasses.replace(sealed, **change)
    elif table is schema.Demands:
        last = dataclasses.replace(last, sealed=dataclasses.replace(last.sealed, **change))
    elif table is schema.Door:
        door = dataclasses.replace(door, **change)
    elif table is schema.Sequence and door.sequence:
        door = dataclasses.replace(door, sequence=dataclasses.replace(door.sequence, **change))
    elif table is schema.Commands and door.commands:
        door = dataclasses.replace(door, commands=dataclasses.replace(door.commands, **change))
    return Configuration(gate=gate, doors=(first, door, *more, last), fwknop=fwknop, sealed=sealed)


def test_every_field_is_part_of_the_checksum() -> None:
    tables = {getattr(schema, name) for name in schema.__all__} - {Configuration}
    every = {(table, field.name) for table in tables for field in dataclasses.fields(table)}
    others = [(table, name, value) for table, found in OTHERWISE.items() for name, value in found.items()]
    assert {(table, name) for table, name, _ in others} == every  # a new field needs a line above
    sums = [MEANT.checksum, *(with_other(*other).checksum for other in others)]
    assert len(set(sums)) == len(sums) and {len(each) for each in sums} == {16}


def test_doors_count_in_their_order() -> None:
    """Their numbers are what the halves of the gate speak of them with."""
    orders = itertools.permutations(MEANT.doors)
    sums = {dataclasses.replace(MEANT, doors=doors).checksum for doors in orders}
    assert len(sums) == 120
    assert dataclasses.replace(MEANT, doors=MEANT.doors[:4]).checksum not in sums


@given(seed=st.integers())
def test_comments_and_the_order_of_keys_do_not_count(seed: int) -> None:
    tables = [table.strip().split("\n") for table in EVERY_KEY.split("\n\n")]
    shuffle = random.Random(seed)
    lines: list[str] = []
    for table in tables:
        heading = next(number for number, line in enumerate(table) if line.strip().startswith("["))
        keys = table[heading + 1 :]
        shuffle.shuffle(keys)
        lines += [table[heading], *(f"  {line}\t# {seed}" for line in keys), ""]
    other = parse("\n".join(lines), "b.toml")
    assert (other, other.checksum) == (MEANT, MEANT.checksum)
    assert other.file != MEANT.file
