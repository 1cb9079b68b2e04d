"""Sealed knocks: what opens and for how long, and each refusal beside a knock that opens."""

from __future__ import annotations

import base64
import dataclasses

import pytest
from hypothesis import given
from tests.knockgate.mechanisms.sealed_gate import (
    BLIND,
    CLIENT,
    ELSEWHERE,
    FLOORED,
    LIVE,
    NOW,
    SECOND,
    SURE,
    Gate,
    at,
    line,
    outcome,
    refusal,
)
from tests.knockgate.spa import sealed_signers as signers
from tests.knockgate.spa.sealed_messages import CARD, HEAD, KEY, MESSAGE, messages, resealed, signed

from knockgate.effects import KnockTaken, OpenDoor, RunCommands, Story
from knockgate.errors import Reason
from knockgate.mechanisms.certainty import KeepFloor, Span
from knockgate.mechanisms.sealed import MarkSettled
from knockgate.spa import sshkeys
from knockgate.spa.sealed import CardKeys, GateKey, KeyKind, SourceKind, Suite, opened, seal
from knockgate.spa.sealed.dates import WINDOW
from knockgate.spa.sshkeys import Kind, PublicKey, Signature

OTHER_KEY = GateKey(xwing_seed=bytes(32), x25519_key=bytes([1] * 32))
OTHER_SECRET = bytes([7] * 32)
TOKENS = [KeyKind.SK_ED25519, KeyKind.SK_ECDSA_P256]
V6 = bytes.fromhex("20010db8000100020000000000000007")


# --- what opens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("kind", KeyKind)
def test_every_kind_of_key_opens_with_both_suites(kind: KeyKind, suite: Suite) -> None:
    gate = Gate([line(kind=each) for each in KeyKind])
    payload = seal(signed(kind, doors=("ssh", "web")), CARD, suite)
    assert gate.sealed.concerns(payload)
    effects = gate.hear(payload, ELSEWHERE)
    *_, taken = effects
    assert isinstance(taken, KnockTaken)
    name = f"people/jo@laptop SHA256:{base64.b64encode(signers.fingerprint(kind)).decode()[:10]}"
    assert effects == (
        OpenDoor("ssh", CLIENT, 30.0, name),
        OpenDoor("web", CLIENT, 60.0, name),
        RunCommands("web", CLIENT, 60.0),
        taken,
    )
    assert taken.story == Story(
        card="everybody",
        suite=suite.name.lower(),
        sender=ELSEWHERE,
        source=CLIENT,
        stated=True,
        key=name,
        fingerprint=signers.fingerprint(kind),
        device=HEAD.device,
        doors=("ssh", "web"),
        issued=HEAD.issued,
        skew=0.0,
    )


def test_what_is_asked_of_the_store() -> None:
    gate = Gate()
    assert gate.knock(era=3) is None
    (claim,) = gate.claims
    assert (claim.key, claim.device) == (signers.fingerprint(1), HEAD.device)
    assert claim.date == (3, HEAD.issued) and claim.may_spend
    now = round(NOW * SECOND)
    assert claim.taken == Span(now - WINDOW, now + WINDOW)
    assert claim.floor is not None and claim.floor.time == now
    (effect,) = gate.clock_effects
    assert isinstance(effect, KeepFloor)


def test_an_answer_without_a_question_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="nothing was claimed"):
        Gate().sealed.feed(MarkSettled(None, Gate().moment))


def test_a_comment_cannot_move_a_terminal_or_fill_a_line() -> None:
    gate = Gate([line(comment="jo \x1b]0;gone\x07\u202e\u2028" + "x" * 99)])
    (*_, taken) = gate.hear(seal(MESSAGE, CARD))
    assert isinstance(taken, KnockTaken) and taken.story.key is not None
    assert taken.story.key.isprintable() and len(taken.story.key) == len("people/ SHA256:1234567890") + 40
    gate = Gate([line(comment="")])
    (*_, taken) = gate.hear(seal(MESSAGE, CARD))
    assert isinstance(taken, KnockTaken) and str(taken.story.key).startswith("people/- SHA256:")


