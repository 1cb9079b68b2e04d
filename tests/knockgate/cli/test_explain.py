"""``explain`` on a gate that runs, with ``status`` beside it."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

from tests.knockgate.cli.gates import gate as gate_file
from tests.knockgate.cli.process import knockgate
from tests.knockgate.daemon.running import CLIENT, OTHER
from tests.knockgate.daemon.sealed_stage import DOORS, Stage, device, message, now, stage
from tests.knockgate.spa import sealed_messages as messages
from tests.knockgate.spa import sealed_signers as signers
from tests.netns import isolated, until

from knockgate.errors import Unavailable
from knockgate.spa.sealed import KeyKind, SourceKind, Suite, seal

_HOUR = 3600 * 10**9
#: Of jo's key, as ssh-keygen shows it.
PRINT = "SHA256:WYVlk+8XVFukHEjKChPLOLAwJwj7UteXH9EvSwtKkww"


def _explain(gate: Stage, *words: str) -> str:
    done = knockgate("explain", "--config", str(gate.gate.file), *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _status(gate: Stage) -> str:
    done = knockgate("status", str(gate.gate.file))
    assert done.returncode == 0, done.stderr
    return done.stdout


def _paragraphs(text: str) -> list[str]:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, (just now|\d+s ago)", "NOW", text).split("\n\n")


# --- a gate that runs ---------------------------------------------------------------------------------


@isolated
def test_each_knock_is_told(tmp_path: Path) -> None:
    with stage(tmp_path) as gate:
        gate.knock(lease=60)
        gate.until_opened(1)
        gate.knock(issued=now() - 2 * _HOUR, device=device(), suite=Suite.X25519)
        gate.until_refused("stale")
        observed = message(doors=("cellar",), source=SourceKind.OBSERVED, address=b"")
        gate.send(seal(observed, messages.CARD), source=OTHER)
        gate.until_refused("door-denied")
        opened, stale, denied, clock = _paragraphs(_explain(gate))
        row = re.findall(r"device:  ([0-9a-f]{32}) ", opened)
        assert re.sub(r"clock:   \S+ \S+ UTC by its own", "clock:   THEN", opened).splitlines() == [
            "NOW: opened ssh for 1m",
            f"  asked:   ssh for {CLIENT}, stated, for 1m",
            f"  key:     people/jo@laptop {PRINT}",
            f"  device:  {row[0]} (neither known nor barred)",
            f"  packet:  from {CLIENT}, card everybody, x-wing",
            "  clock:   THEN, the same as ours",
        ]
        assert stale.startswith(
            "NOW: REFUSED at step 13\n  why:     stale: it is too old; its clock is 2h behind ours\n"
        )
        assert "\n  hint:    compare both clocks" in stale and "card everybody, x25519" in stale
        assert "2h behind ours" in stale.splitlines()[-1] and row[0] not in stale
        assert (
            "  why:     door-denied: " in denied and f"  asked:   cellar for {OTHER}, who sent it\n" in denied
        )
        assert clock == "the gate is sure of the time\n"
        why = "stale: it is too old; its clock is 2h behind ours"
        gate.gate.until_said(f"is refused: {why} (from {CLIENT}); compare both clocks: ")
        # Filters, and how many.
        assert _paragraphs(_explain(gate, "--last", "1"))[0] == denied
        assert (
            len(_paragraphs(_explain(gate, "--key", PRINT[:20])))
            == len(_paragraphs(_explain(gate, "--key", "JO@")))
            == 4
        )
        assert _paragraphs(_explain(gate, "--device", row[0][:8].upper()))[:2] == [opened, denied]
        assert _explain(gate, "--key", "alice").startswith(
            "no knock of that kind was heard since the gate began ("
        )
        # For programs: the document itself, the newest first.
        found = json.loads(_explain(gate, "--json", "--last", "2"))
        assert [each["reason"] for each in found["knocks"]] == ["door-denied", "stale"]
        assert found.keys() == gate.explained().keys()
        status = _status(gate)
        assert "\nsealed knocks of 1 ssh key: 1 opened; refused: 1 door-denied, 1 stale\n" in status
        assert "`knockgate explain` says why" in status and "CLOCK" not in status
        told = json.loads(knockgate("status", "--json", str(gate.gate.file)).stdout)["daemon"]["sealed"]
        assert (told["opened"], told["keys"], told["refused"]) == (1, 1, {"stale": 1, "door-denied": 1})
        assert told["clock"]["state"] == "sure" and told["clock"]["vouched"]


@isolated
def test_strangers_are_told_by_number(tmp_path: Path) -> None:
    """With a file in which something is wrong, and none that came in."""
    with stage(tmp_path) as gate:
        told = _explain(gate)
        assert told.startswith("no knock of anybody who has a key here was heard since")
        how = told[told.index("for a knock to get here:") :]
        assert (
            "  it goes to udp/62202 of this host: one datagram of 1,333 bytes, or of 245 with --small\n"
            in how
        )
        assert "`tcpdump -ni any udp port 62202`" in how and f"in a file of keys: {gate.keys}\n" in how
        assert "from strangers" not in told and "NOT TAKEN" not in told
        gate.write_keys("nonsense", signers.line(signers.ED25519))
        right = seal(message(), messages.CARD, Suite.X25519)
        gate.send(right[:-1] + bytes([right[-1] ^ 1]), source=OTHER)
        gate.until_refused("not-ours")
        unknown = gate.knock(KeyKind.ECDSA_P256)
        gate.until_refused("unknown-key")
        gate.send(unknown, source=OTHER)
        gate.until_refused("duplicate")
        told = _explain(gate)
        assert "for a knock to get here:" in told  # what was meant to be one may not have been
        start = told.index("from strangers, since the gate began (")
        lines = re.sub(r"the last one (just now|\d+s ago)", "the last one AGO", told[start:]).splitlines()[1:]
        assert (
            lines[0] == "  1 not-ours: it was made with none of the cards that are good now; the last one AGO"
        )
        assert lines[1].endswith(f"names; the last one AGO from {CLIENT}") and " 1 unknown-key: " in lines[1]
        assert lines[2] == "    made with card everybody, x-wing"
        assert lines[3].startswith("    says of itself, unsigned: key SHA256:") and lines[3].endswith(
            ", for ssh"
        )
        assert lines[4].startswith("    hint: if that key is to come in, its line has to stand in a file")
        assert "before, to the byte (1 from another sender: perhaps relayed); the last one AGO" in lines[5]
        assert f"\nNOT TAKEN: {gate.keys}:1: " in told
        # Of whom a filter is about.
        unknown_print = re.findall(r"key (SHA256:\S+),", lines[3])[0]
        assert "unknown-key" in _explain(gate, "--key", unknown_print)
        assert "unknown-key" not in _explain(gate, "--key", PRINT)


_KNOWN = '[doors.ssh.sealed]\ndevices = "known"\n'


@isolated
def test_a_device_is_enrolled_as_the_hint_says(tmp_path: Path) -> None:
    """Also one that was shut out; the hint does not say so lightly."""
    with stage(tmp_path, doors=DOORS.replace("[doors.web]", f"{_KNOWN}[doors.web]")) as gate:

        def tried(expected: str) -> str:
            """A knock, and what is told of it. A gate that begins anew may not hear the first ones."""
            until(gate.gate.answers, "it listens")

            def told() -> list[str]:
                gate.knock()
                with contextlib.suppress(Unavailable):
                    return [each["device"] for each in gate.explained()["knocks"]]  # type: ignore[attr-defined]
                return []

            until(told, "it is heard")
            text = _paragraphs(_explain(gate, "--last", "1"))[0]
            assert expected in text, text
            return text

        text = tried("NOW: REFUSED at step 9\n  why:     unknown-device: it is for known devices alone")
        words = re.findall(r"  hint:    `knockgate (device enrol \S+)`\n", text)[0].split()
        assert "(neither known nor barred)" in text
        for command, expected in (
            (words, "NOW: opened ssh for 30s\n"),
            ([words[0], "forget", words[2]], "unknown-device: its device is shut out\n"),
        ):
            before = gate.gate.status()["pid"]
            done = knockgate(*command, "--config", str(gate.gate.file))
            assert done.returncode == 0, done.stderr
            until(lambda: gate.gate.answers() and gate.gate.status()["pid"] != before, "it has begun anew")  # noqa: B023
            text = tried(expected)
        assert f"`knockgate device enrol {words[2]}`, if it is to come in again\n" in text
        assert f"device:  {words[2]} (barred)\n" in text


@isolated
def test_a_gate_that_does_not_know_the_time_says_so(tmp_path: Path) -> None:
    with stage(tmp_path, clock="unknown") as gate:
        gate.knock(issued=now() - _HOUR)
        gate.until_opened(1)
        told, status = _explain(gate), _status(gate)
        blind = "CLOCK: nothing vouches for it, and the gate does not know how late it is. "
        assert blind in told and f"  {blind}" in status
        assert "by its own; ours was not known to be right\n" in told


@isolated
def test_what_a_gate_that_is_not_there_tells(tmp_path: Path) -> None:
    file = gate_file(tmp_path, '[doors.ssh]\nports = ["tcp/22"]\n')
    done = knockgate("explain", "--config", file)
    assert (done.returncode, done.stdout) == (2, "")
    hint = "start it with `knockgate run`, or as a service: systemctl start knockgate-listener"
    assert done.stderr == f"knockgate: the daemon is not running\n  hint: {hint}\n"


def test_without_a_configuration() -> None:
    done = knockgate("explain", "--config", "/nonexistent/gate.toml")
    assert done.returncode == 2 and "/nonexistent/gate.toml" in done.stderr
