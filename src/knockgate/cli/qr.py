"""Codes on a terminal, for what is easier read by a camera than typed."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

from knockgate.errors import Unavailable

__all__ = ["drawing"]


def drawing(error: str = "q") -> Callable[[str], str]:
    """What draws a code, before anything is made that it is to draw; Unavailable where there is nothing.

    ``error`` is how much of a code may be unreadable: l 7 %, m 15 %, q 25 %. At q it is what the Android
    client's own tools make; there is room for 1,663 bytes then, and for 2,953 at l.
    """
    try:
        import segno  # noqa: PLC0415 - an extra
    except ImportError:
        hint = "pip install 'knockgate[qr]'; or bring the secrets there in another way"
        raise Unavailable("segno, which draws the code, is not installed", hint=hint) from None

    try:
        "█▀▄".encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        hint = "where the terminal can: PYTHONIOENCODING=utf-8"
        raise Unavailable(f"{sys.stdout.encoding} cannot draw the code", hint=hint) from None

    def draw(payload: str) -> str:
        code = segno.make(payload, mode="byte", error=error, boost_error=False, micro=False)
        drawn = io.StringIO()
        code.terminal(drawn, compact=True)  # half blocks; the other way is colours, and a file has none
        return drawn.getvalue().rstrip("\n")

    return draw