def test_the_doors_open_for_the_network_or_the_sender() -> None:
    gate = Gate()
    network = signed(source=SourceKind.V6_NETWORK, address=V6[:8] + bytes(8))
    effects = gate.hear(seal(network, CARD))
    assert isinstance(effects[0], OpenDoor) and effects[0].source == V6[:8]
    effects = gate.hear(seal(signed(source=SourceKind.OBSERVED, address=b"", **at(1)), CARD), ELSEWHERE)
    assert isinstance(effects[0], OpenDoor) and effects[0].source == ELSEWHERE
    (*_, taken) = effects
    assert isinstance(taken, KnockTaken) and not taken.story.stated


# --- step 1: whose it is ------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", Suite)
def test_a_suite_may_be_off(suite: Suite) -> None:
    payload = seal(MESSAGE, CARD, suite)
    for other in Suite:
        gate = Gate(suites=[other])
        assert gate.sealed.concerns(payload) == (other is suite)
        assert outcome(gate.hear(payload)) is (None if other is suite else Reason.NOT_OURS)


def test_another_gate_and_another_card() -> None:
    gate = Gate()
    assert outcome(gate.hear(seal(MESSAGE, OTHER_KEY.card(OTHER_SECRET)))) is Reason.NOT_OURS
    assert outcome(gate.hear(seal(MESSAGE, KEY.card(OTHER_SECRET)))) is Reason.NOT_OURS
    assert outcome(gate.hear(seal(MESSAGE, OTHER_KEY.card(CARD.secret)))) is Reason.NOT_SEALED
    assert outcome(gate.hear(seal(MESSAGE, CARD))) is None


@pytest.mark.parametrize("kind", KeyKind)
def test_a_knock_is_not_passed_on_by_a_gate(kind: KeyKind) -> None:
    """Gate A opens it, and seals what is in it to gate B, whose card it has: A is in G, which is signed."""
    lines = [line(kind=kind)]
    a, b = Gate(lines), Gate(lines, [dataclasses.replace(LIVE, gate=OTHER_KEY)])
    payload = seal(signed(kind), CARD)
    octets = opened(payload, LIVE.keys, KEY)
    assert outcome(a.hear(payload)) is None
    suite = Suite.X25519
    card = OTHER_KEY.card(CARD.secret)
    passed_on = LIVE.keys.datagram(
        suite, suite.hpke.encrypt(octets, card.recipient(suite), suite.info(card.gate))
    )
    assert outcome(b.hear(passed_on)) is Reason.BAD_SIGNATURE
    assert outcome(b.hear(seal(signed(kind, by=OTHER_KEY), card))) is None


def test_two_keys_run_side_by_side() -> None:
    old = dataclasses.replace(LIVE, ends=round((NOW + 10) * SECOND))
    new = dataclasses.replace(LIVE, keys=CardKeys(OTHER_SECRET), gate=OTHER_KEY)
    gate = Gate(cards=[new, old])
    new_card = OTHER_KEY.card(OTHER_SECRET)
    assert outcome(gate.hear(seal(signed(**at(0)), CARD))) is None
    assert outcome(gate.hear(seal(signed(by=OTHER_KEY, **at(1)), new_card))) is None
    gate.wait(9.9)
    assert outcome(gate.hear(seal(signed(**at(2)), CARD))) is None
    gate.wait(0.1)
    assert outcome(gate.hear(seal(signed(**at(3)), CARD))) is Reason.NOT_OURS
    assert outcome(gate.hear(seal(signed(by=OTHER_KEY, **at(4)), new_card))) is None
    # Who has knocked with both is one device all the same; its id is the test's here.
    assert len(gate.marks.devices()) == 1


@pytest.mark.parametrize(
    ("clock", "ends", "is_over"),
    [
        (SURE, NOW - 1, True),
        (SURE, NOW + 1, False),
        (BLIND, NOW - 1e6, False),  # nobody knows
        (FLOORED, NOW - 1, False),  # it is NOW - 4000 at least
        (FLOORED, NOW - 3000, False),
        (FLOORED, NOW - 4500, True),
    ],
)
def test_a_card_has_ended_only_where_that_is_certain(clock: str, ends: float, *, is_over: bool) -> None:
    gate = Gate(cards=[dataclasses.replace(LIVE, ends=round(ends * SECOND))], clock=clock)
    gate.sealed.look_at_clock(gate.moment)
    assert gate.knock() is (Reason.NOT_OURS if is_over else None)


# --- step 2 and 3: again, and too often ---------------------------------------------------------------


