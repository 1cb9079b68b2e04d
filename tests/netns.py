"""Throw-away networks for tests: ``@isolated`` runs a test's body where it may build any network.

The body runs in a forked child with network, process and (for an ordinary user) user namespaces of
its own, as root in there. It is process 1 of its process namespace and dies with the test process, so
whatever way a test ends, the kernel kills what the body started and takes its networks away. An
exception of the body, an assertion above all, fails the test with the body's own traceback.

Where the system forbids namespaces the test is skipped with the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, ParamSpec, Self, TypeVar

import pytest

from knockgate.wire.bpf import Instruction, assemble

P = ParamSpec("P")
T = TypeVar("T")

DEADLINE = 30.0
"""Seconds until a condition that does not come true fails a test; nothing waits as long as that."""

_NEWNS, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x10000000, 0x20000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
_CAP_NET_ADMIN, _CAP_NET_RAW = 12, 13
_SOL_PACKET, _PACKET_AUXDATA, _SO_ATTACH_FILTER = 263, 8, 26
_ETH_P_ALL = 3
_TP_STATUS_VLAN_VALID = 0x10

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


# --- the child ---------------------------------------------------------------------------------------


def isolated(test: Callable[P, None]) -> Callable[P, None]:
    """Run the decorated test in namespaces of its own; ``lo`` is up and there is nothing else."""

    @functools.wraps(test)
    def outside(*args: P.args, **kwargs: P.kwargs) -> None:
        def body() -> None:
            os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"  # an ordinary user's may lack them
            run("ip", "link", "set", "lo", "up")
            test(*args, **kwargs)

        outcome = _in_namespaces(body)
        if "forbidden" in outcome:
            outcome["skip"] = f"this system gives no namespaces: {outcome['forbidden']}"
        if "skip" in outcome:
            raise pytest.skip.Exception(outcome["skip"], _use_item_location=True)
        if "failure" in outcome:
            pytest.fail(outcome["failure"], pytrace=False)

    return outside


def _in_namespaces(body: Callable[[], None]) -> dict[str, str]:
    def unshared(alive: int) -> dict[str, str]:
        try:
            _unshare(_NEWNET | _NEWPID)
        except OSError as error:
            return {"forbidden": str(error)}
        _die_with_the_parent(alive)
        return _in_a_child(process_one)

    def process_one(alive: int) -> dict[str, str]:
        _die_with_the_parent(alive)
        body()
        return {}

    return _in_a_child(unshared)


def without_rights(body: Callable[[], None]) -> None:
    """Run ``body`` in a child that may neither listen to packets nor change rules, nor may its children."""

    def child(alive: int) -> dict[str, str]:
        _die_with_the_parent(alive)
        for capability in (_CAP_NET_ADMIN, _CAP_NET_RAW):
            _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        header = struct.pack("Ii", 0x20080522, 0)
        _call("capset", header, bytes(24))
        body()
        return {}

    outcome = _in_a_child(child)
    assert outcome == {}, outcome["failure"]


def _in_a_child(work: Callable[[int], dict[str, str]]) -> dict[str, str]:
    """What ``work`` answers in a forked process; it is given the pipe that breaks when we die."""
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of a fork beside threads (pytest-xdist has some): the child leaves them alone.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(reader)
        _end(work, writer)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as stream:
            answer = stream.read()
    finally:
        os.kill(child, signal.SIGKILL)  # where the wait above was broken off; else it is ending by itself
        os.waitpid(child, 0)
    outcome: dict[str, str] = json.loads(answer or b'{"failure": "the process of the test was killed"}')
    return outcome


def _end(work: Callable[[int], dict[str, str]], writer: int) -> NoReturn:
    """Answer and be gone: a forked process must never return into the frames of the test's process."""
    try:
        outcome = work(writer)
    except pytest.skip.Exception as skip:
        outcome = {"skip": str(skip)}
    except BaseException:  # noqa: BLE001 - whatever it is, the parent shows it
        outcome = {"failure": traceback.format_exc()}
    with os.fdopen(writer, "wb") as stream:
        stream.write(json.dumps(outcome).encode())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _unshare(flags: int) -> None:
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        with contextlib.suppress(PermissionError):  # root of a container may need a user namespace as well
            _call("unshare", flags)
            return
    _call("unshare", _NEWUSER | flags)
    for file, line in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", file).write_text(line)


def _die_with_the_parent(alive: int) -> None:
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    poll = select.poll()
    poll.register(alive, 0)
    if poll.poll(0):  # nobody holds the other end: the parent died before the line above
        os._exit(1)


def own_mounts() -> None:
    """Have /run, /var/lib and /proc to ourselves: where a gate keeps things, and who its children are."""
    _call("unshare", _NEWNS)
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "proc", "proc", "/proc")
    for folder in ("/run", "/var/lib"):
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)


# --- in the child: networks --------------------------------------------------------------------------


