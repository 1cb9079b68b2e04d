"""What knockd 0.8 gets wrong: each time the real one shows it, and ours beside it does not.

Both hear the same packets with the same knockd.conf, so ours is also held to what knockd gets right.
Where something must not open, the same door is knocked at properly afterwards and does open.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.knockgate.config.gates import (
    ADDRESS,
    ADDRESS6,
    OurGate,
    RealKnockd,
    Wire,
    both,
    door,
)
from tests.netns import isolated, own_mounts, until

from knockgate.config.knockd import load
from knockgate.errors import ConfigError

GATE, GATE6 = f"{ADDRESS}/24", f"{ADDRESS6}/64"

# --- packets ------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """Doors, what is sent, and the doors that either opens, in their order."""

    doors: str
    knocks: str
    knockd: str
    ours: str
    source: str = ""  #: of its own if not given
    destination: str = ""


def sweep(first: int, last: int) -> str:
    return " ".join(map(str, range(first, last + 1)))


CASES = {
    "ports of no door do not reset": Case(
        door("stray", "7010,7020,7030"), "7010 7001 7020 7030 7010 7020 7030", "stray stray", "stray"
    ),
    "a scan upwards opens": Case(
        door("scan", "7110,7120,7130"), sweep(7100, 7140) + " 7110 7120 7130", "scan scan", "scan"
    ),
    "a scan opens neighbours": Case(door("row", "7201,7202,7203"), sweep(7200, 7204), "row", "row"),
    "ports of other doors reset": Case(
        door("one", "7310,7330") + door("two", "7320"), "7310 7320 7330 7310 7330", "one", "two one"
    ),
    "a step that comes twice ruins a knock": Case(
        door("twice", "7410,7420,7430"), "7410 7410 7420 7420 7430 7410 7420 7430", "twice", "twice twice"
    ),
    "what ruins a knock does not begin one": Case(
        door("anew", "7510,7520,7530"), "7510 7520 7510 7520 7530 7510 7520 7530", "anew", "anew anew"
    ),
    "a first knock at another door only ruins": Case(
        door("left", "7610,7620") + door("right", "7630,7640"),
        "7610 7630 7640 7630 7640",
        "right",
        "right right",
    ),
    "without flags any TCP packet is a step": Case(
        door("any", "7710,7720", flags=""), "a7710 a7720 7710 7720", "any any", "any"
    ),
    "with flags other TCP packets do not count": Case(
        door("flags", "7810,7820"), "7810 a7820 a7001 a7810 7820", "flags", "flags"
    ),
    "other flags than SYN": Case(
        door("ack", "7910,7920", flags="ack,!syn"), "a7910 7920 a7920", "ack", "ack"
    ),
    "udp": Case(door("udp", "8010,8020:udp"), "8010 u8020", "udp", "udp"),
    "IPv6": Case(door("six", "8110,8120:udp"), "8110 u8120", "six", "six", source="fd09::1:12"),
    "extension headers of IPv6 make it deaf": Case(
        door("long", "8210,8220"), "e8210 e8220 8210 8220", "long", "long long", source="fd09::1:13"
    ),
    "target": Case(
        door("far", "8310,8320", "target = fd09::7"), "8310 8320", "far", "far", "fd09::1:14", "fd09::7"
    ),
    "target is compared as a text": Case(
        door("text", "8410,8420", "target = fd09:0::7"), "8410 8420", "", "text", "fd09::1:15", "fd09::7"
    ),
    "doors with one beginning": Case(
        door("a", "8510,8520,8530") + door("b", "8510,8520,8540"),
        "8510 8520 8540 8510 8520 8530",
        "b a",
        "b a",
    ),
    "a repeated port": Case(door("again", "8610,8610,8620"), "8610 8610 8620", "again", "again"),
    "32 steps": Case(door("end", sweep(8901, 8932).replace(" ", ",")), sweep(8901, 8932), "end", "end"),
}


@isolated
def test_packets() -> None:
    """A knockd for each case, so that it meets only its own faults; ours has all the doors at once."""
    last = door("last", "8999")
    own_mounts()
    wire = Wire(GATE, GATE6)
    with contextlib.ExitStack() as stack:
        ours = OurGate("".join(case.doors for case in CASES.values()) + last, "ours")
        ours.launch()
        stack.callback(ours.__exit__)
        knockds = [
            stack.enter_context(RealKnockd(case.doors + last, str(number)))
            for number, case in enumerate(CASES.values())
        ]
        ours.until_it_listens()
        for number, case in enumerate(CASES.values(), 20):
            wire.knock(case.knocks, case.source or f"10.9.0.{number}", case.destination)
        wire.knock("8999")

        def opened() -> dict[str, tuple[list[str], list[str]]]:
            """By case, in no order, since both run commands side by side."""
            of_ours = [note.split()[1] for note in ours.notes]
            return {
                what: (
                    sorted(note.split()[1] for note in knockd.notes if note != "open last"),
                    sorted(door for door in of_ours if f"[{door}]" in case.doors),
                )
                for (what, case), knockd in zip(CASES.items(), knockds, strict=True)
            }

        expected = {
            what: (sorted(case.knockd.split()), sorted(case.ours.split())) for what, case in CASES.items()
        }
        for gate in (ours, *knockds):
            gate.until_noted_among_others("open last")
        with contextlib.suppress(AssertionError):  # the comparison below tells more
            until(lambda: opened() == expected, "what is to be opened", 3)
        assert opened() == expected


# --- time ---------------------------------------------------------------------------------------------


# The sleeps below are not for something to happen: the time between two knocks is what is tested.


@isolated
def test_somebody_elses_attempt_that_runs_out_takes_others_along() -> None:
    wire = Wire(GATE)
    with both(door("ssh", "7010,7020,7030", "seq_timeout = 3")) as (knockd, ours):
        wire.knock("7010", "10.9.0.66")
        begun = time.monotonic()
        time.sleep(2)
        wire.knock("7010")
        time.sleep(max(0, begun + 3.05 - time.monotonic()))
        wire.knock("7020 7030")
        ours.until_noted("open ssh")
        wire.knock("7010 7020 7030")
        knockd.until_noted("open ssh")
        ours.until_noted("open ssh", "open ssh")


@isolated
def test_the_window_is_up_to_a_second_short() -> None:
    wire = Wire(GATE)
    with both(door("ssh", "7010,7020", "seq_timeout = 2")) as (knockd, ours):
        source = begin_near_the_end_of_a_second(wire)
        time.sleep(1.3)  # of 2 s, but in the second second that begins, and whole ones are what knockd counts
        wire.knock("7020", source)
        ours.until_noted("open ssh")
        wire.knock("7010 7020", source)
        knockd.until_noted("open ssh")
        ours.until_noted("open ssh", "open ssh")


def begin_near_the_end_of_a_second(wire: Wire) -> str:
    """Make the first knock there, by the clock on the wall; returns whose it was."""
    for number in range(10, 100):
        time.sleep((0.8 - time.clock_gettime(time.CLOCK_REALTIME)) % 1)
        wire.knock("7010", f"10.9.0.{number}")
        if time.clock_gettime(time.CLOCK_REALTIME) % 1 >= 0.8:
            return f"10.9.0.{number}"
    raise AssertionError("the second was over each time before the knock was sent")


# --- the file -----------------------------------------------------------------------------------------

#: A door, whether knockd runs it, whether we do; in the order of the table in knockgate.config.knockd.
VERDICTS = [
    ("", False, False),
    ("sequence =", True, False),
    ("sequence = 7,", True, False),
    ("sequence = abc,70,-5", True, False),
    ("sequence = 70x", True, False),
    ("sequence = 1 2", True, False),
    ("sequence = 70 # text", True, True),
    ("sequence = 7\nseq_timeout = 5 s", True, True),
    ("sequence = 7:tcp:x", True, False),
    (f"sequence = {','.join('7' * 32)}", True, True),
    (f"sequence = {','.join('7' * 33)}", False, False),
    ("sequence = 65535", True, True),
    ("sequence = 65536", False, False),
    ("sequence = 7\ntcpflags = syn, ack", False, True),
    ("sequence = 7\ntcpflags = syn,ack", True, True),
    ("sequence = 7\ntcpflags = SYN,!syn", True, True),
    ("sequence = 7\ntcpflags =", False, False),
    ("sequence = 7\ntcpflags = ece", False, False),
    ("sequence = 7\n[options]\nusesyslog = 1", False, True),
    ("sequence = 7\n[options]\nUSESYSLOG", True, True),
    ("sequence = 7\nusesyslog", True, True),
    ("sequence = 7\nport = 3", False, False),
    ("sequence = 7\nlogfile = /dev/null", False, False),
    ("sequence = 7\n[options]\ntarget = 10.9.0.1", False, False),
    ("sequence = 7\n[options] # text", False, False),
    ("sequence = 7\n[Options]\npidfile = /x", False, False),
    ("sequence = 7\n[options]\nlogfile = /dev/null\npidfile = /x\ninterface = lo", True, True),
    ("sequence = 7\nsequence = 8", True, True),
    ("sequence = 7\n[d]\nsequence = 7", True, True),
    ("sequence = 7\nseq_timeout = 0", True, False),
    ("sequence = 7\ntimeout = soon", True, False),
    ("sequence = 7\ncmd_timeout = -1", True, False),
    ("sequence = 7\ncmd_timeout = soon", True, False),
    ("sequence = 7\nstop_command = x", True, True),
    ("sequence = 7\ncommand_6 =\ncommand = x", True, True),
    ("sequence = 7\ntarget = localhost", True, False),
    ("sequence = 7\ntarget = 10.9.0.256", False, False),
    ("one_time_sequences = ONCE\nsequence = 7", True, False),
    ("sequence = 7\none_time_sequences = ONCE", True, True),
    ("sequence", False, False),
    ("sequence = 7\r", True, True),
    ("sequence = 7\ncommand = a\0b", True, False),
]


@isolated
def test_which_files_are_refused() -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        once = Path(name, "once")
        once.write_text(" 7010,7020\n")
        knockds, ours = [], []
        for number, (lines, _, _) in enumerate(VERDICTS):
            file = Path(name, f"{number}.conf")
            file.write_text(f"[d]\n{lines}\n".replace("ONCE", str(once)))
            said = stack.enter_context(Path(name, f"{number}.said").open("wb"))
            knockd = subprocess.Popen(
                ["knockd", "-v", "-D", "-i", "lo", "-c", file], stdout=said, stderr=said
            )
            stack.callback(knockd.kill)
            knockds.append((knockd, Path(said.name)))
            try:
                ours.append(bool(load(file, "lo")))
            except ConfigError:
                ours.append(False)

        def verdict(knockd: subprocess.Popen[bytes], said: Path) -> bool | None:
            if knockd.poll() is None:
                return True if b"listening on" in said.read_bytes() else None
            return False

        until(lambda: all(verdict(*each) is not None for each in knockds), "knockd's verdicts")
        found = [
            (lines, verdict(*each), our)
            for (lines, _, _), each, our in zip(VERDICTS, knockds, ours, strict=True)
        ]
        assert found == VERDICTS
        assert "0:tcp,70:tcp,65531:tcp" in Path(name, "3.said").read_text()
