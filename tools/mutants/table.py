"""What each module's last run said: ``docs/mutants.json``, and ``docs/mutants.md``, the same for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Row", "load", "page", "save"]

_HEAD = """\
# Mutants

`make mutants` puts small mistakes into `spa` and `mechanisms`, one at a time and in a copy, and runs the
tests that belong to the module. It wrote this page, and `mutants.json` with the same figures.

**Tried** where not all were: a choice by their hashes, so nobody picked them. **Explained**: the tests pass
with it and may, for the reason in `tools/mutants/explained.toml`. **Open**: no test notices, and nobody has
said yet that none needs to. What was caught counts as caught as long as the module stays the same. The
checksum is of the module and its tests: `make mutants ARGS=--check` says which have changed since.

| module | mutants | tried | caught | explained | open | caught or explained | date | checksum |
|---|--:|--:|--:|--:|--:|--:|---|---|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One module's."""

    module: str
    mutants: int
    tried: int
    caught: int
    explained: int
    date: str  #: of the last run that tried any
    checksum: str  #: of the module and its tests as they were then

    @property
    def open(self) -> int:
        """What neither a test nor a reason speaks of."""
        return self.tried - self.caught - self.explained


def load(file: Path) -> dict[str, Row]:
    """By module; none where there is no file."""
    return {each["module"]: Row(**each) for each in json.loads(file.read_text())} if file.exists() else {}


def save(file: Path, rows: Iterable[Row]) -> None:
    """``file``, and the page beside it."""
    ordered = sorted(rows, key=lambda each: each.module)
    file.write_text(json.dumps([asdict(each) for each in ordered], indent=1) + "\n")
    file.with_suffix(".md").write_text(page(ordered))


def page(rows: Iterable[Row]) -> str:
    """The text for people."""
    return _HEAD + "".join(
        f"| `{each.module}` | {each.mutants} | {each.tried} | {each.caught} | {each.explained} | {each.open} "
        f"| {_share(each)} | {each.date} | `{each.checksum}` |\n"
        for each in rows
    )


def _share(row: Row) -> str:
    """Rounded down: 100% is all of them."""
    return f"{100 * (row.caught + row.explained) // row.tried}%" if row.tried else "-"
