"""Sealed knocks whose signature is good: tokens, devices, dates, what a key may have. Steps 8 to 15."""

from __future__ import annotations

import pytest
from tests.knockgate.mechanisms.sealed_gate import (
    BLIND,
    CLIENT,
    ELSEWHERE,
    FLOORED,
    NOW,
    SECOND,
    SSH,
    SURE,
    Gate,
    at,
    entrances,
    leases,
    line,
    outcome,
    party,
    refusal,
    token,
)
from tests.knockgate.spa import sealed_signers as signers
from tests.knockgate.spa.sealed_messages import CARD, HEAD, MESSAGE, signed

from knockgate.effects import KnockTaken
from knockgate.errors import Reason
from knockgate.mechanisms import sealed
from knockgate.mechanisms.certainty import TellStep
from knockgate.mechanisms.parties import Observed
from knockgate.mechanisms.sealed import Standing
from knockgate.spa.sealed import KeyKind, SourceKind, seal

V6 = bytes.fromhex("20010db8000100020000000000000007")
TOKENS = [KeyKind.SK_ED25519, KeyKind.SK_ECDSA_P256]
TOUCHED, VERIFIED = 1, 4


# --- step 8: tokens -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize(
    ("options", "flags", "reason"),
    [
        ("", TOUCHED, None),
        ("", TOUCHED | VERIFIED, None),
        ("", 0, Reason.NO_TOUCH),
        ("", VERIFIED, Reason.NO_TOUCH),
        ("no-touch-required", 0, None),
        ("no-touch-required", TOUCHED, None),
        ("verify-required", TOUCHED, Reason.NOT_VERIFIED),
        ("verify-required", TOUCHED | VERIFIED, None),
        ("verify-required", VERIFIED, Reason.NO_TOUCH),
        ("no-touch-required,verify-required", VERIFIED, None),
        ("no-touch-required,verify-required", 0, Reason.NOT_VERIFIED),
    ],
)
def test_what_a_token_must_have_asked(kind: KeyKind, options: str, flags: int, reason: Reason | None) -> None:
    gate = Gate([line(options, kind=kind)])
    assert gate.knock(token(flags, kind=kind)) is reason
    assert len(gate.claims) == (reason is None)
    # It was not spent by that.
    assert gate.knock(token(TOUCHED | VERIFIED, kind=kind)) is (Reason.REPLAYED if reason is None else None)


def test_a_key_in_a_file_needs_no_touch() -> None:
    assert Gate([line("verify-required")]).knock() is None


def test_of_several_lines_those_count_that_a_token_is_fit_for() -> None:
    strict = line(kind=signers.SK_ED25519)
    plain = line('no-touch-required,max-lease="5s"', kind=signers.SK_ED25519)
    untouched = seal(token(0), CARD)
    assert outcome(Gate([strict]).hear(untouched)) is Reason.NO_TOUCH
    assert leases(Gate([strict, plain]).hear(untouched)) == {"ssh": 5.0}
    assert leases(Gate([strict, plain]).hear(seal(token(TOUCHED), CARD))) == {"ssh": 30.0}


def test_where_a_token_is_fit_for_no_line_the_first_ones_reason_is_told() -> None:
    touch = line(kind=signers.SK_ED25519)
    verify = line("no-touch-required,verify-required", kind=signers.SK_ED25519)
    untouched = seal(token(0), CARD)
    assert outcome(Gate([touch, verify]).hear(untouched)) is Reason.NO_TOUCH
    assert outcome(Gate([verify, touch]).hear(untouched)) is Reason.NOT_VERIFIED


# --- step 9: devices ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known_only", "standing", "opens"),
    [
        (False, Standing.UNSAID, True),
        (False, Standing.KNOWN, True),
        (False, Standing.BARRED, False),
        (True, Standing.UNSAID, False),
        (True, Standing.KNOWN, True),
        (True, Standing.BARRED, False),
    ],
)
def test_which_devices(known_only: bool, standing: Standing, *, opens: bool) -> None:
    asked = []

    def standing_of(device: bytes) -> Standing:
        asked.append(device)
        return standing

    people = party(entrances=entrances(known_only=known_only))
    gate = Gate([line(party=people)], standing=standing_of)
    assert gate.knock() is (None if opens else Reason.UNKNOWN_DEVICE)
    assert asked == [HEAD.device] and len(gate.claims) == opens


