"""What is otherwise than it was when one looked at a gate last: ``knockgate status --watch``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from knockgate.cli.phrases import time_in_words
from knockgate.cli.status import State
from knockgate.model import Lease, Port, Source, address_text

__all__ = ["Look", "begun", "changes"]

#: Seconds by which a lease may seem to have grown though nobody has renewed it: the kernel rounds.
_ROUNDED = 1.0

_Key = tuple[Port, Source, str]


@dataclass(frozen=True, slots=True)
class Look:
    """What was found, or why nothing was."""

    at: float  #: by the monotonic clock
    time: float  #: seconds since 1970
    state: State | None  #: None where it could not be asked
    wrong: str = ""  #: why; beside a state, what is wrong with the configuration's file since
    known: Mapping[_Key, Lease] = field(init=False)

    def __post_init__(self) -> None:
        leases = self.state.leases if self.state else []
        object.__setattr__(self, "known", {(each.port, each.source, each.by): each for each in leases})


def begun(before: Look, now: Look) -> dict[_Key, Lease]:
    """Leases that are new, or were given anew."""
    if before.state is None:
        return {}
    elapsed = now.at - before.at

    def is_new(key: _Key, lease: Lease) -> bool:
        old = before.known.get(key)
        return old is None or lease.left > old.left - elapsed + _ROUNDED

    return {key: lease for key, lease in now.known.items() if is_new(key, lease)}


def changes(before: Look, now: Look) -> list[str]:
    """A line for each thing that has changed; none where nothing has but the time that is left."""
    return list(_changes(before, now))


def _changes(before: Look, now: Look) -> Iterator[str]:
    if now.wrong and now.wrong != before.wrong:
        yield now.wrong
    if now.state is None:
        return
    if before.state is None:
        yield "the gate can be asked again"
        return
    if before.wrong and not now.wrong:
        yield "the configuration can be read again"
    yield from _guard(before.state, now.state)
    yield from _doors(before.state, now.state)
    yield from _leases(before, now, now.state)
    yield from _counted(before.state.daemon, now.state.daemon)


def _guard(before: State, now: State) -> Iterator[str]:
    """The table, and the daemon's two halves."""
    if now.loaded != before.loaded:
        yield "the table is loaded" if now.loaded else "NOT LOADED any more: nothing is guarded"
    if now.loaded and before.loaded and now.in_force != before.in_force:
        yield f"{'this' if now.in_force else 'ANOTHER'} configuration is in force"
    if (now.warden is None) != (before.warden is None):
        yield "the daemon does not answer any more" if now.warden is None else "the daemon answers"
    elif now.warden and before.warden and now.warden.restored > before.warden.restored:
        yield "somebody removed the table, and the daemon has put it back"
    if now.warden and before.warden and (now.daemon is None) != (before.daemon is None):
        yield "its listener does not answer any more" if now.daemon is None else "its listener answers"
    if now.daemon and before.daemon and now.daemon["pid"] != before.daemon["pid"]:
        yield "the listener has begun anew"
    if (now.trial is None) != (before.trial is None):
        yield "it is not on trial any more" if now.trial is None else "it is on trial"


def _doors(before: State, now: State) -> Iterator[str]:
    """Those that are otherwise shut than by leases, and those that are new or gone."""
    old, new = before.door_states(), now.door_states()
    for name in old.keys() - new.keys():
        yield f"{name} is no door any more"
    for name, state in new.items():
        was = old.get(name)
        if was is None:
            yield f"{name} is a new door"
        elif was != state and not {was, state} <= {"open", "shut"}:
            yield f"{name} is {state.upper() if state in _LOUD else state}, and was {was}"


_LOUD = ("paused", "shadow", "unguarded", "unknown")


def _leases(before: Look, now: Look, state: State) -> Iterator[str]:
    for (name, source, by), each in _by_door(state, begun(before, now)).items():
        again = any((lease.port, lease.source, lease.by) in before.known for lease in each)
        left = time_in_words(max(lease.left for lease in each))
        how = "again, for" if again else "for"
        yield f"OPENED {name} {how} {address_text(source)}, {left} ({by})"
    gone = {key: lease for key, lease in before.known.items() if key not in now.known}
    for name, source, by in _by_door(state, gone):
        yield f"ended: {name} for {address_text(source)} ({by})"


def _by_door(state: State, leases: Mapping[_Key, Lease]) -> dict[tuple[str, Source, str], list[Lease]]:
    """A door has a lease for each of its ports."""
    found: dict[tuple[str, Source, str], list[Lease]] = {}
    for (port, source, by), lease in leases.items():
        found.setdefault((state.door_of(port) or str(port), source, by), []).append(lease)
    return found


# --- what the daemon counts ---------------------------------------------------------------------------


def _counted(before: dict[str, Any] | None, now: dict[str, Any] | None) -> Iterator[str]:
    if not now:
        return
    if not before or before["pid"] != now["pid"]:
        before = {}  # what it counts began with it
    for kind, what in (("packets", "packet of fwknop's"), ("sealed", "sealed knock")):
        yield from _refused(what, before.get(kind) or {}, now.get(kind) or {})
    for name, more in _more(before.get("bounds", {}), now["bounds"]).items():
        yield f"a bound was met: {name} ({more} times)"


def _refused(what: str, before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Of who has a key one by one, of strangers how many."""
    if not now:
        return
    strangers = _more(before.get("strangers", {}), now["strangers"])
    for reason, more in _more(before.get("refused", {}), now["refused"]).items():
        if ours := more - strangers.get(reason, 0):
            times = "" if ours == 1 else f", {ours} times"
            yield f"REFUSED a {what} of somebody who has a key: {reason}{times}"
    if strangers:
        words = ", ".join(f"{more} {reason}" for reason, more in sorted(strangers.items()))
        yield f"strangers sent {what}s: {words}"


def _more(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    return {name: more for name, number in now.items() if (more := number - before.get(name, 0)) > 0}
