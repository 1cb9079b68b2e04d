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

__all__ = ["FRAME", "PacketRing", "Ring"]

_PACKET_RX_RING, _PACKET_VERSION, _TPACKET_V2 = 5, 10, 1
#: The kernel's; any other value makes it ours.
_TP_STATUS_KERNEL = 0

#: Bytes of a frame: a packet of Ethernet's 1500 and 80 for the kernel's header. A power of two, so that the
#: frames lie in a row without gaps whatever the block.
FRAME = 2048
#: Bytes that the kernel allocates in one piece.
_BLOCK = 1 << 16
#: Words of ``struct tpacket2_hdr``, which begins with the status: length, and bytes kept of it.
_LENGTH, _KEPT = 1, 2
#: Where the network header begins: behind that, ``struct sockaddr_ll`` and 16 bytes, each aligned. It is so
#: for every packet of a SOCK_DGRAM socket.
_NETWORK = 80


class PacketRing(Capture):
    """Packets of one frame's length; longer ones are counted as lost, and never looked at."""

    #: Bytes of a frame, and whether a packet that does not fit in is lost; else zeros stand for its end.
    _frame, _whole = FRAME, True

    def __init__(self, program: Sequence[Instruction], interface: str = "", *, frames: int = 4096) -> None:
        """As ``Capture``. ``frames``: so many packets wait at most, for each socket; it is rounded up.

        A ring takes 2 KB a frame, which cannot be swapped. It should hold what comes while the reader does
        something else: at 140,000/s 4096 frames are 29 ms, and they are 8 MB. More would only help where
        the reader can keep up; where it cannot, all that a longer queue brings is that each packet is older
        when it is read.
        """
        self._blocks = -(-frames * self._frame // _BLOCK)
        self._rings: deque[Ring] = deque()
        super().__init__(program, interface)

    def receive(self, timeout: float | None) -> bytes | None:
        """The next packet; None after ``timeout`` seconds, or when ``listening`` has changed."""
        until = deadline(timeout)
        while True:
            was_listening = self.listening
            if packets := self.take(1):
                return packets[0]
            if not self._await(until, was_listening=was_listening):
                return None

    def take(self, most: int) -> list[bytes]:
        """Packets of one socket that are there, ``most`` at most, without a look at anything but memory.

        None do not mean that an interface is still there: ``receive(0)`` says so.
        """
        for _ in range(len(self._rings)):
            ring, count = self._next(most)
            if count and (packets := ring.take(count)):
                return packets
        return []

    @property
    def room(self) -> int:
        """Packets that can wait at the same time."""
        return sum(ring.frames for ring in self._rings)

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

    def _next(self, most: int) -> tuple[Ring, int]:
        """The ring whose turn it is of those that have something, and how much of it, ``most`` at most."""
        # The sockets take turns: a flood over IPv4 must not make us deaf for IPv6.
        rings = self._rings
        for _ in range(len(rings)):
            rings.rotate()
            if count := rings[0].there(most):
                return rings[0], count
        return rings[0], 0

    def _await(self, until: float | None, *, was_listening: bool) -> bool:
        """Until there may be something; False where ``receive`` is to return."""
        ready = self._wait(until, was_listening=was_listening)
        if ready is None:
            return False
        for descriptor, what in ready:
            if what & select.EPOLLERR:
                error = self._sockets[descriptor].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                self._note(error)
        return self.listening == was_listening

    def _prepare(self, sock: socket.socket) -> None:
        self._rings.append(Ring(sock, self._blocks, self._frame, whole=self._whole))


class Ring:
    """The frames of one socket, of ``frame`` bytes each.

    ``cut``: packets that were longer than a frame, and lost, where they are to be ``whole``.
    """

    def __init__(self, sock: socket.socket, blocks: int, frame: int, *, whole: bool) -> None:
        sock.setsockopt(SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        self.frames, self.frame = blocks * _BLOCK // frame, frame
        size = struct.pack("=IIII", _BLOCK, blocks, frame, self.frames)  # struct tpacket_req
        sock.setsockopt(SOL_PACKET, _PACKET_RX_RING, size)
        self._memory = mmap.mmap(sock.fileno(), blocks * _BLOCK)
        self._octets = memoryview(self._memory)
        self._words = self._octets.cast("I")
        self._stride = frame // 4
        self._free = memoryview(bytes(4 * self.frames)).cast("I")
        self._whole = whole
        self._at = 0
        self.cut = 0

    def there(self, most: int) -> int:
        """How many packets there are, ``most`` at most, up to the end of the memory."""
        stride, words = self._stride, self._words
        first = self._at * stride
        if words[first] == _TP_STATUS_KERNEL:
            return 0
        status = words[first : min(self._at + most, self.frames) * stride : stride].tolist()
        os.getppid()  # the order of memory
        return status.index(_TP_STATUS_KERNEL) if _TP_STATUS_KERNEL in status else len(status)

    def heads(self, count: int) -> memoryview:
        """The first ``count`` packets where they lie, one every ``frame`` octets from the first on.

        Whoever looks must let go of it before ``close``.
        """
        return self._octets[self._at * self.frame + _NETWORK : (self._at + count) * self.frame]

    def take(self, count: int) -> list[bytes]:
        """As many packets, of those that are ``there``."""
        frame, words, stride = self.frame, self._words, self._stride
        first = self._at * stride
        behind = first + count * stride
        lengths = words[first + _LENGTH : behind : stride].tolist()
        kept = words[first + _KEPT : behind : stride].tolist()
        memory = self._memory
        starts = range(self._at * frame + _NETWORK, (self._at + count) * frame, frame)
        packets = [memory[start : start + size] for start, size in zip(starts, kept, strict=True)]
        if kept != lengths:
            packets = self._mended(packets, lengths)
        self.leave(count)
        return packets

    def leave(self, count: int) -> None:
        """The kernel may have the frames of as many packets again."""
        os.getppid()  # the order of memory
        first, stride = self._at * self._stride, self._stride
        self._words[first : first + count * stride : stride] = self._free[:count]
        self._at = (self._at + count) % self.frames

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._octets.release()
        self._memory.close()

    def _mended(self, packets: Sequence[bytes], lengths: Sequence[int]) -> list[bytes]:
        if not self._whole:
            return [packet.ljust(length, b"\0") for packet, length in zip(packets, lengths, strict=True)]
        whole = [packet for packet, length in zip(packets, lengths, strict=True) if len(packet) == length]
        self.cut += len(packets) - len(whole)
        return whole