def test_one_door_that_wants_a_known_device_is_enough() -> None:
    people = party(entrances=entrances(known_only=True) | {"ssh": SSH})
    gate = Gate([line(party=people)])
    assert gate.knock(doors=("ssh", "web")) is Reason.UNKNOWN_DEVICE
    assert gate.knock(doors=("ssh",)) is None


def test_there_is_room_for_so_many_devices() -> None:
    gate = Gate(devices=2)
    assert gate.knock(**at(0, 1)) is gate.knock(**at(0, 2)) is None
    refused = refusal(gate.hear(seal(signed(**at(0, 3)), CARD)))
    assert refused.reason is Reason.TOO_MANY_DEVICES and refused.key is not None
    gate.wait(61)  # then the others are behind freshness, and the oldest is forgotten
    assert gate.knock(**at(61, 3)) is None
    assert gate.knock(**at(62, 2)) is None


# --- steps 10 to 13: new, on time, not too often ------------------------------------------------------


def test_a_date_is_good_once_and_only_newer_ones_are() -> None:
    gate = Gate()
    assert gate.knock(**at(0)) is None
    assert gate.knock(**at(0)) is Reason.REPLAYED  # sealed anew
    assert gate.knock(**at(-1)) is Reason.REPLAYED
    assert gate.knock(**at(-1, device=2)) is None
    assert gate.knock(era=1, **at(-30)) is None
    assert gate.knock(**at(30)) is Reason.REPLAYED  # of an era that is over


@pytest.mark.parametrize(
    ("seconds", "reason"), [(60, None), (61, Reason.AHEAD), (-60, None), (-61, Reason.STALE)]
)
def test_a_minute_in_both_directions(seconds: float, reason: Reason | None) -> None:
    gate = Gate()
    effects = gate.hear(seal(signed(**at(seconds)), CARD))
    assert outcome(effects) is reason
    if reason:
        refused = refusal(effects)
        assert refused.skew == -seconds and refused.story is not None and refused.story.skew == -seconds
        assert refused.key == refused.story.key is not None


def test_one_that_is_ahead_is_not_spent_and_a_stale_one_is() -> None:
    gate = Gate()
    early, late = seal(signed(**at(61)), CARD), seal(signed(**at(61)), CARD)
    assert outcome(gate.hear(early)) is Reason.AHEAD
    gate.wait(10)
    assert outcome(gate.hear(late)) is None
    gate = Gate()
    assert gate.knock(**at(-61)) is Reason.STALE
    gate.now -= 30  # somebody sets the clock back
    assert gate.knock(**at(-61)) is Reason.REPLAYED
    assert gate.knock(**at(-60)) is None


@pytest.mark.parametrize(
    ("clock", "seconds", "reason"),
    [
        (BLIND, -1e9, None),
        (BLIND, 1e9, None),
        (FLOORED, 1e9, None),
        (FLOORED, -4059, None),
        (FLOORED, -4061, Reason.STALE),
    ],
)
def test_without_a_clock(clock: str, seconds: float, reason: Reason | None) -> None:
    """Floored at NOW - 5000 in a boot before this one, which is 1000 s old."""
    gate = Gate(clock=clock)
    effects = gate.hear(seal(signed(**at(seconds)), CARD))
    assert outcome(effects) is reason
    assert gate.claims[0].floor is None and not gate.clock_effects
    if reason:
        refused = refusal(effects)
        assert refused.skew == -seconds - 4000 and refused.story is not None and refused.story.skew is None


def test_a_step_of_the_clock_is_told() -> None:
    gate = Gate()
    assert gate.knock(**at(0)) is None
    gate.now += 3600
    assert gate.knock(**at(3600)) is None
    assert gate.clock_effects[-1] == TellStep(3600 * SECOND)


def test_a_key_has_a_pace() -> None:
    """Whatever device it knocks with; another key has its own."""
    gate = Gate([line(), line(kind=signers.ECDSA)])
    found = [gate.knock(**at(0, device)) for device in range(1, 13)]
    assert found == [None] * 10 + [Reason.OVER_PACE] * 2
    assert gate.knock(signed(KeyKind.ECDSA_P256)) is None
    gate.wait(1)
    assert gate.knock(**at(1, 20)) is None
    assert gate.knock(**at(1, 21)) is Reason.OVER_PACE
    # It was not spent by that.
    gate.wait(1)
    assert gate.knock(**at(1, 21)) is None


