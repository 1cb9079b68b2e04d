"""Secrets that are typed or in the environment."""

from __future__ import annotations

import pytest

from knockgate.client.secret_sources import of_environment, typed
from knockgate.errors import ConfigError
from knockgate.spa.fwknop import Hash, Mode, Secret

PASTED = ["# fwknop's secrets of alice", "", "KEY: open sesame", "# and", "HMAC_KEY: more of it"]


def answered(*lines: str) -> Secret:
    """What somebody who types these lines has typed."""
    left = iter(lines)
    return typed(lambda _: next(left), Hash.SHA256, Mode.CBC)


def test_passphrases_or_lines_of_a_file() -> None:
    expected = Secret(b"open sesame", b"more of it")
    assert answered("open sesame", "more of it") == expected
    assert answered("KEY: open sesame", "hmac_key: more of it") == expected
    assert answered(PASTED[0], *PASTED[2:]) == expected  # a file that is pasted whole


def test_the_line_of_the_other_secret_is_not_taken_for_a_passphrase() -> None:
    for lines in (("HMAC_KEY_BASE64: AQEB",), ("open sesame", "KEY: more of it")):
        with pytest.raises(ConfigError, match="that is the line of the") as wrong:
            answered(*lines)
        assert "AQEB" not in str(wrong.value) and "more" not in str(wrong.value)


def test_a_variable_is_one_line() -> None:
    good = {"KNOCKGATE_KEY": "open sesame", "KNOCKGATE_HMAC_KEY": "more of it"}
    assert of_environment(good, Hash.SHA256, Mode.CBC) == Secret(b"open sesame", b"more of it")
    with pytest.raises(ConfigError, match="KNOCKGATE_KEY: has more than one line"):
        of_environment({**good, "KNOCKGATE_KEY": "open\nHMAC_KEY: sesame"}, Hash.SHA256, Mode.CBC)
