"""When tools/setup.sh makes .venv, and when it makes it anew."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.staged import ALL, Machine

# `python3 -m venv FOLDER` makes a folder whose python "installs" by making the programs.
FAKE_PYTHON = """
echo "python $*" >>"$FAKE/log"
case $2 in -c) exit "${FAKE_OLD:-0}" ;; esac
mkdir -p "$4/bin"
cat >"$4/bin/python" <<'END'
#!/bin/sh
echo "pip $*" >>"$FAKE/log"
[ ! -e "$FAKE/pip-fails" ] || exit 1
for name in knockdemo knockgate pytest ruff mypy lint-imports; do
    printf '#!/bin/sh\\n' >"${0%/*}/$name"; chmod 755 "${0%/*}/$name"
done
END
chmod 755 "$4/bin/python"
"""


@pytest.fixture
def ready(tmp_path: Path) -> Machine:
    """A machine with all packages, and a Python that only pretends."""
    machine = Machine(tmp_path)
    machine.installed(*ALL)
    machine.program(machine.root / "usr/bin/python3", FAKE_PYTHON)
    return machine


def built(machine: Machine) -> int:
    return sum("-m venv" in line for line in machine.log)


def test_the_environment_is_made_once(ready: Machine) -> None:
    done = ready.run("test")
    assert done.returncode == 0, done.stderr
    pinned, project = (line for line in ready.log if line.startswith("pip"))
    assert "--require-hashes" in pinned
    assert pinned.endswith("/a clone/requirements/dev.txt")
    assert "--no-deps --no-build-isolation --editable" in project
    began = time.monotonic()
    assert ready.run("demo").returncode == 0
    assert time.monotonic() - began < 1
    assert built(ready) == 1


def test_other_pins_make_it_anew(ready: Machine) -> None:
    ready.run("test")
    change(ready.repo / "requirements/dev.txt")
    ready.run("test")
    assert built(ready) == 2


def test_another_pyproject_installs_the_project_anew(ready: Machine) -> None:
    """The pinned programs stay: others may be running them, and it takes a second instead of thirty."""
    ready.run("test")
    change(ready.repo / "pyproject.toml")
    ready.run("test")
    assert built(ready) == 1
    assert sum("--editable" in line for line in ready.log) == 2
    ready.run("test")
    assert sum("--editable" in line for line in ready.log) == 2


def change(path: Path) -> None:
    with path.open("a") as file:
        file.write("# changed\n")


def test_a_moved_clone_makes_it_anew(ready: Machine) -> None:
    """Scripts in it begin with the old folder's name."""
    ready.run("test")
    ready.repo = ready.repo.rename(ready.repo.with_name("another place"))
    ready.run("test")
    assert built(ready) == 2


@pytest.mark.parametrize("name", ["python", "pytest", "ruff"])
def test_a_broken_one_is_made_anew(ready: Machine, name: str) -> None:
    ready.run("test")
    program = ready.repo / ".venv/bin" / name
    program.unlink()
    program.symlink_to("/nowhere/python3.9")
    ready.run("test")
    assert built(ready) == 2
    assert program.exists()


def test_a_half_made_one_is_made_anew(ready: Machine) -> None:
    (ready.fake / "pip-fails").touch()
    done = ready.run("test")
    assert done.returncode == 2
    assert "pip could not install" in done.stderr
    (ready.fake / "pip-fails").unlink()
    assert ready.run("test").returncode == 0
    assert built(ready) == 2


def test_an_old_python_is_one_clear_line(ready: Machine) -> None:
    done = ready.run("demo", FAKE_OLD="1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "older than 3.11" in line
