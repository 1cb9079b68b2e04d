"""What was recorded is sent again to the other lanes' guards: lane A's daemon, and real knockd and fwknopd.

It is what anybody sees who tries it. A plain sequence is worth as much to whoever has seen it, whoever
follows it; fwknopd remembers each packet, over its restarts too. Beside each is a new knock that opens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.attacks.figures import figure
from tests.attacks.lanes import from_elsewhere, recorded, wire
from tests.attacks.others import Knockd, Other, RealFwknopd, TutorialsDaemon
from tests.attacks.test_replay import AFTER_A_RESTART, AT_ONCE, BACKWARDS, ELSEWHERE, WATCHER, WAYS
from tests.knockgate.daemon.running import network
from tests.netns import Sender, isolated, stay_on_one_core, until


class Story:
    """Everybody who knocks has an address of their own."""

    def __init__(self, guard: Other, cable: Sender) -> None:
        self.guard, self._cable = guard, cable
        self.honest = self._people = 0

    def send(self, *packets: bytes) -> None:
        for each in packets:
            self._cable.send(each)

    def somebody(self) -> str:
        self._people += 1
        return f"10.0.1.{self._people}"

    def gets_in(self) -> tuple[str, list[bytes]]:
        """With a knock that is recorded. What came before it has been looked at."""
        source = self.somebody()
        packets = self.guard.knock(source)
        seen = recorded(lambda: self.send(*packets), len(packets))
        until(lambda: self.guard.opened(source), f"{self.guard.name} opens")
        self.honest += 1
        return source, seen

    def again(self, way: str) -> int:
        """How often the replay opens."""
        source, seen = self.gets_in()
        if way == AFTER_A_RESTART:
            self.guard.restart()
        elif way != AT_ONCE:
            self.guard.close()
        before = self.guard.opened(source)
        assert before == int(way == AT_ONCE)
        if way == ELSEWHERE:
            seen, source, before = [from_elsewhere(each, WATCHER) for each in seen], WATCHER, 0
        self.send(*(seen[::-1] if way == BACKWARDS else seen))
        self.gets_in()
        found = self.guard.opened(source) - before
        self.guard.close()
        return found

    def twice(self) -> int:
        """Each packet of a new knock comes twice: how often that opens."""
        source = self.somebody()
        self.send(*(each for packet in self.guard.knock(source) for each in (packet, packet)))
        self.gets_in()
        found = self.guard.opened(source)
        self.guard.close()
        return found


SEQUENCE, ONCE = (1, 1, 1, 0, 1), (0, 0, 0, 0, 0)
OTHERS: dict[str, tuple[Callable[[Path], Other], tuple[int, ...]]] = {
    "A": (TutorialsDaemon, SEQUENCE), "B": (Knockd, SEQUENCE), "C": (RealFwknopd, ONCE),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("lane", OTHERS)
@isolated
def test_a_knock_is_sent_again(lane: str, tmp_path: Path) -> None:
    begins, expected = OTHERS[lane]
    stay_on_one_core()
    with network(), wire() as cable:
        guard = begins(tmp_path / "guard")
        story = Story(guard, cable)
        opens = {way: story.again(way) for way in WAYS}
        opens["each packet twice"] = story.twice()
        guard.end()
    figure(
        f"replay.{guard.name}",
        tries=len(opens),
        wrongly=0,
        known=sum(opens[way] for way in WAYS),
        rightly=story.honest,
        control="a new knock opens before and behind each",
        opens=opens,
    )
    assert tuple(opens[way] for way in WAYS) == expected, opens
