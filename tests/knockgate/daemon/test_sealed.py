"""A running gate and sealed knocks: sniffed, opened, claimed; each refusal beside a knock that opens."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
from pathlib import Path
from typing import Any

from tests.knockgate.daemon.running import CLIENT, CLIENT6, OTHER, all_leases, leases
from tests.knockgate.daemon.sealed_stage import DEVICE, OPENED, device, message, now, stage, until_open
from tests.knockgate.spa import sealed_messages as messages
from tests.knockgate.spa import sealed_signers as signers
from tests.netns import isolated, until

from knockgate.spa.sealed import GateKey, KeyKind, SourceKind, Suite, device_row, seal
from knockgate.store.marks import SqliteMarks

_HOUR = 3600 * 10**9


@isolated
def test_a_knock_opens(tmp_path: Path) -> None:
    """Both suites and all kinds of keys, IPv4 and IPv6, the door's lease or what was asked for."""
    lines = [f"{signers.line(kind)} {kind}@laptop" for kind in (1, 2, 3, 4)]
    with stage(tmp_path, *lines) as gate:
        assert leases() == set()
        gate.knock()
        until_open(OPENED)
        (lease,) = all_leases()
        assert lease.lasts == 30 and 25 < lease.left <= 30
        gate.knock(lease=9999, suite=Suite.X25519)
        until(lambda: all_leases()[0].lasts == 600, "as long as the door allows")
        stated6 = {"source": SourceKind.V6, "address": socket.inet_pton(socket.AF_INET6, CLIENT6)}
        for number, kind in enumerate(KeyKind):
            gate.send(seal(message(kind, doors=("ssh", "web"), **stated6), messages.CARD))
            gate.until_opened(3 + number)
        until_open(("tcp/22", CLIENT6, "packet"), ("tcp/80", CLIENT6, "packet"))
        gate.send(seal(message(source=SourceKind.OBSERVED, address=b""), messages.CARD), source=OTHER)
        until_open(("tcp/22", OTHER, "packet"))
        assert gate.refused() == {} and gate.opened() == 7
        gate.gate.until_said(f"open ssh for {CLIENT} (packet of people/1@laptop SHA256:")
        told: Any = gate.explained()
        newest = told["knocks"][0]
        assert newest["result"] == "opened" and newest["leases"] == {"ssh": 30.0}
        assert newest["source"] == OTHER and not newest["stated"] and abs(newest["skew"]) < 5
        assert [each["row"] for each in told["devices"]] == [newest["device"]] * 4


@isolated
def test_a_replayed_knock_opens_nothing(tmp_path: Path) -> None:
    """At once, from another address, after a restart, after `kill -9` of all halves."""
    with stage(tmp_path) as gate:
        knock = gate.knock()
        until_open(OPENED)
        gate.send(knock)
        gate.until_refused("duplicate")
        gate.send(knock, source=OTHER)
        gate.until_refused("duplicate", 2)
        gate.knock(issued=now() - 10**9)  # an older one of the same device, never sent
        gate.until_refused("replayed")
        for number in (signal.SIGTERM, signal.SIGKILL):
            gate.gate.end(number)
            gate.gate.start()
            gate.send(knock)
            gate.until_refused("replayed")
            assert gate.opened() == 0
            gate.knock()
            gate.until_opened(1)


@isolated
def test_what_is_not_ours_is_refused_for_its_reason(tmp_path: Path) -> None:
    """Each beside the control at the end: a knock that opens."""
    with stage(tmp_path) as gate:
        right = seal(message(), messages.CARD, Suite.X25519)
        gate.send(right[:-1] + bytes([right[-1] ^ 1]))
        gate.until_refused("not-ours")
        gate.knock(KeyKind.ECDSA_P256)
        gate.until_refused("unknown-key")
        gate.knock(by=GateKey(xwing_seed=b"o" * 32, x25519_key=b"p" * 32))
        gate.until_refused("bad-signature")
        gate.knock(issued=now() + _HOUR)
        gate.until_refused("ahead")
        gate.knock(issued=now() - _HOUR, device=device())
        gate.until_refused("stale")
        gate.knock(doors=("cellar",))
        gate.until_refused("door-denied")
        assert leases() == set()
        gate.send(right)
        gate.until_refused("replayed")  # the one above is newer
        assert leases() == set()
        gate.knock()
        until_open(OPENED)
        strangers = {each["reason"]: each for each in gate.explained()["strangers"]}  # type: ignore[attr-defined]
        assert strangers["unknown-key"]["claims"]["fingerprint"].startswith("SHA256:")
        assert "bad-signature" not in gate.gate.log() and "unknown-key" not in gate.gate.log()
        gate.gate.until_said("is refused: stale")


@isolated
def test_a_key_that_is_taken_out_opens_nothing_from_then_on(tmp_path: Path) -> None:
    """And one that is put in does; nobody has to reload anything."""
    with stage(tmp_path) as gate:
        gate.knock()
        gate.until_opened(1)
        gate.write_keys(signers.line(signers.ECDSA))
        gate.knock()
        gate.until_refused("unknown-key")
        gate.knock(KeyKind.ECDSA_P256)
        gate.until_opened(2)
        gate.write_keys("nonsense", f'from="192.0.2.0/24" {signers.line(signers.ED25519)}')
        gate.knock()
        gate.until_refused("source-denied")
        gate.gate.until_said("authorized_keys:1: ")
        gate.write_keys(f'expiry-time="20200101Z" {signers.line(signers.ED25519)}')
        gate.knock()
        gate.until_refused("key-expired")
        gate.write_keys(f'doors="web" {signers.line(signers.ED25519)}')
        gate.knock()
        gate.until_refused("door-denied")
        gate.knock(doors=("web",))
        gate.until_opened(3)


