"""What a key may have: its line, its party and the door, each refusal beside what is granted."""

from __future__ import annotations

import calendar
import dataclasses
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.mechanisms.sealed_gate import CLIENT, ELSEWHERE, NOW, SSH, WEB, entrances, line, party
from tests.knockgate.spa.sealed_messages import head

from knockgate.errors import Reason
from knockgate.mechanisms.hours import Hours
from knockgate.mechanisms.parties import Asked, Denial, Entrance, Grant, Line, Observed, Party, granted
from knockgate.model import Source
from knockgate.spa.sealed import SourceKind

V6 = bytes.fromhex("20010db8000100020000000000000007")
NETWORK = V6[:8] + bytes(8)


def asked(
    *,
    sender: Source = CLIENT,
    touched: bool = False,
    time: float | None = NOW,
    **changes: Any,  # noqa: ANN401
) -> Asked:
    return Asked(head(**changes), sender, touched, time)


def told(wanted: Asked, *lines: Line) -> Reason | dict[str, float]:
    """The reason, or the doors with their seconds."""
    found = granted(wanted, lines or [line()])
    if isinstance(found, Denial):
        return found.reason
    return {entrance.door: seconds for entrance, seconds in found.leases}


def observed(sender: Source = CLIENT, **others: Any) -> Asked:  # noqa: ANN401
    return asked(source=SourceKind.OBSERVED, address=b"", sender=sender, **others)


# --- who is to be let in ------------------------------------------------------------------------------


def test_the_source_is_the_stated_one_or_else_the_sender() -> None:
    assert asked(sender=ELSEWHERE).source == CLIENT
    assert observed(ELSEWHERE).source == ELSEWHERE
    assert asked(source=SourceKind.V6, address=V6).source == V6
    assert asked(source=SourceKind.V6_NETWORK, address=NETWORK).source == V6[:8]


_V6 = {"source": SourceKind.V6, "address": V6}
_NETWORK = {"source": SourceKind.V6_NETWORK, "address": NETWORK}


@pytest.mark.parametrize(
    ("patterns", "changes", "is_admitted"),
    [
        ("198.51.100.0/24", {}, True),
        ("192.0.2.0/24", {}, False),
        ("198.51.100.*", {}, True),
        ("!198.51.100.7,*", {}, False),
        ("2001:db8::/32", _V6, True),
        ("2001:db8:1:2::7", _V6, True),
        ("2001:db8:1:3::/64", _V6, False),
        ("198.51.100.0/24", _V6, False),
        ("2001:db8:1:2::/64", _NETWORK, True),
        ("2001:db8::/32", _NETWORK, True),
        ("2001:db8:1:2::7", _NETWORK, False),  # one address of it is not all of it
        ("2001:db8:1:2::/65", _NETWORK, False),
        ("!2001:db8:1:2::7,*", _NETWORK, False),
        ("*", _NETWORK, True),
    ],
)
def test_from_is_about_who_is_let_in(patterns: str, changes: dict[str, Any], *, is_admitted: bool) -> None:
    """Wherever the datagram comes from: that is easily forged."""
    expected = {"ssh": 30.0} if is_admitted else Reason.SOURCE_DENIED
    for sender in (CLIENT, ELSEWHERE):
        assert told(asked(sender=sender, **changes), line(f'from="{patterns}"')) == expected


def test_from_is_about_the_sender_where_that_is_who_is_let_in() -> None:
    only = line('from="198.51.100.0/24"')
    assert told(observed(CLIENT), only) == {"ssh": 30.0}
    assert told(observed(ELSEWHERE), only) is Reason.SOURCE_DENIED


@pytest.mark.parametrize(
    ("network", "changes", "is_admitted"),
    [
        ("198.51.100.0/24", {}, True),
        ("192.0.2.0/24", {}, False),
        ("::/0", {}, False),
        ("2001:db8::/32", _V6, True),
        ("0.0.0.0/0", _V6, False),
        ("2001:db8:1:2::/64", _NETWORK, True),
        ("2001:db8:1::/48", _NETWORK, True),
        ("2001:db8:1:2::/65", _NETWORK, False),
        ("2001:db8:1:2::7/128", _NETWORK, False),
    ],
)
def test_sources_of_the_party(network: str, changes: dict[str, Any], *, is_admitted: bool) -> None:
    people = party(sources=(ipaddress.ip_network(network), ipaddress.ip_network("203.0.113.1")))
    expected = {"ssh": 30.0} if is_admitted else Reason.SOURCE_DENIED
    assert told(asked(sender=ELSEWHERE, **changes), line(party=people)) == expected


def test_a_line_does_not_widen_the_sources_of_its_party() -> None:
    people = party(sources=(ipaddress.ip_network("192.0.2.0/24"),))
    assert told(asked(), line('from="*"', party=people)) is Reason.SOURCE_DENIED
    assert told(asked(address=ELSEWHERE), line('from="*"', party=people)) == {"ssh": 30.0}
    assert (
        told(asked(address=ELSEWHERE), line('from="198.51.100.0/24"', party=people)) is Reason.SOURCE_DENIED
    )


