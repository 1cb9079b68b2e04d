"""What the fuzzer has found interesting, without the fuzzer: `make fuzz` adds to it."""

from __future__ import annotations

import calendar

import pytest
from fuzz import ssh_targets
from fuzz.targets import Mistake
from tests.knockgate.spa.corpus import CORPUS, run_through
from tests.knockgate.spa.sshkeys.signers import signer

from knockgate.client import private_key
from knockgate.errors import ConfigError
from knockgate.spa.sshkeys import BadKey, Flaw, Kind, Signature, read
from knockgate.spa.sshkeys.sshsig import wrapped


@pytest.mark.parametrize("name", ssh_targets.TARGETS)
def test_nothing_of_it_is_a_mistake(name: str) -> None:
    run_through(ssh_targets.TARGETS, name)


def test_it_reaches_all_that_there_is() -> None:
    """Each kind of key, and each flaw."""
    files = [file.read_bytes() for file in (CORPUS / "authorized").iterdir()]
    found = [read(each[1:], ours=bool(each[0] & 1), local=calendar.timegm) for each in files if each]
    assert {key.key.kind for each in found for key in each.keys} == set(Kind)
    flaws = {flaw.flaw for each in found for flaw in each.flaws}
    assert flaws == set(Flaw)


def test_it_reaches_keys_that_sign_and_others_that_cannot() -> None:
    seen: dict[str, int] = {}
    for file in (CORPUS / "private").iterdir():
        octets = file.read_bytes()
        found = ssh_targets.armoured(octets[1:]) if octets[:1] == b"\1" else octets[1:]
        try:
            end = "locked" if private_key.look(found).locked else private_key.load(found).public.kind.name
        except BadKey as bad:
            end = bad.flaw.name
        except ConfigError as error:
            end = error.message.split()[-1]
        seen[end] = seen.get(end, 0) + 1
    assert {"locked", "ED25519", "ECDSA_P256", "RSA", "damaged"} <= seen.keys(), seen


CONTROLS = {
    "authorized": ("files.read", lambda octets, **_: read(octets[:-1], ours=False, local=calendar.timegm)),
    "answer": ("agent.signature", lambda *_: Signature(bytes(64))),
    "signature": ("wrapped", lambda kind, _: wrapped(kind, signer(kind).sign(b""))),
    "private": ("verify", lambda *_: False),
}


@pytest.mark.parametrize("name", ssh_targets.TARGETS)
def test_a_mistake_would_be_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: a line that is lost, a signature that nobody made, another one than it was."""
    place, instead = CONTROLS[name]
    monkeypatch.setattr(f"fuzz.ssh_targets.{place}", instead)
    with pytest.raises(Mistake):
        test_nothing_of_it_is_a_mistake(name)
