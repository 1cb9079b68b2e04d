"""vectors/sshkeys/: each file is what it says, for us, and as far as it can be asked for ssh-keygen."""

from __future__ import annotations

import calendar
import json
from pathlib import Path

import pytest
from tests.knockgate.spa.sshkeys.signers import keygen
from tools import sshkeys_vectors

from knockgate.spa.sshkeys import NAMESPACE, Flaw, PublicKey, Signature, read, verify
from knockgate.spa.sshkeys.sshsig import armored

FILES = {path.name: json.loads(path.read_text()) for path in sorted(sshkeys_vectors.FOLDER.glob("*.json"))}
LINES = {name: vector for name, vector in FILES.items() if name.startswith("line-")}
SIGNATURES = {name: vector for name, vector in FILES.items() if name.startswith("signature-")}


@pytest.mark.parametrize("name", LINES)
def test_a_line_is_what_it_says(name: str) -> None:
    vector = LINES[name]
    listing = read(vector["line"].encode("latin-1"), ours=vector["ours"], local=calendar.timegm)
    if vector["reason"] is None:
        assert (len(listing.keys), listing.flaws) == (1, ())
    else:
        assert listing.keys == ()
        assert [each.flaw for each in listing.flaws] == [Flaw[vector["reason"].upper().replace("-", "_")]]


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_is_what_it_says(name: str, tmp_path: Path) -> None:
    vector = SIGNATURES[name]
    key = PublicKey.of_text(*vector["key"].encode().split())
    signature = Signature(bytes.fromhex(vector["signature"]), vector["flags"], vector["counter"])
    message = bytes.fromhex(vector["message"])
    assert verify(key, signature, message) == vector["good"]
    try:
        armor = armored(key, signature)
    except ValueError:
        assert vector["what"] == "a number out of bounds"
        return
    if vector["what"] == "flags, without a token":
        return  # they have no place in what ssh-keygen reads
    (tmp_path / "signers").write_text(f"somebody {vector['key']}\n")
    (tmp_path / "signature").write_text(armor)
    words: list[str | Path] = ["-Y", "verify", "-f", tmp_path / "signers", "-I", "somebody"]
    words += ["-n", NAMESPACE.decode(), "-s", tmp_path / "signature"]
    keygen(*words, given=message, right=vector["good"])


def test_the_files_are_those_that_are_made() -> None:
    """``python -m tools.sshkeys_vectors`` writes them."""
    made = list(sshkeys_vectors.vectors())
    assert {path.name: path.read_text() for path in sshkeys_vectors.FOLDER.glob("*.json")} == dict(made)
    assert len(made) == len(dict(made))


def test_each_flaw_has_one() -> None:
    reasons = {vector["reason"] for vector in LINES.values()} - {None}
    assert reasons == {each.name.lower().replace("_", "-") for each in Flaw}
