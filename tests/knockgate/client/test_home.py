"""Where our files are at home, and what is told where nobody can say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.knockgate.cli.process import knockgate
from tests.knockgate.spa.sealed_messages import CARD

from knockgate.client import device, home, profiles, spellings
from knockgate.config.toml import Wrong
from knockgate.errors import ConfigError

HOMELESS = [
    (None, "HOME: is not set, so it is not known where your files are"),
    ("", "HOME: is not set, so it is not known where your files are"),
    ("jo", "HOME: is 'jo', and not a path from /, so it is not known where your files are"),
]


@pytest.fixture(autouse=True)
def jo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/jo")


def leave(said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if said is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", said)


@pytest.mark.parametrize(("said", "message"), HOMELESS)
def test_where_home_says_nothing_it_is_named(
    said: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home.folder() == Path("/home/jo")
    assert spellings.card_path.read("~/card") == Path("/home/jo/card")
    leave(said, monkeypatch)
    for path in (profiles.default_path, device.default_path):
        with pytest.raises(ConfigError) as caught:
            path()
        assert str(caught.value) == message and "HOME=" in (caught.value.hint or "")
    with pytest.raises(Wrong, match=r"^HOME is "):
        spellings.card_path.read("~/card")
    assert spellings.card_path.read("/card") == Path("/card")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/config")  # what needs no home goes on
    assert profiles.default_path() == Path("/config/knockgate/profiles.toml")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="the folders have to be root's")
def test_what_is_roots_may_stand_above_our_folder_and_not_be_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a `sudo knockgate` of old: where a folder of ours is missing, /home above it is root's too."""
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    device.check_owner(tmp_path / "new" / "device.json")
    with pytest.raises(ConfigError, match="belongs to root, and this runs as nobody"):
        device.check_owner(tmp_path / "device.json")


@pytest.mark.parametrize(("said", "message"), HOMELESS)
def test_every_command_that_has_files_there_says_it(
    said: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "card").write_text(CARD.text())
    (tmp_path / "card").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    leave(said, monkeypatch)
    for words in (
        ["knock", "home"],
        ["knock", "--list"],
        ["knock", "127.0.0.1", "--card", "card", "-s", "--dry-run"],
        ["connect", "home", "22"],
        ["trust", "home", "home.example", "card"],
        ["import", "fwknoprc"],
    ):
        done = knockgate(*words)
        assert (done.returncode, done.stdout) == (2, ""), words
        first, hint = done.stderr.splitlines()
        assert first == f"knockgate: {message}" and "HOME=" in hint, words
    assert [each.name for each in tmp_path.iterdir()] == ["card"]
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    done = knockgate("trust", "home", "home.example", "card")
    assert done.returncode == 0, done.stderr
    kept = tmp_path / "config" / "knockgate" / "cards" / "home"
    assert profiles.load(profiles.default_path())["home"].card == kept  # type: ignore[attr-defined] # sealed
