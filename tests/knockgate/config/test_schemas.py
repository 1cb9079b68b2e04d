"""A table of a file as a dataclass: what is read, what does not fit, and what is said then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from knockgate.config.toml import (
    Document,
    Reader,
    Wrong,
    fields_of,
    key,
    read,
    shown,
    text,
    whole,
)
from knockgate.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A name that must be given, a number that need not, and something that stands in no file."""

    name: str = key("What it is called. In full.", text)
    number: int = key("How many there are.", whole(1, 9), 5)
    other: str = "not of the file"


def schema(content: str) -> Schema:
    document = Document(content, "a.toml")
    return read(document, ("t",), document.table["t"], Schema)


def test_a_schema() -> None:
    assert [field.name for field in fields_of(Schema)] == ["name", "number"]
    assert schema('[t]\nname = "x"') == Schema(name="x", number=5)
    assert schema('t = { number = 9, name = "x" }') == Schema(name="x", number=9)


def test_what_is_inherited_comes_last() -> None:
    @dataclass(frozen=True, kw_only=True)
    class More(Schema):
        colour: str = key("What it looks like.", text, "")

    assert [field.name for field in fields_of(More)] == ["colour", "name", "number"]


# The text; line, key, message, hint.
UNFIT: dict[str, tuple[str, int, str, str, str]] = {
    "missing": ("\n[t]\nnumber = 1", 2, "t", "name is missing", "name: What it is called. In full."),
    "not of the file": (
        '[t]\nname = "x"\nother = "y"',
        3,
        "t.other",
        "unknown key",
        "known here: name, number",
    ),
    "a typing error": ('t = { name = "x",\tnumer = 1 }', 1, "t.numer", "unknown key", "did you mean number?"),
    "capitals": ('[t]\nname = "x"\nNUMBER = 1', 3, "t.NUMBER", "unknown key", "did you mean number?"),
    "no table": ("t = 5", 1, "t", "must be a table", "write it as a heading: [t]"),
    "many tables": ("[[t]]\nname = 1", 1, "t", "must be a table", "write it as a heading: [t]"),
    "no text": ("[t]\nname = 1", 2, "t.name", "must be a text in quotes, not 1", "name: What it is called"),
    "too much": (
        "[t]\nname = ''\nnumber = 10",
        3,
        "t.number",
        "10 is not between 1 and 9",
        "number: How many",
    ),
    "truth": (
        "[t]\nname = ''\nnumber = true",
        3,
        "t.number",
        "must be a whole number, not true",
        "from 1 to 9",
    ),
    "a part": (
        "[t]\nname = ''\nnumber = 1.0",
        3,
        "t.number",
        "must be a whole number, not 1.0",
        "from 1 to 9",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit(name: str) -> None:
    content, line, where, message, hint = UNFIT[name]
    with pytest.raises(ConfigError) as caught:
        schema(content)
    error = caught.value
    assert (error.file, error.line, error.key, error.message) == ("a.toml", line, where, message)
    assert str(error.hint).startswith(hint)


def test_a_first_line_of_help_is_enough() -> None:
    """Where a reader has no hint of its own; the control is the missing key, which gets all of it."""
    with pytest.raises(ConfigError) as caught:
        schema("[t]\nname = 1")
    assert caught.value.hint == "name: What it is called"


def test_a_reader_may_say_what_to_do() -> None:
    def refuse(value: object) -> Any:  # noqa: ANN401 - what a reader returns
        raise Wrong(f"not {shown(value)}", "say something else")

    @dataclass
    class Picky:
        it: int = key("It.", Reader("nothing", refuse))

    document = Document("it = 'x'", "")
    with pytest.raises(ConfigError, match="not 'x'") as caught:
        read(document, (), document.table, Picky)
    assert caught.value.hint == "say something else"


def test_shown_values_are_short_and_stay_on_their_line() -> None:
    assert [shown(value) for value in (True, 1, "x", [1])] == ["true", "1", "'x'", "[1]"]
    assert shown("\x1b[31m\n").isprintable()
    assert len(shown("x" * 1000)) == len(shown([1] * 1000)) == 60
