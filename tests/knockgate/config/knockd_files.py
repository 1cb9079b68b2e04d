"""knockd.conf for tests, and what we make of it."""

from __future__ import annotations

from pathlib import Path

from knockgate.config.doors import Door
from knockgate.config.knockd import Note, examine, load, translate
from knockgate.model import Port, Protocol


def tcp(*numbers: int) -> tuple[Port, ...]:
    return tuple(Port(Protocol.TCP, number) for number in numbers)


def written(text: str | bytes, folder: Path) -> Path:
    path = folder / "knockd.conf"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def the_door(text: str, folder: Path) -> Door:
    (door,) = load(written(text, folder), "lo").doors
    return door


def notes_on(text: str, folder: Path) -> list[Note]:
    return list(examine(written(text, folder), "lo")[1])


def translation(text: str, folder: Path) -> str:
    """With every comment on one line, however long the name of the file is."""
    return translate(written(text, folder), "lo").replace("\n#  ", "")
