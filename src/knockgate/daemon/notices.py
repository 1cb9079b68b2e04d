"""What is said of the files of ssh keys: all of it, as long as nobody writes one of them again and again.

People write their own files, and each knock has them looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from knockgate.config.keyfiles import Notice
from knockgate.mechanisms.buckets import Bucket

__all__ = ["Notices"]

#: Lines about one file: at once, and a second afterwards. A change has 21 at most.
_BURST, _RATE = 63.0, 0.1


class Notices:
    """``complain`` takes a line, and its kind; of one kind it tells one a minute."""

    def __init__(self, complain: Callable[[str, str], None]) -> None:
        self._complain = complain
        self._buckets: dict[str, Bucket] = {}

    def tell(self, notices: Iterable[Notice], up: float) -> None:
        """``up``: seconds since the boot."""
        for notice in notices:
            bucket = self._buckets.setdefault(notice.file, Bucket(_RATE, _BURST))
            if bucket.take(up):
                self._complain(str(notice), "")
            else:
                line = f"{notice.file} changes again and again; `knockgate check` tells what is wrong with it"
                self._complain(line, f"file {notice.file}")
