"""Reports: nothing has a default, null needs a reason, and ``ok`` is about the tour's promises alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from knockdemo.report import LaneReport, Report, rows, to_json, trade_offs
from knockdemo.show import show_report
from knockgate.errors import Unavailable


def measured(**other: object) -> dict[str, Any]:
    return {
        "lane": "A",
        "mechanism": "ours",
        "firewall": "nftables",
        "port": 6500,
        "scans": {"before": "filtered", "knocked": "open", "expired": "filtered"},
        "control": "closed",
        "bystander": "filtered",
        "banner": "You knocked. Welcome to the secret service on port 6500.",
        "version_learns": {"before": False, "knocked": True},
        "knock_to_open_ms": 5.1,
        "open_for_s": 15.0,
        "replay_opens": {"observer": True, "client": False},
        "fresh_opens": True,
        "wire_names": None,
        "wire_again": {"same": True, "bytes_in_common": 0},
        "sweep_opens": {"ascending": False, "random": False},
        "stale_opens": None,
        "on_time_opens": None,
        "future_opens": None,
        "ipv6": {"before": "filtered", "knock_opens": True},
        "ssh": None,
        "closes_without_daemon": True,
        "wire": ["tcp/7000"],
        "why": {
            **dict.fromkeys(("stale_opens", "on_time_opens", "future_opens"), "a sequence carries no time"),
            "wire_names": "it carries nothing",
            "ssh": "no sshd",
        },
        **other,
    }


def report(**other: object) -> Report:
    return Report(
        15,
        {"ports": 2001, "ascending_per_s": 12000, "random_per_s": 9000},
        [LaneReport.of(measured(**other))],
    )


def test_lane_that_keeps_its_promises_is_ok() -> None:
    assert report().ok


@pytest.mark.parametrize(
    "other",
    [
        {"scans": {"before": "open", "knocked": "open", "expired": "filtered"}},
        {"scans": {"before": "closed", "knocked": "open", "expired": "filtered"}},
        {"scans": {"before": "filtered", "knocked": "filtered", "expired": "filtered"}},
        {"scans": {"before": "filtered", "knocked": "open", "expired": "open"}},
        {"scans": {"before": "filtered", "knocked": "open"}},
        {"control": "filtered"},
        {"bystander": "open"},
        {"banner": "SSH-2.0-OpenSSH_9.2"},
        {"banner": "You knocked. Welcome to the secret service on port 6501."},
    ],
)
def test_broken_promise_is_not_ok(other: dict[str, Any]) -> None:
    assert not report(**other).ok


@pytest.mark.parametrize(
    "other",
    [
        {"replay_opens": {"observer": False, "client": True}},
        {"sweep_opens": {"ascending": True, "random": True}},
        {"ipv6": {"before": "open", "knock_opens": False}},
        {"closes_without_daemon": False},
        {"stale_opens": True, "future_opens": True, "on_time_opens": True},
        {"wire_names": ["address", "door", "key"]},
        {"fresh_opens": False},
        {"ssh": {"enters": False, "stays": None, "after": {}}},
    ],
)
def test_what_a_mechanism_is_like_is_reported_and_not_judged(other: dict[str, Any]) -> None:
    assert report(**other).ok


@pytest.mark.parametrize("cell", sorted(measured().keys() - {"lane"}))
def test_cell_that_nobody_measured_is_an_error(cell: str) -> None:
    cells = measured()
    del cells[cell]
    with pytest.raises(Unavailable, match=f"not measured: {cell}"):
        LaneReport.of(cells)


def test_null_without_a_reason_is_an_error() -> None:
    with pytest.raises(Unavailable, match="open_for_s is empty"):
        LaneReport.of(measured(open_for_s=None))
    LaneReport.of(measured(open_for_s=None, why={**measured()["why"], "open_for_s": "it never opened"}))


def test_json_has_the_documented_shape() -> None:
    whole = json.loads(to_json(report()))
    assert {name: whole[name] for name in ("format", "window_s", "ok")} == {
        "format": 1,
        "window_s": 15,
        "ok": True,
    }
    assert whole["lanes"][0] == measured()


def test_reason_stands_below_its_cell() -> None:
    below = {question: cells[0] for question, cells in rows(report())}
    assert below["knock dated an hour ago"] == ("-", "a sequence carries no time")
    assert below["scan before"] == ("filtered", "")
    refused = report(stale_opens=False, why={**measured()["why"], "stale_opens": "too old"})
    assert dict(rows(refused))["knock dated an hour ago"] == [("stays shut", "too old")]
    # Once where neither was asked, twice where both were refused with the same words.
    assert below["knock dated an hour ahead"] == ("-", "")
    wrong = {**measured()["why"], "stale_opens": "3600 s off", "future_opens": "3600 s off"}
    both = report(stale_opens=False, future_opens=False, why=wrong)
    assert dict(rows(both))["knock dated an hour ahead"] == [("stays shut", "3600 s off")]


def test_what_can_be_read_on_the_wire_is_told() -> None:
    cells = {question: cell[0][0] for question, cell in rows(report())}
    assert cells["  two knocks have in common"] == "all: it is the same"
    assert cells["names that stand in a knock"] == "-"
    packet = report(wire_names=[], wire_again={"same": False, "bytes_in_common": 3})
    cells = {question: cell[0][0] for question, cell in rows(packet)}
    assert cells["  two knocks have in common"] == "3 bytes in a row"
    assert cells["names that stand in a knock"] == "none"
    cells = {question: cell[0][0] for question, cell in rows(report(wire_names=["door", "key"]))}
    assert cells["names that stand in a knock"] == "door, key"


@pytest.mark.parametrize(
    ("ssh", "words"),
    [
        (None, ["-", "-", "-"]),
        (
            {"enters": True, "stays": True, "after": {"client": "filtered"}},
            ["gets in", "goes on", "filtered"],
        ),
        ({"enters": True, "stays": False, "after": {"client": "open"}}, ["gets in", "is cut off", "open"]),
        ({"enters": False, "stays": None, "after": {}}, ["stays outside", "-", "-"]),
    ],
)
def test_session_and_what_new_connections_meet_are_told(ssh: dict[str, Any] | None, words: list[str]) -> None:
    cells = [
        cell[0][0] for question, cell in rows(report(ssh=ssh)) if "ssh" in question or "new c" in question
    ]
    session = dict(rows(report(ssh=ssh)))["  its session, after the lease"][0][0]
    assert [cells[0], session, cells[1]] == words


def test_trade_offs_follow_the_cells() -> None:
    (line,) = trade_offs(report())
    assert "a replay opens it" in line and "closes with no daemon alive" in line and "works over IPv6" in line
    (line,) = trade_offs(
        report(
            closes_without_daemon=False, replay_opens={"observer": False, "client": False}, knock_to_open_ms=7
        )
    )
    assert (
        "a replay does not open it" in line and "stays open when its daemon dies" in line and "7 ms" in line
    )


def test_what_was_not_measured_is_no_trade_off() -> None:
    reasons = {**measured()["why"], "closes_without_daemon": "the knock did not open the door"}
    (line,) = trade_offs(report(closes_without_daemon=None, why=reasons))
    assert "daemon" not in line.partition(":")[2]
    dated = {"stale_opens": False, "future_opens": False, "on_time_opens": False}
    (line,) = trade_offs(report(**dated))
    assert "refused" not in line, "what is refused on time too says nothing about dates"


def test_report_about_no_lane_is_not_ok() -> None:
    assert not Report(15, {}, []).ok


def test_table_shows_every_question_once(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(report())
    out = capsys.readouterr().out
    assert "A: ours" in out and "nftables, tcp/6500" in out
    for question in ("observer replays it", "daemon killed while open", "sweep in ascending order"):
        assert out.count(question) == 1
