"""Who may write what one knocks by: its owner, and a group that is the owner's own."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from knockgate.client import rights
from knockgate.errors import ConfigError

OWN = pwd.getpwuid(os.getuid()).pw_name


@pytest.mark.parametrize(
    ("group", "members", "passes"),
    [(OWN, [], True), (OWN, [OWN], True), (OWN, [OWN, "al"], False), ("staff", [], False)],
)
def test_a_group_of_ones_own_may_write(
    group: str, members: list[str], passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    found = grp.struct_group((group, "x", file.stat().st_gid, members))
    monkeypatch.setattr(grp, "getgrgid", lambda _: found)
    for path in (file, tmp_path):
        path.chmod(0o770)
        if passes:
            rights.check(file)
        else:
            with pytest.raises(ConfigError, match="others"):
                rights.check(file)
        path.chmod(0o773)
        with pytest.raises(ConfigError, match="others"):
            rights.check(file)
        path.chmod(0o700)
        rights.check(file)  # the control


def test_behind_a_link_both_folders_count(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir(0o700)
    link, target = folders[0] / "link", folders[1] / "target"
    target.touch(0o600)
    link.symlink_to(target)
    rights.check(link)
    assert not rights.others_read(link)
    for folder in folders:
        folder.chmod(0o777)
        with pytest.raises(ConfigError) as caught:
            rights.check(link)
        assert caught.value.file == str(folder)
        folder.chmod(0o700)
    target.chmod(0o640)
    rights.check(link)
    assert rights.others_read(link)


def test_where_nobody_takes_anothers_file_away_everybody_may_write(tmp_path: Path) -> None:
    """As in /tmp."""
    folder, file = tmp_path / "shared", tmp_path / "shared" / "file"
    folder.mkdir()
    file.touch(0o600)
    for mode in (0o1777, 0o1770):
        folder.chmod(mode)
        rights.check(file)
    folder.chmod(0o777)  # the control
    with pytest.raises(ConfigError, match="others may write in this folder"):
        rights.check(file)
    folder.chmod(0o1777)
    file.chmod(0o602)
    with pytest.raises(ConfigError, match="others than its owner"):
        rights.check(file)


def test_what_cannot_be_looked_at_is_left_to_who_reads_it(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / "none", tmp_path / "loop", Path("a\0b")):
        rights.check(path)
        assert not rights.others_read(path)
