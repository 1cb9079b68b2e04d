"""Clients of the gate's own sockets that are slow, greedy, or gone in the middle of a word.

Each of them has the rights to connect, which is root or a half that was taken over; who has not does not come
so far (``test_link.py``, ``test_keeper.py``). Meanwhile knocks open, and the admin's commands get through.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.attacks.figures import figure
from tests.attacks.lanes import DAEMON, PORTS, SEALED, SEALED_PORT, Lanes, lanes, sealed, steps, udp_ip, wire
from tests.knockgate.daemon.test_keeper import Keeper
from tests.knockgate.spa import sealed_signers as signers
from tests.netns import DEADLINE, Sender, isolated, own_mounts, until
from tests.packets import raw

from knockgate.config import places
from knockgate.daemon import keylink, link
from knockgate.daemon.control import EXPLAIN_SOCKET, LINK_SOCKET, STATUS_SOCKET, WARDEN_SOCKET, ask, explain
from knockgate.daemon.sockets import connected
from knockgate.errors import Unavailable
from knockgate.firewall.nftables import Nftables
from knockgate.model import Port, Protocol

_STREAMS, _MESSAGES = (STATUS_SOCKET, EXPLAIN_SOCKET), (WARDEN_SOCKET, LINK_SOCKET)
_CLIENTS = 300
_KNOCKS = 6  # of each of two kinds, each time: four keys have ten in hand
_CLIENTS_TOLD = 40  # descriptors of a half beyond what it has without them
_SLOW = 0.25  # seconds by which the median may be later, on a machine that others keep busy

_STORM = """
import contextlib, os, socket, sys
kinds = {"warden": socket.SOCK_SEQPACKET, "listener": socket.SOCK_STREAM}
print("began", flush=True)
while True:
    for path in sys.argv[1:]:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kinds[path.split("/")[-2]]) as sock:
            sock.settimeout(0.05)
            sock.connect(path)
            sock.send(os.urandom(1 + os.urandom(1)[0] % 100))
"""


class Clients:
    """Those that hold on to what they have got, until the end."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.held: list[socket.socket] = []

    def connect(self, name: str) -> socket.socket | None:
        """None where its queue is full: what one would wait for."""
        kind = socket.SOCK_STREAM if name in _STREAMS else socket.SOCK_SEQPACKET
        patience = 0.01 if name == LINK_SOCKET else DEADLINE
        try:
            sock = connected(f"{self._directory}/{name}", kind, patience)
        except OSError:
            return None
        sock.settimeout(0)
        self.held.append(sock)
        return sock

    def silent(self, name: str) -> None:
        self.connect(name)

    def in_half(self, name: str) -> None:
        if sock := self.connect(name):
            with contextlib.suppress(OSError):
                sock.send(link.Request(link.Verb.LEASES).encode()[:20])

    def unread(self, name: str) -> None:
        """Ask as often as there is room for, and read nothing."""
        if sock := self.connect(name):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            with contextlib.suppress(OSError):
                for _ in range(50):
                    sock.send(link.Request(link.Verb.LEASES).encode())

    def gone(self, name: str) -> None:
        if sock := self.connect(name):
            with contextlib.suppress(OSError):
                sock.send(b"{")
            self.held.remove(sock)
            sock.close()

    def leave(self) -> None:
        for each in self.held:
            each.close()
        self.held.clear()


class Knocker:
    """Knocks, and how long each takes to the lease."""

    def __init__(self, cable: Sender, table: Nftables) -> None:
        self._cable, self._table = cable, table
        self._sources = (f"10.0.{number >> 8}.{number & 255}" for number in itertools.count(256))

    def median(self) -> float:
        """Seconds from the last packet to a lease in the kernel; all of them must open."""
        found = []
        for _ in range(_KNOCKS):
            for door in (DAEMON, SEALED):
                source = next(self._sources)
                packets = (
                    steps(DAEMON, source) if door == DAEMON else [udp_ip(SEALED_PORT, source, sealed(source))]
                )
                began = time.monotonic()
                for each in packets:
                    self._cable.send(each)
                self._opens(Port(Protocol.TCP, PORTS[door]), raw(source))
                found.append(time.monotonic() - began)
        return statistics.median(found)

    def _opens(self, port: Port, source: bytes) -> None:
        until = time.monotonic() + DEADLINE
        while not any((each.port, each.source) == (port, source) for each in self._table.leases()):
            assert time.monotonic() < until, f"{port} does not open"


def _admin(gate: Lanes) -> float:
    """Seconds that the slowest of the admin's commands takes; each has to do what it should."""
    configuration = gate.gate.configuration()
    (door,) = [each for each in configuration.doors if each.name == DAEMON]
    source = raw("192.0.2.99")

    def by_hand() -> None:
        with gate.gate.warden() as warden:
            warden.open(configuration, door, source, 60)
            assert warden.close(configuration, door, [source]) == 1

    slowest = 0.0
    for does in (gate.gate.status, lambda: explain(gate.gate.run_directory), by_hand):
        began = time.monotonic()
        does()
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def _open_files(process: int) -> int:
    return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())


def _descriptors(halves: dict[str, int]) -> dict[str, int]:
    return {name: _open_files(each) for name, each in halves.items()}


