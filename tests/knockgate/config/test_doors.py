from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from tests.packets import raw

from knockgate.config.doors import (
    DEFAULT_PATH,
    MAX_DOORS,
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
    load,
    parse,
)
from knockgate.config.readers import LogFormat
from knockgate.config.toml import Wrong, fields_of
from knockgate.errors import ConfigError
from knockgate.model import Port, Protocol, TcpFlag


def tcp(number: int) -> Port:
    return Port(Protocol.TCP, number)


def udp(number: int) -> Port:
    return Port(Protocol.UDP, number)


# --- what is right ------------------------------------------------------------------------------------

EVERY_KEY = """\
# Every key, and nothing as it would be without.
[gate]
interface = "wan0"
sources = 16
hurried = 16777216
leases = 1000
log_group = 0
tracked = 1
clock = "unknown"
allow = ["203.0.113.0/24", "2001:db8::7"]
shadow = true
log = "json"
run_directory = "/tmp/run"
state_directory = "/tmp/state"

[doors.ssh]
ports = ["tcp/22", "UDP/22 "]
lease = "1m30s"

[doors.ssh.sequence]
steps = ["tcp/7000", "udp/8000", "tcp/65535"]
within = 2.5
runs_in = "kernel"

[doors."web.2"]
ports = ["tcp/443"]
lease = 60

    [doors."web.2".sequence]
    one_time = "/etc/knockgate/once"
    within = "1d"
    runs_in = "daemon"
    flags = ["syn", "!ACK", "!fin"]
    target = "2001:db8::1"

    [doors."web.2".commands]
    open = ["/bin/echo", "opened for %IP%"]
    close = ["/bin/echo", "closed"]
    open6 = []
    close6 = ["/bin/true"]
    time_limit = "3s"

[doors.shell]
sequence = { steps = ["tcp/1"], runs_in = "daemon", target = "192.0.2.7" }
lease = 0
commands.shell = true
commands.open = "iptables -A INPUT -s %IP% -j ACCEPT"
commands.close = ""

[doors.by_hand]
ports = ["tcp/1000"]
allow = ["198.51.100.7", "2001:db8::/32"]
shadow = true

[doors.keyed]
ports = ["tcp/1001"]
longest = "10m"

[doors.keyed.sealed]
observed = "never"
touch = true
devices = "known"

[fwknop]
port = "udp/7"
freshness = "1m"
remembered = 16

[sealed]
port = "udp/9"
suites = ["x25519"]
budget = 7
devices = 3

[keys.alice]
fwknop = "/nowhere"
doors = ["keyed"]

[keys.people]
ssh = "/nowhere"
doors = ["keyed"]
"""

MEANT = Configuration(
    gate=Gate(
        interface="wan0",
        sources=16,
        hurried=16777216,
        leases=1000,
        log_group=0,
        tracked=1,
        clock=Reliance.UNKNOWN,
        allow=(ip_network("203.0.113.0/24"), ip_network("2001:db8::7")),
        shadow=True,
        log=LogFormat.JSON,
        run_directory="/tmp/run",
        state_directory="/tmp/state",
    ),
    doors=(
        Door(
            name="ssh",
            ports=(tcp(22), udp(22)),
            lease=90.0,
            sequence=Sequence(steps=(tcp(7000), udp(8000), tcp(65535)), within=2.5, runs_in=RunsIn.KERNEL),
        ),
        Door(
            name="web.2",
            ports=(tcp(443),),
            lease=60.0,
            sequence=Sequence(
                one_time="/etc/knockgate/once",
                within=86400.0,
                runs_in=RunsIn.DAEMON,
                flags=Flags(TcpFlag.SYN, TcpFlag.ACK | TcpFlag.FIN),
                target=raw("2001:db8::1"),
            ),
            commands=Commands(
                open=("/bin/echo", "opened for %IP%"),
                close=("/bin/echo", "closed"),
                open6=(),
                close6=("/bin/true",),
                time_limit=3.0,
            ),
        ),
        Door(
            name="shell",
            lease=0.0,
            sequence=Sequence(steps=(tcp(1),), runs_in=RunsIn.DAEMON, target=raw("192.0.2.7")),
            commands=Commands(shell=True, open=("iptables -A INPUT -s %IP% -j ACCEPT",)),  # noqa: S604 - a field
        ),
        Door(
            name="by_hand",
            ports=(tcp(1000),),
            allow=(ip_network("198.51.100.7"), ip_network("2001:db8::/32")),
            shadow=True,
        ),
        Door(
            name="keyed",
            ports=(tcp(1001),),
            longest=600.0,
            sealed=Demands(observed=Observed.NEVER, touch=True, devices=Devices.KNOWN),
            keyed=True,
        ),
    ),
    fwknop=Fwknop(port=udp(7), freshness=60.0, remembered=16),
    sealed=Sealed(port=udp(9), suites=(Suite.X25519,), budget=7, devices=3),
)


