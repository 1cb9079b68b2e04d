"""Mutants that survive and may: ``explained.toml``, which says why."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.mutants.making import Mutant

__all__ = ["FILE", "Explained", "Wrong", "check", "load"]

FILE = Path(__file__).with_name("explained.toml")
_KEYS = {"module", "within", "old", "new", "why"}


class Wrong(Exception):
    """The file says something that is not so."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a mutant makes no difference that a test could see; or all that read alike in one function."""

    module: str
    within: str
    old: str
    new: str
    why: str

    @property
    def what(self) -> tuple[str, str, str]:
        """As a mutant's."""
        return self.within, self.old, self.new


def load(file: Path = FILE) -> list[Explained]:
    """What is in the file; raises Wrong."""
    found: list[Explained] = []
    for number, each in enumerate(tomllib.loads(file.read_text()).get("survivor", []), 1):
        if each.keys() != _KEYS or not each["old"].strip() or not each["why"].strip():
            raise Wrong(f"{file.name}: number {number} needs {', '.join(sorted(_KEYS))}")
        one = Explained(**each)
        if any((one.module, one.what) == (other.module, other.what) for other in found):
            raise Wrong(f"{file.name}: number {number} is there twice")
        found.append(one)
    return found


def check(explained: Iterable[Explained], module: str, mutants: Iterable[Mutant]) -> None:
    """Raises Wrong where one of the module's is about a mutant that there is not."""
    there = {each.what for each in mutants}
    for each in explained:
        if each.module == module and each.what not in there:
            what = f"there is no mutant that makes {each.new!r} of {each.old!r}"
            raise Wrong(f"{FILE.name}: {module}, {each.within or 'the module itself'}: {what}")
