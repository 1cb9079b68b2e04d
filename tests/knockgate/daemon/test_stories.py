"""What is told of sealed knocks: of who has a key each one, of strangers by number."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from knockgate.daemon.stories import Stories
from knockgate.effects import KnockRefused, Story
from knockgate.errors import Reason

CLIENT, OTHER = bytes([192, 0, 2, 7]), bytes([198, 51, 100, 9])
DEVICE, BARRED = bytes([1] * 16), bytes([2] * 16)
STORY = Story(
    card="everybody",
    suite="xwing",
    sender=CLIENT,
    source=OTHER,
    stated=True,
    key="people/jo SHA256:AAAAAAAAAA",
    fingerprint=bytes(32),
    device=DEVICE,
    doors=("ssh", "web"),
    era=1,
    issued=1_795_332_591_250_000_000,
    lease=60,
    skew=0.04123,
)
CLAIMS = dataclasses.replace(STORY, key=None, source=b"", skew=None)


def stories() -> Stories:
    return Stories(lambda device: bytes(reversed(device[:15])) + b"!", {BARRED[:15] + b"!": "barred"}.get)


def told(of: Stories) -> dict[str, Any]:
    """As it comes out of a socket."""
    found: dict[str, Any] = json.loads(json.dumps(of.document()))
    return found


def stranger(
    reason: Reason, sender: bytes = CLIENT, story: Story | None = None, asked: str = ""
) -> KnockRefused:
    return KnockRefused(reason, None, sender, asked=asked, story=story)


def test_a_knock_that_opened() -> None:
    known = stories()
    known.taken(STORY, {"ssh": 30.0})
    document = told(known)
    (knock,) = document["knocks"]
    assert 0 <= knock.pop("seconds_ago") < 60
    assert knock == {
        "result": "opened",
        "reason": None,
        "step": None,
        "why": None,
        "hint": None,
        "leases": {"ssh": 30.0},
        "key": "people/jo SHA256:AAAAAAAAAA",
        "fingerprint": "SHA256:" + "A" * 43,
        "card": "everybody",
        "suite": "xwing",
        "device": "01" * 15 + "21",
        "standing": None,
        "doors": ["ssh", "web"],
        "source": "198.51.100.9",
        "stated": True,
        "sender": "192.0.2.7",
        "lease": 60,
        "era": 1,
        "issued": 1795332591.25,
        "skew": 0.041,
    }
    assert document["strangers"] == [] and (known.opened, known.refused) == (1, {})


def test_the_firewall_may_refuse() -> None:
    known = stories()
    known.taken(STORY, {})
    assert told(known)["knocks"][0]["result"] == "not opened" and known.opened == 0


def test_a_knock_that_was_refused() -> None:
    known = stories()
    barred = dataclasses.replace(STORY, device=BARRED)
    for refused in (
        KnockRefused(Reason.STALE, STORY.key, CLIENT, OTHER, 3600.0, story=STORY),
        KnockRefused(Reason.UNKNOWN_DEVICE, STORY.key, CLIENT, OTHER, asked="ssh", story=STORY),
        KnockRefused(Reason.UNKNOWN_DEVICE, STORY.key, CLIENT, OTHER, story=barred),
    ):
        known.turned_away(refused)
    shut_out, unheard_of, stale = told(known)["knocks"]  # the newest first
    assert (stale["result"], stale["reason"], stale["step"]) == ("refused", "stale", 13)
    assert stale["why"] == "it is too old; its clock is 1h behind ours" and "clocks" in stale["hint"]
    assert unheard_of["hint"] == f"`knockgate device enrol {unheard_of['device']}`"
    assert (unheard_of["standing"], shut_out["standing"]) == (None, "barred")
    assert known.refused == {Reason.STALE: 1, Reason.UNKNOWN_DEVICE: 2} and known.opened == 0


def test_strangers_are_counted_by_reason() -> None:
    """Of each reason the last one is told; what it says of itself is not among the knocks."""
    known = stories()
    known.junk(0)
    assert told(known)["strangers"] == []
    known.junk(1000)
    known.turned_away(stranger(Reason.NOT_OURS, OTHER))
    for number in range(5):
        known.turned_away(
            stranger(
                Reason.UNKNOWN_KEY, bytes([203, 0, 113, number]), dataclasses.replace(CLAIMS, era=number)
            )
        )
    known.turned_away(stranger(Reason.DUPLICATE))
    known.turned_away(stranger(Reason.DUPLICATE, OTHER, asked="relayed?"))
    document = told(known)
    assert document["knocks"] == []
    junk, unknown, again = document["strangers"]
    assert (junk["reason"], junk["count"], junk["sender"]) == ("not-ours", 1001, "198.51.100.9")
    assert junk["claims"] is None and junk["hint"] is None and "card" in junk["why"]
    assert (unknown["count"], unknown["sender"]) == (5, "203.0.113.4")
    assert (unknown["claims"]["era"], unknown["claims"]["key"]) == (4, None) and "[keys.NAME]" in unknown[
        "hint"
    ]
    assert (again["count"], again["relayed"]) == (2, 1)
    assert known.refused == {Reason.NOT_OURS: 1001, Reason.UNKNOWN_KEY: 5, Reason.DUPLICATE: 2}


def test_who_knocks_most_does_not_push_out_the_others() -> None:
    """Its own older ones go; while there is room, all stay."""
    known = stories()
    known.taken(STORY, {"ssh": 1.0})
    loud = dataclasses.replace(STORY, fingerprint=b"loud" * 8)
    for number in range(199):
        known.turned_away(KnockRefused(Reason.UNKNOWN_DEVICE, "loud", CLIENT, story=loud))
        assert len(told(known)["knocks"]) == number + 2
    for number in range(30):
        known.turned_away(KnockRefused(Reason.UNKNOWN_DEVICE, "loud", CLIENT, story=loud))
        known.taken(dataclasses.replace(STORY, fingerprint=bytes([100 + number]) * 32), {"ssh": 1.0})
    keys = [each["fingerprint"] for each in told(known)["knocks"]]
    assert len(keys) == 200 and len(set(keys)) == 32
    for number in range(300):  # from then on more keys than there is room for
        known.taken(dataclasses.replace(STORY, fingerprint=number.to_bytes(32)), {"ssh": 1.0})
    keys = [each["fingerprint"] for each in told(known)["knocks"]]
    assert len(keys) == 200 and len(set(keys)) == 200


def test_no_more_is_kept_whoever_sends() -> None:
    known = stories()
    for number in range(500):
        known.turned_away(stranger(list(Reason)[number % len(Reason)], CLIENT, CLAIMS))
        known.taken(dataclasses.replace(STORY, era=number), {"ssh": 1.0})
    document = told(known)
    assert [each["era"] for each in document["knocks"]] == list(range(499, 299, -1))
    assert len(document["strangers"]) == len(Reason)
    assert len(json.dumps(document)) < 500_000
