from __future__ import annotations

from knockgate.config.keyfiles import Notice
from knockgate.daemon.notices import Notices

ONE, OTHER = "/home/jo/keys", "/home/ann/keys"


def flaws(file: str) -> list[Notice]:
    return [Notice(file, line, "this is no key", None) for line in range(1, 22)]


def test_a_change_is_told_whole_and_a_file_that_never_rests_does_not_fill_the_log() -> None:
    said: list[tuple[str, str]] = []
    notices = Notices(lambda line, kind: said.append((line, kind)))
    for _ in range(3):  # somebody tries until it is right
        notices.tell(flaws(ONE), 1000.0)
    assert [line for line, kind in said if not kind] == [
        f"{ONE}:{n}: this is no key" for n in range(1, 22)
    ] * 3
    said.clear()
    for tenth in range(600):
        notices.tell(flaws(ONE), 1000.0 + tenth / 10)
    assert len([line for line, kind in said if not kind]) == 5  # in a minute
    assert {kind for _, kind in said if kind} == {f"file {ONE}"}  # which is told once a minute
    said.clear()
    notices.tell(flaws(OTHER), 1060.0)  # another's is told all the same
    assert len(said) == 21 and not any(kind for _, kind in said)
    said.clear()
    notices.tell(flaws(ONE), 2000.0)  # and so is that one, once it has rested
    assert len(said) == 21 and not any(kind for _, kind in said)
