"""Where a half of the gate reads its configuration. Each reads it by itself, and compares checksums."""

from __future__ import annotations

import contextlib
import grp
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from knockgate.config import doors
from knockgate.config.doors import Configuration
from knockgate.daemon.arguments import Parser
from knockgate.errors import ConfigError

__all__ = ["Origin"]

#: The group of the units, which may read the configuration.
_GROUP = "knockgate"


@dataclass(frozen=True, slots=True)
class Origin:
    """A file, and how to read it."""

    path: str = str(doors.DEFAULT_PATH)  #: gate.toml, or knockd.conf where ``knockd`` says so
    knockd: bool = False
    interface: str = ""  #: instead of the one that knockd.conf names; not for a gate.toml

    def load(self) -> Configuration:
        """The configuration as it is in the file now; raises ConfigError."""
        try:
            return self._read()
        except ConfigError as error:
            # To run it as root is no advice for a unit, which has a user of its own.
            error.hint = self._how_to_let_us_read() or error.hint
            raise

    def _how_to_let_us_read(self) -> str | None:
        """What to do where a unit may not read the file; None where that is not what is wrong."""
        try:
            with Path(self.path).open("rb"):
                return None
        except PermissionError:
            group = ""
            with contextlib.suppress(KeyError):
                group = grp.getgrgid(os.getegid()).gr_name
            if group != _GROUP or os.geteuid() == 0:
                return None
        except OSError:
            return None
        import shlex  # noqa: PLC0415 - not where all is well

        file = os.path.abspath(self.path)  # noqa: PTH100 - links stay as they are
        file, folder = shlex.quote(file), shlex.quote(os.path.dirname(file))  # noqa: PTH120 - see above
        return f"chown root:{_GROUP} {folder} {file}; chmod 0750 {folder}; chmod 0640 {file}"

    def _read(self) -> Configuration:
        if not self.knockd:
            return doors.load(self.path)
        from knockgate.config import knockd  # noqa: PLC0415 - most gates have no knockd.conf to read

        return knockd.load(self.path, self.interface)

    def arguments(self) -> list[str]:
        """The command line that leads another process to the same file."""
        file = os.path.abspath(self.path)  # noqa: PTH100 - links stay as they are, so that they may be turned
        if not self.knockd:
            return ["--config", file]
        return ["--knockd", file, *(["--interface", self.interface] if self.interface else [])]

    @staticmethod
    def add_arguments(parser: Parser) -> None:
        """``--config FILE`` or ``--knockd FILE [--interface IF]``."""
        files = parser.add_mutually_exclusive_group()
        files.add_argument("--config", metavar="FILE", default=str(doors.DEFAULT_PATH), help="gate.toml")
        files.add_argument("--knockd", metavar="FILE", help="knockd.conf instead")
        parser.add_argument("--interface", metavar="IF", default="", help="instead of knockd.conf's")

    @classmethod
    def of(cls, arguments: SimpleNamespace) -> Origin:
        """What a command line with the arguments above says."""
        if arguments.knockd:
            return cls(arguments.knockd, knockd=True, interface=arguments.interface)
        return cls(arguments.config)
