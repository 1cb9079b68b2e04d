from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.knockgate.daemon.running import DAEMON, KERNEL, leases
from tests.netns import isolated, run

from knockgate.config.doors import parse
from knockgate.daemon.guard import Guard
from knockgate.daemon.link import EVERY_DOOR, Reply, Request, Status, Verb
from knockgate.daemon.origin import Origin
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.ruleset import compile_ruleset
from knockgate.model import source_of

ALICE, BOB, CAROL = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
HOME, CAROL6 = "2001:db8:1:2::/64", "2001:db8:1:2::3"


@contextmanager
def guard(folder: Path, *, own: bool) -> Iterator[Guard]:
    file = folder / "gate.toml"
    file.write_text(KERNEL + DAEMON)
    with Nftables(own=own) as firewall:
        found = Guard(Origin(str(file)), firewall)
        found.load()
        yield found


def do(on: Guard, verb: Verb, door: int, source: str = "", seconds: int = 1000) -> Reply:
    address = source_of(source) if source else b""
    request = Request(verb, 1, door, address, seconds * 1000, on.configuration.checksum)
    reply = on.answer(request, by_hand=True)
    assert reply.status is Status.DONE
    return reply


@isolated
def test_what_was_done_since_the_last_copy_is_done_again(tmp_path: Path) -> None:
    with guard(tmp_path, own=False) as it:
        assert not it.owned
        do(it, Verb.OPEN, 0, ALICE)
        do(it, Verb.OPEN, 1, ALICE)
        do(it, Verb.OPEN, 0, BOB)
        due = it.next_copy()
        assert due is not None and 0 < due - time.monotonic() <= 1  # soon, but not for every lease
        it.copy_if_due(due)
        do(it, Verb.OPEN, 0, CAROL)
        assert do(it, Verb.CLOSE, 1).value == 2
        do(it, Verb.OPEN, 1, CAROL)
        do(it, Verb.OPEN, 0, HOME)
        do(it, Verb.OPEN, 1, HOME)
        assert do(it, Verb.CLOSE, EVERY_DOOR, BOB).value == 1
        assert do(it, Verb.CLOSE, 1, HOME).value == 2
        expected = {
            ("tcp/22", ALICE, "hand"),
            ("tcp/22", CAROL, "hand"),
            ("tcp/80", CAROL, "hand"),
            ("udp/80", CAROL, "hand"),
            ("tcp/22", HOME, "hand"),
        }
        assert leases() == expected
        for times in (1, 2):
            run("nft", "flush", "ruleset")
            assert leases() == set()
            it.put_back()
            assert leases() == expected and it.restored == times


@isolated
def test_a_pause_comes_back_with_what_is_left_of_it(tmp_path: Path) -> None:
    """Whether it was copied or begun since; one that was ended stays so."""

    def paused() -> dict[str, float]:
        return {str(pause.port): pause.left for pause in it._firewall.pauses()}

    with guard(tmp_path, own=False) as it:
        do(it, Verb.PAUSE, 0, seconds=1000)
        do(it, Verb.PAUSE, 1, seconds=500)
        it.copy_if_due(it.next_copy() or 0)
        for since in ({}, {1: 0}, {1: 600}, {0: 0, 1: 0}):
            for door, seconds in since.items():
                do(it, Verb.PAUSE, door, seconds=seconds)
            before = paused()
            run("nft", "flush", "ruleset")
            assert paused() == {}
            assert it.put_back() == 0
            assert paused().keys() == before.keys()
            assert all(before[port] - 5 < left <= before[port] for port, left in paused().items())
        assert paused() == {}
        do(it, Verb.PAUSE, EVERY_DOOR, seconds=900)
        it.reload()
        assert paused().keys() == {"tcp/22", "tcp/80", "udp/80"}


@isolated
def test_the_end_of_all_pauses_is_also_that_of_a_door_that_is_no_more(tmp_path: Path) -> None:
    with guard(tmp_path, own=True) as it:
        do(it, Verb.PAUSE, EVERY_DOOR, seconds=900)
        (tmp_path / "gate.toml").write_text(KERNEL)
        it.reload()
        assert {str(pause.port) for pause in it._firewall.pauses()} == {"tcp/22", "tcp/80", "udp/80"}
        assert do(it, Verb.PAUSE, EVERY_DOOR, seconds=0).value == 3
        assert it._firewall.pauses() == []


