"""Each promise of SECURITY.md names a file that makes it so and a test that backs it, and both exist."""

from __future__ import annotations

import ast
import functools
import re

import pytest
from tests.conftest import REPO

PAGE = (REPO / "SECURITY.md").read_text()
_SECTION = re.compile(r"(?ms)^## (.*?)$\n(.*?)(?=^## |\Z)")
_PROMISED = re.compile(r"(?ms)^Promised:\n\n(.*?)(?=\n\n)")
_REFERENCE = re.compile(r"`((?:src|tests)/[^`:]+)(?:::(\w+))?`")


def promises(page: str) -> list[tuple[str, str]]:
    """(section, the promise with what it names), in the order of the page."""
    return [
        (title, each)
        for title, text in _SECTION.findall(page)
        for block in _PROMISED.findall(text)
        for each in re.split(r"(?m)^\* ", block)
        if each
    ]


@functools.cache
def functions(path: str) -> set[str]:
    tree = ast.parse((REPO / path).read_text())
    return {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}


def flaws(promise: str) -> list[str]:
    """What is wrong with what a promise names."""
    made: list[str] = []
    backed: list[str] = []
    found = []
    for path, test in _REFERENCE.findall(promise):
        (made if path.startswith("src/") else backed).append(path)
        if not (REPO / path).is_file():
            found.append(f"there is no {path}")
        elif path.startswith("tests/") and test not in functions(path):
            found.append(f"{path} has no {test or 'test that is named'}")
    if not made or not backed:
        found.append("it names no file, or no test")
    return found


@pytest.mark.parametrize(("section", "promise"), promises(PAGE))
def test_what_a_promise_names_is_there(section: str, promise: str) -> None:
    assert flaws(promise) == [], section


def test_every_reference_is_of_a_promise() -> None:
    """None was overlooked because it stands where no promise is looked for; the page itself has some."""
    of_promises = [each for _, promise in promises(PAGE) for each in _REFERENCE.findall(promise)]
    elsewhere = [each for each in _REFERENCE.findall(PAGE) if each not in of_promises]
    assert elsewhere == [("tests/test_security_page.py", "")]
    assert len(promises(PAGE)) > 40
    assert (
        PAGE.count("\nPromised:\n")
        == PAGE.count("\nNot promised:\n")
        == len({section for section, _ in promises(PAGE)})
    )


@pytest.mark.parametrize(
    ("promise", "flaw"),
    [
        ("It holds. Made so by `src/knockgate/clock.py`.", "names no file, or no test"),
        ("It holds. Backed by `tests/test_docs.py::test_the_blocks_are_found`.", "names no file, or no test"),
        ("`src/knockgate/magic.py`; `tests/test_docs.py::test_the_blocks_are_found`", "there is no src"),
        ("`src/knockgate/clock.py`; `tests/test_magic.py::test_it`", "there is no tests"),
        ("`src/knockgate/clock.py`; `tests/test_docs.py::test_magic`", "has no test_magic"),
        ("`src/knockgate/clock.py`; `tests/test_docs.py`", "has no test that is named"),
    ],
)
def test_a_promise_without_would_be_found(promise: str, flaw: str) -> None:
    page = f"## Somebody\n\nPromised:\n\n* {promise}\n\nNot promised:\n\n* Else.\n"
    ((section, found),) = promises(page)
    assert section == "Somebody" and any(flaw in each for each in flaws(found)), flaws(found)


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (REPO / link).is_file(), link
