"""access.conf and what it includes -> stanzas with their options, in the order of the lines.

``SOURCE`` begins a stanza, and what stands before the first one does not count. An included file begins
anew: it cannot go on with the stanza that includes it, which goes on after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from knockgate.config.fwknop import lines
from knockgate.config.fwknop.findings import Findings, Place
from knockgate.config.fwknop.lines import Option
from knockgate.errors import ConfigError

__all__ = ["KEY_OPTIONS", "Section", "sections"]

#: What ``%include_keys`` takes out of a file.
KEY_OPTIONS = (
    "KEY",
    "KEY_BASE64",
    "HMAC_KEY",
    "HMAC_KEY_BASE64",
    "GPG_DECRYPT_ID",
    "GPG_DECRYPT_PW",
    "GPG_ALLOW_NO_PW",
    "GPG_REQUIRE_SIG",
    "GPG_DISABLE_SIG",
    "GPG_IGNORE_SIG_VERIFY_ERROR",
    "GPG_REMOTE_ID",
    "GPG_FINGERPRINT_ID",
)
_DEEPEST = 3
_MOST_FILES = 10_000


@dataclass(frozen=True, slots=True)
class Section:
    """A stanza as it stands there; ``number`` counts from 1 over all files, as fwknopd's log does."""

    number: int
    source: Option
    options: list[Option] = field(default_factory=list)

    @property
    def place(self) -> Place:
        """Its first line."""
        return self.source.place._replace(key=f"stanza {self.number}")


def sections(path: Path, found: Findings) -> list[Section]:
    """All stanzas of a file, or of the ``*.conf`` in a folder. What cannot be read is among the refusals."""
    reading = _Reading(found)
    if path.is_dir():
        reading.folder(path, Place(str(path)), depth=1)
    else:
        reading.file(path, Place(str(path)), depth=1)
    return reading.sections


class _Reading:
    def __init__(self, found: Findings) -> None:
        self.sections: list[Section] = []
        self._found = found
        self._files = 0

    def file(self, path: Path, asked: Place, depth: int) -> None:
        """Read one file; ``asked`` is where it is included."""
        section: Section | None = None
        for option in self._options(path, asked, depth):
            if include := _INCLUDES.get(option.name):
                name = Path(option.value)
                if not name.is_absolute():
                    here = f"is taken to be in the present folder, {Path.cwd()}"
                    self._found.note(option.place, here, "fwknopd looks in the folder where it is started")
                include(self, name, option.place, depth + 1)
            elif option.name == "SOURCE":
                section = Section(len(self.sections) + 1, option)
                self.sections.append(section)
            elif section is None:
                self._found.note(
                    option.place, "stands before the first SOURCE and is passed over, as by fwknopd"
                )
            elif option.name == "%include_keys":
                section.options.extend(self._keys(Path(option.value), option.place))
            else:
                section.options.append(option)

    def folder(self, path: Path, asked: Place, depth: int) -> None:
        """Read what fwknopd reads of a folder, in the order of the names; it has no order of its own."""
        try:
            names = sorted(each.name for each in path.iterdir())
        except OSError as error:
            self._found.refuse(asked, f"{path} cannot be read: {error.strerror}")
            return
        # Also a.conf~ and a.config: it compares the first five characters of the ending.
        names = [name for name in names if name[name.rfind(".") :].startswith(".conf") and "." in name]
        if not names:
            self._found.note(asked, f"there is no .conf in {path}")
        for name in names:
            self.file(path / name, asked, depth)

    def _keys(self, path: Path, asked: Place) -> list[Option]:
        options = self._options(path, asked, depth=1)
        for option in options:
            if option.name not in KEY_OPTIONS:
                hint = f"%include_keys takes {', '.join(KEY_OPTIONS[:4])} alone"
                self._found.refuse(option.place, "is passed over by fwknopd here", hint)
        return [option for option in options if option.name in KEY_OPTIONS]

    def _options(self, path: Path, asked: Place, depth: int) -> list[Option]:
        self._files += 1
        if depth > _DEEPEST:
            self._found.refuse(
                asked, f"more than {_DEEPEST} files within each other", "fwknopd takes no more"
            )
            return []
        if self._files > _MOST_FILES:
            self._found.refuse(asked, f"more than {_MOST_FILES} files")
            return []
        try:
            content = lines.read(path)
        except ConfigError as error:
            self._found.refuse(asked, f"{path} {error.message}", error.hint)
            return []
        read = (lines.option(line, self._found) for line in lines.lines(content, str(path), self._found))
        return [option for option in read if option]


_INCLUDES: dict[str, Callable[[_Reading, Path, Place, int], None]] = {
    "%include": _Reading.file,
    "%include_folder": _Reading.folder,
}
