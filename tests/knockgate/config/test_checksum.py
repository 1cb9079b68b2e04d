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

from knockgate.config.doors import (
    Commands,
    Configuration,
    Demands,
    Devices,
    Door,
    Flags,
    Fwknop,
    Gate,
    Observed,
    Reliance,
    RunsIn,
    Sealed,
    Sequence,
    Suite,
    parse,
)
from knockgate.config.readers import LogFormat
from knockgate.model import TcpFlag

#: For each field another value than in MEANT's door web.2.
OTHERWISE: dict[tuple[type[object], str], object] = {
    (Gate, "interface"): "wan1",
    (Gate, "sources"): 17,
    (Gate, "hurried"): 17,
    (Gate, "leases"): 17,
    (Gate, "log_group"): 17,
    (Gate, "log"): LogFormat.TEXT,
    (Gate, "tracked"): 17,
    (Gate, "clock"): Reliance.TRUSTED,
    (Gate, "allow"): (ip_network("203.0.113.0/25"), ip_network("2001:db8::7")),
    (Gate, "shadow"): False,
    (Gate, "run_directory"): "/x",
    (Gate, "state_directory"): "/x",
    (Door, "name"): "web",
    (Door, "ports"): (udp(443),),
    (Door, "lease"): 60.001,
    (Door, "longest"): 61.0,
    (Door, "keyed"): True,
    (Door, "allow"): (ip_network("203.0.113.0/25"),),
    (Door, "shadow"): True,
    (Door, "sequence"): None,
    (Door, "commands"): None,
    (Sequence, "steps"): (tcp(1),),
    (Sequence, "within"): 5.0,
    (Sequence, "runs_in"): RunsIn.KERNEL,
    (Sequence, "flags"): Flags(TcpFlag.SYN, TcpFlag.ACK),
    (Sequence, "target"): raw("192.0.2.7"),
    (Sequence, "one_time"): "/etc/knockgate/twice",
    (Commands, "open"): ("/bin/echo", "opened", "for %IP%"),
    (Commands, "close"): (),
    (Commands, "open6"): None,
    (Commands, "close6"): None,
    (Commands, "shell"): True,
    (Commands, "time_limit"): 3.5,
    (Door, "sealed"): Demands(touch=True),
    (Demands, "observed"): Observed.ALWAYS,
    (Demands, "touch"): False,
    (Demands, "devices"): Devices.ANY,
    (Sealed, "port"): udp(8),
    (Sealed, "suites"): (Suite.X25519, Suite.X_WING),
    (Sealed, "budget"): 17,
    (Sealed, "devices"): 17,
    (Fwknop, "port"): udp(8),
    (Fwknop, "freshness"): 61.0,
    (Fwknop, "remembered"): 17,
}


def with_other(schema: type[object], name: str, value: object) -> Configuration:
    """MEANT, but for one field, of the gate or of the second door; what a door demands, of the last."""
    gate, fwknop, sealed, (first, door, *more, last) = MEANT.gate, MEANT.fwknop, MEANT.sealed, MEANT.doors
    change: dict[str, Any] = {name: value}
    if schema is Gate:
        gate = dataclasses.replace(gate, **change)
    elif schema is Fwknop and fwknop:
        fwknop = dataclasses.replace(fwknop, **change)
    elif schema is Sealed and sealed:
        sealed = dataclasses.replace(sealed, **change)
    elif schema is Demands:
        last = dataclasses.replace(last, sealed=dataclasses.replace(last.sealed, **change))
    elif schema is Door:
        door = dataclasses.replace(door, **change)
    elif schema is Sequence and door.sequence:
        door = dataclasses.replace(door, sequence=dataclasses.replace(door.sequence, **change))
    elif schema is Commands and door.commands:
        door = dataclasses.replace(door, commands=dataclasses.replace(door.commands, **change))
    return Configuration(gate=gate, doors=(first, door, *more, last), fwknop=fwknop, sealed=sealed)


def test_every_field_is_part_of_the_checksum() -> None:
    every = {
        (schema, field.name)
        for schema in (Gate, Door, Sequence, Commands, Demands, Fwknop, Sealed)
        for field in dataclasses.fields(schema)
    }
    assert set(OTHERWISE) == every  # a new field needs a line above
    sums = [MEANT.checksum, *(with_other(*place, value).checksum for place, value in OTHERWISE.items())]
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
