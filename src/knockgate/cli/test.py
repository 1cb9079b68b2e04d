"""``knockgate test``: from the client's side, whether a gate does what it is there for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from knockgate.cli.connect import named
from knockgate.cli.knock import attempt_of, complete_profile
from knockgate.cli.knocking.attempt import Attempt, progress
from knockgate.cli.knocking.plan import planned
from knockgate.cli.page import Page
from knockgate.cli.terminal import advise, complain, say, tell
from knockgate.cli.words import Word, seconds
from knockgate.client import send, spellings
from knockgate.client.profiles import PacketProfile, Profile, SealedProfile
from knockgate.client.wait import State, probe
from knockgate.config.toml import duration, spell
from knockgate.errors import ConfigError, KnockgateError

__all__ = ["test"]

_PATIENCE = 0.9
"""Seconds that a probe's answer may take; from 1 s on the system would send it again."""
_SILENT = 2
"""So many probes without an answer, one after the other, are a port that is hidden; one may be lost."""
_GAP, _LAST_GAP, _GAP_SHARE = 1.0, 10.0, 0.05
"""From one look at an open port to the next: a share of the time waited, which is how exactly the lease's end
is told. Each look is a connection in the service's log; sshd holds more than one a second against us."""
_UNKNOWN_LEASE = 600.0
"""Seconds to wait for the end of a lease of which the profile says nothing."""
_SLACK = 5.0
"""Seconds after its end until a lease is one that does not end: the gate began to count after us."""


@click.command(cls=Page)
@click.argument("profile", metavar="PROFILE", shell_complete=complete_profile)
@click.option(
    "--wait",
    metavar="PORT",
    type=Word("PORT", spellings.door),
    help="The TCP port to look at, if not its own.",
)
@click.option(
    "--within",
    type=seconds(duration(1, 30 * 86400)),
    help="The port is to be hidden after this time (default: the profile's lease, or 10m).",
)
@click.option("--wait-hidden", is_flag=True, help="Where it is open already, wait for that, too, to end.")
@click.option("--no-close-wait", is_flag=True, help="Do not wait until the lease has ended.")
@click.option(
    "--timeout", type=seconds(spellings.wait_time), help="How long a knock may take to open it (default: 5s)."
)
@click.option("-4", "ipv4", is_flag=True, help="Use IPv4 only.")
@click.option("-6", "ipv6", is_flag=True, help="Use IPv6 only.")
@click.option("--source", metavar="ADDRESS", help="Knock from this address of the machine.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def test(
    profile: str,
    *,
    within: float | None,
    wait_hidden: bool,
    no_close_wait: bool,
    ipv4: bool,
    ipv6: bool,
    as_json: bool,
    **given: Any,  # noqa: ANN401 - the fields of a Profile
) -> int:
    """Try from here whether a gate works: hidden, open after a knock, hidden again.

    Looks at the TCP port that the profile's `wait` or --wait names. It is hidden if two probes in a row get
    no answer within 0.9 s each; an answer that refuses is a finding, as is an open port. Then it knocks as
    `knockgate knock` does, and waits until the port opens. Then it waits until the port is hidden again,
    when the lease has ended: it looks every second at first, and at last every ten seconds.

    A port that is open before the knock is not knocked for: it would prove nothing. Either nothing guards it,
    or a lease has not ended yet: yours, after a knock a moment ago, or somebody's who has the same address
    behind NAT. From here they look the same. --wait-hidden waits for the end of that lease first.

    How long a lease lasts the gate decides; a profile can ask for less (`lease`). Without that and without
    --within the port is to be hidden after 10 minutes. --no-close-wait leaves that part away.

    Each look at an open port is a connection that ends at once, in the log of the service. Changes nothing on
    this machine but what a sealed knock keeps; at the gate, it opens the door for one lease.

    The first line is for a monitoring system: OK, FAILED or UNKNOWN, what was found, and after a | the
    seconds until the port opened and until it was hidden again. What may be the reason is on standard
    error. Nagios and those like it take status 1 for a warning and 2 for critical.

    Exit status: 0 all is as it should be; 1 something is not; 2 it could not be tried.

    For example:

        knockgate test home
        knockgate test home --no-close-wait --json
        */15 * * * *  knockgate test home --wait-hidden || mail -s "the gate at home" jo </dev/null
    """
    if ipv4 and ipv6:
        raise click.UsageError("-4 and -6 leave no address", click.get_current_context())
    if ipv4 or ipv6:
        given["family"] = send.Family.AF_INET if ipv4 else send.Family.AF_INET6
    trial = None
    try:
        plan = _plan(profile, given)
        trial = _Trial(plan, _limit(plan, within))
        trial.carry_out(wait_hidden=wait_hidden, close_wait=not no_close_wait)
    except KnockgateError as error:
        facts = {
            "profile": profile,
            "result": "unknown",
            **(trial.facts() if trial else {}),
            "error": str(error),
        }
        tell(json.dumps(facts) if as_json else f"UNKNOWN - {profile}: {error}")
        return complain(error)
    result = "ok" if trial.is_good else "failed"
    facts = {"profile": profile, "result": result, **trial.facts(), "error": None}
    tell(json.dumps(facts) if as_json else f"{result.upper()} - {profile}: {trial.words()}")
    trial.explain()
    return 0 if trial.is_good else 1