def test_replays_and_dates_ahead_use_up_no_pace() -> None:
    gate = Gate()
    assert gate.knock(**at(0)) is None
    for _ in range(30):
        assert gate.knock(**at(0)) is Reason.REPLAYED
        assert gate.knock(**at(61)) is Reason.AHEAD
    found = [gate.knock(**at(number / 10)) for number in range(1, 11)]
    assert found == [None] * 9 + [Reason.OVER_PACE]


def test_one_that_is_refused_after_the_claim_does() -> None:
    gate = Gate()
    for number in range(10):
        assert gate.knock(doors=("shed",), **at(number)) is Reason.DOOR_DENIED
    assert gate.knock(**at(20)) is Reason.OVER_PACE


def test_what_cannot_be_written_down_opens_nothing() -> None:
    gate = Gate(fails=True)
    refused = refusal(gate.hear(seal(MESSAGE, CARD)))
    assert refused.reason is Reason.STORE_UNAVAILABLE and refused.key is not None
    gate.fails = False
    assert gate.knock(MESSAGE) is None


# --- steps 14 and 15: what it may have ----------------------------------------------------------------


@pytest.mark.parametrize("clock", [SURE, FLOORED, BLIND])
@pytest.mark.parametrize("says", Observed)
def test_whoever_sends_it_is_let_in_where_the_door_says_so(clock: str, says: Observed) -> None:
    gate = Gate([line(party=party(entrances=entrances(observed=says)))], clock=clock)
    opens = says is Observed.ALWAYS or (says is Observed.CLOCK and clock == SURE)
    found = gate.knock(source=SourceKind.OBSERVED, address=b"", sender=ELSEWHERE)
    assert found is (None if opens else Reason.UNSTATED_SOURCE)
    assert gate.knock(**at(1)) is None


@pytest.mark.parametrize("clock", [SURE, FLOORED, BLIND])
def test_a_key_with_an_end_needs_a_clock(clock: str) -> None:
    for ending in (line('expiry-time="20991231Z"'), line(party=party(expires=NOW + 1e9))):
        gate = Gate([ending], clock=clock)
        assert gate.knock() is (None if clock == SURE else Reason.CLOCK_UNKNOWN)


def test_a_door_that_wants_a_touch() -> None:
    people = party(entrances=entrances(touch=True))
    assert Gate([line(party=people)]).knock() is Reason.NO_TOUCH
    sk = Gate([line("no-touch-required", kind=signers.SK_ED25519, party=people)])
    assert sk.knock(token(0)) is Reason.NO_TOUCH
    assert len(sk.claims) == 1  # at the door, and so it is spent
    assert sk.knock(token(TOUCHED)) is Reason.REPLAYED
    assert sk.knock(token(TOUCHED, **at(1))) is None


def test_what_was_asked_for_is_told() -> None:
    refused = refusal(Gate().hear(seal(signed(doors=("shed", "ssh")), CARD)))
    assert (refused.reason, refused.asked) == (Reason.DOOR_DENIED, "shed")
    assert (refused.sender, refused.source) == (CLIENT, CLIENT)


def test_the_name_is_that_of_the_line_that_lets_in() -> None:
    lines = [line('from="192.0.2.9"', comment="office"), line(comment="road", party=party(name="others"))]
    (*_, taken) = Gate(lines).hear(seal(MESSAGE, CARD))
    assert isinstance(taken, KnockTaken) and str(taken.story.key).startswith("others/road ")
    refused = refusal(Gate(lines[:1]).hear(seal(MESSAGE, CARD)))
    assert str(refused.key).startswith("people/office ")


def test_a_lease_is_the_least_of_all() -> None:
    assert leases(Gate().hear(seal(signed(lease=45), CARD))) == {"ssh": 45.0}
    assert leases(Gate().hear(seal(signed(lease=10_000), CARD))) == {"ssh": 600.0}
    short = line('max-lease="20s"', party=party(longest=25.0))
    assert leases(Gate([short]).hear(seal(signed(lease=10_000), CARD))) == {"ssh": 20.0}


def test_a_key_has_so_many_leases() -> None:
    gate = Gate([line(party=party(leases=2)), line(kind=signers.ECDSA)])
    first, second, third = (bytes([198, 51, 100, last]) for last in (1, 2, 3))
    assert gate.knock(address=first, **at(0)) is gate.knock(address=second, **at(1)) is None
    refused = refusal(gate.hear(seal(signed(address=third, **at(2)), CARD)))
    assert (refused.reason, refused.asked) == (Reason.TOO_MANY_LEASES, "2")
    assert gate.knock(signed(KeyKind.ECDSA_P256, address=third)) is None
    assert gate.knock(address=first, **at(3)) is None  # longer, and not one more
    assert gate.knock(address=first, doors=("web",), **at(4)) is Reason.TOO_MANY_LEASES
    gate.wait(30.1)
    assert gate.knock(address=third, **at(31)) is None


