"""``knockgate install`` into another tree; what it does on a host is in tests/systemd/test_gate_units.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.knockgate.cli.process import knockgate

from knockgate.cli import unitfiles
from knockgate.errors import Unavailable

PACKAGES = "/usr/lib/knockgate"
UNITS = {
    "knockgate-keeper.service",
    "knockgate-keeper.socket",
    "knockgate-listener.service",
    "knockgate-rules.service",
    "knockgate-runner.service",
    "knockgate-runner.socket",
    "knockgate-warden.service",
}
#: The runner runs what the admin says, as root; the table alone is loaded and then nothing runs.
SANDBOXED = [f"knockgate-{half}.service" for half in ("warden", "listener", "keeper")]


def install(tree: Path, *words: str) -> list[dict[str, str]]:
    done = knockgate("install", "--root", str(tree), "--packages", PACKAGES, "--json", *words)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)["changes"]
    return found


def files(tree: Path) -> set[str]:
    return {str(each.relative_to(tree)) for each in tree.rglob("*") if each.is_file()}


def test_it_fills_a_tree_and_takes_all_of_it_away_again(tmp_path: Path) -> None:
    assert install(tmp_path, "--dry-run") == install(tmp_path, "--dry-run") and files(tmp_path) == set()
    made = install(tmp_path)
    assert {each["action"] for each in made} == {"create"}
    assert files(tmp_path) == {each["path"][1:] for each in made} | {"var/lib/knockgate-installed.json"}
    assert {Path(each["path"]).name for each in made if "/systemd/" in each["path"]} == UNITS
    assert all((tmp_path / each["path"][1:]).stat().st_mode & 0o777 == 0o644 for each in made)
    assert not any(re.search("@[A-Z_]+@", (tmp_path / each["path"][1:]).read_text()) for each in made)
    assert install(tmp_path) == []
    done = knockgate("uninstall", "--root", str(tmp_path))
    assert done.returncode == 0 and done.stdout.count("remove ") == len(made)
    assert files(tmp_path) == set()
    assert "nothing to be done" in knockgate("uninstall", "--root", str(tmp_path)).stdout


def test_a_distribution_has_other_folders(tmp_path: Path) -> None:
    made = {each["path"] for each in install(tmp_path, "--units", "/usr/lib/systemd/system")}
    assert {"/usr/lib/sysusers.d/knockgate.conf", "/usr/lib/tmpfiles.d/knockgate.conf"} <= made
    assert not any(path.startswith("/etc") for path in made)


def test_what_somebody_has_changed_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    install(tmp_path)
    unit = tmp_path / "etc/systemd/system/knockgate-warden.service"
    unit.write_text("# mine\n")
    before = files(tmp_path)
    done = knockgate("install", "--root", str(tmp_path), "--packages", "/opt/other")
    assert done.returncode == 2 and f"{unit.relative_to(tmp_path)} is there, and was changed" in done.stderr
    assert files(tmp_path) == before
    done = knockgate("uninstall", "--root", str(tmp_path))
    assert done.returncode == 0 and "was changed by somebody, and is left" in done.stderr
    assert files(tmp_path) == {str(unit.relative_to(tmp_path))} and unit.read_text() == "# mine\n"
    done = knockgate("install", "--root", str(tmp_path), "--packages", PACKAGES)
    assert done.returncode == 2 and "is not from this installer" in done.stderr


def test_what_has_moved_is_laid_down_anew(tmp_path: Path) -> None:
    install(tmp_path)
    done = knockgate("install", "--root", str(tmp_path), "--packages", "/opt/other", "--json")
    changes = json.loads(done.stdout)["changes"]
    assert {each["action"] for each in changes} == {"replace"}
    assert (
        "/opt/other/knockgate/daemon/start.py"
        in (tmp_path / "etc/systemd/system/knockgate-warden.service").read_text()
    )


@pytest.mark.parametrize(("words", "says"), [
    (["--now", "--root", "{tree}"], "nothing can be started in another tree"),
    (["--packages", "/opt/x"], "is for another tree"),
    (["--root", "{tree}/none"], "there is no directory"),
])  # fmt: skip
def test_what_cannot_be_is_said(tmp_path: Path, words: list[str], says: str) -> None:
    done = knockgate("install", *(word.format(tree=tmp_path) for word in words))
    assert done.returncode == 2 and says in done.stderr


def test_a_program_that_no_unit_can_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/home/jo/venv/bin/python3")
    with pytest.raises(Unavailable, match="where no unit can see it"):
        unitfiles.here()


def test_a_list_that_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "var/lib/knockgate-installed.json").write_text("{")
    before = files(tmp_path)
    for command in ("install", "uninstall"):
        done = knockgate(command, "--root", str(tmp_path))
        assert done.returncode == 2 and "cannot be read" in done.stderr
    assert files(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_without_root_it_says_so() -> None:
    assert "run it as root" in knockgate("install").stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="not installed: systemd-analyze")
def test_systemd_finds_little_to_say_against_the_sandboxes(tmp_path: Path) -> None:
    def is_tight(unit: Path) -> bool:
        command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=15", str(unit)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    install(tmp_path)
    folder = tmp_path / "etc/systemd/system"
    assert [name for name in SANDBOXED if not is_tight(folder / name)] == []
    lines = (folder / SANDBOXED[0]).read_text().splitlines(keepends=True)
    loose = folder / "knockgate-loose.service"  # the control
    loose.write_text("".join(line for line in lines if "Protect" not in line and "Filter" not in line))
    assert not is_tight(loose)
