"""The client as a process, a machine for it, and the wire that it knocks on."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from knockdemo import client

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
