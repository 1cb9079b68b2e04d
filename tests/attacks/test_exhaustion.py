"""What strangers could fill: sets of the kernel, the daemon's tracker, marks, the log, descriptors, memory.

The limits are set low, so that a flood of seconds meets them; what is measured is that nothing goes beyond
them, that who is inside stays inside, and what it takes to get in behind the flood.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.attacks.figures import figure
from tests.attacks.lanes import (
    DAEMON,
    FWKNOP,
    KERNEL,
    SEALED,
    SPA,
    Lanes,
    lanes,
    let_in,
    sealed,
    steps,
    tcp_ip,
    udp_ip,
    wire,
)
from tests.knockgate.daemon.running import CLIENT, connects
from tests.netns import Sender, isolated, own_mounts, run, until

from knockgate.daemon import control
from knockgate.spa.sealed import KeyKind, Suite

_LOW = 256
LIMITS = f"sources = {_LOW}\nhurried = {_LOW}\ntracked = {_LOW}\nleases = {_LOW}\n"
_FLOOD = 4000
_AT_ONCE = 64  # packets that a gate that others keep from the processor has not lost yet
_AGAIN = 0.5  # seconds until an honest one tries again


def _made_up(number: int, net: int = 11) -> Iterator[str]:
    for each in range(number):
        yield f"{net}.{each >> 16}.{each >> 8 & 255}.{each & 255}"


def _elements(name: str, kind: str = "set") -> int:
    (found,) = [
        each[kind]
        for each in json.loads(run("nft", "-j", "list", kind, "inet", "knockgate", name))["nftables"]
        if kind in each
    ]
    return len(found.get("elem", ()))


def _strangers_inside() -> int:
    return sum(each.startswith(("11.", "12.")) for door in (KERNEL, DAEMON) for each in let_in(door))


def _knock(cable: Sender, door: str, source: str) -> None:
    for each in steps(door, source):
        cable.send(each)


def _gets_in(cable: Sender, door: str, source: str) -> tuple[int, float]:
    """How many tries it takes, one each half second, and how many seconds."""
    begun = tried = time.monotonic()
    tries = 1
    _knock(cable, door, source)

    def inside() -> bool:
        nonlocal tried, tries
        if time.monotonic() > tried + _AGAIN:
            tried = time.monotonic()
            tries += 1
            _knock(cable, door, source)
        return source in let_in(door)

    until(inside, f"{source} gets in through {door}")
    return tries, round(time.monotonic() - begun, 2)


@isolated
def test_sources_that_were_made_up(tmp_path: Path) -> None:
    """They fill what is remembered of sequences to its limit. Who is in stays, and who comes gets in."""
    with lanes(tmp_path, gate=LIMITS) as gate, wire() as cable, socket.create_server(("", 22)):
        assert not connects(22)
        _knock(cable, KERNEL, CLIENT)
        until(lambda: connects(22), "the holder is in")
        for source in _made_up(_FLOOD):
            cable.send(steps(KERNEL, source)[0])
        remembered = {name: _elements(name, "map") for name in ("progress4", "hurried4")}
        for source in _made_up(_FLOOD, 12):
            cable.send(steps(DAEMON, source)[0])
        assert connects(22)
        tries = {
            door: _gets_in(cable, door, f"10.0.9.{number}") for number, door in enumerate((DAEMON, KERNEL))
        }
        heard = gate.gate.status()["heard"]
        # What has ended is taken out a moment later, and counts until then.
        assert _LOW - 8 <= remembered["progress4"] <= _LOW >= remembered["hurried4"]
        assert heard["begun"] + heard["lost"] >= _FLOOD  # also the holder and who came behind
        assert heard["forgotten"] >= heard["begun"] - _LOW - 10
        until(lambda: gate.gate.status()["bounds"]["crowded"] > 0, "it is told")
        assert connects(22)
        figure(
            "exhaustion.sets of the kernel and tracker of the daemon: made-up sources",
            tries=2 * _FLOOD,
            wrongly=_strangers_inside(),
            rightly=3,
            control="who is in stays in, and who comes behind the flood gets in",
            room_of_each_set=_LOW,
            kernel_remembers=remembered,
            daemon_forgot=heard["forgotten"],
            tries_behind_it_kernel=tries[KERNEL][0],
            tries_behind_it_daemon=tries[DAEMON][0],
            seconds_until_in_kernel_s=tries[KERNEL][1],
        )


@isolated
def test_leases_of_who_has_seen_a_sequence(tmp_path: Path) -> None:
    """They can be had for made-up sources until there is no room; what is opened for packets has its own."""
    with lanes(tmp_path, gate=f"leases = {_LOW}\n") as gate, wire() as cable, socket.create_server(("", 22)):
        _knock(cable, KERNEL, CLIENT)
        until(lambda: connects(22), "the holder is in")
        for source in _made_up(2 * _LOW):
            _knock(cable, KERNEL, source)
        until(lambda: gate.gate.status()["bounds"]["leases_full"] > 0, "it is told")
        assert _elements("leases4") == _LOW and connects(22)
        _knock(cable, KERNEL, "10.0.9.1")
        cable.send(udp_ip(SPA["X-Wing"].port, "10.0.9.1", sealed("10.0.9.1")))
        until(lambda: "10.0.9.1" in let_in(SEALED), "a packet opens")
        assert "10.0.9.1" not in let_in(KERNEL)
        gate.close(*_made_up(1))  # the control
        _gets_in(cable, KERNEL, "10.0.9.2")
        figure(
            "exhaustion.leases of who has seen a sequence",
            tries=2 * _LOW,
            wrongly=0,
            known=_LOW,
            rightly=3,
            control="who is in stays in, a packet opens, and a sequence where there is room again",
            room_for_leases=_LOW,
        )


# --- what is kept on the disk, and told ---------------------------------------------------------------

_DEVICES = 4
REST = f"[sealed]\ndevices = {_DEVICES}\n[fwknop]\nremembered = {_LOW}\n"


def _knocks_of(number: int) -> tuple[bytes, bytes]:
    """Somebody's with fwknop, and with a device that is the same each time."""
    source = f"10.0.9.{number}"
    own = sealed(source, device=bytes([9]) * 16, kind=KeyKind.ED25519)
    return (
        udp_ip(SPA["fwknop"].port, source, SPA["fwknop"].make(source)),
        udp_ip(SPA["X-Wing"].port, source, own),
    )


