"""Why the lab does not run, in a line and a hint; and a report that cannot be written when it has run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.knockdemo.lab.running import IS_ROOT, finish, start, wait_for, wait_for_stage
from tests.knockdemo.test_report import measured

from knockdemo.__main__ import main
from knockdemo.lab import front


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lanes", "A,G"], "no lane G"),
        (["--lanes", ""], "no lane"),
        (["--window", "2"], "from 3 to"),
        (["--window", "4.5"], "whole number"),
        (["--json", "/nowhere/out.json"], "cannot write there"),
    ],
)
def test_mistake_is_one_line_and_status_2(scratch: Path, arguments: list[str], words: str) -> None:
    status, out, err = finish(start(scratch, *arguments), 20)
    assert (status, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_report_that_cannot_be_written_is_told_after_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its inside is made up; ``test_lab`` has a real one, with a file that can be written."""
    sweep = {"ports": 2001, "ascending_per_s": 12000, "random_per_s": 9000}
    event = {"event": "report", "window": 3, "sweep": sweep, "notes": {"A": measured()}}
    monkeypatch.setattr(front, "enter", lambda _, on_event: on_event(event))
    assert main(["lab", "--window", "3", "--lanes", "A", "--json", "/dev/full"]) == 2
    out, err = capsys.readouterr()
    assert "daemon killed while open" in out
    assert "/dev/full cannot be written: No space left on device" in err
    assert "Traceback" not in err
    assert main(["lab", "--window", "3", "--lanes", "A", "--json", "/dev/null"]) == 0  # the control


def test_missing_program_names_its_package(scratch: Path) -> None:
    """nmap is hidden in a mount namespace of its own: it is there, but cannot be run."""
    inside = (
        "mount --bind /dev/null /usr/bin/nmap && exec /usr/bin/python3 -m knockdemo lab --window 3 --lanes A"
    )
    flags = ["--mount"] if IS_ROOT else ["--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        ["unshare", *flags, "sh", "-c", inside],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(scratch / "code"), "HOME": str(scratch / "home")},
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == "knockdemo: not installed: nmap\n  hint: apt install nmap\n"


def test_missing_library_is_named_where_it_is_needed(scratch: Path) -> None:
    """Only lanes E and F need those of the gate's daemon."""
    for module in (scratch / "code" / "cryptography").glob("__*.py"):
        module.write_text("raise ImportError('No module named cryptography, or an old one')\n")
    status, out, err = finish(start(scratch, "--lanes", "A,F"), 20)
    assert (status, out) == (2, "")
    assert "lane F cannot run: No module named cryptography, or an old one" in err
    assert "hint: " in err and "--lanes A,B,C,D" in err and "Traceback" not in err
    lab = start(scratch, "--lanes", "D")
    wait_for_stage(lab, "starting lane D")
    lab.terminate()
    finish(lab, 30)


@pytest.mark.root
@pytest.mark.skipif(not IS_ROOT, reason="needs root to forbid user namespaces in a namespace of its own")
def test_system_that_forbids_user_namespaces_is_named(scratch: Path) -> None:
    """A user namespace in which no further ones may be made stands in for such a system."""
    inside = (
        "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --reuid 1000 --regid 1000 --clear-groups "
        "/usr/bin/python3 -m knockdemo lab --window 3 --lanes A"
    )
    ours = os.readlink("/proc/self/ns/user")
    with subprocess.Popen(["unshare", "--user", "sleep", "infinity"]) as holder:
        try:
            wait_for(lambda: os.readlink(f"/proc/{holder.pid}/ns/user") != ours, "it has a user namespace")
            for kind in ("uid_map", "gid_map"):
                Path(f"/proc/{holder.pid}/{kind}").write_text("0 0 65536")
            done = subprocess.run(
                ["nsenter", "--user", f"--target={holder.pid}", "sh", "-c", inside],
                capture_output=True,
                text=True,
                check=False,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(scratch / "code"), "HOME": "/nonexistent"},
            )
        finally:
            holder.kill()
    assert done.returncode == 2, done.stderr
    assert "this system does not let ordinary users make namespaces" in done.stderr
    assert "hint: use sudo" in done.stderr
