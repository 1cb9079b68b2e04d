"""One-time sequences: a file with a sequence a line, each of them good for one opening.

The format is knockd's, unchanged, so that both can use one file: ``port[:tcp|udp]`` with commas in
between, tcp where nothing is said. Blank lines and those that begin with ``#`` are passed over; the first
of the others is the one that counts. A used line gets a ``#`` in place of its first byte, which is why
one begins them with a blank. Nothing else in the file ever changes.

``claim`` is the one verb that writes. It looks at the file anew, whatever became of it in the meantime:
another process may hold it too, and an editor may have put another in its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from knockgate.errors import ConfigError, Unavailable
from knockgate.model import Port, Protocol

__all__ = ["MAX_BYTES", "MAX_STEPS", "OneTimeFile", "OneTimeLine", "parse"]

#: Sequences for years, and still read in a fifth of a second.
MAX_BYTES = 256 << 10
MAX_STEPS = 32
#: Mistakes that are told; a file that is no list of sequences has one in every line.
_TOLD = 20
#: Whoever else locks the file has one byte to write. Seconds.
_PATIENCE, _LOOK_AGAIN = 1.0, 0.01
_STEP = re.compile(r"\s*([0-9]{1,5})\s*(?::\s*(tcp|udp)\s*)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class OneTimeLine:
    """An unused sequence and the line it stands on, counted from 1."""

    number: int
    steps: tuple[Port, ...]


class Found(NamedTuple):
    """What is in a file."""

    unused: dict[int, OneTimeLine]  #: by the line's number, in the order of the file
    offsets: list[int]  #: where each line begins, used or not, in bytes
    mistakes: list[ConfigError]  #: one for each line that cannot be used; no more than a screenful


def parse(content: bytes, file: str) -> Found:
    """Read the whole of a file; ``file`` is for the messages. No content is an error."""
    found = Found({}, [], [])
    offset = 0
    for number, line in enumerate(content.split(b"\n"), 1):
        found.offsets.append(offset)
        offset += len(line) + 1
        if not (text := line.strip()) or text.startswith(b"#"):
            continue
        try:
            found.unused[number] = OneTimeLine(number, _steps(text.decode("ascii", "backslashreplace")))
        except ValueError as error:
            if len(found.mistakes) < _TOLD:
                hint = "it is passed over; write one such as 7000,8000:udp,9000"
                found.mistakes.append(ConfigError(str(error), file=file, line=number, hint=hint))
    return found


def _steps(line: str) -> tuple[Port, ...]:
    """``7000,8000:udp`` -> the ports. Raises ValueError."""
    sequence, _, remark = line.partition("#")
    # knockd reads a number up to the first letter, so a remark behind it does no harm; but it does not
    # know the # there, and takes what follows a comma or a colon in the remark for a step.
    words = line.split(",") if "," in remark or ":" in remark else sequence.split(",")
    if len(words) > MAX_STEPS:
        raise ValueError(f"has {len(words)} steps; {MAX_STEPS} are possible")
    return tuple(_step(word) for word in words)


def _step(word: str) -> Port:
    found = _STEP.fullmatch(word)
    if not found or not 1 <= int(found[1]) <= 65535:
        shown = word.strip()
        raise ValueError(f"{shown[:40]!r} is no step" if shown else "a step is missing")
    return Port(Protocol[(found[2] or "tcp").upper()], int(found[1]))


class OneTimeFile:
    """A file of one-time sequences, by its name: it is opened anew whenever it is asked.

    Every verb raises Unavailable, with a hint, where the file cannot be read, written or locked.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.mistakes: list[ConfigError] = []  #: as of the last look

    def current(self) -> OneTimeLine | None:
        """The sequence that opens the door now; None when all are used."""
        with self._locked() as file:
            found = self._read(file)
        return next(iter(found.unused.values()), None)

    def claim(self, line: OneTimeLine) -> bool:
        """Spend ``line``. True: it was unused until now, is used from now on, and that is on the disk.

        False where it has been used by somebody else, or another sequence stands there now. After
        Unavailable the line may be spent, but nobody has claimed it.
        """
        with self._locked() as file:
            found = self._read(file)
            if found.unused.get(line.number) != line:
                return False
            try:
                os.pwrite(file, b"#", found.offsets[line.number - 1])
                os.fdatasync(file)
            except OSError as error:
                raise self._unavailable(error) from error
        return True

    def _read(self, file: int) -> Found:
        try:
            content = os.pread(file, MAX_BYTES + 1, 0)
        except OSError as error:
            raise self._unavailable(error) from error
        if len(content) > MAX_BYTES:
            hint = "take the used sequences out of it"
            raise Unavailable(f"{self.path} is larger than {MAX_BYTES} bytes", hint=hint)
        found = parse(content, self.path)
        self.mistakes = found.mistakes
        return found

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The file that bears the name now, for us alone among those who lock it."""
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            except (OSError, ValueError) as error:  # a name may hold a zero byte
                raise self._unavailable(error) from error
            try:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise Unavailable(f"{self.path} is no file", hint="one_time names a text file")
                if self._is_ours(file):
                    yield file
                    return
            finally:
                os.close(file)
            if time.monotonic() > end:
                hint = "some other process has locked it; `fuser` shows which"
                raise Unavailable(f"{self.path} is in use", hint=hint)
            time.sleep(_LOOK_AGAIN)

    def _is_ours(self, file: int) -> bool:
        """Lock an open file; False where somebody else has, or another file bears its name by now."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(file), Path(self.path).stat())
        except (BlockingIOError, FileNotFoundError):
            return False
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> Unavailable:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = "the daemon must be able to read and write it"
        return Unavailable(f"{self.path}: {reason}", hint=hint)
