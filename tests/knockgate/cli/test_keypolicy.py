"""``check --explain KEY``: everything that stands against a key, each beside the same key without it."""

from __future__ import annotations

import calendar
import datetime as dt
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.knockgate.cli.process import knockgate
from tests.knockgate.cli.sealed_gates import LINE, SealedGate, initialised

from knockgate.cli.keyrights import fingerprint_of
from knockgate.config import gatekeys
from knockgate.spa.sshkeys import read

FINGERPRINT = fingerprint_of(read(LINE.encode(), ours=True, local=calendar.timegm).keys[0])


@pytest.fixture
def gate(tmp_path: Path) -> SealedGate:
    """Of ``people``, who open ssh; the clock is one that is trusted."""
    made = initialised(tmp_path)
    configured(made, "", clock="trusted")
    return made


def configured(gate: SealedGate, more: str, *, clock: str = "trusted", doors: str = "") -> None:
    Path(gate.config).write_text(
        f'[gate]\nrun_directory = "{gate.folder}/run"\nstate_directory = "{gate.folder}/state"\n'
        f'clock = "{clock}"\n[doors.ssh]\nports = ["tcp/22"]\nlongest = "10m"\n{doors}\n'
        f'[keys.people]\nssh = "{gate.folder}/people"\ndoors = ["ssh"]\n{more}\n'
    )


def told(gate: SealedGate, key: str = "people", *, status: int = 0) -> dict[str, Any]:
    """Of one key alone."""
    (found,) = json.loads(gate.does("check", "--explain", key, "--json", status=status).stdout)["found"]
    assert found["opens_now"] is (status == 0)
    return dict(found)


def days(offset: int) -> str:
    """The day of the week, so many from now, and the one before and after it."""
    today = time.gmtime(time.clock_gettime(time.CLOCK_REALTIME)).tm_wday + offset
    names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    return f"{names[(today - 1) % 7]}-{names[(today + 1) % 7]}"


def test_a_key_of_gate_toml(gate: SealedGate) -> None:
    words = gate.does("check", "--explain", "people").stdout
    assert f"who     1 key in {gate.folder}/people\n" in words
    assert "opens   ssh (tcp/22), for 15s, or up to 10m where it asks for that; " in words
    assert "when    always\n" in words and "now     nothing is against it\n" in words
    assert (
        "leases  8 at once, of each ssh key; 1000 of all of them together\n" in words
        and "lets in any address\n" in words
    )
    assert "udp/62202" in words and "OPENS NOTHING" not in words
    found = told(gate)
    assert found["in_words"] + "\n" == words
    (door,) = found["doors"]
    assert (door["door"], door["ports"], door["lease"], door["longest"]) == ("ssh", ["tcp/22"], 15, 600)


def test_every_limit_is_told(gate: SealedGate) -> None:
    more = 'sources = ["192.0.2.0/24", "2001:db8::7"]\nlongest = "1m"\nleases = 2\nleases_in_all = 5\n'
    more += f'expires = 2099-01-01\nhours = ["{days(0)}"]\nhours_in = "UTC"'
    configured(gate, more, doors="sealed.touch = true\nsealed.devices = 'known'\nsealed.observed = 'never'")
    found = told(gate, status=1)
    (door,) = found["doors"]
    assert door["longest"] == 60 and "none of its keys is on" in door["against"]
    assert found["lets_in"] == ["192.0.2.0/24, 2001:db8::7"]
    assert found["when"] == [f"{days(0)} (UTC); leases end with these hours", "until 2099-01-02 00:00:00Z"]
    assert found["leases"] == "2 at once, of each ssh key; 5 of all of them together"
    assert door["demands"] == [
        "a token must have been touched",
        "from devices that were enrolled",
        "the knock must name the address to let in",
    ]
    configured(gate, more, doors="sealed.devices = 'known'")
    assert told(gate)["doors"][0]["against"] is None


