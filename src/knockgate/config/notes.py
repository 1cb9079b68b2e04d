"""What an importer has to tell, besides what it refuses: where it does something else than the original."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Note"]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is done differently here, or not at all. ``line`` 0 is the whole file."""

    file: str
    line: int
    key: str  #: ``openSSH.TCPFlags``, ``FORCE_NAT``; empty for a heading or the file
    message: str
    hint: str | None = None
    is_warning: bool = False  #: what was so before is a danger

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.key, self.message) if part)
