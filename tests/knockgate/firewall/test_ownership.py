from __future__ import annotations

import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.knockgate.firewall.small_table import ALICE, ALICE6, RULESET, SSH, listing
from tests.netns import DEADLINE, isolated, run

from knockgate.errors import Unavailable
from knockgate.firewall import nfmessages
from knockgate.firewall.nftables import Nftables

#: A gate in a process of its own: loads, opens for ALICE, says so, and stays until it is killed.
OWNER = """
import sys
from knockgate.firewall.nftables import Nftables
from knockgate.model import Port, Protocol
firewall = Nftables()
firewall.load(sys.argv[1])
firewall.open([Port(Protocol.TCP, 22)], bytes([192, 0, 2, 7]), 60, "hand")
print(firewall.owned, flush=True)
sys.stdin.read()
"""


@contextmanager
def another_gate() -> Iterator[subprocess.Popen[str]]:
    """A process that owns the table and has let ALICE in; killed in the end, if it was not before."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, RULESET],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def nft(*commands: str) -> str:
    """What nft says to commands that it must refuse; they fail the test where it does not."""
    done = subprocess.run(["nft", *commands], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode != 0, commands
    return done.stderr


@isolated
def test_nobody_else_can_change_an_owned_table() -> None:
    """Not nft, not another gate; looking is free. As soon as the owner is gone everybody can (control)."""
    changes = (
        "delete table inet knockgate",
        "flush table inet knockgate",
        "add rule inet knockgate guard accept",
        "flush set inet knockgate given4",
        "add element inet knockgate leases4 { 192.0.2.66 . tcp . 22 }",
    )
    with another_gate() as owner, Nftables() as other:
        before = listing()
        run("nft", "flush ruleset")
        for change in changes:
            assert "Operation not permitted" in nft(change)
        attempts: tuple[Callable[[], object], ...] = (
            lambda: other.load(RULESET),
            other.unload,
            lambda: other.open([SSH], ALICE6, 60, "hand"),
            lambda: other.close([SSH], [ALICE]),
        )
        for attempt in attempts:
            with pytest.raises(Unavailable, match="belongs to a knockgate that runs") as caught:
                attempt()
            assert "stopped" in str(caught.value.hint)
        assert listing() == before
        assert other.is_loaded() and not other.owned
        assert [lease.source for lease in other.leases()] == [ALICE]
        owner.kill()
        owner.wait()
        for change in reversed(changes):
            run("nft", change)
        assert listing() == ""


@isolated
def test_table_and_leases_outlive_their_owner() -> None:
    """Killed on the spot, and between two owners. The next one takes all over, and keeps it."""
    with another_gate() as owner:
        before = re.sub(r"( # progname \S+)|(?<=flags) owner", "", listing())
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert listing().replace("flags ", "flags", 1) == before
    assert "192.0.2.7" in before
    with Nftables() as heir:
        owned = [heir.owned]
        heir.load(RULESET)
        owned.append(heir.owned)
        assert owned == [False, True]
        assert [lease.source for lease in heir.leases()] == [ALICE]
        run("nft", "flush ruleset")
        assert heir.is_loaded()
    assert "192.0.2.7" in listing()
    run("nft", "flush ruleset")  # nobody's now
    assert listing() == ""


@isolated
def test_a_table_without_owner_serves_everybody() -> None:
    """After `up` has ended: another process changes leases and rules, though it does not own the table."""
    with Nftables() as firewall:
        firewall.load(RULESET)
    with Nftables(own=False) as other:
        other.open([SSH], ALICE, 60, "hand")
        other.load(RULESET)
        assert not other.owned
        assert other.close([SSH], [ALICE]) == 1
        # What plain nft cannot do is to declare it: that would take the flags away.
        assert "Operation not supported" in nft(RULESET)
        run("nft", RULESET.partition("\n")[2])
        other.unload()
        assert listing() == ""


@isolated
def test_a_plain_table_stays_plain() -> None:
    """Where nft made the table the kernel gives it to nobody; it works all the same, with its leases."""
    run("nft", RULESET)
    run("nft", "add element inet knockgate leases4 { 192.0.2.7 . tcp . 22 timeout 1h }")
    with Nftables() as firewall:
        firewall.load(RULESET)
        assert not firewall.owned
        assert [lease.source for lease in firewall.leases()] == [ALICE]
        firewall.unload()
        firewall.load(RULESET)
        assert firewall.owned  # the control: a table of our own making


@isolated
def test_a_kernel_that_does_not_know_persist() -> None:
    """It refuses the unknown flag, and the table must not be owned then: it would die with its owner."""
    before, nfmessages.PERSIST = nfmessages.PERSIST, 0x80  # what Linux 6.18 does not know
    try:
        with Nftables() as firewall:
            firewall.load(RULESET)
            assert not firewall.owned
            firewall.open([SSH], ALICE, 60, "daemon sequence")
    finally:
        nfmessages.PERSIST = before
    assert "192.0.2.7" in listing()


@isolated
def test_a_child_does_not_keep_the_table_owned() -> None:
    with Nftables() as firewall:
        firewall.load(RULESET)
        child = subprocess.Popen(["sleep", "1000"], close_fds=False)
    try:
        assert child.poll() is None
        run("nft", "flush ruleset")
        assert listing() == ""
    finally:
        child.kill()
        child.wait()


# --- the watch ----------------------------------------------------------------------------------------


@isolated
def test_the_watch_tells_of_a_removal_and_of_nothing_else() -> None:
    with Nftables(own=False) as firewall, firewall.watch() as watch:
        firewall.load(RULESET)
        firewall.open([SSH], ALICE, 60, "hand")
        firewall.unload()  # our own doing
        firewall.load(RULESET)
        run("nft", "add table inet other; add table ip knockgate")
        run("nft", "delete table inet other; delete table ip knockgate")
        assert watch.removal() is None
        for removing in ("flush ruleset", "delete table inet knockgate"):
            firewall.load(RULESET)
            child = subprocess.Popen(["nft", removing])
            assert select.select([watch], [], [], DEADLINE)[0]
            assert child.wait(DEADLINE) == 0
            removal = watch.removal()
            assert removal and removal.by.startswith("nft, process ")
            assert watch.removal() is None
        firewall.load(RULESET)
        run("nft", f"delete table inet knockgate; {RULESET}")  # gone and back at once, with no lease left
        assert watch.removal()


@isolated
def test_the_watch_looks_itself_where_it_was_told_too_much() -> None:
    """The kernel drops what does not fit, and the removal may be among it."""
    with Nftables(own=False) as firewall, firewall.watch() as watch:
        for command, is_removed in (("add table inet one", False), ("delete table inet knockgate", True)):
            firewall.load(RULESET)
            watch._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            for _ in range(10):
                run("nft", "add table inet other; delete table inet other")
            run("nft", command)
            lost = select.poll()
            lost.register(watch, 0)
            assert lost.poll(0)  # ENOBUFS is waiting to be told
            assert bool(watch.removal()) == is_removed
