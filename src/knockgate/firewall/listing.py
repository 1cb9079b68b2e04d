"""What nft lists of a table -> commands that load it again, also over an owned table.

A listing as it stands does not load over our table: it declares ``table { }`` with flags that the
kernel refuses to change, and nft 1.0.6 prints the flag *persist* as nothing, which it cannot read. It
would also give every lease its full time again. So the text is taken apart, and what lives (leases,
half-made sequences, what the pace has counted) is left out.

Listings are to be made stateless, with numeric protocols: ``tcp`` in the key of an ``update`` is
printed without what nft needs to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["commands"]


class _Block(NamedTuple):
    """``WORD NAME { ... }`` with its lines."""

    word: str  #: set, map, counter, chain
    name: str
    lines: tuple[str, ...]


def commands(structure: str, contents: Callable[[str, str], str], table: str) -> str:
    """Commands that declare, flush and fill ``table`` (``inet NAME``) as ``compile_ruleset`` does.

    ``structure`` is a listing without elements, in which it stands, perhaps among other tables;
    ``contents(word, name)`` lists one of its sets or maps.
    """
    return "".join(f"{line}\n" for line in _lines(list(_blocks(structure, table)), contents, table))


def _lines(blocks: list[_Block], contents: Callable[[str, str], str], table: str) -> Iterator[str]:
    constant = [block for block in blocks if block.word in ("set", "map") and not _is_living(block)]
    yield f"add table {table}"
    for block in blocks:
        yield _declaration(block, table)
    yield f"flush table {table}"
    for block in blocks:
        if block.word == "map" or block in constant:
            yield f"flush {block.word} {table} {block.name}"
    for block in constant:
        if listed := _elements(contents(block.word, block.name)):
            yield f"add element {table} {block.name} {listed}"
    for block in blocks:
        if block.word == "chain":
            yield from (f"add rule {table} {block.name} {line}" for line in block.lines if not _is_hook(line))


def _blocks(structure: str, table: str) -> Iterator[_Block]:
    """Blocks are indented by one tab, their lines by two; the table's own lines are no blocks."""
    head: list[str] = []
    lines: list[str] = []
    is_ours = False
    for line in structure.splitlines():
        if line.startswith("table "):
            is_ours = line.startswith(f"table {table} {{")
        elif not is_ours:
            continue
        elif line.startswith("\t\t"):
            lines.append(line.strip())
        elif line.startswith("\t") and line.endswith(" {"):
            head, lines = line.split()[:2], []
        elif line == "\t}":
            yield _Block(head[0], head[1], tuple(lines))


def _is_living(block: _Block) -> bool:
    """Whether packets change it, or time does."""
    flags = next((line for line in block.lines if line.startswith("flags ")), "")
    return "dynamic" in flags or "timeout" in flags


def _declaration(block: _Block, table: str) -> str:
    lines = [line.rstrip(";") for line in block.lines if block.word != "chain" or _is_hook(line)]
    inner = "; ".join(lines)
    return f"add {block.word} {table} {block.name}" + (f" {{ {inner}; }}" if inner else "")


def _is_hook(line: str) -> bool:
    return line.startswith("type ")


def _elements(listing: str) -> str:
    """``{ ... }`` on one line, or nothing."""
    _, _, behind = listing.partition("elements = ")
    inside, closing, _ = behind.partition("}")
    return " ".join((inside + closing).split())
