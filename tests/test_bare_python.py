"""The sequence path runs from two copied folders on a bare Python, as the tutorial promises.

import-linter cannot say "nothing third-party", so this says it by doing just that: the system's own
interpreter, isolated (-I) and without site-packages (-S), sees the copied folders and nothing else.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"
PYTHON = "/usr/bin/python3"

# argv: the folder, the module, its arguments. Exits as the module does, or with a text, which is
# status 1, when a module came from anywhere but the standard library and the two packages.
BOOTSTRAP = """
import runpy, sys
folder, module, *arguments = sys.argv[1:]
sys.path.insert(0, folder)
sys.argv = [module, *arguments]
sys.dont_write_bytecode = True
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    status = 0
except SystemExit as end:
    status = end.code
if status:
    sys.exit(status)
known = sys.stdlib_module_names | {"knockgate", "knockdemo", "__main__"}
# The one stdlib module whose name depends on the machine.
strangers = {n.partition(".")[0] for n in sys.modules} - known
strangers = {n for n in strangers if not n.startswith("_sysconfigdata_")}
if strangers:
    sys.exit(f"not of the standard library: {sorted(strangers)}")
elsewhere = [m.__file__ for n, m in sys.modules.items()
             if n.startswith("knock") and m.__file__ and not m.__file__.startswith(folder)]
if elsewhere:
    sys.exit(f"not out of the copied folders: {elsewhere}")
"""


def run_bare(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-I", "-S", *argv], capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Both packages, copied as a reader of the tutorial would."""
    copy = tmp_path_factory.mktemp("copied folders")
    for package in ("knockgate", "knockdemo"):
        shutil.copytree(SOURCE / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    return str(copy)


@pytest.mark.parametrize("module", ["knockdemo.daemon", "knockdemo.secret_service", "knockdemo.client"])
def test_help_on_a_bare_python(folder: str, module: str) -> None:
    done = run_bare("-c", BOOTSTRAP, folder, module, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_install_dry_run_on_a_bare_python(folder: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    done = run_bare(
        "-c", BOOTSTRAP, folder, "knockdemo", "install", "--dry-run", "--root", str(root), "--interface", "lo"
    )
    assert done.returncode == 0, done.stderr
    assert list(root.iterdir()) == [], "a dry run writes nothing"


def test_client_is_one_file(tmp_path: Path) -> None:
    """Copied alone to the other machine, under the tutorial's name."""
    client = tmp_path / "knock-client.py"
    shutil.copyfile(SOURCE / "knockdemo" / "client.py", client)
    done = run_bare(str(client), "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_the_bootstrap_notices_a_stranger(tmp_path: Path) -> None:
    """The test of the test: a third-party module beside the packages is named, and fails."""
    (tmp_path / "stranger.py").write_text("")
    (tmp_path / "knockdemo.py").write_text("import stranger\n")
    done = run_bare("-c", BOOTSTRAP, str(tmp_path), "knockdemo")
    assert done.returncode == 1
    assert "['stranger']" in done.stderr
