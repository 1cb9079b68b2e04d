"""A netlink log group of the kernel's (``log group N`` in nft), bound for another process to read.

Binding needs CAP_NET_ADMIN, reading does not; what comes is strangers' packets. So the warden binds, never
reads what is reported, and hands the descriptor to the listener, which cannot change it: netlink asks for
the right of whoever writes.

Source: linux/netfilter/nfnetlink_log.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from knockgate.errors import Unavailable

__all__ = ["bound_to"]

_NETLINK_NETFILTER = 12
_CONFIGURE = 4 << 8 | 1  # NFNL_SUBSYS_ULOG, NFULNL_MSG_CONFIG
_REQUEST_WITH_ANSWER = 0x0005  # NLM_F_REQUEST, NLM_F_ACK
_ANSWER = 2  # NLMSG_ERROR, with number 0 where all is well
_COMMAND, _MODE, _THRESHOLD = 1, 2, 5
_BIND, _COPY_PACKET = 1, 2

_MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_GENERIC = struct.Struct("!BBH")  # family, version, group

#: Bytes of each packet that are reported: its headers, save for the oddest.
_COPIED = 128
#: Bytes; a report is some 300 of them.
_BUFFER = 1 << 20


def bound_to(group: int) -> socket.socket:
    """A socket that gets each report of the group at once. It does not block.

    Raises Unavailable where another program has the group.
    """
    reader = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    try:
        reader.bind((0, 0))
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        reader.settimeout(5.0)
        reader.send(_request(group))
        _answer(reader)
        reader.settimeout(0)
    except OSError as error:
        reader.close()
        raise _unavailable(error, group) from None
    return reader


def _request(group: int) -> bytes:
    attributes = (
        _attribute(_COMMAND, bytes([_BIND]))
        + _attribute(_MODE, struct.pack("!IBx", _COPIED, _COPY_PACKET))
        + _attribute(_THRESHOLD, struct.pack("!I", 1))  # else they are collected for up to a second
    )
    body = _GENERIC.pack(socket.AF_UNSPEC, 0, group) + attributes
    return _MESSAGE.pack(_MESSAGE.size + len(body), _CONFIGURE, _REQUEST_WITH_ANSWER, 1, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _answer(reader: socket.socket) -> None:
    """Wait for the kernel's answer; a first report may come before it and is passed over unread."""
    while True:
        answer = reader.recv(_MESSAGE.size + 4)
        _, kind, *_ = _MESSAGE.unpack_from(answer)
        if kind == _ANSWER:
            (number,) = struct.unpack_from("=i", answer, _MESSAGE.size)
            if number:
                raise OSError(-number, os.strerror(-number))
            return


def _unavailable(error: OSError, group: int) -> Unavailable:
    message = f"what the kernel opens is not told: log group {group}: {error.strerror}"
    if error.errno in (errno.EPERM, errno.EBUSY):  # the kernel says the same to who has no right at all
        message = f"what the kernel opens is not told: another program has log group {group}"
    return Unavailable(message, hint="gate.log_group is the number; CAP_NET_ADMIN is needed")
