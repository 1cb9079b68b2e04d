"""The command line of a half: declared as with argparse, which is asked only where a line is not plain.

It is the units' and the supervisor's line, the same at each start; and argparse, for the width of a help that
nobody reads, takes 15 ms and all that Python has for compressed data and for languages.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

__all__ = ["Parser"]


class _Group:
    """Options of which one may be given."""

    def __init__(self, parser: Parser, *, required: bool) -> None:
        self._parser, self.required = parser, required
        self.names: list[str] = []

    def add_argument(self, name: str, **how: Any) -> None:  # noqa: ANN401 - as argparse has it
        """As of a parser."""
        self._parser.add_argument(name, **how)
        self.names.append(name)


class Parser:
    """Takes ``--name VALUE``, and ``--name`` with ``action="store_true"``."""

    def __init__(self, *, prog: str, description: str, epilog: str | None = None) -> None:
        self._about = {"prog": prog, "description": description, "epilog": epilog}
        self._options: dict[str, dict[str, Any]] = {}
        self._groups: list[_Group] = []

    def add_argument(self, name: str, **how: Any) -> None:  # noqa: ANN401 - as argparse has it
        """``how``: metavar, type, default, action, required, help."""
        self._options[name] = how

    def add_mutually_exclusive_group(self, *, required: bool = False) -> _Group:
        """Options of which one may be given, or with ``required`` must be."""
        self._groups.append(_Group(self, required=required))
        return self._groups[-1]

    def parse_args(self, argv: Sequence[str] | None = None) -> SimpleNamespace:
        """By default of the process's own command line. Exits 2 with the usage where it is wrong."""
        words = list(sys.argv[1:] if argv is None else argv)
        found = self._plain(words)
        return SimpleNamespace(**(self._at_length(words) if found is None else found))

    def _plain(self, words: list[str]) -> dict[str, object] | None:
        """None where there is something to be said about them."""
        given: dict[str, object] = {}
        rest = iter(words)
        for name in rest:
            how = self._options.get(name)
            if how is None or name in given:
                return None
            if how.get("action") == "store_true":
                given[name] = True
                continue
            value = next(rest, "-")
            if value.startswith("-"):
                return None
            try:
                given[name] = how.get("type", str)(value)
            except ValueError:
                return None
        if any(how.get("required") and name not in given for name, how in self._options.items()):
            return None
        for group in self._groups:
            count = len(given.keys() & set(group.names))
            if count > 1 or (group.required and not count):
                return None
        return {_dest(name): given.get(name, _default(how)) for name, how in self._options.items()}

    def _at_length(self, words: list[str]) -> dict[str, object]:
        import argparse  # noqa: PLC0415 - see above

        parser = argparse.ArgumentParser(**self._about)  # type: ignore[arg-type]
        owners = {}
        for group in self._groups:
            made = parser.add_mutually_exclusive_group(required=group.required)
            owners.update(dict.fromkeys(group.names, made))
        for name, how in self._options.items():
            owners.get(name, parser).add_argument(name, **how)
        return vars(parser.parse_args(words))


def _dest(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


def _default(how: dict[str, Any]) -> object:
    return how.get("default", False if how.get("action") == "store_true" else None)