def test_every_key() -> None:
    """Nothing is left out: each field of each schema has its name in the text."""
    assert parse(EVERY_KEY) == MEANT
    words = EVERY_KEY.replace(".", " ").split()
    schemas: tuple[type[object], ...] = (Gate, Door, Sequence, Commands, Demands, Fwknop, Sealed)
    assert {field.name for schema in schemas for field in fields_of(schema)} <= set(words)


def test_without_a_key_there_is_its_default() -> None:
    text = '[doors.ssh]\nports = ["tcp/22"]\n[doors.ssh.sequence]\nsteps = ["tcp/7000"]'
    door = Door(name="ssh", ports=(tcp(22),), lease=15.0, sequence=Sequence(steps=(tcp(7000),), within=5.0))
    assert parse(text) == Configuration(gate=Gate(), doors=(door,))


def test_reading_what_there_is_to_read() -> None:
    configuration = parse(EVERY_KEY)
    names = [door.name for door in configuration.doors]
    assert names == ["ssh", "web.2", "shell", "by_hand", "keyed"]  # as in the file
    assert [door.name for door in configuration.kernel_doors()] == ["ssh"]
    assert [door.name for door in configuration.daemon_doors()] == ["web.2", "shell"]
    for port, name in {
        tcp(22): "ssh",
        udp(22): "ssh",
        tcp(443): "web.2",
        tcp(7000): None,
        udp(443): None,
    }.items():
        door = configuration.door_of(port)
        assert (door.name if door else None) == name


def test_commands_for_a_source() -> None:
    """IPv6 sources have their own commands, else those of IPv4; nothing to open is nothing to close."""
    v4, v6 = raw("192.0.2.1"), raw("2001:db8::2")
    both = Commands(open=("o",), close=("c",))
    assert both.for_source(v4) == both.for_source(v6) == (("o",), ("c",))
    own = dataclasses.replace(both, open6=("o6",), close6=("c6",))
    assert (own.for_source(v4), own.for_source(v6)) == ((("o",), ("c",)), (("o6",), ("c6",)))
    none = dataclasses.replace(own, open6=())
    assert (none.for_source(v4), none.for_source(v6)) == ((("o",), ("c",)), ((), ()))
    no_stop = dataclasses.replace(both, close6=())
    assert no_stop.for_source(v6) == (("o",), ())


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(EVERY_KEY)
    assert load(path) == MEANT and load(path).file == str(path)
    assert str(DEFAULT_PATH) == "/etc/knockgate/gate.toml"
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none")