# --- until when ---------------------------------------------------------------------------------------


def test_a_line_holds_in_the_last_second_that_it_names() -> None:
    ends = calendar.timegm((2026, 11, 22, 10, 0, 0))
    until = line('expiry-time="20261122100000Z"')
    for time, expected in [
        (ends - 40, {"ssh": 30.0}),
        (ends - 1, {"ssh": 2.0}),  # a lease ends with it
        (ends, {"ssh": 1.0}),
        (ends + 0.999, {"ssh": 1.0}),  # but lasts a second
        (ends + 1, Reason.KEY_EXPIRED),
    ]:
        assert told(asked(time=float(time)), until) == expected


def test_a_party_does_not_hold_any_more_when_its_time_comes() -> None:
    until = line(party=party(expires=NOW))
    assert told(asked(time=NOW - 31), until) == {"ssh": 30.0}
    assert told(asked(time=NOW - 0.001), until) == {"ssh": 1.0}
    assert told(asked(time=NOW), until) is Reason.KEY_EXPIRED


@pytest.mark.parametrize("expires", [0.0, -1.0, NOW - 1])
def test_a_party_may_have_ended_long_ago(expires: float) -> None:
    assert told(asked(), line(party=party(expires=expires))) is Reason.KEY_EXPIRED


def test_whoever_has_an_end_needs_the_time_to_be_known() -> None:
    for ending in (line('expiry-time="20991231Z"'), line(party=party(expires=NOW + 1e9))):
        assert told(asked(), ending) == {"ssh": 30.0}
        assert told(asked(time=None), ending) is Reason.CLOCK_UNKNOWN
    assert told(asked(time=None)) == {"ssh": 30.0}


# --- at which hours -----------------------------------------------------------------------------------

