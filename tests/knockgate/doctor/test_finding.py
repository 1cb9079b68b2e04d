"""The closed list of findings: each is in the documentation, and each has a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.conftest import REPO
from tools.findings import table

from knockgate.doctor.examine import EXAMINATIONS
from knockgate.doctor.finding import Finding, Kind, Severity, Topic, blind, fine, found

HERE = Path(__file__).parent


def test_the_documentation_has_the_list() -> None:
    page = (REPO / "docs" / "operating.md").read_text()
    assert table() in page, "python -m tools.findings writes it anew"


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.id)
def test_each_has_a_test(kind: Kind) -> None:
    """In which it is named; what it shows, and its control, are there."""
    texts = [each.read_text() for each in HERE.glob("test_*.py") if each.name != Path(__file__).name]
    assert any(re.search(rf"Kind\.{kind.name}\b", text) for text in texts)


def test_each_is_made_somewhere() -> None:
    source = "".join(each.read_text() for each in (REPO / "src/knockgate/doctor").glob("*.py"))
    for kind in Kind:
        assert len(re.findall(rf"\bKind\.{kind.name}\b", source)) >= 1, kind


def test_every_topic_is_examined() -> None:
    assert list(EXAMINATIONS) == list(Topic)


def test_severities_can_be_less_and_never_more() -> None:
    assert found(Kind.NOT_LOADED, "x", "y").severity is Severity.ERROR
    assert found(Kind.NOT_LOADED, "x", "y", most=Severity.NOTE).severity is Severity.NOTE
    assert found(Kind.UNGUARDED, "x", "y").severity is Severity.NOTE
    assert fine(Topic.CLOCK, "x").severity is Severity.OK
    with pytest.raises(ValueError, match="no topic"):
        found(Kind.FINE, "x", "y")


def test_what_programs_get() -> None:
    assert fine(Topic.CLOCK, "x").facts() == {
        "topic": "clock",
        "id": "fine",
        "severity": "ok",
        "looked": True,
        "seen": "x",
        "why": None,
        "fix": None,
    }
    facts = blind(Topic.RULES, "the rules", "run it as root").facts()
    assert (facts["severity"], facts["looked"]) == ("warning", False)
    assert facts["seen"] == "could not look at the rules"
    assert isinstance(found(Kind.NOT_LOADED, "x", "y"), Finding)
