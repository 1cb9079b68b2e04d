"""Hearing packets out of memory that is shared with the kernel: PACKET_RX_RING of packet(7), version 2.

For floods of packets that each take a look. It needs no system call for a packet that is there, which is half
of what one costs, and it gives them out by the batch. Version 3 would wake us only when a block of many
is full or a millisecond old, and nothing here is sent in blocks.

A ring is a row of frames. The kernel writes a packet into the next one and then sets its status word; whoever
reads clears the word, and the frame is the kernel's again. Where it finds the next frame still taken, the
packet is lost and counted.

Order of memory: a packet may be read only after the status word that vouches for it, and the word be cleared
only after the packet is copied. x86 keeps loads in order, and stores behind loads. Elsewhere it takes a
branch on the word and then something that makes the processor begin afresh, which entering the kernel does;
so on each batch there is a system call between the words and the packets, and another one at the end. Python
itself can neither reorder nor keep what it reads through a memoryview.

Sources: packet(7), Documentation/networking/packet_mmap.rst of the kernel, linux/if_packet.h.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Sequence

from knockgate.capture.afpacket import SOL_PACKET, Capture, deadline
from knockgate.wire.bpf import Instruction

__all__ = ["FRAME", "PacketRing"]

_PACKET_RX_RING, _PACKET_VERSION, _TPACKET_V2 = 5, 10, 1
_TP_STATUS_USER = 1

#: Bytes of a frame: a packet of Ethernet's 1500 and 80 for the kernel's header. A power of two, so that the
#: frames lie in a row without gaps whatever the block.
FRAME = 2048
#: Bytes that the kernel allocates in one piece.
_BLOCK = 1 << 16
_A_BLOCK = _BLOCK // FRAME
_WORDS = FRAME // 4
#: Words of ``struct tpacket2_hdr``, which begins with the status: length, and bytes kept of it.
_LENGTH, _KEPT = 1, 2
#: Where the network header begins: behind that, ``struct sockaddr_ll`` and 16 bytes, each aligned. It is so
#: for every packet of a SOCK_DGRAM socket.
_NETWORK = 80


class PacketRing(Capture):
    """Packets of one frame's length; longer ones are counted as lost, and never looked at."""

    def __init__(self, program: Sequence[Instruction], interface: str = "", *, frames: int = 4096) -> None:
        """As ``Capture``. ``frames``: so many packets wait at most, for each socket; it is rounded up.

        A ring takes 2 KB a frame, which cannot be swapped. It should hold what comes while the reader does
        something else: at 140,000/s 4096 frames are 29 ms, and they are 8 MB. More would only help where
        the reader can keep up; where it cannot, all that a longer queue brings is that each packet is older
        when it is read.
        """
        self._blocks = -(-frames // _A_BLOCK)
        self._rings: deque[_Ring] = deque()
        super().__init__(program, interface, receive_buffer=0)

    def receive(self, timeout: float | None) -> bytes | None:
        """The next packet; None after ``timeout`` seconds, or when ``listening`` has changed."""
        until = deadline(timeout)
        while True:
            was_listening = self.listening
            if packets := self.take(1):
                return packets[0]
            ready = self._wait(until, was_listening=was_listening)
            if ready is None:
                return None
            for descriptor, what in ready:
                if what & select.EPOLLERR:
                    error = self._sockets[descriptor].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    self._note(error)
            if self.listening != was_listening:
                return None

    def take(self, most: int) -> list[bytes]:
        """Packets of one socket that are there, ``most`` at most, without a look at anything but memory.

        None do not mean that an interface is still there: ``receive(0)`` says so.
        """
        # The sockets take turns: a flood over IPv4 must not make us deaf for IPv6.
        rings = self._rings
        for _ in range(len(rings)):
            rings.rotate()
            if packets := rings[0].take(most):
                return packets
        return []

    @property
    def room(self) -> int:
        """Packets that can wait at the same time."""
        return len(self._rings) * self._blocks * _A_BLOCK

    def drops(self) -> tuple[int, int]:
        """Packets that passed the filter, and how many of them there was no room for, so far."""
        received, dropped = super().drops()
        return received, dropped + sum(ring.cut for ring in self._rings)

    def close(self) -> None:
        """Stop listening. May be called twice; afterwards there is nothing to receive."""
        for ring in self._rings:
            ring.close()  # the memory alone would keep the socket open
        self._rings.clear()
        super().close()

    def _prepare(self, sock: socket.socket) -> None:
        self._rings.append(_Ring(sock, self._blocks))


class _Ring:
    """The frames of one socket. ``cut``: packets that were longer than a frame."""

    def __init__(self, sock: socket.socket, blocks: int) -> None:
        sock.setsockopt(SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        self._frames = blocks * _A_BLOCK
        size = struct.pack("=IIII", _BLOCK, blocks, FRAME, self._frames)  # struct tpacket_req
        sock.setsockopt(SOL_PACKET, _PACKET_RX_RING, size)
        self._memory = mmap.mmap(sock.fileno(), blocks * _BLOCK)
        self._words = memoryview(self._memory).cast("I")
        self._free = memoryview(bytes(4 * self._frames)).cast("I")
        self._at = 0
        self.cut = 0

    def take(self, most: int) -> list[bytes]:
        at, words = self._at, self._words
        first = at * _WORDS
        if not words[first] & _TP_STATUS_USER:
            return []
        count = 1
        for status in words[first + _WORDS : min(at + most, self._frames) * _WORDS : _WORDS].tolist():
            if not status & _TP_STATUS_USER:
                break
            count += 1
        os.getppid()  # the order of memory
        behind = first + count * _WORDS
        lengths = words[first + _LENGTH : behind : _WORDS].tolist()
        kept = words[first + _KEPT : behind : _WORDS].tolist()
        memory = self._memory
        starts = range(at * FRAME + _NETWORK, (at + count) * FRAME, FRAME)
        packets = [memory[start : start + size] for start, size in zip(starts, kept, strict=True)]
        if kept != lengths:
            packets = [
                packet for packet, length in zip(packets, lengths, strict=True) if len(packet) == length
            ]
            self.cut += count - len(packets)
        os.getppid()  # the order of memory
        words[first:behind:_WORDS] = self._free[:count]
        self._at = (at + count) % self._frames
        return packets

    def close(self) -> None:
        self._words.release()
        self._memory.close()