@contextlib.contextmanager
def _storm(directory: str) -> Iterator[None]:
    """Somebody who connects, says nonsense and hangs up, as fast as they can."""
    paths = [f"{directory}/{name}" for name in (*_STREAMS, WARDEN_SOCKET)]
    words = [sys.executable, "-I", "-c", _STORM, *paths]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"began\n"
        try:
            yield
        finally:
            process.kill()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@isolated
def test_knocks_open_and_the_admin_is_heard_meanwhile(tmp_path: Path) -> None:
    own_mounts()
    with lanes(tmp_path) as gate, wire() as cable, Nftables(own=False) as table:
        knocker, halves = Knocker(cable, table), gate.gate.halves()
        clients = Clients(gate.gate.run_directory)
        before, log = _descriptors(halves), len(gate.gate.log())
        quiet, told = knocker.median(), _admin(gate)
        ways: dict[str, Callable[[str], None]] = {
            "silent": clients.silent,
            "half a message": clients.in_half,
            "never read": clients.unread,
            "gone in the middle": clients.gone,
        }
        for name, way in ways.items():
            for number in range(_CLIENTS):
                way((*_STREAMS, *_MESSAGES)[number % 4])
            during, told = knocker.median(), _admin(gate)
            more = {half: many - before[half] for half, many in _descriptors(halves).items()}
            figure(
                f"clients.of the daemon's sockets: {name}",
                tries=_CLIENTS,
                wrongly=0,
                rightly=2 * _KNOCKS + 3,
                control="knocks open and the admin's commands get through meanwhile",
                knock_ms=_ms(during),
                knock_before_ms=_ms(quiet),
                admin_ms=_ms(told),
                descriptors_more=max(more.values()),
            )
            assert during < quiet + _SLOW and max(more.values()) <= _CLIENTS_TOLD, (name, during, quiet, more)
            clients.leave()
        with _storm(gate.gate.run_directory):
            during = knocker.median()
        told = _admin(gate)
        figure(
            "clients.of the daemon's sockets: a storm of nonsense",
            tries=1,
            wrongly=0,
            rightly=2 * _KNOCKS + 3,
            control="knocks open meanwhile, the admin's commands get through afterwards",
            knock_ms=_ms(during),
            knock_before_ms=_ms(quiet),
            admin_ms=_ms(told),
            log_bytes=len(gate.gate.log()) - log,
        )
        assert during < quiet + _SLOW and len(gate.gate.log()) - log < 20_000
        assert gate.gate.halves() == halves  # the same processes as at the beginning
        until(lambda: max(_more(halves, before).values()) <= 1, "what they had is given back")


def _more(halves: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {half: many - before[half] for half, many in _descriptors(halves).items()}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)


def test_who_asks_waits_where_many_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not told that nobody is there."""
    monkeypatch.setattr("knockgate.daemon.control._PATIENCE", 0.2)
    (tmp_path / "listener").mkdir()
    with pytest.raises(Unavailable, match="is not running"):
        ask(str(tmp_path))  # the control
    path = str(tmp_path / STATUS_SOCKET)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(path)
        listening.listen(0)
        first.connect(path)
        with pytest.raises(Unavailable, match=r"does not answer within 0[.]2 seconds"):
            ask(str(tmp_path))


def test_a_keeper_beset_by_clients(tmp_path: Path) -> None:
    """Its listener is served anew whenever it was crowded out, and sees each change of a file."""
    keeper = Keeper(tmp_path)
    held: list[socket.socket] = []
    try:
        files = keeper.files(keeper.kept())
        quiet = _looks(files.refresh)
        before = _open_files(keeper.process.pid)
        request = keylink.Request(
            keylink.Verb.LOOK, 0, keylink.checksum_of(places.load(keeper.file))
        ).encode()
        for name, says, hangs_up in (
            ("silent", [], False),
            ("half a message", [request[:10]], False),
            ("never read", [request] * 30, False),
            ("gone in the middle", [request], True),
        ):
            for _ in range(_CLIENTS):
                sock = connected(keeper.path, socket.SOCK_SEQPACKET, DEADLINE)
                held.append(sock)
                sock.settimeout(0)
                with contextlib.suppress(OSError):
                    for each in says:
                        sock.send(each)
                if hangs_up:
                    held.pop().close()
            during = _looks(files.refresh)
            was = files.total
            keeper.write("two", "" if was == 2 else signers.line(signers.ECDSA))
            files.refresh()
            assert files.total == 3 - was
            more = _open_files(keeper.process.pid) - before
            figure(
                f"clients.of the keeper: {name}",
                tries=_CLIENTS,
                wrongly=0,
                rightly=22,
                control="its listener is served, and sees that a key was added or taken out",
                look_ms=_ms(during),
                look_before_ms=_ms(quiet),
                descriptors_more=more,
            )
            assert during < quiet + _SLOW and more <= _CLIENTS_TOLD and keeper.process.poll() is None
    finally:
        for sock in held:
            sock.close()
        keeper.end()


def _looks(refresh: Callable[[], object]) -> float:
    found = []
    for _ in range(21):
        began = time.monotonic()
        refresh()
        found.append(time.monotonic() - began)
    return statistics.median(found)
