"""What runs inside the lab's namespaces: build the site, ask the questions, report in JSON lines.

Process 1 of its PID namespace. Each line on standard output is an event: ``progress`` (text, seconds
left or null), ``failed`` (message, hint), ``report`` (window, notes, sweep).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import knockdemo
from knockdemo import install
from knockdemo.client import KnockError, probe
from knockdemo.lab.asking import Asking, Wire
from knockdemo.lab.hosts import PATH, PYTHON, Site, build
from knockdemo.lab.people import AUTHORIZED_KEYS, own_users, ssh_files, write_ssh_config
from knockdemo.lab.processes import Daemons
from knockdemo.lab.questions import CONTROL_PORT, QUESTIONS
from knockdemo.lab.wait import until
from knockdemo.lanes import Lane, choose
from knockdemo.units import GATE_PROGRAM, SSHD, render_gate
from knockgate.errors import KnockgateError, Unavailable

__all__ = ["emit", "main", "prepare"]

STAGE = Path("/run/knockdemo-lab")


def emit(event: str, **more: object) -> None:
    """Print one event line."""
    print(json.dumps({"event": event, **more}), flush=True)


def own_run() -> None:
    """A /run of our own: what the daemons write is gone with us, and /dev/log leads nowhere."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "mode=755,nosuid,nodev", "tmpfs", "/run"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"no file system of our own: {done.stderr.strip()}", hint="use sudo")
    (STAGE / "home").mkdir(parents=True)
    (STAGE / "tmp").mkdir()
    tempfile.tempdir = str(STAGE / "tmp")


def environment() -> dict[str, str]:
    """What every process of the lab gets: nothing of the user's but the language."""
    return {
        "PATH": PATH,
        "HOME": str(STAGE / "home"),
        "TMPDIR": str(STAGE / "tmp"),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(Path(knockdemo.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "KNOCKDEMO_CONFIG": str(STAGE / "root/etc/knockdemo/knockdemo.toml"),
    }


def prepare(
    lanes: Sequence[Lane],
    window: int,
    change: Callable[[dict[str, install.File]], None] | None = None,
    python: str = sys.executable,
) -> Asking:
    """The site with its daemons running, ready to be asked.

    ``change`` may alter the files that would be installed before they are laid down: whoever wants to
    know whether a question can fail breaks a lane with it. ``python`` has the libraries of the gate's daemon.
    """
    os.umask(0o022)  # ssh, sshd and the gate believe no file that others than its owner can write
    own_run()
    emit("progress", text="building host, wire and client", left=None)
    variables = environment()
    site = build(variables)
    own_users(STAGE, variables)
    files = install.render(install.fresh_plan("eth0", window))
    files |= render_gate(install.fresh_plan("eth0", window), str(STAGE / "root"))
    files[GATE_PROGRAM] = _gate_program(python)
    files |= ssh_files(site.client, site.host, STAGE)
    if change:
        change(files)
    daemons = Daemons(site.host, files, STAGE / "root")
    write_ssh_config(STAGE, daemons.staged(GATE_PROGRAM))
    wire = Wire(site.observer, PYTHON)
    asking = Asking(
        site,
        daemons,
        lanes,
        window,
        wire,
        PYTHON,
        daemons.staged("/etc/knockdemo/client.fwknoprc"),
        files[AUTHORIZED_KEYS].content.decode(),
        lambda offset: _gate_at(offset, python, daemons.staged(GATE_PROGRAM)),
        lambda text, left: emit("progress", text=text, left=left),
    )
    for host in (site.host.address4, site.host.address6):
        _expect_answer(site, host)
    for lane in lanes:
        emit("progress", text=f"starting lane {lane.NAME}", left=None)
        for unit in (*lane.UNITS, f"secret-service@{lane.PORT}.service", *([SSHD] if lane.SSH_PORT else [])):
            daemons.start(unit)
        lane.meet(asking.sender(), [site.host.address4, site.host.address6])
    return asking


def _gate_program(python: str) -> install.File:
    """The command ``knockgate``, of the code that the lab is."""
    return install.File(0o755, f'#!/bin/sh\nexec {shlex.quote(python)} -m knockgate "$@"\n'.encode())


def _gate_at(offset: int, python: str, program: Path) -> list[str]:
    """The same by a clock that is off, in seconds."""
    return [python, "-m", "knockdemo.lab.wrong_clock", str(offset)] if offset else [str(program)]


def _expect_answer(site: Site, host: str) -> None:
    """A path that answers is the control for every silence that is measured later."""
    with site.client.inside():
        until(lambda: probe(host, CONTROL_PORT) == "closed", 10, f"{host} answers")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the whole lab; exits 0 when the report is out, 1 when something failed (told as an event)."""
    parser = argparse.ArgumentParser(prog="python3 -m knockdemo.lab.stage")
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument("--lanes", required=True)
    parser.add_argument("--python", required=True)
    args = parser.parse_args(argv)
    # Process 1 ignores signals that it has not asked for.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    try:
        asking = prepare(choose(args.lanes), args.window, python=args.python)
        for question in QUESTIONS:
            question(asking)
    except (KnockgateError, KnockError) as error:
        emit("failed", message=str(error), hint=error.hint)
        return 1
    except KeyboardInterrupt:
        return 1
    emit("report", window=args.window, notes=asking.notes, sweep=asking.sweep)
    # Without waiting for anything: the kernel ends whatever still runs in here with us.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
