"""``check`` and the gate's own files: each thing that is wrong beside a gate with which nothing is."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.folders import let_others_in
from tests.knockgate.cli.process import as_nobody, knockgate
from tests.knockgate.cli.sealed_gates import SealedGate, initialised

from knockgate.config import gatekeys
from knockgate.config.gatekeys import GateKeys

#: By the clock that an admin looks at, as `check` goes by it.
NOW = dt.datetime.fromtimestamp(int(time.clock_gettime(time.CLOCK_REALTIME)), dt.UTC)
HOME = '[doors.home]\nports = ["tcp/24"]\n[doors.home.sealed]\ndevices = "known"\n'


@pytest.fixture
def gate(tmp_path: Path) -> SealedGate:
    """With which all is well."""
    found = initialised(tmp_path)
    assert warnings(found) == []
    return found


def warnings(gate: SealedGate) -> list[tuple[str, str]]:
    """(message, hint), but for what is said of everybody's rules and of the file of keys."""
    told = json.loads(knockgate("check", "--json", gate.config).stdout)["warnings"]
    return [(each["message"], each["hint"]) for each in told]


def only(gate: SealedGate, *, starts: bool = True) -> tuple[str, str]:
    """The one warning; whether a gate ``starts`` all the same is the exit status."""
    (found,) = warnings(gate)
    done = knockgate("check", gate.config)
    assert done.returncode == (0 if starts else 1), done.stderr
    return found


def in_days(days: float) -> dt.datetime:
    return NOW + dt.timedelta(days=days)


def ending(gate: SealedGate, *, key: dt.datetime | None = None, card: dt.datetime | None = None) -> None:
    keys = gate.keys()
    cards = tuple(dataclasses.replace(each, ends=card) for each in keys.keys[0].cards)
    one = dataclasses.replace(keys.keys[0], ends=key, cards=cards)
    gatekeys.save(gate.keys_file, GateKeys(incarnation=keys.incarnation, keys=(one,)))


def test_nothing_of_it_is_there(gate: SealedGate) -> None:
    marks = gate.marks_file.rename(gate.folder / "marks")
    keys = gate.keys_file.rename(gate.folder / "keys")
    message, hint = only(gate, starts=False)
    assert message.startswith(f"{gate.keys_file} is not there, nor are its marks")
    assert hint == "knockgate init makes it"
    done = knockgate("check", "--strict", gate.config)
    assert done.returncode == 1 and f"knockgate: warning: {message}\n  hint: {hint}\n" in done.stderr
    keys.rename(gate.keys_file)
    message, hint = only(gate, starts=False)
    assert message.startswith(
        f"{gate.marks_file} is not there: the gate cannot know which knocks it has taken"
    )
    assert "replay reset" in hint and "rekey --now" in hint
    marks.rename(gate.marks_file)
    gate.keys_file.unlink()
    message, hint = only(gate, starts=False)
    assert message.startswith(f"{gate.keys_file} is not there, and its marks are") and "rekey --now" in hint


@pytest.mark.parametrize(
    ("spoil", "says", "hint"),
    [
        (lambda gate: gate.keys_file.write_text("incarnation = 1\n"), "must be 32 hex digits", "rekey --now"),
        (lambda gate: gate.keys_file.chmod(0o640), "gate.keys can be read by others; so no", "chmod 600"),
        (lambda gate: gate.marks_file.chmod(0o640), "marks.sqlite must be of mode 0600", "chmod 600"),
        (lambda gate: os.chown(gate.marks_file, 12345, 0), "belong to who runs the gate", "chown root"),
        (lambda gate: gate.keys_file.parent.chmod(0o770), "can be written by others", "chmod go-w"),
    ],
)
def test_files_with_which_no_gate_starts(
    spoil: Callable[[SealedGate], None], says: str, hint: str, gate: SealedGate
) -> None:
    spoil(gate)
    message, told = only(gate, starts=False)
    assert says in message and hint in told