def _plan(name: str, given: dict[str, Any]) -> Profile:
    plan = planned(named(name, "PROFILE"), packet=False, given=given)
    if plan.wait is None:
        hint = "--wait PORT, or wait in the profile: a TCP port that the knock opens"
        raise ConfigError(f"the profile {name} says no port to look at", key="--wait", hint=hint)
    return plan


def _limit(plan: Profile, within: float | None) -> float:
    """Seconds after which a lease has ended."""
    if within is not None:
        return within
    asked = plan.lease if isinstance(plan, PacketProfile | SealedProfile) else None
    return asked + _SLACK if asked else _UNKNOWN_LEASE


@dataclass(frozen=True)
class _Seen:
    """What the port was in the end, and when: seconds since we began to look, or since the knock."""

    state: State
    seconds: float

    @property
    def is_hidden(self) -> bool:
        return self.state == "filtered"

    def facts(self) -> dict[str, object]:
        return {"good": self.is_hidden, "state": self.state, "seconds": round(self.seconds, 3)}


class _Trial:
    """A gate that is tried: what was seen before the knock, of it, and after it; None: not tried."""

    def __init__(self, plan: Profile, limit: float) -> None:
        """Raises Unavailable where the host has no address, and what else ``attempt_of`` does."""
        assert plan.wait is not None, "see _plan"  # noqa: S101
        self._plan, self._port, self._limit = plan, plan.wait, limit
        self._attempt: Attempt = attempt_of(plan)
        self._before: _Seen | None = None
        self._after: _Seen | None = None

    def carry_out(self, *, wait_hidden: bool, close_wait: bool) -> None:
        """Look, knock, look; raises as an ``Attempt`` does."""
        limit = self._limit if wait_hidden else 0.0
        self._before = self._until_shut(time.monotonic(), limit, "an earlier lease to end")
        if self._before.state == "open":
            return
        self._attempt.carry_out(before=self._before.state)
        if self._opened_after is not None and close_wait:
            since = time.monotonic() - self._opened_after
            self._after = self._until_shut(since, self._limit, "the lease to end")

    def _until_shut(self, since: float, limit: float, what: str) -> _Seen:
        """Look until the port is hidden, or as shut as it was before, or the time is over."""
        silent: list[float] = []
        with progress(f"{what}, {spell(limit)} at most") as show:
            while True:
                began = time.monotonic()
                state = self._look()
                now = time.monotonic()
                if state == "filtered":
                    silent.append(began)
                    if len(silent) == _SILENT:
                        return _Seen(state, silent[0] - since)
                    continue
                silent.clear()
                as_before = self._before is not None and self._before.state == state
                if as_before or now >= since + limit:
                    return _Seen(state, now - since)
                gap = min(max(_GAP, (now - since) * _GAP_SHARE), _LAST_GAP)
                _pause(since, min(now + gap, since + limit), show)

    def _look(self) -> State:
        return probe(self._attempt.door_at, self._port, source=self._plan.source, timeout=_PATIENCE)

    # --- what it comes to -----------------------------------------------------------------------------

    @property
    def _opened_after(self) -> float | None:
        """Seconds from the knock until the port was open; None: it was not."""
        answer = self._attempt.answer
        return answer.after if answer and answer.state == "open" else None

    @property
    def is_good(self) -> bool:
        """Whether all that was tried is as it should be."""
        hidden = all(seen.is_hidden for seen in (self._before, self._after) if seen)
        return hidden and self._opened_after is not None

    def facts(self) -> dict[str, object]:
        """The whole of it, for programs."""
        knock = {"good": self._opened_after is not None, **self._attempt.facts()}
        return {
            "host": self._plan.host,
            "address": self._attempt.address,
            "port": str(self._port),
            "before": self._before and self._before.facts(),
            "knock": knock if self._attempt.sent else None,
            "after": self._after and self._after.facts(),
        }

    def words(self) -> str:
        """The same in one line, with the figures as monitoring systems read them."""
        host = self._plan.host
        at = "" if host.strip("[]") == self._attempt.address else f" ({self._attempt.address})"
        found = [text for text in (self._before_words(), self._knock_words(), self._after_words()) if text]
        figures = {"opened": self._opened_after, "hidden_again": None}
        if self._after and self._after.is_hidden:
            figures["hidden_again"] = self._after.seconds
        told = " ".join(f"{name}={value:.4f}s" for name, value in figures.items() if value is not None)
        return f"{self._port} of {host}{at} {', '.join(found)}{f' | {told}' if told else ''}"

    def _before_words(self) -> str:
        seen = self._before
        if seen is None or seen.is_hidden:
            return "was hidden"
        after = f", {seen.seconds:.0f} s long" if seen.seconds >= _GAP else ""
        return f"is {seen.state} without a knock{after}"

    def _knock_words(self) -> str:
        if self._attempt.answer is None:
            return "and was not knocked for"
        if self._opened_after is not None:
            return f"opened {self._opened_after * 1000:.1f} ms after {self._attempt.what}"
        answer = self._attempt.answer
        return f"but is still {answer.state} {answer.after:.1f} s after {self._attempt.what}"

    def _after_words(self) -> str:
        if self._opened_after is None:
            return ""
        if self._after is None:
            return "and the end of the lease was not waited for"
        after = f"{self._after.seconds:.1f} s"
        return (
            f"was hidden again after {after}"
            if self._after.is_hidden
            else f"but is {self._after.state} after {after}"
        )

    def explain(self) -> None:
        """Say what may be the reason for what is not as it should be."""
        if self._before and self._before.state == "open":
            say("nothing guards that port, or a lease has not ended: an earlier one of ours, or of somebody")
            say("with the same address; from here they look the same, so there was no knock")
            advise("--wait-hidden waits for the end of that lease, and --within TIME says how long at most")
            return
        if self._before and self._before.state == "closed":
            say("without a knock the host refuses where it should be silent: nothing guards that port,")
            say("or a firewall rejects what it should drop")
        if self._attempt.answer and self._opened_after is None:
            if self._before and self._before.is_hidden:
                say("a port that is hidden looks like that of a host that is away")
            self._attempt.explain(self._attempt.answer.state)
        if self._after and self._after.state == "open":
            say(f"the lease was to end within {spell(self._limit)}: it is longer, or was opened by hand")
            advise("--within TIME says how long; at the gate: knockgate status")


def _pause(since: float, until: float, show: Callable[[float], None] | None) -> None:
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
        if show:
            show(time.monotonic() - since)
