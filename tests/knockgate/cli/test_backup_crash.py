"""``knockgate backup`` and ``restore``, killed around each thing that they do to the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.knockgate.cli.backups import DATE, backed_up, below, claim, full, takes
from tests.knockgate.cli.process import knockgate
from tests.knockgate.cli.sealed_gates import SealedGate
from tests.knockgate.killing import killed_everywhere
from tests.knockgate.store.test_replay_closed import moment

from knockgate.cli import main
from knockgate.cli.gatefiles import now
from knockgate.model import Claim


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SealedGate:
    return full(tmp_path, monkeypatch)


# --- killed, and where there is no room ---------------------------------------------------------------


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("has_config", [False, True], ids=["all", "gate.toml is there"])
def test_killed_at_any_point_it_takes_nothing_of_before(has_config: bool, gate: SealedGate) -> None:
    """There is no gate.toml, or no gate starts, or it is the whole gate."""
    file = backed_up(gate)
    text, number = (gate.folder / "gone" / "gate.toml").read_bytes(), 0

    def prepared() -> Path:
        nonlocal number
        for name in ("gate.toml", "people", "alice.secrets"):
            (gate.folder / name).unlink(missing_ok=True)
        shutil.rmtree(gate.folder / "state", ignore_errors=True)
        if has_config:
            Path(gate.config).write_bytes(text)
        number += 1
        folder = gate.folder.parent / str(number)
        folder.mkdir()
        return folder

    def course() -> None:
        assert main(["restore", str(file), "--clock-right"]) == 0

    states = []
    for point, _ in killed_everywhere(course, prepared):
        opens_fwknop = (gate.folder / "alice.secrets").exists()
        opens_sealed = gate.keys_file.exists() and gate.starts()
        whole = opens_fwknop and opens_sealed and Path(gate.config).exists()
        if Path(gate.config).exists():
            assert has_config or whole, point
            if opens_fwknop:
                issued = int(now().timestamp()) - 100
                assert claim(gate, issued, moment(issued + 100)) is Claim.FORGOTTEN, point
            if opens_sealed:
                assert not takes(gate, DATE), point
        states.append((point, whole))
    assert states[-1] == ("done", True)
    assert not states[0][1] and len(states) > 40


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_backup_is_whole_or_not_there(gate: SealedGate) -> None:
    number = 0

    def prepared() -> Path:
        nonlocal number
        number += 1
        folder = gate.folder.parent / str(number)
        folder.mkdir()
        return folder

    def course() -> None:
        assert main(["backup", "gate.tar", "--config", gate.config]) == 0

    found = []
    for point, folder in killed_everywhere(course, prepared):
        there = (folder / "gate.tar").exists()
        if there:
            knockgate_says = knockgate("restore", str(folder / "gate.tar"), "--dry-run", "--clock-right")
            assert "is no backup" not in knockgate_says.stderr, point
        found.append((point, there))
    assert found[-1] == ("done", True) and not found[0][1]


def test_where_there_is_no_room_nothing_is_left(gate: SealedGate, monkeypatch: pytest.MonkeyPatch) -> None:
    file = backed_up(gate)
    before = below(gate)
    link, calls = os.link, []

    def fails_at(last: int) -> Callable[..., None]:
        def instead(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as the call itself
            calls.append(args)
            if len(calls) == last:
                raise OSError(28, "No space left on device")
            link(*args, **kwargs)

        return instead

    for last in range(1, 20):
        calls.clear()
        monkeypatch.setattr(os, "link", fails_at(last))
        done = knockgate("restore", str(file), "--clock-right")
        if done.returncode == 0:
            break
        assert done.returncode == 2 and "No space left on device" in done.stderr
        assert below(gate) == before
    assert last == 9 and gate.starts(), "each of the files and stores was the one"
