"""What ``explain`` makes of a document, whatever is in it."""

from __future__ import annotations

import contextlib
import selectors
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.knockgate.cli.gates import gate as gate_file
from tests.knockgate.cli.process import Done, knockgate
from tests.knockgate.daemon.sealed_stage import stage
from tests.knockgate.spa import sealed_signers as signers
from tests.netns import isolated

from knockgate.daemon.control import EXPLAIN_SOCKET
from knockgate.daemon.status import DocumentSocket
from knockgate.spa.sealed import KeyKind

PRINT = "SHA256:WYVlk+8XVFukHEjKChPLOLAwJwj7UteXH9EvSwtKkww"

KNOCK: dict[str, Any] = {
    "seconds_ago": 3.2,
    "result": "opened",
    "reason": None,
    "step": None,
    "why": None,
    "hint": None,
    "leases": {"ssh": 30.0},
    "key": f"people/jo@laptop {PRINT[:17]}",
    "fingerprint": PRINT,
    "card": "everybody",
    "suite": "xwing",
    "device": "01" * 16,
    "standing": "known",
    "doors": ["ssh"],
    "source": "192.0.2.7",
    "stated": True,
    "sender": "192.0.2.7",
    "lease": None,
    "era": 0,
    "issued": 1795391937.2,
    "skew": 0.041,
}
STRANGER: dict[str, Any] = {
    "reason": "unknown-key",
    "why": "it is none",
    "hint": None,
    "count": 3,
    "relayed": 0,
    "seconds_ago": 12.0,
    "sender": "198.51.100.7",
    "claims": {key: KNOCK[key] for key in list(KNOCK)[list(KNOCK).index("key") :]} | {"key": None},
}
FILE = {"keys_of": "people", "file": "/etc/keys", "keys": 1, "flaws": [], "flaws_left_out": 0}
DOCUMENT: dict[str, Any] = {
    "format": 1,
    "since": 3600.0,
    "port": "udp/62202",
    "clock": {"state": "sure", "vouched": True, "not_before": 1795391880.0},
    "files": [FILE],
    "knocks": [KNOCK],
    "strangers": [STRANGER],
    "devices": [],
    "devices_left_out": 0,
}


@contextlib.contextmanager
def _telling(folder: Path, document: dict[str, Any]) -> Iterator[str]:
    """The listener's own socket, with this document; the gate.toml."""
    file = gate_file(folder, '[doors.ssh]\nports = ["tcp/22"]\n')
    (folder / "run").mkdir()
    ending = threading.Event()
    with selectors.DefaultSelector() as selector:
        served = DocumentSocket(str(folder / "run"), EXPLAIN_SOCKET, selector, lambda: document)

        def serve() -> None:
            while not ending.is_set():
                for key, _ in selector.select(0.02):
                    key.data()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield file
        finally:
            ending.set()
            thread.join()
            served.close()


def _told(folder: Path, *words: str, **changes: Any) -> Done:  # noqa: ANN401 - parts of a document
    with _telling(folder, DOCUMENT | changes) as file:
        return knockgate("explain", "--config", file, *words)


@isolated
def test_a_made_document_is_like_a_real_one(tmp_path: Path) -> None:
    with stage(tmp_path) as gate:
        gate.knock()
        gate.until_opened(1)
        gate.knock(KeyKind.ECDSA_P256)
        gate.until_refused("unknown-key")
        gate.write_keys("nonsense", signers.line(signers.ED25519))
        gate.knock()
        gate.until_opened(2)
        real: Any = gate.explained()
    assert real.keys() == DOCUMENT.keys() and real["clock"].keys() == DOCUMENT["clock"].keys()
    assert real["knocks"][0].keys() == KNOCK.keys()
    assert real["strangers"][0].keys() == STRANGER.keys()
    assert real["strangers"][0]["claims"].keys() == STRANGER["claims"].keys()
    assert real["files"][0].keys() == FILE.keys()
    assert real["files"][0]["flaws"][0].keys() == _FLAW.keys()


_FLAW = {"line": 7, "message": "is no key", "hint": None}
_ESCAPES = "\x1b]0;gone\x07\x9b2J\r\n\u202e\u2028\ud800"
_HEX = ("fingerprint", "device", "row")  # of these any other letter makes it no document


