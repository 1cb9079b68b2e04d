"""Somebody else on the host: at the one name that anybody can take, and at sockets that take descriptors.

And the listener held up by whoever has the processor, so that packets wait in its rings.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.attacks.figures import figure
from tests.attacks.lanes import SEALED, SEALED_PORT, Lanes, lanes, let_in, sealed, udp_ip, wire
from tests.knockgate.daemon.test_keeper import Keeper
from tests.netns import DEADLINE, isolated, own_mounts, until

from knockgate.config import places
from knockgate.daemon import keylink
from knockgate.daemon.control import EXPLAIN_SOCKET, STATUS_SOCKET, WARDEN_SOCKET
from knockgate.daemon.keylink import checksum_of
from knockgate.daemon.sockets import connected
from knockgate.spa.sealed import KeyKind, Suite

_NAME = "\0knockgate/warden"
_RINGS = 2000  # while nobody takes anything out: the line is full
_TOO_LONG = 10.0  # seconds, on a machine that others keep busy


def _knocks(source: str) -> float:
    """Milliseconds until it is let in."""
    with wire() as cable:
        began = time.monotonic()
        cable.send(udp_ip(SEALED_PORT, source, sealed(source)))
        until(lambda: source in let_in(SEALED), "an honest knock opens")
    return round(1000 * (time.monotonic() - began), 1)


def _descriptors(gate: Lanes) -> dict[str, int]:
    return {
        name: len(list(Path(f"/proc/{process}/fd").iterdir())) for name, process in gate.gate.halves().items()
    }


@pytest.mark.long
@isolated
def test_a_stranger_at_the_name_of_the_warden(tmp_path: Path) -> None:
    """Rings without end, and then has the name before the warden starts, with a line that is full."""
    own_mounts()
    with lanes(tmp_path) as gate:
        halves, before = gate.gate.halves(), _descriptors(gate)
        with _ringing() as rings:
            during = _knocks("10.0.1.1")
            gate.gate.status()
        until(lambda: _descriptors(gate) == before, "nobody is connected any more")
        assert gate.gate.halves() == halves
        assert gate.gate.end() == 0
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as squatter,
            contextlib.ExitStack() as stack,
        ):
            squatter.bind(_NAME)
            squatter.listen(0)
            for _ in range(3):  # nobody takes them
                sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.connect(_NAME)
            os.setresuid(-1, 65534, 0)  # who has the name is told by who listened
            squatter.listen(0)
            os.setresuid(-1, 0, 0)
            began = time.monotonic()
            gate.gate.start()
            started = time.monotonic() - began
            afterwards = _knocks("10.0.1.2")
    assert started < _TOO_LONG
    figure(
        "halves.a stranger rings at the warden's name, and has it before the warden",
        tries=rings[0] + 3,
        wrongly=0,
        rightly=2,
        control="a knock opens meanwhile, and with the gate that starts behind the stranger",
        knock_ms=during,
        knock_behind_it_ms=afterwards,
        start_took_s=round(started, 2),
        descriptors_more=0,
    )


@contextlib.contextmanager
def _ringing() -> Iterator[list[int]]:
    """As a child of no rights; how often it has rung, at the end."""
    rings = [0]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        number, over = 0, False

        def end(*_: object) -> None:
            nonlocal over
            over = True

        signal.signal(signal.SIGTERM, end)
        while not over:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.settimeout(0.05)
                sock.connect(_NAME)
                number += 1
            if number == _RINGS:
                os.write(writer, b"+")
        os.write(writer, number.to_bytes(8))
        os._exit(0)
    try:
        assert os.read(reader, 1) == b"+"
        yield rings
    finally:
        os.kill(child, signal.SIGTERM)
        rings[0] = int.from_bytes(os.read(reader, 8))
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


@pytest.mark.long
@isolated
def test_descriptors_that_nobody_asked_for(tmp_path: Path) -> None:
    """They are sent along with messages, to keep a process from opening anything."""
    own_mounts()
    sent = 0
    with lanes(tmp_path) as gate, (tmp_path / "sent").open("w+") as file:
        before = _descriptors(gate)
        for name in (STATUS_SOCKET, EXPLAIN_SOCKET, WARDEN_SOCKET):
            kind = socket.SOCK_SEQPACKET if name == WARDEN_SOCKET else socket.SOCK_STREAM
            for _ in range(50):
                with (
                    contextlib.suppress(OSError),
                    connected(f"{gate.gate.run_directory}/{name}", kind, DEADLINE) as sock,
                ):
                    sent += 200
                    socket.send_fds(sock, [b"x" * 48], [file.fileno()] * 200)
        until(lambda: _descriptors(gate) == before, "none is left")
        knock = _knocks("10.0.1.1")
    figure(
        "halves.descriptors sent to the daemon's sockets",
        tries=sent,
        wrongly=0,
        rightly=1,
        control="a knock opens behind them",
        knock_ms=knock,
        descriptors_more=0,
    )


def test_descriptors_that_nobody_takes_from_the_keeper(tmp_path: Path) -> None:
    """Whoever owns the listener asks for files without end, and takes none of them."""
    keeper = Keeper(tmp_path)
    try:
        files = keeper.files(keeper.kept())
        files.refresh()
        total = files.total
        before = len(list(Path(f"/proc/{keeper.process.pid}/fd").iterdir()))
        request = keylink.Request(keylink.Verb.KEYS, 0, checksum_of(places.load(keeper.file))).encode()
        asked = 0
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                sock = stack.enter_context(connected(keeper.path, socket.SOCK_SEQPACKET, DEADLINE))
                sock.settimeout(0)
                with contextlib.suppress(OSError):
                    for _ in range(300):
                        sock.send(request)
                        asked += 1
            files.refresh()
            assert files.total == total and keeper.process.poll() is None
            more = len(list(Path(f"/proc/{keeper.process.pid}/fd").iterdir())) - before
        assert more <= 4
    finally:
        keeper.end()
    figure(
        "halves.files asked of the keeper, and not taken",
        tries=asked,
        wrongly=0,
        rightly=2,
        control="its listener is served before and behind them",
        descriptors_more=more,
    )


@pytest.mark.long
@isolated
def test_what_waits_while_the_listener_is_held_up(tmp_path: Path) -> None:
    """A knock, copies of it, junk behind it until the ring is full: the knock opens once, when it goes on."""
    own_mounts()
    with lanes(tmp_path) as gate, wire() as cable:
        listener = gate.gate.halves()["listener"]
        first = udp_ip(SEALED_PORT, "10.0.1.1", sealed("10.0.1.1", Suite.X25519, kind=KeyKind.ED25519))
        knock = udp_ip(SEALED_PORT, "10.0.1.2", sealed("10.0.1.2", Suite.X25519, kind=KeyKind.ECDSA_P256))
        cable.send(first)  # from there on its network is known, and has a ring of its own
        until(lambda: "10.0.1.1" in let_in(SEALED), "the first one opens")
        memory = _memory(listener)
        os.kill(listener, signal.SIGSTOP)
        began, junk = time.monotonic(), 6000
        try:
            for packet in (knock, knock, first, first):
                cable.send(packet)
            for number in range(junk):
                damaged = knock[:-8] + number.to_bytes(8)
                cable.send(damaged)
        finally:
            os.kill(listener, signal.SIGCONT)
        held = time.monotonic() - began
        until(lambda: "10.0.1.2" in let_in(SEALED), "what waited opens")

        def looked_at() -> int:
            status = gate.gate.status()
            return int(sum(status["sealed"]["refused"].values()) + status["heard"]["lost"])

        until(lambda: looked_at() >= junk + 3, "all that waited is looked at, or lost")
        assert gate.opened(SEALED) == 2
        afterwards = _knocks("10.0.1.3")
        more = _memory(listener) - memory
        assert more < 16 << 10
        figure(
            "halves.packets that wait while the listener is held up",
            tries=junk + 3,
            wrongly=gate.opened(SEALED) - 3,
            rightly=3,
            control="the knock that waited opens once, and one behind it all",
            held_up_s=round(held, 2),
            lost_for_want_of_room=gate.gate.status()["heard"]["lost"],
            memory_more_kb=more,
            ordinary_knock_ms=afterwards,
        )


def _memory(process: int) -> int:
    """KB."""
    said = Path(f"/proc/{process}/status").read_text()
    return int(said.partition("VmRSS:")[2].split()[0])
