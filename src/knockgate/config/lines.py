"""On which line a key of a TOML text stands; tomllib does not tell.

It reads what tomllib has taken already, so it looks for the shape alone: headings, keys, brackets, and
where texts begin and end. It is asked once, for the one mistake that is reported.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

__all__ = ["Keys", "dotted", "line_of"]

#: The way to a value from the top of the document: ``("doors", "ssh", "ports")``.
Keys = tuple[str, ...]

# Texts come first: what looks like a key inside of them is none. Three quotes end a text of several
# lines, and up to two more in front of them belong to it.
_TOKEN = re.compile(
    r'''(?P<text> """(?:[^\\]|\\.)*?"{3,5} | \'\'\'.*?'{3,5} | "(?:[^"\\\n]|\\.)*" | '[^'\n]*' )
      | (?P<newline> \n )
      | (?P<nothing> [^\S\n]+ | \#[^\n]* )
      | (?P<mark> [][{}=,.] )
      | (?P<bare> [^][{}=,."'#\s]+ )''',
    re.VERBOSE | re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def line_of(content: str, keys: Keys) -> int | None:
    """The first line, from 1, that has to do with ``keys``: theirs, or else that of a table around them."""
    best, known = None, 0
    for place, line in _places(content):
        same = 0
        while same < min(len(place), len(keys)) and place[same] == keys[same]:
            same += 1
        if same > known:
            best, known = line, same
    return best


def dotted(keys: Keys) -> str:
    """The keys as one would write them: ``doors."a.b".ports``."""
    return ".".join(name if _BARE.fullmatch(name) else _quoted(name) for name in keys)


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in escaped) + '"'


def _places(content: str) -> Iterator[tuple[Keys, int]]:
    """Every heading and every key, with its line."""
    line = 1
    heading: Keys = ()
    around: Keys = ()  # what the key to be read stands under
    place: Keys = ()  # whose value is being read
    names: list[str] = []
    brackets: list[tuple[str, Keys]] = []  # those that are open in a value, and whose they are
    in_key = True
    for found in _TOKEN.finditer(content):
        kind, word = found.lastgroup, found[0]
        if kind == "newline" and not brackets:
            around, names, in_key = heading, [], True
        elif kind in ("text", "bare") and in_key:
            names.append(_name(word))
        elif word == "=" and in_key:
            place, in_key = (*around, *names), False
            yield place, line
        elif word == "]" and in_key:
            heading = tuple(names)
            yield heading, line
        elif word == "{":
            brackets.append((word, place))
            around, names, in_key = place, [], True
        elif word == "[" and not in_key:
            brackets.append((word, place))
        elif word in ("]", "}"):
            _, place = brackets.pop()
            in_key = False
        elif word == "," and brackets[-1][0] == "{":
            around, names, in_key = brackets[-1][1], [], True
        line += word.count("\n")


def _name(word: str) -> str:
    """A key's name as it stands in the text -> the name, escapes undone."""
    if word.startswith('"'):
        return str(tomllib.loads(f"name = {word}")["name"])
    return word.strip("'")
