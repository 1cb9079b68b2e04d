"""Giving rights away for good, once what they were for is open."""

from __future__ import annotations

import ctypes
import os
import struct

from knockgate.errors import Unavailable

__all__ = ["give_all_away"]

#: linux/capability.h and linux/prctl.h.
_VERSION_3 = 0x20080522
_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_PR_SET_NO_NEW_PRIVS = 38


def give_all_away() -> None:
    """Drop every capability of this process, so that what it runs cannot have them either.

    Descriptors that are open stay what they are: a packet socket goes on hearing. Raises Unavailable where
    the kernel refuses, which it never does in this direction.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", _VERSION_3, 0)
    for name, *arguments in (
        ("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        ("prctl", _PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0),
        ("capset", header, bytes(24)),
    ):
        if getattr(libc, str(name))(*arguments):
            number = ctypes.get_errno()
            raise Unavailable(f"rights cannot be given away: {os.strerror(number)}")
