"""The client: what it tells people, over loopback, and what it sends, in a network namespace of its own."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pty
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from knockdemo import client
from knockdemo.client import KnockError, Step

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "knock-client.py"
DEADLINE_S = 20.0
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # where nft and ip live, also for ordinary users


def run(*arguments: str, timeout_s: float = DEADLINE_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def closed_port() -> int:
    """A port of loopback on which nobody listens; below the range from which connections get theirs."""
    for port in range(20000, 30000):
        if client.probe("127.0.0.1", port) == client.probe("::1", port) == "closed":
            return port
    raise AssertionError("every port is taken")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        yield sock


# What it reads


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("8000", Step(8000, "tcp")),
        ("8000/tcp", Step(8000, "tcp")),
        ("8000/udp", Step(8000, "udp")),
        ("tcp/8000", Step(8000, "tcp")),
        ("UDP/8000", Step(8000, "udp")),
        ("1", Step(1)),
        ("65535", Step(65535)),
    ],
)
def test_a_port_is_read_in_every_spelling(text: str, step: Step) -> None:
    assert client.parse_step(text) == step
    assert client.parse_step(str(step)) == step


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("0", "1 to 65535"),
        ("65536", "1 to 65535"),
        ("99999999999", "1 to 65535"),
        ("-1", "1 to 65535"),
        ("+80", "1 to 65535"),
        ("8_0", "1 to 65535"),
        ("٨٠", "1 to 65535"),
        ("", "1 to 65535"),
        ("ssh", "1 to 65535"),
        ("udp", "1 to 65535"),
        ("udp/", "1 to 65535"),
        ("8000/", "8000/tcp or 8000/udp"),
        ("8000/sctp", "8000/tcp or 8000/udp"),
        ("tcp/udp", "1 to 65535"),
        ("8000:udp", "after a slash"),
        ("7000,8000, 9000", "separate words: 7000 8000 9000"),
    ],
)
def test_what_is_no_port_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(KnockError, match="not a port") as raised:
        client.parse_step(text)
    assert hint in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("fe80::1%lo", "fe80::1%lo"),
        ("[fe80::1%lo]", "fe80::1%lo"),
    ],
)
def test_a_literal_address_keeps_its_meaning(host: str, address: str) -> None:
    assert client.resolve(host) == address


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ([], "the following arguments are required: HOST", "--help"),
        (["127.0.0.1", "70000"], "not a port: '70000'", "1 to 65535"),
        (["127.0.0.1", "--check", "70000"], "not a port: '70000'", "1 to 65535"),
        (["127.0.0.1", "--check", "53/udp"], "cannot check 53/udp", "TCP port"),
        (["127.0.0.1", "--delay", "soon"], "not a number of milliseconds: 'soon'", "from 0 to"),
        (["127.0.0.1", "--delay", "nan"], "not a number of milliseconds: 'nan'", "from 0 to"),
        (["127.0.0.1", "--delay=-1"], "not a number of milliseconds: '-1'", "from 0 to"),
        (["127.0.0.1", "--timeout", "0"], "not a number of seconds: '0'", "from 0.001 to"),
        (["127.0.0.1", "--quiet"], "unrecognized arguments: --quiet", "--help"),
        (["127.0.0.1", "-4", "-6"], "not allowed with", "--help"),
        (["host.invalid"], "unknown host 'host.invalid'", "spelling"),
        (["two..dots"], "unknown host 'two..dots'", "spelling"),
        (["127.0.0.1:7000"], "unknown host '127.0.0.1:7000'", "words of their own"),
        (["::1", "-4"], "unknown host '::1'", "IPv6 address; leave out -4"),
        (["fe80::1%lo", "-4"], "unknown host", "IPv6 address; leave out -4"),
        (["fe80::1"], "link-local", "fe80::1%eth0"),
        (["fe80::1%nowhere"], "unknown host", "name of the interface"),
        (["127.0.0.1", "--source", "203.0.113.9"], "'203.0.113.9' is not an address of this machine", "list"),
        (["127.0.0.1", "--source", "pi"], "'pi' is not an address of this machine", "list"),
        (["127.0.0.1", "--source", "::1"], "unknown host '127.0.0.1'", "--source of the same family"),
    ],
)
def test_a_mistake_is_one_line_and_a_hint(arguments: list[str], message: str, hint: str) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert first.startswith("knock-client: ")
    assert message in first
    assert not first.endswith(".")
    assert second.startswith("  hint: ")
    assert hint in second


def test_an_empty_host_is_refused() -> None:
    assert run("").stderr == "knock-client: the host is empty\n"


def test_help_is_a_page_with_exit_status_and_examples() -> None:
    result = run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for part in ("usage: knock-client", "--check PORT", "exit status:", "examples:", "7000 8000 9000"):
        assert part in result.stdout


# One file, alone


def test_the_script_is_the_module() -> None:
    assert SCRIPT.is_symlink()
    assert SCRIPT.resolve() == Path(client.__file__).resolve()


def test_runs_as_a_lone_copy_on_a_bare_python(tmp_path: Path) -> None:
    copy = tmp_path / "knock-client.py"
    shutil.copy(SCRIPT, copy)
    result = subprocess.run(
        [sys.executable, "-I", "-S", copy, "127.0.0.1", "--delay", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "knocked at 127.0.0.1: 7000/tcp 8000/tcp 9000/tcp\n"


def test_imports_the_standard_library_only() -> None:
    imported = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "knockdemo").partition(".")[0])
    assert "socket" in imported
    assert imported <= sys.stdlib_module_names


def test_no_neighbour_hides_the_standard_library() -> None:
    # Run through the link, the script has its own folder first on the path (Python resolves the link).
    neighbours = {path.stem for path in Path(client.__file__).parent.iterdir()} - {"__init__", "__main__"}
    assert "client" in neighbours
    assert not neighbours & sys.stdlib_module_names


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


# The wire, in a network namespace of our own

SNIFFER = """
import json, select, socket, sys, time
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
sniffer.bind((sys.argv[1], 0))
wanted = socket.PACKET_OUTGOING if sys.argv[1] == "lo" else socket.PACKET_HOST
mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
while True:
    for source in select.select([sniffer, sys.stdin], [], [])[0]:
        if source is sys.stdin:
            if not sys.stdin.readline():
                sys.exit()
            mark.sendto(b"mark", ("127.0.0.1", 9))
            continue
        packet, address = sniffer.recvfrom(65535)
        if address[2] != wanted:
            continue
        if packet[0] >> 4 == 4:
            family, protocol, body = socket.AF_INET, packet[9], packet[(packet[0] & 15) * 4 :]
            ends = packet[12:16], packet[16:20]
        elif packet[0] >> 4 == 6:
            family, protocol, body = socket.AF_INET6, packet[6], packet[40:]
            ends = packet[8:24], packet[24:40]
        else:
            continue
        if protocol not in (6, 17):
            continue
        print(json.dumps([
            time.monotonic(), "tcp" if protocol == 6 else "udp",
            *(socket.inet_ntop(family, end) for end in ends), int.from_bytes(body[2:4], "big"),
            body[13] if protocol == 6 else 0, body[8:].hex() if protocol == 17 else "",
        ]), flush=True)