def test_a_duplicate_is_told_by_where_it_comes_from() -> None:
    gate = Gate()
    payload = seal(MESSAGE, CARD)
    assert outcome(gate.hear(payload, CLIENT)) is None
    again, relayed = refusal(gate.hear(payload, CLIENT)), refusal(gate.hear(payload, ELSEWHERE))
    assert (again.reason, again.asked) == (Reason.DUPLICATE, "")
    assert (relayed.reason, relayed.asked, relayed.sender) == (Reason.DUPLICATE, "relayed?", ELSEWHERE)
    assert again.key is relayed.key is None
    assert len(gate.claims) == 1


def junk(number: int, keys: CardKeys = LIVE.keys) -> bytes:
    """Of somebody with a card who has nothing to say."""
    return keys.datagram(Suite.X25519, number.to_bytes(229))


def test_a_card_has_a_budget_of_its_own() -> None:
    other = CardKeys(OTHER_SECRET)
    gate = Gate(cards=[LIVE, dataclasses.replace(LIVE, name="guests", keys=other)], budget=5)
    found = [outcome(gate.hear(junk(number))) for number in range(12)]
    assert found == [Reason.NOT_SEALED] * 10 + [Reason.OVER_BUDGET] * 2
    assert outcome(gate.hear(junk(0, other))) is Reason.NOT_SEALED
    over = refusal(gate.hear(junk(13)))
    assert over.story is not None and over.story.card == "everybody"  # so that its admin can end it
    gate.wait(1)
    found = [outcome(gate.hear(junk(number))) for number in range(20, 26)]
    assert found == [Reason.NOT_SEALED] * 5 + [Reason.OVER_BUDGET]
    gate.wait(3600)
    found = [outcome(gate.hear(junk(number))) for number in range(30, 41)]
    assert found == [Reason.NOT_SEALED] * 10 + [Reason.OVER_BUDGET]


def test_an_old_card_does_not_use_up_what_its_successor_of_that_name_may() -> None:
    """After an exchange of keys both are good, each for its own key."""
    new = dataclasses.replace(LIVE, keys=CardKeys(OTHER_SECRET), gate=OTHER_KEY)
    gate = Gate(cards=[new, LIVE], budget=5)
    found = [outcome(gate.hear(junk(number))) for number in range(12)]
    assert found == [Reason.NOT_SEALED] * 10 + [Reason.OVER_BUDGET] * 2
    assert outcome(gate.hear(seal(signed(by=OTHER_KEY), OTHER_KEY.card(OTHER_SECRET)))) is None


def test_junk_and_duplicates_use_up_no_budget() -> None:
    gate = Gate(budget=1)
    payload = junk(0)
    assert outcome(gate.hear(payload)) is Reason.NOT_SEALED
    for _ in range(10):
        assert outcome(gate.hear(payload)) is Reason.DUPLICATE
        assert outcome(gate.hear(payload[1:] + b"!")) is Reason.NOT_OURS
    assert gate.knock() is None


def test_what_was_over_the_budget_is_no_duplicate_later() -> None:
    gate = Gate(budget=1)
    payload = seal(MESSAGE, CARD)
    for number in range(2):
        gate.hear(junk(number))
    assert outcome(gate.hear(payload)) is Reason.OVER_BUDGET
    gate.wait(1)
    assert outcome(gate.hear(payload)) is None


def test_8192_right_tags_are_remembered() -> None:
    """Where one is forgotten, the mark is there all the same."""
    gate = Gate()
    payload = seal(MESSAGE, CARD)
    assert outcome(gate.hear(payload)) is None
    for number in range(8191):
        assert outcome(gate.hear(junk(number))) is Reason.NOT_SEALED
    assert outcome(gate.hear(payload)) is Reason.DUPLICATE
    gate.hear(junk(8191))
    assert outcome(gate.hear(payload)) is Reason.REPLAYED
    assert len(gate.sealed._tags) == 8192


# --- steps 4 to 7: opening, reading, the signature ----------------------------------------------------


@pytest.mark.parametrize("suite", Suite)
def test_one_bit_that_is_flipped_on_the_way(suite: Suite) -> None:
    """No bit of a datagram is free; whoever has no card cannot make another one of it."""
    gate = Gate()
    payload = seal(MESSAGE, CARD, suite)
    for bit in range(8 * len(payload)):
        other = flipped(payload, bit)
        assert not gate.sealed.concerns(other)
        assert outcome(gate.hear(other)) is Reason.NOT_OURS
    assert not gate.claims
    assert outcome(gate.hear(payload)) is None