def _of_a_new_device(number: int, kind: KeyKind) -> bytes:
    return sealed(f"10.0.8.{number}", Suite.X25519, kind=kind)


def _state(gate: Lanes) -> int:
    """Bytes on the disk."""
    return sum(each.stat().st_size for each in gate.state.rglob("*") if each.is_file())


def _junk(number: int) -> Iterator[bytes]:
    """What the filter lets through and nobody has made: of each kind in turn, and each from elsewhere."""
    dice = random.Random(1)
    good = {kind: spa.make("10.0.9.9") for kind, spa in SPA.items()}
    for source, (kind, octets) in zip(_made_up(number), list(good.items()) * number, strict=False):
        at = len(octets) // 2
        changed = octets[:at] + dice.randbytes(8).hex().encode() + octets[at + 16 :]
        yield udp_ip(SPA[kind].port, source, changed)


def _heard(gate: Lanes) -> int:
    status = gate.gate.status()
    refused = sum(status["packets"]["refused"].values()) + sum(status["sealed"]["refused"].values())
    return int(refused + status["heard"]["lost"])


def _send(gate: Lanes, cable: Sender, packets: Iterable[bytes]) -> None:
    """All are looked at, or were lost for want of room; then it is over."""
    before, sent = _heard(gate), 0
    for each in packets:
        cable.send(each)
        sent += 1
    until(lambda: _heard(gate) >= before + sent, "the flood is over")


