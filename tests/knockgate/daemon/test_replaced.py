"""Another version was installed while a gate runs: what is imported only then may not fit to what runs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, DAEMON, WEB_KNOCKS, knock, network
from tests.knockgate.daemon.test_packets import Stage
from tests.netns import isolated

#: What reads keys is another one's, as long as there is that file.
_REPLACED = """
import os, sys
class Replaced:
    def find_spec(self, name, *_):
        if name == "knockgate.daemon.bearers" and os.path.exists({there!r}):
            raise ImportError("cannot import name 'it'")
sys.meta_path.insert(0, Replaced())
"""


@isolated
def test_a_reload_that_needs_what_does_not_fit_leaves_all_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "replaced"
    monkeypatch.setattr(running, "_START", _REPLACED.format(there=str(there)) + running._START)
    gate = Stage(tmp_path).gate
    with_keys = gate.file.read_text(encoding="utf-8")
    gate.write(DAEMON)
    with network():
        gate.start()
        there.touch()
        gate.file.write_text(with_keys, encoding="utf-8")
        gate.send(signal.SIGHUP)
        gate.until_said("not reloaded, all stays as it is")
        assert "the keys cannot be looked at: cannot import name 'it'" in gate.log()
        knock(*WEB_KNOCKS)
        gate.until_said(f"open web for {CLIENT}")
        there.unlink()  # control: it was nothing else
        gate.send(signal.SIGHUP)
        gate.until_said("listening for the packets of 2 keys")
        assert gate.end() == 0
