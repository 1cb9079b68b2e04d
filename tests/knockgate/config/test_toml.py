from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from knockgate.config.lines import dotted, line_of
from knockgate.config.toml import (
    Document,
    Wrong,
    duration,
    several,
    spell,
)
from knockgate.errors import ConfigError

# --- where a key stands -------------------------------------------------------------------------------

# All that looks like a heading or a key, and is none, stands before what does.
DECOYS = '''\
# [gate]
# leases = 1
x = "[gate]"          # leases = 1
y = """
[gate]
leases = 1 \\"""
[gate] """""
z = \'\'\'
[gate]
leases = 1\'\'\'
list = [
    "leases = 1",   # ]
    [ { leases = 1 }, { leases = 2 } ],
    '] leases =',
]
inline = { gate = { leases = 1 }, "[gate]" = "}" }
date = 1979-05-27 07:32:00.5
[gate] # ]
log_group = 1
leases = 1
'''

# A text, keys, the line.
PLACES: dict[str, tuple[str, tuple[str, ...], int | None]] = {
    "decoys: the heading": (DECOYS, ("gate",), 18),
    "decoys: the key": (DECOYS, ("gate", "leases"), 20),
    "decoys: in a list": (DECOYS, ("list", "leases"), 13),
    "decoys: inline": (DECOYS, ("inline", "gate", "leases"), 16),
    "decoys: inline, quoted": (DECOYS, ("inline", "[gate]"), 16),
    "no such key: its table": (DECOYS, ("gate", "sources"), 18),
    "no such table": (DECOYS, ("doors",), None),
    "nothing": ("", ("doors", "ssh"), None),
    "the document": ("a = 1", (), None),
    "dotted": ("\na.b.c = 1\na.b.d = 2", ("a", "b", "d"), 3),
    "dotted: the table": ("\na.b.c = 1\na.b.d = 2", ("a", "b"), 2),
    "dotted, with blanks": ("\n[ a . \"b\" ]\n c . 'd' = 1", ("a", "b", "c", "d"), 3),
    "below a dotted heading": ("[a]\nx = 1\n[a.b]\n\nx = 2", ("a", "b", "x"), 5),
    "a quoted name": ('["a.b"]\nx = 1\n[a.b]\nx = 2', ("a", "b", "x"), 4),
    "escapes in a name": ('["a\\u0062\\n\\""]\nx = 1', ('ab\n"', "x"), 2),
    "a name of nothing": ('[""]\n"" = 1', ("", ""), 2),
    "an apostrophe in a name": ("\"it's\" = 1\n'\"' = 2", ('"',), 2),
    "names like numbers": ("[1]\n2.3 = 4", ("1", "2", "3"), 2),
    "array of tables": ("[[a]]\nx = 1\n[[a]]\ny = 2", ("a", "y"), 4),
    "DOS": ("[a]\r\n\r\nx = 1\r\n", ("a", "x"), 3),
    "separators that end no line": ("# \x85 \u2028\nx = '\u2029'\n[a]", ("a",), 3),
    "empty brackets": ("a = []\nb = {}\nc = [{}, []]\nd = 1", ("d",), 4),
    "the second table of a list": ("a = [\n{ x = 1 },\n{ y = 1 } ]", ("a", "y"), 3),
    "inline, after a list": ("a = { x = [\n1 ], y = 1 }", ("a", "y"), 2),
    "a comment in a list": ("a = [ # [b]\n1, # b = ]\n]\nb = 1", ("b",), 4),
    "quotes at the end": ('a = """x""""\nb = """"""\nc = """\\""""\nd = 1', ("d",), 4),
    "quotes at the end, and a comment": ('a = """x"""" # " [\nb = 1', ("b",), 2),
    "apostrophes at the end, and a comment": ("a = '''x'''' # ' [\nb = 1", ("b",), 2),
    "apostrophes at the end": ("a = '''x'''''\nb = ''''''\nc = 1", ("c",), 3),
}


@pytest.mark.parametrize("name", PLACES)
def test_where_a_key_stands(name: str) -> None:
    content, keys, line = PLACES[name]
    tomllib.loads(content)  # it is asked about nothing else
    assert line_of(content, keys) == line


NAMES = st.sampled_from(["a", "b", "c d", "e.f", "[g]", "h = 1", "'", '"', "\n", "ä", ""])
VALUES = st.sampled_from(
    ["1", "'a = 1'", '"[a]"', '"""\n[a]\nb = 1\n"""', "'''\nc = ''''", "[\n1, # [a]\n]", "{ x = {}, y = [] }"]
)


