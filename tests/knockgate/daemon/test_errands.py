from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knockgate.config.doors import Door
from knockgate.daemon.errands import LONGEST, OPENS_WITHIN, Answer, Errand
from knockgate.daemon.link import Surprise

GOOD = {"door": "ssh", "source": "192.0.2.7", "seconds": None, "date": 5021.25}


@given(
    st.text(),
    st.sampled_from([4, 8, 16]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    st.none() | st.floats(0.001, 1e9),
    st.floats(0, 1e9),
)
def test_what_is_sent_arrives(door: str, source: bytes, seconds: float | None, date: float) -> None:
    arrived = Errand.decode(Errand(door, source, seconds, date).encode())
    assert (arrived, arrived.seconds, arrived.date) == (Errand(door, source), seconds, date)


@given(st.floats(0, 1e9), st.booleans())
def test_an_answer_arrives(date: float, taken: bool) -> None:
    assert Answer.decode(Answer(date, taken).encode()) == Answer(date, taken)


@given(st.binary(max_size=20).filter(lambda message: len(message) != 9))
def test_what_is_no_answer_is_a_surprise(message: bytes) -> None:
    with pytest.raises(Surprise, match="an answer of"):
        Answer.decode(message)


@pytest.mark.parametrize("date", [-1.0, 30, True, None, "30", float("nan"), float("inf"), [30.0]])
def test_only_a_date_is_a_date(date: object) -> None:
    assert Errand.decode(json.dumps({**GOOD, "date": 0.0}).encode()).date == 0
    with pytest.raises(Surprise, match="no errand: its date"):
        Errand.decode(json.dumps({**GOOD, "date": date}).encode())


@given(st.floats(1, 1e9))
def test_it_is_good_for_a_few_seconds_and_never_longer_than_the_lease(lease: float) -> None:
    """Doors without ports may have a shorter lease than a runner takes; theirs is good for a second."""
    errand, door = Errand("ssh", bytes(4)), Door(name="ssh", ports=())
    assert 1 <= errand.good_for(replace(door, lease=lease)) <= min(lease, OPENS_WITHIN)
    assert errand.good_for(replace(door, lease=0.0)) == 1


def test_the_lease_is_the_doors_or_what_was_asked_for_if_that_is_less() -> None:
    door = Door(name="ssh", ports=(), lease=30.0, longest=600.0)
    leases = [Errand("ssh", bytes(4), seconds).lease_at(door) for seconds in (None, 2.0, 600.0, 601.0)]
    assert leases == [30, 2, 600, 600]
    assert Errand("ssh", bytes(4), 2.0).good_for(door) == 2


@pytest.mark.parametrize("seconds", [0.0, -1.0, 30, True, "30", float("nan"), float("inf"), [30.0]])
def test_only_a_time_is_a_time(seconds: object) -> None:
    assert Errand.decode(json.dumps({**GOOD, "seconds": 30.0}).encode()).seconds == 30
    with pytest.raises(Surprise, match="no errand"):
        Errand.decode(json.dumps({**GOOD, "seconds": seconds}).encode())


@pytest.mark.parametrize(
    "source",
    [
        "192.0.2.7; touch x",
        "$(touch x)",
        "fe80::1%$(touch x)",  # Python takes this for an address with a scope
        "fe80::1%eth0",
        "192.0.2.7/32",
        "192.0.2.7/64",
        "2001:db8:1:2::7/64",
        "2001:db8:1:2::/63",
        "2001:db8:1:2::/064",
        "2001:db8:1:2::/64/64",
        "2001:db8:1:2::%$(touch x)/64",
        "/64",
        "2001:DB8::7",  # not as address_text writes it
        "192.0.2",
        "0x7f.1",
        "192.0.2.07",
        " 192.0.2.7",
        "192.0.2.7\n",
        "localhost",
        "",
        3221225991,  # and this for 192.0.2.7
        None,
        ["192.0.2.7"],
        True,
    ],
)
def test_only_an_address_is_an_address(source: object) -> None:
    """Whatever else Python would take for one; the address itself is taken, and its network (control)."""
    home = {**GOOD, "source": "2001:db8:1:2::/64"}
    assert Errand.decode(json.dumps(home).encode()) == Errand("ssh", bytes.fromhex("20010db800010002"))
    assert Errand.decode(json.dumps(GOOD).encode()) == Errand("ssh", bytes([192, 0, 2, 7]))
    with pytest.raises(Surprise, match="no errand"):
        Errand.decode(json.dumps({**GOOD, "source": source}).encode())


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"x",
        b"\xff",
        b"[]",
        b'"ssh"',
        b"{}",
        b"NaN",
        b"[" * LONGEST,
        b'{"door": "ssh"}',
        b'{"door": "ssh", "source": "192.0.2.7"}',
        json.dumps({**GOOD, "door": 1}).encode(),
        json.dumps({**GOOD, "command": "reboot"}).encode(),
        json.dumps({**GOOD, "door": "x" * LONGEST}).encode(),
        json.dumps(GOOD).encode() + b"\0",
    ],
)
def test_what_is_no_errand_is_a_surprise(message: bytes) -> None:
    with pytest.raises(Surprise, match="no errand"):
        Errand.decode(message)


VALUES = st.none() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=2)


@given(st.binary(max_size=100) | st.fixed_dictionaries({"door": VALUES, "source": VALUES}).map(json.dumps))
def test_nothing_else_is_raised(message: bytes | str) -> None:
    with pytest.raises(Surprise):
        Errand.decode(message.encode() if isinstance(message, str) else message)
