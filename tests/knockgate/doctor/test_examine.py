"""All examinations, in their order and in time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from tests.knockgate.doctor.looking import kinds

from knockgate.doctor.examine import examine
from knockgate.doctor.finding import Finding, Kind, Topic, blind, fine
from knockgate.doctor.host import Host, output_of
from knockgate.errors import Unavailable


def sound(_: Host) -> Iterator[Finding]:
    yield fine(Topic.CLOCK, "it ticks")


def test_what_hangs_does_not_keep_the_others() -> None:
    release = threading.Event()

    def hangs(_: Host) -> Iterator[Finding]:
        yield fine(Topic.NETWORK, "half of it")
        release.wait()

    found = list(examine(Host(), examinations={Topic.NETWORK: hangs, Topic.CLOCK: sound}, patience=0.05))
    assert [each.topic for each in found] == [Topic.NETWORK, Topic.NETWORK, Topic.CLOCK]
    assert kinds(found) == {Kind.NOT_LOOKED_AT}
    assert "longer than 0.05 s" in found[1].seen
    release.set()
    found = list(examine(Host(), examinations={Topic.NETWORK: hangs, Topic.CLOCK: sound}))
    assert kinds(found) == set()
    assert {each.kind for each in found} == {Kind.FINE}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Unavailable("no kernel here", hint="buy one"), "could not look at the clock: no kernel here"),
        (
            PermissionError(13, "Permission denied", "/x"),
            "could not look at the clock: /x: Permission denied",
        ),
    ],
)
def test_what_cannot_be_looked_at_is_a_finding(error: Exception, words: str) -> None:
    def fails(_: Host) -> Iterator[Finding]:
        yield blind(Topic.CLOCK, "one thing", "run it as root")
        raise error

    first, second = examine(Host(), examinations={Topic.CLOCK: fails})
    assert (first.seen, second.seen) == ("could not look at one thing", words)
    assert second.fix in ("buy one", "run it as root")


def test_a_bug_is_not_hidden() -> None:
    def wrong(_: Host) -> Iterator[Finding]:
        yield fine(Topic.CLOCK, "1")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(examine(Host(), examinations={Topic.CLOCK: wrong}))


def test_programs_have_their_time() -> None:
    assert output_of("echo", "hello") == "hello\n"
    with pytest.raises(Unavailable, match=r"within 0\.1 s"):
        output_of("sleep", "60", patience=0.1)
    with pytest.raises(Unavailable, match="is not there"):
        output_of("no-such-program")
    with pytest.raises(Unavailable, match="failed: status 1"):
        output_of("false")