#: Mondays from 10:00 to 10:10; the wall shows UTC.
MORNING = Hours([(600, 610)], lambda at: ((at // 86400 + 3) % 7, at % 86400))
MONDAY = calendar.timegm((2026, 11, 23, 10, 0, 0))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (-0.001, Reason.OUTSIDE_HOURS),
        (0, {"ssh": 30.0}),
        (570, {"ssh": 30.0}),
        (590, {"ssh": 10.0}),  # a lease ends with them
        (599.5, {"ssh": 1.0}),
        (600, Reason.OUTSIDE_HOURS),
        (86400, Reason.OUTSIDE_HOURS),
        (7 * 86400, {"ssh": 30.0}),
    ],
)
def test_hours_of_a_party(after: float, expected: object) -> None:
    assert told(asked(time=MONDAY + after), line(party=party(hours=MORNING))) == expected
    assert told(asked(time=MONDAY + after), line()) == {"ssh": 30.0}


def test_whoever_is_turned_away_for_the_hour_is_told_what_hour_it_is() -> None:
    found = granted(asked(time=MONDAY - 60.0), [line(party=party(hours=MORNING))])
    assert found == Denial(Reason.OUTSIDE_HOURS, "Mon 09:59")


def test_hours_need_the_time_to_be_known() -> None:
    assert told(asked(time=None), line(party=party(hours=MORNING))) is Reason.CLOCK_UNKNOWN
    assert told(asked(time=None), line()) == {"ssh": 30.0}


def test_whichever_ends_first_ends_the_lease() -> None:
    for expires, seconds in ((MONDAY + 595.0, 5.0), (MONDAY + 605.0, 10.0)):
        assert told(asked(time=MONDAY + 590), line(party=party(hours=MORNING, expires=expires))) == {
            "ssh": seconds
        }


# --- revoked ------------------------------------------------------------------------------------------


def test_a_party_that_is_revoked_opens_nothing_and_is_told_so_before_all_else() -> None:
    gone = party(revoked=True, hours=MORNING, expires=1.0, sources=(ipaddress.ip_network("192.0.2.0/24"),))
    for time in (None, MONDAY, MONDAY + 86400.0):
        assert told(asked(time=time, doors=("cellar",)), line(party=gone)) is Reason.KEY_REVOKED
        assert told(asked(time=time), line(party=party(revoked=True))) is Reason.KEY_REVOKED
        assert told(asked(time=time), line(party=party(revoked=False))) == {"ssh": 30.0}


def test_it_is_the_party_that_is_revoked_and_not_the_key() -> None:
    others = line(party=party(name="others"))
    assert told(asked(), line(party=party(revoked=True)), others) == {"ssh": 30.0}


# --- which doors --------------------------------------------------------------------------------------


def test_all_doors_must_be_the_partys_and_the_lines() -> None:
    both: dict[str, Any] = {"doors": ("ssh", "web")}
    assert told(asked(**both)) == {"ssh": 30.0, "web": 60.0}
    assert told(asked(**both), line('doors="ssh,web"')) == {"ssh": 30.0, "web": 60.0}
    assert told(asked(**both), line('doors="ssh"')) is Reason.DOOR_DENIED
    assert told(asked(), line('doors="ssh"')) == {"ssh": 30.0}
    assert told(asked(**both), line(party=party(entrances={"ssh": SSH}))) is Reason.DOOR_DENIED
    # What the party does not have a line cannot give.
    assert told(asked(doors=("shed",)), line('doors="shed"')) is Reason.DOOR_DENIED


def test_what_is_denied_is_told_by_name() -> None:
    found = granted(asked(doors=("shed", "ssh", "stable")), [line()])
    assert found == Denial(Reason.DOOR_DENIED, "shed, stable")
    shy = line(party=party(entrances=entrances(observed=Observed.NEVER)))
    assert granted(observed(), [shy]) == Denial(Reason.UNSTATED_SOURCE, "ssh")


@pytest.mark.parametrize(
    ("says", "with_time", "without"),
    [(Observed.NEVER, False, False), (Observed.CLOCK, True, False), (Observed.ALWAYS, True, True)],
)
def test_a_door_may_want_an_address_to_be_named(says: Observed, *, with_time: bool, without: bool) -> None:
    people = line(party=party(entrances=entrances(observed=says)))
    for time, is_fine in ((NOW, with_time), (None, without)):
        assert told(observed(time=time), people) == ({"ssh": 30.0} if is_fine else Reason.UNSTATED_SOURCE)
        assert told(asked(time=time), people) == {"ssh": 30.0}


def test_one_of_two_doors_that_wants_it_is_enough() -> None:
    shy = dataclasses.replace(WEB, observed=Observed.NEVER)
    people = line(party=party(entrances={"ssh": SSH, "web": shy}))
    assert told(observed(), people) == {"ssh": 30.0}
    assert told(observed(doors=("ssh", "web")), people) is Reason.UNSTATED_SOURCE


def test_a_door_may_want_a_touch() -> None:
    people = line(party=party(entrances={"ssh": SSH, "web": dataclasses.replace(WEB, touch=True)}))
    assert told(asked(), people) == {"ssh": 30.0}
    assert told(asked(doors=("web",)), people) is Reason.NO_TOUCH
    assert told(asked(doors=("web",), touched=True), people) == {"web": 60.0}


# --- for how long -------------------------------------------------------------------------------------

_times = st.none() | st.floats(1, 1e5)


@given(
    lease=st.integers(0, 10**6),
    usual=st.floats(1, 1e4),
    extra=st.floats(0, 1e4),
    of_party=_times,
    of_line=st.none() | st.integers(1, 10**5),
)
def test_a_lease_is_the_least_of_all(
    lease: int, usual: float, extra: float, of_party: float | None, of_line: int | None
) -> None:
    door = dataclasses.replace(SSH, lease=usual, most=usual + extra)
    entry = line(
        f'max-lease="{of_line}s"' if of_line else "", party=party(entrances={"ssh": door}, longest=of_party)
    )
    found = told(asked(lease=lease), entry)
    bounds = [usual + extra, *(each for each in (of_party, of_line) if each is not None)]
    assert found == {"ssh": min(lease or usual, *bounds)}


# --- several lines ------------------------------------------------------------------------------------


def test_the_first_line_that_lets_in_counts() -> None:
    others, web, all_of_it = line('from="192.0.2.9"'), line('doors="web"'), line('max-lease="5s"')
    last = line(comment="last")
    assert told(asked(), others, web, all_of_it, last) == {"ssh": 5.0}
    assert told(asked(), others, web, last, all_of_it) == {"ssh": 30.0}
    found = granted(asked(), [others, web, last])
    assert isinstance(found, Grant) and found.line is last


def test_where_none_does_the_first_ones_reason_is_told() -> None:
    others, web = line('from="192.0.2.9"'), line('doors="web"')
    assert told(asked(), others, web) is Reason.SOURCE_DENIED
    assert told(asked(), web, others) is Reason.DOOR_DENIED


def test_two_lines_do_not_add_up() -> None:
    """Each lets in at one door; nobody is let in at both."""
    ssh, web = line('doors="ssh"'), line('doors="web"')
    assert told(asked(doors=("ssh", "web")), ssh, web) is Reason.DOOR_DENIED
    assert told(asked(doors=("web",)), ssh, web) == {"web": 60.0}


def test_a_party_of_before_does_not_stand_in_the_way() -> None:
    old, new = line(party=party(name="old", expires=NOW - 1)), line(party=party(name="new"))
    assert told(asked(), old, new) == {"ssh": 30.0}
    assert told(asked(), old) is Reason.KEY_EXPIRED


def test_what_is_not_said_of_a_door_and_of_people() -> None:
    """As docs/reference/gate-toml.md has it."""
    assert Entrance("ssh", 30.0, 60.0) == Entrance(
        "ssh", 30.0, 60.0, runs_commands=False, observed=Observed.CLOCK, touch=False, known_only=False
    )
    people = Party("people", {})
    assert (people.leases, people.leases_in_all) == (8, 1000)
