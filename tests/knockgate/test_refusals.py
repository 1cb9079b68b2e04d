"""The words for a packet that was turned away: one for every reason, and what to do about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from knockgate.effects import KnockRefused, Story
from knockgate.errors import Reason
from knockgate.refusals import advice_on, reason_in_words, refusal_in_words, step_of, why_refused

CLIENT, OTHER = bytes([192, 0, 2, 7]), bytes([198, 51, 100, 9])
STORY = Story(card="everybody", suite="xwing", sender=CLIENT, key="people/jo SHA256:abc", skew=0.0)
ROW = bytes(range(16))

#: What can become of a sealed packet, step by step of the page.
STEPS = {
    Reason.NOT_OURS: 1,
    Reason.DUPLICATE: 2,
    Reason.OVER_BUDGET: 3,
    Reason.NOT_SEALED: 4,
    Reason.MALFORMED: 5,
    Reason.UNKNOWN_KEY: 6,
    Reason.BAD_SIGNATURE: 7,
    Reason.NO_TOUCH: 8,
    Reason.NOT_VERIFIED: 8,
    Reason.UNKNOWN_DEVICE: 9,
    Reason.TOO_MANY_DEVICES: 9,
    Reason.REPLAYED: 10,
    Reason.AHEAD: 11,
    Reason.OVER_PACE: 12,
    Reason.STORE_UNAVAILABLE: 12,
    Reason.STALE: 13,
    Reason.KEY_REVOKED: 14,
    Reason.KEY_EXPIRED: 14,
    Reason.OUTSIDE_HOURS: 14,
    Reason.CLOCK_UNKNOWN: 14,
    Reason.SOURCE_DENIED: 14,
    Reason.DOOR_DENIED: 14,
    Reason.UNSTATED_SOURCE: 14,
    Reason.TOO_MANY_LEASES: 15,
}
#: Of those: where nobody at the gate can do anything.
HELPLESS = {Reason.NOT_OURS, Reason.DUPLICATE, Reason.NOT_SEALED, Reason.MALFORMED, Reason.BAD_SIGNATURE}
HELPLESS |= {Reason.DOOR_DENIED}  # its words say already which settings deny it


def refused(reason: Reason, *, sealed: bool = True, **others: object) -> KnockRefused:
    story = STORY if sealed else None
    return KnockRefused(reason, "jo", CLIENT, story=story, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_word(reason: Reason, *, sealed: bool) -> None:
    words = reason_in_words(reason, sealed=sealed)
    assert words and words == why_refused(refused(reason, sealed=sealed))
    assert refusal_in_words(refused(reason, sealed=sealed)) == f"{reason.value}: {words} (from 192.0.2.7)"


def test_no_two_have_the_same() -> None:
    for sealed in (True, False):
        assert len({reason_in_words(reason, sealed=sealed) for reason in Reason}) == len(Reason)


def test_a_sealed_packet_is_not_spoken_of_as_one_of_fwknops() -> None:
    for reason in STEPS:
        for text in (reason_in_words(reason, sealed=True), advice_on(refused(reason)) or ""):
            assert not re.search(r"fwknop|HMAC|\bKEY\b|decrypt", text), text
    assert "fwknop" in reason_in_words(Reason.MALFORMED, sealed=False)  # the control
    assert "HMAC" in reason_in_words(Reason.NOT_SEALED, sealed=False)


def test_what_is_known_of_the_packet_is_told() -> None:
    late = refused(Reason.STALE, sealed=False, skew=180.0)
    assert refusal_in_words(late) == "stale: it is too old; its clock is 3m behind ours (from 192.0.2.7)"
    early = refused(Reason.AHEAD, skew=-3600.0, source=OTHER)
    assert refusal_in_words(early).endswith(
        "its clock is 1h ahead of ours (from 192.0.2.7, for 198.51.100.9)"
    )
    denied = refused(Reason.DOOR_DENIED, asked="shed")
    assert (
        why_refused(denied).startswith("the key does not open that door (")
        and why_refused(denied)[-6:] == ": shed"
    )


def test_a_gate_that_has_only_a_floor_knows_a_skew_at_least() -> None:
    unsure = Story(card="everybody", suite="xwing", sender=CLIENT, key="jo")
    told = KnockRefused(Reason.STALE, "jo", CLIENT, skew=3600.0, story=unsure)
    assert why_refused(told).endswith("its clock is at least 1h behind ours")
    assert why_refused(refused(Reason.STALE, skew=3600.0)).endswith("its clock is 1h behind ours")


def test_the_steps_are_those_of_the_page() -> None:
    page = (
        Path("docs/spec/spa-v1.md").read_text().partition("### The steps")[2].partition("\n\nAn authentic")[0]
    )
    rows = [row.split("|") for row in page.splitlines() if re.match(r"\| \d", row)]
    found = {name: int(row[1]) for row in rows for name in re.findall(r"`([a-z-]+)`", row[3])}
    mine = {reason.value: step_of(refused(reason)) for reason in STEPS}
    assert {name: mine.get(name) for name in found if name != "no-touch"} == {
        name: step for name, step in found.items() if name != "no-touch"
    }
    assert {reason: step_of(refused(reason)) for reason in STEPS} == STEPS
    # A token that was not touched is the line's matter, or the door's.
    assert step_of(refused(Reason.NO_TOUCH, asked="ssh")) == 14
    assert step_of(refused(Reason.BAD_DIGEST)) is None


def test_there_is_advice_where_somebody_can_do_something() -> None:
    assert {reason for reason in STEPS if advice_on(refused(reason)) is None} == HELPLESS
    for reason in Reason:
        assert advice_on(refused(reason, sealed=False)) is None
    for reason in (Reason.STALE, Reason.AHEAD):
        assert "clocks" in str(advice_on(refused(reason)))


def test_a_device_that_a_door_does_not_know_can_be_enrolled() -> None:
    unheard_of, barred = refused(Reason.UNKNOWN_DEVICE, asked="ssh"), refused(Reason.UNKNOWN_DEVICE)
    assert advice_on(unheard_of, ROW) == f"`knockgate device enrol {ROW.hex()}`"
    assert advice_on(unheard_of) == "`knockgate device enrol DEVICE`"
    assert why_refused(unheard_of) == "it is for known devices alone, and this one is not: ssh"
    # One that the admin has shut out, because it was stolen, is not to be let in again in passing.
    assert why_refused(barred) == "its device is shut out"
    assert str(advice_on(barred, ROW)).endswith(", if it is to come in again")
