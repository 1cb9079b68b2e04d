from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from tests.knockgate.config.every_key import EVERY_KEY, MEANT, tcp, udp
from tests.packets import raw

from knockgate.config.doors import (
    DEFAULT_PATH,
    MAX_DOORS,
    Commands,
    Configuration,
    Demands,
    Devices,
    Door,
    Fwknop,
    Gate,
    Observed,
    Reliance,
    RunsIn,
    Sealed,
    Sequence,
    load,
    parse,
)
from knockgate.config.toml import Wrong, fields_of
from knockgate.errors import ConfigError
from knockgate.model import Port

# --- what is right ------------------------------------------------------------------------------------


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
    assert [door.name for door in configuration.doors if door.needs_daemon] == ["web.2", "shell", "keyed"]
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


def test_where_the_table_is_quiet() -> None:
    """At packets, and at knocks that the daemon hears; a door that only runs commands keeps nothing quiet."""
    assert MEANT.quiet_ports() == {udp(7), udp(9)}
    sequence = '[doors.ssh.sequence]\nruns_in = "{}"\nsteps = ["tcp/7000", "udp/8000"]\n'
    assert parse(SSH + sequence.format("daemon")).quiet_ports() == {tcp(7000), udp(8000)}
    assert parse(SSH + sequence.format("kernel")).quiet_ports() == set()  # the rules follow these


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
