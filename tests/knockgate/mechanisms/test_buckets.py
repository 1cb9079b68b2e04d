"""How often something may happen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knockgate.mechanisms.buckets import Bucket


def test_there_is_a_burst_and_then_a_rate() -> None:
    bucket = Bucket(2.0, 3.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(100.4)  # not a whole one yet
    assert bucket.take(100.6) and not bucket.take(100.6)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]  # it does not fill beyond


def test_to_ask_takes_nothing() -> None:
    bucket = Bucket(1.0, 1.0)
    assert all(bucket.has(5.0) for _ in range(100))
    assert bucket.take(5.0) and not bucket.has(5.0)
    # Nor does being refused, or who asks all the time would never get one.
    assert not any(bucket.take(5.0 + tenth / 10) for tenth in range(1, 10))
    assert bucket.take(6.01)


def test_it_is_full_again_after_a_while() -> None:
    bucket = Bucket(2.0, 3.0)
    assert bucket.is_full(100.0) and bucket.take(100.0)
    assert not bucket.is_full(100.4)
    assert bucket.is_full(100.5) and bucket.take(100.5)


@given(
    rate=st.floats(0.1, 100),
    burst=st.floats(1, 100),
    pauses=st.lists(st.floats(0, 10), min_size=1, max_size=100),
)
def test_never_more_than_a_burst_and_the_rate(rate: float, burst: float, pauses: list[float]) -> None:
    bucket, up, taken = Bucket(rate, burst), 1000.0, 0
    for pause in pauses:
        up += pause
        taken += bucket.take(up)
        assert taken <= burst + (up - 1000.0) * rate + 1e-6


def test_a_time_before_the_last_one_takes_nothing() -> None:
    bucket = Bucket(2.0, 2.0)
    assert bucket.take(100.0)
    assert bucket.has(99.5)
