"""Gates for sealed knocks as `knockgate init` makes them, for the tests of its commands."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.knockgate.cli.process import Done, knockgate

from knockgate.config import gatekeys
from knockgate.config.gatekeys import GateKeys
from knockgate.errors import Unavailable
from knockgate.store.marks import SqliteMarks

#: An Ed25519 key that somebody once had.
LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM0Us3+VbpUxlP9/tzs9gdzFYdYadTgJS3w+GmQ+5fOq jo@laptop"
#: A card's line, or what is in gate.keys; to be in no output.
_SECRET = re.compile(r"[A-Za-z0-9+/]{43}=|knockgate-card-v1 [A-Za-z0-9+/]{1600}")


@dataclass(frozen=True)
class SealedGate:
    """A folder with all of it; nothing runs."""

    folder: Path

    @property
    def config(self) -> str:
        return str(self.folder / "gate.toml")

    @property
    def keys_file(self) -> Path:
        return self.folder / "state" / "gate.keys"

    @property
    def marks_file(self) -> Path:
        return self.folder / "state" / "marks.sqlite"

    def does(self, *words: str, status: int = 0) -> Done:
        """A command about this gate."""
        done = knockgate(*words, "--config", self.config)
        assert done.returncode == status, done.stderr
        return done

    def keys(self) -> GateKeys:
        return gatekeys.load(self.keys_file)

    def starts(self) -> bool:
        """Whether a gate would: its keys and its marks are of one incarnation."""
        try:
            incarnation = self.keys().incarnation
            SqliteMarks(self.marks_file, incarnation=incarnation, devices=32).close()
        except Unavailable:
            return False
        return True

    def store(self) -> SqliteMarks:
        return SqliteMarks(self.marks_file, incarnation=self.keys().incarnation, devices=32)


def initialised(folder: Path, line: str = LINE) -> SealedGate:
    """What `knockgate init` makes there; its sockets would be there too."""
    (folder / "people").write_text(line + "\n")
    words = ["--keys", str(folder / "people"), "--config", str(folder / "gate.toml")]
    words += ["--state", str(folder / "state"), "-o", str(folder / "everybody.card")]
    done = knockgate("init", *words)
    assert done.returncode == 0, done.stderr
    found = SealedGate(folder)
    text = Path(found.config).read_text()
    assert "[gate]\n" in text
    Path(found.config).write_text(text.replace("[gate]\n", f'[gate]\nrun_directory = "{folder}/run"\n'))
    return found


def has_secret(text: str) -> bool:
    """Whether a card, or what is secret in gate.keys, is in it."""
    return bool(_SECRET.search(text))


def all_below(folder: Path) -> Iterator[str]:
    """The names of all files and folders."""
    for each in folder.rglob("*"):
        yield os.fspath(each.relative_to(folder))
