from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from knockdemo.config import DEFAULT_PATH, ENVIRONMENT, Config, load, parse
from knockgate.errors import ConfigError

TUTORIAL = Config(
    interface="",
    sequence=(7000, 8000, 9000),
    sequence_window_seconds=5,
    open_window_seconds=15,
    service_port=6500,
    nft_table="knockdemo",
    nft_set="knock_allow",
    nft_set6="knock_allow6",
    max_sources=65536,
)
SYNTAX = "each line is KEY = VALUE, with texts in quotes and lists in [ ]"

EVERY_KEY = """\
# Everything, and nothing as it was.
interface = "wan0"  # a comment
sequence = [
    1, 65535,
    1,
]
sequence_window_seconds = 3600
open_window_seconds = 86400
service_port = 2
nft_table = "_t"
nft_set = "a"
nft_set6 = "A9"
max_sources = 1
"""

# The text; line and key of the mistake; a part of the message; a part of the hint.
WRONG: dict[str, tuple[str, int | None, str | None, str, str]] = {
    "one port": ("sequence = 7000", 1, "sequence", "must be a list of port numbers", "[7000, 8000, 9000]"),
    "a port in quotes": ('sequence = ["7000"]', 1, "sequence", "must be a list", "[7000, 8000, 9000]"),
    "half a port": ("sequence = [1.5]", 1, "sequence", "must be a list", "[7000, 8000, 9000]"),
    "truth for a port": ("sequence = [true]", 1, "sequence", "must be a list", "[7000, 8000, 9000]"),
    "a table": ("\n[sequence]\na = 1", 2, "sequence", "must be a list", "[7000, 8000, 9000]"),
    "a dotted key": ("\nsequence.a = 1", 2, "sequence", "must be a list", "[7000, 8000, 9000]"),
    "no knock": ("sequence = []", 1, "sequence", "has 0 ports; 1 to 32", "[7000, 8000, 9000]"),
    "33 knocks": (f"sequence = {[1] * 33}", 1, "sequence", "has 33 ports", "[7000, 8000, 9000]"),
    "port 0": ("sequence = [0]", 1, "sequence", "0 is not between 1 and 65535", "[7000, 8000, 9000]"),
    "port 65536": ("sequence = [1, 65536]", 1, "sequence", "65536 is not", "[7000, 8000, 9000]"),
    "service port 0": ("service_port = 0", 1, "service_port", "0 is not between 1 and 65535", "6500"),
    "service port 65536": ("service_port = 65536", 1, "service_port", "65536 is not", "6500"),
    "service port in words": ('service_port = "ssh"', 1, "service_port", "whole number, not 'ssh'", "6500"),
    "true service port": ("service_port = true", 1, "service_port", "whole number, not True", "6500"),
    "service is a knock": (
        "sequence = [1, 2]\nservice_port = 2",
        2,
        "service_port",
        "port 2 is also a knock",
        "another port",
    ),
    "a knock is the service": ("sequence = [6500]", None, "service_port", "is also a knock", "another port"),
    "no time to knock": (
        "sequence_window_seconds = 0",
        1,
        "sequence_window_seconds",
        "0 is not between 1 and 3600",
        "it is 5",
    ),
    "too long to knock": (
        "sequence_window_seconds = 3601",
        1,
        "sequence_window_seconds",
        "3601 is not",
        "it is 5",
    ),
    "part of a second": (
        "sequence_window_seconds = 1.5",
        1,
        "sequence_window_seconds",
        "whole number, not 1.5",
        "it is 5",
    ),
    "never open": ("open_window_seconds = 0", 1, "open_window_seconds", "between 1 and 86400", "it is 15"),
    "too long open": ("open_window_seconds = 86401", 1, "open_window_seconds", "86401 is not", "it is 15"),
    "no memory": ("max_sources = 0", 1, "max_sources", "0 is not between 1 and 16777216", "65536"),
    "too much memory": ("max_sources = 16777217", 1, "max_sources", "16777217 is not", "65536"),
    "table with a space": (
        'nft_table = "a b"',
        1,
        "nft_table",
        "is no name for nft",
        "letters, digits and _",
    ),
    "table and more": ('nft_table = "a; flush ruleset"', 1, "nft_table", "is no name", "letters, digits"),
    "table of nothing": ('nft_table = ""', 1, "nft_table", "'' is no name for nft", "letters, digits and _"),
    "long table": (f'nft_table = "{"a" * 129}"', 1, "nft_table", "is no name", "letters, digits and _"),
    "set of a digit": ('nft_set = "4"', 1, "nft_set", "'4' is no name", "letters, digits and _"),
    "set with a line": ('nft_set6 = "a\\n"', 1, "nft_set6", "is no name", "letters, digits and _"),
    "one set for both": (
        'nft_set = "x"\nnft_set6 = "x"',
        2,
        "nft_set6",
        "the same as nft_set",
        "one address",
    ),
    "interface with a slash": ('interface = "a/b"', 1, "interface", "'a/b' is no name", 'it is ""'),
    "long interface": (f'interface = "{"a" * 16}"', 1, "interface", "is no name", 'it is ""'),
    "interface by number": ("interface = 2", 1, "interface", "must be a text in quotes, not 2", 'it is ""'),
    "unknown": ("colour = 1", 1, "colour", "unknown key", "known keys: interface, sequence, sequence_window"),
    "nearly known": ("\n\nsevice_port = 1", 3, "sevice_port", "unknown key", "did you mean service_port?"),
    "unknown table": ("service_port = 1\n[doors]", 2, "doors", "unknown key", "known keys"),
    "no value": ("\nservice_port =", 2, None, "not TOML: invalid value", SYNTAX),
    "no end": ('service_port = 1\nnft_set = "x', 2, None, "not TOML: unterminated string", SYNTAX),
    "twice": ("max_sources = 1\nmax_sources = 2", 2, None, "not TOML: cannot overwrite", SYNTAX),
    "endless number": (f"max_sources = {'9' * 5000}", 1, None, "not TOML: exceeds the limit", SYNTAX),
    "endless nesting": (f"max_sources = {'[' * 100_000}", 1, None, "not TOML: maximum recursion", SYNTAX),
    "not the comment's line": (
        "# service_port = 1\n  'service_port' = 0",
        2,
        "service_port",
        "0 is not",
        "6500",
    ),
}


