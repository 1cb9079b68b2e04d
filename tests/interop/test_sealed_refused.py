"""Knocks that are refused for what they are, each with its reason, and beside each one that opens."""

from __future__ import annotations

import time
from pathlib import Path

from tests.interop.sealed import (
    OPEN,
    SECOND,
    Gate,
    Person,
    guarding,
    line,
    machine,
    now,
    public,
    recording,
    root,
    send,
)
from tests.knockgate.client import software_token
from tests.knockgate.client.agents import askpass
from tests.knockgate.daemon.running import CLIENT, OTHER, leases
from tests.netns import isolated

from knockgate.config import gatekeys
from knockgate.spa.sealed import Card, CardKeys, seal, unseal

pytestmark = root


@isolated
def test_a_knock_for_one_gate_opens_no_other(tmp_path: Path) -> None:
    """Neither as it is, nor sealed anew by the admin of the first, who has the card of the second.

    Both gates know the key. They are at the same address, one after the other, so that nothing else differs.
    """
    with machine(tmp_path):
        jo = Person(tmp_path / "jo")
        key = jo.key()
        first, second = (Gate(tmp_path, public(key), name=name) for name in ("first", "second"))
        jo.trusts(first, key)
        with recording() as recorded:
            jo.knock()
            knock = recorded()
        one, card = next(iter(gatekeys.load(first.state / "gate.keys").live(None)))
        message = unseal(knock, CardKeys(card.secret), one.gate_key())
        passed_on = seal(message, Card.parse(second.card.read_text()))
        with guarding(second):
            send(knock)
            second.until_refused("not-ours")
            send(passed_on)
            second.until_refused("bad-signature")
            told = {each["reason"]: each for each in second.explained()["strangers"]}
            assert told["bad-signature"]["claims"]["doors"] == ["ssh"] and leases() == set()
            jo.trusts(second, key, "--replace")
            jo.gets_in(second)  # the control: the same key, device and doors
        with guarding(first):
            send(knock)  # the control: it is good where it was meant for
            first.until_opened(1)
            assert leases() == OPEN


@isolated
def test_a_card_is_good_until_it_is_revoked(tmp_path: Path) -> None:
    with machine(tmp_path):
        jo, ann = Person(tmp_path / "jo"), Person(tmp_path / "ann")
        key, other = jo.key(), ann.key()
        gate = Gate(tmp_path, public(key), public(other))
        with guarding(gate):
            gate.changes("card", "new", "guests", "-o", str(tmp_path / "guests.card"))
            jo.trusts(gate, key)
            ann.trusts(gate, other, card=tmp_path / "guests.card")
            ann.gets_in(gate)
            assert gate.newest()["card"] == "guests"
            with recording() as recorded:
                said = gate.changes("card", "revoke", "guests").stdout
                assert "refused from now on" in said
                ann.knock()
                gate.until_refused("not-ours")
                knock = recorded()
            assert leases() == set()
            jo.gets_in(gate)  # the control: the other card
            gate.changes("card", "new", "guests", "-o", str(tmp_path / "again.card"))
            send(knock)  # a card of the same name is another one
            gate.until_refused("not-ours")  # of the gate as it is since its files were read again
            ann.trusts(gate, other, "--replace", card=tmp_path / "again.card")
            ann.gets_in(gate)  # the control: the key was none the worse for it


@isolated
def test_what_stands_on_the_line_counts(tmp_path: Path) -> None:
    """Before each knock that is refused, and after it, one that opens; nobody has the gate read anything."""
    with machine(tmp_path):
        jo = Person(tmp_path / "jo")
        key = jo.key()
        ann = Person(tmp_path / "ann")
        others = line(ann.key())
        gate = Gate(tmp_path, public(key))
        jo.trusts(gate, key)
        soon, gone = (
            time.strftime("%Y%m%d%H%M%SZ", time.gmtime(now() // SECOND + lead)) for lead in (3600, -1)
        )
        cases = [
            (f'from="{CLIENT}"', f'from="{OTHER}"', "source-denied"),
            ('from="10.0.0.0/24"', f'from="10.0.0.0/24,!{CLIENT}"', "source-denied"),
            (f'expiry-time="{soon}"', f'expiry-time="{gone}"', "key-expired"),
            ('doors="ssh,web"', 'doors="web"', "door-denied"),
            ("", "#", "unknown-key"),
        ]
        with guarding(gate):
            for good, bad, reason in cases:
                gate.lets_in(others, f"{good} {line(key)}")
                jo.gets_in(gate)
                before = gate.sealed()["refused"].get(reason, 0)
                gate.lets_in(others, f"{bad} {line(key)}")
                jo.knock()  # at once: what was changed a moment ago counts
                gate.until_refused(reason, before + 1)
                assert leases() == set()
                if reason != "unknown-key":
                    assert (gate.newest()["reason"], gate.newest()["step"]) == (reason, 14)
            claims = [each["claims"] for each in gate.explained()["strangers"]]
            assert [each["fingerprint"] for each in claims] == [gate.newest()["fingerprint"]]
            gate.lets_in(line(key))
            jo.gets_in(gate)


@isolated
def test_a_signature_without_touch(tmp_path: Path) -> None:
    """A token in a library for the real ssh-keygen, which signs without touch if its key was made so."""
    with machine(tmp_path):
        jo = Person(tmp_path / "jo")
        library = software_token.built(tmp_path)
        asked = askpass(tmp_path, "true")
        jo.others |= {each: asked[each] for each in ("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE")}
        jo.others["SSH_SK_PROVIDER"] = str(library)
        quiet = software_token.enrolled(jo.home / ".ssh", library, "ed25519-sk", "-O", "no-touch-required")
        touched = software_token.enrolled(jo.home / ".ssh", library, "ecdsa-sk")
        plain = jo.key()
        gate = Gate(tmp_path, public(plain), public(touched), public(quiet))
        gate.says('\n[doors.safe]\nports = ["tcp/80"]\n[doors.safe.sealed]\ntouch = true\n')
        gate.opens("ssh", "safe")
        with guarding(gate):
            jo.trusts(gate, quiet)
            jo.knock()
            gate.until_refused("no-touch")
            assert gate.newest()["step"] == 8
            gate.lets_in(line(plain), line(touched), f"no-touch-required {line(quiet)}")
            jo.gets_in(gate)  # the control: the line does not ask for it
            for number, key in enumerate((quiet, plain), 2):
                jo.trusts(gate, key, "--replace")
                jo.knock("--door", "safe")
                gate.until_refused("no-touch", number)  # but that door does
                assert gate.newest()["step"] == 14
            assert leases() == set()
            jo.trusts(gate, touched, "--replace")
            jo.knock("--door", "safe", "--door", "ssh")  # the control
            gate.until_opened(2)
            assert leases() == {("tcp/80", CLIENT, "packet"), *OPEN}
