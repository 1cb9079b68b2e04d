"""knockd.conf -> the gate.toml that means the same, with comments for whoever moves over.

``doors.parse`` of the text gives what ``load`` gives. Above each key stands what is different here, and
what knockd itself gets wrong about it (``knockd:``; the controls are in tests/knockgate/config). A door
that cannot be used stands there as a comment with the reason; ``load`` refuses such a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from knockgate.config.doors import Commands, Door, Flags
from knockgate.config.knockd import grammar
from knockgate.config.knockd.doors import door_of
from knockgate.config.knockd.grammar import KnockdFile, Section
from knockgate.config.knockd.kernel import Advice, advise
from knockgate.config.knockd.load import configuration_of, gate_of, names_of
from knockgate.config.knockd.reading import Reading
from knockgate.config.notes import Note
from knockgate.config.toml import spell
from knockgate.config.writing import comment, listed, quoted, table
from knockgate.errors import ConfigError
from knockgate.model import Port, TcpFlag, address_text

__all__ = ["translate"]

_COMMANDS = {
    "open": "Start_Command",
    "open6": "Start_Command_6",
    "close": "Stop_Command",
    "close6": "Stop_Command_6",
}
_HEAD = (
    "knockd: a mistake in the file at a reload (SIGHUP) ends it, and all doors with it.",
    "knockd: hears only the addresses that its interface had when it was started.",
    "knockd: when somebody's attempt runs out, those that others are just making may be forgotten too.",
    "knockd: a packet that ruins a knock is not taken for the first step of the next one.",
)


def translate(path: Path | str, interface: str = "") -> str:
    """The text for gate.toml. Raises ConfigError where no door of the file can be used."""
    return _translated(grammar.read(path), interface)


def _translated(parsed: KnockdFile, interface: str) -> str:
    read: list[tuple[Section, Door | ConfigError, list[Note]]] = []
    for name, section in zip(names_of(parsed), parsed.doors, strict=True):
        reading = Reading(parsed.file, section)
        try:
            read.append((section, door_of(reading, name), reading.notes))
        except ConfigError as error:
            read.append((section, error, []))
    doors = [door for _, door, _ in read if isinstance(door, Door)]
    if not doors:
        configuration_of(parsed, interface)  # raises what is wrong with the first
    lines = _gate(parsed, interface)
    advice = advise(doors)
    for section, door, notes in read:
        lines.append("")
        if isinstance(door, ConfigError):
            lines += comment(f"REFUSED: {door}" + (f" ({door.hint})" if door.hint else ""))
            lines += [line for raw in parsed.raw(section) if raw for line in comment(raw)]
        else:
            lines += _door(section, door, notes)
            lines += _advice(advice.get(door.name))
    return "\n".join(lines) + "\n"


def _gate(parsed: KnockdFile, interface: str) -> list[str]:
    reading = Reading(parsed.file, parsed.options)
    gate = gate_of(reading, interface)
    lines = comment(f"The same as {parsed.file}, by `knockgate import knockd`.")
    for remark in _HEAD:
        lines += comment(remark)
    lines += ["", "[gate]"]
    for note in reading.notes:
        lines += comment(_words(note.key.removeprefix("options").lstrip("."), note).lstrip())
    return [*lines, f"interface = {quoted(gate.interface)}"]


def _door(section: Section, door: Door, notes: list[Note]) -> Iterator[str]:
    sequence, commands = door.sequence, door.commands
    assert sequence is not None and commands is not None  # noqa: S101, PT018 - knockd's doors have both

    def above(key: str, *remarks: str) -> Iterator[str]:
        """What is to be said about a key of knockd's; of an empty one, about the door."""
        where = f"{section.name}.{key}" if key else section.name
        said = (_words(key or section.name, note) for note in notes if note.key == where)
        for words in (*said, *remarks):
            yield from comment(words)

    yield from above("", f"[{section.name}] of line {section.line}")
    yield table("doors", door.name)
    yield from above("Cmd_Timeout")
    yield f"lease = {quoted(spell(door.lease))}"
    yield ""
    yield table("doors", door.name, "sequence")
    yield 'runs_in = "daemon"'
    fewer = spell(sequence.within - 1)
    yield from above(
        "Seq_Timeout", f"knockd: counts whole seconds; a knock of more than {fewer} may be too late."
    )
    yield f"within = {quoted(spell(sequence.within))}"
    if sequence.one_time:
        yield from above("Sequence")
        yield from above("One_Time_Sequences", *_ABOUT_ONE_TIME)
        yield f"one_time = {quoted(sequence.one_time)}"
    else:
        yield from above("Sequence", *_about_steps(sequence.steps))
        yield f"steps = {listed(sequence.steps)}"
    if sequence.flags:
        yield from above("TCPFlags")
        yield f"flags = {listed(_flag_words(sequence.flags))}"
    if sequence.target:
        yield from above("Target", *_about_target(section, address_text(sequence.target)))
        yield f"target = {quoted(address_text(sequence.target))}"
    yield ""
    yield table("doors", door.name, "commands")
    yield "shell = true"
    yield f"time_limit = {quoted(spell(commands.time_limit))}"
    for name, key in _COMMANDS.items():
        yield from above(key, *_about_command(name, commands))
        command: tuple[str, ...] | None = getattr(commands, name)
        if command:
            yield f"{name} = {quoted(command[0])}"
        elif command is not None and name.endswith("6"):
            yield f"{name} = []"