def test_the_tutorials_numbers() -> None:
    """Without a file, and with an empty one, the numbers are those that the tutorial prints."""
    assert load({}, Path("/nonexistent/knockdemo.toml")) == parse("", "empty") == Config() == TUTORIAL
    assert Path("/etc/knockdemo/knockdemo.toml") == DEFAULT_PATH


def test_every_key_can_be_set() -> None:
    """Each number can be another, to the ends of its range, and those not named stay as they were."""
    config = parse(EVERY_KEY, "every.toml")
    assert config == Config("wan0", (1, 65535, 1), 3600, 86400, 2, "_t", "a", "A9", 1)
    for field in dataclasses.fields(Config):
        assert getattr(config, field.name) != getattr(TUTORIAL, field.name)
    assert parse("service_port = 22", "one.toml") == dataclasses.replace(TUTORIAL, service_port=22)


@pytest.mark.parametrize("name", WRONG)
def test_says_what_is_wrong_and_where(name: str) -> None:
    """A wrong file is refused with the file, the line, the key, one line of message and a hint."""
    text, line, key, message, hint = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        parse(text, "wrong.toml")
    error = caught.value
    assert (error.file, error.line, error.key) == ("wrong.toml", line, key)
    assert message in error.message
    assert hint in (error.hint or "")
    place = "wrong.toml" if line is None else f"wrong.toml:{line}"
    assert str(error) == ": ".join(part for part in (place, key, error.message) if part)
    assert len(str(error).splitlines()) == len((error.hint or "").splitlines()) == 1


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    """KNOCKDEMO_CONFIG goes before the file in /etc, which counts where the variable is unset or empty."""
    named, default = tmp_path / "named.toml", tmp_path / "default.toml"
    named.write_text("service_port = 1", encoding="utf-8")
    default.write_text("service_port = 2", encoding="utf-8")
    assert load({ENVIRONMENT: str(named)}, default).service_port == 1
    assert load({ENVIRONMENT: ""}, default).service_port == load({}, default).service_port == 2
    assert load({}, tmp_path / "absent.toml").service_port == 6500


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    """A file that the environment names and that is missing is an error, where the default one is none."""
    absent = tmp_path / "absent.toml"
    with pytest.raises(ConfigError) as caught:
        load({ENVIRONMENT: str(absent)}, absent)
    assert str(caught.value) == f"{absent}: no such file"
    assert caught.value.hint == "KNOCKDEMO_CONFIG names it; unset it for the tutorial's numbers"
    assert load({}, absent) == TUTORIAL


@pytest.mark.parametrize("flaw", ["a folder", "no text", "not ours to read", "no way there"])
def test_an_unreadable_file_is_an_error(tmp_path: Path, flaw: str) -> None:
    """A file that is there and cannot be read is refused with its name, also where it is the default one."""
    path = tmp_path / "knockdemo.toml"
    if flaw == "a folder":
        path.mkdir()
    elif flaw == "no text":
        path.write_bytes(b"interface = '\xff'")
    elif flaw == "no way there":
        path.write_text("", encoding="utf-8")
        path /= "below"
    else:
        path.write_text("", encoding="utf-8")
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("root may read everything")
    for environment in ({ENVIRONMENT: str(path)}, {}):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            load(environment, path)
        assert caught.value.file == str(path)
        assert caught.value.hint


def test_the_error_is_the_named_files(tmp_path: Path) -> None:
    """An error in a file names that file."""
    path = tmp_path / "mine.toml"
    path.write_text("\nmax_sources = 0", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load({ENVIRONMENT: str(path)})
    assert (caught.value.file, caught.value.line) == (str(path), 2)