@pytest.mark.parametrize(
    ("more", "fine", "why"),
    [
        ("revoked = true", "revoked = false", "it is revoked"),
        ("expires = 2026-01-01", "expires = 2099-01-01", "it has expired, on 2026-01-02 at 00:00:00Z"),
        (f'hours = ["{days(3)}"]', f'hours = ["{days(0)}"]', "(local time), which is none of its hours"),
        (
            f'hours = ["{days(3)}"]\nhours_in = "Europe/Berlin"',
            f'hours = ["{days(0)}"]\nhours_in = "Europe/Berlin"',
            "(Europe/Berlin), which is none of its hours",
        ),
    ],
)
def test_what_stands_against_it(gate: SealedGate, more: str, fine: str, why: str) -> None:
    configured(gate, fine)
    assert told(gate)["against"] == []
    configured(gate, more)
    (against,) = told(gate, status=1)["against"]
    assert why in against
    assert f"OPENS NOTHING: {against}" in gate.does("check", "--explain", "people", status=1).stdout
    assert why in told(gate, "jo@laptop", status=1)["against"][0]  # and against each line


def test_all_of_it_is_told_at_once(gate: SealedGate) -> None:
    (gate.folder / "people").unlink()
    gate.keys_file.unlink()
    configured(gate, f'revoked = true\nexpires = 2026-01-01\nhours = ["{days(3)}"]', clock="unknown")
    against = "\n".join(told(gate, status=1)["against"])
    for word in ("revoked", "expired", "hours", "no such file", "no ssh key", "no card", 'clock = "unknown"'):
        assert word in against
    assert len(against.splitlines()) == 7


def test_files(gate: SealedGate) -> None:
    one, other = gate.folder / "people", gate.folder / "others"
    configured(gate, "")
    text = Path(gate.config).read_text().replace(f'"{one}"', f'["{one}", "{other}"]')
    Path(gate.config).write_text(text)
    found = told(gate)
    assert found["who"] == [f"1 key in {one}", f"no keys in {other}"]
    assert found["against"] == [] and found["doubts"] == [f"{other}: there is no such file"]
    one.write_text("")
    assert told(gate, status=1)["against"] == [
        "no ssh key stands in its files",
        f"{other}: there is no such file",
    ]
    one.write_text(f'expiry-time="20200101Z" {LINE}\n')
    assert told(gate, status=1)["against"] == ["all lines in its files have expired"]
    one.write_text(f'expiry-time="20200101Z" {LINE}\n{LINE}\n')
    assert "1 of 2 lines in its files have expired" in told(gate)["doubts"]


def test_cards(gate: SealedGate) -> None:
    assert told(gate)["against"] == []
    keys, ended = gate.keys(), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    cards = tuple(replace(card, ends=ended) for card in keys.keys[0].cards)
    keys = replace(keys, keys=(replace(keys.keys[0], cards=cards),))
    gatekeys.save(gate.keys_file, keys)
    assert told(gate, status=1)["against"] == ["no card is good any more (knockgate card new NAME)"]
    gate.keys_file.write_text("nonsense")
    assert "so no gate starts" in told(gate, status=1)["against"][0]


@pytest.mark.parametrize("word", ["jo@laptop", FINGERPRINT, FINGERPRINT[:15], FINGERPRINT[7:15]])
def test_a_line_by_its_key_or_comment(gate: SealedGate, word: str) -> None:
    (gate.folder / "people").write_text(
        f'# nothing\nfrom="192.0.2.0/24",doors="ssh",max-lease="2m",expiry-time="20990101Z" {LINE}\n'
    )
    found = told(gate, word)
    assert (found["name"], found["fingerprint"]) == ("people", FINGERPRINT)
    assert found["line"] == f"{gate.folder}/people:2"
    assert found["lets_in"] == ["192.0.2.0/24 (from= on its line)"]
    assert found["when"] == ["until 2099-01-01 00:00:00Z (expiry-time= on its line)"]
    assert [each["longest"] for each in found["doors"]] == [120]
    assert found["in_words"].startswith(f"the ssh key {FINGERPRINT} jo@laptop, by key people:\n")


def test_what_a_line_takes_away(gate: SealedGate) -> None:
    (gate.folder / "people").write_text(f'doors="web" {LINE}\n')
    assert told(gate)["against"] == []  # the key of gate.toml says nothing of single lines
    found = told(gate, FINGERPRINT, status=1)
    assert found["doors"][0]["against"] == "doors= on its line leaves it out"
    assert found["against"] == ["there is no door that it could open"]
    (gate.folder / "people").write_text(f'expiry-time="20200101Z" {LINE}\n')
    assert told(gate, FINGERPRINT, status=1)["against"] == ["its line has expired"]


