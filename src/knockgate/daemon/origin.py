"""Where a half of the gate reads its configuration. Each reads it by itself, and compares checksums."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

from knockgate.config import doors
from knockgate.config.doors import Configuration

__all__ = ["Origin"]


@dataclass(frozen=True, slots=True)
class Origin:
    """A file, and how to read it."""

    path: str = str(doors.DEFAULT_PATH)  #: gate.toml, or knockd.conf where ``knockd`` says so
    knockd: bool = False
    interface: str = ""  #: instead of the one that knockd.conf names; not for a gate.toml

    def load(self) -> Configuration:
        """The configuration as it is in the file now; raises ConfigError."""
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
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """``--config FILE`` or ``--knockd FILE [--interface IF]``."""
        files = parser.add_mutually_exclusive_group()
        files.add_argument("--config", metavar="FILE", default=str(doors.DEFAULT_PATH), help="gate.toml")
        files.add_argument("--knockd", metavar="FILE", help="knockd.conf instead")
        parser.add_argument("--interface", metavar="IF", default="", help="instead of knockd.conf's")

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Origin:
        """What a command line with the arguments above says."""
        if arguments.knockd:
            return cls(arguments.knockd, knockd=True, interface=arguments.interface)
        return cls(arguments.config)
