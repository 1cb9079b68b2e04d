"""What every ``world.Firewall`` promises, as cases that any implementation can be put through.

A case is given a ``Stage``: a firewall without a table, a rule set that it loads, and a way for time to
pass. The kernel and the fake in memory both run all of them, so the fake cannot promise more or less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.packets import raw

from knockgate.errors import Unavailable
from knockgate.model import Lease, Port, Protocol, Shadow, Source
from knockgate.world import Firewall

__all__ = ["CASES", "LIMIT", "Stage"]

#: Leases that each set has room for: of IPv4 and of IPv6, by knocks and by hand.
LIMIT = 64

SSH, WEB, WEB3 = Port(Protocol.TCP, 22), Port(Protocol.TCP, 443), Port(Protocol.UDP, 443)
ALICE, BOB, ALICE6 = raw("192.0.2.7"), raw("192.0.2.8"), raw("2001:db8::7")
HOME = ALICE6[:8]  # the network that ALICE6 is in
KERNEL, DAEMON, PACKET, HAND = "kernel sequence", "daemon sequence", "packet", "hand"


@dataclass
class Stage:
    """A firewall without a table, and its time."""

    firewall: Firewall
    ruleset: str
    wait: Callable[[float], None]  #: seconds

    def loaded(self) -> Firewall:
        """The firewall, with its table."""
        self.firewall.load(self.ruleset)
        return self.firewall


def _found(firewall: Firewall) -> dict[tuple[Port, Source, str], Lease]:
    leases = firewall.leases()
    found = {(lease.port, lease.source, lease.by): lease for lease in leases}
    assert len(found) == len(leases), leases
    return found


def without_a_table_there_is_nothing(stage: Stage) -> None:
    """Looking, closing and unloading are no errors; opening is one, with a hint. With a table it is not."""
    firewall = stage.firewall
    for _ in range(2):
        assert not firewall.is_loaded()
        assert firewall.leases() == []
        assert firewall.close([SSH], [ALICE, ALICE6]) == 0
        with pytest.raises(Unavailable, match="not loaded") as caught:
            firewall.open([SSH], ALICE, 60, DAEMON)
        assert caught.value.hint
        firewall.unload()
    firewall.load(stage.ruleset)
    assert firewall.is_loaded()
    firewall.open([SSH], ALICE, 60, DAEMON)
    assert _found(firewall).keys() == {(SSH, ALICE, DAEMON)}


def unloading_ends_all_leases(stage: Stage) -> None:
    """The table is gone with all that was in it: loading again does not bring a lease back."""
    firewall = stage.loaded()
    for by in (DAEMON, HAND):
        firewall.open([SSH], ALICE, 60, by)
    assert len(firewall.leases()) == 2
    firewall.unload()
    assert not firewall.is_loaded()
    assert firewall.leases() == []
    firewall.load(stage.ruleset)
    assert firewall.leases() == []


def loading_again_keeps_leases(stage: Stage) -> None:
    """A lease goes on, with the time that it has left, not with its full time again."""
    firewall = stage.loaded()
    firewall.open([SSH], ALICE, 60, DAEMON)
    firewall.open([SSH], ALICE6, 60, HAND)
    stage.wait(0.3)
    firewall.load(stage.ruleset)
    found = _found(firewall)
    assert found.keys() == {(SSH, ALICE, DAEMON), (SSH, ALICE6, HAND)}
    assert all(50 < lease.left < 59.71 for lease in found.values())


def a_lease_tells_all_about_itself(stage: Stage) -> None:
    """Of both families, for all ports at once, whoever gave it."""
    firewall = stage.loaded()
    for source in (ALICE, ALICE6):
        for by, seconds in ((KERNEL, 30.0), (HAND, 7200.5)):
            firewall.open([SSH, WEB, WEB3], source, seconds, by)
    firewall.open([WEB], BOB, 2.25, DAEMON)
    found = _found(firewall)
    both = [(port, source) for port in (SSH, WEB, WEB3) for source in (ALICE, ALICE6)]
    by_whom = {(*key, by): seconds for key in both for by, seconds in ((KERNEL, 30.0), (HAND, 7200.5))}
    expected = {**by_whom, (WEB, BOB, DAEMON): 2.25}
    lasts = {key: lease.lasts for key, lease in found.items()}
    assert lasts == pytest.approx(expected, abs=0.01)  # the kernel counts in ticks of up to 10 ms
    assert all(lease.lasts - 2 < lease.left <= lease.lasts for lease in found.values())


def opening_again_gives_the_full_time_again(stage: Stage) -> None:
    """Also where the time is the same as before, which the kernel would take for nothing to do."""
    firewall = stage.loaded()
    firewall.open([SSH], ALICE, 60, DAEMON)
    firewall.open([SSH], BOB, 60, DAEMON)
    stage.wait(0.5)
    firewall.open([SSH], ALICE, 60, DAEMON)
    found = _found(firewall)
    assert found[SSH, BOB, DAEMON].left < 59.51  # the control
    assert found[SSH, BOB, DAEMON].left + 0.45 < found[SSH, ALICE, DAEMON].left <= 60


def opening_again_may_change_everything(stage: Stage) -> None:
    """A shorter time, a longer one, another giver: what was said last holds."""
    firewall = stage.loaded()
    firewall.open([SSH, WEB], ALICE, 60, DAEMON)
    firewall.open([SSH], ALICE, 5, KERNEL)
    firewall.open([WEB], ALICE, 600, KERNEL)
    assert {key: lease.lasts for key, lease in _found(firewall).items()} == {
        (SSH, ALICE, KERNEL): 5,
        (WEB, ALICE, KERNEL): 600,
    }


def a_knock_leaves_what_was_given_by_hand(stage: Stage) -> None:
    """The knock's own lease ends, and the longer one that was given by hand goes on."""
    firewall = stage.loaded()
    firewall.open([SSH], ALICE, 60, HAND)
    firewall.open([SSH], ALICE, 1.5, DAEMON)
    assert _found(firewall).keys() == {(SSH, ALICE, HAND), (SSH, ALICE, DAEMON)}
    stage.wait(1.55)
    found = _found(firewall)
    assert found.keys() == {(SSH, ALICE, HAND)}
    assert found[SSH, ALICE, HAND].lasts == 60
    firewall.open([SSH], ALICE, 60, DAEMON)
    firewall.open([SSH], ALICE, 30, HAND)  # nor does the hand shorten what a knock has earned
    assert {lease.by: lease.lasts for lease in firewall.leases()} == {DAEMON: 60, HAND: 30}


