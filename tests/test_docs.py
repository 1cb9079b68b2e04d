"""What the documents show of gate.toml is what the gate takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.conftest import REPO

from knockgate.config.doors import parse
from knockgate.errors import ConfigError

DOCUMENTS = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def gates(text: str) -> list[tuple[int, str]]:
    """The blocks that are a gate.toml, each with the line before it."""
    return [
        (text.count("\n", 0, found.start()) + 1, found[1])
        for found in _BLOCK.finditer(text)
        if re.search(r"^\[?doors\.", found[1], re.MULTILINE)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_gate_can_be_used(document: Path) -> None:
    for line, block in gates(document.read_text()):
        parse("\n" * line + block, str(document))  # a mistake is told with its line in the document


def test_the_blocks_are_found() -> None:
    """The control: there is one to be found, and a mistake in it would be."""
    text = (REPO / "docs" / "reference" / "gate-toml.md").read_text()
    ((line, block),) = gates(text)
    mistaken = block.replace('lease = "15s"', 'leese = "15s"')
    with pytest.raises(ConfigError, match="unknown key") as caught:
        parse("\n" * line + mistaken)
    assert text.splitlines()[(caught.value.line or 0) - 1].startswith('lease = "15s"')