SSH = '[doors.ssh]\nports = ["tcp/22"]\n'
GOOD_NAMES = ["a", "A", "0", "_", "a-b_c.D", "x" * 63, "sequence", "gate"]
GOOD_INTERFACES = ["", "lo", "eth0.5", "br-0a", "wan@x", "123456789012345", "...", "a'b"]
GOOD_COMMANDS = [
    'open = ["/bin/a b", ""]',
    'open = ["/bin/a"]\nclose = []',
    'open6 = ["/bin/a"]\nclose6 = ["/bin/b"]',
    'shell = true\nopen = "a; b"',
    'shell = true\nopen = ["a; b"]',
    "",
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_of_doors(name: str) -> None:
    assert parse(f'[doors."{name}"]\nports = ["tcp/22"]').doors[0].name == name


@pytest.mark.parametrize("name", GOOD_INTERFACES)
def test_names_of_interfaces(name: str) -> None:
    assert parse(f'{SSH}[gate]\ninterface = "{name}"').gate.interface == name


@pytest.mark.parametrize("lines", GOOD_COMMANDS)
def test_commands(lines: str) -> None:
    text = f'{SSH}sequence = {{ steps = ["tcp/1"], runs_in = "daemon" }}\n[doors.ssh.commands]\n{lines}'
    assert parse(text).doors[0].commands


def test_as_many_doors_as_there_may_be() -> None:
    text = "[doors]\n" + "".join(f"d{number}.ports=['tcp/{number + 1}']\n" for number in range(MAX_DOORS))
    assert len(parse(text).doors) == MAX_DOORS


def test_as_many_ports_as_there_are() -> None:
    text = f"doors.all.ports = {[f'tcp/{number}' for number in range(1, 65536)]}"
    assert len(parse(text).doors[0].ports) == 65535


def test_as_many_steps_as_there_may_be() -> None:
    sequence = parse(f"{SSH}sequence = {{ steps = {['tcp/7000'] * 32} }}").doors[0].sequence
    assert sequence and len(sequence.steps) == 32


# --- any text, any value ------------------------------------------------------------------------------


def understood(text: str) -> bool:
    """Whether it is a configuration; else the error has a file, a hint and, if any, a line that there is."""
    try:
        parse(text, "any.toml")
    except ConfigError as error:
        complete = error.file == "any.toml" and error.hint
        if complete and (error.line is None or 1 <= error.line <= text.count("\n") + 1):
            return False
        raise AssertionError(f"{error!r} says too little") from error
    return True


@given(text=st.text())
def test_any_text(text: str) -> None:
    event("taken" if understood(text) else "refused")


@given(data=st.data())
def test_a_text_cut_up(data: st.DataObject) -> None:
    """The text of all keys with a piece of it cut out, moved, doubled or something put into it."""
    start, end, to = sorted(data.draw(st.tuples(*[st.integers(0, len(EVERY_KEY))] * 3)))
    piece = data.draw(
        st.sampled_from(["", EVERY_KEY[start:end], '"', "]", "}", "[", "=", "\n", "'''", "#", ".", "-1"])
    )
    for text in (
        EVERY_KEY[:start] + EVERY_KEY[end:to] + piece + EVERY_KEY[to:],
        EVERY_KEY[:start] + piece + EVERY_KEY[start:],
    ):
        event("taken" if understood(text) else "refused")


WORDS = st.sampled_from(["tcp/22", "15s", "syn", "!ack", "kernel", "::1", "/bin/true", "eth0", ""])
ANY_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.integers(0, 99)
    | st.floats()
    | st.text(max_size=20)
    | WORDS
    | st.lists(WORDS, max_size=2)
    | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
FIELDS = [
    (schema, field)
    for schema in (Gate, Door, Sequence, Commands, Demands, Fwknop, Sealed)
    for field in fields_of(schema)
]


@given(value=ANY_VALUE)
def test_any_value(value: object) -> None:
    """A reader takes a value or says what is wrong with it, never anything else."""
    for _, field in FIELDS:
        with contextlib.suppress(Wrong):
            hash(field.metadata["reader"].read(value))  # what it reads is a value, too
            event(f"taken for {field.name}")


def test_every_default_is_what_one_could_write() -> None:
    """But for None, which is what stands there where nothing is written."""
    written = {(schema, field.name) for schema, field in FIELDS if field.default is not None}
    unwritten = {(schema, field.name) for schema, field in FIELDS} - written
    assert {name for _, name in unwritten} == {"flags", "target", "open6", "close6", "longest"}
    for schema, field in FIELDS:
        if (schema, field.name) in written:
            default = field.default
            value = (
                default.value
                if isinstance(default, RunsIn | Reliance | Observed | Devices)
                else str(default)
                if isinstance(default, Port)
                else list(default)
                if isinstance(default, tuple)
                else default
            )
            assert field.metadata["reader"].read(value) == default


# --- the checksum -------------------------------------------------------------------------------------

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