@isolated
def test_a_table_that_was_there_is_ours_alone_once_it_had_to_be_put_back(tmp_path: Path) -> None:
    with Nftables(own=False) as firewall:  # such as `knockgate up` makes, without a daemon
        firewall.load(compile_ruleset(parse(KERNEL)))
    with guard(tmp_path, own=True) as it:
        assert not do(it, Verb.PING, 0).owned
        do(it, Verb.OPEN, 0, ALICE)
        it.copy_if_due(it.next_copy() or 0)
        do(it, Verb.OPEN, 0, BOB)
        run("nft", "flush", "ruleset")
        it.put_back()
        assert do(it, Verb.PING, 0).owned and it.next_copy() is not None
        it.copy_if_due(it.next_copy() or 0)
        assert it.next_copy() is None
        run("nft", "flush", "ruleset")
        assert leases() == {("tcp/22", ALICE, "hand"), ("tcp/22", BOB, "hand")}


@isolated
def test_a_table_that_is_ours_alone_is_not_copied(tmp_path: Path) -> None:
    with guard(tmp_path, own=True) as it:
        assert it.owned and it.next_copy() is None
        do(it, Verb.OPEN, 0, ALICE)
        assert it.next_copy() is None and it._since == []
        assert leases() == {("tcp/22", ALICE, "hand")}


@isolated
def test_copying_very_many_leases_takes_a_twentieth_of_the_time(tmp_path: Path) -> None:
    with guard(tmp_path, own=False) as it:
        take, slow = it._copy.take, 0.1

        def take_slowly() -> bool:
            end = time.monotonic() + slow
            while time.monotonic() < end:
                pass
            return take()

        it._copy.take = take_slowly  # type: ignore[method-assign]
        it.copy_if_due(time.monotonic() + 2)
        due = it.next_copy()
        assert due is not None and due - time.monotonic() > 19 * slow


KEYED = (
    KERNEL
    + DAEMON
    + '[doors.keyed]\nports = ["tcp/25"]\nlease = "30s"\nlongest = "60s"\n'
    + '[keys.a]\nfwknop = "/nowhere"\ndoors = ["keyed", "ssh"]\n'
)


@isolated
def test_for_a_key_it_opens_what_some_key_may_open_and_no_longer(tmp_path: Path) -> None:
    """The listener asks, and it is the warden's own copy of the configuration that says yes."""
    file = tmp_path / "gate.toml"
    file.write_text(KEYED)
    with Nftables(own=True) as firewall:
        it = Guard(Origin(str(file)), firewall)
        it.load()

        def ask(door: int, milliseconds: int, source: str = ALICE) -> Reply:
            address, checksum = source_of(source), it.configuration.checksum
            return it.answer(Request(Verb.OPEN, 1, door, address, milliseconds, checksum), by_hand=False)

        for door, milliseconds, why in (
            (1, 1000, "door web is for no key"),
            (2, 60_001, "door keyed is not opened for 60.001 s"),
            (2, 999, "door keyed is not opened for 0.999 s"),
            (2, 0, "door keyed is not the daemon's to open"),
            (0, 0, "door ssh is not the daemon's to open"),
            (3, 1000, "there is no door 3"),
        ):
            assert ask(door, milliseconds).says == why
        assert leases() == set()
        for door, milliseconds in ((2, 60_000), (0, 1000)):
            assert ask(door, milliseconds).status is Status.DONE
        assert ask(2, 60_000, HOME).status is Status.DONE
        assert leases() == {
            ("tcp/25", ALICE, "packet"),
            ("tcp/25", HOME, "packet"),
            ("tcp/22", ALICE, "packet"),
        }


@isolated
def test_a_sequence_is_never_knocked_for_a_network(tmp_path: Path) -> None:
    with guard(tmp_path, own=True) as it:

        def ask(source: str) -> Reply:
            return it.answer(
                Request(Verb.OPEN, 1, 1, source_of(source), 0, it.configuration.checksum), by_hand=False
            )

        refused = ask(HOME)
        assert refused.status is Status.NOT_ALLOWED and "whole network" in refused.says
        assert leases() == set()
        assert ask(CAROL6).status is Status.DONE  # the control: an address in it
        assert leases() == {(port, CAROL6, "daemon sequence") for port in ("tcp/80", "udp/80")}
