"""What becomes of a packet, in both states of the clock; each refusal beside a knock that opens."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from knockgate.effects import (
    ClaimToken,
    DatagramSeen,
    KnockRefused,
    OpenDoor,
    PacketEffect,
    RunCommands,
    TokenSettled,
)
from knockgate.errors import Reason
from knockgate.mechanisms.hours import Hours
from knockgate.mechanisms.packet import Bearer, Packets, Way
from knockgate.model import Claim, Moment, Port, Protocol
from knockgate.spa.fwknop import Hash, Message, MessageType, Secret, seal

FRESH = 120
NOW = 1_800_000_000
SURE = Moment(NOW, True, 1000.0, "boot")
UNSURE = SURE._replace(synchronised=False)
SSH, WEB, OTHER = Port(Protocol.TCP, 22), Port(Protocol.TCP, 443), Port(Protocol.TCP, 25)
CLIENT, ELSEWHERE = bytes([192, 0, 2, 7]), bytes([198, 51, 100, 9])
ALICE, BOB = Secret(b"a" * 32, b"A" * 64), Secret(b"b" * 32, b"B" * 64)
WAYS = {SSH: Way("ssh", 30.0, 300.0), WEB: Way("web", 60.0, 60.0, runs_commands=True)}
MESSAGE = Message(
    nonce="1234567890123456",
    username="alice",
    issued=NOW,
    type=MessageType.ACCESS,
    address=CLIENT,
    ports=(SSH,),
)
PACKET = b"\x00" * 8
net = ipaddress.ip_network


def gate(**policy: object) -> Packets:
    """Alice may what is said; Bob may open ssh."""
    alice = Bearer("alice", ALICE, **({"ways": WAYS} | policy))  # type: ignore[arg-type]
    return Packets([alice, Bearer("bob", BOB, {SSH: WAYS[SSH]})], fresh=FRESH)


def knock(
    packets: Packets,
    message: Message = MESSAGE,
    *,
    secret: Secret = ALICE,
    moment: Moment = SURE,
    claim: Claim = Claim.CLAIMED,
    sender: bytes = CLIENT,
) -> tuple[PacketEffect, ...]:
    """What it comes to, when the store says ``claim`` of it."""
    payload = seal(message, secret, salt=PACKET)
    assert packets.concerns(payload)
    (effect,) = packets.feed(DatagramSeen(payload, sender, moment))
    if not isinstance(effect, ClaimToken):
        return (effect,)
    assert effect.token.issued == message.issued and len(effect.token.digest) == 32
    return packets.feed(TokenSettled(effect.token, claim, moment))


def reason(effects: tuple[PacketEffect, ...]) -> Reason | None:
    """Why it was refused; None where it opens ssh for the client."""
    (effect,) = effects
    if isinstance(effect, KnockRefused):
        assert effect.key == "alice"
        return effect.reason
    assert isinstance(effect, OpenDoor) and (effect.door, effect.source) == ("ssh", CLIENT)
    return None


# --- opening ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "longest", "seconds"),
    [(None, None, 30), (10, None, 10), (300, None, 300), (301, None, 300), (65536, None, 300), (0, None, 30),
     (300, 20.0, 20), (None, 20.0, 20), (10, 20.0, 10)],
)  # fmt: skip
def test_the_time_asked_for_is_capped_by_the_door_and_the_key(
    asked: int | None, longest: float | None, seconds: float
) -> None:
    kind = MessageType.ACCESS if asked is None else MessageType.CLIENT_TIMEOUT_ACCESS
    message = replace(MESSAGE, type=kind, timeout=asked)
    (opened,) = knock(gate(longest=longest), message)
    assert opened == OpenDoor("ssh", CLIENT, seconds, "alice") and isinstance(opened.seconds, float)


def test_one_packet_may_open_several_doors_and_runs_their_commands() -> None:
    message = replace(MESSAGE, ports=(WEB, SSH, WEB))
    assert knock(gate(), message) == (
        OpenDoor("web", CLIENT, 60, "alice"),
        RunCommands("web", CLIENT, 60),
        OpenDoor("ssh", CLIENT, 30, "alice"),
    )


def test_the_key_that_made_it_counts() -> None:
    (opened,) = knock(gate(), secret=BOB)
    assert opened == OpenDoor("ssh", CLIENT, 30, "bob")
    (refused,) = knock(gate(), replace(MESSAGE, ports=(WEB,)), secret=BOB)
    assert isinstance(refused, KnockRefused) and refused.key == "bob" and refused.reason is Reason.PORT_DENIED


def test_an_address_of_ipv6_may_be_let_in() -> None:
    address = ipaddress.ip_address("2001:db8::7").packed
    assert knock(gate(), replace(MESSAGE, address=address)) == (OpenDoor("ssh", address, 30, "alice"),)


# --- the clock ----------------------------------------------------------------------------------------

CLOCK = [
    # seconds that the packet is dated from now, while the clock is sure, while it is not
    (0, None, None),
    (-FRESH, None, None),
    (-FRESH - 1, Reason.STALE, None),
    (+FRESH, None, None),
    (+FRESH + 1, Reason.AHEAD, None),
    (-NOW, Reason.STALE, None),
    (2**31 - NOW, Reason.AHEAD, None),
    (2**33 - NOW, Reason.AHEAD, None),
]


@pytest.mark.parametrize(("offset", "sure", "unsure"), CLOCK)
def test_freshness_in_both_states_of_the_clock(
    offset: int, sure: Reason | None, unsure: Reason | None
) -> None:
    message = replace(MESSAGE, issued=NOW + offset)
    assert reason(knock(gate(), message)) is sure
    assert reason(knock(gate(), message, moment=UNSURE)) is unsure


def test_beyond_2038_all_goes_on() -> None:
    later = SURE._replace(now=2.0**31 + 10)
    message = replace(MESSAGE, issued=2**31 + 10)
    assert reason(knock(gate(), message, moment=later)) is None
    assert reason(knock(gate(), replace(message, issued=10), moment=later)) is Reason.STALE


def test_a_refusal_tells_the_skew() -> None:
    for offset, expected in ((-500, 500), (500, -500)):
        (refused,) = knock(gate(), replace(MESSAGE, issued=NOW + offset))
        assert isinstance(refused, KnockRefused) and refused.skew == expected


@pytest.mark.parametrize("claim", [each for each in Claim if each is not Claim.CLAIMED])
def test_of_what_the_store_refuses_the_skew_is_told_where_it_is_stale(claim: Claim) -> None:
    (refused,) = knock(gate(), replace(MESSAGE, issued=NOW - 100), claim=claim)
    assert isinstance(refused, KnockRefused)
    assert refused.skew == (100 if claim is Claim.FORGOTTEN else None)


def test_what_is_stale_is_claimed_and_what_is_ahead_is_not() -> None:
    for offset, kind in ((-500, ClaimToken), (500, KnockRefused)):
        payload = seal(replace(MESSAGE, issued=NOW + offset), ALICE, salt=PACKET)
        (effect,) = gate().feed(DatagramSeen(payload, CLIENT, SURE))
        assert isinstance(effect, kind)


# --- the store ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [SURE, UNSURE])
@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (Claim.CLAIMED, None),
        (Claim.REPLAYED, Reason.REPLAYED),
        (Claim.FORGOTTEN, Reason.STALE),
        (Claim.FULL, Reason.STORE_FULL),
        (Claim.FAILED, Reason.STORE_UNAVAILABLE),
    ],
)
def test_nothing_opens_that_was_not_claimed(claim: Claim, expected: Reason | None, moment: Moment) -> None:
    assert reason(knock(gate(), claim=claim, moment=moment)) is expected


def test_the_token_is_the_packets_own() -> None:
    def token(message: Message, secret: Secret = ALICE, salt: bytes = PACKET) -> bytes:
        (effect,) = gate().feed(DatagramSeen(seal(message, secret, salt=salt), CLIENT, SURE))
        assert isinstance(effect, ClaimToken)
        return effect.token.digest

    assert token(MESSAGE) == token(MESSAGE)
    # Sealed anew it is the same knock; made anew, it is another.
    assert token(MESSAGE) == token(MESSAGE, salt=b"\x01" * 8)
    assert token(MESSAGE) != token(replace(MESSAGE, nonce="6543210987654321"))


# --- policy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "change", "sender", "expected"),
    [
        ({}, {}, CLIENT, None),
        ({"sources": [net("192.0.2.0/24")]}, {}, ELSEWHERE, None),
        ({"sources": [net("192.0.2.0/29")]}, {"address": ELSEWHERE}, CLIENT, Reason.SOURCE_DENIED),
        ({"sources": [net("2001:db8::/32")]}, {}, CLIENT, Reason.SOURCE_DENIED),
        ({"senders": [net("192.0.2.7/32")]}, {}, CLIENT, None),
        ({"senders": [net("192.0.2.7/32")]}, {}, ELSEWHERE, Reason.SENDER_DENIED),
        ({"username": "alice"}, {}, CLIENT, None),
        ({"username": "bob"}, {}, CLIENT, Reason.USER_DENIED),
        ({"username": "aaron"}, {}, CLIENT, Reason.USER_DENIED),
        ({"observed": True}, {"address": bytes(4)}, CLIENT, None),
        ({}, {"address": bytes(4)}, CLIENT, Reason.UNSTATED_SOURCE),
        ({"observed": True, "sources": [net("192.0.2.7/32")]}, {"address": bytes(4)}, ELSEWHERE,
         Reason.SOURCE_DENIED),
        ({}, {"address": bytes([127, 0, 0, 1])}, CLIENT, Reason.SOURCE_DENIED),
        ({}, {"address": bytes([224, 0, 0, 1])}, CLIENT, Reason.SOURCE_DENIED),
        ({}, {"address": b"\xff\xff\xff\xff"}, CLIENT, Reason.SOURCE_DENIED),
        ({}, {"ports": (OTHER,)}, CLIENT, Reason.PORT_DENIED),
        ({}, {"ports": (SSH, OTHER)}, CLIENT, Reason.PORT_DENIED),
        ({}, {"ports": (Port(Protocol.UDP, 22),)}, CLIENT, Reason.PORT_DENIED),
        ({}, {"type": MessageType.COMMAND, "ports": (), "command": b"reboot"}, CLIENT, Reason.TYPE_DENIED),
        ({}, {"type": MessageType.NAT_ACCESS, "nat": ("10.0.0.9", 22)}, CLIENT, Reason.TYPE_DENIED),
        ({}, {"type": MessageType.LOCAL_NAT_ACCESS, "nat": ("10.0.0.9", 22)}, CLIENT, Reason.TYPE_DENIED),
        ({"expires": NOW + 1.0}, {}, CLIENT, None),
        ({"expires": NOW + 0.0}, {}, CLIENT, Reason.KEY_EXPIRED),
        ({"expires": NOW - 1000.0}, {}, CLIENT, Reason.KEY_EXPIRED),
    ],
)  # fmt: skip
def test_a_key_may_what_its_policy_says(
    policy: dict[str, object], change: dict[str, object], sender: bytes, expected: Reason | None
) -> None:
    assert reason(knock(gate(**policy), replace(MESSAGE, **change), sender=sender)) is expected  # type: ignore[arg-type]


def test_a_key_that_expires_needs_a_clock() -> None:
    packets = gate(expires=NOW + 1000.0)
    assert reason(knock(packets, moment=UNSURE)) is Reason.CLOCK_UNKNOWN
    assert reason(knock(packets)) is None


# --- hours, revoked, leases ---------------------------------------------------------------------------

#: From now on for ten minutes, every week.
TODAY = (NOW // 86400 + 3) % 7 * 1440 + NOW % 86400 // 60
TEN_MINUTES = Hours([(TODAY, TODAY + 10)], lambda at: ((at // 86400 + 3) % 7, at % 86400))


@pytest.mark.parametrize(
    ("after", "seconds"),
    [(0, 30), (570, 30), (585, 15), (599.5, 1), (600, None), (-1, None), (7 * 86400, 30)],
)
def test_a_key_with_hours(after: float, seconds: float | None) -> None:
    moment = SURE._replace(now=NOW + after)
    message = replace(MESSAGE, issued=int(NOW + after))
    (found,) = knock(gate(hours=TEN_MINUTES), message, moment=moment)
    if seconds is None:
        assert isinstance(found, KnockRefused) and found.reason is Reason.OUTSIDE_HOURS
        assert found.asked == TEN_MINUTES.shown(NOW + after)
    else:
        assert found == OpenDoor("ssh", CLIENT, seconds, "alice")
    assert knock(gate(), message, moment=moment) == (OpenDoor("ssh", CLIENT, 30, "alice"),)


def test_hours_need_a_clock() -> None:
    packets = gate(hours=TEN_MINUTES)
    assert reason(knock(packets, moment=UNSURE)) is Reason.CLOCK_UNKNOWN
    assert reason(knock(packets)) is None


def test_leases_end_with_the_key() -> None:
    (opened,) = knock(gate(expires=NOW + 12.0))
    assert opened == OpenDoor("ssh", CLIENT, 12, "alice")
    (opened,) = knock(gate(expires=NOW + 0.5))
    assert opened == OpenDoor("ssh", CLIENT, 1, "alice")


def test_a_door_without_a_lease_stays_without() -> None:
    lamp = {SSH: Way("lamp", 0.0, 0.0, runs_commands=True)}
    opened, _ = knock(gate(expires=NOW + 0.5, ways=lamp))
    assert opened == OpenDoor("lamp", CLIENT, 0, "alice")


def test_a_key_that_is_revoked_opens_nothing_and_is_named() -> None:
    for moment in (SURE, UNSURE):
        assert reason(knock(gate(revoked=True, expires=1.0), moment=moment)) is Reason.KEY_REVOKED
        assert reason(knock(gate(revoked=False), moment=moment)) is None


def test_so_many_leases_at_once() -> None:
    """Another door or another address is another lease; more of the same is not."""
    packets = gate(leases=2)
    other = replace(MESSAGE, address=ELSEWHERE)
    later = SURE._replace(up=SURE.up + 20)
    assert reason(knock(packets)) is None
    assert reason(knock(packets, moment=later)) is None  # now until 1050
    knock(packets, other, moment=later)
    (refused,) = knock(packets, replace(MESSAGE, ports=(WEB,)), moment=later)
    assert isinstance(refused, KnockRefused)
    assert (refused.reason, refused.asked) == (Reason.TOO_MANY_LEASES, "2")
    assert reason(knock(packets, moment=later)) is None
    (opened,) = knock(packets, secret=BOB, moment=later)  # who has none of hers
    assert opened == OpenDoor("ssh", CLIENT, 30, "bob")
    for up, is_let_in in ((SURE.up + 49.9, False), (SURE.up + 50, True)):
        effects = knock(packets, replace(MESSAGE, ports=(WEB,)), moment=SURE._replace(up=up))
        assert isinstance(effects[0], OpenDoor) is is_let_in


def test_a_packet_for_more_doors_than_leases_opens_none() -> None:
    both = replace(MESSAGE, ports=(SSH, WEB))
    packets = gate(leases=1)
    assert reason(knock(packets, both)) is Reason.TOO_MANY_LEASES
    assert reason(knock(packets)) is None  # nothing of it was counted
    assert len(knock(gate(leases=2), both)) == 3


# --- strangers ----------------------------------------------------------------------------------------


def test_a_stranger_is_nobody() -> None:
    stranger = seal(MESSAGE, Secret(b"c" * 32, b"C" * 64), salt=PACKET)
    packets = gate()
    assert not packets.concerns(stranger)
    assert packets.feed(DatagramSeen(stranger, CLIENT, SURE)) == (
        KnockRefused(Reason.NOT_OURS, None, CLIENT),
    )


def test_who_has_only_the_hmac_key_is_named_and_refused() -> None:
    half = seal(MESSAGE, Secret(b"c" * 32, ALICE.hmac_key), salt=PACKET)
    (refused,) = gate().feed(DatagramSeen(half, CLIENT, SURE))
    assert isinstance(refused, KnockRefused)
    assert (refused.reason, refused.key) == (Reason.NOT_SEALED, "alice")


def test_who_has_the_hmac_key_is_named_also_beside_a_key_without_one() -> None:
    """That one is tried afterwards, where what it makes could look like this."""
    bearers = [Bearer("alice", ALICE, WAYS), Bearer("old", Secret(b"c" * 32, None), WAYS)]
    packets = Packets(bearers, fresh=FRESH)
    message = replace(MESSAGE, username="alice.long")
    payload = seal(message, Secret(b"d" * 32, ALICE.hmac_key), salt=PACKET)
    assert packets.concerns(payload) == [0, 1]
    (refused,) = packets.feed(DatagramSeen(payload, CLIENT, SURE))
    assert refused == KnockRefused(Reason.NOT_SEALED, "alice", CLIENT)
    (opened,) = knock(packets, secret=bearers[1].secret)  # the control
    assert isinstance(opened, OpenDoor) and opened.key == "old"


def test_without_hmac_what_does_not_decrypt_is_a_strangers() -> None:
    secret = Secret(b"a" * 32)
    packets = Packets([Bearer("old", secret, WAYS)], fresh=FRESH)
    (refused,) = packets.feed(DatagramSeen(seal(MESSAGE, Secret(b"c" * 32), salt=PACKET), CLIENT, SURE))
    assert refused == KnockRefused(Reason.NOT_SEALED, None, CLIENT)
    (claim,) = packets.feed(DatagramSeen(seal(MESSAGE, secret, salt=PACKET), CLIENT, SURE))
    assert isinstance(claim, ClaimToken)


@pytest.mark.parametrize("hmac_key", [None, b"shared"])
def test_of_keys_that_a_packet_could_be_of_each_is_tried(hmac_key: bytes | None) -> None:
    """Those without an HMAC, and those of people who share one: only decryption tells whose it is."""
    secrets = [Secret(bytes([number]) * 32, hmac_key) for number in range(1, 4)]
    bearers = [Bearer(f"key {number}", secret, WAYS) for number, secret in enumerate(secrets)]
    for number, secret in enumerate(secrets):
        (opened,) = knock(Packets(bearers, fresh=FRESH), secret=secret)
        assert opened == OpenDoor("ssh", CLIENT, 30, f"key {number}")


def test_the_shapes_are_those_of_all_keys() -> None:
    """The kernel's filter is made of them: what has none of them never gets here."""
    lengths = {shape.length for shape in gate().shapes}
    longer = Secret(b"d" * 32, b"D" * 64, Hash.SHA512)
    for secret in (ALICE, BOB):
        assert len(seal(MESSAGE, secret, salt=PACKET)) in lengths
    more = Packets([Bearer("alice", ALICE, WAYS), Bearer("dora", longer, WAYS)], fresh=FRESH).shapes
    assert lengths < {shape.length for shape in more}
