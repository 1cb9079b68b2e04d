from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPO
from tests.netns import isolated, own_mounts

TESTS = """
from pathlib import Path

def test_control(): Path("/var/lib/another").mkdir()
def test_run(): Path("/run/knockgate").mkdir()
def test_lib(): Path("/var/lib/knockgate").mkdir()
def test_after(): pass
"""
IN_THE_BACKGROUND = """
import signal, subprocess, sys

def test_it():
    program = "from signal import *; print(getsignal(SIGHUP).name, getsignal(SIGTERM).name)"
    words = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout.split()
    assert words == [b"SIG_DFL", b"SIG_IGN"]  # of SIGTERM nothing is said: the control
    signal.raise_signal(signal.SIGHUP)
"""


def pytest_on(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A pytest of its own, with our settings and conftest.py."""
    settings = ["-c", str(REPO / "pyproject.toml"), f"--rootdir={folder}", "-p", "tests.conftest"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *settings, "-p", "no:cacheprovider", *options, "."],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        timeout=60,
    )


@isolated
def test_a_test_that_makes_a_gates_folders_on_the_host_fails(tmp_path: Path) -> None:
    own_mounts()  # stand in for the host's
    (tmp_path / "test_it.py").write_text(TESTS)
    done = pytest_on(tmp_path)
    assert done.returncode == 1 and "4 passed, 2 errors" in done.stdout
    told = re.findall(r"teardown of (\w+) _+\nmade on this host: (\S+)\n", done.stdout)
    assert told == [("test_run", "/run/knockgate"), ("test_lib", "/var/lib/knockgate")]


def test_behind_nohup_no_program_that_a_test_starts_ignores_signals(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(IN_THE_BACKGROUND)
    ignored = signal.SIGHUP, signal.SIGTERM
    before = [signal.signal(number, signal.SIG_IGN) for number in ignored]
    try:
        done = pytest_on(tmp_path)
    finally:
        for number, each in zip(ignored, before, strict=True):
            signal.signal(number, each)
    assert done.returncode == 0, done.stdout + done.stderr


def test_labs_and_machines_are_never_beside_each_other(tmp_path: Path) -> None:
    """Any other way of sharing them out has two of the three on different workers."""
    heavy, other = ["bench/test_a", "knockdemo/lab/test_b", "systemd/test_c"], "test_d"
    for each in (*heavy, other):
        file = tmp_path / "tests" / f"{each}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("def test_it(): pass\n")
    done = pytest_on(tmp_path, "-n", "2", "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"^\[(gw\d)\].*PASSED tests/(.+)\.py::", done.stdout, re.MULTILINE)
    worker = {file: name for name, file in found}
    assert {worker[each] for each in heavy} == {"gw0", "gw1"} - {worker[other]}
