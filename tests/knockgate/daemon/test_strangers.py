from __future__ import annotations

import time
from collections import Counter

import pytest

from knockgate.daemon.strangers import Summary
from knockgate.errors import Reason
from knockgate.mechanisms.sequence import Tally


class Ears:
    def __init__(self) -> None:
        self.strangers: Counter[Reason] = Counter()


def test_a_minute_is_one_line_and_without_strangers_there_is_no_waking(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    packets, sealed, tally = Ears(), Ears(), Tally()
    summary = Summary("gate", (packets, sealed, None), tally)
    assert summary.next_wakeup() is None
    summary.tick()  # as other things that wait make it
    tally.begun += 1  # which an honest knock does as well
    assert summary.next_wakeup() is None and capfd.readouterr().err == ""
    packets.strangers[Reason.NOT_OURS] += 3
    assert summary.next_wakeup() == 1060
    now = 1030.0
    sealed.strangers[Reason.NOT_OURS] += 1
    sealed.strangers[Reason.UNKNOWN_KEY] += 1
    tally.reset += 2
    assert summary.next_wakeup() == 1060 and capfd.readouterr().err == ""
    now = 1060.0
    summary.tick()
    told = "gate: strangers of late: 4 not-ours, 2 sequence-broken-off, 1 unknown-key\n"
    assert capfd.readouterr().err == told
    assert summary.next_wakeup() is None
    sealed.strangers[Reason.UNKNOWN_KEY] += 1
    assert summary.next_wakeup() == 1120
    summary.tick()  # at the end, whenever that is
    assert capfd.readouterr().err == "gate: strangers of late: 1 unknown-key\n"
    summary.tick()
    assert capfd.readouterr().err == ""
