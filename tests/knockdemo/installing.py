"""Laying the demonstration down and taking it up, for tests: in trees of their own."""

from __future__ import annotations

import argparse
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from knockdemo import install, preflight, units

SOURCE = Path(install.__file__).resolve().parents[1]
#: The keys that the tutorial prints for everybody to read.
PRINTED_KEYS = ("apAjDrWMbZdaGMpRjawbfw==", "XWlmWPHJu+9VQiEWH/NJ3nxfGJgUro1xoWSfRVQsAdo=")
PLAN = install.Plan("eth0", 15, b"s" * 32, b"h" * 64)
KEYS = ("/etc/fwknop/access.conf", "/etc/fwknop/fwknopd.conf", "/etc/knockdemo/client.fwknoprc")
SCRIPT = Path(units.__file__).parent / "demo-firewall-base.sh"
#: Runs the command in a process of its own, as ``python3 -m knockdemo`` would.
COMMAND = """
import argparse, sys
from knockdemo import install, terminal
verb = sys.argv.pop(1)
parser = argparse.ArgumentParser()
getattr(install, f"add_{verb}_arguments")(parser)
sys.exit(terminal.run("knockdemo", lambda: getattr(install, verb)(parser.parse_args())))
"""
#: In a mount namespace: a file system of the given size, the command, and what is left in it.
FULL_DISK = """
mount -t tmpfs -o "size=$1" tmpfs "$2/$3" || exit 77
"$4" -c "$5" install --root "$2" --interface eth0
status=$?
find "$2/$3" -mindepth 1 >&2
exit $status
"""
#: The same, but the process is killed when it is about to put its file number N in place.
KILLED = """
import os, pathlib, signal, sys
left = int(sys.argv.pop(1))
replace = pathlib.Path.replace
def count_down(path, target):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
pathlib.Path.replace = count_down
"""


def lay_down(root: Path | None, *options: str, interface: str | None = "eth0") -> int:
    parser = argparse.ArgumentParser()
    install.add_install_arguments(parser)
    place = ["--root", str(root)] if root else []
    return install.install(
        parser.parse_args([*place, *(["--interface", interface] if interface else []), *options])
    )


def take_up(root: Path, *options: str) -> int:
    parser = argparse.ArgumentParser()
    install.add_uninstall_arguments(parser)
    return install.uninstall(parser.parse_args(["--root", str(root), *options]))


def process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def snapshot(root: Path) -> Mapping[str, tuple[object, ...]]:
    """Everything below ``root`` that a restored tree must have again."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            content: object = path.readlink()
        else:
            content = path.read_bytes() if path.is_file() else None
        times = status.st_mtime_ns if stat.S_ISREG(status.st_mode) else 0
        found[str(path)] = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, times, content)
    return found


def needs_programs() -> None:
    missing = [path for path in preflight.PROGRAMS if not os.access(path, os.X_OK)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