def test_every_line_of_a_key_is_told(gate: SealedGate) -> None:
    (gate.folder / "people").write_text(f'expiry-time="20200101Z" {LINE}\n{LINE}\n')
    done = gate.does("check", "--explain", FINGERPRINT, "--json")  # the second lets it in
    first, second = json.loads(done.stdout)["found"]
    assert (first["opens_now"], second["opens_now"]) == (False, True)


def test_a_door_that_cannot_be_asked_for(gate: SealedGate) -> None:
    more = '[doors."Web.2"]\nports = ["tcp/444"]\nshadow = true'
    configured(gate, "", doors=more)
    text = Path(gate.config).read_text().replace('doors = ["ssh"]', 'doors = ["ssh", "Web.2"]')
    Path(gate.config).write_text(text)
    found = told(gate)
    assert [bool(each["against"]) for each in found["doors"]] == [False, True]
    assert "NOT Web.2 (tcp/444): no sealed packet can ask for it" in found["in_words"]
    assert found["doubts"] == ["Web.2 is in shadow: everybody comes in there, also without a knock"]


def test_the_clock(gate: SealedGate, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(gate, "expires = 2099-01-01", clock="auto")
    for vouched, doubts in ((True, 0), (False, 1)):
        monkeypatch.setattr("knockgate.cli.keypolicy.is_synchronised", lambda vouched=vouched: vouched)
        assert len(told(gate)["doubts"]) == doubts
    configured(gate, "", clock="auto")  # one that is always good
    assert told(gate)["doubts"] == []


def test_a_key_of_fwknops(tmp_path: Path) -> None:
    secrets, file = tmp_path / "alice.secrets", tmp_path / "gate.toml"
    secrets.write_text("KEY: correct horse battery\nHMAC_KEY: staple and something more\n")
    secrets.chmod(0o600)
    text = f'[doors.ssh]\nports = ["tcp/22"]\n[keys.alice]\nfwknop = "{secrets}"\ndoors = ["ssh"]\n'
    file.write_text(text)
    done = knockgate("check", "--explain", "alice", str(file))
    assert done.returncode == 0 and "any number at once" in done.stdout and "horse" not in done.stdout
    assert "any address\n          which it must name\n" in done.stdout
    more = 'senders = ["198.51.100.0/24"]\nusername = "al"\nleases = 3\nobserved = true\nrevoked = true\n'
    file.write_text(text + more)
    done = knockgate("check", "--explain", "alice", str(file))
    assert done.returncode == 1 and "OPENS NOTHING: it is revoked" in done.stdout
    for words in ("3 at once", "198.51.100.0/24", "user name al", "or its sender, where it names none"):
        assert words in done.stdout
    assert "REVOKED: it opens nothing" in knockgate("check", str(file)).stdout


def test_a_key_that_is_not_there(gate: SealedGate) -> None:
    done = gate.does("check", "--explain", "peopel", status=2)
    assert "there is no key 'peopel'" in done.stderr and "did you mean people?" in done.stderr
    for word in ("", "SHA256:", FINGERPRINT[:12], "jo"):
        assert "fingerprint or comment" in gate.does("check", "--explain", word, status=2).stderr


def test_what_check_says_of_a_key_has_its_hours(gate: SealedGate) -> None:
    configured(gate, 'hours = ["Mon-Fri 08:00-18:00", "Sat"]\nhours_in = "Europe/Berlin"\nrevoked = true')
    done = gate.does("check")
    assert "8 leases each, Mon-Fri 08:00-18:00, Sat (Europe/Berlin), REVOKED: it opens nothing" in done.stdout
    (key,) = json.loads(gate.does("check", "--json").stdout)["keys"]
    assert (key["hours"], key["hours_in"], key["revoked"]) == (
        ["Mon-Fri 08:00-18:00", "Sat"],
        "Europe/Berlin",
        True,
    )
