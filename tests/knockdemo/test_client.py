"""The client over loopback: what it tells people, and what programs get of it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.knockdemo.knocking import (
    DEADLINE_S,
    SCRIPT,
    closed_port,
    run,
)

from knockdemo import client
from knockdemo.client import Step


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        yield sock


# Loopback: results and exit status


@pytest.mark.parametrize(
    ("address", "ports"), [("127.0.0.1", ["7000", "8000/udp"]), ("::1", ["udp/7000", "8000"])]
)
def test_a_refused_knock_is_a_knock(address: str, ports: list[str]) -> None:
    result = run(address, *ports, "--delay", "1")
    steps = " ".join(str(client.parse_step(port)) for port in ports)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"knocked at {address}: {steps}\n", "")


def test_ports_may_stand_between_options_and_steps_are_told() -> None:
    result = run("-v", "localhost", "7000", "--delay", "1", "8000/udp", "-4")
    assert result.returncode == 0
    assert result.stdout == "knocked at localhost (127.0.0.1): 7000/tcp 8000/udp\n"
    assert result.stderr == "knock-client: step 1 of 2: 7000/tcp\nknock-client: step 2 of 2: 8000/udp\n"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_check_says_whether_it_opened(listener: socket.socket, address: str) -> None:
    port = str(listener.getsockname()[1])
    result = run(address, "7000", "--delay", "1", "--check", port)
    assert (result.returncode, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first == f"knocked at {address}: 7000/tcp"
    assert second.startswith(f"{port}/tcp is open, ")
    assert second.endswith(" ms after the last knock")

    port = str(closed_port())
    result = run(address, "7000", "--delay", "1", "--check", port, "--timeout", "0.2")
    assert result.returncode == 1
    assert result.stdout.splitlines()[1] == f"{port}/tcp is still closed, 0.2 s after the last knock"
    assert result.stderr.startswith("  hint: the host refuses")


def test_json_is_one_object_whatever_the_answer(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    result = run("[::1]", "7000", "8000/udp", "--delay", "1", "--check", str(port), "--json")
    assert (result.returncode, result.stderr) == (0, "")
    said = json.loads(result.stdout)
    milliseconds = said["check"].pop("ms")
    assert 0 < milliseconds < DEADLINE_S * 1000
    assert said == {
        "host": "[::1]",
        "address": "::1",
        "source": "::1",
        "steps": ["7000/tcp", "8000/udp"],
        "check": {"port": port, "open": True, "state": "open"},
    }
    port = closed_port()
    result = run("127.0.0.1", "7000", "--check", str(port), "--timeout", "0.1", "--json")
    assert (result.returncode, result.stderr) == (1, "")
    assert json.loads(result.stdout)["check"] == {"port": port, "open": False, "state": "closed", "ms": None}
    result = run("127.0.0.1", "7000", "--json")
    assert (result.returncode, json.loads(result.stdout)["check"]) == (0, None)


def test_ctrl_c_is_quiet() -> None:
    command = [
        sys.executable,
        str(SCRIPT),
        "127.0.0.1",
        "7000",
        "-v",
        "--check",
        str(closed_port()),
        "--timeout",
        "60",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "knock-client: step 1 of 1: 7000/tcp\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_left_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        result = subprocess.run(
            [sys.executable, SCRIPT, "127.0.0.1", "--delay", "0"],
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
            check=False,
        )
    assert (result.returncode, result.stderr) == (141, b"")


def test_waiting_is_shown_on_a_terminal_only() -> None:
    arguments = ["127.0.0.1", "7000", "--check", str(closed_port()), "--timeout", "0.6", "--json"]
    ours, theirs = pty.openpty()
    shown = b""
    command = [sys.executable, str(SCRIPT), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # EIO is how a terminal says that the other side has closed
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["check"]["open"] is False
    assert b"waiting for " in shown
    assert shown.endswith(b"\r" + b" " * 60 + b"\r")  # and the line is gone in the end
    assert run(*arguments).stderr == ""


# Loopback: the functions


def test_a_name_is_resolved_once_for_the_whole_knock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name whose address changes with each question, and a listener behind each."""
    real = socket.getaddrinfo
    asked = []

    def rotating(host: str, *arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - stands in for any call
        if host == "many.example":
            asked.append(host)
            host = f"127.0.0.{len(asked)}"
        return real(host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", rotating)
    with contextlib.ExitStack() as stack:
        here = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = [sock.getsockname()[1] for sock in here]
        there = [stack.enter_context(socket.create_server(("127.0.0.2", port))) for port in ports]
        for sock in there:
            sock.settimeout(0)
        assert client.main(["many.example", *map(str, ports), "--delay", "1"]) == 0
        for sock in here:
            sock.settimeout(DEADLINE_S)
            sock.accept()[0].close()
        for sock in there:
            with pytest.raises(BlockingIOError):
                sock.accept()
    assert asked == ["many.example"]
    assert client.resolve("many.example") == "127.0.0.2"  # it does rotate


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_probe_tells_open_from_closed(listener: socket.socket, address: str) -> None:
    assert client.probe(address, listener.getsockname()[1]) == "open"
    assert client.probe(address, closed_port()) == "closed"


def test_probe_calls_silence_filtered() -> None:
    """A listener whose queue is full drops the SYN, on Linux, as a firewall would."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = sock.getsockname()[1]
        assert client.probe("127.0.0.1", port, timeout_s=0.2) == "open"
        assert client.probe("127.0.0.1", port, timeout_s=0.2) == "filtered"
        sock.accept()[0].close()
        assert client.probe("127.0.0.1", port, timeout_s=0.2) == "open"


def test_wait_open_goes_on_after_refusals() -> None:
    port = closed_port()
    begin = time.monotonic()
    looks_at: list[float] = []
    with contextlib.ExitStack() as stack:

        def open_at_the_fifth_look(_: float) -> None:
            looks_at.append(time.monotonic())
            if len(looks_at) == 5:
                stack.enter_context(socket.create_server(("127.0.0.1", port)))

        answer = client.wait_answer(
            "127.0.0.1", port, timeout_s=DEADLINE_S, since=begin, on_wait=open_at_the_fifth_look
        )
    assert answer.state == "open"
    assert looks_at[4] - begin <= answer.after_s <= time.monotonic() - begin


def test_wait_open_gives_up_at_its_time(listener: socket.socket) -> None:
    assert client.wait_open("127.0.0.1", listener.getsockname()[1], timeout_s=0.2) is not None
    begin = time.monotonic()
    assert client.wait_open("127.0.0.1", closed_port(), timeout_s=0.2) is None
    assert 0.2 <= time.monotonic() - begin < DEADLINE_S / 2


def test_knock_waits_no_longer_than_the_answer_to_its_last_step() -> None:
    begin = time.monotonic()
    client.knock("127.0.0.1", [Step(closed_port())], delay_s=0.25)  # refused at once
    assert time.monotonic() - begin < 0.2
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        begin = time.monotonic()
        left_at = client.knock("127.0.0.1", [Step(deaf.getsockname()[1], "udp")], delay_s=0.25)
        assert time.monotonic() - begin >= 0.25  # silence: the delay it is
        assert begin <= left_at < begin + 0.2


def test_local_address_is_what_the_host_will_see() -> None:
    assert client.local_address("127.0.0.1") == "127.0.0.1"
    assert client.local_address("127.0.0.1", "127.0.0.7") == "127.0.0.7"
    assert client.local_address("::1") == "::1"