@isolated
def test_what_is_told_of_flaws_is_bounded(tmp_path: Path) -> None:
    """Who writes the file may write nonsense on all its lines; knocks wait while somebody is told."""
    with stage(tmp_path) as gate:
        gate.write_keys(*["nonsense"] * 4000, signers.line(signers.ED25519))
        gate.knock()
        gate.until_opened(1)
        told: Any = gate.explained()
        (file,) = told["files"]
        assert [flaw["line"] for flaw in file["flaws"]] == list(range(1, 21))
        assert file["flaws_left_out"] == 3980
        gate.write_keys("nonsense", signers.line(signers.ED25519))
        gate.knock()
        gate.until_opened(2)
        told = gate.explained()
        assert (len(told["files"][0]["flaws"]), told["files"][0]["flaws_left_out"]) == (1, 0)


@isolated
def test_a_gate_without_a_clock_takes_a_wrong_one_and_still_no_replay(tmp_path: Path) -> None:
    """Blind: an hour off opens; the repaired clock opens; what was sent before does not."""
    with stage(tmp_path, clock="unknown") as gate:
        first = gate.knock(issued=now() - _HOUR)
        gate.until_opened(1)
        repaired = gate.knock()
        gate.until_opened(2)
        ahead = gate.knock(issued=now() + _HOUR)
        gate.until_opened(3)
        gate.knock(era=1)  # that clock repaired: a new era
        gate.until_opened(4)
        gate.gate.end(signal.SIGKILL)
        gate.gate.start()
        for number, old in enumerate((first, repaired, ahead), 1):
            gate.send(old)
            gate.until_refused("replayed", number)
        assert gate.opened() == 0
        assert gate.gate.status()["sealed"]["clock"]["state"] == "blind"
        gate.send(seal(message(source=SourceKind.OBSERVED, address=b"", era=1), messages.CARD))
        gate.until_refused("unstated-source")
        gate.knock(era=1)
        gate.until_opened(1)


@isolated
def test_a_gate_that_knew_the_time_knows_at_the_next_start_how_late_it_is_at_least(tmp_path: Path) -> None:
    with stage(tmp_path) as gate:
        gate.knock()
        gate.until_opened(1)
        gate.gate.end()
        gate.gate.write(gate.text, gate='clock = "unknown"\n')
        gate.gate.start()
        assert gate.gate.status()["sealed"]["clock"]["state"] == "floored"
        gate.knock(issued=now() - _HOUR, device=device())
        gate.until_refused("stale")
        gate.knock(issued=now() + _HOUR, device=device())
        gate.until_opened(1)


@isolated
def test_a_gate_does_not_start_without_its_marks(tmp_path: Path) -> None:
    with stage(tmp_path) as gate:
        gate.knock()
        gate.until_opened(1)
        assert gate.gate.end() == 0
        for path in gate.state.glob("marks.sqlite*"):
            path.rename(path.with_name(f"kept-{path.name}"))
        status, said = gate.gate.cannot_start()
        assert (
            status != 0 and "marks.sqlite" in gate.gate.log() and not (gate.state / "marks.sqlite").exists()
        )
        assert said
        for path in gate.state.glob("kept-*"):
            path.rename(path.with_name(path.name.removeprefix("kept-")))
        gate.gate.start()
        gate.knock()
        gate.until_opened(1)


@isolated
def test_a_gate_does_not_start_where_the_word_on_devices_is_lost(tmp_path: Path) -> None:
    """Also where somebody has written it by hand; and it does with an empty one."""
    with stage(tmp_path) as gate:
        gate.knock()
        gate.until_opened(1)  # control: there never was one
        assert gate.gate.end() == 0
        said = gate.state / "devices"
        row = device_row(SqliteMarks.peek_salt(gate.state / "marks.sqlite"), DEVICE)
        said.write_text(f"barred {row.hex()}\n")
        said.chmod(0o600)
        gate.gate.start()
        gate.knock()
        gate.until_refused("unknown-device")
        assert gate.gate.end() == 0
        said.unlink()
        assert gate.gate.cannot_start()[0] != 0
        assert f"{said} is gone: devices that were barred in it would come in again" in gate.gate.log()
        said.touch(0o600)
        gate.gate.start()


@isolated
def test_marks_that_cannot_be_read_end_nothing(tmp_path: Path) -> None:
    """Who asks is told what can be told, and the listener goes on with its other doors."""
    with stage(tmp_path) as gate:
        gate.gate.end()
        with contextlib.closing(sqlite3.connect(gate.state / "marks.sqlite")) as base, base:
            rows = ((number.to_bytes(32), bytes(16), 0, 1) for number in range(60_000))  # more than is cached
            base.executemany("INSERT INTO marks VALUES (?, ?, ?, ?)", rows)
        gate.gate.start()
        assert gate.explained()["devices_left_out"] == 50_000
        before = gate.gate.status()["pid"]
        with (gate.state / "marks.sqlite").open("r+b") as spoilt:
            spoilt.write(b"spoilt" * 1_000_000)
        told: Any = gate.explained()
        assert told["devices"] == [] and told["knocks"] == []
        gate.gate.until_said("devices cannot be told of: ")
        assert gate.gate.status()["pid"] == before
