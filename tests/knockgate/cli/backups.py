"""Gates that are backed up, lost and made anew, for the tests of both."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.knockgate.cli.process import Done, knockgate
from tests.knockgate.cli.sealed_gates import SealedGate, all_below, has_secret, initialised
from tests.knockgate.store.test_replay_closed import LOW, token

from knockgate.mechanisms.certainty import Span
from knockgate.mechanisms.marks import Spend
from knockgate.model import Claim, Moment
from knockgate.spa.sealed.dates import Date
from knockgate.store.sqlite import SqliteStore

KEY, DEVICE = bytes(32), bytes(range(16))
#: Of a knock that somebody has recorded.
DATE = Date(0, LOW * 10**9)
TO_COME = Date(0, 4_000_000_000 * 10**9)


def full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SealedGate:
    """With both kinds of keys, and a device that is barred. We are in another folder beside it."""
    here, folder = folder / "here", folder / "gate"
    here.mkdir()
    folder.mkdir()
    monkeypatch.chdir(here)
    found = initialised(folder)
    secrets = folder / "alice.secrets"
    assert knockgate("key", "new", "--fwknop", "alice", "--door", "ssh", "-o", str(secrets)).returncode == 0
    with Path(found.config).open("a") as stream:
        stream.write(f'\n[keys.alice]\nfwknop = "{secrets}"\ndoors = ["ssh"]\n')
    store = found.store()
    row = store.row(DEVICE).hex()
    store.close()
    found.does("device", "forget", row, "--name", "stolen")
    return found


def backed_up(gate: SealedGate) -> Path:
    """Made beside it, and then all of the gate is gone; what was is in ``gone``."""
    file = gate.folder.parent / "gate.tar"
    gate.does("backup", str(file))
    lost(gate)
    return file


def lost(gate: SealedGate) -> None:
    gone = gate.folder / "gone"
    gone.mkdir()
    for name in ("gate.toml", "people", "alice.secrets", "state"):
        (gate.folder / name).rename(gone / name)


def restored(file: Path, *words: str, status: int = 0) -> Done:
    done = knockgate("restore", str(file), *(words or ("--clock-right",)))
    assert done.returncode == status, done.stdout + done.stderr
    assert not has_secret(done.stdout + done.stderr)
    return done


def below(gate: SealedGate) -> list[str]:
    """What is there, but for what keeps two gates from running at once."""
    return sorted(each for each in all_below(gate.folder) if each.split("/")[0] != "run")


def takes(gate: SealedGate, date: Date) -> bool:
    store = gate.store()
    try:
        return isinstance(store.claim(KEY, DEVICE, date, Span(), None), Spend)
    finally:
        store.close()


def packets_of(gate: SealedGate) -> SqliteStore:
    return SqliteStore(gate.folder / "state" / "replay.sqlite", fresh=120.0, limit=1000)


def claim(gate: SealedGate, issued: int, at: Moment) -> Claim:
    store = packets_of(gate)
    try:
        return store.claim(token(issued), at)
    finally:
        store.close()