#: How a key is written, and on which of these lines it then stands. What needs no heading comes first.
WAYS: dict[str, tuple[int, Callable[[tuple[str, ...], str], str]]] = {
    "dotted": (1, lambda keys, value: f"{dotted(keys)} = {value}"),
    "inline": (1, lambda keys, value: f"{dotted(keys[:1])} = {{ {dotted(keys[1:])} = {value} }}"),
    "heading": (2, lambda keys, value: f"[{dotted(keys[:-1])}] # x\n{dotted(keys[-1:])} = {value}"),
    "both": (3, lambda keys, value: f"  [ {dotted(keys[:-2])} ]\n\n\t{dotted(keys[-2:])}={value} # y"),
}


@given(
    written=st.lists(
        st.tuples(st.sampled_from(list(WAYS)), st.lists(NAMES, min_size=2, max_size=4), VALUES), max_size=5
    )
)
def test_any_key_of_any_text(written: list[tuple[str, list[str], str]]) -> None:
    content = ""
    expected: dict[tuple[str, ...], int] = {}
    for way, (offset, spelled) in WAYS.items():
        for number, (how, names, value) in enumerate(written):
            if how == way and not (way == "inline" and "\n" in value):
                event(way)
                keys = (f"k{number}", *names)
                expected[keys] = content.count("\n") + offset
                content += spelled(keys, value) + "\n"
    tomllib.loads(content)
    assert {keys: line_of(content, keys) for keys in expected} == expected


@given(keys=st.lists(st.text(max_size=5), min_size=1, max_size=4))
def test_keys_are_spelled_as_toml_reads_them(keys: list[str]) -> None:
    spelled = dotted(tuple(keys))
    assert spelled.isprintable()
    expected: object = 1
    for name in reversed(keys):
        expected = {name: expected}
    assert tomllib.loads(f"{spelled} = 1") == expected


# --- times --------------------------------------------------------------------------------------------

EVER = duration(0, 10**9)
TIMES: list[tuple[object, float]] = [
    (15, 15.0),
    (0, 0.0),
    (0.25, 0.25),
    (0.0004, 0.0),
    ("15s", 15.0),
    ("500ms", 0.5),
    ("9ms", 0.009),
    ("1.5s", 1.5),
    ("2m", 120.0),
    ("1h30m", 5400.0),
    ("1d 2h 3m 4s 5ms", 93784.005),
    (" 15 s ", 15.0),
    ("007s", 7.0),
]
NO_TIMES: list[object] = [
    *("", "s", "15", "-1s", "+1s", "1", "1,5s", "1e3s", ".5s", "1.s", "1 5s", "1s,2s", "15S", "15sec", "1w"),
    *("1\u0663s", "\u0663s", "inf", "nan", True, False, None, [], {}, ["15s"]),
]


@pytest.mark.parametrize(("written", "seconds"), TIMES)
def test_times(written: object, seconds: float) -> None:
    assert EVER.read(written) == seconds


def test_a_date_is_shown_as_it_is_written() -> None:
    with pytest.raises(Wrong, match=r"^1979-05-27 is no time$"):
        EVER.read(tomllib.loads("lease = 1979-05-27")["lease"])


@pytest.mark.parametrize("written", NO_TIMES, ids=repr)
def test_no_times(written: object) -> None:
    with pytest.raises(Wrong, match=r"is no time$") as caught:
        EVER.read(written)
    assert "1h30m" in str(caught.value.hint)


@pytest.mark.parametrize("written", [0.9, 60.1, "61s", "1h", -1, float("inf"), float("nan"), f"{'9' * 999}d"])
def test_times_out_of_bounds(written: object) -> None:
    reader = duration(1, 60)
    assert (reader.read(1), reader.read("1m")) == (1.0, 60.0)  # the bounds are inside
    with pytest.raises(Wrong, match=r"is not between 1s and 1m$"):
        reader.read(written)


SPELLED = {
    0: "0s",
    0.001: "1ms",
    0.1: "100ms",
    1: "1s",
    1.5: "1500ms",
    90: "90s",
    120: "2m",
    5400: "90m",
    86400: "1d",
}


@pytest.mark.parametrize("seconds", SPELLED)
def test_spelled_times(seconds: float) -> None:
    assert spell(seconds) == SPELLED[seconds]