def test_nothing_of_it_can_move_a_terminal(tmp_path: Path) -> None:
    """Not even texts that the gate would never let come so far."""

    def poisoned(value: Any) -> Any:  # noqa: ANN401 - of a document
        match value:
            case dict():
                return {key: each if key in _HEX else poisoned(each) for key, each in value.items()}
            case list():
                return [poisoned(each) for each in value]
            case str() if value not in ("opened", "refused", "sure"):
                return value + _ESCAPES
        return value

    knocks = [
        KNOCK,
        KNOCK | {"result": "refused", "reason": "stale", "step": 13, "why": "old", "hint": "wait"},
    ]
    document = DOCUMENT | {"knocks": knocks, "files": [FILE | {"flaws": [_FLAW | {"hint": "mend it"}]}]}
    done = _told(tmp_path, **poisoned(document))
    assert done.returncode == 0, done.stderr
    assert "\\x1b]0;gone\\x07\\x9b2J\\r\\n\\u202e\\u2028\\ud800" in done.stdout  # the control
    assert all(each == "\n" or each.isprintable() for each in done.stdout)
    # And no line of theirs looks like one of ours.
    assert len(done.stdout.splitlines()) == len(_lines_of(tmp_path / "p", document))


def _lines_of(folder: Path, document: dict[str, Any]) -> list[str]:
    folder.mkdir()
    return _told(folder, **document).stdout.splitlines()


@pytest.mark.parametrize(
    ("clock", "words"),
    [
        ({"state": "sure", "vouched": True}, "the gate is sure of the time"),
        ({"state": "sure", "vouched": False}, "CLOCK: the kernel does not vouch for it any more"),
        (
            {"state": "floored", "vouched": False},
            "the gate knows only that it is 2026-11-22 23:18 UTC or",
        ),
        ({"state": "blind", "vouched": False, "not_before": None}, "does not know how late it is"),
    ],
)
def test_what_the_gate_knows_of_the_time(tmp_path: Path, clock: dict[str, Any], words: str) -> None:
    done = _told(tmp_path, clock={"not_before": 1795389480.0} | clock)
    assert words in done.stdout.splitlines()[-1]


def test_a_door_that_the_firewall_did_not_open(tmp_path: Path) -> None:
    done = _told(tmp_path, knocks=[KNOCK | {"result": "not opened", "leases": {}}])
    assert ": NOT OPENED\n  why:     the firewall has refused; the log says why\n" in done.stdout


@pytest.mark.parametrize(("skew", "words"), [(-75.0, "1m 15s ahead of ours"), (2.5, "2.5s behind ours")])
def test_how_far_a_clock_is_off(tmp_path: Path, skew: float, words: str) -> None:
    done = _told(tmp_path, knocks=[KNOCK | {"skew": skew, "era": 2}])
    assert f"by its own, which was set back 2 times, {words}\n" in done.stdout


def test_many_flaws_do_not_hide_the_rest(tmp_path: Path) -> None:
    flaws = [_FLAW | {"line": number} for number in range(1, 12)]
    lines = _told(tmp_path, files=[FILE | {"flaws": flaws}] * 2).stdout.splitlines()
    assert lines[-6:-1] == [f"NOT TAKEN: /etc/keys:{number}: is no key" for number in range(1, 6)]
    assert lines[-1] == "NOT TAKEN: 6 more lines; `knockgate check` tells which"
    some = FILE | {"flaws": flaws[:2], "flaws_left_out": 70}
    (tmp_path / "a").mkdir()
    lines = _told(tmp_path / "a", files=[some, some]).stdout.splitlines()
    assert lines[-1] == "NOT TAKEN: 70 more lines; `knockgate check` tells which"


def test_a_gate_that_hears_no_sealed_knocks(tmp_path: Path) -> None:
    with _telling(tmp_path, {"format": 1}) as file:
        done = knockgate("explain", "--config", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "knockgate: the gate that runs hears no sealed knocks\n  hint: `ssh` in a [keys.NAME]"
    )


@pytest.mark.parametrize("words", [("--last", "x"), ("--last", "-1")])
def test_a_number_that_is_none(words: tuple[str, ...]) -> None:
    assert knockgate("explain", *words).returncode == 2


def test_devices_are_completed(tmp_path: Path) -> None:
    from knockgate.cli.explain import explain  # noqa: PLC0415

    with _telling(tmp_path, DOCUMENT) as file:
        ctx = explain.make_context("explain", ["--config", file])
        (option,) = (each for each in explain.params if each.name == "device")
        for start, found in (("0", ["01" * 16]), ("f", [])):
            assert [each.value for each in option.shell_complete(ctx, start)] == found
