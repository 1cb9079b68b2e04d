"""``knockdemo tour HOST``: scan, knock, scan, wait, scan, from another machine and with nothing special.

Needs what the tutorial puts on that machine: nmap, fwknop's client, Python. No root: without it nmap
connects instead of sending SYNs, which sees the same states.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from knockdemo import client
from knockdemo.lanes import INSTALLED, Lane, Sender, choose
from knockdemo.scan import scan, scan_command
from knockdemo.terminal import open_output, say, write_output
from knockgate.errors import ConfigError, Unavailable

__all__ = ["command"]

PROGRAM = "knockdemo"
_SETTLE = 3.0  # how long a knock may take to open a door before the scan begins, seconds
_PROMISE = {"before": "filtered", "knocked": "open", "expired": "filtered"}


def command(args: argparse.Namespace) -> int:
    """Make the tour; returns 0 if every door was filtered, open, filtered, else 1."""
    lanes = choose(args.lanes, INSTALLED)
    _expect_programs(lanes)
    rc_file = Path(args.rc_file)
    if any(lane.NAME == "C" for lane in lanes) and not rc_file.is_file():
        raise ConfigError(
            "no such file",
            file=args.rc_file,
            key="--rc-file",
            hint="copy /etc/knockdemo/client.fwknoprc, the keys, from the host, or use --lanes A,B",
        )
    output = open_output(args.json)
    try:
        host = client.resolve(args.host, socket.AF_INET)
        ours = args.allow_ip or client.local_address(host)
        if ours is None:
            raise Unavailable(f"no route to {host}", hint="check this machine's network")
        with tempfile.TemporaryDirectory() as home:
            result = _walk(lanes, host, _sender(ours, rc_file, home), args)
    except client.KnockError as error:
        raise Unavailable(str(error), hint=error.hint) from None
    if output:
        write_output(output, json.dumps(result, indent=2) + "\n")
    return 0 if result["ok"] else 1


def _walk(lanes: Sequence[Lane], host: str, sender: Sender, args: argparse.Namespace) -> dict[str, Any]:
    tell = (lambda *_: None) if args.json == "-" else print
    seen: dict[str, Mapping[int, str]] = {}

    def look(moment: str, heading: str) -> None:
        tell(f"{heading}:")
        found = scan(_run, scan_command(host, [lane.PORT for lane in lanes], patient=True))
        seen[moment] = {port: state.state for port, state in found.items()}
        for lane in lanes:
            tell(
                f"  {lane.PORT}/tcp  {seen[moment].get(lane.PORT, 'nothing'):9} {lane.NAME}: {lane.MECHANISM}"
            )

    look("before", f"Scan of {host} before the knock")
    knocked_at = time.monotonic()
    for lane in lanes:
        opened = lane.knock(sender, host, _SETTLE)
        tell(
            f"Knocked at {lane.NAME}: "
            + (f"open after {opened * 1000:.0f} ms" if opened else "it did not open")
        )
    look("knocked", "Scan after the knock")
    if time.monotonic() - knocked_at > args.window:
        say(PROGRAM, "the scan took longer than the window: doors may have closed before they were seen")
    _wait_until_shut(lanes, host, args.window)
    look("expired", "Scan after the window")
    states = {
        lane.NAME: {moment: seen[moment].get(lane.PORT, "nothing") for moment in _PROMISE} for lane in lanes
    }
    wrong = [name for name, found in states.items() if found != _PROMISE]
    if not wrong:
        tell("All doors were invisible, open for us after the knock, and invisible again.")
    for name in wrong:
        found = ", ".join(states[name].values())
        say(PROGRAM, f"lane {name} should have been filtered, open, filtered and was {found}")
    return {"format": 1, "host": host, "window_s": args.window, "ok": not wrong, "lanes": states}


def _wait_until_shut(lanes: Sequence[Lane], host: str, window: int) -> None:
    """Until no door answers any more, or well past the window; the scan that follows gives the verdict."""
    end = time.monotonic() + window + 5
    with _line() as show:
        while time.monotonic() < end:
            states = {client.probe(host, lane.PORT, timeout_s=0.5) for lane in lanes}
            if "open" not in states:
                return
            show(f"waiting until the window is over ({end - time.monotonic():.0f} s at most)")
            time.sleep(0.5)


@contextlib.contextmanager
def _line() -> Any:  # noqa: ANN401 - a generator of one callable
    """A line of progress on a terminal, nothing elsewhere."""
    on_terminal = sys.stderr.isatty()

    def show(text: str) -> None:
        if on_terminal:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        if on_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _sender(ours: str, rc_file: Path, home: str) -> Sender:
    # fwknop writes into the home directory whatever it is asked; it gets one of its own.
    environment = {**os.environ, "HOME": home}

    def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return _run(argv, environment)

    def wait_open(host: str, port: int, seconds: float) -> float | None:
        return client.wait_open(host, port, timeout_s=seconds)

    return Sender(ours, run, wait_open, [sys.executable, str(client.__file__)], rc_file.absolute())


def _run(argv: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=env)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{argv[0]} did not end within 120 s") from None


def _expect_programs(lanes: Sequence[Lane]) -> None:
    needed = {"nmap": "nmap"} | ({"fwknop": "fwknop-client"} if any(x.NAME == "C" for x in lanes) else {})
    missing = {name: package for name, package in needed.items() if not shutil.which(name)}
    if missing:
        packages = " ".join(missing.values())
        raise Unavailable(f"not installed: {', '.join(missing)}", hint=f"apt install {packages}")
