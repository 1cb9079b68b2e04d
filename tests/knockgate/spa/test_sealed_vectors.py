"""vectors/spa-v1/: each file is what it says, to both readers, and is made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.knockgate.spa import sealed_oracle as oracle
from tests.knockgate.spa import sealed_signers as signers
from tests.knockgate.spa.sealed_messages import is_signed, refusal, shown
from tools import sealed_vectors

from knockgate.errors import Reason
from knockgate.spa import sshkeys
from knockgate.spa.sealed import CardKeys, GateKey, Message, Suite, signed_bytes, unseal

FILES = sorted(sealed_vectors.FOLDER.glob("*.json"))


def opened(file: Path) -> tuple[dict[str, Any], bytes, CardKeys, GateKey]:
    vector = json.loads(file.read_text())
    seeds = {name: bytes.fromhex(vector[name]) for name in ("xwing_seed", "x25519_key")}
    card = CardKeys(bytes.fromhex(vector["card_secret"]))
    return vector, bytes.fromhex(vector["datagram"]), card, GateKey(**seeds)


def read_by_the_oracle(vector: dict[str, Any]) -> dict[str, object] | str:
    names = ("xwing_seed", "x25519_key", "card_secret")
    gate = oracle.Gate(*(bytes.fromhex(vector[name]) for name in names))
    try:
        return oracle.read(bytes.fromhex(vector["datagram"]), gate)
    except oracle.No as no:
        return str(no)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_it_is_what_it_says(file: Path) -> None:
    vector, datagram, card, key = opened(file)
    assert read_by_the_oracle(vector) == (vector["reason"] or vector["message"])
    if vector["reason"]:
        assert refusal(datagram, card, key) is Reason(vector["reason"])
        assert file.stem.startswith(vector["reason"])
        return
    message = unseal(datagram, card, key)
    assert shown(message) == vector["message"]
    assert Suite.of(datagram) is {"x-wing": Suite.XWING, "x25519": Suite.X25519}[vector["suite"]]
    assert file.stem.startswith("right")
    if vector["public_key"]:
        assert vector["public_key"] == signers.line(message.head.kind)
        assert is_signed(message, key.gate)
    assert is_signed_for_sshkeys(message, key.gate) == bool(vector["public_key"])
    assert not is_signed_for_sshkeys(message, key.gate[::-1])


def is_signed_for_sshkeys(message: Message, gate: bytes) -> bool:
    """What the gate asks after it has found the key by its fingerprint."""
    public = sshkeys.PublicKey.of_blob(signers.blob(message.head.kind))
    signature = sshkeys.Signature(message.signature, message.flags, message.counter)
    is_its = public.fingerprint == message.head.fingerprint
    return is_its and sshkeys.verify(public, signature, signed_bytes(gate, message.head))


def test_the_files_are_those_that_are_made() -> None:
    """``python -m tools.sealed_vectors`` writes them."""
    made = list(sealed_vectors.vectors())
    assert {path.name: path.read_text() for path in FILES} == dict(made)
    assert len(made) == len(dict(made)) > 130


def test_each_step_refuses_some() -> None:
    assert {json.loads(path.read_text())["reason"] for path in FILES} == {
        None,
        *(each.value for each in (Reason.NOT_OURS, Reason.NOT_SEALED, Reason.MALFORMED)),
    }
    assert {json.loads(path.read_text())["suite"] for path in FILES} == {"x-wing", "x25519"}


def test_no_two_are_the_same() -> None:
    assert len({json.loads(path.read_text())["datagram"] for path in FILES}) == len(FILES)
