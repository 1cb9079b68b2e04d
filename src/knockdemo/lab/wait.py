"""Waiting on conditions: never a blind sleep, and never without an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from knockgate.errors import Unavailable

__all__ = ["until"]

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float, what: str, *, every: float = 0.01) -> T:
    """Ask ``condition`` every ``every`` seconds until it says something true, and return that.

    Raises Unavailable("not so after N s: {what}") when ``seconds`` are over.
    """
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise Unavailable(f"not so after {seconds:g} s: {what}")
        time.sleep(every)
