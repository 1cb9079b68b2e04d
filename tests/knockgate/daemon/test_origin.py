"""A configuration that a unit may not read: its user is told what to do, others as ever."""

from __future__ import annotations

import grp
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.folders import let_others_in
from tests.netns import isolated

from knockgate.daemon.origin import Origin
from knockgate.errors import ConfigError

NOBODY = 65534


@pytest.mark.root
@pytest.mark.parametrize(
    ("group", "hint"),
    [
        ("knockgate", "chown root:knockgate {folder} {file}; chmod 0750 {folder}; chmod 0640 {file}"),
        ("jo", "run it as root"),
    ],
)
@isolated
def test_who_may_not_read_it_is_told_what_to_do(
    group: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_others_in(tmp_path)
    file = tmp_path / "gate.toml"
    file.write_text("[doors")
    file.chmod(0o600)
    monkeypatch.setattr(grp, "getgrgid", lambda number: SimpleNamespace(gr_name=group))  # noqa: ARG005
    with pytest.raises(ConfigError, match="not TOML") as wrong:  # control: root may read it
        Origin(str(file)).load()
    usual = wrong.value.hint
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="Permission denied") as wrong:
        Origin(str(file)).load()
    assert wrong.value.hint == hint.format(folder=tmp_path, file=file) != usual
    with pytest.raises(ConfigError, match="no such file") as wrong:
        Origin(str(tmp_path / "none.toml")).load()
    assert "chown" not in (wrong.value.hint or "")
