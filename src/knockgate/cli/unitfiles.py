"""What ``knockgate install`` lays down: the units out of ``knockgate/units``, with this host's paths in."""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import knockgate
from knockgate.config.doors import DEFAULT_PATH
from knockgate.errors import Unavailable

__all__ = [
    "PACKAGED",
    "PACKAGED_UNITS",
    "RUNNING",
    "UNITS",
    "Program",
    "comes_as_package",
    "elsewhere",
    "here",
    "render",
]

#: Those that ``--now`` starts. The others are started when they are needed.
RUNNING = ("knockgate-warden.service", "knockgate-listener.service")
#: Where an admin's own units lie, and users and folders that are to be there.
UNITS = "/etc/systemd/system"
#: Where a Debian package keeps our packages and the units (tools/deb.py).
PACKAGED = "/usr/lib/knockgate"
PACKAGED_UNITS = "/usr/lib/systemd/system"
_SNIPPETS = {"knockgate.sysusers": "sysusers.d", "knockgate.tmpfiles": "tmpfiles.d"}
_SYSTEM_PYTHON = "/usr/bin/python3"
#: What a unit cannot see, whatever the rights: ProtectHome=, PrivateTmp=.
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - nothing is written there


@dataclass(frozen=True, slots=True)
class Program:
    """An interpreter, and the folder in which knockgate's package lies."""

    python: str
    packages: str
    libraries: tuple[str, ...] = ()  #: where else it maps programs from

    @property
    def start(self) -> str:
        """What starts a half."""
        return f"{self.packages}/knockgate/daemon/start.py"


def here() -> Program:
    """The one that runs now; raises Unavailable where systemd's units could not use it."""
    packages = str(Path(knockgate.__file__).resolve().parents[1])
    named = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "platlib", "purelib")]
    real = os.path.realpath(sys.executable)
    program = Program(sys.executable, packages, (real, *(each for each in named if each)))
    for path in (sys.executable, real, packages):
        if any(Path(path).is_relative_to(each) for each in _HIDDEN):
            hint = "install it into /opt or /usr/local, for example: python3 -m venv /opt/knockgate"
            raise Unavailable(f"{path} is where no unit can see it", hint=hint)
        closed = [each for each in (Path(path), *Path(path).parents) if not each.stat().st_mode & 0o005]
        if closed:
            raise Unavailable(f"{closed[0]} is not for everybody to read", hint=f"chmod o+rX {closed[0]}")
    return program


def elsewhere(packages: str) -> Program:
    """What will be there once a package is installed: the system's Python."""
    return Program(_SYSTEM_PYTHON, packages)


def comes_as_package() -> bool:
    """Whether we are the Debian package's, whose units are dpkg's to lay down and to take away."""
    ours = Path(knockgate.__file__).resolve().is_relative_to(PACKAGED)
    return ours and Path(PACKAGED_UNITS, RUNNING[0]).exists()


def render(program: Program, units: str = UNITS, config: str = str(DEFAULT_PATH)) -> dict[str, str]:
    """Path on the host -> text."""
    source = Path(knockgate.__file__).parent / "units"
    words = {
        "@START@": shlex.join([program.python, "-I", program.start]),
        "@CONFIG@": config,
        "@CONFIG_FOLDER@": str(Path(config).parent),
        "@PACKAGES@": program.packages,
        "@EXEC@": " ".join(_executable(program)),
    }
    files = {}
    for path in sorted(source.iterdir()):
        text = path.read_text(encoding="utf-8")
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        if path.name in _SNIPPETS:
            # Where the units are the distribution's, so are these.
            base = "/etc" if units.startswith("/etc") else "/usr/lib"
            files[f"{base}/{_SNIPPETS[path.name]}/knockgate.conf"] = text
        else:
            files[f"{units}/{path.name}"] = text
    return files


def _executable(program: Program) -> list[str]:
    """What may be run or mapped; ``-``: where it is there."""
    system = ["/usr/bin/python3", "/usr/lib", "/lib", "/lib64", "/usr/lib64"]
    if program.python == _SYSTEM_PYTHON:
        # The name leads to python3.N, and it is that which counts.
        system += [f"/usr/bin/python3.{minor}" for minor in range(11, 20)]
    folders = dict.fromkeys([program.python, program.packages, *program.libraries, *system])
    return [f"-{each}" for each in folders]
