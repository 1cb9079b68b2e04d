"""Marks, clock and clients' dates together, on the model; on the stores: ../store/test_marks.py."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.knockgate.mechanisms.marks_life import Memory, lived


@settings(max_examples=settings().max_examples * 8)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 120))
def test_any_course_of_things(seed: int, length: int) -> None:
    lived(seed, length, Memory)
