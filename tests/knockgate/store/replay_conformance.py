"""What every ``world.ReplayStore`` promises, as cases and as a machine that tries any course of things.

The file and the fake in memory both run all of it, so the fake cannot promise more or less.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from knockgate.model import Claim, Moment, Token
from knockgate.world import ReplayStore

__all__ = ["CASES", "FRESH", "HELD", "LIMIT", "Life", "MakesStore", "Stage", "at", "token"]

FRESH, LIMIT = 120.0, 12
#: Seconds for which a claim is remembered at least.
HELD = 300.0
#: The time, in these tests: some hour, and half of it.
NOW = 500_000 * 3600 + 1800
ALICE, BOB = bytes([192, 0, 2, 7]), bytes([192, 0, 2, 8])
IN_2038 = 1 << 31


class MakesStore(Protocol):
    def __call__(self, *, limit: int) -> ReplayStore: ...


def token(issued: float = 0.0) -> Token:
    """A packet nobody has seen, issued so many seconds after NOW."""
    return Token(os.urandom(32), int(NOW + issued), "alice", ALICE)


def at(
    since: float = 0.0, *, off: float = 0.0, known: bool = True, boot: str = "a", up: float = 0.0
) -> Moment:
    """``since`` seconds after NOW by a clock that is ``off`` by so many; the boot was 1000 s before NOW."""
    return Moment(NOW + since + off, known, up or since + 1000, boot)


@dataclass
class Stage:
    """An empty store with room for LIMIT tokens."""

    store: ReplayStore

    def take(self, one: Token, moment: Moment) -> Claim:
        """As the gate does: what is claimed is settled."""
        claim = self.store.claim(one, moment)
        if claim is Claim.CLAIMED:
            self.store.settle(one)
        return claim

    def taken(self, one: Token, moment: Moment) -> Token:
        """The same, for one that must be claimed."""
        assert self.take(one, moment) is Claim.CLAIMED
        return one


# --- cases --------------------------------------------------------------------------------------------


def a_token_is_claimed_once(stage: Stage) -> None:
    """At once, later, for somebody else, without a clock, with any clock, after a boot; another one is."""
    one = stage.taken(token(), at())
    for moment in (
        at(),
        at(100),
        at(10_000),
        at(known=False),
        at(off=IN_2038),
        at(off=-IN_2038),
        at(1, boot="b", up=5),
        at(1000, boot="b", up=1000),
    ):
        assert stage.take(one, moment) is Claim.REPLAYED
        assert stage.take(one._replace(source=BOB, key="bob", issued=NOW + 1), moment) is Claim.REPLAYED
    assert len(stage.store) == 1
    stage.taken(token(), at(10))
    assert len(stage.store) == 2


def unsettled_it_is_claimed_all_the_same(stage: Stage) -> None:
    one = token()
    assert stage.store.claim(one, at()) is Claim.CLAIMED
    assert stage.store.claim(one, at(1)) is Claim.REPLAYED


def what_freshness_refuses_is_forgotten(stage: Stage) -> None:
    """And from then on refused as forgotten, with and without a clock; a packet on time is taken."""
    old = [stage.taken(token(second), at(second)) for second in (0, 1, 2)]
    assert stage.store.low() is None
    stage.taken(token(HELD + 10), at(HELD + 10))
    assert len(stage.store) == 1 and stage.store.low() == NOW + 2
    for known in (True, False):
        for one in old:
            assert stage.take(one, at(HELD + 20, known=known)) is Claim.FORGOTTEN
            assert stage.take(one, at(10, known=known)) is Claim.FORGOTTEN  # it is fresh again
    stage.taken(token(HELD + 20), at(HELD + 20))


def what_may_be_fresh_is_remembered(stage: Stage) -> None:
    """Dated as far ahead as is allowed, it is remembered until just that age; a second later it is not."""
    one = stage.taken(token(FRESH), at())
    stage.taken(token(2 * FRESH), at(2 * FRESH))
    assert stage.take(one, at(2 * FRESH)) is Claim.REPLAYED
    for since, remembered in ((HELD, 3), (HELD + 2, 3)):  # the second forgets the first, and adds itself
        stage.taken(token(since), at(since))
        assert len(stage.store) == remembered
    assert stage.take(one, at(HELD + 2)) is Claim.FORGOTTEN


def the_very_edge_is_fresh(stage: Stage) -> None:
    one = stage.taken(token(), at())
    later = at(1000, off=FRESH - 1000)  # now - fresh is when it was issued
    stage.taken(token(FRESH), later)
    assert stage.take(one, later) is Claim.REPLAYED and stage.store.low() is None
    stage.taken(token(FRESH + 1), at(1001, off=FRESH - 1000))
    assert stage.store.low() == NOW


def a_clock_that_jumps_ahead_and_back_costs_nothing(stage: Stage) -> None:
    """Nobody is shut out, nothing is revived: what is forgotten was claimed long ago by the boot's time."""
    one = stage.taken(token(100), at())
    stage.taken(token(IN_2038), at(10, off=IN_2038))
    assert stage.store.low() is None
    assert stage.take(one, at(20)) is Claim.REPLAYED
    stage.taken(token(20), at(20))
    for since in (HELD + 2, HELD + 4):  # in 2038 for long enough, it forgets it
        stage.taken(token(since + IN_2038), at(since, off=IN_2038))
    assert stage.store.low() == NOW + 100
    assert stage.take(one, at(HELD + 20)) is Claim.FORGOTTEN
    assert stage.take(one, at(HELD + 20, off=-HELD)) is Claim.FORGOTTEN
    stage.taken(token(HELD + 20 - FRESH), at(HELD + 20))  # also for who is as late as is allowed
    stage.taken(token(HELD + 20), at(HELD + 20, known=False))


