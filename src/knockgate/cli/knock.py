"""``knockgate knock``: the client's one verb, and what it tells."""

from __future__ import annotations

import contextlib
import difflib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import click

from knockgate.cli.page import Page
from knockgate.cli.terminal import advise, say, tell
from knockgate.cli.words import Word, seconds
from knockgate.client import profiles, send, spellings
from knockgate.client.profiles import SequenceProfile
from knockgate.client.wait import Answer, State, probe, wait_open
from knockgate.config.toml import spell
from knockgate.errors import ConfigError, KnockgateError
from knockgate.model import Port

__all__ = ["knock"]


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    with contextlib.suppress(KnockgateError):
        return [name for name in profiles.load(profiles.default_path()) if name.startswith(incomplete)]
    return []


@click.command(cls=Page)
@click.argument("host", metavar="(PROFILE | HOST STEP...)", required=False, shell_complete=_complete)
@click.argument("steps", metavar="", nargs=-1, type=Word("STEP", spellings.step))
@click.option(
    "--wait", metavar="PORT", type=Word("PORT", spellings.door), help="Then wait until this TCP port answers."
)
@click.option(
    "--timeout", type=seconds(spellings.wait_time), help="How long --wait waits at most (default: 5s)."
)
@click.option(
    "--delay", type=seconds(spellings.delay_time), help="From one step to the next (default: 50ms)."
)
@click.option("-4", "ipv4", is_flag=True, help="Use IPv4 only.")
@click.option("-6", "ipv6", is_flag=True, help="Use IPv6 only.")
@click.option("--source", metavar="ADDRESS", help="Knock from this address of the machine.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--list", "listing", is_flag=True, help="List the profiles.")
def knock(
    host: str | None,
    *,
    listing: bool,
    dry_run: bool,
    as_json: bool,
    ipv4: bool,
    ipv6: bool,
    **given: Any,  # noqa: ANN401 - the fields of a Profile
) -> int:
    """Knock at a host and, if asked, wait until its door answers.

    Sends one packet for each STEP, all of them to one address: HOST is resolved once. A TCP step is a
    single SYN of a connection that is dropped at once, a UDP step is a datagram with one zero byte.
    Needs no rights, and changes nothing on this machine.

    STEP is 7000, tcp/7000, 7000/tcp or, as knockd writes it, 7000:tcp; the same with udp. Without the
    protocol it is TCP. HOST is a name or an address: 192.0.2.7, ::1, [::1] or fe80::1%eth0.

    With --wait the door is tried with short probes, the first as soon as nothing can overtake the last
    knock. The time it reports counts from the moment the last knock left. It also tries the door once
    before the knock, for at most 0.3 s, so that an open door is not taken for the knock's work.

    A PROFILE is a name in ~/.config/knockgate/profiles.toml; options given here come before its own:

        [profiles.home]
        host = "home.example"
        steps = ["7000", "udp/8000", "9000"]     # and, if you like,
        wait = "tcp/22"                          # timeout = "5s"     delay = "50ms"
                                                 # family = 4         source = "192.0.2.8"

    Exit status: 0 the knock was sent and, with --wait, the door is open; 1 it did not open in time;
    2 the knock could not be sent. A knock is not answered, so without --wait 0 says no more than that.

    For example:

        knockgate knock home.example 7000 udp/8000 9000
        knockgate knock home.example 7000 udp/8000 9000 --wait tcp/22 && ssh home.example
        knockgate knock home
    """
    if listing:
        return _list(as_json=as_json)
    if ipv4 and ipv6:
        raise click.UsageError("-4 and -6 leave no address", click.get_current_context())
    if ipv4 or ipv6:
        given["family"] = send.Family.AF_INET if ipv4 else send.Family.AF_INET6
    plan = _plan(host, {name: value for name, value in given.items() if value not in (None, ())})
    address = send.resolve(plan.host, plan.family)
    report = _Report(plan, address, send.local_address(address, plan.source))
    if not dry_run:
        _carry_out(report)
    (tell if report.sent else click.echo)(json.dumps(report.facts()) if as_json else report.text())
    if report.answer is None or report.answer.state == "open":
        return 0
    advise(_ADVICE[report.answer.state])
    return 1


_ADVICE = {
    "closed": "the host refuses: nothing listens there, or its firewall rejects instead of dropping",
    "filtered": "wrong steps, a lost or reordered packet (try a longer --delay), or a wrong host",
}


