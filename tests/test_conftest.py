from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPO
from tests.netns import isolated, own_mounts

TESTS = """
from pathlib import Path

def test_run(): Path("/run/{name}").mkdir()
def test_lib(): Path("/var/lib/{name}").mkdir()
def test_none(): pass
"""


def run_them(file: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Three tests of which two make folders of that name, run by a pytest of their own."""
    file.write_text(TESTS.format(name=name))
    options = ["-c", str(REPO / "pyproject.toml"), "-p", "tests.conftest", "-p", "no:cacheprovider", "-q"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
        timeout=60,
    )


@isolated
def test_a_test_that_makes_a_gates_folders_on_the_host_fails(tmp_path: Path) -> None:
    own_mounts()  # stand in for the host's
    file = tmp_path / "test_it.py"
    done = run_them(file, "another")  # control
    assert done.returncode == 0 and "3 passed" in done.stdout
    done = run_them(file, "knockgate")
    assert done.returncode == 1 and "3 passed, 2 errors" in done.stdout
    assert "made on this host: /run/knockgate\n" in done.stdout
    assert "made on this host: /var/lib/knockgate\n" in done.stdout
    done = run_them(tmp_path / "test_again.py", "yet_another")  # a gate is installed here: no test's doing
    assert done.returncode == 0 and "3 passed" in done.stdout
