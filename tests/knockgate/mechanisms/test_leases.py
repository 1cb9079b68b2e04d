"""How many leases a key has, against a list of all that were ever given."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from knockgate.mechanisms.leases import Leases
from knockgate.model import Source

_WANTED = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from([b"1234", b"5678"])), st.integers(1, 20), min_size=1
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["al", "bo"]), _WANTED, st.integers(1, 4), st.integers(0, 9), st.booleans()
        ),
        max_size=30,
    )
)
def test_never_more_than_it_may_have(
    knocks: list[tuple[str, dict[tuple[str, Source], int], int, int, bool]],
) -> None:
    """And to forget those that have none changes nothing."""
    leases, ever, up = Leases(), list[tuple[str, tuple[str, Source], float]](), 100.0
    for key, wanted, most, later, forgets in knocks:
        up += later
        if forgets:
            leases.forget_idle(up)
            assert leases._until.keys() == {who for who, _, until in ever if until > up}
        live = {each for who, each, until in ever if who == key and until > up}
        may = len(live | set(wanted)) <= most
        seconds = {each: float(many) for each, many in wanted.items()}
        assert leases.has_room(key, seconds, most, up) is may
        assert leases.take(key, seconds, most, up) is may
        if may:
            ever += [(key, each, up + many) for each, many in wanted.items()]
