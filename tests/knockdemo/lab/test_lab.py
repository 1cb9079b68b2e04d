"""The whole lab, as a user runs it: what it answers, and that nothing of it stays behind."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import knockdemo

SOURCE = Path(knockdemo.__file__).parents[1]
NOBODY = 65534
IS_ROOT = os.geteuid() == 0
#: What rich and the gate's daemon need, for a copy that another user can read.
LIBRARIES = ("rich", "pygments", "markdown_it", "mdurl", "click", "cryptography")

#: (lane, cell) -> what these mechanisms really do. The lab itself compares nothing with this.
EXPECTED: dict[str, dict[str, Any]] = {
    "A": {
        "firewall": "nftables",
        "port": 6500,
        "replay_opens": {"observer": True, "client": False},
        "stale_opens": None,
        "future_opens": None,
        "ipv6": {"before": "filtered", "knock_opens": True},
        "closes_without_daemon": True,
        "wire": ["tcp/7000", "tcp/8000", "tcp/9000"],
    },
    "B": {
        "firewall": "iptables",
        "port": 6501,
        "replay_opens": {"observer": True, "client": False},
        "stale_opens": None,
        "future_opens": None,
        "ipv6": {"before": "filtered", "knock_opens": False},
        "closes_without_daemon": False,
        "wire": ["tcp/7100", "tcp/7200", "tcp/7300"],
    },
    "C": {
        "firewall": "iptables",
        "port": 6502,
        "replay_opens": {"observer": False, "client": False},
        "stale_opens": False,
        "on_time_opens": True,
        "future_opens": False,
        "ipv6": {"before": "filtered", "knock_opens": False},
        "closes_without_daemon": False,
    },
    "D": {
        "firewall": "nftables",
        "port": 6503,
        "replay_opens": {"observer": True, "client": False},
        "sweep_opens": {"ascending": False, "random": False},
        "stale_opens": None,
        "future_opens": None,
        "ipv6": {"before": "filtered", "knock_opens": True},
        "closes_without_daemon": True,
        "wire": ["tcp/7400", "udp/7500", "tcp/7600"],
    },
    "E": {
        "firewall": "nftables",
        "port": 6504,
        "replay_opens": {"observer": False, "client": False},
        "sweep_opens": {"ascending": False, "random": False},
        "stale_opens": False,
        "on_time_opens": True,
        "future_opens": False,
        "wire_names": [],
        "ipv6": {"before": "filtered", "knock_opens": True},
        "closes_without_daemon": True,
    },
    "F": {
        "firewall": "nftables",
        "port": 6505,
        "replay_opens": {"observer": False, "client": False},
        "sweep_opens": {"ascending": False, "random": False},
        "stale_opens": False,
        "on_time_opens": True,
        "future_opens": False,
        "ipv6": {"before": "filtered", "knock_opens": False},
        "closes_without_daemon": True,
    },
}
SWEEP_OPENS = {"A": False, "B": True, "C": False, "D": False, "E": False, "F": False}


class Left:
    """What a run must not leave: a context manager that compares before and after.

    This process adopts whatever loses its parent, so a process that outlives the lab is our child then.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.namespaces: set[str] = set()

    def __enter__(self) -> Self:
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        self.before = self.state()
        return self

    def watch(self, process: subprocess.Popen[str]) -> None:
        """Remember the namespaces that the process's descendants live in."""
        for pid in descendants(process.pid):
            for kind in ("net", "mnt", "pid", "user"):
                try:
                    self.namespaces.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
                except OSError:
                    continue

    def __exit__(self, *_: object) -> None:
        end = time.clock_gettime(time.CLOCK_BOOTTIME)
        ours = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "mnt", "pid", "user")}
        theirs = self.namespaces - ours
        # A dead process keeps its namespaces until somebody asks how it died.
        try:
            wait_for(lambda: reap() and not theirs & namespaces_in_use(end), "the lab's namespaces are gone")
            wait_for(lambda: self.state() == self.before, f"{self.state()} is {self.before} again")
        finally:
            ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)  # other tests' orphans are nobody's business here

    def state(self) -> dict[str, object]:
        reap()
        rules = [["nft", "list", "ruleset"], ["iptables-save"]] if IS_ROOT else []
        return {
            "children": descendants(os.getpid()),
            "mounts": Path("/proc/self/mountinfo").read_text(),
            "links": sorted(path.name for path in Path("/sys/class/net").iterdir()),
            "files": sorted(str(path) for path in self.scratch.rglob("*")),
            "rules": [rules_of(command) for command in rules],
        }


def rules_of(command: list[str]) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if not line.startswith("#")]


