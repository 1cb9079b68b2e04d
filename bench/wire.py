"""Host, wire and client; the client may come from any address; knockd, and floods of made-up sources."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import random
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator

from bench import packets
from bench.stage import FILES, mac_of, prefer, running
from knockdemo.lab.hosts import Site
from knockdemo.lab.wait import until
from knockgate.errors import Unavailable

__all__ = ["DOOR", "ENOUGH", "FAMILY", "KNOCKS", "ONE_SYN", "PORT", "Wire"]

PORT, KNOCKS = 6503, (7000, 8000, 9000)
DOOR = f"""
[doors.bench]
ports = ["tcp/{PORT}", "udp/{PORT}"]
lease = "1h"
sequence = {{ steps = ["tcp/7000", "tcp/8000", "tcp/9000"], within = "5s" }}
"""
KNOCKD = f"""\
[bench]
sequence = {",".join(map(str, KNOCKS))}
seq_timeout = 5
cmd_timeout = 1
start_command = /usr/sbin/iptables -I INPUT -s %IP% -p tcp --dport {PORT} -j ACCEPT
start_command_6 = /usr/sbin/ip6tables -I INPUT -s %IP% -p tcp --dport {PORT} -j ACCEPT
stop_command = /bin/true
tcpflags = syn
"""
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
#: Less than the second after which the kernel would send a SYN again: an attempt has one.
ONE_SYN = 0.9
#: A flood that did not arrive at this part of its rate is none.
ENOUGH = 0.9


class Wire:
    """Host, wire and client; the client may come from any address of two networks of its own."""

    def __init__(self, site: Site, args: argparse.Namespace) -> None:
        self.site, self.args = site, args
        host, client = site.host, site.client
        client.do(["ip", "route", "add", "local", "10.5.0.0/16", "dev", "lo"])
        client.do(["ip", "-6", "route", "add", "local", "2001:db8:5::/64", "dev", "lo"])
        client.do(["sysctl", "-qw", "net.ipv6.ip_nonlocal_bind=1"])
        host.do(["ip", "route", "add", "10.5.0.0/16", "via", client.address4])
        host.do(["ip", "-6", "route", "add", "2001:db8:5::/64", "via", client.address6])
        with host.inside():
            self.service = socket.create_server(
                ("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096
            )
            self.open_port = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
        self._number = 0

    def host_address(self, family: int) -> str:
        """The host's own, of that family."""
        return self.site.host.address4 if family == 4 else self.site.host.address6

    def source(self, family: int) -> str:
        """An address that has not been used yet."""
        self._number += 1
        high, low = divmod(self._number, 250)
        return f"10.5.{high}.{low + 1}" if family == 4 else f"2001:db8:5::{self._number:x}"

    def load(self, text: str) -> float:
        """Load a rule set on the host with nft; how long that took, in seconds."""
        began = time.perf_counter()
        done = self.site.host.run(["nft", "-f", "-"], stdin=text, timeout=120)
        if done.returncode:
            raise Unavailable(f"measurement failed: {done.stderr.strip()}")
        return time.perf_counter() - began

    def clear(self) -> None:
        """No rule on the host, no connection in the service's queue."""
        self.site.host.do(["nft", "flush", "ruleset"])
        self.service.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.service.accept()[0].close()

    def try_once(self, family: int, source: str, port: int = PORT) -> float | None:
        """One SYN from the client: seconds until it was accepted, None where it was not answered."""
        with socket.socket(FAMILY[family]) as sock:
            sock.bind((source, 0))
            sock.settimeout(ONE_SYN)
            began = time.perf_counter()
            try:
                sock.connect((self.host_address(family), port))
            except TimeoutError:
                return None
            took = time.perf_counter() - began
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # leave nothing waiting
            return took

    def knock(self, family: int, source: str, apart: float = 0.0) -> float:
        """The whole sequence, once, in the client's network; ``apart`` seconds between two knocks.

        Returns the monotonic time at which the last one left.
        """
        left_at = 0.0
        for number, port in enumerate(KNOCKS):
            if number and apart:
                time.sleep(apart)
            with socket.socket(FAMILY[family]) as sock:
                sock.bind((source, 0))
                sock.settimeout(0)
                left_at = time.monotonic()
                sock.connect_ex((self.host_address(family), port))
        return left_at

    def expect_shut(self, family: int) -> None:
        """To a stranger the door is shut, while another port answers."""
        source = self.source(family)
        with self.site.client.inside():
            until(lambda: self.try_once(family, source, 80) is not None, 10, "the host answers")
            if self.try_once(family, source) is not None:
                raise Unavailable("measurement failed: the door is open before anybody knocked")

    @contextlib.contextmanager
    def knockd(self) -> Iterator[int]:
        """The real knockd over iptables, the same sequence; yields its process."""
        self.clear()
        for tool in ("iptables", "ip6tables"):
            self.site.host.do([tool, "-A", "INPUT", "-p", "tcp", "--dport", str(PORT), "-j", "DROP"])
            self.site.host.do([tool, "-I", "INPUT", "-m", "state", "--state", "ESTABLISHED", "-j", "ACCEPT"])
        config, log = FILES / "knockd.conf", FILES / "knockd.log"
        config.write_text(KNOCKD)
        with log.open("wb") as output:
            argv = ["knockd", "-i", "eth0", "-c", str(config), "-v"]
            with running(self.site.host, argv, output.fileno()) as process:
                until(lambda: b"listening" in log.read_bytes() or process.poll() is not None, 10, "knockd")
                prefer(process.pid)
                yield process.pid
        self.clear()

    @contextlib.contextmanager
    def spoofed(self, family: int, seconds: float) -> Iterator[Callable[[], float]]:
        """A flood on the first knock port; yields a way to ask what rate has arrived since."""
        site = self.site
        argv = [sys.executable, "-m", "bench.spoofer", "--device", "to-host"]
        argv += ["--source-mac", mac_of(site.bystander, "br0").replace(":", "")]
        argv += ["--host-mac", mac_of(site.host, "eth0").replace(":", "")]
        argv += ["--host", self.host_address(family), "--port", str(KNOCKS[0])]
        argv += ["--rate", str(self.args.rate), "--seconds", str(seconds), "--core", str(self.args.cores[0])]
        said = FILES / "spoofer.log"
        with said.open("wb") as output, running(site.observer, argv, output.fileno()) as process:
            until(lambda: b"flowing" in said.read_bytes() or process.poll() is not None, 60, "a flood")
            prefer(process.pid)
            began, before = time.monotonic(), self.received()
            yield lambda: (self.received() - before) / (time.monotonic() - began)

    def received(self) -> int:
        """Packets that the host's interface received."""
        text = self.site.host.run(["cat", "/proc/net/dev"]).stdout
        found = re.search(r"eth0:\s*\d+\s+(\d+)", text)
        if not found:
            raise Unavailable("measurement failed: the host has no eth0")
        return int(found.group(1))

    def counter(self, name: str) -> int:
        """Packets that a counter of the table has seen."""
        text = self.site.host.run(["nft", "list", "counter", "inet", "knockgate", name]).stdout
        found = re.search(r"packets (\d+)", text)
        if not found:
            raise Unavailable(f"measurement failed: no counter {name}")
        return int(found.group(1))

    def path(self, source: str) -> packets.Path:
        """From a source to the host over IPv4, on the wire."""
        client, host = (
            bytes.fromhex(mac_of(actor, device).replace(":", ""))
            for actor, device in ((self.site.bystander, "br0"), (self.site.host, "eth0"))
        )
        return packets.Path(client, host, socket.inet_aton(source), socket.inet_aton(self.site.host.address4))

    def syn(self, source: str, port: int) -> bytes:
        """A frame with a SYN to the host over IPv4."""
        chance = random.Random(1)  # noqa: S311 - a frame, not a key
        return packets.tcp(self.path(source), port, packets.SYN, chance)

    def cost(self, frame: bytes, seconds: float = 1.0) -> float:
        """Nanoseconds for sending and receiving one frame on this core, the best of three."""
        return min(self._cost(frame, seconds / 3) for _ in range(3))

    def _cost(self, frame: bytes, seconds: float) -> float:
        with self.site.observer.inside():
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with sock:
            with self.site.observer.inside():
                sock.bind(("to-host", 0))
            messages, keep = _messages(frame, 64)
            libc = ctypes.CDLL(None, use_errno=True)
            end, count, began = time.perf_counter() + seconds, 0, time.perf_counter()
            while time.perf_counter() < end:
                count += max(libc.sendmmsg(sock.fileno(), messages, 64, 0), 0)
            took = time.perf_counter() - began
            del keep
            return took / count * 1e9


def _messages(frame: bytes, count: int) -> tuple[ctypes.Array[ctypes.c_char], list[object]]:
    """An array of struct mmsghdr, each for the same frame, and what must live as long."""
    buffer = ctypes.create_string_buffer(frame, len(frame))
    piece = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), len(frame))
    one = (ctypes.c_size_t * 8)(0, 0, ctypes.addressof(piece), 1, 0, 0, 0, 0)
    array = ctypes.create_string_buffer(bytes(one) * count, 64 * count)
    return array, [buffer, piece]
