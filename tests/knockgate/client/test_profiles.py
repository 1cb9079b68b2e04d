"""profiles.toml, and the spellings of a step."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from knockgate.client import profiles, spellings
from knockgate.client.profiles import SequenceProfile
from knockgate.config.toml import Wrong
from knockgate.errors import ConfigError
from knockgate.model import Port, Protocol


@pytest.mark.parametrize(
    ("word", "port"),
    [
        ("7000", Port(Protocol.TCP, 7000)),
        (7000, Port(Protocol.TCP, 7000)),
        ("tcp/7000", Port(Protocol.TCP, 7000)),
        ("7000/tcp", Port(Protocol.TCP, 7000)),
        ("7000:tcp", Port(Protocol.TCP, 7000)),
        ("udp/8000", Port(Protocol.UDP, 8000)),
        ("8000/udp", Port(Protocol.UDP, 8000)),
        (" 8000:UDP ", Port(Protocol.UDP, 8000)),
    ],
)
def test_a_step_is_read_in_every_spelling(word: object, port: Port) -> None:
    assert spellings.step.read(word) == port
    assert spellings.step.read(str(port)) == port


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("", "'' is no step", "write 7000"),
        ("0", "'0': a port is a number from 1 to 65535", None),
        ("65536", "'65536': a port is a number from 1 to 65535", None),
        ("200000", "'200000': a port is a number from 1 to 65535", None),
        ("7" * 5000, "... is no step", "write 7000"),
        ("-5", "'-5' is no step", "write 7000"),
        ("sctp/7000", "'sctp/7000' is no step", "write 7000"),
        ("tcp/7000/tcp", "'tcp/7000/tcp' is no step", "write 7000"),
        ("7000,8000", "'7000,8000' is no step", "separate words: 7000 8000"),
        ("7000\n", None, None),
        ("\u0667000", "'\u0667000' is no step", "write 7000"),
        (True, "true is no step", "write 7000"),
        (70.5, "70.5 is no step", "write 7000"),
    ],
)
def test_what_is_no_step_is_refused(word: object, message: str | None, hint: str | None) -> None:
    if message is None:
        assert spellings.step.read(word) == Port(Protocol.TCP, 7000)
        return
    with pytest.raises(Wrong) as caught:
        spellings.step.read(word)
    assert caught.value.message.endswith(message)
    assert (hint or "") in (caught.value.hint or "")


def test_a_profile_is_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text(
        """
        [profiles.home]
        host = "home.example"
        steps = [7000, "udp/8000", "9000:tcp"]
        wait = 22
        timeout = "2s"
        delay = "100ms"
        family = 6
        source = "2001:db8::7"
        [profiles."the office"]
        host = "192.0.2.7"
        steps = ["tcp/1"]
        """
    )
    found = profiles.load(file)
    assert list(found) == ["home", "the office"]
    home, office = found.values()
    assert isinstance(home, SequenceProfile) and isinstance(office, SequenceProfile)
    assert [str(step) for step in home.steps] == ["tcp/7000", "udp/8000", "tcp/9000"]
    assert (str(home.wait), home.timeout, home.delay) == ("tcp/22", 2.0, 0.1)
    assert (home.family, home.source) == (socket.AF_INET6, "2001:db8::7")
    assert (office.wait, office.family, office.source, office.delay) == (None, 0, None, 0.05)


@pytest.mark.parametrize(
    ("line", "place", "message", "hint"),
    [
        ('stepps = ["1"]', "profiles.home.stepps", "unknown key", "did you mean steps?"),
        ("steps = []", "profiles.home.steps", "must be a list of steps", "for example"),
        ('steps = ["x"]', "profiles.home.steps", "'x' is no step", "write 7000"),
        ('wait = "udp/53"', "profiles.home.wait", "cannot wait for udp/53", "TCP port of the same door"),
        ("family = 5", "profiles.home.family", "5 is no address family", "4 or 6"),
        ("family = [4]", "profiles.home.family", "[4] is no address family", "4 or 6"),
        ('host = " "', "profiles.home.host", "the host is empty", "a name or an address"),
        ('delay = "soon"', "profiles.home.delay", "'soon' is no time", "write"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_key(
    tmp_path: Path, line: str, place: str, message: str, hint: str
) -> None:
    file = tmp_path / "profiles.toml"
    needed = {"host": 'host = "home.example"', "steps": "steps = [7000]"} | {line.split(maxsplit=1)[0]: line}
    file.write_text("\n".join(["# mine", "[profiles.home]", line, *(set(needed.values()) - {line})]))
    with pytest.raises(ConfigError) as caught:
        profiles.load(file)
    assert (caught.value.file, caught.value.line, caught.value.key) == (str(file), 3, place)
    assert message in caught.value.message and hint in (caught.value.hint or "")


def test_a_file_that_is_not_there_has_no_profiles_and_one_that_cannot_be_read_is_an_error(
    tmp_path: Path,
) -> None:
    assert profiles.load(tmp_path / "none" / "profiles.toml") == {}
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        profiles.load(tmp_path)
    assert "--config" not in (caught.value.hint or "--config")  # no option of `knock`
    (tmp_path / "profiles.toml").write_text("profiles = 3")
    with pytest.raises(ConfigError, match="must be a table"):
        profiles.load(tmp_path / "profiles.toml")


def test_the_file_is_where_the_home_or_xdg_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jo")
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    assert str(profiles.default_path()) == "/home/jo/.config/knockgate/profiles.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert str(profiles.default_path()) == "/home/jo/.config/knockgate/profiles.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/elsewhere")
    assert str(profiles.default_path()) == "/elsewhere/knockgate/profiles.toml"