@isolated
def test_marks_and_log(tmp_path: Path) -> None:
    """Junk and replays write nothing on the disk, and next to nothing into the log; devices have a limit."""
    with lanes(tmp_path, rest=REST) as gate, wire() as cable:
        fwknop, last = _knocks_of(0)
        for each in (fwknop, last):
            cable.send(each)
        most = _DEVICES * len(KeyKind)
        for number, kind in enumerate(list(KeyKind) * 6):
            cable.send(udp_ip(SPA["X25519"].port, f"10.0.8.{number}", _of_a_new_device(number, kind)))
        until(lambda: sum(gate.refused().values()) + gate.opened(SEALED) == 25, "all have been looked at")
        assert gate.refused() == {"too-many-devices": 25 - most} and gate.opened(SEALED) == most
        devices = len(control.explain(gate.gate.run_directory)["devices"])
        assert devices == most and "10.0.9.0" in let_in(FWKNOP) & let_in(SEALED)
        state, log, begun = _state(gate), len(gate.gate.log()), time.monotonic()
        _send(gate, cable, _junk(_FLOOD))
        _send(gate, cable, (each for _ in range(_FLOOD // 8) for each in (fwknop, last)))
        for source in _made_up(_FLOOD, 12):
            cable.send(steps(DAEMON, source)[0])
            cable.send(tcp_ip(4444, source))
        for each in _knocks_of(1):
            cable.send(each)
        until(lambda: "10.0.9.1" in let_in(FWKNOP) & let_in(SEALED), "who knocks behind it gets in")
        seconds = time.monotonic() - begun
        said = len(gate.gate.log()) - log
        grown = _state(gate) - state
        assert said < 2000, gate.gate.log()[log:]
        assert grown < 100_000
        assert gate.gate.status()["packets"]["remembered"] == 2
        figure(
            "exhaustion.marks, disk and log: junk, replays and new devices",
            tries=3 * _FLOOD + _FLOOD // 4,
            wrongly=gate.opened(SEALED) - most - 1 + gate.opened(FWKNOP) - 2,
            rightly=2,
            control="who knocks behind it gets in",
            devices_that_knocked=25,
            devices_remembered=devices,
            log_bytes=said,
            disk_more_kb=round(grown / 1024, 1),
            took_s=round(seconds, 1),
        )


@pytest.mark.long
@isolated
def test_what_is_remembered_of_packets(tmp_path: Path) -> None:
    """Who has a key fills it: then no packet of fwknop's opens, none opens twice, and sealed ones do."""
    with lanes(tmp_path, rest=REST) as gate, wire() as cable:
        packets = [udp_ip(SPA["fwknop"].port, each, SPA["fwknop"].make(each)) for each in _made_up(2 * _LOW)]
        state = _state(gate)
        for begin in range(0, len(packets), _AT_ONCE):
            some = packets[begin : begin + _AT_ONCE]
            for each in some:
                cable.send(each)
            until(lambda: _looked_at(gate) == begin + len(some), "they are looked at")  # noqa: B023
        assert gate.refused(FWKNOP) == {"store-full": _LOW} and gate.opened(FWKNOP) == _LOW
        for restarted in (False, True):
            if restarted:
                gate.restart()
            before = gate.opened(FWKNOP), _looked_at(gate)
            for begin in range(0, _LOW, _AT_ONCE):
                for each in packets[begin : begin + _AT_ONCE]:
                    cable.send(each)
                until(lambda: _looked_at(gate) == before[1] + begin + _AT_ONCE, "replays are looked at")  # noqa: B023
            assert gate.opened(FWKNOP) == before[0]
            own = f"10.0.9.{restarted:d}"
            cable.send(udp_ip(SPA["X-Wing"].port, own, sealed(own)))
            until(lambda: own in let_in(SEALED), "a sealed knock opens")  # noqa: B023
        figure(
            "exhaustion.replay store, by who has a key of fwknop's; then each packet again, twice",
            tries=4 * _LOW,
            wrongly=gate.opened(FWKNOP),
            rightly=_LOW + 2,
            control="as many as there is room for open, and sealed knocks meanwhile",
            room_for_packets=_LOW,
            disk_more_kb=round((_state(gate) - state) / 1024, 1),
        )


def _looked_at(gate: Lanes) -> int:
    return gate.opened(FWKNOP) + sum(gate.refused(FWKNOP).values())


# --- what a process has -------------------------------------------------------------------------------


def _resident(gate: Lanes) -> dict[str, int]:
    """KB of each half."""
    found = {}
    for name, process in gate.gate.halves().items():
        status = Path(f"/proc/{process}/status").read_text()
        found[name] = int(status.partition("VmRSS:")[2].split()[0])
    return found


def _descriptors(gate: Lanes) -> dict[str, int]:
    return {
        name: len(list(Path(f"/proc/{process}/fd").iterdir())) for name, process in gate.gate.halves().items()
    }


@isolated
def test_memory_and_descriptors(tmp_path: Path) -> None:
    """The same flood again finds all the room that it needs; those who connect leave nothing."""
    _flood_memory(tmp_path, 0)


@pytest.mark.long
@isolated
def test_memory_and_log_under_a_minute_of_flood(tmp_path: Path) -> None:
    _flood_memory(tmp_path, 65)


def _flood_memory(folder: Path, seconds: float) -> None:
    """At least once, and for so long."""
    own_mounts()
    with lanes(folder, gate=LIMITS) as gate, wire() as cable:
        _everything(gate, cable)
        before, open_before, log = _resident(gate), _descriptors(gate), len(gate.gate.log())
        rounds, begun = 0, time.monotonic()
        while not rounds or time.monotonic() < begun + seconds:
            _everything(gate, cable)
            rounds += 1
        took = time.monotonic() - begun
        _connections(gate)
        until(lambda: _descriptors(gate) == open_before, "nobody is connected any more")
        after, said = _resident(gate), len(gate.gate.log()) - log
        grown = {name: after[name] - before[name] for name in before}
        assert max(grown.values()) < 4096, grown
        assert said < 4000 * (1 + took / 60), gate.gate.log()[log:]
        assert before.keys() == after.keys() == gate.gate.halves().keys()
        _gets_in(cable, DAEMON, "10.0.9.1")
        figure(
            "exhaustion.memory, descriptors and log: all of it at once",
            tries=rounds * 2 * _FLOOD + 600,
            wrongly=len(let_in(KERNEL) | let_in(FWKNOP) | let_in(SEALED)),
            rightly=1,
            control="who knocks behind it gets in",
            took_s=round(took, 1),
            log_bytes=said,
            memory_kb=after,
            memory_more_kb=grown,
            descriptors=open_before,
            descriptors_more=0,
        )


def _everything(gate: Lanes, cable: Sender) -> None:
    for source in _made_up(_FLOOD // 2, 13):
        cable.send(steps(KERNEL, source)[0])
        cable.send(steps(DAEMON, source)[0])
    _send(gate, cable, _junk(_FLOOD))


def _connections(gate: Lanes) -> None:
    """Many at once, and many more in a row, who all hang up without a word."""
    for path, kind in (
        (control.STATUS_SOCKET, socket.SOCK_STREAM),
        (control.EXPLAIN_SOCKET, socket.SOCK_STREAM),
        (control.WARDEN_SOCKET, socket.SOCK_SEQPACKET),
    ):
        held = []
        for number in range(200):
            sock = socket.socket(socket.AF_UNIX, kind)
            sock.settimeout(0)
            try:
                sock.connect(str(Path(gate.gate.run_directory, path)))
            except BlockingIOError:  # so many wait already
                assert number >= 16
            held.append(sock)
        for sock in held:
            sock.close()
