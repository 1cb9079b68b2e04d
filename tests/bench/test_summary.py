"""Ours beside theirs: what is compared, what is better, and what shows why where it is not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from bench import page, readme
from bench.behind import behind, unexplained
from bench.bounds import BOUNDS
from bench.overview import overview, times
from bench.results import Results, Sample, Value
from bench.summary import best_of_ours, summary

from knockgate.errors import Unavailable

ROOT = Path(__file__).resolve().parents[2]
ASKED = {"quick": True, "day": "2026-11-23", "rounds": 2, "load_before": 0.1}
MACHINE = {"cpu": "a processor", "cores": 2, "python": "3.11.2"}


def sample(figure: str, subject: str, number: int = 1, case: str = "", **values: Value) -> Sample:
    return Sample(figure, subject, case, number, values)


def results(*samples: Sample) -> Results:
    return Results(MACHINE, ASKED, {}, list(samples))


def idle(subject: str, *memory: float) -> list[Sample]:
    return [sample("idle", subject, number, pss_MB=each) for number, each in enumerate(memory, 1)]


FLOOR = [
    sample("floor", "python", case=f"{what}, {many}", start_ms=10.0, rss_MB=8.0, pss_MB=3.25)
    for what in ("bare", "standard library", "standard library and cryptography")
    for many in ("1 process", "3 processes")
]
MEMORY = [
    Sample("profile", "sealed", "memory, MB: warden", 1, {"objects and code": 10.0, "libnftables": 0.5}),
    Sample("profile", "sealed", "memory, MB: listener", 1, {"objects and code": 16.0, "others": 0.1}),
]


def test_sequences_stand_beside_knockd_and_packets_beside_the_better_mode_of_fwknopd() -> None:
    found = results(
        sample("latency", "knockd", first_ms=[30.0, 32.0]),
        sample("latency", "fwknopd", first_ms=[100.0, 101.0]),
        sample("latency", "fwknopd-udp", first_ms=[9.0, 8.0]),
        sample("latency", "kernel", first_ms=[0.3, 0.1]),
        sample("latency", "lane-a", first_ms=[3.0, 5.0]),
        sample("latency", "sealed", first_ms=[4.0, 4.0]),
    )
    medians = [row for row in summary(found) if row.what.endswith("median")]
    assert [(row.subject, row.peer, round(row.ratio)) for row in medians] == [
        ("kernel", "knockd", 300),
        ("lane-a", "knockd", 10),
        ("sealed", "fwknopd-udp", 2),
    ]
    assert [row.subject for row in best_of_ours(medians)] == ["kernel", "sealed"]
    text = overview(found)
    row = "knock to first connection, median | knockd, iptables: 30 ms | sequence in the kernel: 0.1 ms | 300"
    assert f"| {row} |" in text
    assert "| knock to first connection, p99 | 32 ms | 0.3 ms; 107 | - | 5 ms; 6.4 |" in text


def test_more_refused_is_better_and_a_peer_may_have_it_out_of_a_file() -> None:
    found = results(
        sample("refused", "fwknopd", case="1 keys", refused_per_core_s=50_000),
        sample("refused", "fwknopd", case="1 keys, out of a file", refused_per_core_s=85_000),
        sample("refused", "fwknop", case="1 keys", refused_per_core_s=110_000),
        sample("refused", "sealed", case="1 keys", refused_per_core_s=70_000),
    )
    ours, sealed = summary(found)
    assert ours.theirs.median == 85_000 and not ours.is_behind and ours.ratio == pytest.approx(110 / 85)
    assert sealed.is_behind and sealed.ratio == pytest.approx(70 / 85)


def test_nothing_and_never_have_words_of_their_own() -> None:
    found = results(
        *idle("knockd", 3.0),
        *idle("kernel", 0.0),
        sample("flood", "knockd", opened_ms=[None, None]),
        sample("flood", "kernel", opened_ms=[0.1, 0.2]),
    )
    share, median, memory = summary(found)
    assert (times(share), times(median), times(memory)) == (
        "theirs: none",
        "theirs: never",
        "ours takes nothing",
    )
    assert "sequence in the kernel: nothing" in overview(found) and "knockd, iptables: never" in overview(
        found
    )
    assert math.isinf(median.theirs.median) and math.isinf(memory.ratio)
    found = results(
        *idle("knockd", 3.0),
        *idle("daemon", 60.0),
        sample("flood", "knockd", opened_ms=[0.1, 0.2]),
        sample("flood", "daemon", opened_ms=[None, None]),
        sample("sweep", "knockd", case="10/s", opened=0),
        sample("sweep", "daemon", case="10/s", opened=3),
    )
    share, median, scans, memory = summary(found)
    assert [times(each) for each in (share, median, scans)] == [
        "ours: none, **behind**",
        "ours: never, **behind**",
        "theirs: none, **behind**",
    ]
    assert share.is_behind and memory.is_behind and share.ratio == median.ratio == scans.ratio == 0
    assert readme.block(found).splitlines()[-5].endswith("| ours: none, **behind** |")


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ([3.0, 3.2, 3.4], [3.3, 3.3, 3.5], "the same"),  # the rounds lie between each other
        ([3.0, 3.0, 3.0], [3.3, 3.3, 3.5], "0.909 **behind**"),
        ([3.5, 3.5, 3.6], [3.0, 3.0, 3.0], "1.17"),
        ([1.0, 2.0, 9.0], [1.0, 4.0, 5.0], "0.5 **behind**"),  # twice as much is not the same, however noisy
        ([0.0], [0.0], "the same"),
    ],
)
def test_the_same_is_what_differs_by_less_than_rounds_do(
    theirs: list[float], ours: list[float], said: str
) -> None:
    (row,) = summary(results(*idle("knockd", *theirs), *idle("daemon", *ours)))
    assert times(row) == said


def test_time_of_one_tick_is_none() -> None:
    def found(ours: float) -> Results:
        return results(
            sample("unrelated", "knockd", case="SYN", cpu_percent=0.0),
            sample("unrelated", "daemon", case="SYN", cpu_percent=ours),
        )

    assert times(*summary(found(0.33))) == "the same"
    assert times(*summary(found(0.67))) == "theirs takes nothing, **behind**"


def test_what_takes_nothing_of_theirs_is_told_in_words_too() -> None:
    found = results(
        sample("unrelated", "knockd", case="SYN", cpu_percent=0.0),
        sample("unrelated", "daemon", case="SYN", cpu_percent=6.0),
    )
    assert "| sequence in the daemon: 6 % of a core | theirs takes nothing |" in behind(found)


def test_a_row_that_is_behind_shows_why_with_profile_and_floor() -> None:
    found = results(*idle("fwknopd", 2.0), *idle("sealed", 60.0), *FLOOR, *MEMORY)
    assert unexplained(found) == []
    text = behind(found)
    assert "### Memory" in text and "sealed packet, X-Wing: 60 MB | 0.0333 |" in text
    assert "has 3.25 MB of its own" in text
    assert "| knockgate: sealed packet, X-Wing; warden | 10.5 | 10 | 0.5 | - |" in text
    assert "Not explained" not in text and max(map(len, text.splitlines())) < 200


@pytest.mark.parametrize("missing", [FLOOR, MEMORY])
def test_without_either_it_is_not_explained(missing: list[Sample]) -> None:
    there = [each for each in (*FLOOR, *MEMORY) if each not in missing]
    found = results(*idle("fwknopd", 2.0), *idle("sealed", 60.0), *there)
    assert unexplained(found) == ["memory, PSS: sealed packet, X-Wing is behind fwknopd, pcap, iptables"]
    assert "**Not explained.**" in behind(found)


def test_a_figure_that_has_no_bound_is_not_explained() -> None:
    def woken(subject: str, number: float) -> Sample:
        return sample("idle", subject, wakeups_per_minute=number)

    assert "wake-ups" not in BOUNDS
    assert len(unexplained(results(woken("fwknopd", 3), woken("sealed", 60), *FLOOR, *MEMORY))) == 1
    assert unexplained(results(woken("fwknopd", 60), woken("sealed", 3), *FLOOR, *MEMORY)) == []


def test_stray_syns_are_told_in_microseconds_of_each() -> None:
    ways = {"by a system call": 4.0, "out of a ring": 2.0, "counted in a ring": 0.2}
    found = results(
        sample("unrelated", "knockd", case="SYN", cpu_percent=0.0, arrived_per_s=200_000),
        sample("unrelated", "daemon", case="SYN", cpu_percent=20.0, arrived_per_s=200_000),
        *(sample("floor", "packets", case=f"a SYN, {how}", us_each=each) for how, each in ways.items()),
        Sample("profile", "daemon", "functions, %: stray SYNs", 1, {"f, x.py": 90.0}),
    )
    text = " ".join(behind(found).split())
    assert "of which 200,000 a second are 4 % of a core" in text
    assert "Ours took, for each SYN: knockgate: sequence in the daemon 1 us." in text


def test_a_profile_of_one_explains_no_other() -> None:
    slow = [sample("latency", each, first_ms=[9.0]) for each in ("daemon", "sealed")]
    swift = [sample("latency", each, first_ms=[1.0]) for each in ("knockd", "fwknopd")]
    least = [sample("floor", "machine", case=each, us_each=7.0) for each in
             ("fdatasync of a page", "netlink, there and back")]  # fmt: skip
    profile = Sample("profile", "sealed", "functions, %: knocks", 1, {"f, x.py": 90.0})
    assert unexplained(results(*swift, *slow[1:], *least, profile)) == []
    assert len(unexplained(results(*swift, *slow, *least, profile))) == 4


def test_where_nothing_is_behind_it_says_so() -> None:
    assert "Nowhere in this run." in behind(results(*idle("fwknopd", 60.0), *idle("sealed", 2.0)))


def test_knocks_that_opened_under_junk_are_a_share_of_all() -> None:
    rounds = ([1.0, None, 3.0, None], [None, None, 5.0, None])
    found = results(
        *(
            sample("flood", "kernel", number, opened_ms=each, arrived_per_s=9, cpu_percent=0)
            for number, each in enumerate(rounds, 1)
        )
    )
    assert "| 9 | 3 of 8 | 37.5 % | 3 | 0 | 2 |" in page.tables(found)


def test_readme_has_the_best_of_each_topic_and_the_worst_of_all() -> None:
    found = results(
        sample("latency", "knockd", first_ms=[30.0]),
        sample("latency", "kernel", first_ms=[0.1]),
        *idle("knockd", 3.0),
        *idle("kernel", 0.0),
        *idle("daemon", 60.0),
        sample("leases", "iptables", case="0", add_us=4000.0),
        sample("leases", "knockgate", case="0", add_us=100.0),
    )
    lines = [line for line in readme.block(found).splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0] for line in lines] == [
        "| knock to first connection, median",
        "| one more let in, 0 are in",
        "| memory, PSS",  # takes nothing: no number of times better
        "| memory, PSS",
    ]
    assert lines[2].endswith("nothing | ours takes nothing |") and lines[-1].endswith("| 0.05 **behind** |")


def test_readme_is_changed_between_its_marks_alone(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nbehind\n")
    found = results(*idle("knockd", 3.0), *idle("daemon", 60.0))
    readme.write(found, path)
    readme.write(found, path)
    assert path.read_text() == f"before\n{readme.BEGIN}\n{readme.block(found)}{readme.END}\nbehind\n"
    path.write_text("no marks")
    with pytest.raises(Unavailable, match="no place"):
        readme.write(found, path)


def test_readme_says_what_the_committed_figures_say() -> None:
    shown = readme.block_in((ROOT / "README.md").read_text())
    committed = ROOT / "docs" / f"{page.NAME}.json"
    assert shown == (readme.block(Results.load(committed)) if committed.exists() else "")
