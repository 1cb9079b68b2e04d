"""``knockgate simulate``: what the gate would have done with a capture, packet by packet."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from knockgate.cli.page import Page
from knockgate.cli.terminal import advise, say
from knockgate.cli.words import FILE, address, configuration
from knockgate.config.doors import DEFAULT_PATH, Configuration
from knockgate.daemon.origin import Origin
from knockgate.errors import ConfigError

if TYPE_CHECKING:  # see cli
    from knockgate.config.arming import Line
    from knockgate.simulate.simulation import Step, Summary

__all__ = ["simulate"]


@click.command(cls=Page)
@click.argument("words", metavar="[CONFIG] PCAP", nargs=-1, required=True, type=FILE)
@configuration(file=False)
@click.option(
    "--host", "hosts", metavar="ADDRESS", multiple=True, type=address, help="An address of the host."
)
@click.option(
    "--only",
    type=click.Choice(["gate", "opened"]),
    help="Print only packets at doors and knock ports, and resets; or only those that opened a door.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a packet, then one with the sums.")
def simulate(
    origin: Origin, *, words: tuple[str, ...], hosts: tuple[bytes, ...], only: str | None, as_json: bool
) -> int:
    """Say what the gate would have done with a capture, packet by packet, and why.

    Changes nothing, and needs no rights but for the packets of keys. PCAP is a file of tcpdump or Wireshark
    (pcap, pcapng), or `-` for standard input. Every packet gets a line: its number in the file, seconds
    since the first, source, destination port, what becomes of it, and why. Time is the capture's.

    A capture often has both directions in it. What the capture itself notes comes first (`tcpdump -i any`
    does). Else name the host's addresses with --host, each with its own option: what they send is not
    judged, and what goes elsewhere is only routed. Without --host every destination counts as the host;
    a packet that answers an earlier one is known as an answer.

    Not exactly as the kernel: a TCP session whose beginning is not in the capture counts as let in;
    fragments are not put together; a file of one-time sequences counts as it is now, and is not changed;
    packets of keys are read with the secrets that there are now, and none has been taken before. Sealed
    packets are judged by the gate's keys and cards, the files of ssh keys and what was said of devices, as
    all that is now, and by a clock that is right: the capture's. The gate's keys are for root alone: without
    that right, or where there are none, it says so, and does the rest. A door in shadow lets everybody in
    here too, and the line says who would be kept out. Nothing is known of a `knockgate pause`.

    Exit status: 0 a door opened; 1 none did; 2 it could not be done, or the capture is damaged: what
    comes before the damage is printed.

    For example:

        tcpdump -i any -w knock.pcap
        knockgate simulate gate.toml knock.pcap --only gate
        knockgate simulate --knockd /etc/knockd.conf knock.pcap
        tcpdump -i any -U -w - | knockgate simulate -
    """
    from knockgate.capture.pcapfile import read  # noqa: PLC0415 - see cli
    from knockgate.cli.sealed_now import sealed_now  # noqa: PLC0415 - see cli
    from knockgate.daemon.bearers import bearers_of  # noqa: PLC0415 - see cli
    from knockgate.simulate.simulation import Simulation  # noqa: PLC0415 - see cli

    origin, pcap = _files(origin, words)
    found = origin.load()
    bearers = bearers_of(origin, found) if found.fwknop else []
    simulation = Simulation(
        found,
        hosts=hosts,
        one_time=_one_time(found),
        bearers=bearers,
        sealed=sealed_now(origin, found),
    )
    tell = _in_json if as_json else _Table().line
    shown = _FILTERS[only]
    try:
        with _opened(pcap) as stream:
            for captured in read(stream, "standard input" if pcap == "-" else pcap):
                step = simulation.feed(captured)
                if shown(step):
                    click.echo(tell(step))
    except (ConfigError, KeyboardInterrupt):
        if simulation.summary.packets:
            _sum_up(simulation.summary, hosts_known=bool(hosts), as_json=as_json)
        raise
    _sum_up(simulation.summary, hosts_known=bool(hosts), as_json=as_json)
    return 0 if simulation.summary.opened else 1


def _files(origin: Origin, words: tuple[str, ...]) -> tuple[Origin, str]:
    """``[CONFIG] PCAP`` beside what the options say."""
    context = click.get_current_context()
    *config, pcap = words
    if Path(pcap).suffix in (".toml", ".conf"):
        how = f"--knockd {pcap}" if pcap.endswith(".conf") else pcap
        raise ConfigError(
            "is a configuration, not a capture", file=pcap, hint=f"knockgate simulate {how} knock.pcap"
        )
    if len(config) > 1:
        raise click.UsageError(f"there is one PCAP too many: {words[2]}", context)
    if not config:
        return origin, pcap
    if origin != Origin(str(DEFAULT_PATH)):
        raise click.UsageError(f"there are two configurations: {config[0]} and {origin.path}", context)
    return Origin(config[0]), pcap


@contextlib.contextmanager
def _opened(pcap: str) -> Iterator[BinaryIO]:
    if pcap == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise ConfigError(
                "there is nothing on standard input", hint="tcpdump -U -w - | knockgate simulate -"
            )
        yield sys.stdin.buffer
        return
    try:
        stream = Path(pcap).open("rb")  # noqa: SIM115 - closed below; only its opening is guarded
    except OSError as error:
        closed = isinstance(error, PermissionError)
        hint = "run it as root, or pipe it in" if closed else "name a capture file, or -"
        raise ConfigError(f"cannot be read: {error.strerror}", file=pcap, hint=hint) from None
    with stream:
        yield stream


def _one_time(found: Configuration) -> dict[str, list[Line]]:
    """The unused lines of each file of one-time sequences, without locking or changing it."""
    from knockgate.store.onetime import parse  # noqa: PLC0415 - see cli

    lines = {}
    for door in found.daemon_doors():
        if door.sequence and (path := door.sequence.one_time):
            try:
                content = Path(path).read_bytes()
            except OSError as error:
                hint = f"door {door.name} has its one-time sequences there"
                hint += ", for root alone" if isinstance(error, PermissionError) else ""
                raise ConfigError(f"cannot be read: {error.strerror}", file=path, hint=hint) from None
            lines[door.name] = [(line.number, line.steps) for line in parse(content, path).unused.values()]
    return lines


# --- what is printed ----------------------------------------------------------------------------------


def _concerns_the_gate(step: Step) -> bool:
    return step.place.value != "none" or step.reset or bool(step.opened)


_FILTERS: dict[str | None, Callable[[Step], bool]] = {
    None: lambda _: True,
    "gate": _concerns_the_gate,
    "opened": lambda step: bool(step.opened),
}


class _Table:
    """Lines in columns, which grow where an address or flags are longer than most."""

    def __init__(self) -> None:
        self._source, self._what = 15, 13  # any IPv4 address, `tcp/65535 SYN`

    def line(self, step: Step) -> str:
        self._source = max(self._source, len(step.source))
        self._what = max(self._what, len(step.what))
        verdict = step.verdict.value if step.verdict else "-"
        effects = f" -> {', '.join(step.effects)}" if step.effects else ""
        return (
            f"{step.number:>5} {step.time:>11.6f}  {step.source:<{self._source}}  "
            f"{step.what:<{self._what}}  {verdict:<7}  {step.why}{effects}"
        )


def _in_json(step: Step) -> str:
    return json.dumps(
        {
            "number": step.number,
            "time": step.time,
            "source": step.source or None,
            "destination": step.destination or None,
            "packet": step.what or None,
            "verdict": step.verdict.value if step.verdict else None,
            "why": step.why,
            "at": step.place.value,
            "opened": step.opened,
            "effects": step.effects,
            "reset": step.reset,
            "would_drop": step.would_drop,
        }
    )


def _sum_up(summary: Summary, *, hosts_known: bool, as_json: bool) -> None:
    if as_json:
        facts: dict[str, Any] = {
            "packets": summary.packets,
            "seconds": summary.seconds,
            "opened": summary.opened,
            "reset": summary.reset,
            "dropped_at_doors": summary.dropped_at_doors,
            "would_drop": summary.would_drop,
            "backwards": summary.backwards,
        }
        click.echo(json.dumps({"summary": facts}))
    else:
        openings = ", ".join(f"{door} opened {_times(count)}" for door, count in summary.opened.items())
        click.echo(
            f"{_many(summary.packets, 'packet')} in {summary.seconds:.1f} s: {openings or 'no door opened'}, "
            f"{_many(summary.reset, 'reset')}, {summary.dropped_at_doors} dropped at doors"
            + (f"; {summary.would_drop} would be, but for a shadow" if summary.would_drop else "")
        )
    if summary.backwards:
        stamped = _many(summary.backwards, "packet")
        say(f"time runs backwards in the capture: {stamped} counted as of the latest time before")
    taken = summary.destinations
    if not hosts_known and len(taken) > len({":" in address for address in taken}):
        say(f"all these counted as the host: {', '.join(taken)}")
        advise("name its addresses with --host ADDRESS")


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
