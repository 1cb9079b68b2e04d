"""The steps of docs/spec/spa-v1.md in their order: a knock with two flaws is refused for the first one."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.knockgate.mechanisms.sealed_gate import (
    CLIENT,
    NOW,
    SECOND,
    Gate,
    entrances,
    line,
    outcome,
    party,
    token,
)
from tests.knockgate.spa.sealed_messages import CARD, CARD_KEYS, KEY

from knockgate.errors import Reason
from knockgate.mechanisms.parties import Observed
from knockgate.mechanisms.sealed import Standing
from knockgate.model import Source
from knockgate.spa.sealed import GateKey, KeyKind, SourceKind, Suite

OTHER_KEY = GateKey(xwing_seed=bytes(32), x25519_key=bytes([1] * 32))
DAY = 86400


@dataclass
class Plan:
    """A knock and a gate, with whatever flaws they are given."""

    message: dict[str, Any] = field(default_factory=dict)
    touched: bool = True
    verified: bool = True
    options: set[str] = field(default_factory=set)
    doors: dict[str, Any] = field(default_factory=dict)
    party: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    is_known: bool = True
    octets: Callable[[bytes], bytes] = bytes
    recipient: GateKey = KEY
    datagram: Callable[[bytes], bytes] = bytes
    before: list[Callable[[Gate, bytes], None]] = field(default_factory=list)
    sender: Source = CLIENT

    def carried_out(self) -> tuple[Gate, Reason | None]:
        people = party(entrances=entrances(**self.doors), **self.party)
        lines = [line(",".join(sorted(self.options)), kind=KeyKind.SK_ED25519, party=people)]
        gate = Gate(lines if self.is_known else [], **self.gate)
        message = token(self.touched | self.verified << 2, **self.message)
        octets = self.octets(message.encode())
        suite = Suite.X25519
        recipient = self.recipient.card(CARD.secret).recipient(suite)
        sealed = suite.hpke.encrypt(octets, recipient, suite.info(self.recipient.gate))
        payload = self.datagram(CARD_KEYS.datagram(suite, sealed))
        for each in self.before:
            each(gate, payload)
        gate.claims.clear()
        return gate, outcome(gate.hear(payload, self.sender))


def junk(number: int) -> bytes:
    """Somebody with the card, and nothing to say."""
    return CARD_KEYS.datagram(Suite.X25519, number.to_bytes(229))


# --- the flaws, in the order of the page --------------------------------------------------------------


def not_ours(plan: Plan) -> None:
    plan.datagram = lambda octets: octets[:-1] + bytes([octets[-1] ^ 1])


def duplicate(plan: Plan) -> None:
    def hear(gate: Gate, payload: bytes) -> None:
        gate.hear(payload)

    plan.before.insert(0, hear)


def over_budget(plan: Plan) -> None:
    plan.gate["budget"] = 5

    def exhaust(gate: Gate, _: bytes) -> None:
        while outcome(gate.hear(junk(len(gate.sealed._tags)))) is not Reason.OVER_BUDGET:
            pass

    plan.before.append(exhaust)


def not_sealed(plan: Plan) -> None:
    plan.recipient = OTHER_KEY


def malformed(plan: Plan) -> None:
    plan.octets = lambda octets: b"\x09" + octets[1:]


def unknown_key(plan: Plan) -> None:
    plan.is_known = False


def bad_signature(plan: Plan) -> None:
    before = plan.octets
    plan.octets = lambda octets: before(octets[:120] + bytes([octets[120] ^ 1]) + octets[121:])


def no_touch(plan: Plan) -> None:
    plan.touched = False


def not_verified(plan: Plan) -> None:
    plan.verified = False
    plan.options.add("verify-required")


def unknown_device(plan: Plan) -> None:
    plan.gate["standing"] = lambda device: Standing.BARRED  # noqa: ARG005


def too_many_devices(plan: Plan) -> None:
    plan.gate["devices"] = 0


def replayed(plan: Plan) -> None:
    plan.gate["low"] = round((NOW + DAY) * SECOND)


def ahead(plan: Plan) -> None:
    plan.message["issued"] = round((NOW + 61) * SECOND)


def over_pace(plan: Plan) -> None:
    def hurry(gate: Gate, _: bytes) -> None:
        for number in range(1, 11):
            gate.knock(token(5, device=bytes([number] * 16), issued=round((NOW - number) * SECOND)))

    plan.before.append(hurry)


def store_unavailable(plan: Plan) -> None:
    plan.before.append(lambda gate, _: setattr(gate, "fails", True))


def stale(plan: Plan) -> None:
    plan.message["issued"] = round((NOW - 61) * SECOND)


def key_expired(plan: Plan) -> None:
    plan.party["expires"] = NOW - DAY


def source_denied(plan: Plan) -> None:
    plan.party["sources"] = (ipaddress.ip_network("203.0.113.0/24"),)


def door_denied(plan: Plan) -> None:
    plan.message["doors"] = ("shed",)


def unstated_source(plan: Plan) -> None:
    plan.message |= {"source": SourceKind.OBSERVED, "address": b""}
    plan.doors["observed"] = Observed.NEVER


def no_touch_at_the_door(plan: Plan) -> None:
    plan.touched = False
    plan.options.add("no-touch-required")
    plan.doors["touch"] = True


def too_many_leases(plan: Plan) -> None:
    plan.party["leases"] = 0


FLAWS: list[tuple[Callable[[Plan], None], Reason]] = [
    (not_ours, Reason.NOT_OURS),
    (duplicate, Reason.DUPLICATE),
    (over_budget, Reason.OVER_BUDGET),
    (not_sealed, Reason.NOT_SEALED),
    (malformed, Reason.MALFORMED),
    (unknown_key, Reason.UNKNOWN_KEY),
    (bad_signature, Reason.BAD_SIGNATURE),
    (no_touch, Reason.NO_TOUCH),
    (not_verified, Reason.NOT_VERIFIED),
    (unknown_device, Reason.UNKNOWN_DEVICE),
    (too_many_devices, Reason.TOO_MANY_DEVICES),
    (replayed, Reason.REPLAYED),
    (ahead, Reason.AHEAD),
    (over_pace, Reason.OVER_PACE),
    (store_unavailable, Reason.STORE_UNAVAILABLE),
    (stale, Reason.STALE),
    (key_expired, Reason.KEY_EXPIRED),
    (source_denied, Reason.SOURCE_DENIED),
    (door_denied, Reason.DOOR_DENIED),
    (unstated_source, Reason.UNSTATED_SOURCE),
    (no_touch_at_the_door, Reason.NO_TOUCH),
    (too_many_leases, Reason.TOO_MANY_LEASES),
]
_REASONS = dict(FLAWS)
_ORDER = [flaw for flaw, _ in FLAWS]
#: The first whose knock is claimed, and the first whose knock is spent.
_CLAIMED, _SPENT = _ORDER.index(too_many_devices), _ORDER.index(stale)
#: No knock can have both.
_NEVER_BOTH = [(ahead, stale), (no_touch, no_touch_at_the_door)]
_PAIRS = [pair for pair in itertools.combinations(_ORDER, 2) if pair not in _NEVER_BOTH]


def with_flaws(*flaws: Callable[[Plan], None]) -> tuple[Plan, Gate, Reason | None]:
    plan = Plan()
    for flaw in flaws:
        flaw(plan)
    return plan, *plan.carried_out()


def test_without_a_flaw_it_opens() -> None:
    _, gate, reason = with_flaws()
    assert reason is None
    assert len(gate.claims) == 1


@pytest.mark.parametrize("flaw", _ORDER, ids=lambda flaw: flaw.__name__)
def test_each_flaw_alone_has_its_reason(flaw: Callable[[Plan], None]) -> None:
    """Nothing is asked of the store before the claim, and nothing is spent before it is due."""
    plan, gate, reason = with_flaws(flaw)
    assert reason is _REASONS[flaw]
    step = _ORDER.index(flaw)
    assert len(gate.claims) == (step >= _CLAIMED)
    if flaw is not duplicate:  # that one was taken the first time
        issued = plan.message.get("issued", round(NOW * SECOND))
        spent = any(each.mark.issued == issued for each in gate.marks.devices())
        assert spent == (step >= _SPENT)


@pytest.mark.parametrize("pair", _PAIRS, ids=lambda pair: "-and-".join(flaw.__name__ for flaw in pair))
def test_of_two_flaws_the_first_of_the_page_is_told(pair: tuple[Callable[[Plan], None], ...]) -> None:
    first, _ = pair
    _, gate, reason = with_flaws(*pair)
    assert reason is _REASONS[first]
    assert len(gate.claims) == (_ORDER.index(first) >= _CLAIMED)
