from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.mechanisms.marks_life import lived
from tests.knockgate.store.marks_conformance import CASES, MOST, SALT, InAStore, MakesMarks

from knockgate.store.marks_memory import MemoryMarks


def empty(*, low: int = 0) -> MemoryMarks:
    return MemoryMarks(devices=MOST, salt=SALT, low=low)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_every_store_promises(case: Callable[[MakesMarks], None]) -> None:
    case(empty)


@given(seed=st.integers(0, 2**32), length=st.integers(1, 120))
def test_any_course_of_things(seed: int, length: int) -> None:
    """A gate that starts again goes on with the same store: it has no other."""

    def memory(room: int) -> InAStore:
        return InAStore(MemoryMarks(devices=room, salt=SALT), room, lambda store: store)

    lived(seed, length, memory)