def _plan(host: str | None, given: dict[str, Any]) -> SequenceProfile:
    """What the words of the command line and the profile come to."""
    if host is None:
        raise click.UsageError("there is no HOST and no PROFILE", click.get_current_context())
    plan = SequenceProfile(host=host, **given) if "steps" in given else replace(_profile(host), **given)
    if plan.source and plan.family == send.Family.AF_UNSPEC:
        # A name with both kinds of address: take the kind that can be reached from there.
        plan = replace(plan, family=send.Family.AF_INET6 if ":" in plan.source else send.Family.AF_INET)
    return plan


def _profile(name: str) -> SequenceProfile:
    path = profiles.default_path()
    known = profiles.load(path)
    found = known.get(name)
    if isinstance(found, SequenceProfile):
        return found
    if not known:
        hint = f"give the steps: knockgate knock {name} 7000 8000 9000"
        raise ConfigError(f"no steps, and no profile {name!r}, nor any other", file=str(path), hint=hint)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
    raise ConfigError(f"no steps, and no profile {name!r}", file=str(path), hint=hint)


def _list(*, as_json: bool) -> int:
    path = profiles.default_path()
    known = profiles.load(path)
    if as_json:
        click.echo(json.dumps({name: {"host": each.host} for name, each in known.items()}))
        return 0
    for name, each in known.items():
        # Not the steps: whoever looks over the shoulder would have them.
        steps = "a packet"
        if isinstance(each, SequenceProfile):
            steps = "1 step" if len(each.steps) == 1 else f"{len(each.steps)} steps"
        click.echo(f"{name}: {each.host}, {steps}" + (f", {each.wait}" if each.wait else ""))
    if not known:
        say(f"there is no profile in {path}")
    return 0


# --- doing and telling --------------------------------------------------------------------------------


@dataclass
class _Report:
    """What was asked for, and what became of it."""

    plan: SequenceProfile
    address: str
    source: str | None  #: None where there is no route
    sent: bool = False
    before: State | None = None  #: of the door that is waited for
    answer: Answer | None = None

    def facts(self) -> dict[str, object]:
        """The whole of it, for programs."""
        wait = None
        if self.plan.wait and self.answer:
            is_open = self.answer.state == "open"
            wait = {
                "port": str(self.plan.wait),
                "before": self.before,
                "state": self.answer.state,
                "open": is_open,
                "seconds": round(self.answer.after, 6) if is_open else None,
            }
        return {
            "host": self.plan.host,
            "address": self.address,
            "source": self.source,
            "steps": [str(step) for step in self.plan.steps],
            "sent": self.sent,
            "wait": wait,
        }

    def text(self) -> str:
        """The same for people."""
        literal = self.plan.host.strip("[]") == self.address
        where = self.address if literal else f"{self.plan.host} ({self.address})"
        steps = " ".join(map(str, self.plan.steps))
        if not self.sent:
            origin = f"from {self.source}" if self.source else "but there is no route"
            return f"would knock at {where}, {origin}: {steps}, {spell(self.plan.delay)} apart"
        line = f"knocked at {where} from {self.source}: {steps}"
        if self.plan.wait and self.answer:
            line += f"\n{self.plan.wait} is {self._finding(self.answer)}"
        return line

    def _finding(self, answer: Answer) -> str:
        if answer.state != "open":
            return f"still {answer.state}, {answer.after:.1f} s after the last knock"
        if self.before == "open":
            return "open, as it was already before the knock"
        return f"open, {answer.after * 1000:.1f} ms after the last knock"


def _carry_out(report: _Report) -> None:
    """Knock and wait."""
    plan, address = report.plan, report.address
    if plan.wait:
        report.before = probe(address, plan.wait, source=plan.source)
    left_at = send.knock(address, plan.steps, delay=plan.delay, source=plan.source)
    report.sent = True
    if plan.wait:
        with _progress(plan.wait) as show:
            report.answer = wait_open(
                address, plan.wait, since=left_at, timeout=plan.timeout, source=plan.source, on_wait=show
            )


@contextlib.contextmanager
def _progress(port: Port) -> Iterator[Callable[[float], None] | None]:
    """A line about the waiting that is rewritten in place, for as long as somebody looks at a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    shown_at = 0.0

    def show(waited: float) -> None:
        nonlocal shown_at
        if waited - shown_at >= 0.1:
            shown_at = waited
            print(f"\rwaiting for {port} ... {waited:.1f} s", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if shown_at:
            print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)
