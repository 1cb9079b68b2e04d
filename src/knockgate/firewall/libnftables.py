"""libnftables.so.1 in this process, by ctypes: rules as text go in, listings as text come out.

Parsing and checking rules is nft's business, and spawning ``nft`` costs 3 ms where this costs a tenth.
The library has one netlink socket for its whole life. ``socket`` lends it out, because a table can
belong to a socket, and then only messages over that very socket may change it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
from pathlib import Path

from knockgate.errors import Unavailable
from knockgate.firewall.channel import NETLINK_NETFILTER

__all__ = ["JSON", "NUMERIC_PROTOCOLS", "STATELESS", "TERSE", "Libnftables"]

#: Flags for listings (nftables/libnftables.h): no counts and remaining times; JSON; 6 and 17 instead
#: of tcp and udp, which some of what nft prints needs to be read again; without the elements of sets.
STATELESS, JSON, NUMERIC_PROTOCOLS, TERSE = 1 << 2, 1 << 4, 1 << 7, 1 << 11

_LIBRARY = "libnftables.so.1"


class Libnftables:
    """One context of the library. ``close`` it in the end, and not before the duplicates of its socket."""

    def __init__(self) -> None:
        self._library = _load()
        before = _netfilter_sockets()
        self._context: int | None = self._library.nft_ctx_new(0)
        if self._context is None:
            raise Unavailable("libnftables cannot be started: out of memory")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)
        self._socket = min(_netfilter_sockets() - before, default=None)
        if self._socket is not None:
            os.set_inheritable(self._socket, False)  # noqa: FBT003 - a child would keep the table owned

    def socket(self) -> socket.socket:
        """A duplicate of the library's socket. It must never be made blocking: the library would hang."""
        if self._socket is None:
            raise Unavailable("libnftables has no socket of its own", hint="nftables 1.0.6 to 1.1 are known")
        return socket.socket(fileno=os.dup(self._socket))

    def run(self, commands: str, output: int = 0) -> str:
        """Run commands in one transaction; returns what nft would print.

        ``output`` are flags for listings. Raises Unavailable with nft's own words, the first line.
        """
        self._library.nft_ctx_output_set_flags(self._context, output)
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        # Reading a buffer empties it; what is not read now would come with the next answer.
        printed = self._library.nft_ctx_get_output_buffer(self._context).decode(errors="replace")
        complaint = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
        if failed:
            line = next(iter(complaint.strip().splitlines()), "no reason given")
            raise Unavailable(f"nft refused: {line.removeprefix('Error: ')}")
        return str(printed)

    def close(self) -> None:
        """Give the context and its socket back. May be called twice."""
        if self._context is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise Unavailable(f"{_LIBRARY} is not installed", hint="apt install nftables") from None
    context, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in (
        ("nft_ctx_new", context, [ctypes.c_uint32]),
        ("nft_ctx_free", None, [context]),
        ("nft_ctx_buffer_output", number, [context]),
        ("nft_ctx_buffer_error", number, [context]),
        ("nft_ctx_get_output_buffer", text, [context]),
        ("nft_ctx_get_error_buffer", text, [context]),
        ("nft_ctx_output_set_flags", None, [context, ctypes.c_uint]),
        ("nft_run_cmd_from_buffer", number, [context, text]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _netfilter_sockets() -> set[int]:
    """The descriptors of this process that are sockets of NETLINK_NETFILTER."""
    found = set()
    for file in Path("/proc/self/fd").iterdir():
        descriptor = int(file.name)
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
        except OSError:  # the one by which the folder was read
            continue
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            if (sock.family, sock.proto) == (socket.AF_NETLINK, NETLINK_NETFILTER):
                found.add(descriptor)
    return found