def run(*command: str, check: bool = True) -> str:
    """What ``command`` printed; where it fails, so does the test, with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def until(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """Wait for ``condition`` to be true and return what it answered; ``what`` is said if it never is."""
    end = time.monotonic() + deadline
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < end, f"{what}: not within {deadline} s"
        time.sleep(0.005)


class Network:
    """Another network namespace, for as long as the object lives; ``with network:`` is being in it."""

    def __init__(self) -> None:
        with self.here():  # leads back
            _call("unshare", _NEWNET)
            self._be(_own_network())
            run("ip", "link", "set", "lo", "up")

    @classmethod
    def here(cls) -> Self:
        """The one that we are in."""
        network = cls.__new__(cls)
        network._be(_own_network())
        return network

    def _be(self, file: int) -> None:
        self._file = file
        self._homes: list[int] = []

    def __enter__(self) -> None:
        self._homes.append(_own_network())
        _call("setns", self._file, _NEWNET)

    def __exit__(self, *error: object) -> None:
        home = self._homes.pop()
        _call("setns", home, _NEWNET)
        os.close(home)

    def adopt(self, interface: str) -> None:
        """Move an interface of the present network into this one; it arrives down, without addresses."""
        subprocess.run(
            ["ip", "link", "set", interface, "netns", f"/proc/self/fd/{self._file}"],
            pass_fds=[self._file],
            check=True,
            timeout=DEADLINE,
        )


def _own_network() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def veth(near: str, far: str, network: Network | None = None) -> None:
    """A cable: ``near`` is here, ``far`` in ``network`` if one is given. Both ends are up."""
    run("ip", "link", "add", near, "type", "veth", "peer", "name", far)
    if network:
        network.adopt(far)
    up(near)
    with network or contextlib.nullcontext():
        up(far)


def add_vlan(interface: str, number: int) -> str:
    """An interface for a VLAN of ``interface``, up; returns its name. Skips where the kernel has none."""
    name = f"{interface}.{number}"
    command = ["ip", "link", "add", "link", interface, "name", name, "type", "vlan", "id", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    if "Unknown device type" in done.stderr:
        pytest.skip("this kernel has no VLAN interfaces (CONFIG_VLAN_8021Q)")
    assert done.returncode == 0, done.stderr
    up(name)
    return name


def stay_on_one_core() -> None:
    """Keep packets in the order in which they are sent: each core has a queue of its own."""
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])


def up(interface: str, *addresses: str) -> None:
    """Set the interface up and give it the addresses, usable at once."""
    run("ip", "link", "set", interface, "up")
    for address in addresses:
        duplicate = ["nodad"] if ":" in address else []
        run("ip", "address", "add", address, "dev", interface, *duplicate)


def mac(interface: str) -> bytes:
    """The Ethernet address of an interface of the present network."""
    (link,) = json.loads(run("ip", "-j", "link", "show", "dev", interface))
    return bytes.fromhex(link["address"].replace(":", ""))


# --- in the child: frames ----------------------------------------------------------------------------


class Sender:
    """Puts frames on an interface of the present network, exactly as given."""

    def __init__(self, interface: str, destination: bytes) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: hears nothing
        self._socket.bind((interface, 0))
        self._macs = destination + mac(interface)

    def send(self, packet: bytes, *, destination: bytes | None = None, tag: bytes = b"") -> None:
        """Send an IP packet; ``tag`` goes between the addresses and the EtherType."""
        # The EtherType follows the first octet, and what is no IP at all travels as IPv4.
        kind = b"\x86\xdd" if packet[:1] and packet[0] >> 4 == 6 else b"\x08\x00"
        self.send_as(kind, packet, destination=destination, tag=tag)

    def send_as(
        self, kind: bytes, packet: bytes, *, destination: bytes | None = None, tag: bytes = b""
    ) -> None:
        """Send bytes under the EtherType ``kind``."""
        macs = self._macs if destination is None else destination + self._macs[6:]
        self._socket.send(macs + tag + kind + packet)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def until_carries(wire: Sender, interface: str) -> None:
    """Wait until frames come through: the kernel gets a cable going a while after both ends are up."""

    def passes() -> bool:
        wire.send_as(b"\x08\x06", b"hello")
        return any(each.packet == b"hello" for each in heard(control))

    with packet_socket(interface) as control:
        until(passes, f"{interface} carries")


@contextlib.contextmanager
def packet_socket(
    interface: str = "", *, program: Sequence[Instruction] = (), whole_frames: bool = False
) -> Iterator[socket.socket]:
    """A plain packet socket, with ``program`` as its filter if one is given; it never waits.

    It hears one interface or all, every protocol, and what goes out as well. It is of the kind whose
    bytes begin at the network header, as in the capture; with ``whole_frames`` at the Ethernet header.
    """
    kind = socket.SOCK_RAW if whole_frames else socket.SOCK_DGRAM
    with socket.socket(socket.AF_PACKET, kind, 0) as sock:
        sock.setblocking(False)
        sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        if program:
            text = ctypes.create_string_buffer(assemble(program), 8 * len(program))
            filtering = struct.pack("HP", len(program), ctypes.addressof(text))
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)
        index = socket.if_nametoindex(interface) if interface else 0
        address = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(_ETH_P_ALL), index, 0, 0, 0)
        _call("bind", sock.fileno(), address, len(address))
        yield sock


class Heard(NamedTuple):
    """A packet from the network header on, with what the kernel says about it."""

    packet: bytes
    protocol: int
    packet_type: int
    interface: int
    vlan_tag: int


def heard(sock: socket.socket) -> list[Heard]:
    """All that a ``packet_socket`` has waiting."""
    packets = []
    with contextlib.suppress(BlockingIOError):
        while True:
            packet, notes, _, (interface, protocol, kind, *_) = sock.recvmsg(65536, 256)
            ((_, _, aux),) = notes
            # struct tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid
            status, *_, tag, _ = struct.unpack("IIIHHHH", aux)
            tag = tag if status & _TP_STATUS_VLAN_VALID else 0
            if sock.type == socket.SOCK_RAW:
                packet = packet[14:]
            packets.append(Heard(packet, protocol, kind, socket.if_nametoindex(interface), tag))
    return packets
