"""A knock that the client makes, as a gate reads it; and what no packet can say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.spa.sshkeys.signers import signer

from knockgate.client import sealed
from knockgate.client.device import Ticket, next_date
from knockgate.errors import ConfigError, Refused, Unavailable
from knockgate.spa.sealed import (
    CardKeys,
    GateKey,
    KeyKind,
    SourceKind,
    Suite,
    device_id,
    signed_bytes,
    unseal,
)
from knockgate.spa.sealed.dates import Date
from knockgate.spa.sshkeys import Kind, Signature, verify

GATE = GateKey(xwing_seed=bytes(range(32)), x25519_key=bytes(range(32, 64)))
OTHER = GateKey(xwing_seed=bytes(32), x25519_key=bytes(range(32)))
SECRET = b"c" * 32
CARD = GATE.card(SECRET)
TICKET = Ticket(b"d" * 16, Date(3, 1_800_000_000 * 10**9), is_new=False)
ONE = signer(Kind.ED25519)
V6 = bytes.fromhex("20010db8000000010000000000000007")


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("kind", Kind)
def test_the_gate_reads_what_was_meant(kind: Kind, suite: Suite) -> None:
    one = signer(kind)
    made = sealed.make(
        CARD,
        one.public,
        one.sign,
        doors=["web", "ssh"],
        source=SourceKind.V4,
        address=bytes([192, 0, 2, 7]),
        lease=600,
        ticket=TICKET,
        suite=suite,
    )
    assert len(made) == suite.length
    message = unseal(made, CardKeys(SECRET), GATE)
    head = message.head
    assert (head.kind, head.fingerprint) == (KeyKind(kind), one.public.fingerprint)
    assert (head.source, head.address, head.lease) == (SourceKind.V4, bytes([192, 0, 2, 7]), 600)
    assert (head.device, head.era, head.issued) == (TICKET.device, *TICKET.date)
    assert head.doors == ("ssh", "web")
    found = Signature(message.signature, message.flags, message.counter)
    assert found.touched is kind.on_token
    assert verify(one.public, found, signed_bytes(GATE.gate, head))
    assert not verify(one.public, found, signed_bytes(OTHER.gate, head)), "for another gate it says nothing"
    with pytest.raises(Refused):
        unseal(made, CardKeys(SECRET), OTHER)


def test_the_large_suite_is_the_default_and_no_two_are_alike() -> None:
    made = [knock() for _ in range(2)]
    assert {len(each) for each in made} == {Suite.XWING.length}
    assert made[0] != made[1]


def knock(**fields: object) -> bytes:
    given_ = {"doors": ["ssh"], "source": SourceKind.OBSERVED, "ticket": TICKET} | fields
    return sealed.make(CARD, ONE.public, ONE.sign, **given_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "network", "source", "said"),
    [
        (None, False, SourceKind.OBSERVED, b""),
        (bytes([10, 0, 0, 1]), False, SourceKind.V4, bytes([10, 0, 0, 1])),
        (V6, False, SourceKind.V6, V6),
        (V6, True, SourceKind.V6_NETWORK, V6[:8] + bytes(8)),
    ],
)
def test_sources(address: bytes | None, network: bool, source: SourceKind, said: bytes) -> None:
    assert sealed.source_kind(address, network=network) is source
    made = knock(source=source, address=address or b"")
    head = unseal(made, CardKeys(SECRET), GATE).head
    assert (head.source, head.address) == (source, said)


def test_a_network_of_ipv4_cannot_be_said() -> None:
    with pytest.raises(ValueError, match="none of IPv4"):
        sealed.source_kind(bytes([10, 0, 0, 0]), network=True)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"doors": []}, "cannot be asked for"),
        ({"doors": ["Ssh"]}, "cannot be asked for"),
        ({"doors": ["ssh,web"]}, "cannot be asked for"),
        ({"doors": ["a" * 33]}, "cannot be asked for"),
        ({"source": SourceKind.V4, "address": bytes([127, 0, 0, 1])}, "no address to let in"),
        (
            {"source": SourceKind.V6, "address": bytes.fromhex("fe80" + "00" * 13 + "01")},
            "no address to let in",
        ),
        ({"source": SourceKind.V4, "address": V6}, "16 bytes"),
        ({"lease": -1}, "lease"),
        ({"lease": 2**32}, "lease"),
    ],
)
def test_what_no_packet_can_say(fields: dict[str, object], match: str) -> None:
    def never(_: bytes) -> Signature:
        raise AssertionError("it is not worth anybody's touch")

    given_ = {"doors": ["ssh"], "source": SourceKind.OBSERVED} | fields
    with pytest.raises(ConfigError, match=match):
        sealed.check(**given_)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=match):
        sealed.make(CARD, ONE.public, never, ticket=TICKET, **given_)  # type: ignore[arg-type]
    sealed.check(["ssh"], SourceKind.OBSERVED)


@given(
    st.lists(st.text("ab-,", max_size=4), max_size=4),
    st.sampled_from(SourceKind),
    st.binary(max_size=17),
    st.integers(-1, 2**33),
)
def test_what_can_be_checked_can_be_made(
    doors: list[str], source: SourceKind, address: bytes, lease: int
) -> None:
    fields = {"doors": doors, "source": source, "address": address, "lease": lease}
    try:
        sealed.check(**fields)  # type: ignore[arg-type]
    except ConfigError:
        with pytest.raises(ConfigError):
            knock(**fields)
    else:
        assert unseal(knock(**fields, suite=Suite.X25519), CardKeys(SECRET), GATE).head.doors == tuple(
            sorted(set(doors))
        )


def test_what_the_signer_raises_is_for_the_caller() -> None:
    def locked(_: bytes) -> Signature:
        raise Unavailable("the agent is locked")

    with pytest.raises(Unavailable, match="the agent is locked"):
        sealed.make(CARD, ONE.public, locked, doors=["ssh"], source=SourceKind.OBSERVED, ticket=TICKET)


def test_two_knocks_of_a_client(tmp_path: Path) -> None:
    heads = []
    for _ in range(2):
        ticket = next_date(
            tmp_path / "device.json", CARD.gate, now=10**18, machine=b"", fresh_secret=lambda: SECRET
        )
        heads.append(unseal(knock(ticket=ticket), CardKeys(SECRET), GATE).head)
    assert {head.device for head in heads} == {device_id(SECRET, CARD.gate, b"")}
    assert [head.issued for head in heads] == [10**18, 10**18 + 1]