def test_marks_that_are_no_file(gate: SealedGate) -> None:
    gate.marks_file.unlink()
    gate.marks_file.mkdir()
    assert only(gate, starts=False)[0] == f"{gate.marks_file} is no file, so no gate starts"


def test_what_ends(gate: SealedGate) -> None:
    ending(gate, key=in_days(8), card=in_days(8))
    assert warnings(gate) == []
    ending(gate, key=in_days(6.5))
    message, hint = only(gate)
    assert message.startswith(f"the key {gate.keys().keys[0].name} ends in 6d ") and "rekey" in hint
    ending(gate, card=in_days(0.5))
    message, hint = only(gate)
    assert message.startswith("the card everybody ends in 1") and "card new" in hint
    ending(gate, card=in_days(-1))
    (none, new), (message, hint) = warnings(gate)
    assert none.startswith("no card is good") and new == "knockgate card new NAME"
    assert (
        message
        == f"the card everybody has ended, on {in_days(-1):%Y-%m-%d at %H:%M} UTC: nobody knocks with it"
    )
    assert hint == "knockgate card revoke everybody takes it out"
    ending(gate, key=in_days(-1))
    assert only(gate)[0].startswith("no card is good")


def test_an_old_key_beside_a_new_one(gate: SealedGate) -> None:
    gate.does("rekey", "--overlap", "10d", "-o", str(gate.folder / "cards"))
    assert warnings(gate) == []
    keys = gate.keys()
    old = dataclasses.replace(keys.keys[1], ends=in_days(3))
    gatekeys.save(gate.keys_file, dataclasses.replace(keys, keys=(keys.keys[0], old)))
    message, hint = only(gate)
    assert message.startswith(f"the key {old.name} ends in ") and "card show" in hint


def test_the_word_on_devices(gate: SealedGate) -> None:
    text = Path(gate.config).read_text()
    Path(gate.config).write_text(HOME + text.replace('doors = ["ssh"]', 'doors = ["ssh", "home"]'))
    message, hint = only(gate)
    assert message == "it is for known devices alone, and none was enrolled" and "device enrol" in hint
    gate.does("device", "enrol", "0" * 32)
    assert warnings(gate) == []
    (gate.folder / "state" / "devices").write_text(f"known {'0' * 32}\nmine\n")
    message, hint = only(gate, starts=False)
    assert message.endswith("devices:2: is no line of a list of devices; so no gate starts")
    assert hint.startswith("a line is `known` or `barred`")
    (gate.folder / "state" / "devices").unlink()
    message, hint = only(gate, starts=False)
    assert "devices is gone: devices that were barred" in message and hint.startswith(
        "`install -m 600 /dev/null "
    )


def test_a_list_of_devices_that_others_may_read(gate: SealedGate) -> None:
    gate.does("device", "enrol", "0" * 32)
    assert knockgate("check", gate.config).returncode == 0
    (gate.folder / "state" / "devices").chmod(0o644)
    message, hint = only(gate, starts=False)
    assert message.endswith("so no gate starts") and hint.startswith("chmod 600")


def test_marks_are_looked_at_beside_who_uses_them(gate: SealedGate) -> None:
    with contextlib.closing(gate.store()):
        assert warnings(gate) == []
    assert gate.starts()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_without_rights_it_says_what_it_did_not_look_at(gate: SealedGate) -> None:
    let_others_in(gate.folder)
    for mode, says in (
        (0o700, f"{gate.folder}/state: Permission denied"),
        (0o755, "gate.keys cannot be read"),
    ):
        (gate.folder / "state").chmod(mode)
        done = as_nobody("check", gate.config)
        assert done.returncode == 0, done.stderr
        assert "knockgate: the gate's own keys and marks were not looked at: " in done.stderr
        assert says in done.stderr and "hint: run it as root" in done.stderr
        assert "starts" not in done.stderr