@pytest.mark.parametrize("suite", Suite)
def test_one_bit_that_somebody_with_the_card_flips(suite: Suite) -> None:
    gate = Gate()
    payload = seal(MESSAGE, CARD, suite)
    steps = 1 if suite is Suite.X25519 else 7  # 10,536 are many
    for bit in range(0, 8 * (len(payload) - 16), steps):
        rest = flipped(payload[16:], bit)
        other = LIVE.keys._tag(rest) + rest
        assert outcome(gate.hear(other)) is Reason.NOT_SEALED
    assert not gate.claims
    assert outcome(gate.hear(payload)) is None


@pytest.mark.parametrize("kind", KeyKind)
def test_one_bit_of_the_message_that_somebody_with_the_card_flips(kind: KeyKind) -> None:
    """All of it is signed, or has one spelling only."""
    gate = Gate([line(kind=kind)])
    octets = signed(kind).encode()
    for bit in range(8 * len(octets)):
        reason = outcome(gate.hear(resealed(flipped(octets, bit))))
        assert reason in (Reason.MALFORMED, Reason.UNKNOWN_KEY, Reason.BAD_SIGNATURE)
    assert not gate.claims
    assert outcome(gate.hear(resealed(octets))) is None


@pytest.mark.parametrize("suite", Suite)
def test_a_datagram_that_is_cut_or_longer(suite: Suite) -> None:
    gate = Gate()
    payload = seal(MESSAGE, CARD, suite)
    for end in range(len(payload)):
        assert outcome(gate.hear(payload[:end])) is Reason.NOT_OURS
    assert outcome(gate.hear(payload + b"\0")) is Reason.NOT_OURS
    assert outcome(gate.hear(payload)) is None


def test_a_large_one_cut_to_the_small_ones_length_by_somebody_with_the_card() -> None:
    rest = seal(MESSAGE, CARD)[16 : Suite.X25519.length]
    assert outcome(Gate().hear(LIVE.keys._tag(rest) + rest)) is Reason.NOT_SEALED


@given(messages())
def test_what_nobody_has_signed_opens_nothing(message: object) -> None:
    gate = Gate([line(kind=each) for each in KeyKind])
    reason = gate.knock(message)  # type: ignore[arg-type]
    assert reason in (Reason.UNKNOWN_KEY, Reason.BAD_SIGNATURE) and not gate.claims


def test_a_key_that_nobody_has_is_checked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """And refused as unknown also where the signature is good: nobody is named in a log for that."""
    checked = []

    def verify(key: PublicKey, signature: Signature, message: bytes) -> bool:
        checked.append(key.kind)
        return sshkeys.verify(key, signature, message)

    monkeypatch.setattr("knockgate.mechanisms.sealed.verify", verify)
    for kind in KeyKind:
        refused = refusal(Gate([]).hear(seal(signed(kind), CARD)))
        assert (refused.reason, refused.key) == (Reason.UNKNOWN_KEY, None)
        assert refused.story is not None and refused.story.fingerprint == signers.fingerprint(kind)
    assert checked == list(Kind)


@pytest.mark.parametrize("named", KeyKind)
@pytest.mark.parametrize("kind", KeyKind)
def test_a_key_is_of_its_own_kind(kind: KeyKind, named: KeyKind) -> None:
    """A head that names the key of another kind by its fingerprint."""
    message = signed(kind)
    head = dataclasses.replace(message.head, fingerprint=signers.fingerprint(named))
    reason = Gate([line(kind=named)]).knock(dataclasses.replace(message, head=head))
    assert reason is (None if kind is named else Reason.UNKNOWN_KEY)


def test_a_stranger_has_no_name() -> None:
    gate = Gate([])
    for refused in (
        refusal(gate.hear(b"")),
        refusal(gate.hear(junk(1))),
        refusal(gate.hear(seal(MESSAGE, CARD))),
    ):
        assert refused.key is None and refused.sender == CLIENT
        assert refused.story is None or refused.story.key is None


def flipped(octets: bytes, bit: int) -> bytes:
    changed = bytearray(octets)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