def a_packet_makes_no_lease_shorter(stage: Stage) -> None:
    """Neither a hand's nor another packet's, nor a knock a packet's; a longer one is a longer one."""
    firewall = stage.loaded()
    for source in (ALICE, ALICE6):
        firewall.open([SSH], source, 60, HAND)
        firewall.open([SSH, WEB], source, 30, PACKET)
        found = _found(firewall)
        assert {(port, by): lease.lasts for (port, whose, by), lease in found.items() if whose == source} == {
            (SSH, HAND): 60,
            (WEB, PACKET): 30,
        }
        firewall.open([WEB], source, 5, PACKET)
        firewall.open([WEB], source, 5, DAEMON)
        firewall.open([SSH], source, 90, PACKET)
        found = _found(firewall)
        assert {(port, by): lease.lasts for (port, whose, by), lease in found.items() if whose == source} == {
            (SSH, PACKET): 90,
            (WEB, PACKET): 30,
            (WEB, DAEMON): 5,
        }


def a_lease_ends_by_itself(stage: Stage) -> None:
    """Those that are over are gone, of both families, and cannot be closed; another goes on."""
    firewall = stage.loaded()
    for source in (ALICE, ALICE6):
        firewall.open([SSH, WEB], source, 1, DAEMON)
    firewall.open([SSH], BOB, 60, DAEMON)
    stage.wait(1.05)
    assert _found(firewall).keys() == {(SSH, BOB, DAEMON)}
    assert firewall.close([SSH, WEB], [ALICE, ALICE6, BOB]) == 1


