"""``knockgate connect``: when it knocks, at whom, by which connection it goes on, and how it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import socket
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.knockgate.cli.process import command, knockgate, profiles_in, started_at_home
from tests.knockgate.client.wire import Wire, wire
from tests.netns import DEADLINE, isolated, own_mounts, run, until, up

PORT = 6500
SHUT = f"table inet test {{ chain door {{ type filter hook input priority 0; tcp dport {PORT} drop; }}; }}"
OPEN = ["nft", "flush", "chain", "inet", "test", "door"]
PROFILES = """
[profiles.home]
host = "127.0.0.1"
steps = ["20001", "udp/20002"]
delay = "1ms"
[profiles.six]
host = "[::1]"
steps = ["20006"]
delay = "1ms"
[profiles.gate]
host = "127.0.0.9"
steps = ["20009"]
delay = "1ms"
[profiles.one]
host = "Twice.example"
steps = ["1"]
[profiles.two]
host = "twice.example"
steps = ["2"]
[profiles.far]
host = "192.0.2.1"
steps = ["1"]
[profiles.both]
host = "both.example"
steps = ["20011"]
delay = "1ms"
[profiles.named]
host = "localhost"
steps = ["20010"]
delay = "1ms"
"""
KNOCKS = ["tcp/20001", "udp/20002"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return profiles_in(tmp_path, PROFILES, monkeypatch)


@contextlib.contextmanager
def connecting(*words: str, **popen: Any) -> Iterator[subprocess.Popen[bytes]]:  # noqa: ANN401
    """`knockgate connect`, with pipes unless told otherwise."""
    with started_at_home(command("connect", *words), **popen) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def service(address: str = "127.0.0.1") -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, PORT), family=family) as listener:
        listener.settimeout(DEADLINE)
        yield listener


def goes_through(process: subprocess.Popen[bytes], listener: socket.socket) -> str:
    """A question and an answer, then the peer hangs up; returns where the connection came from."""
    served, source = listener.accept()
    with served:
        assert process.stdin and process.stdout
        process.stdin.write(b"question")
        process.stdin.flush()
        assert served.recv(99) == b"question"
        served.sendall(b"answer")
        assert os.read(process.stdout.fileno(), 99) == b"answer"
    assert process.wait(DEADLINE) == 0
    return str(source[0])


def said(process: subprocess.Popen[bytes]) -> str:
    assert process.stderr
    return process.stderr.read().decode()


# --- when it knocks -----------------------------------------------------------------------------------


@isolated
def test_a_port_that_answers_is_not_knocked_for() -> None:
    with wire() as seen, service() as listener:
        with connecting("home", str(PORT)) as process:
            goes_through(process, listener)
            assert said(process) == ""
        assert seen.steps() == [f"tcp/{PORT}"]
        assert no_more(listener)
        run("nft", SHUT)  # the control
        with connecting("home", str(PORT), "--timeout", "0.1") as process:
            assert process.wait(DEADLINE) == 1
            first, hint = said(process).splitlines()
        assert seen.steps()[:3] == [f"tcp/{PORT}", *KNOCKS]
    assert first.startswith(f"knockgate: tcp/{PORT} of 127.0.0.1 is still filtered, 0.1")
    assert hint.startswith("  hint: wrong steps")


def no_more(listener: socket.socket) -> bool:
    return not select.select([listener], [], [], 0)[0]


@isolated
def test_a_port_that_refuses_is_knocked_for() -> None:
    with wire() as seen, connecting("home", str(PORT), "--timeout", "0.1") as process:
        assert process.wait(DEADLINE) == 1
        assert seen.steps()[:3] == [f"tcp/{PORT}", *KNOCKS]
        first, hint = said(process).splitlines()
    assert "is still closed" in first and "its firewall rejects" in hint


@isolated
def test_the_connection_that_opened_is_the_one_that_is_used() -> None:
    """Many probes, one of which finds the door open: the service sees just that one."""
    run("nft", SHUT)
    with wire() as seen, service() as listener, connecting("-v", "home", str(PORT)) as process:
        probes = opened_after(20, seen)
        goes_through(process, listener)
        assert no_more(listener)
        before, knocked, opened = said(process).splitlines()
    assert probes > 20
    assert before == f"knockgate: tcp/{PORT} of 127.0.0.1 is filtered"
    assert knocked == "knockgate: knocked at 127.0.0.1 from 127.0.0.1: tcp/20001 udp/20002"
    assert opened.startswith(f"knockgate: tcp/{PORT} is open, ") and opened.endswith("after the last knock")


@isolated
def test_answers_that_come_late_make_no_connection() -> None:
    """As on a slow way: of many probes that the host has answered, the service gets the one that is used."""
    late = f"type filter hook output priority 0; tcp sport {PORT} tcp flags syn,ack / syn,ack drop"
    run("nft", f"table inet test {{ chain door {{ {late}; }}; }}")

    def half_open() -> int:
        return len(run("ss", "-Htn", "state", "syn-recv").splitlines())

    with wire() as seen, service() as listener, connecting("home", str(PORT)) as process:
        until(lambda: half_open() > 10, "the host has answered probes")
        opened_after(0, seen)
        goes_through(process, listener)
        until(lambda: not half_open(), "the host has given up the others")
        assert no_more(listener)


def opened_after(number: int, seen: Wire) -> int:
    """Open the door when so many probes have been sent; returns how many it were."""
    probes = 0

    def enough() -> bool:
        nonlocal probes
        probes += seen.steps().count(f"tcp/{PORT}")
        return probes > number

    until(enough, "probes are sent")
    run(*OPEN)
    return probes


def test_it_waits_as_long_as_told_or_else_longer_than_a_knock(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knockgate.cli.connect._PATIENCE", 0.3)
    for own, words, seconds in (
        ("0.6s", [], 0.6),
        ("0.2s", [], 0.3),
        ("20s", ["--timeout", "0.1"], 0.1),
    ):
        knock = f'steps = ["20001"]\ndelay = "0s"\ntimeout = "{own}"\n'
        home.write_text(f'[profiles.home]\nhost = "127.0.0.1"\n{knock}')
        done = knockgate("connect", "home", str(PORT), *words)
        assert done.returncode == 1
        waited = re.search(r"still closed, ([0-9.]+) s after", done.stderr)
        assert waited and seconds <= float(waited[1]) < 10, (own, words)


@isolated
def test_a_knock_that_cannot_leave_is_told() -> None:
    with connecting("far", str(PORT)) as process:
        assert process.wait(DEADLINE) == 2
        first, hint = said(process).splitlines()
    assert first.startswith(f"knockgate: the probe of tcp/{PORT} could not be sent to 192.0.2.1")
    assert hint.startswith("  hint: this machine has no way")


# --- at whom ------------------------------------------------------------------------------------------


@isolated
def test_by_name_by_host_or_as_told() -> None:
    up("lo", "127.0.0.9/8")
    for words, steps in (
        (["home"], KNOCKS),
        (["127.0.0.1"], KNOCKS),
        (["::1"], ["tcp/20006"]),
        (["LOCALHOST", "-4"], ["tcp/20010"]),
        (["127.0.0.1", "--profile", "gate"], ["tcp/20009"]),
        (["gate", "--profile", "gate"], ["tcp/20009"]),
    ):
        host, *options = words
        with wire() as seen, connecting(host, str(PORT), *options, "--timeout", "0.05") as process:
            assert process.wait(DEADLINE) == 1
            openings = seen.openings()
        ends = {opening.step.number == PORT: opening.target for opening in openings}
        assert [str(each.step) for each in openings if each.step.number != PORT] == steps
        elsewhere = words == ["127.0.0.1", "--profile", "gate"]
        assert ends[True] == ("127.0.0.1" if elsewhere else ends[False])
        assert (ends[False] == "127.0.0.9") is ("gate" in words)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (
            ["nowhere", "22"],
            "no profile is called nowhere, and none is for that host",
            "trust NAME nowhere CARD",
        ),
        (["twice.example", "22"], "several profiles are for twice.example: one, two", "--profile one"),
        (["home", "22", "--profile", "hom"], "--profile: no profile 'hom'", "did you mean home?"),
        (["home", "22", "--profile", "zzz"], "--profile: no profile 'zzz'", "there are: home, six"),
        (["home", "22", "-6"], "unknown host '127.0.0.1'", "IPv4"),
        (["home", "22", "--source", "192.0.2.1"], "'192.0.2.1' is not an address of", "ip -brief address"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_hint(words: list[str], message: str, hint: str) -> None:
    done = knockgate("connect", *words)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert message in first and hint in second


def test_without_any_profile(home: Path) -> None:
    home.unlink()
    done = knockgate("connect", "home", "22")
    assert (done.returncode, "no profile is called home" in done.stderr) == (2, True)
    done = knockgate("connect", "home", "22", "--profile", "home")
    assert (done.returncode, "there are: none" in done.stderr) == (2, True)


@isolated
def test_both_families_and_a_source(tmp_path: Path) -> None:
    own_mounts()
    (tmp_path / "hosts").write_text("127.0.0.1 both.example\n::1 both.example\n")
    run("mount", "--bind", str(tmp_path / "hosts"), "/etc/hosts")
    up("lo", "127.0.0.9/8")
    for words, address, source in (
        (["home"], "127.0.0.1", "127.0.0.1"),
        (["home", "--source", "127.0.0.9"], "127.0.0.1", "127.0.0.9"),
        (["six"], "::1", "::1"),
        (["both", "-4"], "127.0.0.1", "127.0.0.1"),
        (["both", "-6"], "::1", "::1"),
        (["both", "--source", "127.0.0.9"], "127.0.0.1", "127.0.0.9"),
    ):
        run("nft", SHUT)
        host, *options = words
        with (
            wire() as seen,
            service(address) as listener,
            connecting(host, str(PORT), *options) as process,
        ):
            opened_after(3, seen)
            assert goes_through(process, listener) == source


# --- how it ends --------------------------------------------------------------------------------------


def test_input_that_is_closed_from_the_beginning() -> None:
    with service() as listener, connecting("home", str(PORT), stdin=subprocess.DEVNULL) as process:
        ends_after_an_answer(process, listener)
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", *command("connect", "home", str(PORT))]
    with service() as listener, started_at_home(shell, stdin=None) as process:
        ends_after_an_answer(process, listener)


def ends_after_an_answer(process: subprocess.Popen[bytes], listener: socket.socket) -> None:
    served, _ = listener.accept()
    with served:
        assert served.recv(99) == b""
        served.sendall(b"answer")
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (0, b"answer", b"")


def test_output_that_is_closed_from_the_beginning() -> None:
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command("connect", "home", str(PORT))]
    with service() as listener, started_at_home(shell, stdout=None) as process:
        served, _ = listener.accept()
        with served:
            assert process.stdin
            process.stdin.write(b"all the same")
            process.stdin.flush()
            assert served.recv(99) == b"all the same"
            served.sendall(b"is anybody there?")
            assert process.wait(DEADLINE) == 0
        assert said(process) == ""


def test_a_connection_that_breaks_is_told() -> None:
    with service() as listener, connecting("home", str(PORT)) as process:
        served, _ = listener.accept()
        served.sendall(b"hello")
        assert process.stdout and process.stdout.read(5) == b"hello"
        served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        served.close()
        assert process.wait(DEADLINE) == 1
        reason = "connection reset by peer"
        assert said(process) == f"knockgate: the connection to tcp/{PORT} of home broke: {reason}\n"


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP), (signal.SIGINT, 130)],
)
def test_a_signal_ends_it_and_the_terminal_is_as_it_was(number: signal.Signals, status: int) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    terminal = {"stdin": theirs, "stdout": theirs}
    with service() as listener, connecting("home", str(PORT), **terminal) as process:
        served, _ = listener.accept()
        with served:
            served.sendall(b"hello\n")
            assert os.read(ours, 99) == b"hello\r\n"
            os.write(ours, b"typed\n")
            assert served.recv(99) == b"typed\n"
            assert fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK == 0
            process.send_signal(number)
            assert process.wait(DEADLINE) == status
            assert served.recv(99) == b""
        assert said(process).strip() == ""
    assert termios.tcgetattr(theirs) == before
    assert fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK == 0
    os.set_blocking(theirs, False)  # the control: what would be seen
    assert fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(ours)
    os.close(theirs)


@isolated
def test_several_at_once_each_knock() -> None:
    run("nft", SHUT)
    with contextlib.ExitStack() as stack:
        seen, listener = stack.enter_context(wire()), stack.enter_context(service())
        several = [stack.enter_context(connecting("home", str(PORT))) for _ in range(3)]
        knocked = 0

        def all_have() -> bool:
            nonlocal knocked
            knocked += seen.steps().count("udp/20002")
            return knocked == 3

        until(all_have, "three knocks")
        run(*OPEN)
        served = [listener.accept()[0] for _ in several]
        for each in served:
            each.close()
        for process in several:
            assert process.wait(DEADLINE) == 0
        assert threading.active_count() == 1
