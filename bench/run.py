"""One run: starts the inside, and keeps what was measured in a file as it comes.

A turn is one subject in one round of one figure. Its samples are kept once all of it is over, so a run that
broke off can be gone on with: what was measured stays, and what is missing is measured.
"""

from __future__ import annotations

import compileall
import datetime as dt
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import knockgate
from bench.machine import machine, two_cores
from bench.results import Results, Sample, Turn
from knockdemo.lab.hosts import PATH
from knockdemo.lab.space import enter
from knockdemo.show import Progress
from knockgate.errors import Unavailable

__all__ = ["begun", "measure"]

_ROOT = Path(__file__).resolve().parents[1]
#: How each program says its version.
_VERSIONS = {
    "knockd": ["knockd", "-V"],
    "fwknopd": ["fwknopd", "-V"],
    "nft": ["nft", "--version"],
    "iptables": ["iptables", "--version"],
}


def begun(values: Mapping[str, Any]) -> Results:
    """A run of which nothing is measured yet. ``values``: what ``bench.rounds`` is asked."""
    now = dt.datetime.fromtimestamp(int(time.clock_gettime(time.CLOCK_REALTIME)), dt.UTC)
    asked = {**values, "day": f"{now:%Y-%m-%d}", "load_before": round(os.getloadavg()[0], 2)}
    return Results(machine(), asked, _versions())


def measure(results: Results, keep: Path) -> None:
    """All that is missing of it; ``keep`` has it after each turn. Raises Unavailable."""
    if results.turns and (results.machine, results.versions) != (machine(), _versions()):
        raise Unavailable(
            "what is kept was measured on another machine, or with other programs",
            hint="begin anew: figures of both in one table compare nothing",
        )
    keep.parent.mkdir(parents=True, exist_ok=True)
    compileall.compile_dir(_ROOT / "src", quiet=2)  # as whatever installs it does
    samples: list[Sample] = []
    began = time.monotonic()
    with Progress() as progress:

        def on_event(event: Mapping[str, Any]) -> None:
            nonlocal began
            fields = {key: each for key, each in event.items() if key != "event"}
            if event["event"] == "sample":
                samples.append(Sample(**fields))
            elif event["event"] == "turn":
                now = time.monotonic()
                results.turns.append(Turn(**fields, seconds=round(now - began, 1)))
                results.samples += samples
                samples.clear()
                began = now
                results.save(keep)
            elif event["event"] == "turns":
                results.planned = event["of"]
            else:
                share = event.get("share")
                progress.tell(event["text"] if share is None else f"{share:4.0%}  {event['text']}", None)

        # Marks must be durable, so they lie on a disk; /run, like everything else of the lab, does not.
        with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="knockgate-bench-") as state:
            done = [[each.figure, each.round, each.subject] for each in results.turns]
            asked = {**results.asked, "cores": two_cores(), "state": state, "done": done}
            try:
                enter([*_stage(), json.dumps(asked)], on_event)
            except Unavailable as error:
                if not results.turns:
                    raise
                hint = f"{len(results.turns)} of {results.planned} turns are kept: "
                hint += f"--go-on {shlex.quote(str(keep))}"
                raise Unavailable(str(error), hint=f"{error.hint}; {hint}" if error.hint else hint) from None


def _stage() -> list[str]:
    return ["env", f"PYTHONPATH={_ROOT / 'src'}:{_ROOT}", sys.executable, "-m", "bench.rounds"]


def _versions() -> dict[str, str]:
    found = {"knockgate": knockgate.__version__}
    for name, argv in _VERSIONS.items():
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": PATH})
        except OSError as error:
            raise Unavailable(f"no {name} to measure: {error.strerror}", hint="tools/setup.sh test") from None
        number = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
        number = number or re.search(r"\b\d+\.\d+\b", done.stdout)
        found[name] = number.group() if number else "unknown"
    return found