@given(milliseconds=st.integers(0, 10**12) | st.integers(0, 10**7).map(lambda number: number * 1000))
def test_a_spelled_time_is_read_as_itself(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert EVER.read(spell(seconds)) == seconds
    assert EVER.read(seconds) == seconds


@given(
    parts=st.lists(
        st.tuples(st.integers(0, 999), st.sampled_from(["ms", "s", "m", "h", "d"])), min_size=1, max_size=3
    )
)
def test_a_read_time_is_spelled_as_what_is_read_as_it(parts: list[tuple[int, str]]) -> None:
    written = "".join(f"{number}{unit}" for number, unit in parts)
    seconds = EVER.read(written)
    event(spell(seconds).lstrip("0123456789"))
    assert EVER.read(spell(seconds)) == seconds


# --- texts that are no TOML ---------------------------------------------------------------------------

DEEP = 100_000

# The text; the line; a part of the message, of the hint.
NO_TOML: dict[str, tuple[str, int | None, str, str]] = {
    "no value": ("a = 1\nb =", 2, "invalid value", "KEY = VALUE"),
    "no end of a text": ('a = 1\nb = "x', 2, "unterminated string", "KEY = VALUE"),
    "no end of a list": ("a = [\n1,\n\n", 2, "", "KEY = VALUE"),
    "no equals sign": ("\n[a]\nb 1", 3, "expected '=' after a key", "KEY = VALUE"),
    "a key twice": ("a = 1\na = 2", 2, "cannot overwrite a value", "made one"),
    "a heading twice": ("[a.b]\n[c]\n[a.b]", 3, "cannot declare 'a.b' twice", "made one"),
    "a number of 5000 digits": (f"a = {'9' * 5000}", None, "a number of thousands of digits", "KEY = VALUE"),
    "lists in lists": (f"a = {'[' * DEEP}", None, "lists nested without end", "KEY = VALUE"),
    "tables in tables": ("a = " + "{a = " * DEEP, None, "lists nested without end", "KEY = VALUE"),
    "a zero byte": ("a = 1\n\0", 2, "", "KEY = VALUE"),
}


@pytest.mark.parametrize("name", NO_TOML)
def test_no_toml(name: str) -> None:
    content, line, message, hint = NO_TOML[name]
    with pytest.raises(ConfigError) as caught:
        Document(content, "a.toml")
    error = caught.value
    assert (error.file, error.line, error.key) == ("a.toml", line, None)
    assert error.message.startswith("not TOML: ")
    assert message in error.message and hint in str(error.hint)


# The text; its line and key; a part of the message.
TOO_MUCH: dict[str, tuple[str, int, str, str]] = {
    "a number of 65 bits": ("x = 1\n[a]\nb = 9223372036854775808", 3, "a.b", "more than 64 bits"),
    "a negative one": ("[a]\nb = [-9223372036854775809]", 2, "a.b", "more than 64 bits"),
    "many digits of another base": (f"a = 0x{'f' * 9999}", 1, "a", "more than 64 bits"),
    "a deep key": (f"\na{'.a' * 999} = 1", 2, "a.a.a.a", "more than 32 tables"),
    "a deep heading": (f"\n[a{'.a' * 999}]", 2, "a.a.a.a", "more than 32 tables"),
    "a deep list": (f"a = {'[' * 40}{']' * 40}", 1, "a", "more than 32 tables"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_toml_that_python_could_read_and_not_spell(name: str) -> None:
    content, line, key, message = TOO_MUCH[name]
    with pytest.raises(ConfigError, match=message) as caught:
        Document(content, "a.toml")
    assert (caught.value.line, caught.value.key) == (line, key)


def test_the_largest_that_is_taken() -> None:
    table = Document(f"a = [-9223372036854775808, 9223372036854775807]\nb = {'[' * 31}{']' * 31}", "").table
    assert table["a"] == [-(1 << 63), (1 << 63) - 1]


# --- files --------------------------------------------------------------------------------------------


def wrong_file(path: Path | str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        Document.load(path)
    assert caught.value.file == str(path) and caught.value.hint
    return caught.value


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes("\ufeffname = 'ä'\r\n[a]\r\nb = 1\r\n".encode())  # as editors on Windows save it
    document = Document.load(path)
    assert document.table == {"name": "ä", "a": {"b": 1}}
    assert str(document.wrong(("a", "b"), "no")) == f"{path}:3: a.b: no"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert wrong_file(tmp_path / "none").message == "no such file"
    assert wrong_file(tmp_path).message == "cannot be read: Is a directory"
    assert wrong_file("a\0b").message == "cannot be read: embedded null byte"
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert "symbolic links" in wrong_file(loop).message
    assert wrong_file("/dev/zero").message == "has more than 16 MiB"


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("a = 1")
    assert Document.load(path).table == {"a": 1}
    path.chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may read anything
    try:
        error = wrong_file(path)
    finally:
        os.seteuid(user)
    assert (error.message, error.hint) == ("cannot be read: Permission denied", "run it as root")


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes("a = 1\n# für".encode("latin-1"))
    error = wrong_file(path)
    assert (error.line, error.message) == (2, "byte 0xfc is no text in UTF-8")
    path.write_bytes("a = 1\n# für".encode())
    assert Document.load(path).table == {"a": 1}


@given(content=st.binary(max_size=40))
def test_any_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        Document.load(path)
        event("taken")


def test_several_things_are_told_and_then_how_many_more_there_are() -> None:
    assert several([]) == ""
    assert several(range(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert several(range(10)) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"
    assert several(iter("abc"), 2) == "a, b and 1 more"
