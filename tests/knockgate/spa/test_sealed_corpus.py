"""What the fuzzer has found interesting of our packet, without the fuzzer: `make fuzz` adds to it."""

from __future__ import annotations

import pytest
from fuzz import sealed_targets
from fuzz.targets import Mistake
from tests.knockgate.spa import sealed_oracle as oracle
from tests.knockgate.spa.corpus import CORPUS, run_through
from tests.knockgate.spa.sealed_messages import MESSAGE, decoded, shown

from knockgate.errors import Reason


@pytest.mark.parametrize("name", sealed_targets.TARGETS)
def test_nothing_of_it_is_a_mistake(name: str) -> None:
    run_through(sealed_targets.TARGETS, name, least=5)


def test_the_oracle_says_the_same_of_it() -> None:
    ends = set()
    for file in (CORPUS / "message").iterdir():
        octets = file.read_bytes()
        said = decoded(octets)
        ends.add(type(said))
        if len(octets) != 181:
            assert said is Reason.MALFORMED
        elif isinstance(said, Reason):
            with pytest.raises(oracle.No, match=said.value):
                oracle.parse(octets)
        else:
            assert oracle.parse(octets) == shown(said)
    assert len(ends) == 2, "messages and reasons"


CONTROLS = {"message": ("Message.decode", lambda _: MESSAGE), "card": ("Card.text", lambda _: "another")}


@pytest.mark.parametrize("name", sealed_targets.TARGETS)
def test_a_mistake_would_be_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a second spelling of something."""
    place, instead = CONTROLS[name]
    monkeypatch.setattr(f"fuzz.sealed_targets.{place}", instead)
    with pytest.raises(Mistake):
        test_nothing_of_it_is_a_mistake(name)