def without_a_clock_nothing_is_forgotten(stage: Stage) -> None:
    """However old it is; the first claim with a clock forgets it."""
    one = stage.taken(token(), at(known=False))
    for since in (1000, 1_000_000):
        stage.taken(token(since), at(since, known=False))
        assert stage.take(one, at(since, known=False)) is Claim.REPLAYED
    assert len(stage.store) == 3 and stage.store.low() is None
    stage.taken(token(1_001_000), at(1_001_000))
    assert stage.take(one, at(1_001_000, known=False)) is Claim.FORGOTTEN
    assert len(stage.store) == 1


def without_a_clock_what_is_older_is_refused(stage: Stage) -> None:
    """What was held back on its way, from an hour that has no mark. With a clock it is claimed, and stale."""
    held_back, other = token(-7200), token(-7200)
    stage.taken(token(), at())
    stage.taken(token(1000), at(1000))
    assert stage.store.low() == NOW
    assert stage.take(held_back, at(1000, known=False)) is Claim.FORGOTTEN
    assert stage.take(token(), at(1000, known=False)) is Claim.FORGOTTEN
    stage.taken(token(1), at(1000, known=False))
    stage.taken(other, at(1000))


def after_a_boot_it_is_not_known_when(stage: Stage) -> None:
    """So what was claimed before counts as claimed at the boot."""
    one = stage.taken(token(), at(up=10))
    stage.taken(token(1000), at(1000, boot="b", up=200))
    assert stage.take(one, at(1000, boot="b", up=200)) is Claim.REPLAYED
    stage.taken(token(1200), at(1200, boot="b", up=HELD + 1))
    assert stage.take(one, at(1200, boot="b", up=HELD + 1)) is Claim.FORGOTTEN


def two_wrong_clocks_shut_out_for_an_hour(stage: Stage) -> None:
    """A gate and a client in 2038, long enough to forget; today everybody is let in, also without a clock."""
    for since in (0, 1000, 2000):
        stage.taken(token(since + IN_2038), at(since, off=IN_2038))
    assert stage.store.low() == NOW + 1000 + IN_2038
    assert stage.take(token(2000), at(2000, known=False)) is Claim.FORGOTTEN
    stage.taken(token(2000), at(2000))
    assert stage.store.low() is None
    stage.taken(token(2001), at(2001, known=False))
    then = 1000 + IN_2038
    assert stage.take(token(then), at(then)) is Claim.FORGOTTEN
    stage.taken(token(then + 1), at(then + 1))


def what_is_ahead_of_a_repaired_clock_is_not_low(stage: Stage) -> None:
    """Also where it is ahead by less than an hour."""
    for since in (0, HELD + 2):
        stage.taken(token(since + 1000), at(since, off=1000))
    assert stage.store.low() == NOW + 1000
    stage.taken(token(HELD + 3 - 3600), at(HELD + 3))
    assert stage.store.low() is None


def a_mark_never_goes_back(stage: Stage) -> None:
    """Who is late is forgotten after who was early; both stay refused."""
    early, late = stage.taken(token(100), at(100)), stage.taken(token(50), at(150))
    stage.taken(token(420), at(420))
    assert len(stage.store) == 2 and stage.store.low() == NOW + 100
    stage.taken(token(460), at(460))
    assert len(stage.store) == 2 and stage.store.low() == NOW + 100
    for one in (early, late):
        assert stage.take(one, at(460)) is Claim.FORGOTTEN


def there_is_room_for_so_many(stage: Stage) -> None:
    """Full, it refuses what is new and knows what it knows; with a clock there is room again in time."""
    known = [stage.taken(token(), at(known=False)) for _ in range(LIMIT)]
    assert len(stage.store) == stage.store.limit == LIMIT
    for moment in (at(), at(1000, known=False), at(HELD)):
        assert stage.take(token(), moment) is Claim.FULL
        assert {stage.take(one, moment) for one in known} == {Claim.REPLAYED}
    one = stage.taken(token(HELD + 2), at(HELD + 2))
    assert {stage.take(old, at(HELD + 2)) for old in known} == {Claim.FORGOTTEN}
    assert stage.take(one, at(HELD + 3)) is Claim.REPLAYED
    assert len(stage.store) == 1


