"""What `make fuzz` runs: each target has a corpus, and nothing in it is a mistake; the fuzzer is not needed.

The corpora of packets and SSH keys are held to more in tests/knockgate/spa.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest
from fuzz import MODULES
from fuzz.targets import Mistake
from tests.conftest import REPO
from tests.knockgate.spa.corpus import CORPUS, run_through

from knockgate.capture.links import Way
from knockgate.capture.pcapfile import Captured
from knockgate.cli.loglines import Entry
from knockgate.client.device import _Kept
from knockgate.wire.frames import Datagram

OURS = [name for name, module in MODULES.items() if module in ("fuzz.wire_targets", "fuzz.file_targets")]


def targets_of(name: str) -> Mapping[str, Callable[[bytes], None]]:
    found: Mapping[str, Callable[[bytes], None]] = importlib.import_module(MODULES[name]).TARGETS
    return found


@pytest.mark.parametrize("name", OURS)
def test_nothing_of_it_is_a_mistake(name: str) -> None:
    run_through(targets_of(name), name, least=5)


def test_each_target_has_a_name_and_a_corpus() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == MODULES.keys()
    for module in set(MODULES.values()):
        named = {name for name, other in MODULES.items() if other == module}
        assert importlib.import_module(module).TARGETS.keys() == named


def test_the_names_are_told_without_the_fuzzer() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fuzz"], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == list(MODULES)


#: What is put in the place of something, so that it is wrong.
CONTROLS: dict[str, tuple[str, object]] = {
    "frame": ("wire_targets.frames.datagram", lambda _: Datagram(b"", b"", b"another")),
    "filter": ("wire_targets.bpf.evaluate", lambda *_: 0),
    "report": ("wire_targets.nflog.ends", lambda _: (b"", 0)),
    "link": ("wire_targets.wardenlink.Request.encode", lambda _: b""),
    "capture": ("wire_targets.pcapfile.read", lambda *_: iter([Captured(2, 0, b"", 0, Way.UNKNOWN)])),
    "gate": ("file_targets._gate", lambda text: text),
    "gatekeys": ("file_targets.gatekeysfile.parse", lambda text, *_: text),
    "secrets": ("file_targets.secrets.parse", lambda text, *_: text),
    "profiles": ("file_targets.profilesfile.parse", lambda text, _: text),
    "devices": ("file_targets.devicesfile.forgotten", lambda text, _: text),
    "device": ("file_targets.devicefile._parsed", lambda _: _Kept(b"", {})),
    "line": ("file_targets.loglines.of_line", lambda _: Entry("another")),
}


@pytest.mark.parametrize("name", OURS)
def test_a_mistake_would_be_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, instead = CONTROLS[name]
    monkeypatch.setattr(f"fuzz.{place}", instead)
    with pytest.raises(Mistake):
        run_through(targets_of(name), name, least=5)