"""

SYN = 0x02


class Packet(NamedTuple):
    """One packet as it was seen leaving; ``seen_at`` is monotonic seconds."""

    seen_at: float
    protocol: str
    source: str
    target: str
    port: int
    flags: int
    payload: str

    @property
    def step(self) -> str:
        return f"{self.port}/{self.protocol}"


class Wire:
    """Every packet that leaves one interface of a namespace, in order."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.lines.get(timeout=DEADLINE_S) == "ready\n"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def next(self) -> Packet:
        return Packet(*json.loads(self.lines.get(timeout=DEADLINE_S)))

    def openings(self) -> Iterator[Packet]:
        """What a knock daemon looks at: SYNs and datagrams, as they come."""
        while True:
            packet = self.next()
            if packet.protocol == "udp" or packet.flags == SYN:
                yield packet

    def until_now(self) -> list[Packet]:
        """All openings so far: up to a mark that is sent now (on loopback)."""
        assert self.process.stdin is not None
        self.process.stdin.write("mark\n")
        self.process.stdin.flush()
        found: list[Packet] = []
        for packet in self.openings():
            if packet.payload == b"mark".hex():
                return found
            found.append(packet)
        raise AssertionError("never ends")


class Host:
    """A machine: a network namespace with loopback up and two more addresses on it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        script = (
            "ip link set lo up && ip address add fd00::1/128 dev lo nodad"
            " && ip address add fd00::2/128 dev lo nodad && echo ready && exec cat"
        )
        self.holder = self._start(["unshare", "-Urn", "sh", "-c", script], stderr=subprocess.STDOUT)
        assert self.holder.stdout is not None
        line = self.holder.stdout.readline()
        if line != "ready\n":
            pytest.skip(f"no network namespace of our own here: {line.strip()}")

    def _start(self, command: list[str], **keywords: Any) -> subprocess.Popen[str]:  # noqa: ANN401
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PATH": PATH},
            **keywords,
        )

        def end() -> None:
            with process:
                process.kill()

        self.stack.callback(end)
        return process

    def inside(self, *command: str | Path) -> list[str]:
        enter = ["nsenter", "--preserve-credentials", "-U", "-n", "-t", str(self.holder.pid), "--"]
        return enter + [str(word) for word in command]

    def start(self, *command: str | Path) -> subprocess.Popen[str]:
        return self._start(self.inside(*command), stderr=subprocess.PIPE)

    def run(self, *command: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.inside(*command),
            input=text,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env=os.environ | {"PATH": PATH},
        )

    def do(self, *command: str) -> None:
        """Run a set-up step, which must succeed."""
        result = self.run(*command)
        assert result.returncode == 0, f"{command}: {result.stderr}"

    def knock(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, SCRIPT, *arguments)

    def wire(self, interface: str = "lo") -> Wire:
        return Wire(self.start(sys.executable, "-c", SNIFFER, interface))

    def nft(self, rules: str) -> None:
        if shutil.which("nft", path=PATH) is None:
            pytest.skip("nft is not installed")
        result = self.run("nft", "-f", "-", text=rules)
        assert result.returncode == 0, result.stderr

    def drop(self, ports: str) -> None:
        """A firewall that is silent about TCP to these ports."""
        self.nft(f"""
            table inet test {{
                chain input {{
                    type filter hook input priority filter; policy accept;
                    tcp dport {{ {ports} }} drop
                }}
            }}""")


@pytest.fixture
def host() -> Iterator[Host]:
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"{program} is not installed")
    with contextlib.ExitStack() as stack:
        yield Host(stack)


@pytest.mark.parametrize(
    ("address", "source"), [("127.0.0.1", "127.0.0.1"), ("fd00::1", "fd00::1"), ("::1", "::1")]
)
@pytest.mark.parametrize("is_filtered", [False, True])
def test_one_step_is_one_packet_in_order(host: Host, address: str, source: str, is_filtered: bool) -> None:
    if is_filtered:
        host.drop("7000, 9000")
    wire = host.wire()
    result = host.knock(address, "7000", "8000/udp", "9000", "7000", "--delay", "50")
    assert result.returncode == 0, result.stderr
    seen = wire.until_now()
    assert [packet.step for packet in seen] == ["7000/tcp", "8000/udp", "9000/tcp", "7000/tcp"]
    assert [packet.flags for packet in seen] == [SYN, 0, SYN, SYN]
    assert [packet.payload for packet in seen] == ["", "00", "", ""]
    assert {(packet.source, packet.target) for packet in seen} == {(source, address)}


def test_the_delay_is_kept_between_steps(host: Host) -> None:
    wire = host.wire()
    assert host.knock("127.0.0.1", "--delay", "300").returncode == 0
    slow = [packet.seen_at for packet in wire.until_now()]
    assert host.knock("127.0.0.1", "--delay", "0").returncode == 0
    fast = [packet.seen_at for packet in wire.until_now()]
    assert len(slow) == len(fast) == 3
    # Half of it, because the watcher's own times are late by what the machine's load makes them.
    assert min(slow[1] - slow[0], slow[2] - slow[1]) > 0.15
    assert fast[2] - fast[0] < 0.15


@pytest.mark.parametrize(("address", "source"), [("127.0.0.1", "127.0.0.7"), ("fd00::1", "fd00::2")])
def test_the_source_is_honoured_in_every_packet(host: Host, address: str, source: str) -> None:
    wire = host.wire()
    arguments = ["7000", "8000/udp", "--delay", "1", "--check", "6500", "--timeout", "0.1", "--json"]
    result = host.knock(address, *arguments, "--source", source)
    assert (result.returncode, json.loads(result.stdout)["source"]) == (1, source)
    seen = wire.until_now()
    assert {packet.step for packet in seen} == {"7000/tcp", "8000/udp", "6500/tcp"}
    assert {packet.source for packet in seen} == {source}
    result = host.knock(address, *arguments)
    assert (result.returncode, json.loads(result.stdout)["source"]) == (1, address)
    assert {packet.source for packet in wire.until_now()} == {address}


def test_no_syn_is_ever_repeated(host: Host) -> None:
    """Beside a connection that is left open: the kernel repeats its SYN after 1 s."""
    host.drop("7000, 8000, 9000, 9999")
    wire = host.wire()
    assert host.knock("127.0.0.1", "--delay", "10").returncode == 0
    assert [packet.port for packet in wire.until_now()] == [7000, 8000, 9000]
    host.start(sys.executable, "-c", 'import socket; socket.socket().connect(("127.0.0.1", 9999))')
    # By the time that the control is repeated, any repetition of the knock would have come.
    openings = wire.openings()
    assert [next(openings).port, next(openings).port] == [9999, 9999]


def test_probes_start_after_the_knock_and_see_the_door_open(host: Host) -> None:
    host.drop("6500")
    wire = host.wire()
    listen = (
        'import socket; s = socket.create_server(("127.0.0.1", 6500)); print("ready", flush=True); s.accept()'
    )
    service = host.start(sys.executable, "-c", listen)
    assert service.stdout is not None
    assert service.stdout.readline() == "ready\n"
    knocking = host.start(
        sys.executable, SCRIPT, "127.0.0.1", "--delay", "10", "--check", "6500", "--timeout", "15", "--json"
    )
    seen: list[Packet] = []
    for packet in wire.openings():
        seen.append(packet)
        if len(seen) == 10:
            break
    assert [packet.port for packet in seen] == [7000, 8000, 9000] + [6500] * 7
    opening_at = time.monotonic()
    host.nft("flush chain inet test input")
    out, err = knocking.communicate(timeout=DEADLINE_S)
    ended_at = time.monotonic()
    assert (knocking.returncode, err) == (0, "")
    check = json.loads(out)["check"]
    assert check["open"] is True
    # It counts from the last knock: neither shorter than the door was shut nor longer than the wait was.
    assert opening_at - seen[2].seen_at <= check["ms"] / 1000 <= ended_at - seen[1].seen_at


@pytest.mark.parametrize("address", ["127.0.0.1", "fd00::1"])
def test_check_calls_silence_filtered_and_refusal_closed(host: Host, address: str) -> None:
    host.drop("6500")
    result = host.knock(address, "--delay", "1", "--check", "6500", "--timeout", "1.2")
    assert result.returncode == 1
    # 1.2 s and what a busy machine adds to it.
    assert re.match(r"6500/tcp is still filtered, 1\.[2-9] s", result.stdout.splitlines()[1])
    assert result.stderr.startswith("  hint: wrong ports, a lost or reordered packet")
    result = host.knock(address, "--delay", "1", "--check", "6501", "--timeout", "0.2")
    assert result.returncode == 1
    assert result.stdout.splitlines()[1].startswith("6501/tcp is still closed, 0.2 s")


def test_an_icmp_error_is_not_an_open_door(host: Host) -> None:
    host.nft("""
        table inet test {
            chain input {
                type filter hook input priority filter; policy accept;
                tcp dport 6500 reject with icmpx admin-prohibited
            }
        }""")
    result = host.knock("127.0.0.1", "--delay", "1", "--check", "6500", "--timeout", "0.2", "--json")
    assert (result.returncode, json.loads(result.stdout)["check"]["state"]) == (1, "filtered")


def test_a_connection_to_itself_is_not_an_open_door(host: Host) -> None:
    """With one port to send from, a probe of that port over loopback connects to itself."""
    host.do("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40000")
    itself = """if 1:
        import socket
        sock = socket.socket()
        sock.settimeout(5)
        sock.connect(("127.0.0.1", 40000))
        print(sock.getsockname() == sock.getpeername())"""
    assert host.run(sys.executable, "-c", itself).stdout == "True\n"
    probe = "import sys; sys.path.insert(0, sys.argv[1]); import client; print(client.probe('::1', 40000))"
    assert host.run(sys.executable, "-c", probe, SCRIPT.resolve().parent).stdout == "closed\n"


@pytest.mark.parametrize(
    ("arguments", "step", "reason", "hint"),
    [
        (["203.0.113.9"], "step 1 (7000/tcp)", "network is unreachable", "no way to 203.0.113.9"),
        (["2001:db8::9", "5/udp"], "step 1 (5/udp)", "network is unreachable", "no way to 2001:db8::9"),
        (["192.0.2.9"], "step 1 (7000/tcp)", "no route to host", "no way to 192.0.2.9"),
        (["198.51.100.9"], "step 1 (7000/tcp)", "permission denied", "policy"),
        (["127.0.0.1", "7000", "7001/udp"], "step 2 (7001/udp)", "operation not permitted", "firewall"),
    ],
)
def test_a_knock_that_cannot_leave_names_its_step(
    host: Host, arguments: list[str], step: str, reason: str, hint: str
) -> None:
    host.do("ip", "route", "add", "unreachable", "192.0.2.0/24")
    host.do("ip", "route", "add", "prohibit", "198.51.100.0/24")
    host.nft("""
        table inet test {
            chain output {
                type filter hook output priority filter; policy accept;
                udp dport 7001 drop
            }
        }""")
    result = host.knock(*arguments, "--delay", "1")
    assert (result.returncode, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert first == f"knock-client: {step} could not be sent to {arguments[0]}: {reason}"
    assert hint in second
    assert host.knock("127.0.0.1", "7000", "7002/udp", "--delay", "1").returncode == 0


def test_the_first_knock_arrives_where_the_neighbour_is_not_yet_known(host: Host) -> None:
    """Closing at once must not lose a SYN that waits for ARP: it does not, and the order is kept."""
    with contextlib.ExitStack() as stack:
        # A second namespace inside the first one's rights, joined by a cable.
        other = Host.__new__(Host)
        other.stack = stack
        other.holder = other._start(host.inside("unshare", "-n", "sh", "-c", "echo ready && exec cat"))
        assert other.holder.stdout is not None
        assert other.holder.stdout.readline() == "ready\n"
        host.do(
            "ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(other.holder.pid)
        )
        for end, name, address in ((host, "near", "10.9.9.1/24"), (other, "far", "10.9.9.2/24")):
            end.do("ip", "address", "add", address, "dev", name)
            end.do("ip", "link", "set", name, "up")
        wire = other.wire("far")
        assert "10.9.9.2" not in host.run("ip", "neighbour").stdout
        assert host.knock("10.9.9.2", "7000", "8000/udp", "9000", "--delay", "0").returncode == 0
        openings = wire.openings()
        assert [next(openings).step for _ in range(3)] == ["7000/tcp", "8000/udp", "9000/tcp"]
