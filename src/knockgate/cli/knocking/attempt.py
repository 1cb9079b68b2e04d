"""One knock of either kind: what was asked for, what became of it, and the waiting for its door."""

from __future__ import annotations

import contextlib
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from knockgate.cli.terminal import advise
from knockgate.client import send
from knockgate.client.profiles import Profile
from knockgate.client.wait import Answer, State, probe, wait_connected
from knockgate.errors import KnockgateError

__all__ = ["Attempt", "progress"]


class Attempt(ABC):
    """A knock at one address. Which packets it is made of is a subclass's business."""

    what: str  #: what was sent last, for people

    def __init__(self, profile: Profile) -> None:
        """Raises Unavailable where the host has no address."""
        self._profile = profile
        self.address = send.resolve(profile.host, profile.family)
        self.door_at = self.address  #: where the door is that is waited for
        self.source = send.local_address(self.address, profile.source)  #: None where there is no route
        self.sent = False
        self.before: State | None = None  #: of the door that is waited for
        self.answer: Answer | None = None
        self.connection: socket.socket | None = None  #: the probe that got in, where it was to be kept

    @abstractmethod
    def ready(self) -> None:
        """Get together what is needed before anything is sent."""

    def obstacle(self) -> KnockgateError | None:
        """Why nothing would be sent, as far as that can be told beforehand; a dry run asks."""
        return None

    @abstractmethod
    def send(self) -> float:
        """Send it; returns the monotonic time at which the last packet left."""

    @abstractmethod
    def asked(self) -> dict[str, object]:
        """What is asked for, for programs."""

    @abstractmethod
    def line(self, where: str) -> str:
        """The same for people; ``where`` is the host."""

    def explain(self, state: State) -> None:
        """Say what may be the reason for a door that did not open."""
        advise(_ADVICE[state])

    def carry_out(self, *, before: State | None = None, keep: bool = False) -> None:
        """Knock and wait.

        ``before`` is what the door was a moment ago, where the caller knows. With ``keep`` the connection
        that got in stays open: ``connection``, non-blocking, and the caller's to close.
        """
        self.ready()
        door = self._profile.wait
        if door:
            self.before = before or probe(self.door_at, door, source=self._profile.source)
        left_at = self.send()
        self.sent = True
        if door:
            self.wait(left_at)
            if self.connection and not keep:
                self.connection.close()
                self.connection = None

    def wait(self, left_at: float) -> None:
        """Wait for the door: sets ``answer``, and ``connection`` where it opens."""
        self.watch(left_at, self._profile.timeout)

    def watch(self, since: float, timeout: float) -> bool:
        """Wait so many seconds at most; whether the door is open. Its time counts from ``since``."""
        door = self._profile.wait
        assert door is not None, "whoever waits knows what for"  # noqa: S101
        with progress(str(door)) as show:
            self.answer, self.connection = wait_connected(
                self.door_at, door, since=since, timeout=timeout, source=self._profile.source, on_wait=show
            )
        return self.answer.state == "open"

    def diagnosis(self) -> dict[str, object] | None:
        """What may be the reason for a door that did not open, for programs; None: nothing is known."""
        return None

    def facts(self) -> dict[str, object]:
        """The whole of it, for programs."""
        wait = None
        if self._profile.wait and self.answer:
            is_open = self.answer.state == "open"
            wait = {
                "port": str(self._profile.wait),
                "before": self.before,
                "state": self.answer.state,
                "open": is_open,
                "seconds": round(self.answer.after, 6) if is_open else None,
            }
        shut = self.answer is not None and self.answer.state != "open"
        diagnosis = self.diagnosis() if shut else None
        return {
            "host": self._profile.host,
            "address": self.address,
            "source": self.source,
            **self.asked(),
            "sent": self.sent,
            "wait": wait,
            **({"diagnosis": diagnosis} if diagnosis else {}),
        }

    def text(self) -> str:
        """The same for people."""
        literal = self._profile.host.strip("[]") == self.address
        line = self.line(self.address if literal else f"{self._profile.host} ({self.address})")
        if self._profile.wait and self.answer:
            line += f"\n{self._profile.wait} is {self._finding(self.answer)}"
        return line

    def _finding(self, answer: Answer) -> str:
        if answer.state != "open":
            return f"still {answer.state}, {answer.after:.1f} s after {self.what}"
        if self.before == "open":
            return "open, as it was already before the knock"
        return f"open, {answer.after * 1000:.1f} ms after {self.what}"


_ADVICE = {
    "closed": "the host refuses: nothing listens there, or its firewall rejects instead of dropping",
    "filtered": "wrong steps, a lost or reordered packet (try a longer --delay), or a wrong host",
}


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[float], None] | None]:
    """A line about the waiting for ``what``, rewritten in place for as long as somebody looks at a terminal.

    Yields what is to be called with the seconds waited, as often as one likes; None: nobody looks.
    """
    if not sys.stderr.isatty():
        yield None
        return
    shown_at = 0.0
    width = len(what) + 31

    def show(waited: float) -> None:
        nonlocal shown_at
        if waited - shown_at >= 0.1:
            shown_at = waited
            print(f"\rwaiting for {what} ... {waited:.1f} s", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if shown_at:
            print("\r" + " " * width + "\r", end="", file=sys.stderr, flush=True)