CASES: tuple[Callable[[Stage], None], ...] = (
    a_token_is_claimed_once,
    unsettled_it_is_claimed_all_the_same,
    what_freshness_refuses_is_forgotten,
    what_may_be_fresh_is_remembered,
    the_very_edge_is_fresh,
    a_clock_that_jumps_ahead_and_back_costs_nothing,
    without_a_clock_nothing_is_forgotten,
    without_a_clock_what_is_older_is_refused,
    after_a_boot_it_is_not_known_when,
    two_wrong_clocks_shut_out_for_an_hour,
    what_is_ahead_of_a_repaired_clock_is_not_low,
    a_mark_never_goes_back,
    there_is_room_for_so_many,
)


# --- any course of things -----------------------------------------------------------------------------


@dataclass
class World:
    """What is so, and what the gate's clock says."""

    time: float = 0.0  #: seconds since NOW
    off: float = 0.0
    known: bool = True
    up: float = 5000.0
    boots: int = 1
    packets: list[Token] = field(default_factory=list)

    def moment(self) -> Moment:
        return Moment(NOW + self.time + self.off, self.known, self.up, f"boot {self.boots}")

    def wait(self, seconds: float) -> None:
        self.time += seconds
        self.up += seconds


JUMPS = st.sampled_from([0, 0, 0, 1, -1, 100, -100, 400, -400, 5000, -5000, 1 << 29, -(1 << 29)])


class Life(RuleBasedStateMachine):
    """A gate with clients and somebody who replays, whatever its clock, its boots and its crashes do.

    Clients are right within FRESH, or else some are far ahead. With right ones there is little room, and
    nobody on time is ever refused but for want of room.
    """

    def new_store(self, *, limit: int) -> ReplayStore:
        raise NotImplementedError

    def restarted(self, store: ReplayStore) -> ReplayStore:
        """The same one in another process, where it outlives one."""
        return store

    @initialize(clients_are_right=st.booleans())
    def begin(self, clients_are_right: bool) -> None:
        self.clients_are_right = clients_are_right
        self.store = self.new_store(limit=LIMIT if clients_are_right else 10_000)
        self.world = World()
        self.spent: set[bytes] = set()

    @rule(seconds=st.sampled_from([1, 60, 125, 290, 310, 4000, 90_000]))
    def time_passes(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(off=JUMPS)
    def the_clock_is_set(self, off: float) -> None:
        self.world.off = off

    @rule(known=st.booleans())
    def it_is_vouched_for(self, known: bool) -> None:
        self.world.known = known

    @rule(up=st.sampled_from([3.0, 299.0, 400.0]))
    def boot(self, up: float) -> None:
        self.world.boots += 1
        self.world.time += up + 20
        self.world.up = up
        self.store = self.restarted(self.store)

    @rule()
    def crash(self) -> None:
        self.store = self.restarted(self.store)

    @rule(skew=st.floats(-FRESH, FRESH), ahead=JUMPS, held_back=st.booleans())
    def knock(self, skew: float, ahead: float, held_back: bool) -> None:
        if not self.clients_are_right:
            skew += ahead
        one = token(self.world.time + skew)
        self.world.packets.append(one)
        if held_back:
            return
        claim = self.arrives(one)
        if self.clients_are_right:
            assert claim in (None, Claim.CLAIMED, Claim.FULL)

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        if self.world.packets:
            self.arrives(data.draw(st.sampled_from(self.world.packets)))

    def arrives(self, one: Token) -> Claim | None:
        """What the gate does; None where it refuses it unspent, since it is dated ahead of a known clock."""
        moment = self.world.moment()
        if moment.synchronised and one.issued > moment.now + FRESH:
            return None
        claim = self.store.claim(one, moment)
        if claim is Claim.CLAIMED:
            assert one.digest not in self.spent, "claimed a second time"
            self.spent.add(one.digest)
            self.store.settle(one)
        elif one.digest in self.spent:
            assert claim in (Claim.REPLAYED, Claim.FORGOTTEN)
        return claim

    def teardown(self) -> None:
        """Once all is right nobody is shut out for good: for an hour at most for each packet dated ahead."""
        if not hasattr(self, "world"):
            return
        self.world.known, self.world.off = True, 0
        self.world.wait(2 * HELD)
        claims = []
        for _ in range(len(self.spent) + 1):
            claims.append(self.arrives(token(self.world.time)))
            if claims[-1] is Claim.CLAIMED:
                break
            self.world.wait(3600)
        assert claims[-1] is Claim.CLAIMED
        assert len(claims) == 1 or not self.clients_are_right
