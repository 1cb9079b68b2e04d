from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.netns import until

from knockgate.config.readers import LogFormat
from knockgate.daemon import log
from knockgate.daemon.log import Event, Record, Seldom, as_json

SPEAKER = """
import sys
from knockgate.daemon.log import say
for number in range(3000):
    say("gate", f"line {number} " + "x" * 100)
say("gate", "y" * 5000)
print("said", flush=True)
sys.stdin.readline()
say("gate", "flows again")
"""


def test_a_reader_that_is_stuck_does_not_hold_up_who_speaks() -> None:
    """What finds no room is counted, and told when somebody reads again."""
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", SPEAKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
    ) as speaker:
        os.close(writer)
        assert speaker.stdin and speaker.stdout
        os.set_blocking(speaker.stdout.fileno(), False)
        until(lambda: speaker.stdout and speaker.stdout.readline() == "said\n", "all is said, nobody reads")
        os.set_blocking(reader, False)
        before = os.read(reader, 1 << 20).decode().splitlines()
        assert before[0].startswith("gate: line 0 x") and 100 < len(before) < 3000
        speaker.stdin.write("\n")
        speaker.stdin.close()
        speaker.wait()
    after = os.read(reader, 1 << 20).decode()
    os.close(reader)
    lost = 3001 - len(before)
    assert after == f"gate: {lost} lines were lost, nobody read the log\ngate: flows again\n"


def test_a_line_is_cut_to_what_a_pipe_takes_at_once() -> None:
    """A short one is whole (control); nobody left to read is no reason to end."""
    code = "from knockgate.daemon.log import say; say('gate', 'short'); say('gate', 'y' * 5000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    short, long = done.stderr.splitlines(keepends=True)
    assert short == b"gate: short\n" and len(long) == 4096
    reader, writer = os.pipe()
    os.close(reader)
    subprocess.run([sys.executable, "-c", code], stderr=writer, check=True)
    os.close(writer)


def test_kinds_that_people_make_up_are_not_all_remembered(capfd: pytest.CaptureFixture[str]) -> None:
    seldom = Seldom("gate")
    for _ in range(2):
        seldom.say("store", "again")
    assert capfd.readouterr().err == "gate: again\n"
    for number in range(10_000):
        seldom.say(f"key {number}", "refused")
    assert len(vars(seldom)["_said"]) == 4096
    capfd.readouterr()
    seldom.say("store", "again")  # so long ago that it is forgotten, which costs a line
    assert capfd.readouterr().err.endswith("gate: again\n")


_WIDE = st.text(st.characters(min_codepoint=0xD800, max_codepoint=0x1F600), max_size=20)
_LONG = st.builds(
    lambda some, times, rest: some * times + rest, st.text(max_size=20), st.integers(1, 500), _WIDE
)
_TEXTS = st.text(max_size=40) | _WIDE | _LONG


@given(
    text=_TEXTS, door=_TEXTS, key=_TEXTS, skew=st.floats(allow_nan=False, allow_infinity=False) | st.none()
)
@example(text="x" * 5000, door="\n", key="\udcff" * 5000, skew=None)
@example(text='"\\\x1b\u2028' * 2000, door="ssh", key="jo", skew=1.5)
def test_a_record_is_whole_however_long_its_texts(text: str, door: str, key: str, skew: float | None) -> None:
    record = Record(event=Event.REFUSED, door=door, key=key, skew=skew, counts={"stale": 1})
    line = as_json("gate", text, record)
    assert len(line) < 4096 and line.isascii() and line.isprintable()
    found = json.loads(line)
    assert found["event"] == "refused" and found["counts"] == {"stale": 1} and found.get("skew") == skew
    assert readable(text).startswith(found["message"]) and readable(door).startswith(found["door"])
    if len(json.dumps(text + door + key)) < 3000:
        assert (found["message"], found["door"], found["key"]) == tuple(map(readable, (text, door, key)))


def readable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def test_how_often_a_kind_was_not_told_is_a_field(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "_log", log._Log())
    log.begin(LogFormat.JSON)
    seldom = Seldom("gate", every=0.0)
    record = Record(event=Event.BOUND, reason="paced")
    seldom._said["paced"] = (-1e9, 2)
    seldom.say("paced", "too fast", record)
    seldom.say("paced", "too fast", record)
    first, second = map(json.loads, capfd.readouterr().err.splitlines())
    assert first["more"] == 2 and "more" not in second
    assert second == {"event": "bound", "program": "gate", "reason": "paced", "message": "too fast"}
