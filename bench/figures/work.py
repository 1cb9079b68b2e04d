"""A sealed knock's own work, without network and warden: the check of a tag, and all up to the decision."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from bench.figures import Figure, Finding
from bench.lab import Lab, Person
from bench.stage import FILES
from knockgate.config.keyfiles import KeyFiles
from knockgate.config.keys import KeyFile, SshKeys
from knockgate.effects import DatagramSeen, OpenDoor
from knockgate.errors import Unavailable
from knockgate.mechanisms.certainty import Blind
from knockgate.mechanisms.parties import Entrance, Line, Party
from knockgate.mechanisms.sealed import ClaimMark, LiveCard, MarkSettled, Sealed, Standing
from knockgate.model import Moment
from knockgate.spa.sealed import CardKeys, GateKey, Suite
from knockgate.store.marks import SqliteMarks

__all__ = ["FIGURE"]

_SUITES = {"sealed": Suite.XWING, "sealed-small": Suite.X25519}
_SOURCE = "192.0.2.7"
#: Lines of a file of keys.
_LINES = 3000
_AT_ONCE = 100


def _measure(lab: Lab, name: str) -> Iterator[Finding]:
    suite = _SUITES[name]
    yield Finding("tag", {"per_core_s": round(_tags(suite))})
    for keys in lab.args.authorised:
        cpu, wall = _valid(lab, keys, suite)
        yield Finding(
            f"{keys} keys",
            {
                "us_each": round(cpu * 1e6, 1),
                "clock_us_each": round(wall * 1e6, 1),
                "per_core_s": round(1 / cpu),
            },
        )


def _tags(suite: Suite) -> float:
    keys = CardKeys(os.urandom(32))
    datagrams = [os.urandom(suite.length) for _ in range(1000)]
    return 1000 / min(_seconds(lambda: [keys.is_of(each) for each in datagrams]) for _ in range(20))


def _seconds(what: Callable[[], object]) -> float:
    began = time.process_time()
    what()
    return time.process_time() - began


@lru_cache
def _person_among(keys: int) -> tuple[Person, KeyFiles]:
    """Somebody whose key is in the last line of the last file."""
    folder, person = FILES / f"people-{keys}", Person()
    folder.mkdir()
    lines = [Person().line for _ in range(keys - 1)] + [person.line]
    places = []
    for begin in range(0, keys, _LINES):
        path = folder / str(begin)
        path.write_text("".join(f"{line}\n" for line in lines[begin : begin + _LINES]))
        places.append(KeyFile(str(path)))
    group = SshKeys(
        name="people", ssh=tuple(place.path for place in places), doors=("bench",), files=tuple(places)
    )
    found = KeyFiles([group])
    found.refresh()
    if found.total != keys:
        raise Unavailable(f"measurement failed: {found.total} keys were read of {keys}")
    return person, found


def _valid(lab: Lab, keys: int, suite: Suite) -> tuple[float, float]:
    """Seconds of the processor, and of the clock, for each: the least, and the middle, of some batches."""
    person, files = _person_among(keys)
    gate, secret = GateKey(xwing_seed=os.urandom(32), x25519_key=os.urandom(32)), os.urandom(32)
    party = Party("people", {"bench": Entrance("bench", 30.0, 30.0)}, leases=10)
    incarnation, path = os.urandom(16), Path(lab.new_state(), "marks.sqlite")
    path.parent.mkdir(mode=0o700)
    SqliteMarks.create(path, incarnation)
    store = SqliteMarks(path, incarnation=incarnation, devices=32)

    def find(fingerprint: bytes) -> list[Line]:
        files.refresh()
        return [Line(party, each.file, each.entry) for each in files.find(fingerprint)]

    card = LiveCard("c", CardKeys(secret), gate)
    sealed = Sealed([card], find, lambda _: Standing.UNSAID, suites=list(Suite), budget=1e9, certain=Blind())
    now, cards = time.clock_gettime(time.CLOCK_REALTIME), gate.card(secret)
    costs, walls, up = [], [], 0.0
    for _ in range(lab.args.batches):
        datagrams = []
        for _ in range(_AT_ONCE):
            up += 40.0  # leases end, and the key may knock again
            moment = Moment(now + up, synchronised=True, up=up, boot="boot")
            datagrams.append((moment, person.knock(cards, _SOURCE, suite, round((now + up) * 10**9))))
        cpu, wall = time.process_time(), time.perf_counter()
        opened = sum(_takes(sealed, store, *each) for each in datagrams)
        costs.append((time.process_time() - cpu) / _AT_ONCE)
        walls.append((time.perf_counter() - wall) / _AT_ONCE)
        if opened != _AT_ONCE:
            raise Unavailable(f"measurement failed: {opened} of {_AT_ONCE} knocks opened")
    store.close()
    return min(costs), sorted(walls)[len(walls) // 2]


def _takes(sealed: Sealed, store: SqliteMarks, moment: Moment, datagram: bytes) -> bool:
    """Whether the knock opens."""
    if not sealed.concerns(datagram):
        return False
    for effect in sealed.feed(DatagramSeen(datagram, bytes([192, 0, 2, 7]), moment)):
        if isinstance(effect, ClaimMark):
            claimed = store.claim(
                effect.key, effect.device, effect.date, effect.taken, effect.floor, may_spend=effect.may_spend
            )
            return any(isinstance(each, OpenDoor) for each in sealed.feed(MarkSettled(claimed, moment)))
    return False


FIGURE = Figure("work", tuple(_SUITES), _measure)