def test_all_keys_of_a_party_have_so_many_leases() -> None:
    """Who writes the file may have as many keys as they like. Others have room of their own."""
    few = party(leases_in_all=2)
    ours = [line(kind=kind, party=few) for kind in (signers.ED25519, signers.ECDSA)]
    gate = Gate([*ours, line(kind=signers.SK_ED25519, party=party(name="others"))])
    first, second, third = (bytes([198, 51, 100, last]) for last in (1, 2, 3))
    assert gate.knock(address=first, **at(0)) is gate.knock(address=second, **at(1)) is None
    assert gate.knock(signed(KeyKind.ECDSA_P256, address=first, lease=300, **at(2))) is None  # has it already
    refused = refusal(gate.hear(seal(signed(KeyKind.ECDSA_P256, address=third, **at(3)), CARD)))
    assert (refused.reason, refused.asked) == (Reason.TOO_MANY_LEASES, "2 in all of people")
    assert gate.knock(token(TOUCHED, address=third)) is None
    gate.wait(31)
    assert gate.knock(signed(KeyKind.ECDSA_P256, address=third, **at(31))) is None
    assert gate.knock(address=second, **at(32)) is Reason.TOO_MANY_LEASES
    gate.wait(300)
    assert gate.knock(address=second, **at(331)) is None


def test_what_the_party_has_no_room_for_is_not_counted_for_the_key() -> None:
    few = party(leases=1, leases_in_all=1)
    gate = Gate([line(kind=kind, party=few) for kind in (signers.ED25519, signers.ECDSA)])
    assert gate.knock(**at(0)) is None
    refused = signed(KeyKind.ECDSA_P256, address=ELSEWHERE, lease=600, **at(1))
    assert gate.knock(refused) is Reason.TOO_MANY_LEASES
    gate.wait(31)
    assert gate.knock(signed(KeyKind.ECDSA_P256, **at(31))) is None


def test_both_doors_or_none() -> None:
    gate = Gate([line(party=party(leases=1))])
    assert gate.knock(doors=("ssh", "web")) is Reason.TOO_MANY_LEASES
    assert gate.knock(**at(1)) is None


def test_a_shorter_knock_does_not_make_room() -> None:
    """The lease that is there goes on: the kernel does not shorten it either."""
    gate = Gate([line(party=party(leases=1))])
    assert gate.knock(lease=600, **at(0)) is None
    assert gate.knock(lease=5, **at(1)) is None
    gate.wait(50)
    assert gate.knock(address=ELSEWHERE, **at(50)) is Reason.TOO_MANY_LEASES
    gate.wait(551)
    assert gate.knock(address=ELSEWHERE, **at(601)) is None


def test_of_keys_that_come_and_go_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes a file could have ever new ones in it. What still says something is kept."""
    monkeypatch.setattr(sealed, "_KEYS", 2)
    gate = Gate([line(kind=kind, party=party(leases=1)) for kind in KeyKind])
    assert gate.knock(lease=600, **at(0)) is None  # one that has a lease
    for number, kind in enumerate(list(KeyKind)[1:] * 3):
        gate.wait(40)
        assert gate.knock(signed(kind, **at(40 * number + 40))) is None
    kept = gate.sealed._paces.keys() | gate.sealed._leases._until.keys()
    assert len(kept) <= 3
    assert gate.knock(address=ELSEWHERE, **at(gate.now - NOW)) is Reason.TOO_MANY_LEASES


def test_of_keys_that_all_knock_at_once_none_is_forgotten_before_it_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealed, "_KEYS", 2)
    gate = Gate([line(kind=kind) for kind in KeyKind])
    assert [gate.knock(**at(number)) for number in range(10)] == [None] * 10
    second, third, fourth = list(KeyKind)[1:]
    assert gate.knock(signed(second)) is gate.knock(signed(third)) is None  # at the third it is looked
    assert gate.knock(**at(11)) is Reason.OVER_PACE
    assert gate.knock(signed(fourth)) is None
    assert len(gate.sealed._paces) == 4
    gate.wait(40)
    assert gate.knock(**at(40)) is None
    assert len(gate.sealed._paces) == 1
