"""A folder of vectors, written anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["write"]


def write(folder: Path, files: Iterable[tuple[str, str]]) -> None:
    """Write (name, content) into the folder; what is not made any more goes. OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for name, content in files:
        (folder / name).write_text(content)