def closing_ends_just_these(stage: Stage) -> None:
    """Whoever gave them; other ports and other sources keep theirs, and what is not there is no error."""
    firewall = stage.loaded()
    for source in (ALICE, ALICE6, BOB):
        for by in (DAEMON, HAND):
            firewall.open([SSH, WEB], source, 60, by)
    assert firewall.close([SSH, WEB3], iter([ALICE, ALICE6, raw("192.0.2.99")])) == 4
    left = {(WEB, ALICE), (WEB, ALICE6), (SSH, BOB), (WEB, BOB)}
    assert _found(firewall).keys() == {(*key, by) for key in left for by in (DAEMON, HAND)}
    assert firewall.close([SSH], [ALICE, ALICE6]) == 0
    assert firewall.close([], [BOB]) == firewall.close([SSH], []) == 0
    assert firewall.close([WEB, SSH], [ALICE, ALICE6, BOB]) == 8
    assert firewall.leases() == []


def full_is_said_and_nothing_is_half_open(stage: Stage) -> None:
    """Two ports that find room for one get no lease. Renewing needs no room, and closing makes some."""
    firewall = stage.loaded()
    crowd = [raw(f"198.51.100.{number}") for number in range(1, LIMIT)]
    for source in crowd:
        firewall.open([SSH], source, 60, DAEMON)
    with pytest.raises(Unavailable, match="no room") as caught:
        firewall.open([SSH, WEB], ALICE, 60, DAEMON)
    assert "gate" in str(caught.value.hint)
    assert len(firewall.leases()) == LIMIT - 1
    firewall.open([SSH], ALICE, 60, DAEMON)
    with pytest.raises(Unavailable, match="no room"):
        firewall.open([SSH], BOB, 60, DAEMON)
    firewall.open([SSH], ALICE, 50, DAEMON)
    firewall.open([SSH], BOB, 60, HAND)  # the other sets are not full
    firewall.open([SSH], ALICE6, 60, DAEMON)
    assert len(firewall.leases()) == LIMIT + 2
    assert firewall.close([SSH], [crowd[0]]) == 1
    firewall.open([SSH], BOB, 60, DAEMON)
    assert (SSH, BOB, DAEMON) in _found(firewall)


def a_network_has_leases_of_its_own(stage: Stage) -> None:
    """Beside those of an address in it and of its neighbours; by hand or for a packet; loading keeps them."""
    firewall = stage.loaded()
    other = raw("2001:db8:0:1::")[:8]
    firewall.open([SSH, WEB3], HOME, 600, HAND)
    firewall.open([SSH], other, 60, PACKET)
    firewall.open([SSH], ALICE6, 60, PACKET)
    firewall.load(stage.ruleset)
    found = _found(firewall)
    assert {key: lease.lasts for key, lease in found.items()} == {
        (SSH, HOME, HAND): 600,
        (WEB3, HOME, HAND): 600,
        (SSH, other, PACKET): 60,
        (SSH, ALICE6, PACKET): 60,
    }
    assert firewall.close([SSH], [ALICE6]) == 1
    assert firewall.close([SSH, WEB], [HOME]) == 1
    assert _found(firewall).keys() == {(WEB3, HOME, HAND), (SSH, other, PACKET)}
    assert firewall.close([SSH, WEB3], [HOME, other, ALICE6]) == 2
    assert firewall.leases() == []


def a_network_is_renewed_and_ends(stage: Stage) -> None:
    """A packet makes its lease no shorter, a hand may; the time is given anew, and then it is over."""
    firewall = stage.loaded()
    firewall.open([SSH], HOME, 60, HAND)
    firewall.open([SSH], HOME, 30, PACKET)
    assert {key: lease.lasts for key, lease in _found(firewall).items()} == {(SSH, HOME, HAND): 60}
    firewall.open([SSH], HOME, 90, PACKET)
    assert {key: lease.lasts for key, lease in _found(firewall).items()} == {(SSH, HOME, PACKET): 90}
    firewall.open([SSH], HOME, 1, HAND)
    firewall.open([SSH], ALICE6, 60, HAND)
    stage.wait(0.5)
    assert _found(firewall)[SSH, HOME, HAND].left < 0.51
    firewall.open([SSH], HOME, 1, HAND)
    assert _found(firewall)[SSH, HOME, HAND].left > 0.6
    stage.wait(1.05)
    assert _found(firewall).keys() == {(SSH, ALICE6, HAND)}
    assert firewall.close([SSH], [HOME]) == 0


