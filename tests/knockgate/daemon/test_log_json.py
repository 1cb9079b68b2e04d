"""The log of a running gate as JSON: what is in it, and above all what is not."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, OTHER, SSH_KNOCKS, WEB_KNOCKS, Gate, knock, network
from tests.knockgate.daemon.sealed_stage import Stage, device, until_open
from tests.knockgate.daemon.test_packets import ALICE, key, message
from tests.knockgate.spa import sealed_messages as messages
from tests.netns import isolated, until

from knockgate.daemon.log import Event, Record
from knockgate.errors import Reason
from knockgate.spa.fwknop import seal

JSON = 'log = "json"\nclock = "trusted"\n'
FIELDS = {"program", "message", *(field.name for field in dataclasses.fields(Record))}
RUNS = """
[doors.files]
lease = "1h"
[doors.files.sequence]
steps = ["tcp/8100", "udp/8101"]
runs_in = "daemon"
[doors.files.commands]
open = ["/bin/false"]
"""


def records(gate: Gate) -> list[dict[str, Any]]:
    """Each line is one object, of known fields and events."""
    found = [json.loads(line) for line in gate.log().splitlines()]
    for each in found:
        assert each.keys() <= FIELDS and each["event"] in {event.value for event in Event}
        assert each["program"].startswith("knockgate") and each["message"]
    return found


def of(gate: Gate, event: Event) -> list[dict[str, Any]]:
    return [each for each in records(gate) if each["event"] == event.value]


@isolated
def test_each_decision_is_a_record_and_no_secret_is_in_any(tmp_path: Path) -> None:
    """All kinds of keys, and all that can become of them."""
    with network():
        stage = Stage(tmp_path)
        fwknop = key(tmp_path, "alice", ALICE, 'doors = ["ssh"]')
        doors = running.KERNEL.replace("ssh", "kernel").replace("tcp/22", "tcp/2222") + running.DAEMON + RUNS
        doors = doors.replace("doors.web", "doors.daemon").replace('"tcp/80", "udp/80"', '"tcp/8080"')
        stage.gate.write(stage.text + fwknop + doors, gate=JSON)
        stage.gate.start()
        sent = all_that_can_be(stage)
        assert stage.gate.end() == 0
    check_records(stage.gate)

    log = stage.gate.log().encode()
    secrets = [ALICE.key, ALICE.hmac_key or b"", messages.SECRET, messages.SEED, messages.X25519_KEY, *sent]
    written = re.findall(rb'"([A-Za-z0-9+/]{40,}={0,2})"', (stage.state / "gate.keys").read_bytes())
    assert len(written) >= 3
    assert has(b"people/jo@laptop", log)  # the control: what is there is found
    assert [each for each in secrets + [base64.b64decode(each) for each in written] if has(each, log)] == []


def all_that_can_be(stage: Stage) -> list[bytes]:
    """Openings of each kind, refusals, strangers, commands, a reload; returns the packets."""
    gate = stage.gate
    sealed = [stage.knock(device=device())]
    until_open(("tcp/22", CLIENT, "packet"))
    stage.send(sealed[0])  # again, to the byte
    sealed.append(stage.knock(device=device(), issued=1))  # stale
    stage.send(os.urandom(len(sealed[0])))  # nobody's
    packets = [seal(message(), ALICE, salt=os.urandom(8))]
    stage.send(packets[0], port=62201)
    until(lambda: len(of(gate, Event.OPENED)) == 2, "both kinds of packet have opened")
    packets.append(seal(message(issued=1_000_000_000), ALICE, salt=os.urandom(8)))
    stage.send(packets[1], port=62201)
    knock(*SSH_KNOCKS)
    knock(*WEB_KNOCKS)
    knock("tcp/8100", "udp/8101", source=OTHER)
    until(lambda: len(of(gate, Event.OPENED)) == 5, "all have opened")
    until(lambda: of(gate, Event.COMMAND), "the command has ended")
    until(lambda: len(of(gate, Event.REFUSED)) >= 2, "the refusals are told")
    until(lambda: stage.refused().get("not-ours"), "the stranger is counted")
    assert not of(gate, Event.STRANGERS)  # not one by one
    gate.file.write_text("[doors.ssh]\nports = 22\n")
    gate.send(signal.SIGHUP)
    until(lambda: of(gate, Event.RELOAD), "it is not reloaded")
    return sealed + packets


def check_records(gate: Gate) -> None:
    opened = {each["by"]: each for each in of(gate, Event.OPENED)}
    assert set(opened) == {"sealed", "fwknop", "kernel-sequence", "daemon-sequence"}
    sealed = opened["sealed"]
    assert (sealed["door"], sealed["source"], sealed["seconds"]) == ("ssh", CLIENT, 30)
    assert (sealed["sender"], sealed["card"]) == (CLIENT, "everybody")
    assert re.fullmatch(r"[0-9a-f]{32}", sealed["device"]) and abs(sealed["skew"]) < 60
    assert sealed["key"].startswith("people/jo@laptop SHA256:")
    assert sealed["message"].startswith(f"open ssh for {CLIENT} (packet of people/jo@laptop")
    assert opened["fwknop"]["key"] == "alice" and "card" not in opened["fwknop"]
    assert opened["kernel-sequence"]["door"] == "kernel" and "key" not in opened["kernel-sequence"]
    refused = of(gate, Event.REFUSED)
    assert "stale" in {each["reason"] for each in refused if each["by"] == "fwknop"}
    assert {each["by"] for each in refused} == {"fwknop", "sealed"}
    assert {each["reason"] for each in refused} <= {reason.value for reason in Reason}
    assert all(each["key"] and each["sender"] == CLIENT for each in refused)
    (strangers,) = of(gate, Event.STRANGERS)
    assert strangers["counts"]["not-ours"] == 1 and "sender" not in strangers


def has(secret: bytes, log: bytes) -> bool:
    """Whether a third of it is there, raw, in hexadecimal or in base64."""
    part = secret[: max(8, len(secret) // 3)]
    plain = [part, part.hex().encode(), part.hex().upper().encode()]
    whole = [base64.b64encode(secret[at:])[:-4].rstrip(b"=")[:16] for at in range(3)]
    return any(each in log for each in (*plain, *whole, *(each.translate(_URL) for each in whole)) if each)


_URL = bytes.maketrans(b"+/", b"-_")


@isolated
def test_the_same_without_json_is_text(tmp_path: Path) -> None:
    """And a reload that says so makes it JSON."""
    gate = Gate(tmp_path)
    with network():
        gate.start()
        knock(*SSH_KNOCKS)
        gate.until_said(f"knockgate-listener: open ssh for {CLIENT} (kernel sequence)\n")
        assert not gate.log().startswith("{")
        gate.write(running.KERNEL + running.DAEMON, gate='log = "json"\n')
        gate.send(signal.SIGHUP)
        gate.until_said('"message": "listening for')
        said = [line for line in gate.log().splitlines() if line.startswith("{")]
        assert json.loads(said[0])["event"] == "reload"
        assert gate.end() == 0
        assert json.loads(gate.log().splitlines()[-1])["program"] == "knockgate-listener"


def test_a_secret_would_be_found() -> None:
    """The control, however it is spelled."""
    secret = bytes(range(100, 132))
    assert not has(secret, b"nothing of the kind")
    for before in (b"", b"a", b"ab", b"abc"):
        for spelled in (base64.b64encode, base64.urlsafe_b64encode, bytes.hex, bytes):
            line = spelled(before + secret)
            assert has(secret, line.encode() if isinstance(line, str) else line)
