"""``knockgate rekey`` and ``replay reset``: no old knock is good that must not be, whoever is killed when."""

from __future__ import annotations

import datetime as dt
import json
import os
import pty
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.knockgate.cli.process import command, environment, knockgate
from tests.knockgate.cli.sealed_gates import SealedGate, all_below, has_secret, initialised
from tests.knockgate.daemon.sealed_stage import stage
from tests.knockgate.killing import killed_everywhere
from tests.netns import isolated, own_mounts, run

from knockgate.cli import main
from knockgate.cli.cardfiles import fingerprint_of
from knockgate.cli.gatefiles import now
from knockgate.config import gatekeys
from knockgate.errors import ConfigError, Reason
from knockgate.mechanisms.certainty import Span
from knockgate.mechanisms.marks import Spend, TurnAway
from knockgate.spa.sealed import Card
from knockgate.spa.sealed.dates import Date

KEY, DEVICE = bytes(32), bytes(range(16))
#: Of the knock that was taken, and that somebody has recorded.
DATE = Date(0, 1_790_000_000 * 10**9)
#: Of one after that.
LATER = Date(0, DATE.issued + 10**9)
RESET = ["replay", "reset", "--yes", "--clock-right"]


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SealedGate:
    """One that has taken a knock."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return used(tmp_path)


def used(folder: Path) -> SealedGate:
    found = initialised(folder)
    assert opens_again(found, DATE), "the control: it is new"
    assert not opens_again(found, DATE)
    return found


def opens_again(gate: SealedGate, date: Date) -> bool:
    """Whether a gate that does not know the time would take a knock of that date."""
    store = gate.store()
    try:
        verdict = store.claim(KEY, DEVICE, date, Span(), None)
    finally:
        store.close()
    assert isinstance(verdict, Spend) or verdict == TurnAway(Reason.REPLAYED)
    return isinstance(verdict, Spend)


def fingerprints(gate: SealedGate) -> list[str]:
    return [one.gate_key().card(bytes(32)).fingerprint for one in gate.keys().keys]


# --- rekey --------------------------------------------------------------------------------------------


def test_a_new_key_beside_the_old_one(gate: SealedGate, tmp_path: Path) -> None:
    gate.does("card", "new", "phones", "-o", str(tmp_path / "phones.card"))
    before = gate.keys()
    done = gate.does("rekey", "--overlap", "7d", "-o", str(tmp_path / "new"))
    assert "| knockgate trust --replace " in done.stdout, "clients have a profile, which else it would refuse"
    after = gate.keys()
    assert (after.incarnation, after.keys[1].cards) == (before.incarnation, before.keys[0].cards)
    new, old = after.keys
    assert new.name == f"{old.name}-2"
    assert old.ends is not None and (old.ends - new.made).total_seconds() == 7 * 86400
    assert f"the old cards are good until {old.ends:%Y-%m-%d %H:%M} UTC" in done.stdout
    files = sorted((tmp_path / "new").iterdir())
    assert [file.name for file in files] == [f"everybody.{new.name}.card", f"phones.{new.name}.card"]
    for file, entry in zip(files, new.cards, strict=True):
        card = Card.parse(file.read_text())
        assert (card.secret, card.fingerprint) == (entry.secret, fingerprints(gate)[0])
        assert file.stat().st_mode & 0o777 == 0o600 and str(file) in done.stdout
        assert gate.does("card", "show", entry.name).stdout == file.read_text()
    assert not has_secret(done.stdout + done.stderr)
    assert gate.starts() and not opens_again(gate, DATE), "the marks go on counting"
    again = gate.does("rekey", status=2)
    assert "there are two keys already" in again.stderr and "rekey --now" in again.stderr
    assert gate.keys() == after
    listed = gate.does("card", "list").stdout.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [
        [card.name, one.name] for one in after.keys for card in one.cards
    ]


def test_what_was_said_of_devices_says_nothing_of_a_new_key(gate: SealedGate) -> None:
    assert "devices" not in gate.does("rekey", "--overlap", "1m").stderr
    gate.does("device", "enrol", DEVICE.hex())
    done = gate.does("rekey", "--now", "--yes", "-o", "more")
    assert "to the new key all devices are others" in done.stderr


def test_what_is_done_as_json(gate: SealedGate, tmp_path: Path) -> None:
    def told(*words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(gate.does(*words, "--json").stdout)
        return found

    first = told("rekey", "-o", str(tmp_path), "--overlap", "1d")
    new, old = gate.keys().keys
    assert old.ends is not None
    assert first == {
        "key": new.name,
        "gate": fingerprint_of(new),
        "cards": [{"name": "everybody", "file": f"{tmp_path}/everybody.{new.name}.card"}],
        "old_cards_end": old.ends.isoformat(),
    }
    assert Card.parse(Path(first["cards"][0]["file"]).read_text()).fingerprint == first["gate"]
    Path(first["cards"][0]["file"]).unlink()
    anew = told("rekey", "--now", "--yes", "-o", str(tmp_path))
    assert (anew["gate"], anew["old_cards_end"]) == (fingerprint_of(gate.keys().keys[0]), None)
    reset = told(*RESET)
    assert (reset["marks"], reset["devices_kept"]) == (str(gate.marks_file), True)
    assert abs(dt.datetime.fromisoformat(reset["refused_until"]) - now()) < dt.timedelta(seconds=60)
    gate.marks_file.unlink()
    assert told("replay", "reset", "--yes", "--clock-unknown") == {
        "marks": str(gate.marks_file),
        "refused_until": None,
        "devices_kept": False,
    }


def test_a_card_that_cannot_be_written_changes_nothing(gate: SealedGate, tmp_path: Path) -> None:
    before = sorted(all_below(tmp_path)), gate.keys_file.read_bytes(), gate.marks_file.read_bytes()
    for words in (["rekey"], ["rekey", "--now", "--yes"]):
        assert "cannot be written" in gate.does(*words, "-o", "/proc/none", status=2).stderr
    shutil.rmtree(tmp_path / "run")
    assert (sorted(all_below(tmp_path)), gate.keys_file.read_bytes(), gate.marks_file.read_bytes()) == before


def test_all_anew(gate: SealedGate) -> None:
    before, names = gate.keys(), fingerprints(gate)
    done = gate.does("rekey", "--now", "--yes")
    after = gate.keys()
    assert len(after.keys) == 1 and after.names(None) == ["everybody"]
    assert after.incarnation != before.incarnation
    assert fingerprints(gate) != names and after.keys[0].cards[0].secret != before.keys[0].cards[0].secret
    assert "no old card is good any more" in done.stdout
    assert gate.starts()
    assert not has_secret(done.stdout + done.stderr)


@pytest.mark.parametrize("lost", ["marks", "keys", "both", "damaged"])
def test_all_anew_is_the_way_out_where_something_is_lost(lost: str, gate: SealedGate) -> None:
    if lost in ("marks", "both"):
        gate.marks_file.unlink()
    if lost in ("keys", "both"):
        gate.keys_file.unlink()
    if lost == "damaged":
        gate.keys_file.write_text(gate.keys_file.read_text().replace("secret", "sercet"))
        gate.marks_file.write_bytes(b"spoilt" * 1000)
    assert lost == "keys" or not _starts(gate), "the control"
    done = gate.does("rekey", "--now", "--yes")
    assert gate.starts() and gate.keys().names(None) == ["everybody"]
    assert ("so there will be one card, everybody" in done.stderr) is (lost != "marks")


def _starts(gate: SealedGate) -> bool:
    try:
        return gate.starts()
    except ConfigError:
        return False


# --- replay reset -------------------------------------------------------------------------------------


def test_new_marks_for_the_keys_there_are(gate: SealedGate) -> None:
    before = gate.keys()
    gate.does("device", "enrol", gate_row(gate))
    done = gate.does(*RESET)
    after = gate.keys()
    assert after.keys == before.keys and after.incarnation != before.incarnation
    assert gate.starts()
    assert not opens_again(gate, DATE), "what was dated until now is shut out"
    assert opens_again(gate, Date(0, 4_000_000_000 * 10**9)), "the control"
    assert re.search(r"knocks dated until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC are refused", done.stdout)
    assert "devices are others" not in done.stderr
    assert gate_row(gate) in gate.does("device", "list").stdout, "devices are called as they were"


def gate_row(gate: SealedGate) -> str:
    store = gate.store()
    try:
        return store.row(DEVICE).hex()
    finally:
        store.close()


def test_where_nobody_knows_the_time_nothing_is_shut_out(gate: SealedGate) -> None:
    done = gate.does("replay", "reset", "--clock-unknown", "--yes")
    assert "nothing is shut out" in done.stdout
    assert opens_again(gate, DATE)


def test_a_clock_that_nobody_vouches_for(gate: SealedGate, monkeypatch: pytest.MonkeyPatch) -> None:
    before = gate.keys()
    monkeypatch.setattr("knockgate.clock.is_synchronised", lambda: False)
    done = gate.does("replay", "reset", "--yes", status=2)
    assert "and nothing vouches for that" in done.stderr and "--clock-unknown" in done.stderr
    assert gate.keys() == before and not opens_again(gate, DATE)
    monkeypatch.setattr("knockgate.clock.is_synchronised", lambda: True)
    gate.does("replay", "reset", "--yes")
    assert gate.keys() != before and gate.starts()


def test_marks_that_were_lost_are_made_anew(gate: SealedGate) -> None:
    gate.marks_file.unlink()
    assert not gate.starts(), "the control"
    done = gate.does(*RESET)
    assert gate.starts() and not opens_again(gate, DATE)
    assert "to the new ones all devices are others" in done.stderr
    for each in ("-wal", "-shm", "-journal"):
        Path(f"{gate.marks_file}{each}").write_bytes(b"of another life")
    gate.marks_file.write_bytes(b"spoilt" * 1000)
    gate.does(*RESET)
    assert gate.starts()
    assert sorted(each.name for each in gate.marks_file.parent.iterdir()) == ["gate.keys", "marks.sqlite"]


def test_nobody_is_there_to_say_yes(gate: SealedGate) -> None:
    before = gate.keys_file.read_bytes(), gate.marks_file.read_bytes()
    for words in (["replay", "reset", "--clock-right"], ["rekey", "--now"]):
        done = gate.does(*words, status=2)
        assert "there is no terminal to ask on" in done.stderr and "--yes" in done.stderr
    assert (gate.keys_file.read_bytes(), gate.marks_file.read_bytes()) == before


@pytest.mark.parametrize("words", [["replay", "reset"], ["rekey", "--now"]])
def test_somebody_is_asked(words: list[str], gate: SealedGate) -> None:
    before = gate.keys()
    for answer, status in ((b"no\n", 1), (b"\n", 1), (b"yes\n", 0)):
        near, far = pty.openpty()
        argv = command(*words, "--config", gate.config)
        env = environment(PYTHONPATH=str(Path(__file__).parents[3] / "src"))
        with subprocess.Popen(argv, env=env, stdin=far, stdout=far, stderr=far) as process:
            shown = b""
            while b"type yes to go on" not in shown:
                shown += os.read(near, 4096)
            os.write(near, answer)
            assert process.wait(timeout=30) == status, shown
        os.close(far)
        os.close(near)
        assert (gate.keys() == before) is (status == 1)
        assert gate.starts()


# --- while a gate runs --------------------------------------------------------------------------------


@isolated
def test_a_gate_that_runs_keeps_its_marks_and_takes_the_new_key_up(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        words = ["--config", str(here.gate.file)]
        before = (tmp_path / "state" / "gate.keys").read_bytes()
        for each in ([*RESET], ["rekey", "--now", "--yes"]):
            done = knockgate(*each, *words)
            assert done.returncode == 2
            assert "knockgate is running already" in done.stderr and "stop it first" in done.stderr
        assert (tmp_path / "state" / "gate.keys").read_bytes() == before
        here.knock()
        here.until_opened(1)
        done = knockgate("rekey", "-o", str(tmp_path / "new"), *words)
        assert done.returncode == 0, done.stderr
        assert "the gate that runs has read its files again" in done.stderr
        here.knock()  # with the old card
        here.until_opened(1)


# --- killed, and where there is no room ---------------------------------------------------------------


def _prepared(tmp_path: Path) -> Callable[[], Path]:
    """A gate that was killed, the last of its marks in SQLite's log; each time another copy of it."""
    (tmp_path / "alive").mkdir()
    store = used(tmp_path / "alive").store()
    assert isinstance(store.claim(KEY, DEVICE, LATER, Span(), None), Spend)
    shutil.copytree(tmp_path / "alive", tmp_path / "model")
    store.close()
    config = tmp_path / "model" / "gate.toml"
    config.write_text(config.read_text().replace(str(tmp_path / "alive"), str(tmp_path / "model")))
    assert (tmp_path / "model" / "state" / "marks.sqlite-wal").stat().st_size > 0
    number = 0

    def prepared() -> Path:
        nonlocal number
        number += 1
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "model", folder, copy_function=shutil.copy2)
        config = folder / "gate.toml"
        config.write_text(config.read_text().replace(str(tmp_path / "model"), str(folder)))
        return folder

    return prepared


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("words", [RESET, ["rekey", "--now", "--yes"]], ids=["reset", "anew"])
def test_killed_at_any_point_it_starts_with_what_it_had_or_not_at_all(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never does a gate start that has forgotten what it took and whose keys are for what was recorded."""
    prepared = _prepared(tmp_path)
    old = gatekeys.load(tmp_path / "model" / "state" / "gate.keys")

    def course() -> None:
        assert main([*words, "--config", "gate.toml"]) == 0

    states = []
    for point, folder in killed_everywhere(course, prepared):
        gate = SealedGate(folder)
        state = "refuses"
        if gate.starts():
            state = "new" if gate.keys().incarnation != old.incarnation else "old"
            is_old_key = gate.keys().keys[0].xwing == old.keys[0].xwing
            assert not (is_old_key and opens_again(gate, LATER)), point
        states.append((state, point))
        monkeypatch.chdir(folder)
        Path("everybody.card").unlink()
        for card in folder.glob("*.card"):  # of the one that was killed
            card.unlink()
        gate.does(*words)  # once more, and it is done
        assert gate.starts() and gate.keys().incarnation != old.incarnation
        left = {each for each in all_below(folder / "state") if not each.startswith(".marks.sqlite.")}
        assert left == {"gate.keys", "marks.sqlite"}, (point, left)
    order = [state for state, _ in states]
    assert list(dict.fromkeys(order)) == ["old", "refuses", "new"]
    assert order == sorted(order, key=["old", "refuses", "new"].index)
    turn = states[order.index("refuses")][1]
    assert turn.startswith(("after replace", "after unlink")), turn
    assert states[order.index("new")][1].startswith("after rename")


@pytest.mark.parametrize("words", [RESET, ["rekey", "--now", "--yes"]], ids=["reset", "anew"])
def test_what_is_half_done_is_told(
    words: list[str], gate: SealedGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New marks, and then the keys cannot be given their name."""
    rename = os.rename

    def refuses(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "rename", refuses)
    done = gate.does(*words, status=2)
    assert "Input/output error; the gate does not start as it is now" in done.stderr
    assert "do it once more" in done.stderr
    assert not gate.starts()
    assert list((tmp_path / "here").iterdir()) == [], "no card of keys that are none"
    monkeypatch.setattr(os, "rename", rename)
    gate.does(*words)
    assert gate.starts()


@isolated
def test_a_full_disk_leaves_keys_and_marks() -> None:
    own_mounts()
    folder = Path("/var/lib/small")
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "tmpfs", str(folder))
    gate = used(folder)
    before = gate.keys_file.read_bytes(), gate.marks_file.read_bytes()
    for room in (0, 8192):
        run("dd", "if=/dev/zero", f"of={folder / 'spent'}", check=False)
        os.truncate(folder / "spent", (folder / "spent").stat().st_size - room)
        for words in (RESET, ["rekey", "--now", "--yes", "-o", "/run/cards"]):
            done = gate.does(*words, status=2)
            assert "Traceback" not in done.stderr
            assert "No space left" in done.stderr or "full" in done.stderr, done.stderr
            assert (gate.keys_file.read_bytes(), gate.marks_file.read_bytes()) == before
        assert not list(Path("/run/cards").glob("*")), "cards of keys that are none are taken away"
    assert set(all_below(folder / "state")) == {"gate.keys", "marks.sqlite"}
    (folder / "spent").unlink()
    assert gate.starts() and not opens_again(gate, DATE)
    gate.does(*RESET)
    assert gate.starts()
