from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.cli.promtext import parsed

from knockgate.cli.exposition import Family, families, text
from knockgate.errors import Reason

_WORDS = st.text()


@given(
    st.lists(st.tuples(_WORDS, _WORDS), unique=True), _WORDS, st.floats(allow_nan=False, allow_infinity=False)
)
def test_any_label_is_read_as_it_was_written(rows: list[tuple[str, str]], told: str, value: float) -> None:
    family = Family.of("x", told.replace("\r", ""), [({"door": a, "by": b}, value) for a, b in rows])
    found = parsed(text([family]))
    if not rows:
        assert found == {}
        return
    samples = found["knockgate_x"].samples
    assert set(samples) == {(("by", b), ("door", a)) for a, b in rows}
    assert all(math.isclose(each, value) for each in samples.values())


def test_what_cannot_be_written_in_utf8_is_spelled_out() -> None:
    (labels,) = parsed(text([Family.of("x", "Of a file.", [({"door": "a\udcff"}, 1)])]))[
        "knockgate_x"
    ].samples
    assert labels == (("door", "a\\udcff"),)


@pytest.mark.parametrize(
    "broken",
    [
        "knockgate_x 1\n",
        "# TYPE knockgate_x gauge\nknockgate_x 1\n",
        "# HELP knockgate_x a\n# TYPE knockgate_x gauge\nknockgate_y 1\n",
        "# HELP knockgate_x a\n# TYPE knockgate_x gauge\nknockgate_x 1\nknockgate_x 2\n",
        '# HELP knockgate_x a\n# TYPE knockgate_x gauge\nknockgate_x{a="\\x"} 1\n',
        '# HELP knockgate_x a\n# TYPE knockgate_x gauge\nknockgate_x{a="b" 1\n',
        "# HELP knockgate_x a\n# TYPE knockgate_x gauge\nknockgate_x one\n",
        "# HELP knockgate_x a\n# TYPE knockgate_x gauge\nknockgate_x 1",
        "# HELP knockgate_x a\n# TYPE knockgate_x gauge\n",
    ],
)
def test_the_reader_is_strict(broken: str) -> None:
    """The control of all other tests."""
    with pytest.raises(ValueError, match=r"\w"):
        parsed(broken)


def facts(**daemon: object) -> dict[str, object]:
    """As ``status --json`` has them, of a gate that runs."""
    door = {"opened": 3, "by": {"sealed": 2, "fwknop": 1}, "last": {"seconds_ago": 10.0}}
    running = {
        "since": 60.5,
        "doors": {"ssh": door, "web": {"opened": 0, "by": {}, "last": None}},
        "bounds": {"crowded": 0, "paced": 2, "leases_full": 0},
        "heard": {
            "begun": 4,
            "opened": 1,
            "reset": 2,
            "forgotten": 0,
            "packets": 9,
            "lost": 1,
            "lost_reports": 0,
        },
        "warden": {"owned": True, "restored": 0},
        "packets": {
            "refused": {"stale": 1, "not-ours": 5, "replayed": 4},
            "strangers": {"not-ours": 5, "replayed": 3},
            "remembered": 12,
            "room": 100,
            "synchronised": True,
        },
        "sealed": {
            "refused": {"not-ours": 7},
            "strangers": {"not-ours": 7},
            "keys": 3,
            "clock": {"state": "sure", "vouched": True, "not_before": 1.0},
        },
    }
    return {
        "guarded": True,
        "doors": [
            {"name": "ssh", "ports": ["tcp/22"], "state": "open"},
            {"name": "web", "ports": ["tcp/80"], "state": "paused"},
            {"name": "runs", "ports": [], "state": "commands"},
        ],
        "leases": [{"door": "ssh"}, {"door": "ssh"}, {"door": None}],
        "daemon": running | daemon,
    }


def test_what_a_gate_counts() -> None:
    found = parsed(text(families(facts(), {"marks.sqlite": 4096}, 1000.0)))

    def one(name: str, **labels: str) -> float:
        return found[f"knockgate_{name}"].samples[tuple(sorted(labels.items()))]

    assert one("gate_up") == one("guarded") == one("table_owned") == 1
    assert (one("door_guarded", door="ssh"), one("door_guarded", door="web")) == (1, 0)
    assert (one("leases", door="ssh"), one("leases", door="web")) == (2, 0)
    assert one("openings_total", door="ssh", by="sealed") == 2
    assert one("openings_total", door="web", by="kernel-sequence") == 0
    assert one("last_opening_timestamp_seconds", door="ssh") == 990
    assert one("refusals_total", by="fwknop", reason="stale") == 1
    assert one("refusals_total", by="fwknop", reason="replayed") == 1
    assert one("strangers_total", by="fwknop", reason="replayed") == 3
    assert one("strangers_total", by="sealed", reason="not-ours") == 7
    assert one("bounds_met_total", bound="paced") == 2
    assert one("packets_lost_total") == 1 and one("sequences_total", outcome="reset") == 2
    assert one("clock_state", state="sure") == one("clock_vouched") == 1
    assert one("store_bytes", store="marks.sqlite") == 4096
    assert all(name.endswith("_total") == (each.kind == "counter") for name, each in found.items())
    labels = [
        dict(each)
        for family in ("refusals", "strangers")
        for each in found[f"knockgate_{family}_total"].samples
    ]
    for by in ("fwknop", "sealed"):  # each reason counts from 0 on somewhere
        assert {each["reason"] for each in labels if each["by"] == by} == {reason.value for reason in Reason}


def test_without_a_daemon_there_is_what_the_kernel_knows() -> None:
    found = parsed(text(families(facts() | {"daemon": None}, {}, 1000.0)))
    assert found["knockgate_gate_up"].samples == {(): 0}
    assert "knockgate_leases" in found and "knockgate_openings_total" not in found
    without = parsed(text(families(facts(packets=None, sealed=None), {}, 1000.0)))
    assert without["knockgate_gate_up"].samples == {(): 1} and "knockgate_refusals_total" not in without
