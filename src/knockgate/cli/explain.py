"""``knockgate explain``: what became of sealed knocks, since nobody answers them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from knockgate.cli.gatefiles import GateFiles, config_option
from knockgate.cli.page import Page
from knockgate.cli.phrases import clock_in_words, time_in_words
from knockgate.cli.terminal import plain
from knockgate.config.doors import Configuration
from knockgate.errors import KnockgateError, Unavailable

__all__ = ["explain"]

_SUITES = {"xwing": "x-wing"}
#: Flaws of key files that are told; `knockgate check` tells all.
_FLAWS = 5
_Told = dict[str, Any]


def _complete_device(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    with contextlib.suppress(KnockgateError):
        told = _asked_of_gate(GateFiles.of(ctx.params.get("config")).found)
        rows = dict.fromkeys(each["device"] for each in told["knocks"])
        return [row for row in rows if row.startswith(incomplete.lower())]
    return []


@click.command(cls=Page)
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(min=0),
    default=10,
    help="So many knocks at most (default: 10); the gate remembers 200.",
)
@click.option(
    "--key", metavar="TEXT", default="", help="Only those with this in the key's name or fingerprint."
)
@click.option(
    "--device",
    metavar="DEVICE",
    default="",
    shell_complete=_complete_device,
    help="Only those of the device that begins so.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with the newest knock first.")
@config_option
def explain(*, last: int, key: str, device: str, as_json: bool, config: str | None) -> int:
    """Tell what became of each sealed knock, and why.

    A gate never answers, so whoever knocks in vain has to be told by its admin. This is what the admin types.
    It asks the gate that runs on this host, changes nothing, and needs root. A gate begins anew to count
    when it is started, and when it reads its configuration again.

    First the knocks that somebody who has a key here has signed, the newest one last: what opened, for whom
    and how long, or at which step of docs/spec/spa-v1.md it was refused, why, and what to do. The address is
    `stated` if the knock names it, else that of its sender. The clock is that of the device; where ours is
    not known to be right, nothing is said of it.

    Then, by reason, what strangers send: how many, and what the last one says of itself, which nobody has
    signed. `not-ours` is whatever comes to the port and was not made with a card of this gate; `duplicate`
    from another sender may have been relayed. Then the gate's own clock, and files of keys in which
    something is wrong.

    With --key or --device, of both only what is about that key or device.

    Exit status: 0; 2 no gate answers here, or it hears no sealed knocks.

    For example:

        sudo knockgate explain --last 5
        sudo knockgate explain --key jo
        sudo knockgate explain --key SHA256:WYVlk+8XVFuk
        sudo knockgate explain --json | jq '.knocks[] | select(.result == "refused") | .why'
    """
    found = GateFiles.of(config).found
    told = _asked_of_gate(found)
    told["knocks"] = [each for each in told["knocks"] if _is_about(each, key, device)][:last]
    if key or device:
        told["strangers"] = [each for each in told["strangers"] if _is_about(each["claims"], key, device)]
    if as_json:
        click.echo(json.dumps(told))
        return 0
    interface = found.gate.interface
    for line in _lines(told, interface=interface, narrowed=bool(key or device)):
        click.echo(plain(line))
    return 0


def _asked_of_gate(found: Configuration) -> _Told:
    """Raises Unavailable."""
    from knockgate.daemon import control  # noqa: PLC0415 - see cli

    told = control.explain(found.gate.run_directory)
    if "knocks" not in told:
        hint = "`ssh` in a [keys.NAME] makes it hear them; `knockgate up` puts a changed file in force"
        raise Unavailable("the gate that runs hears no sealed knocks", hint=hint)
    return told


def _is_about(facts: _Told | None, key: str, device: str) -> bool:
    if not (key or device):
        return True
    if facts is None:
        return False
    names = f"{facts['key'] or ''}\n{facts['fingerprint'] or ''}"
    return key.lower() in names.lower() and (facts["device"] or "").startswith(device.lower())


def _lines(told: _Told, *, interface: str, narrowed: bool) -> Iterator[str]:
    since = f"since the gate began ({_ago(told['since'])})"
    now = time.clock_gettime(time.CLOCK_REALTIME)
    for each in reversed(told["knocks"]):
        yield from _knock(each, now - each["seconds_ago"])
        yield ""
    if not told["knocks"]:
        which = "knock of that kind" if narrowed else "knock of anybody who has a key here"
        yield f"no {which} was heard {since}"
        yield ""
    if told["strangers"]:
        yield f"from strangers, {since}:"
        for each in sorted(told["strangers"], key=lambda one: -one["seconds_ago"]):
            yield from _stranger(each)
        yield ""
    if not told["knocks"] and not narrowed:
        yield from _how_to_get_here(told, interface)
        yield ""
    yield clock_in_words(told["clock"])
    yield from _flawed(told["files"])


# --- one knock ----------------------------------------------------------------------------------------


def _knock(each: _Told, at: float) -> Iterator[str]:
    yield f"{_utc(at)}, {_ago(each['seconds_ago'])}: {_result(each)}"
    if each["result"] == "refused":
        yield f"  why:     {each['reason']}: {each['why']}"
        if each["hint"]:
            yield f"  hint:    {each['hint']}"
    elif each["result"] == "not opened":
        yield "  why:     the firewall has refused; the log says why"
    yield f"  asked:   {_asked(each)}"
    yield f"  key:     {_name(each)} {each['fingerprint']}"
    yield f"  device:  {each['device']} ({each['standing'] or 'neither known nor barred'})"
    yield f"  packet:  from {each['sender']}, {_made(each)}"
    yield f"  clock:   {_dated(each)}"


def _result(each: _Told) -> str:
    if each["result"] == "opened":
        doors = ", ".join(f"{door} for {time_in_words(seconds)}" for door, seconds in each["leases"].items())
        return f"opened {doors}"
    return f"REFUSED at step {each['step']}" if each["result"] == "refused" else "NOT OPENED"


def _asked(each: _Told) -> str:
    address = each["source"] or "nobody"
    whom = f"{address}, {'stated' if each['stated'] else 'who sent it'}"
    lease = f", for {time_in_words(each['lease'])}" if each["lease"] else ""
    return f"{', '.join(each['doors'])} for {whom}{lease}"


def _name(each: _Told) -> str:
    """Without the beginning of the fingerprint, which follows in full."""
    return str(each["key"]).rpartition(" ")[0]


def _made(each: _Told) -> str:
    return f"card {each['card']}, {_SUITES.get(each['suite'], each['suite'])}"


def _dated(each: _Told) -> str:
    said = f"{_utc(each['issued'])} by its own"
    if each["era"]:
        said += (
            f", which was set back {each['era']} times" if each["era"] > 1 else ", which was set back once"
        )
    skew = each["skew"]
    if skew is None:
        return f"{said}; ours was not known to be right"
    if abs(skew) < 1:
        return f"{said}, the same as ours"
    return f"{said}, {_span(abs(skew))} {'behind' if skew > 0 else 'ahead of'} ours"


# --- strangers ----------------------------------------------------------------------------------------


def _stranger(each: _Told) -> Iterator[str]:
    claims = each["claims"]
    relayed = f" ({each['relayed']} from another sender: perhaps relayed)" if each["relayed"] else ""
    last = f"the last one {_ago(each['seconds_ago'])}" + (f" from {each['sender']}" if each["sender"] else "")
    yield f"  {each['count']} {each['reason']}: {each['why']}{relayed}; {last}"
    if claims:
        yield f"    made with {_made(claims)}"
    if claims and claims["fingerprint"]:
        yield (
            f"    says of itself, unsigned: key {claims['fingerprint']}, device {claims['device']}, "
            f"for {', '.join(claims['doors'])}"
        )
    if each["hint"]:
        yield f"    hint: {each['hint']}"


def _how_to_get_here(told: _Told, interface: str) -> Iterator[str]:
    port, where = told["port"], f" on {interface}" if interface else ""
    listen = f"tcpdump -ni {interface or 'any'} udp port {port.partition('/')[2]}"
    files = ", ".join(dict.fromkeys(each["file"] for each in told["files"] if each["keys"]))
    yield "for a knock to get here:"
    yield f"  it goes to {port} of this host{where}: one datagram of 1,333 bytes, or of 245 with --small"
    yield f"  what is in front of this host lets it pass: `{listen}` shows what does"
    yield "  it was made with a card that is still good (`knockgate card list`); else it is not-ours"
    yield f"  its key stands in a file of keys{f': {files}' if files else ', and there is none in any'}"
    yield "nothing is bound to that port, and nothing answers: to its sender all of this looks the same"


def _flawed(files: Sequence[_Told]) -> Iterator[str]:
    """What is wrong with the files of keys, each thing once."""
    flaws: dict[tuple[str, int | None], _Told] = {}
    for each in files:
        flaws |= {(each["file"], flaw["line"]): flaw for flaw in each["flaws"]}
    for (file, line), flaw in list(flaws.items())[:_FLAWS]:
        place = file if line is None else f"{file}:{line}"
        yield f"NOT TAKEN: {place}: {flaw['message']}" + (f"; {flaw['hint']}" if flaw["hint"] else "")
    left_out = sum({each["file"]: each["flaws_left_out"] for each in files}.values())
    if (more := max(0, len(flaws) - _FLAWS) + left_out) > 0:
        yield f"NOT TAKEN: {more} more lines; `knockgate check` tells which"


# --- times --------------------------------------------------------------------------------------------


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _ago(seconds: float) -> str:
    return f"{time_in_words(seconds)} ago" if seconds >= 1 else "just now"


def _span(seconds: float) -> str:
    return time_in_words(seconds) if seconds >= 10 else f"{seconds:.1f}s"
