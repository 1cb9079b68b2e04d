from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.knockgate.cli.gates import SSH, WEB, gate
from tests.knockgate.cli.process import knockgate
from tests.knockgate.cli.promtext import parsed
from tests.knockgate.daemon import sealed_stage
from tests.knockgate.daemon.running import CLIENT
from tests.knockgate.daemon.sealed_stage import device, until_open
from tests.netns import isolated, until


@isolated
def test_a_running_gate(tmp_path: Path) -> None:
    """Knocks that open, that are refused, and a stranger's; then its daemon ends."""
    file = tmp_path / "out" / "knockgate.prom"
    file.parent.mkdir()

    def figures() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        done = knockgate("metrics", "--config", str(running.gate.file), "-o", str(file))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        found = parsed(file.read_text())
        return {
            (name, labels): value for name, each in found.items() for labels, value in each.samples.items()
        }

    opened = "knockgate_openings_total", (("by", "sealed"), ("door", "ssh"))
    refused = "knockgate_refusals_total", (("by", "sealed"), ("reason", "replayed"))
    strange = "knockgate_strangers_total", (("by", "sealed"), ("reason", "not-ours"))
    live = "knockgate_leases", (("door", "ssh"),)
    with sealed_stage.stage(tmp_path) as running:
        before = figures()
        assert before["knockgate_gate_up", ()] == 1
        assert [before[each] for each in (opened, refused, strange, live)] == [0, 0, 0, 0]
        payload = running.knock(device=device())
        until_open(("tcp/22", CLIENT, "packet"))
        running.send(os.urandom(len(payload)))
        running.knock(device=device(), issued=1)
        until(lambda: sum(running.refused().values()) >= 2, "both are refused")
        after = figures()
        assert [after[each] for each in (opened, strange, live)] == [1, 1, 1]
        assert sum(value for (name, _), value in after.items() if name == "knockgate_refusals_total") == 1
        assert after["knockgate_ssh_keys", ()] == 1
        assert after["knockgate_store_bytes", (("store", "marks.sqlite"),)] > 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        assert os.listdir(file.parent) == ["knockgate.prom"]  # noqa: PTH208 - hidden ones as well
        assert CLIENT not in file.read_text() and "jo@laptop" not in file.read_text()
    ended = figures()
    assert ended["knockgate_gate_up", ()] == 0 and opened not in ended
    assert ended["knockgate_guarded", ()] == 1 and ended[live] == 1  # the kernel's table stays


@isolated
def test_without_a_table(tmp_path: Path) -> None:
    done = knockgate("metrics", "--config", gate(tmp_path, SSH, WEB))
    assert done.returncode == 0
    found = parsed(done.stdout)
    assert found["knockgate_gate_up"].samples == found["knockgate_guarded"].samples == {(): 0}
    assert set(found["knockgate_door_guarded"].samples.values()) == {0}


@isolated
def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    config, file = gate(tmp_path, SSH), tmp_path / "knockgate.prom"
    assert knockgate("metrics", "--config", config, "-o", str(file)).returncode == 0  # the control
    before = file.read_text()
    (tmp_path / "gate.toml").write_text("[doors.ssh]\nports = 22\n")
    assert knockgate("metrics", "--config", config, "-o", str(file)).returncode == 2
    assert file.read_text() == before
    gate(tmp_path, SSH)
    done = knockgate("metrics", "--config", config, "-o", str(tmp_path / "missing" / "x.prom"))
    assert done.returncode == 2 and "is its folder there?" in done.stderr
    folder = tmp_path / "folder"
    folder.mkdir()
    assert knockgate("metrics", "--config", config, "-o", str(folder)).returncode == 2
    assert not list(tmp_path.glob(".*.new"))
