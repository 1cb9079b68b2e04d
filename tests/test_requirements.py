"""What the files of pinned packages may say."""

from __future__ import annotations

import re

import pytest
from tests.conftest import REPO


@pytest.mark.parametrize("name", ["dev.in", "dev.txt"])
def test_requirements_name_no_index_and_no_place(name: str) -> None:
    text = (REPO / "requirements" / name).read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*-|--(index|extra-index|find-links|trusted-host)", text.replace("--hash", ""), re.MULTILINE
    )
    assert not re.search(r"(?<![\w.])/\w", text), "a path of some machine"
    assert not re.search(r"\b[\w-]+\.(org|com|net|io|dev|internal|local)\b", text), "a host"


def test_every_requirement_is_pinned_with_hashes() -> None:
    text = (REPO / "requirements/dev.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(lines) > 10
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+ (; [^-]+)?(\s*--hash=sha256:[0-9a-f]{64})+\s*", line), line
