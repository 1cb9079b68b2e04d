"""Lane A's daemon with its filter off: every packet for this host is handed to Python.

The control of ``flood.py``: under the same flood it must work hard, or the flood was none.
"""

from __future__ import annotations

import signal
import sys

from knockdemo import config, daemon, firewall, terminal
from knockgate.capture.openings import Openings
from knockgate.mechanisms.sequence import KnockSequence, KnockTracker
from knockgate.model import Port, Protocol
from knockgate.wire.bpf import ACCEPT, Instruction

#: One instruction: return "keep all of it".
EVERYTHING = (Instruction(0x06, 0, 0, ACCEPT),)


def serve(settings: config.Config) -> int:
    """As ``daemon.serve``, but for the filter and systemd."""
    with Openings(EVERYTHING, settings.interface) as capture:
        firewall.load(settings)
        steps = tuple(Port(Protocol.TCP, number) for number in settings.sequence)
        sequence = KnockSequence("service", steps, settings.sequence_window_seconds)
        tracker = KnockTracker([sequence], limit=settings.max_sources)
        terminal.say("all-ears", "listening for everything")
        try:
            daemon.watch(settings, capture, tracker)
        finally:
            daemon.summarize(tracker, capture)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.exit(terminal.run("all-ears", lambda: serve(config.load())))
