"""Each byte of a knock damaged, each length cut off: none opens, and all are counted. Then the knock opens.

The knock is the real client's, recorded on its way to a gate that is not there yet, so it is good still.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.interop.sealed import Gate, Person, guarding, machine, public, recording, root, send
from tests.knockgate.daemon.running import CLIENT, leases
from tests.netns import isolated, until

from knockgate.config import gatekeys
from knockgate.spa.sealed import CardKeys, Suite, opened

pytestmark = root

_AT_ONCE = 200  # datagrams that a gate that others keep from the processor has not lost yet


def _damaged(octets: bytes) -> Iterator[bytes]:
    """One bit, a random one, of each byte."""
    dice = random.Random(1)
    for at in range(len(octets)):
        yield octets[:at] + bytes([octets[at] ^ 1 << dice.randrange(8)]) + octets[at + 1 :]


@pytest.mark.parametrize("words", [(), ("--small",)], ids=["x-wing", "x25519"])
@isolated
def test_whatever_is_damaged_on_its_way_is_refused(words: Sequence[str], tmp_path: Path) -> None:
    with machine(tmp_path):
        jo = Person(tmp_path / "jo")
        key = jo.key()
        gate = Gate(tmp_path, public(key))
        jo.trusts(gate, key)
        with recording() as recorded:
            jo.knock(*words)
            knock = recorded()
        assert len(knock) == (245 if words else 1333)
        with guarding(gate):
            _send_all(gate, list(_damaged(knock)))
            assert gate.sealed()["refused"] == {"not-ours": len(knock)}
            cut = [knock[:size] for size in range(len(knock))]
            # What has no knock's length the kernel turns away; one of these has the small one's.
            for each in (*cut, knock + b"\0", knock * 2):
                send(each)
            arrive = len(knock) + sum(len(each) == 245 for each in cut)
            _until_refused(gate, arrive)
            assert gate.sealed()["opened"] == 0 and leases() == set()
            send(knock)  # the control
            gate.until_opened(1)
            assert leases() == {("tcp/22", CLIENT, "packet")}
            assert gate.sealed()["refused"] == {"not-ours": arrive}


def _send_all(gate: Gate, datagrams: Sequence[bytes]) -> None:
    """All of them are to arrive, so no more at once than are taken."""
    before = gate.refused()
    for begin in range(0, len(datagrams), _AT_ONCE):
        some = datagrams[begin : begin + _AT_ONCE]
        for each in some:
            send(each)
        _until_refused(gate, before + begin + len(some))


def _until_refused(gate: Gate, number: int) -> None:
    until(lambda: gate.refused() >= number, f"{number} are refused")
    assert gate.refused() == number


@pytest.mark.parametrize("suite", Suite, ids=["x-wing", "x25519"])
@isolated
def test_whoever_has_the_card_damages_it_in_vain_too(suite: Suite, tmp_path: Path) -> None:
    """What is damaged gets a right tag; and the message a right seal, by who has the gate's keys as well."""
    with machine(tmp_path):
        jo = Person(tmp_path / "jo")
        key = jo.key()
        gate = Gate(tmp_path, public(key))
        gate.says("\n[sealed]\nbudget = 1000\n")
        jo.trusts(gate, key)
        with recording() as recorded:
            jo.knock(*["--small"] * (suite is Suite.X25519))
            knock = recorded()
        one, card = next(iter(gatekeys.load(gate.state / "gate.keys").live(None)))
        keys, own = CardKeys(card.secret), one.gate_key()
        message = opened(knock, keys, own)

        def sealed(octets: bytes) -> bytes:
            sent = suite.hpke.encrypt(octets, own.card(card.secret).recipient(suite), suite.info(own.gate))
            return keys.datagram(suite, sent)

        with guarding(gate):
            bodies = [tagged(each, card.secret) for each in _damaged(knock[16:])]
            _send_all(gate, bodies)
            assert gate.sealed()["refused"] == {"not-sealed": len(knock) - 16}
            _send_all(gate, [sealed(each) for each in _damaged(message)])
            counts = gate.sealed()["refused"]
            assert counts.keys() == {"not-sealed", "malformed", "unknown-key", "bad-signature"}
            # A damaged fingerprint is nobody's; a damaged signature, date, device and lease are badly signed.
            assert counts["unknown-key"] >= 32 and counts["bad-signature"] >= 64 + 2 + 4 + 7 + 16
            assert gate.sealed()["opened"] == 0 and leases() == set()
            send(sealed(message))  # the control: it was made by somebody, whoever has sealed it
            gate.until_opened(1)
            assert leases() == {("tcp/22", CLIENT, "packet")}


def tagged(body: bytes, secret: bytes) -> bytes:
    """A datagram that bears a right tag, whatever it is."""
    key = hashlib.blake2s(key=secret, person=b"kg1-tagk").digest()
    return hashlib.blake2s(body, key=key, person=b"kg1-tag", digest_size=16).digest() + body
