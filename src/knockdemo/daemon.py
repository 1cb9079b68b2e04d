"""Lane A: watches for a sequence of TCP SYNs and lets their sender in for a while.

All there is to it: packets come from ``Openings``, ``KnockTracker`` says whom to let in, the
firewall's set keeps them, and the kernel expires them. Nothing here ever closes a door.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence

from knockdemo import config, firewall, notify, terminal
from knockgate.capture.openings import Openings
from knockgate.effects import PacketSeen, Tick
from knockgate.errors import KnockgateError, Refused
from knockgate.mechanisms.sequence import KnockSequence, KnockTracker
from knockgate.model import Port, Protocol, Source, address_text
from knockgate.wire import bpf, frames

PROGRAM = "knock-demo"


def watch(settings: config.Config, capture: Openings, tracker: KnockTracker) -> None:
    """Let in whoever knocks, for ever."""
    listening = True
    while True:
        wakeup = tracker.next_wakeup()
        wait = None if wakeup is None else max(0.0, wakeup - time.monotonic())
        # Only the knocked ports matter, and whatever comes from those in the midst of knocking, since it may
        # reset their sequence. So most of a flood is never seen here.
        packets = capture.hear(wait, tracker.ports, tracker.sources)
        now = time.monotonic()
        if capture.listening != listening:
            listening = capture.listening
            terminal.say(PROGRAM, f"{settings.interface} is {'up again' if listening else 'down'}")
        tracker.feed(Tick(), now)
        for packet in packets:
            try:
                seen = frames.observe(packet)
            except Refused:
                continue
            for door in tracker.feed(PacketSeen(seen), now):
                let_in(door.source, settings)


def let_in(source: Source, settings: config.Config) -> None:
    """Let the source in, and say so; or say why not."""
    who = address_text(source)
    try:
        admit(source, settings)
    except KnockgateError as error:
        terminal.say(PROGRAM, f"{who} knocked and could not be let in: {error}")
    else:
        terminal.say(
            PROGRAM, f"tcp/{settings.service_port} open to {who} for {settings.open_window_seconds} s"
        )


def admit(source: Source, settings: config.Config) -> None:
    """Let the source in; where somebody took the whole table away, put it back first, and say so."""
    try:
        firewall.authorize(source, settings)
    except KnockgateError:
        if firewall.is_loaded(settings):
            raise
        terminal.say(
            PROGRAM,
            f"the table inet {settings.nft_table} was gone, and tcp/{settings.service_port} without a guard; "
            "it is loaded again",
        )
        firewall.load(settings)
        firewall.authorize(source, settings)


def summarize(tracker: KnockTracker, capture: Openings) -> None:
    """One line for all that strangers did: they could fill a log with lines of their own."""
    tally, (received, dropped) = tracker.tally, capture.drops()
    terminal.say(
        PROGRAM,
        f"{received - dropped} openings heard ({dropped} more lost for want of room), "
        f"{tally.begun} sequences begun, {tally.opened} completed, {tally.reset} reset, "
        f"{tally.forgotten} forgotten",
    )


def serve(settings: config.Config) -> int:
    """Close the port, listen, say so, and watch until a signal ends it."""
    with Openings(bpf.openings(udp=False, loopback=True), settings.interface) as capture:
        firewall.load(settings)
        knocks = ", ".join(map(str, settings.sequence))
        terminal.say(PROGRAM, f"tcp/{settings.service_port} is shut; listening for {knocks}")
        notify.ready(f"listening for {len(settings.sequence)} knocks")
        steps = tuple(Port(Protocol.TCP, number) for number in settings.sequence)
        sequence = KnockSequence("service", steps, settings.sequence_window_seconds)
        tracker = KnockTracker([sequence], limit=settings.max_sources)
        try:
            watch(settings, capture, tracker)
        finally:
            summarize(tracker, capture)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon; exits 0 on SIGTERM and SIGINT, 2 with a line and a hint when it cannot start."""
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} (python3 -m knockdemo.daemon)",
        description="Guard a TCP port with an nftables set; open it for a source that knocks in order.",
        epilog="The port stays shut when this program ends: its nft table remains. "
        f"Numbers come from the file that ${config.ENVIRONMENT} names, else {config.DEFAULT_PATH}, "
        "else they are the tutorial's. Exit status: 0 ended by a signal, 2 could not start.",
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with other numbers than the tutorial's")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    environment = {config.ENVIRONMENT: args.config} if args.config else os.environ
    return terminal.run(PROGRAM, lambda: serve(config.load(environment)))


if __name__ == "__main__":
    sys.exit(main())
