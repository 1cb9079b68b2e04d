"""``up --confirm``: whatever happens to the one who asked, the table is rolled back or confirmed."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.knockgate.cli.gates import SSH, WEB, Host, gate, status, table
from tests.knockgate.cli.process import command, environment, knockgate, started
from tests.knockgate.cli.process import process as alone
from tests.netns import isolated, run, until


def begun(file: str, time: str = "20s", **popen: object) -> subprocess.Popen[str]:
    """`up --confirm` with nobody typing, once the table is in force."""
    reader, writer = os.pipe()
    process = started(
        ["up", "--confirm", time, file], stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen
    )
    os.close(reader)
    os.set_inheritable(writer, False)  # nobody types, and nobody ends typing
    assert process.stdout
    assert "on trial for " in process.stdout.readline()
    return process


def keeper() -> int:
    """The process that keeps the time: the one with a session of its own that is not the test's."""
    for number in range(2, 4000):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(number) == number:
                return number
    raise AssertionError("there is none")


def parts(listing: str) -> list[str]:
    """A listing's sets, maps and chains in an order of our own: what was deleted and made anew comes last."""
    return sorted(part.strip("\n}") for part in listing.split("\n\n"))


@isolated
def test_closed_input_and_output_do_not_end_it(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH)
    shell = ["sh", "-c", 'exec "$@" <&- >&-', "sh", *command("up", "--confirm", "30s", file)]
    with subprocess.Popen(shell, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        until(lambda: status(file)["trial"] and status(file)["loaded"], "a trial")
        assert process.poll() is None
        assert knockgate("confirm", file).returncode == 0
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "rolled back" not in err, err
    assert status(file)["loaded"]


@isolated
def test_not_confirmed_in_time_there_is_no_table_again(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, SSH)
    process = begun(file, "1s")
    assert host.seen() == "filtered"
    begin = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - begin > 0.3
    assert (process.returncode, out, err) == (1, "not confirmed in time: rolled back\n", "")
    assert table() == "" and host.seen() == "open"


@isolated
def test_what_comes_back_is_what_was_there_with_its_leases(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, SSH)
    assert knockgate("up", file).returncode == 0
    assert knockgate("open", "ssh", "10.9.9.2", "--config", file).returncode == 0
    run("nft", "delete", "element", "inet", "knockgate", "grace", "{ tcp }")
    listing = ["nft", "-s", "-t", "list", "table", "inet", "knockgate"]
    before = run(*listing)
    maps = run("nft", "-s", "list", "map", "inet", "knockgate", "ports")
    changed = SSH.replace("7000", "7100").replace("[doors.ssh.s", 'lease = "7s"\n[doors.ssh.s')
    process = begun(gate(tmp_path, changed, WEB))
    assert host.seen(443) == "filtered"
    assert parts(run(*listing)) != parts(before)
    assert knockgate("open", "web", "10.9.9.2", "--config", file).returncode == 0
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "taken back: rolled back\n")
    assert parts(run(*listing)) == parts(before)
    assert run("nft", "-s", "list", "map", "inet", "knockgate", "ports") == maps
    leases = {lease["port"]: lease["left"] for lease in status(file)["leases"]}
    assert leases.keys() == {"tcp/22", "tcp/443", "udp/443"} and leases["tcp/22"] > 3000
    assert host.seen() == "open" and host.seen(443) == "open"
    assert knockgate("close", "ssh", "--all", "--config", gate(tmp_path, SSH)).returncode == 0
    assert host.seen() == "filtered"


@pytest.mark.parametrize("how", ["typed", "said"])
@isolated
def test_confirmed_it_stays(tmp_path: Path, how: str) -> None:
    host = Host()
    file = gate(tmp_path, SSH)
    if how == "typed":
        done = alone("up", "--confirm", "20s", file, text="what?\nyes\n")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[1] == "confirmed: it stays"
    else:
        process = begun(file)
        done = knockgate("confirm", file)
        assert (done.returncode, done.stdout) == (0, "confirmed: it stays\n")
        out, _ = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "confirmed: it stays\n")
    assert host.seen() == "filtered"
    late = knockgate("confirm", file)
    assert late.returncode == 1
    assert "there is nothing on trial" in late.stderr
    assert host.seen() == "filtered"


