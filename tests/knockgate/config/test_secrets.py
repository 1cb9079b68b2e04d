"""Whose a file of secrets may be. What is in it, and who may read it, is in ``test_keys``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knockgate.config import secrets
from knockgate.errors import ConfigError
from knockgate.spa.fwknop import Hash, Mode, Secret

NOBODY, SOMEBODY = 65534, 65533

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "alice"
    path.write_text("KEY: sesame\nHMAC_KEY: open sesame\n")
    path.chmod(0o600)
    return path


def load(path: Path) -> Secret:
    return secrets.load(path, Hash.SHA256, Mode.CBC)


def refused(path: Path) -> ConfigError:
    with pytest.raises(ConfigError, match="belongs to somebody else") as wrong:
        load(path)
    assert "sesame" not in str(wrong.value)
    return wrong.value


def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    """Root can read it, but so can he, and he can write into it who is let in."""
    assert load(file).key == b"sesame"
    os.chown(file, NOBODY, -1)
    error = refused(file)
    assert error.file is None and error.hint == f"chown root {file}"
    os.chown(file, 0, -1)
    assert load(file).key == b"sesame"


def test_who_is_not_root_has_files_of_his_own_and_of_roots(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He reads root's where he has CAP_DAC_READ_SEARCH; this process has it, whoever it says it is."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    for owner in (NOBODY, 0):
        os.chown(file, owner, -1)
        assert load(file).key == b"sesame"
    os.chown(file, SOMEBODY, -1)
    assert refused(file).hint == "make a copy of your own"
