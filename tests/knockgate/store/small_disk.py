"""A disk that is soon full, for tests that are ``isolated``."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.netns import own_mounts, run

__all__ = ["fill", "small_disk"]


def small_disk() -> None:
    """Put one of 300 KiB in the place of /run."""
    own_mounts()
    run("mount", "-t", "tmpfs", "-o", "size=300k,mode=755", "tmpfs", "/run")


def fill(ballast: Path) -> None:
    """Write into this file until there is no more room."""
    with ballast.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(bytes(4096)):
            pass