def _advice(advice: Advice | None) -> Iterator[str]:
    if advice:
        yield ""
        yield from comment(f"Kernel: {advice.words}")
        yield from ("# " + line if line else "#" for line in advice.lines)


def _words(what: str, note: Note) -> str:
    return f"{what} {note.message}" + (f" ({note.hint})" if note.hint else "")


def _flag_words(flags: Flags) -> list[str]:
    named = TcpFlag.__members__.items()
    wanted = [name.lower() for name, flag in named if flag in flags.wanted]
    return wanted + [f"!{name.lower()}" for name, flag in named if flag in flags.unwanted]


# --- what knockd gets wrong ---------------------------------------------------------------------------

_ABOUT_ONE_TIME = (
    "knockd: aborts with the last line that is used, and all its doors are gone.",
    "knockd: after the first use it no longer hears this door over IPv6.",
)


def _about_steps(steps: tuple[Port, ...]) -> Iterator[str]:
    yield "knockd: a step that comes twice ruins the knock, as when TCP sends its SYN again."
    if len(steps) == 1:
        yield "A single knock: every scan that comes by opens this door, here too."
        return
    if any(first == second for first, second in pairwise(steps)):
        yield "One port twice in a row: a SYN that TCP sends again is taken for the second, here too."
    for direction, word in ((1, "upwards"), (-1, "downwards")):
        ways = [direction * (second.number - first.number) for first, second in pairwise(steps)]
        if len({step.protocol for step in steps}) > 1 or min(ways) < 1:
            continue
        if max(ways) == 1:
            yield f"A scan {word} opens this door, here too: leave room between the ports."
        else:
            yield f"knockd: a scan {word} opens this door, since ports of no door do not count. Here they do."


def _about_target(section: Section, canonical: str) -> Iterator[str]:
    value = section.last("Target")
    if value and value.text != canonical:
        yield f"knockd: compares the address as a text, {canonical}, and never hears this one."


def _about_command(name: str, commands: Commands) -> Iterator[str]:
    command = getattr(commands, name)
    if not command:
        return
    if name.startswith("close"):
        yield "knockd: this is never run if knockd is stopped or dies before that, and the door stays open."
        yield "Here it is remembered on disk, and run at the next start."
    fallback = {"open": commands.open6, "close": commands.close6}.get(name, ())
    if fallback is None and re.match(r"(\S*/)?iptables\b", command[0]) and "%IP%" in command[0]:
        yield f"It is run for an IPv6 source too, where iptables fails; {name}6 can name another command."