def networks_have_room_of_their_own(stage: Stage) -> None:
    """As many as there may be addresses, and one more is an error; renewing and other sets need none."""
    firewall = stage.loaded()
    for number in range(LIMIT):
        firewall.open([SSH], raw(f"2001:db8:7:{number:x}::")[:8], 60, PACKET)
    with pytest.raises(Unavailable, match="no room"):
        firewall.open([SSH], HOME, 60, HAND)
    firewall.open([SSH], raw("2001:db8:7:3::")[:8], 90, PACKET)
    firewall.open([SSH], ALICE6, 60, HAND)
    assert len(firewall.leases()) == LIMIT + 1
    assert firewall.close([SSH], [raw("2001:db8:7:3::")[:8]]) == 1
    firewall.open([SSH], HOME, 60, HAND)
    assert (SSH, HOME, HAND) in _found(firewall)


def a_pause_is_for_everybody_and_ends_by_itself(stage: Stage) -> None:
    """It is no lease; it has an end, and another port keeps its own. Loading again keeps what is left."""
    firewall = stage.loaded()
    firewall.pause([SSH, WEB3], 1.5)
    firewall.pause([WEB], 600)
    assert firewall.leases() == []
    stage.wait(0.3)
    firewall.load(stage.ruleset)
    assert {pause.port: pause.lasts for pause in firewall.pauses()} == {SSH: 1.5, WEB3: 1.5, WEB: 600}
    assert all(0 < pause.left <= pause.lasts - 0.29 for pause in firewall.pauses())
    stage.wait(1.25)
    assert [pause.port for pause in firewall.pauses()] == [WEB]


def what_is_said_last_of_a_pause_holds(stage: Stage) -> None:
    """Longer, shorter, or no more; to end one that there is not is no error. It ends no lease."""
    firewall = stage.loaded()
    firewall.open([SSH], ALICE, 60, HAND)
    for seconds in (60, 600, 30, 30):
        firewall.pause([SSH, WEB], seconds)
        assert {pause.port: pause.lasts for pause in firewall.pauses()} == {SSH: seconds, WEB: seconds}
        assert all(seconds - 2 < pause.left <= seconds for pause in firewall.pauses())
    firewall.pause([SSH], 0)
    assert [pause.port for pause in firewall.pauses()] == [WEB]
    firewall.pause([SSH, WEB, WEB3], 0)
    firewall.pause([], 60)
    assert firewall.pauses() == []
    assert len(firewall.leases()) == 1


def a_pause_needs_a_table_and_goes_with_it(stage: Stage) -> None:
    """Without one there is none, which is an error only for who wants one."""
    firewall = stage.firewall
    assert firewall.pauses() == []
    for seconds in (60, 0):
        with pytest.raises(Unavailable, match="not loaded") as caught:
            firewall.pause([SSH], seconds)
        assert caught.value.hint
    firewall.load(stage.ruleset)
    firewall.pause([SSH], 60)
    assert len(firewall.pauses()) == 1
    firewall.unload()
    assert firewall.pauses() == []
    firewall.load(stage.ruleset)
    assert firewall.pauses() == []


def nothing_is_counted_where_nothing_came(stage: Stage) -> None:
    """With and without a table."""
    for _ in range(2):
        assert stage.firewall.shadow() == Shadow({}, {}, [])
        stage.firewall.load(stage.ruleset)


def no_ports_are_no_lease(stage: Stage) -> None:
    """A door without ports opens nothing, and that is fine."""
    firewall = stage.loaded()
    firewall.open([], ALICE, 60, DAEMON)
    assert firewall.leases() == []


CASES: tuple[Callable[[Stage], None], ...] = (
    without_a_table_there_is_nothing,
    unloading_ends_all_leases,
    loading_again_keeps_leases,
    a_lease_tells_all_about_itself,
    opening_again_gives_the_full_time_again,
    opening_again_may_change_everything,
    a_knock_leaves_what_was_given_by_hand,
    a_packet_makes_no_lease_shorter,
    a_lease_ends_by_itself,
    closing_ends_just_these,
    full_is_said_and_nothing_is_half_open,
    a_network_has_leases_of_its_own,
    a_network_is_renewed_and_ends,
    networks_have_room_of_their_own,
    a_pause_is_for_everybody_and_ends_by_itself,
    what_is_said_last_of_a_pause_holds,
    a_pause_needs_a_table_and_goes_with_it,
    nothing_is_counted_where_nothing_came,
    no_ports_are_no_lease,
)