def reap() -> bool:
    """Take the status of adopted children; those that subprocess waits for are not ours to take."""
    for pid in descendants(os.getpid(), deep=False):
        stat = Path(f"/proc/{pid}/stat").read_text() if Path(f"/proc/{pid}").exists() else ""
        if ") Z " in stat and pid not in STARTED:
            os.waitpid(pid, 0)
    return True


STARTED: set[int] = set()


def descendants(pid: int, *, deep: bool = True) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *(descendants(child) if deep else [])]
    return sorted(found)


def namespaces_in_use(end: float) -> set[str]:
    """Those of processes that began before ``end``, in seconds since boot.

    The kernel gives numbers of namespaces out again: a younger process with one of them is another test's.
    """
    used = set()
    for link in Path("/proc").glob("[0-9]*/ns/*"):
        try:
            # The fields after the name, which may hold anything, in parentheses; the 20th is when it began.
            began = int((link.parents[1] / "stat").read_text().rpartition(")")[2].split()[19])
            if began <= end * os.sysconf("SC_CLK_TCK"):
                used.add(os.readlink(link))
        except OSError:
            continue
    return used


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so after {seconds} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A home and temporary folder for the lab's outside, and a copy of the code that anybody may read."""
    folder = Path(tempfile.mkdtemp(prefix="knockdemo-test-"))
    folder.chmod(0o755)
    copy = folder / "code"
    for package in ("knockgate", "knockdemo"):
        shutil.copytree(SOURCE / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in LIBRARIES:
        library = next(Path(entry, name) for entry in sys.path if Path(entry, name).is_dir())
        shutil.copytree(library, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    backend = importlib.util.find_spec("_cffi_backend")  # cryptography's
    assert backend and backend.origin
    shutil.copy(backend.origin, copy)
    (folder / "home").mkdir()
    (folder / "home").chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def start(scratch: Path, *arguments: str, user: int | None = None) -> subprocess.Popen[str]:
    """``knockdemo lab`` with the arguments; ``user``: as whom, this test's own user by default."""
    home = str(scratch / "home")
    process = subprocess.Popen(
        ["/usr/bin/python3", "-m", "knockdemo", "lab", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        user=user,
        group=user,
        extra_groups=[] if user is not None else None,
        cwd="/",
        env={
            "PATH": os.environ["PATH"],
            "HOME": home,
            "TMPDIR": home,
            "PYTHONPATH": str(scratch / "code"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        # Ctrl-C goes to a group: it must not be the tests' own.
        process_group=0,
    )
    STARTED.add(process.pid)
    return process


def finish(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    STARTED.discard(process.pid)
    return process.returncode, out, err


def wait_for_stage(process: subprocess.Popen[str], words: str) -> None:
    """Read progress until the words come up."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"the lab ended before it said {words!r}")


def skip_if_forbidden(status: int, err: str) -> None:
    if status == 2 and "make namespaces" in err:
        pytest.skip(err.strip())


def check_ssh(lane: dict[str, Any], window: int) -> None:
    """It gets in by its own knock alone, and stays in when nobody gets in any more."""
    ssh = dict(lane["ssh"])
    assert 0 < ssh.pop("seconds") < window
    assert ssh == {
        "port": 6506,
        "before": "filtered",
        "enters": True,
        "seen_from": "192.0.2.2",
        "meanwhile": {"client": "open", "bystander": "filtered", "ssh_without_a_knock": True},
        "stays": True,
        "after": {"client": "filtered", "bystander": "filtered", "ssh_without_a_knock": False},
    }


def check(report: dict[str, Any], window: int) -> None:
    """A report of all lanes says what these mechanisms do."""
    assert (report["format"], report["window_s"], report["ok"]) == (1, window, True)
    assert [lane["lane"] for lane in report["lanes"]] == ["A", "B", "C", "D", "E", "F"]
    for lane in report["lanes"]:
        name = lane["lane"]
        assert lane["scans"] == {"before": "filtered", "knocked": "open", "expired": "filtered"}
        assert (lane["control"], lane["bystander"]) == ("closed", "filtered")
        assert lane["banner"] == f"You knocked. Welcome to the secret service on port {lane['port']}."
        assert lane["version_learns"] == {"before": False, "knocked": True}
        assert {cell: lane[cell] for cell in EXPECTED[name]} == EXPECTED[name]
        assert lane["sweep_opens"]["ascending"] is SWEEP_OPENS[name]
        assert 0 < lane["knock_to_open_ms"] < 2000
        # knockd and fwknopd count in whole seconds, and a probe is made every twentieth.
        assert window - 1.3 <= lane["open_for_s"] <= window + 1.5
        assert lane["fresh_opens"] is True
        is_packet = name in "CEF"
        assert lane["wire_again"]["same"] is not is_packet
        assert not is_packet or lane["wire_again"]["bytes_in_common"] < 8
        for cell, value in lane.items():
            assert value is not None or lane["why"][cell]
    lanes = {lane["lane"]: lane for lane in report["lanes"]}
    check_ssh(lanes["E"], window)
    assert lanes["A"]["sweep_opens"]["random"] is False
    assert lanes["C"]["sweep_opens"]["random"] is False
    for name, port in (("C", 62201), ("E", 62204), ("F", 62205)):
        (packet,) = lanes[name]["wire"]
        assert packet.startswith(f"udp/{port}, ")
    for name, replayed in (("E", "duplicate: it came before"), ("F", "replayed: it was sent before")):
        why = lanes[name]["why"]
        assert why["replay_opens"].startswith(replayed)
        assert why["stale_opens"].startswith("stale: it is too old; its clock is ")
        assert why["future_opens"].startswith("ahead: it is dated ahead of us; its clock is ")
    assert lanes["F"]["why"]["ipv6"].endswith("it is the client that cannot: the gate takes IPv6")
    assert lanes["D"]["why"]["closes_without_daemon"].startswith("no process of this lane runs")
    assert report["sweep"]["ascending_per_s"] > 100


@pytest.mark.long
def test_lab_as_root_and_as_an_ordinary_user_at_once(scratch: Path) -> None:
    """Two labs side by side answer alike and leave nothing: no process, mount, namespace, file or rule."""
    users = [None, NOBODY] if IS_ROOT else [None, None]
    with Left(scratch / "home") as left:
        labs = [start(scratch, "--window", "4", "--json", "-", user=user) for user in users]
        for lab in labs:
            wait_for_stage(lab, "scanning before the knock")
            left.watch(lab)
        results = [finish(lab) for lab in labs]
    assert len(left.namespaces) > len(users) * 3
    for status, out, err in results:
        skip_if_forbidden(status, err)
        assert status == 0, err
        check(json.loads(out), 4)


@pytest.mark.long
@pytest.mark.parametrize("user", [None, NOBODY])
def test_lab_ten_times_in_a_row(scratch: Path, user: int | None) -> None:
    if user and not IS_ROOT:
        pytest.skip("needs root to become another user")
    with Left(scratch / "home"):
        for _ in range(10):
            status, out, err = finish(start(scratch, "--window", "4", "--json", "-", user=user))
            assert status == 0, err
            check(json.loads(out), 4)


def test_lab_for_people(scratch: Path) -> None:
    """The table has a row a question and a column a lane, in a file the JSON, on stderr the progress."""
    file = scratch / "home" / "out.json"
    status, out, err = finish(start(scratch, "--window", "3", "--lanes", "a", "--json", str(file)))
    skip_if_forbidden(status, err)
    assert status == 0, err
    report = json.loads(file.read_text())
    assert [lane["lane"] for lane in report["lanes"]] == ["A"]
    for words in (
        "nftables, tcp/6500",
        "scan before",
        "daemon killed while open",
        "What you trade",
        "tcp/7000",
    ):
        assert words in out
    assert "a sequence carries no time" in " ".join(out.split())
    assert "waiting for door A to close by itself" in err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_lab_leaves_nothing(scratch: Path, how: signal.Signals) -> None:
    """However its outside ends, the inside ends with it."""
    with Left(scratch / "home") as left:
        lab = start(scratch, "--window", "15")
        wait_for_stage(lab, "knocking at door B")
        left.watch(lab)
        assert len(left.namespaces) > 3
        if how == signal.SIGINT:
            os.killpg(lab.pid, how)
        else:
            lab.send_signal(how)
        status, _, err = finish(lab, 30)
        assert status == (130 if how == signal.SIGINT else -how)
        assert "Traceback" not in err


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


def test_report_that_cannot_be_written_is_told_after_the_table(scratch: Path) -> None:
    status, out, err = finish(start(scratch, "--window", "3", "--lanes", "A", "--json", "/dev/full"))
    skip_if_forbidden(status, err)
    assert status == 2
    assert "daemon killed while open" in out
    assert "/dev/full cannot be written: No space left on device" in err
    assert "Traceback" not in err


def test_nothing_is_imported_from_the_users_folder(scratch: Path) -> None:
    """The inside may be root: a ``json.py`` that lies about is not its business."""
    (scratch / "json.py").write_text("raise SystemExit('imported from the current folder')\n")
    process = subprocess.run(
        [str(Path(sys.prefix) / "bin" / "knockdemo"), "lab", "--window", "3", "--lanes", "A", "--json", "-"],
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
    )
    skip_if_forbidden(process.returncode, process.stderr)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["ok"] is True


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
