"""The gate and fwknopd with the same keys, Debian's client, and junk.

Both guards are started as somebody would start them who has read their manuals. What is bound to a core is
only the process that looks at packets.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from bench import packets
from bench.stage import FILES, UNANSWERED, mac_of, prefer, running
from bench.wire import PORT, Wire
from knockdemo.lab.hosts import Site
from knockdemo.lab.wait import until
from knockgate.daemon.control import ask
from knockgate.errors import Unavailable

__all__ = ["MOST_KEYS", "SPA_PORT", "Count", "Guard", "Peers"]

MOST_KEYS, SPA_PORT = 1000, 62201
_GATE = f"""
[gate]
run_directory = "{FILES}/run"
state_directory = "STATE"
clock = "trusted"

[doors.bench]
ports = ["tcp/{PORT}"]
lease = "30s"
"""
#: Lane C's files (knockdemo/units), but for the number of stanzas.
_STANZA = f"""\
SOURCE                      ANY
OPEN_PORTS                  tcp/{PORT}
KEY_BASE64                  {{0}}
HMAC_KEY_BASE64             {{1}}
FW_ACCESS_TIMEOUT           30
"""
_CLIENT = f"""\
[bench]
ACCESS                      tcp/{PORT}
SPA_SERVER_PORT             {SPA_PORT}
SPA_SERVER_PROTO            udp
SPOOF_USER                  u
KEY_BASE64                  {{0}}
USE_HMAC                    Y
HMAC_KEY_BASE64             {{1}}
"""
#: As ``UNANSWERED``, but behind the gate's own rules, which are part of what is measured.
_UNANSWERED = """\
table inet unanswered {{
	chain unanswered {{
		type filter hook prerouting priority -100
		ether saddr {mac} drop
	}}
}}
"""
_AMID = FILES / "amid"
_MATCH = b"received with access source match"
#: With pcap, and as a UDP server.
_STARTS = b"Starting fwknopd main event loop", b"Kicking off UDP server"


class Count(NamedTuple):
    """What a guard has done so far."""

    looked_at: int  #: packets that its own code has seen
    lost: int | None  #: packets that its socket had no room for; None where nobody tells


class Guard(Protocol):
    """Whoever looks at packets."""

    pid: int

    def count(self) -> Count:
        """Of its life."""


class _Gate:
    def __init__(self, pid: int) -> None:
        self.pid = pid

    def count(self) -> Count:
        told = ask(f"{FILES}/run")
        opened, refused = told["packets"]["opened"], told["packets"]["refused"]
        return Count(opened + sum(refused.values()), told["heard"]["lost"])


class _Fwknopd:
    """It tells one line a stanza of each packet that is base64, and nothing of others."""

    def __init__(self, pid: int, log: Path, stanzas: int) -> None:
        self.pid, self._log, self._stanzas = pid, log, stanzas

    def count(self) -> Count:
        return Count(self._log.read_bytes().count(_MATCH) // self._stanzas, None)


class Peers(Wire):
    """Both guards have the last ``count`` of ``MOST_KEYS`` pairs; who knocks has the very last one."""

    port = SPA_PORT  #: where single packets go

    def __init__(self, site: Site, args: argparse.Namespace) -> None:
        super().__init__(site, args)
        self._pairs = [
            [base64.b64encode(os.urandom(size)).decode() for size in (32, 64)] for _ in range(MOST_KEYS)
        ]
        self._keys = FILES / "keys"
        self._keys.mkdir(mode=0o700)
        for number, pair in enumerate(self._pairs):
            _private(self._keys / str(number), "KEY_BASE64: {}\nHMAC_KEY_BASE64: {}\n".format(*pair))
        _private(FILES / "fwknoprc", _CLIENT.format(*self._pairs[-1]))
        with site.client.inside():
            self._sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sink.bind(("127.0.0.1", SPA_PORT))
        self._sink.settimeout(10)
        self._macs = [
            bytes.fromhex(mac_of(actor, device).replace(":", ""))
            for actor, device in ((site.client, "eth0"), (site.host, "eth0"))
        ]
        # Besides the client's own: all that begins with 10, so that there are networks enough.
        site.client.do(["ip", "route", "add", "local", "10.0.0.0/8", "dev", "lo"])
        site.host.do(["ip", "route", "add", "10.0.0.0/8", "via", site.client.address4])
        self._strangers = self._gates = 0
        #: What to start instead of Python, where somebody wants to know what is imported.
        self.python: str | None = None
        self.length = len(self.packet(self.source(4)))

    def stranger(self) -> str:
        """An address of IPv4 out of a /16 that none of the 200 before it was from."""
        self._strangers += 1
        high, low = divmod(self._strangers, 200)
        return f"10.{low + 50}.{high}.1"

    def packet(self, source: str) -> bytes:
        """What Debian's client sends to have that address let in; it is good for two minutes."""
        argv = ["fwknop", "--rc-file", f"{FILES}/fwknoprc", "-n", "bench", "--no-save-args"]
        self.site.client.do(["env", f"HOME={FILES}", *argv, "-a", source, "-D", "127.0.0.1"])
        return self._sink.recv(2048)

    def send(self, source: str, packet: bytes, *, port: int | None = None) -> float:
        """As a program does it, in the client's network; the monotonic time at which it left."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((source, 0))
            sock.connect((self.host_address(4), port or self.port))
            left_at = time.monotonic()
            sock.send(packet)
        return left_at

    def send_amid(self, source: str, packet: bytes, *, port: int | None = None) -> float:
        """From the client, but in the middle of a flood that ``junk`` sends; when it was handed over."""
        here, there = socket.inet_aton(source), socket.inet_aton(self.host_address(4))
        chance = random.Random(source)  # noqa: S311 - a source port
        frame = packets.udp(
            packets.Path(self._macs[0], self._macs[1], here, there), port or self.port, chance, packet
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            left_at = time.monotonic()
            sock.sendto(frame, str(_AMID))
        return left_at

    @contextlib.contextmanager
    def gate(self, count: int) -> Iterator[Guard]:
        """The gate with that many keys, its listener alone on the second core."""
        keys = "".join(
            f'[keys.k{number}]\nfwknop = "{self._keys}/{number}"\ndoors = ["bench"]\n'
            for number in range(MOST_KEYS - count, MOST_KEYS)
        )
        with self.running_gate(self.new_state(), keys) as pid:
            yield _Gate(pid)

    def new_state(self) -> str:
        """A state directory that is not there yet: each gate has a memory of its own."""
        self._gates += 1
        return f"{self.args.state}/{self._gates}"

    @contextlib.contextmanager
    def running_gate(self, state: str, keys: str) -> Iterator[int]:
        """With these tables of keys; yields the process of its listener."""
        self.clear()
        config, log = FILES / "gate.toml", FILES / "gate.log"
        config.write_text(_GATE.replace("STATE", state) + keys)
        argv = [*self._knockgate(), "run", "--config", str(config)]
        with log.open("wb") as output, running(self.site.host, argv, output.fileno()) as process:
            pid = until(lambda: self._listener(process, log), 60, "the gate listens")
            for half in _with_children(process.pid):
                os.sched_setaffinity(half, set(self.args.cores))
                prefer(half)
            os.sched_setaffinity(pid, {self.args.cores[1]})
            yield pid
            if (now := self._listener(process, log)) != pid:
                raise Unavailable(f"measurement failed: not listener {pid} but {now}: {_end_of(log)}")
        self.clear()

    def _knockgate(self) -> list[str]:
        if self.python is None:
            return [sys.executable, "-m", "knockgate"]
        # Its halves are started by the name that Python has of itself.
        code = (
            f"import sys; sys.executable = {self.python!r}; from knockgate.cli import main; sys.exit(main())"
        )
        return [self.python, "-c", code]

    def _listener(self, process: subprocess.Popen[bytes], log: Path) -> int:
        """Its listener's number; 0 while there is none."""
        if process.poll() is not None:
            raise Unavailable(f"measurement failed: the gate ended: {_end_of(log)}")
        try:
            return int(ask(f"{FILES}/run")["pid"])
        except Unavailable:
            return 0

    @contextlib.contextmanager
    def fwknopd(self, count: int, settings: str = "", *, binds: bool = False) -> Iterator[Guard]:
        """The real one over iptables, alone on the second core.

        ``settings``: lines of fwknopd.conf. ``binds``: what netfilter drops it does not hear.
        """
        self.clear()
        for rule in (["-A", "INPUT", "-p", "tcp", "--dport", str(PORT), "-j", "DROP"],):
            self.site.host.do(["iptables", *rule])
        if not binds:  # else nobody is bound to the port, and the sender's core would pay for answers to junk
            self.load(UNANSWERED.format(mac=mac_of(self.site.bystander, "br0")))
        log = FILES / "fwknopd.log"
        with log.open("wb") as output:
            argv = self._fwknopd_command(count, settings)
            with running(self.site.host, argv, output.fileno()) as process:
                until(lambda: _says_one_of(log, _STARTS) or process.poll() is not None, 30, "fwknopd")
                os.sched_setaffinity(process.pid, {self.args.cores[1]})
                prefer(process.pid)
                yield _Fwknopd(process.pid, log, count)
                if process.poll() is not None:
                    raise Unavailable(f"measurement failed: fwknopd ended: {_end_of(log)}")
        self.clear()

    def _fwknopd_command(self, count: int, settings: str = "") -> list[str]:
        access, config, folder = FILES / "access.conf", FILES / "fwknopd.conf", FILES / "fwknopd"
        _private(access, "".join(_STANZA.format(*pair) for pair in self._pairs[-count:]))
        _private(config, f"PCAP_INTF eth0;\n{settings}")
        folder.mkdir(mode=0o700, exist_ok=True)
        return ["fwknopd", "-f", "-i", "eth0", "-c", str(config), "-a", str(access), "-r", str(folder)]

    def fwknopd_offline(self, count: int, capture: Path, number: int) -> float:
        """Seconds of the processor for the first ``number`` packets of a file, without its pauses."""
        argv = self._fwknopd_command(count, "PCAP_LOOP_SLEEP 1;\n")
        argv += ["--pcap-file", str(capture), "-C", str(number)]
        with (FILES / "fwknopd.log").open("wb") as output:
            process = subprocess.Popen(
                self.site.host.command(argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            os.sched_setaffinity(process.pid, {self.args.cores[1]})
            # wait4(2) tells what this child and its own children have used.
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise Unavailable(f"measurement failed: fwknopd: {_end_of(FILES / 'fwknopd.log')}")
        return used.ru_utime + used.ru_stime

    @contextlib.contextmanager
    def junk(
        self,
        kind: str,
        seconds: float,
        length: int | None = None,
        *,
        port: int | None = None,
        rate: int | None = None,
    ) -> Iterator[Callable[[], float]]:
        """A flood from made-up addresses; yields a way to ask what rate has arrived since."""
        site = self.site
        argv = [sys.executable, "-m", "bench.junk", "--kind", kind, "--length", str(length or self.length)]
        argv += ["--device", "to-host", "--source-mac", mac_of(site.bystander, "br0").replace(":", "")]
        argv += [
            "--host-mac",
            self._macs[1].hex(),
            "--host",
            self.host_address(4),
            "--port",
            str(port or self.port),
        ]
        argv += ["--rate", str(rate or self.args.rate), "--seconds", str(seconds)]
        argv += ["--core", str(self.args.cores[0])]
        said = FILES / "junk.log"
        _AMID.unlink(missing_ok=True)
        argv += ["--amid", str(_AMID)]
        with said.open("wb") as output, running(site.observer, argv, output.fileno()) as process:
            until(lambda: b"flowing" in said.read_bytes() or process.poll() is not None, 120, "junk")
            prefer(process.pid)
            began, before = time.monotonic(), self.received()
            yield lambda: (self.received() - before) / (time.monotonic() - began)

    @contextlib.contextmanager
    def unrelated(self, kind: str, rate: int | None = None) -> Iterator[Callable[[], float]]:
        """A flood of that kind of ``bench.sender``'s, of both families; yields as ``junk`` does."""
        site = self.site
        argv = [sys.executable, "-m", "bench.sender", "--kind", kind, "--device", "to-host"]
        argv += ["--source-mac", mac_of(site.bystander, "br0").replace(":", "")]
        argv += ["--host-mac", self._macs[1].hex(), "--hosts", site.host.address4, site.host.address6]
        argv += ["--rate", str(rate or self.args.unrelated), "--seconds", "60"]
        argv += ["--core", str(self.args.cores[0])]
        said = FILES / "sender.log"
        # What answers would be paid for on the sender's core. It comes after all that hears packets.
        self.load(_UNANSWERED.format(mac=mac_of(site.bystander, "br0")))
        with said.open("wb") as output, running(site.observer, argv, output.fileno()) as process:
            until(lambda: b"flowing" in said.read_bytes() or process.poll() is not None, 60, "a sender")
            prefer(process.pid)
            began, before = time.monotonic(), self.received()
            yield lambda: (self.received() - before) / (time.monotonic() - began)


def _private(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o600)


def _says_one_of(log: Path, words: Iterable[bytes]) -> bool:
    said = log.read_bytes()
    return any(each in said for each in words)


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-300:]


def _with_children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _with_children(int(child)))]
