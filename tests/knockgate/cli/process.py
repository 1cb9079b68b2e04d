"""The command as people start it, and in our own process where only what it does and says is of interest."""

from __future__ import annotations

import contextlib
import io
import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.netns import DEADLINE

from knockgate.cli import main

#: A user's profiles are none of a test's business.
ENVIRONMENT = {"PYTHONPATH": "src", "XDG_CONFIG_HOME": "/nonexistent"}


class Done(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def knockgate(*words: str) -> Done:
    """Run a command line here: a tenth of the time that a process takes."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    return Done(status, out.getvalue(), err.getvalue())


def command(*words: str) -> list[str]:
    """The argument vector of a process of its own."""
    return [sys.executable, "-m", "knockgate", *words]


def environment(**others: str) -> dict[str, str]:
    return os.environ | ENVIRONMENT | others


def process(*words: str, text: str | None = None) -> Done:
    """Run a command line as a process of its own; ``text`` is typed, else there is nobody to type."""
    done = subprocess.run(
        command(*words),
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=environment(),
    )
    return Done(done.returncode, done.stdout, done.stderr)


def as_nobody(*words: str, program: Sequence[str] | None = None, **others: str) -> Done:
    """Run a command line as a user who may do nothing; only root can.

    ``program``: what is run instead of the command, with ``words``; ``others`` are variables.
    """
    nobody = pwd.getpwnam("nobody")
    done = subprocess.run(
        command(*words) if program is None else [*program, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=environment(**others),
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=(),
    )
    return Done(done.returncode, done.stdout, done.stderr)


def started_at_home(words: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:  # noqa: ANN401
    """Start this with the profiles that ``profiles_in`` has made; with pipes unless told otherwise."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    own = environment(XDG_CONFIG_HOME=os.environ["XDG_CONFIG_HOME"])
    found: subprocess.Popen[Any] = subprocess.Popen(words, env=own, **(pipes | popen))
    return found


def profiles_in(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose profiles.toml this is, from now on ours; returns the file."""
    file = folder / "knockgate" / "profiles.toml"
    file.parent.mkdir()
    file.write_text(text)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return file


def started(words: Sequence[str], **popen: Any) -> subprocess.Popen[str]:  # noqa: ANN401
    """Start a process of its own and let it run."""
    return subprocess.Popen(command(*words), text=True, env=environment(), **popen)
