"""Each cell of the lab's table flips when its lane is broken on purpose: no question always says the same.

The scenarios are in ``broken.py``; the unbroken lanes' answers, which are the control, in ``test_lab.py``.
Where a shorter one breaks the same cell, it is in `make test`, and the longest are among the long ones.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from knockdemo.lab.space import enter
from knockgate.errors import Unavailable

BROKEN = Path(__file__).with_name("broken.py")


def answers(scenario: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Notes by lane, and what was noted of the sweep."""
    reports: list[Mapping[str, Any]] = []

    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] == "report":
            reports.append(event)

    try:
        enter([sys.executable, str(BROKEN), scenario], on_event)
    except Unavailable as error:
        if "make namespaces" in str(error):
            pytest.skip(str(error))
        raise
    return reports[0]["notes"], reports[0]["sweep"]


@pytest.mark.long
def test_decoy_door_stops_the_sweep_at_knockd() -> None:
    notes, _ = answers("decoy")
    assert notes["B"]["scans"] == {"before": "filtered", "knocked": "open", "expired": "filtered"}
    assert notes["B"]["sweep_opens"]["ascending"] is False


def test_lane_a_without_its_reset_is_opened_by_the_sweep() -> None:
    notes, _ = answers("without-reset")
    assert notes["A"]["sweep_opens"]["ascending"] is True


def test_fwknopd_without_its_digest_cache_opens_for_the_address_in_the_packet() -> None:
    notes, _ = answers("forgetful")
    assert notes["C"]["replay_opens"] == {"observer": False, "client": True}


@pytest.mark.long
def test_gate_that_forgets_opens_for_the_address_in_the_packet() -> None:
    notes, _ = answers("forgetful-gate")
    assert notes["F"]["replay_opens"] == {"observer": False, "client": True}


@pytest.mark.long
def test_gate_knows_after_a_restart_which_packets_it_took() -> None:
    notes, _ = answers("remembering-gate")
    assert notes["F"]["replay_opens"] == {"observer": False, "client": False}
    assert notes["F"]["why"]["replay_opens"] == "replayed: it was sent before"
    assert notes["E"]["replay_opens"] == {"observer": False, "client": False}
    assert notes["E"]["why"]["replay_opens"].startswith("replayed: ")
    assert notes["E"]["fresh_opens"] is True


@pytest.mark.long
def test_gate_whose_marks_know_of_nothing_opens_for_the_address_in_the_packet() -> None:
    notes, _ = answers("forgetful-marks")
    assert notes["E"]["replay_opens"] == {"observer": False, "client": True}


def test_sshd_that_refuses_the_key_is_told_as_such() -> None:
    notes, _ = answers("ssh-refused")
    assert (notes["E"]["ssh"]["enters"], notes["E"]["ssh"]["stays"]) == (False, None)
    assert "Permission denied" in notes["E"]["why"]["ssh"]


@pytest.mark.long
def test_session_that_is_cut_off_is_told_as_such() -> None:
    notes, _ = answers("ssh-cut-off")
    assert (notes["E"]["ssh"]["enters"], notes["E"]["ssh"]["stays"]) == (True, False)


@pytest.mark.long
def test_second_door_that_does_not_close_is_seen_open() -> None:
    notes, _ = answers("ssh-endless-lease")
    ssh = notes["E"]["ssh"]
    assert (ssh["stays"], ssh["after"]["client"], ssh["after"]["ssh_without_a_knock"]) == (True, "open", True)
    assert ssh["after"]["bystander"] == "filtered"


@pytest.mark.parametrize("lane", ["A", "B", "C", "D", "E", "F"])
def test_door_without_its_rule_is_seen_open(lane: str) -> None:
    notes, _ = answers(f"rule-{lane.lower()}-gone")
    assert notes[lane]["scans"] == {"before": "open"}
    assert notes[lane]["version_learns"] == {"before": True}


def test_rule_for_everybody_lets_the_bystander_in() -> None:
    notes, _ = answers("for-everybody")
    assert notes["B"]["bystander"] == "open"


