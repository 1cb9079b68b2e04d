"""One function a figure: sealed knocks, and fwknopd and knockd beside them. ``README.md`` explains them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.fwknop_figures import again, disk, told_of, until_open, work
from bench.fwknop_lab import SPA_PORT
from bench.sealed_lab import MOST_CARDS, Person, SealedLab
from bench.stage import FILES, emit
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

__all__ = ["FIGURES"]

_SOURCE = "192.0.2.7"
#: Lines of a file of keys.
_LINES = 3000


def first_connection(lab: SealedLab) -> None:
    """From a knock's leaving to the first connection that is accepted; nothing else goes on."""
    knocks = lab.args.connects
    for suite in Suite:
        times: list[float | None] = []
        with lab.sealed(1):
            lab.expect_shut(4)
            for _ in range(knocks):
                source = lab.source(4)
                times.append(until_open(lab, source, lab.send(source, lab.sealed_knock(source, suite))))
        _tell(f"knockgate, sealed, {suite.name.lower()}", times, fdatasync_ms=disk(Path(lab.args.state)))
    times, few = [], max(10, knocks // 10)
    with lab.fwknopd(1):
        lab.expect_shut(4)
        for _ in range(few):
            source = lab.source(4)
            packet = lab.packet(source)
            times.append(until_open(lab, source, lab.send(source, packet, port=SPA_PORT)))
    _tell("fwknopd", times)
    times = []
    with lab.knockd():
        lab.expect_shut(4)
        for _ in range(few):
            source = lab.source(4)
            with lab.site.client.inside():
                lab.knock(4, source)
            times.append(until_open(lab, source, time.monotonic()))
    _tell("knockd", times)


def _tell(subject: str, times: list[float | None], **more: object) -> None:
    emit("figure", figure="first_connection", subject=subject, tried=len(times), **told_of(times), **more)


def junk(lab: SealedLab) -> None:
    """Datagrams of the right length with a wrong tag, as fast as they can be refused."""
    for suite in Suite:
        for cards in (1, MOST_CARDS):
            told = again(partial(work, lab, lab.sealed, cards, "random", suite.length))
            subject = f"{suite.name.lower()}, {cards} {'card' if cards == 1 else 'cards'}"
            emit("figure", figure="junk", subject=subject, **told)


def tags(lab: SealedLab) -> None:  # noqa: ARG001 - no network
    """The check of a tag by itself."""
    keys = CardKeys(os.urandom(32))
    for suite in Suite:
        datagrams = [os.urandom(suite.length) for _ in range(1000)]
        best = min(_seconds(lambda: [keys.is_of(each) for each in datagrams]) for _ in range(20))  # noqa: B023
        emit("figure", figure="tags", subject=suite.name.lower(), per_core_second=round(1000 / best))


def valid(lab: SealedLab) -> None:
    """Knocks that open, by the number of keys that may; from the datagram to the decision, claim included."""
    gate = GateKey(xwing_seed=os.urandom(32), x25519_key=os.urandom(32))
    secret = os.urandom(32)
    person = Person()
    for suite in Suite:
        base = None
        for keys in lab.args.authorised:
            find = _files(person, keys)
            cost, wall = _valid(lab, find, gate, secret, person, suite)
            base = base or cost
            emit(
                "figure",
                figure="valid",
                subject=f"{suite.name.lower()}, {keys} keys",
                us_each=round(cost * 1e6, 1),
                per_core_second=round(1 / cost),
                ratio=round(cost / base, 3),
                wall_us_each=round(wall * 1e6, 1),
            )


def _files(person: Person, keys: int) -> KeyFiles:
    """The person's key in the last line of the last file."""
    folder = FILES / f"people-{keys}"
    folder.mkdir(exist_ok=True)
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
    return found


def _valid(
    lab: SealedLab, files: KeyFiles, gate: GateKey, secret: bytes, person: Person, suite: Suite
) -> tuple[float, float]:
    """Seconds of the processor, and of the clock, for each: the least of some batches."""
    party = Party("people", {"bench": Entrance("bench", 30.0, 30.0)}, leases=10)
    incarnation, path = os.urandom(16), Path(lab.new_state(), "marks.sqlite")
    path.parent.mkdir(mode=0o700)
    SqliteMarks.create(path, incarnation)
    store = SqliteMarks(path, incarnation=incarnation, devices=32)

    def find(fingerprint: bytes) -> list[Line]:
        files.refresh()
        return [Line(party, each.file, each.entry) for each in files.find(fingerprint)]

    card = LiveCard("c", CardKeys(secret), gate)
    sealed = Sealed(
        [card],
        find,
        lambda _: Standing.UNSAID,
        suites=list(Suite),
        budget=1e9,
        certain=Blind(),
    )
    now = time.clock_gettime(time.CLOCK_REALTIME)
    cards = gate.card(secret)
    costs, walls = [], []
    up = 0.0
    for _ in range(lab.args.batches):
        datagrams = []
        for _ in range(100):
            up += 40.0  # leases end, and the key may knock again
            issued = round((now + up) * 10**9)
            datagrams.append(
                (
                    Moment(now + up, synchronised=True, up=up, boot="boot"),
                    person.knock(cards, _SOURCE, suite, issued),
                )
            )
        cpu, wall, opened = time.process_time(), time.perf_counter(), 0
        for moment, datagram in datagrams:
            opened += _take(sealed, store, moment, datagram)
        costs.append((time.process_time() - cpu) / len(datagrams))
        walls.append((time.perf_counter() - wall) / len(datagrams))
        if opened != len(datagrams):
            raise Unavailable(f"measurement failed: {opened} of {len(datagrams)} knocks opened")
    store.close()
    return min(costs), sorted(walls)[len(walls) // 2]


def _take(sealed: Sealed, store: SqliteMarks, moment: Moment, datagram: bytes) -> bool:
    """Whether the knock opens."""
    if not sealed.concerns(datagram):
        return False
    effects = sealed.feed(DatagramSeen(datagram, bytes([192, 0, 2, 7]), moment))
    for effect in effects:
        if isinstance(effect, ClaimMark):
            claimed = store.claim(
                effect.key, effect.device, effect.date, effect.taken, effect.floor, may_spend=effect.may_spend
            )
            return any(isinstance(each, OpenDoor) for each in sealed.feed(MarkSettled(claimed, moment)))
    return False


def _seconds(what: Callable[[], object]) -> float:
    began = time.process_time()
    what()
    return time.process_time() - began


FIGURES: dict[str, Callable[[SealedLab], None]] = {
    each.__name__: each for each in (first_connection, junk, tags, valid)
}
