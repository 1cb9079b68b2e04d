"""What each process of a running gate has imported: most of a start, and of its memory, is imports."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, DAEMON, WEB_KNOCKS, Gate, knock, network
from tests.knockgate.daemon.sealed_stage import OPENED, Stage
from tests.netns import isolated, until

#: Of the standard library, what none of them needs to start, to guard or to hear: each is milliseconds.
NEEDLESS = {
    "argparse",
    "asyncio",
    "bz2",
    "calendar",
    "concurrent",
    "difflib",
    "email",
    "http",
    "locale",
    "logging",
    "multiprocessing",
    "pydoc",
    "random",
    "shlex",
    "shutil",
    "tempfile",
    "textwrap",
    "threading",
    "uuid",
    "xml",
    "zipfile",
}
#: But that library, and subprocess, import these.
OF_CRYPTOGRAPHY, OF_SUBPROCESS = {"random", "threading"}, {"locale", "threading"}
#: Of ours, what only some gates need.
KEYS = {"config.keys", "config.keyfiles", "config.gatekeys", "config.secrets", "mechanisms.sealed", "spa"}
#: Each half writes down what it has imported when it may begin, and when it ends.
SPY = """
import atexit, os, sys
from knockgate.daemon import halves

def imported(path):
    with open(path, "w") as file:
        file.write(" ".join(sys.modules))

plain = halves._command
def spied(name, needs, waiting):
    *first, code = plain(name, needs, waiting)
    tell = f"lambda when: open({folder!r} + '/{{name}}.' + when, 'w').write(' '.join(sys.modules))"
    spy = f"tell = {{tell}}; tell('start'); __import__('atexit').register(tell, 'end')"
    assert code.count("os.read(") == 1
    return [*first, code.replace("os.read(", f"{{spy}}; os.read(")]

halves._command = spied
atexit.register(imported, {folder!r} + "/supervisor.end")
"""


def modules(folder: Path, name: str, when: str = "end") -> set[str]:
    """Ours without ``knockgate.``, and the others; of packages within packages each."""
    found = set((folder / f"{name}.{when}").read_text().split())
    return {each.removeprefix("knockgate.") for each in found} | {each.partition(".")[0] for each in found}


def spy_on(gate_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_START", SPY.format(folder=str(gate_folder)) + running._START)


@isolated
def test_a_gate_with_sequences_loads_no_keys_and_no_cryptography(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy_on(tmp_path, monkeypatch)
    gate = Gate(tmp_path, DAEMON)
    with network():
        gate.start()
        knock(*WEB_KNOCKS)
        gate.until_said(f"open web for {CLIENT}")
        assert gate.end() == 0
    listener, warden = modules(tmp_path, "listener"), modules(tmp_path, "warden")
    supervisor = modules(tmp_path, "supervisor")
    assert {"daemon.grants", "engine", "mechanisms.sequence"} <= listener  # control
    assert {"firewall.nftables", "daemon.guard"} <= warden and "daemon.halves" in supervisor  # control
    for each in (listener, warden, supervisor - OF_SUBPROCESS):
        assert each & (NEEDLESS | KEYS | {"cryptography", "click", "sqlite3"}) == set()
    assert listener & {"subprocess", "firewall.ruleset", "firewall.nftables", "daemon.asked"} == set()
    assert warden & {"subprocess", "effects", "mechanisms.sequence", "site", "wire"} == set()
    assert supervisor & {"effects", "firewall", "wire"} == set()
    assert_ready_beforehand(tmp_path)


@isolated
def test_a_gate_with_sealed_knocks_loads_nothing_of_the_other_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy_on(tmp_path, monkeypatch)
    stage = Stage(tmp_path)
    with network():
        stage.gate.start()
        stage.knock()
        until(lambda: OPENED in running.leases(), "it opens")
        assert stage.gate.end() == 0
    listener, warden = modules(tmp_path, "listener"), modules(tmp_path, "warden")
    assert {"cryptography", "daemon.sealed", "mechanisms.sealed", "sqlite3"} <= listener  # control
    assert (
        listener
        & (NEEDLESS - OF_CRYPTOGRAPHY | {"click", "subprocess", "firewall.ruleset", "firewall.nftables"})
        == set()
    )
    assert listener & {"daemon.grants", "engine", "mechanisms.sequence", "daemon.packets"} == set()
    assert listener & {"mechanisms.packet", "cryptography.hazmat.primitives.serialization"} == set()
    assert warden & (NEEDLESS | KEYS | {"cryptography", "effects", "sqlite3"}) == set()
    assert_ready_beforehand(tmp_path)


def assert_ready_beforehand(folder: Path) -> None:
    """What a half imports of ours it has imported before it was let go, beside the other one."""
    for name in ("listener", "warden"):
        start = set((folder / f"{name}.start").read_text().split())
        later = set((folder / f"{name}.end").read_text().split()) - start
        assert {each for each in later if each.partition(".")[0] == "knockgate"} == set()