def test_lease_for_the_whole_network_lets_the_bystander_in() -> None:
    notes, _ = answers("lease-for-the-network")
    assert notes["D"]["scans"] == {"before": "filtered", "knocked": "open", "expired": "filtered"}
    assert notes["D"]["bystander"] == "open"


@pytest.mark.long
def test_sweep_that_comes_back_to_silent_ports_opens_three_syns() -> None:
    """nmap tries them again, in descending order: why lane D has a datagram between its SYNs.

    In the first pass only the reset keeps a door shut.
    """
    _, opens = answers("silent-syns")
    assert opens["descending steps"] is True
    assert opens["ascending steps"] is False
    assert opens["without reset"] is True


def test_knock_that_opens_nothing_is_told_as_such() -> None:
    notes, _ = answers("nobody-home")
    cells = notes["B"]
    assert cells["scans"]["knocked"] == "filtered"
    assert [cells[name] for name in ("banner", "knock_to_open_ms", "open_for_s")] == [None] * 3
    assert {"banner", "knock_to_open_ms", "open_for_s"} <= cells["why"].keys()


def test_fwknopd_that_ignores_the_time_opens_for_both_wrong_clocks() -> None:
    notes, _ = answers("ageless")
    assert [notes["C"][name] for name in ("stale_opens", "on_time_opens", "future_opens")] == [True] * 3


@pytest.mark.long
def test_gate_without_a_clock_opens_for_both_wrong_clocks() -> None:
    notes, _ = answers("ageless-gate")
    for lane in "EF":
        assert [notes[lane][name] for name in ("stale_opens", "on_time_opens", "future_opens")] == [True] * 3


def test_base_rules_for_ipv4_alone_leave_the_ipv6_listener_in_plain_sight() -> None:
    notes, _ = answers("ipv4-only")
    assert notes["B"]["scans"] == {"before": "filtered"}
    assert notes["B"]["ipv6"] == {"before": "open"}


def test_gate_for_ipv4_alone_leaves_the_ipv6_listener_in_plain_sight() -> None:
    notes, _ = answers("gate-ipv4-only")
    assert notes["D"]["scans"] == {"before": "filtered"}
    assert notes["D"]["ipv6"] == {"before": "open"}


def test_lease_that_does_not_end_is_seen_to_stay() -> None:
    notes, _ = answers("endless-lease")
    assert notes["D"]["closes_without_daemon"] is False
    assert notes["D"]["why"]["closes_without_daemon"].startswith("no process of this lane runs")


def test_knockds_child_closes_the_door_when_only_the_main_process_dies() -> None:
    notes, _ = answers("main-process-only")
    assert notes["B"]["closes_without_daemon"] is True


@pytest.mark.long
def test_question_does_not_begin_while_a_door_is_open() -> None:
    with pytest.raises(Unavailable, match=r"still not shut: door B for the client at 192\.0\.2\.1"):
        answers("never-closing")


def test_daemon_that_died_is_an_error_and_no_answer() -> None:
    with pytest.raises(Unavailable, match=r"knock-demo\.service ended with status -9"):
        answers("dead-daemon")


@pytest.mark.long
def test_tour_from_the_client() -> None:
    """Right against a guarded host, wrong against an unguarded one, and clear about mistakes."""
    _, runs = answers("tour")
    status, out, err = runs["good"]
    assert status == 0, err
    for lane in "ABC":
        assert f'"{lane}"' in out
    status, out, err = runs["human"]
    assert (status, err) == (0, "")
    assert "6500/tcp  filtered" in out and "6500/tcp  open" in out
    status, out, err = runs["unguarded"]
    assert status == 1
    assert "lane B should have been filtered, open, filtered and was open, open, open" in err
    for mistake, words in {
        "no keys": "client.fwknoprc",
        "no lane": "A, B, C",
        "no host": "unknown host",
    }.items():
        status, out, err = runs[mistake]
        assert (status, out) == (2, "")
        assert words in err and "hint:" in err and "Traceback" not in err
