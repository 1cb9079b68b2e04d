"""Laying the demonstration down and taking it up again, in trees of their own: never on this host."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.knockdemo.installing import (
    COMMAND,
    FULL_DISK,
    KEYS,
    KILLED,
    SOURCE,
    lay_down,
    process,
    snapshot,
    take_up,
)

from knockdemo import install, units
from knockdemo.ledger import EDITED, STATE, Ledger
from knockgate.errors import Unavailable

# --- installing and uninstalling ---------------------------------------------------------------------


def test_everything_is_where_the_tutorial_has_it(root: Path) -> None:
    assert lay_down(root) == 0
    for path in (
        "usr/lib/python3/dist-packages/knockdemo/daemon.py",
        "usr/lib/python3/dist-packages/knockdemo/units/knockd.conf",
        "usr/lib/python3/dist-packages/knockgate/errors.py",
        "usr/lib/knockdemo/knock-client.py",
        "usr/lib/knockdemo/demo-firewall-base.sh",
        "etc/systemd/system/secret-service@.service",
        "etc/systemd/system/knock-demo.service",
        "etc/systemd/system/demo-firewall-base.service",
        "etc/systemd/system/fwknopd.service",
        "etc/systemd/system/knockd.service.d/knockdemo.conf",
        "etc/knockd.conf",
    ):
        assert (root / path).is_file(), path
    assert not list(root.rglob("__pycache__"))
    for target in KEYS:
        assert stat.S_IMODE((root / target.lstrip("/")).stat().st_mode) == 0o600
    assert stat.S_IMODE((root / STATE.lstrip("/")).stat().st_mode) == 0o700
    assert os.access(root / "usr/lib/knockdemo/demo-firewall-base.sh", os.X_OK)


def test_uninstalling_leaves_the_tree_as_it_was(root: Path) -> None:
    before = snapshot(root)
    lay_down(root)
    # What root's Python leaves beside modules that it has run from there.
    cache = root / "usr/lib/python3/dist-packages/knockdemo/__pycache__"
    cache.mkdir()
    (cache / "daemon.cpython-311.pyc").write_bytes(b"cached")
    assert take_up(root) == 0
    assert snapshot(root) == before


def test_uninstalling_twice_says_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_down(root)
    take_up(root)
    capsys.readouterr()
    assert take_up(root) == 0
    assert capsys.readouterr().out == "nothing is installed\n"


def test_a_symbolic_link_in_the_way_comes_back(root: Path) -> None:
    (root / "etc/knockd.conf").rename(root / "etc/knockd.mine")
    (root / "etc/knockd.conf").symlink_to("knockd.mine")
    before = snapshot(root)
    lay_down(root)
    assert not (root / "etc/knockd.conf").is_symlink()
    take_up(root)
    assert snapshot(root) == before


def test_installing_again_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_down(root)
    first = {path: entry for path, entry in snapshot(root).items() if not path.endswith("manifest.json")}
    capsys.readouterr()
    lay_down(root, interface=None)
    assert "nothing changed" in capsys.readouterr().out
    assert {
        path: entry for path, entry in snapshot(root).items() if not path.endswith("manifest.json")
    } == first


def test_installing_again_keeps_keys_and_originals(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(root)
    lay_down(root)
    keys = (root / "etc/knockdemo/client.fwknoprc").read_bytes()
    capsys.readouterr()
    lay_down(root, "--window", "4", "--json", interface="wlan0")
    report = json.loads(capsys.readouterr().out)
    assert report["window_s"] == 4
    assert {change["path"] for change in report["changes"]} == {
        "/etc/systemd/system/knockd.service.d/knockdemo.conf",
        "/etc/systemd/system/fwknopd.service",
        "/etc/knockdemo/knockdemo.toml",
        "/etc/knockd.conf",
        "/etc/fwknop/fwknopd.conf",
        "/etc/fwknop/access.conf",
    }
    assert {change["action"] for change in report["changes"]} == {"update"}
    assert report["next"][-1] == "systemctl try-restart knock-demo knockd fwknopd"
    assert (root / "etc/knockdemo/client.fwknoprc").read_bytes() == keys
    take_up(root)
    assert snapshot(root) == before


def test_new_keys_on_request(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_down(root)
    keys = units.keys_in((root / "etc/knockdemo/client.fwknoprc").read_text())
    capsys.readouterr()
    lay_down(root, "--new-keys")
    assert "carry /etc/knockdemo/client.fwknoprc to the clients again" in capsys.readouterr().out
    renewed = units.keys_in((root / "etc/knockdemo/client.fwknoprc").read_text())
    assert renewed is not None
    assert renewed != keys


def test_a_dry_run_writes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(root)
    assert lay_down(root, "--dry-run") == 0
    assert "would replace /etc/knockd.conf" in capsys.readouterr().out
    assert snapshot(root) == before
    lay_down(root)
    installed = snapshot(root)
    capsys.readouterr()
    assert take_up(root, "--dry-run") == 0
    assert "would restore /etc/knockd.conf" in capsys.readouterr().out
    assert snapshot(root) == installed


def test_an_edited_file_is_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_down(root)
    (root / "etc/knockd.conf").write_text("edited once\n")
    lay_down(root, "--window", "4")
    (root / "etc/knockd.conf").write_text("edited twice\n")
    take_up(root)
    assert "had been edited" in capsys.readouterr().err
    assert (root / f"etc/knockd.conf{EDITED}").read_text() == "edited once\n"
    assert (root / f"etc/knockd.conf{EDITED}.2").read_text() == "edited twice\n"
    assert "the package's own" in (root / "etc/knockd.conf").read_text()


def test_a_file_that_somebody_removed_is_no_obstacle(root: Path) -> None:
    before = snapshot(root)
    lay_down(root)
    (root / "etc/knockd.conf").unlink()
    shutil.rmtree(root / "usr/lib/knockdemo")
    take_up(root)
    assert snapshot(root) == before


def test_packages_that_are_there_already_stay(root: Path) -> None:
    for package in ("knockdemo", "knockgate"):
        shutil.copytree(
            SOURCE / package,
            root / "usr/lib/python3/dist-packages" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    before = snapshot(root)
    lay_down(root)
    take_up(root)
    assert snapshot(root) == before


# --- failing on the way ------------------------------------------------------------------------------


@pytest.mark.parametrize("full", ["etc/knockdemo", "usr/lib/python3/dist-packages", "var/lib/knockdemo"])
def test_a_full_disk_undoes_everything(root: Path, full: str) -> None:
    """A file system of a few kilobytes, for real, in a mount namespace of its own."""
    (root / full).mkdir(parents=True)
    before = snapshot(root)
    size = "64k" if full.startswith("usr") else "4k"
    done = subprocess.run(
        [
            "unshare",
            "-m" if os.geteuid() == 0 else "-Urm",
            "sh",
            "-c",
            FULL_DISK,
            "sh",
            size,
            str(root),
            full,
            sys.executable,
            COMMAND,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode in (1, 77):
        pytest.skip(f"this system gives no mount namespace: {done.stderr.strip()}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("knockdemo: ")
    assert "No space left on device" in done.stderr
    assert "everything was put back as it was" in done.stderr
    assert done.stderr.count("\n") == 1, "the full file system is empty again, and one line says it all"
    assert snapshot(root) == before


def test_a_failing_update_goes_back_to_the_version_before(root: Path) -> None:
    lay_down(root)
    installed = snapshot(root)
    (root / "etc/knockd.conf").write_text("edited\n")
    edited = snapshot(root)["/".join((str(root), "etc/knockd.conf"))][-1]

    def refuse() -> None:
        raise Unavailable("the last step fails")

    ledger = Ledger(root)
    old = ledger.manifest()
    files = install.render(install.fresh_plan("eth1", 5))
    with pytest.raises(Unavailable, match="the last step fails; everything was put back"):
        ledger.lay_down(files, old, {"window": 5}, [(refuse, lambda: None)])
    after = dict(snapshot(root))
    path = str(root / "etc/knockd.conf")
    assert after.pop(path)[-1] == edited
    before = dict(installed)
    before.pop(path)
    assert after == before


@pytest.mark.parametrize("number", [1, 2, 4, 6, 13, 16, 19, 40])
@pytest.mark.parametrize("again", [False, True])
def test_killed_on_the_way(root: Path, number: int, again: bool) -> None:
    before = snapshot(root)
    killed = process(KILLED + COMMAND, str(number), "install", "--root", str(root), "--interface", "eth0")
    assert killed.returncode == -9, killed.stderr
    if again:
        assert lay_down(root) == 0
        assert not list(root.rglob(f"*{EDITED}*")), "originals that were not yet replaced are no edits"
    assert take_up(root) == 0
    assert snapshot(root) == before


@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_while_uninstalling(root: Path, number: int) -> None:
    before = snapshot(root)
    lay_down(root)
    killed = process(KILLED + COMMAND, str(number), "uninstall", "--root", str(root))
    assert killed.returncode == -9, killed.stderr
    assert take_up(root) == 0
    assert snapshot(root) == before


@pytest.mark.parametrize("number", [1, 2, 4])
def test_killed_while_updating(root: Path, number: int) -> None:
    before = snapshot(root)
    lay_down(root)
    killed = process(KILLED + COMMAND, str(number), "install", "--root", str(root), "--window", "4")
    assert killed.returncode == -9, killed.stderr
    assert take_up(root) == 0
    assert snapshot(root) == before
