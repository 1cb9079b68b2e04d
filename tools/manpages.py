"""Writes pages for man(1): `make man`, into build/man unless told otherwise.

    python -m tools.manpages [FOLDER]

There is a page for each command of ``knockgate`` and ``knockdemo``, and one for gate.toml. Nothing is said
here that is not said elsewhere: a command's page is what its ``--help`` shows, taken down by what click would
have it printed with, or out of argparse's parser; and gate.toml(5) is docs/reference/gate-toml.md. A test
holds the pages to it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from knockdemo.__main__ import parser
from knockgate import __version__
from knockgate.cli.commands import knockgate
from knockgate.cli.terminal import PROGRAM
from knockgate.config.doors import DEFAULT_PATH
from tools import reference
from tools.roff import Roff, bold, escaped, invocation, prose

__all__ = ["pages"]

FOLDER = Path(__file__).resolve().parent.parent / "build" / "man"
_EXIT, _EXAMPLES = re.compile(r"exit status(:| (?=[0-9]))", re.IGNORECASE), "For example:"
_SECTIONS = ("ARGUMENTS", "OPTIONS", "COMMANDS")
_WIDE = 1000  # columns: nothing is to be broken, or cut off, before roff does it


def pages(date: str) -> Iterator[tuple[str, str]]:
    """(file, text) of each page; ``date`` is YYYY-MM-DD."""
    for words, context in _commands(knockgate, (PROGRAM,), None):
        yield f"{'-'.join(words)}.1", _Command(words, context, date).text()
    top = parser()
    for each, purpose in _parsers(top, (top.description or "").partition(":")[0]):
        yield f"{each.prog.replace(' ', '-')}.1", _Parser(each, purpose, date).text()
    yield "gate.toml.5", _gate_toml(date)


class _Page:
    """Of a command: what was said of it, then in the order that readers of manuals know."""

    def __init__(self, words: Iterable[str], date: str) -> None:
        self._words = list(words)
        name = "-".join(self._words)
        self._name, self._date = name, date
        self.purpose = ""
        self.usage = ""
        self.blocks: list[str] = []
        #: Heading -> (what is typed, what it is).
        self.lists: dict[str, list[tuple[str, str]]] = {}
        self.also: list[str] = []

    def text(self) -> str:
        roff = Roff(self._name, 1, date=self._date, version=f"{self._words[0]} {__version__}")
        roff.section("NAME")
        roff.raw(rf"{escaped(self._name)} \- {escaped(_as_purpose(self.purpose))}")
        roff.section("SYNOPSIS")
        roff.raw(f"{bold(' '.join(self._words))} {invocation(self.usage)}".rstrip())
        described, status, examples = _apart(self.blocks)
        if described:
            roff.section("DESCRIPTION")
            roff.text(described)
        self._write_lists(roff)
        for title, blocks in (("EXIT STATUS", status), ("EXAMPLES", examples)):
            if blocks:
                roff.section(title)
                roff.text(blocks)
        if self.also:
            roff.section("SEE ALSO")
            roff.raw(", ".join(f"{bold(each)}({section})" for each, section in map(_of_manual, self.also)))
        return str(roff)

    def _write_lists(self, roff: Roff) -> None:
        section = ""
        for heading, rows in sorted(self.lists.items(), key=lambda each: _SECTIONS.index(_section(*each))):
            if section != _section(heading, rows):
                section = _section(heading, rows)
                roff.section(section)
            if heading.upper() != section:
                roff.subsection(heading)
            for typed, what in rows:
                roff.entry(bold(typed) if section == "COMMANDS" else invocation(typed), what)


def _section(heading: str, rows: list[tuple[str, str]]) -> str:
    """Of the page, for a list of what can be typed."""
    if heading == "arguments":
        return "ARGUMENTS"
    return "OPTIONS" if rows[0][0].startswith("-") else "COMMANDS"


def _as_purpose(sentence: str) -> str:
    """As whatis(1) has it: plain, in small letters, without a full stop."""
    text = " ".join(sentence.split()).rstrip(".").replace("`", "")
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _apart(blocks: list[str]) -> tuple[list[str], list[str], list[str]]:
    """What describes; what an exit status means; examples."""
    described: list[str] = []
    status: list[str] = []
    examples: list[str] = []
    into = described
    for block in blocks:
        if block.startswith(_EXAMPLES):
            into = examples
            rest = block.removeprefix(_EXAMPLES).strip("\n")
            into += [rest] if rest else []
        elif found := _EXIT.match(block):
            status.append(block[found.end() :].strip())
        elif into is examples and not block.startswith("    "):
            into = described
            into.append(block)
        else:
            into.append(block)
    return described, status, examples


def _of_manual(name: str) -> tuple[str, int]:
    return (name, 5) if name.endswith(".toml") else (name, 1)


def _blocks(text: str) -> list[str]:
    return [block for block in re.split(r"\n[ ]*\n", text.strip("\n")) if block.strip()]


# --- knockgate: click ---------------------------------------------------------------------------------


def _commands(
    command: click.Command, words: tuple[str, ...], parent: click.Context | None
) -> Iterator[tuple[tuple[str, ...], click.Context]]:
    context = click.Context(command, info_name=words[-1], parent=parent, **command.context_settings)
    yield words, context
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from _commands(each, (*words, name), context)


class _Taker(click.HelpFormatter):
    """Where click writes its help; it takes down what that is made of."""

    def __init__(self, page: _Page) -> None:
        super().__init__(width=_WIDE)
        self._page = page
        self._heading = ""
        self.said = ""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:  # noqa: ARG002 - click's
        self._page.usage = args

    def write_heading(self, heading: str) -> None:
        self._heading = heading

    def write_dl(self, rows: Iterable[tuple[str, str]], *_: object, **__: object) -> None:
        self._page.lists[self._heading] = [(typed.strip(), what) for typed, what in rows]

    def write(self, string: str) -> None:
        self.said += string


class _Command(_Page):
    def __init__(self, words: tuple[str, ...], context: click.Context, date: str) -> None:
        super().__init__(words, date)
        command = context.command
        taker = _Taker(self)
        command.format_help(context, taker)
        first, *self.blocks = _blocks("\n".join(line[2:] for line in taker.said.splitlines()))
        self.purpose = first
        below = command.commands if isinstance(command, click.Group) else {}
        for rows in self.lists.values():  # help cuts off what is long
            rows[:] = [
                (name, below[name].get_short_help_str(_WIDE) if name in below else what)
                for name, what in rows
            ]
        self.also = [f"{self._name}-{name}" for name in below]
        self.also = [*([] if len(words) == 1 else ["-".join(words[:-1])]), *self.also, "gate.toml"]


# --- knockdemo: argparse ------------------------------------------------------------------------------


def _parsers(parser: argparse.ArgumentParser, purpose: str) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    yield parser, purpose
    for action in parser._actions:  # noqa: SLF001 - there is no other way to a parser's commands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, said in _purposes(action):
                yield from _parsers(action.choices[name], said)


class _Parser(_Page):
    def __init__(self, of: argparse.ArgumentParser, purpose: str, date: str) -> None:
        super().__init__(of.prog.split(), date)
        self.purpose = purpose
        self.usage = " ".join(of.format_usage().split()).removeprefix(f"usage: {of.prog}").strip()
        self.blocks = _blocks(of.description or "") + _blocks(of.epilog or "")
        self.also = self._words[:-1]
        for action in of._actions:  # noqa: SLF001
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
                self.lists["commands"] = list(_purposes(action))
                self.also += [f"{self._name}-{name}" for name in action.choices]
            else:
                heading = "options" if action.option_strings else "arguments"
                self.lists.setdefault(heading, []).append(_of_action(of, action))


def _purposes(action: argparse._SubParsersAction[argparse.ArgumentParser]) -> Iterator[tuple[str, str]]:
    for each in action._choices_actions:  # noqa: SLF001
        yield each.dest, each.help or ""


def _of_action(of: argparse.ArgumentParser, action: argparse.Action) -> tuple[str, str]:
    formatter = of._get_formatter()  # noqa: SLF001
    what = formatter._expand_help(action) if action.help else ""  # noqa: SLF001
    return formatter._format_action_invocation(action), what  # noqa: SLF001


# --- gate.toml: the reference -------------------------------------------------------------------------


def _gate_toml(date: str) -> str:
    roff = Roff("gate.toml", 5, date=date, version=f"{PROGRAM} {__version__}")
    roff.section("NAME")
    roff.raw(r"gate.toml \- what a gate guards, and what opens it")
    roff.section("DESCRIPTION")
    text = reference.page().partition("# gate.toml\n")[2]
    for number, part in enumerate(re.split(r"(?m)^## ", text)):
        title, _, body = part.partition("\n") if number else ("", "", part)
        if number:
            roff.section(title)
        _of_markdown(roff, body)
    roff.section("FILES")
    roff.entry(bold(str(DEFAULT_PATH)), "What commands read unless told otherwise.")
    roff.section("SEE ALSO")
    roff.raw(f"{bold(PROGRAM)}(1), {bold(f'{PROGRAM}-check')}(1)")
    return str(roff)


def _of_markdown(roff: Roff, body: str) -> None:
    for block in re.split(r"\n\n+", re.sub(r"(?s)```\w*\n(.*?)```", _indented, body).strip("\n")):
        lines = block.splitlines()
        if block.startswith("| "):
            for row in lines[2:]:
                _entry(roff, [cell.strip() for cell in row.strip("| ").split(" | ")])
        elif block.startswith("* "):
            for item in re.split(r"(?m)^\* ", block)[1:]:
                roff.bullet(item)
        elif block.strip():
            roff.text([block])


def _indented(found: re.Match[str]) -> str:
    # A line without anything in it would end the block.
    return "\n" + "\n".join(f"    {line}" for line in found[1].splitlines()) + "\n"


def _entry(roff: Roff, cells: list[str]) -> None:
    if len(cells) == 2:
        roff.entry(prose(cells[0]), cells[1])
        return
    key, value, default, meaning = cells
    roff.entry(rf"{prose(key)} \- {prose(value)}", meaning, f"Default: {default}.")


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    # A package is the same whenever it is built: https://reproducible-builds.org/specs/source-date-epoch/
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    day = time.strftime("%Y-%m-%d", time.gmtime(int(epoch) if epoch else None))
    for name, content in pages(day):
        (folder / name).write_text(content, encoding="utf-8")