@isolated
def test_killed_it_is_rolled_back_all_the_same(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, SSH)
    process = begun(file, "2s")
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert host.seen() == "filtered"  # for its time it goes on: one may still come in by knocking
    assert status(file)["trial"] > 0
    until(lambda: table() == "", "it is rolled back")
    assert host.seen() == "open"
    assert knockgate("confirm", file).returncode == 1


@isolated
def test_killed_it_can_be_confirmed_from_elsewhere(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, SSH)
    process = begun(file, "2s")
    begin = time.monotonic()
    process.kill()
    process.communicate(timeout=30)
    assert knockgate("confirm", file).returncode == 0
    assert status(file)["trial"] is None
    until(lambda: time.monotonic() > begin + 2.2, "its time is over")
    assert host.seen() == "filtered"


@isolated
def test_the_terminal_that_goes_away_takes_nothing_with_it(tmp_path: Path) -> None:
    """As when the connection is cut: the session gets SIGHUP, the terminal no longer answers."""
    host = Host()
    file = gate(tmp_path, SSH)
    child, terminal = pty.fork()
    if child == 0:
        words = command("up", "--confirm", "6s", file)
        os.execvpe(words[0], words, environment())  # noqa: S606 - a child of a terminal of its own
    until(lambda: table() != "", "it is loaded")
    os.close(terminal)
    os.waitpid(child, 0)
    assert host.seen() == "filtered"
    until(lambda: table() == "", "it is rolled back")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@isolated
def test_without_its_keeper_it_is_rolled_back_at_once(tmp_path: Path, number: signal.Signals) -> None:
    host = Host()
    process = begun(gate(tmp_path, SSH))
    assert host.seen() == "filtered"
    os.kill(keeper(), number)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 1
    why = "the process that kept the time was killed" if number == signal.SIGKILL else "the session was ended"
    assert out == f"{why}: rolled back\n"
    assert host.seen() == "open"


@isolated
def test_while_one_waits_nothing_else_is_done(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH)
    process = begun(file)
    before = table()
    for words in (["up", "--confirm", "5s"], ["up"], ["down"], ["run"]):
        done = knockgate(*words, file)
        assert done.returncode == 2
        assert done.stderr.startswith("knockgate: an `up --confirm` is waiting for its answer\n  hint: ")
    assert table() == before
    told = knockgate("status", file).stdout
    assert "on trial: rolled back in " in told
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert table() == ""
    assert alone("up", "--confirm", "5s", file, text="yes\n").returncode == 0  # and now it is


@isolated
def test_what_cannot_be_loaded_is_not_on_trial(tmp_path: Path) -> None:
    run("nft", "table inet knockgate { chain guard { type filter hook input priority 0; }; }")
    before = table()
    file = gate(tmp_path, SSH)
    done = alone("up", "--confirm", "5s", file)
    assert done.returncode == 2
    assert table() == before
    assert knockgate("confirm", file).returncode == 1
    assert status(file)["trial"] is None


@isolated
def test_a_terminal_shows_the_time_and_takes_the_answer(tmp_path: Path) -> None:
    near, far = pty.openpty()
    words = command("up", "--confirm", "30s", gate(tmp_path, SSH))
    with subprocess.Popen(words, env=environment(TERM="xterm"), stdin=far, stdout=far, stderr=far) as process:
        shown = b""
        while b"29 s" not in shown:
            shown += os.read(near, 4096)
        assert b"type yes to keep it" in shown
        assert b"[" + b"#" * 40 + b"]  30 s" in shown
        os.write(near, b"no\nyes\n")
        process.wait(timeout=30)
    os.close(far)
    while b"it stays" not in shown:
        shown += os.read(near, 4096)
    os.close(near)
    assert process.returncode == 0
    assert shown.count(b"type yes to keep it") == 2


@isolated
def test_what_systemd_is_starting_would_take_it_over(tmp_path: Path) -> None:
    """Nobody answers yet, and the table would be owned by somebody else when it is to be rolled back."""
    file = gate(tmp_path, SSH)
    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\necho activating\n")
    systemctl.chmod(0o755)
    shell = ["env", f"PATH={tmp_path}:{os.environ['PATH']}", *command("up", "--confirm", "1s", file)]
    done = subprocess.run(shell, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2 and table() == "", done.stdout
    assert "knockgate-warden.service is being started, and would take over" in done.stderr
    systemctl.write_text("#!/bin/sh\necho inactive\n")  # control
    assert "on trial for 1s\nnot confirmed in time: rolled back" in run(*shell, check=False)
