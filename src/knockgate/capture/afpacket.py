"""Hearing packets with AF_PACKET sockets (packet(7)), without opening a port.

Two ways to listen, each delivering a packet once:

* on all interfaces: one socket for IPv4 and one for IPv6, bound to no interface. The kernel hands
  them a packet where it would hand it to IP, that is behind bridges, bonds and VLANs, so a packet
  that passes a bridge port, then the bridge, is heard on the bridge alone.
* on one interface: a socket for everything on that interface (ETH_P_ALL), because a port of a bridge
  hands nothing to IP and would be deaf otherwise.

A socket is created deaf (protocol 0), gets its filter, is locked (the filter cannot be changed any
more, not even by us: socket(7), SO_LOCK_FILTER), and only then is bound: no packet is ever seen that
did not pass the filter. It needs CAP_NET_RAW to be opened and nothing afterwards.

``Capture`` is all of this but the reading, which is done out of memory that is shared with the kernel: by
``ring.PacketRing`` for packets, and ``openings.Openings`` for headers.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from knockgate.errors import Unavailable
from knockgate.wire.bpf import Instruction, assemble
from knockgate.wire.frames import ETH_P_IP, ETH_P_IPV6

__all__ = [
    "ETH_P_ALL",
    "SOL_PACKET",
    "Capture",
    "deadline",
    "deaf_socket",
    "hear",
]

ETH_P_ALL = 0x0003
_SO_ATTACH_FILTER, _SO_LOCK_FILTER, _SO_RCVBUFFORCE = 26, 44, 33
SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 263, 6, 23

#: Waiting for a vanished interface: it is looked for this often. Seconds.
_LOOK_AGAIN = 0.25


class Capture(ABC):
    """Packets from the network header on, as ``bytes``. A context manager.

    ``listening`` is False while the one interface listened on is down or gone. The capture goes on by
    itself when it is back, also under a new index (a dial-up link, a pulled-out network card).
    """

    def __init__(self, program: Sequence[Instruction], interface: str) -> None:
        """Start to listen on ``interface``, or on all of them if that is empty.

        Raises Unavailable with a hint where the interface, the right or the kernel's support is missing.
        """
        self.listening = True
        self._interface = interface
        self._received = self._dropped = 0
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        try:
            index = _index_of(interface) if interface else 0
            for protocol in (ETH_P_ALL,) if interface else (ETH_P_IP, ETH_P_IPV6):
                sock = deaf_socket(program, 0)  # what is heard waits in no queue of its own
                self._sockets[sock.fileno()] = sock
                self._prepare(sock)
                hear(sock, protocol, index)
                self._poll.register(sock, select.EPOLLIN)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise _unavailable(error, interface) from error
            raise

    @abstractmethod
    def receive(self, timeout: float | None) -> bytes | None:
        """The next packet; None after ``timeout`` seconds, or when ``listening`` has changed."""

    def _prepare(self, sock: socket.socket) -> None:  # noqa: B027 - most need nothing
        """What a socket needs before it hears anything; OSError."""

    def fileno(self) -> int:
        """For waiting beside other things: readable when ``receive`` would not wait."""
        return self._poll.fileno()

    def drops(self) -> tuple[int, int]:
        """Packets that passed the filter, and how many of them there was no room for, so far."""
        for sock in self._sockets.values():
            # Reading sets the kernel's counters to zero, so the sums are kept here.
            packets, drops = struct.unpack("II", sock.getsockopt(SOL_PACKET, _PACKET_STATISTICS, 8))
            self._received += packets
            self._dropped += drops
        return self._received, self._dropped

    def close(self) -> None:
        """Stop listening. May be called twice; afterwards there is nothing to receive."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        self._poll.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, until: float | None, *, was_listening: bool) -> list[tuple[int, int]] | None:
        """Until a socket has something: descriptors and what they have, as epoll tells it; maybe none yet.

        None where ``receive`` is to return: it is ``until``, or ``listening`` has changed.
        """
        if not self.listening:
            self._look_for_interface()
        if self.listening != was_listening:
            return None
        left = None if until is None else max(0.0, until - time.monotonic())
        wait = left
        if not self.listening:
            wait = _LOOK_AGAIN if left is None else min(left, _LOOK_AGAIN)
        ready = self._poll.poll(wait)
        return None if not ready and left == 0 else ready

    def _note(self, number: int) -> None:
        """The error of a socket: its interface is down or gone, else OSError."""
        if number not in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
            raise OSError(number, os.strerror(number))
        self._look_for_interface()

    def _look_for_interface(self) -> None:
        """The kernel takes the socket back in when its interface comes up; a new one needs a new bind.

        A new interface may have the old one's index, so there is a bind each time; where nothing is new
        the kernel takes it for nothing.
        """
        self.listening = False
        with contextlib.suppress(OSError, Unavailable):
            index = _index_of(self._interface)
            for sock in self._sockets.values():
                hear(sock, ETH_P_ALL, index)
            self.listening = _is_up(self._interface)


def deadline(timeout: float | None) -> float | None:
    """When a wait of ``timeout`` seconds is over, by the monotonic clock.

    epoll_wait(2) takes no more than 24 days; whoever waits longer is asked to call again.
    """
    return None if timeout is None else time.monotonic() + min(timeout, 86400)


def deaf_socket(
    program: Sequence[Instruction], receive_buffer: int, *, ignore_outgoing: bool = True
) -> socket.socket:
    """A packet socket that hears nothing yet and will hear only what ``program`` lets through.

    Non-blocking. ``receive_buffer`` in bytes is a wish: without CAP_NET_ADMIN the system's limit stands.
    """
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    try:
        sock.settimeout(0)
        text = assemble(program)
        array = ctypes.create_string_buffer(text, len(text))
        pointer = struct.pack("HP", len(program), ctypes.addressof(array))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
        sock.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)
        with contextlib.suppress(OSError):  # before Linux 4.20 the filter alone keeps them out
            sock.setsockopt(SOL_PACKET, _PACKET_IGNORE_OUTGOING, int(ignore_outgoing))
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    except BaseException:
        sock.close()
        raise
    return sock


def hear(sock: socket.socket, protocol: int, index: int) -> None:
    """Let a deaf socket hear an EtherType on the interface of that index, 0 being all of them; OSError.

    By way of bind(2) itself, since Python has no spelling for all interfaces.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    address = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(protocol), index, 0, 0, 0)
    if libc.bind(sock.fileno(), address, len(address)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _index_of(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except (OSError, ValueError):  # a name may hold a zero byte
        names = ", ".join(name for _, name in socket.if_nameindex())
        raise Unavailable(f"no interface {interface}", hint=f"there are: {names}") from None


def _is_up(interface: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:  # any socket will do
        request = struct.pack("16sH22x", interface.encode(), 0)
        (flags,) = struct.unpack("16xH22x", fcntl.ioctl(sock, 0x8913, request))  # SIOCGIFFLAGS
    return bool(flags & 1)  # IFF_UP


def _unavailable(error: OSError, interface: str) -> Unavailable:
    if error.errno in (errno.EPERM, errno.EACCES):
        return Unavailable("no right to listen to packets", hint="run it as root, or give it CAP_NET_RAW")
    if error.errno == errno.EAFNOSUPPORT:
        return Unavailable("this kernel has no packet sockets", hint="CONFIG_PACKET is needed")
    if error.errno == errno.ENOMEM:
        hint = "it takes some megabytes that cannot be swapped"
        return Unavailable("no memory to receive packets into", hint=hint)
    return Unavailable(f"cannot listen on {interface or 'the interfaces'}: {error.strerror}")
