"""Both kinds of captures, and waiting for what becomes of their interface."""

from __future__ import annotations

import signal

import pytest
from tests.netns import DEADLINE

from knockgate.capture.afpacket import Capture
from knockgate.capture.openings import Openings
from knockgate.capture.ring import PacketRing

#: What both of them promise is tested with both.
Kind = type[Openings] | type[PacketRing]
both = pytest.mark.parametrize("kind", [Openings, PacketRing])


def until_listening(capture: Capture, *, expected: bool) -> None:
    """The change must end the wait of receive(): nothing is sent, and it has no timeout."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"listening was not {expected}")

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    while capture.listening is not expected:
        assert capture.receive(None) is None
    signal.setitimer(signal.ITIMER_REAL, 0)
