"""Completion as people have it: a Tab in a real shell that has loaded the script, for each kind of shell."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.knockgate.cli.process import environment, knockgate
from tests.netns import DEADLINE, until

PROFILES = """
[profiles.home]
host = "192.0.2.1"
steps = ["7000"]
[profiles.office]
host = "192.0.2.2"
steps = ["7000"]
"""
#: The command that is typed: it completes, and notes what it is started with otherwise.
PROGRAM = """#!/bin/sh
if [ -z "$_KNOCKGATE_COMPLETE" ]; then echo "$*" >>"$NOTES"; exit; fi
exec {python} -c 'import sys; from knockgate.cli import main; sys.exit(main())' "$@"
"""
CHECKS = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}
FILES = {"bash": "knockgate.bash", "zsh": "_knockgate", "fish": "knockgate.fish"}
STARTS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
LOADS = {
    "bash": ("bash", "source {folder}/knockgate.bash"),
    "zsh as a package's file": ("zsh", "fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D"),
    "zsh as in .zshrc": ("zsh", 'autoload -Uz compinit; compinit -u -D; eval "$(cat {folder}/_knockgate)"'),
    "fish": ("fish", "source {folder}/knockgate.fish"),
}


def script(shell: str) -> str:
    done = knockgate("completion", shell)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Scripts, the program, and its profiles."""
    for shell, name in FILES.items():
        (tmp_path / name).write_text(script(shell))
    program = tmp_path / "bin" / "knockgate"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=shlex.quote(sys.executable)))
    program.chmod(0o755)
    (tmp_path / "knockgate").mkdir()
    (tmp_path / "knockgate" / "profiles.toml").write_text(PROFILES)
    return tmp_path


@pytest.mark.parametrize("shell", CHECKS)
def test_a_shell_takes_its_script(shell: str, folder: Path) -> None:
    needs(shell)

    def accepted() -> bool:
        words = [*CHECKS[shell], str(folder / FILES[shell])]
        done = subprocess.run(words, capture_output=True, timeout=DEADLINE, check=False)
        return done.returncode == 0 and done.stderr == b""

    assert accepted()
    with (folder / FILES[shell]).open("a") as stream:
        stream.write("\nif (\n")
    assert not accepted()


class Terminal:
    """A shell that somebody types at."""

    def __init__(self, shell: str, folder: Path) -> None:
        self._folder = folder
        self.notes = folder / "notes"
        own = environment(
            PATH=f"{folder / 'bin'}:{os.environ['PATH']}",
            PYTHONPATH=str(Path("src").resolve()),
            XDG_CONFIG_HOME=str(folder),
            HOME=str(folder),
            NOTES=str(self.notes),
            TERM="xterm",
        )
        pid, self._terminal = pty.fork()
        if pid == 0:
            try:
                os.chdir(folder)
                os.execvpe(STARTS[shell][0], STARTS[shell], own)  # noqa: S606 - that is what is tested
            finally:
                os._exit(127)
        self._pid = pid
        self.seen = b""

    def types(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _reads(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the shell is gone
            while select.select([self._terminal], [], [], 0)[0]:
                self.seen += os.read(self._terminal, 4096)

    def until_there(self, file: Path, text: str = "") -> None:
        """Wait for that line in a file."""

        def there() -> bool:
            self._reads()
            return file.exists() and (not text or text in file.read_text().splitlines())

        try:
            until(there, f"{text!r} in {file.name}")
        except AssertionError as error:
            raise AssertionError(f"{error}; seen: {self.seen!r}") from None

    def end(self) -> None:
        os.close(self._terminal)  # which is a hang-up
        os.waitpid(self._pid, 0)


@contextlib.contextmanager
def typing(shell: str, folder: Path) -> Iterator[Terminal]:
    terminal = Terminal(shell, folder)
    try:
        yield terminal
    finally:
        terminal.end()


@pytest.mark.parametrize(("shell", "load"), LOADS.values(), ids=list(LOADS))
def test_a_tab_completes_commands_and_profiles(shell: str, load: str, folder: Path) -> None:
    needs(shell)
    with typing(shell, folder) as terminal:
        terminal.types("knockgate compl\t\n")  # the control: nothing is loaded
        terminal.until_there(terminal.notes, "compl")
        terminal.types(f"{load.format(folder=folder)}; touch ready\n")
        terminal.until_there(folder / "ready")
        for typed, meant in (
            ("compl\t", "completion"),
            ("knock off\t", "knock office"),
            ("trust off\t", "trust off"),  # is to be a new name
            ("trust --replace off\t", "trust --replace office"),
            ("status --js\t", "status --json"),
            ("log --event not-o\t", "log --event not-opened"),
            ("status --wat\t", "status --watch"),
        ):
            terminal.types(f"knockgate {typed}\n")
            terminal.until_there(terminal.notes, meant)
