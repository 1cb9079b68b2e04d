"""The folder of a gate whose listener is a user of its own: root's commands work in it for that user."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.folders import let_others_in
from tests.knockgate.daemon.sealed_stage import INCARNATION, make_gate

from knockgate.config import devices, gatekeys, private
from knockgate.errors import ConfigError, KnockgateError, Unavailable
from knockgate.store.marks import SqliteMarks
from knockgate.store.networks import KnownNetworks, network_of

LISTENER, STRANGER = 4711, 4712

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs other users"),
]


def read(path: Path, *, gates: bool = True) -> bytes:
    return private.read(path, 100, kind="a file", hints={}, gates=gates)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(0o700)
    os.chown(made, LISTENER, LISTENER)
    return made


def owners(folder: Path) -> dict[str, tuple[int, int]]:
    return {each.name: (each.stat().st_uid, stat.S_IMODE(each.stat().st_mode)) for each in folder.iterdir()}


def as_listener(folder: Path, body: Callable[[], None]) -> None:
    """``body`` in a child that is the listener's user and has no rights."""
    let_others_in(folder.parent)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(LISTENER, LISTENER, LISTENER)
            os.setresuid(LISTENER, LISTENER, LISTENER)
            body()
            status = 0
        except KnockgateError as error:
            print(error)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_root_makes_there_is_the_listeners(folder: Path) -> None:
    make_gate(folder.parent)
    private.replace(folder / "devices", "known 0102030405060708090a0b0c0d0e0f10\n")
    known = KnownNetworks(folder / "known")
    known.opened(network_of(bytes([192, 0, 2, 7])))
    known.save()
    assert owners(folder) == dict.fromkeys(
        ("gate.keys", "marks.sqlite", "devices", "known"), (LISTENER, 0o600)
    )

    def works() -> None:
        gatekeys.load(folder / "gate.keys")
        devices.load(folder / "devices")
        assert KnownNetworks(folder / "known").networks
        store = SqliteMarks(folder / "marks.sqlite", incarnation=INCARNATION, devices=32)
        store.keep_floor(None)
        store.close()

    as_listener(folder, works)
    works()  # as root, too
    SqliteMarks.reset(folder / "marks.sqlite", INCARNATION, low=1)
    as_listener(folder, works)
    assert set(owners(folder).values()) == {(LISTENER, 0o600)}


def test_what_root_makes_in_its_own_folder_is_its_own(tmp_path: Path) -> None:
    make_gate(tmp_path)
    assert set(owners(tmp_path / "state").values()) == {(0, 0o600)}


@pytest.mark.parametrize(("owner", "gates", "is_read"), [
    (LISTENER, True, True), (0, True, True), (STRANGER, True, False),
    (LISTENER, False, False), (0, False, True),
])  # fmt: skip
def test_whose_files_root_reads_there(folder: Path, owner: int, *, gates: bool, is_read: bool) -> None:
    path = folder / "file"
    path.write_bytes(b"x")
    path.chmod(0o600)
    os.chown(path, owner, owner)
    if is_read:
        assert read(path, gates=gates) == b"x"
        return
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        read(path, gates=gates)


def test_a_store_of_a_stranger_is_refused_there(folder: Path) -> None:
    path = folder / "marks.sqlite"
    SqliteMarks.create(path, INCARNATION)
    os.chown(path, STRANGER, STRANGER)
    with pytest.raises(Unavailable, match="must be of mode 0600"):
        SqliteMarks(path, incarnation=INCARNATION, devices=32)
    os.chown(path, LISTENER, LISTENER)  # control
    SqliteMarks(path, incarnation=INCARNATION, devices=32).close()
