"""Text to roff: pages of a manual, as man(7) describes the macros; what groff and mandoc both read well.

What is given is plain text in which `backticks` mark what is typed. A hyphen is always the one of the
keyboard, so that what is copied out of a page can be run.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

__all__ = ["Roff", "bold", "escaped", "invocation", "prose"]

# groff has typographic signs for these, where a shell wants the ones of the keyboard.
_SIGNS = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}


def escaped(text: str) -> str:
    """One line, of which nothing is a request or an escape."""
    found = "".join(_SIGNS.get(sign, sign if ord(sign) < 127 else rf"\[u{ord(sign):04X}]") for sign in text)
    return rf"\&{found}" if found.startswith(".") else found


def bold(text: str) -> str:
    """What is typed as it stands."""
    return rf"\fB{escaped(text)}\fR"


def prose(text: str) -> str:
    """A paragraph of any number of lines; `this` becomes bold, and so does **this**."""
    # One line of roff, since groff sets sentences further apart where one ends with a line.
    parts = re.split(r"`([^`]+)`|\*\*([^*]+)\*\*", " ".join(text.split()))
    return "".join(bold(each) if index % 3 else escaped(each) for index, each in enumerate(parts) if each)


def invocation(text: str) -> str:
    """``-a, --allow ADDRESS``: options and commands bold, what stands for something else slanted."""
    found = []
    for word in re.split(r"([ ,|=()\[\]{}]+|\.\.\.)", text):
        if re.fullmatch(r"[A-Z][A-Z0-9_-]*", word):
            found.append(rf"\fI{escaped(word)}\fR")
        elif re.search(r"\w", word):
            found.append(bold(word))
        else:
            found.append(escaped(word))
    return "".join(found)


class Roff:
    """A page, from the top down."""

    def __init__(self, name: str, section: int, *, date: str, version: str) -> None:
        """``date`` is YYYY-MM-DD, ``version`` the program's with its name."""
        head = f'"{escaped(name.upper())}" {section} "{date}" "{escaped(version)}"'
        # No hyphenation and no stretched lines: names of options are to be found, and copied, as they are.
        self._lines = [f".TH {head}", ".nh", ".ad l"]

    def section(self, title: str) -> None:
        """A heading, which is bold all of it."""
        self._lines.append(f".SH {escaped(title.replace('`', ''))}")

    def subsection(self, title: str) -> None:
        """One below."""
        self._lines.append(f".SS {prose(title)}")

    def raw(self, line: str) -> None:
        """A line of roff."""
        self._lines.append(line)

    def paragraph(self, text: str) -> None:
        """Lines that are filled anew."""
        self._lines += [*self._apart(), prose(text)]

    def _apart(self) -> list[str]:
        """What sets a paragraph apart from the one before; a heading does so by itself."""
        return [] if self._lines[-1].startswith((".SH", ".SS")) else [".PP"]

    def literal(self, text: str) -> None:
        """Lines that stay as they are."""
        lines = [escaped(line) for line in textwrap.dedent(text).splitlines()]
        self._lines += [*self._apart(), ".RS 4", ".nf", *lines, ".fi", ".RE"]

    def entry(self, term: str, *texts: str) -> None:
        """A term, which is roff already, and what is said of it."""
        self._lines += [".TP", term, prose(texts[0]) or r"\&"]
        for text in texts[1:]:
            self._lines += [".br", prose(text)]

    def bullet(self, text: str) -> None:
        """One of a list."""
        self._lines += [r".IP \(bu 2", prose(text)]

    def text(self, blocks: Iterable[str]) -> None:
        """Paragraphs; one whose lines are all indented is literal."""
        for block in blocks:
            if all(line.startswith("    ") for line in block.splitlines() if line):
                self.literal(block)
            else:
                self._mixed(block)

    def _mixed(self, block: str) -> None:
        """Such a paragraph may have an example right below its last line."""
        lines = block.splitlines()
        cut = next((n for n, line in enumerate(lines) if line.startswith("    ")), len(lines))
        self.paragraph("\n".join(lines[:cut]))
        if lines[cut:]:
            self.literal("\n".join(lines[cut:]))

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"
