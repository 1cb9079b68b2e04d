"""What the fuzzer has found interesting, without the fuzzer: `make fuzz` adds to it."""

from __future__ import annotations

import pytest
from fuzz import targets
from tests.knockgate.spa.corpus import CORPUS, run_through
from tests.knockgate.spa.messages import refusal

from knockgate.errors import Reason


@pytest.mark.parametrize("name", targets.TARGETS)
def test_nothing_of_it_is_a_mistake(name: str) -> None:
    run_through(targets.TARGETS, name)


def test_it_reaches_all_that_there_is() -> None:
    """Right ones, and each reason."""
    files = (CORPUS / "packet").iterdir()
    reached = {refusal(file.read_bytes(), secret) for file in files for secret in targets.SECRETS}
    assert reached >= {None, Reason.BAD_LENGTH, Reason.NOT_BASE64, Reason.NOT_OURS, Reason.NOT_SEALED}


@pytest.mark.parametrize("name", ["text", "values"])
def test_a_mistake_would_be_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a second spelling of a message, and an error that nobody expects."""
    monkeypatch.setattr("fuzz.targets.fields.encode", lambda _: b"another")
    with pytest.raises(targets.Mistake):
        test_nothing_of_it_is_a_mistake(name)
