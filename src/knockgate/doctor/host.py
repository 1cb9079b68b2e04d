"""What examinations share: the configuration, what several of them read, and how programs are asked."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from knockgate.config.doors import Configuration
from knockgate.doctor.listening import Listener, read_listeners
from knockgate.doctor.ruleset import Rules, read_rules
from knockgate.errors import Unavailable
from knockgate.model import Port

__all__ = [
    "Host",
    "Missing",
    "output_of",
    "program",
    "read_text",
    "running_programs",
    "sees_all_programs",
    "setting",
]

#: Seconds for any program that is asked.
PATIENCE = 10.0
#: Where programs of the system are, whatever the PATH of who asks.
_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST = 1 << 20


@dataclass
class Host:
    """The host that we are on, and the gate that is meant for it."""

    configuration: Configuration | None = None  #: None: then the host alone is looked at
    path: str = ""  #: of the configuration

    @property
    def guarded(self) -> set[Port]:
        """The ports of all doors."""
        return (
            {port for door in self.configuration.doors for port in door.ports}
            if self.configuration
            else set()
        )

    @property
    def needs_daemon(self) -> bool:
        """Whether some knocks open nothing without one."""
        found = self.configuration
        return found is not None and any(door.needs_daemon for door in found.doors)

    @property
    def keeps_state(self) -> bool:
        """Whether something has to outlive a reboot: spent packets, keys, commands that close."""
        found = self.configuration
        return found is not None and bool(
            found.fwknop or found.sealed or any(door.commands for door in found.doors)
        )

    @cached_property
    def listeners(self) -> list[Listener]:
        """Who listens; read once."""
        return read_listeners()

    @cached_property
    def rules(self) -> Rules:
        """The rules of others; read once. Raises Unavailable."""
        return read_rules()


class Missing(Unavailable):
    """A program is not there."""


def program(name: str) -> str | None:
    """The path of a program; None where there is none that we may run."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_FOLDERS}")


def output_of(name: str, *words: str, patience: float = PATIENCE) -> str:
    """What a program prints. Raises Unavailable where it fails, or takes too long, and Missing."""
    path = program(name)
    if path is None:
        raise Missing(f"the program {name} is not there")
    try:
        done = subprocess.run(
            [path, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=patience,
            check=False,
            env={"PATH": f"{os.environ.get('PATH', '')}:{_FOLDERS}", "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{name} has not answered within {patience:g} s") from None
    except OSError as error:
        raise Unavailable(f"{name} cannot be run: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise Unavailable(f"{name} failed: {said[-1] if said else f'status {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def read_text(path: Path | str) -> str | None:
    """What is in a small file; None where it is not there. Raises OSError where it cannot be read."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), Path(path).open("rb") as stream:
        return stream.read(_MOST).decode(errors="replace")
    return None


def setting(name: str, proc: Path = Path("/proc/sys")) -> int | None:
    """A kernel setting such as ``net.ipv4.ip_forward``; None where there is none, or it is no number."""
    try:
        text = read_text(proc / name.replace(".", "/"))
        return None if text is None else int(text.split()[0])
    except (OSError, ValueError, IndexError):
        return None


def running_programs(proc: Path = Path("/proc")) -> set[str]:
    """The names of all processes that can be seen, at most 15 characters each."""
    return set(_names(proc))


def sees_all_programs(proc: Path = Path("/proc")) -> bool:
    """Whether other users' processes can be seen (proc(5): ``hidepid``)."""
    return os.access(proc / "1" / "comm", os.R_OK, effective_ids=True)


def _names(proc: Path) -> Iterator[str]:
    for folder in proc.iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended
                yield (folder / "comm").read_text(errors="replace").strip()
