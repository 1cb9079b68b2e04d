from __future__ import annotations

import math
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from tests.knockgate.firewall.conformance import CASES, LIMIT, Stage
from tests.netns import DEADLINE, isolated, run, until, without_rights
from tests.packets import raw

from knockgate.config.doors import parse
from knockgate.errors import Unavailable
from knockgate.firewall import libnftables, nfmessages
from knockgate.firewall.memory import MemoryFirewall
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.ruleset import compile_ruleset
from knockgate.model import Lease, Port, Protocol

SSH, DNS = Port(Protocol.TCP, 22), Port(Protocol.UDP, 53)
ALICE, ALICE6 = raw("192.0.2.7"), raw("2001:db8::7")
HOME = raw("2001:db8:1:2::")[:8]

RULESET = "add table inet knockgate\n" + "".join(
    f"add set inet knockgate {name} {{ type {kind} . inet_proto . inet_service; "
    f"size {LIMIT}; flags dynamic,timeout; }}\n"
    for name, kind in (
        ("leases4", "ipv4_addr"),
        ("given4", "ipv4_addr"),
        ("leases6", "ipv6_addr"),
        ("given6", "ipv6_addr"),
        ("networks6", "ipv6_addr"),
    )
)
RULESET += """\
add set inet knockgate paused { type inet_proto . inet_service; flags timeout; }
add chain inet knockgate door
add chain inet knockgate guard { type filter hook prerouting priority -190; policy accept; }
flush table inet knockgate
add rule inet knockgate door ip saddr . meta l4proto . th dport @leases4 accept
add rule inet knockgate door ip saddr . meta l4proto . th dport @given4 accept
add rule inet knockgate door drop
add rule inet knockgate guard tcp dport 22 goto door
"""

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


def listing() -> str:
    """The whole rules, without what runs down."""
    return run("nft", "-s", "list", "ruleset")


def wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, f"{seconds} s")


# --- conformance --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@isolated
def test_the_kernel(case: Callable[[Stage], None]) -> None:
    with Nftables() as firewall:
        case(Stage(firewall, RULESET, wait))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_fake(case: Callable[[Stage], None]) -> None:
    now = 1000.0

    def turn_on(seconds: float) -> None:
        nonlocal now
        now += seconds

    gate = f'gate.leases = {LIMIT}\ndoors.ssh.ports = ["tcp/22"]\ndoors.web.ports = ["tcp/443", "udp/443"]'
    case(Stage(MemoryFirewall(parse(gate), lambda: now), "", turn_on))


# --- what nft sees of it ------------------------------------------------------------------------------


@isolated
def test_nft_reads_our_elements_and_we_read_those_of_nft() -> None:
    with Nftables() as firewall:
        firewall.load(RULESET)
        firewall.open([SSH, DNS], ALICE, 90, "daemon sequence")
        firewall.open([SSH], ALICE6, 7200, "hand")
        firewall.open([SSH], raw("192.0.2.8"), 90, "kernel sequence")
        firewall.open([DNS], HOME, 90, "packet")
        assert '192.0.2.7 . tcp . 22 timeout 1m30s comment "daemon sequence"' in listing()
        assert '192.0.2.7 . udp . 53 timeout 1m30s comment "daemon sequence"' in listing()
        assert '2001:db8::7 . tcp . 22 timeout 2h comment "hand"' in listing()
        assert '2001:db8:1:2:: . udp . 53 timeout 1m30s comment "packet"' in listing()
        assert "192.0.2.8 . tcp . 22 timeout 1m30s," in listing().replace(" }", ",")  # and no comment
    for element in (
        "leases4 { 192.0.2.9 . tcp . 22 timeout 30s }",  # as the packet path adds it
        "given6 { 2001:db8::9 . udp . 53 }",
        "leases4 { 192.0.2.9 . sctp . 22 timeout 30s }",  # no lease: no knock opens such a port
        "networks6 { 2001:db8:1:3:: . tcp . 22 timeout 30s }",
        "networks6 { 2001:db8:1:3::1 . tcp . 22 timeout 30s }",  # no lease: no packet is ever found there
    ):
        run("nft", f"add element inet knockgate {element}")
    with Nftables() as firewall:
        found = {lease.source: lease for lease in firewall.leases()}
        assert found[raw("192.0.2.9")].by == "kernel sequence"
        assert found[raw("192.0.2.9")].lasts == 30
        assert found[raw("2001:db8::9")] == Lease(DNS, raw("2001:db8::9"), math.inf, math.inf, "hand")
        network = raw("2001:db8:1:3::")[:8]
        assert (found[network].by, found[network].lasts) == ("hand", 30)
        assert len(firewall.leases()) == 8


@isolated
def test_many_leases() -> None:
    """More than a message, a datagram and a receive buffer hold; and all of them can be closed."""
    ports = [Port(Protocol.TCP, number) for number in range(1, 301)]
    sources = [raw(f"10.0.{number // 256}.{number % 256}") for number in range(20)]
    with Nftables() as firewall:
        firewall.load(RULESET.replace(f"size {LIMIT}", "size 65536"))
        for source in sources:
            firewall.open(ports, source, 60, "daemon sequence")
        assert {(lease.port, lease.source) for lease in firewall.leases()} == {
            (port, source) for port in ports for source in sources
        }
        firewall.open(ports[:2], ALICE6, 60, "hand")
        assert firewall.close(ports[1:], [*sources[1:], ALICE6]) == 19 * 299 + 1
        left = {(lease.port, lease.source) for lease in firewall.leases()}
        assert left == {(port, sources[0]) for port in ports} | {
            (ports[0], source) for source in (*sources, ALICE6)
        }


@isolated
def test_a_lease_that_ends_while_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking and deleting are two steps; what ends between them is no error and does not count."""
    with Nftables() as firewall:
        firewall.load(RULESET)
        for source in (ALICE, raw("192.0.2.8")):
            firewall.open([SSH], source, 60, "daemon sequence")
    with Nftables(own=False) as firewall:
        has = firewall._has

        def has_for_the_last_time(name: str, key: bytes) -> bool:
            found = has(name, key)
            if found and key == nfmessages.key_of(SSH, ALICE):
                run("nft", "delete element inet knockgate leases4 { 192.0.2.7 . tcp . 22 }")
            return found

        monkeypatch.setattr(firewall, "_has", has_for_the_last_time)
        assert firewall.close([SSH], [ALICE, raw("192.0.2.8")]) == 1
        assert firewall.leases() == []


# --- loading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False], ids=["owned", "plain"])
@isolated
def test_a_wrong_text_changes_nothing(own: bool) -> None:
    """Whether it is wrong for nft or for the kernel, and whether there was a table or none."""
    with Nftables(own=own) as firewall:
        for expected in ("", RULESET):
            before = listing()
            assert ("dport 22" in before) == bool(expected)
            for wrong, words in (
                ("add rule inet knockgate guard gibberish\n", "syntax error"),
                ("add rule inet knockgate nowhere accept\n", "No such file or directory"),
                (
                    "add element inet knockgate leases4 { 1.2.3.4 . tcp . 22 }\ndelete table inet no\n",
                    "No such",
                ),
            ):
                with pytest.raises(Unavailable, match=words):
                    firewall.load(RULESET + wrong)
                assert listing() == before
            firewall.load(RULESET)


@isolated
def test_other_tables_are_left_alone() -> None:
    run("nft", "add table inet other; add chain inet other c; add table ip knockgate")
    before = listing()
    with Nftables() as firewall:
        firewall.load(RULESET)
        firewall.open([SSH], ALICE, 60, "hand")
        assert firewall.chains() == {"door", "guard"}
        assert listing() != before
        firewall.unload()
        assert listing() == before
        assert firewall.chains() == set()


CONFIGURATION = """
[doors.ssh]
ports = ["tcp/22"]
[doors.ssh.sequence]
steps = ["tcp/7000", "udp/8000", "tcp/9000"]
[doors.web]
ports = ["tcp/443", "udp/443"]
lease = "1h"
[doors.web.sequence]
steps = ["tcp/7000", "tcp/7100"]
within = "2s"
[doors.mail]
ports = ["tcp/25"]
[doors.mail.sequence]
steps = ["tcp/7001", "tcp/7002"]
runs_in = "daemon"
"""


GATES = {
    "plain": "",
    "shadow": "[gate]\nshadow = true\n",
    "allow": '[gate]\nallow = ["10.0.0.0/8", "192.0.2.7", "fd00::/8"]\n',
    "of-a-door": '[doors.far]\nports = ["tcp/99", "udp/99"]\nshadow = true\n'
    'allow = ["10.0.0.0/8", "192.0.2.7", "fd00::/8"]\n',
}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES.keys())
@isolated
def test_the_text_brings_back_what_was_in_force(gate: str) -> None:
    """Over other rules, and from nothing; nothing of it is lost, and no lease is among it."""
    run("nft", "add table inet other; add chain inet other c; add rule inet other c tcp dport 1 accept")
    rules = compile_ruleset(parse(gate + CONFIGURATION), grace=True)
    with Nftables() as firewall:
        assert firewall.text() == ""
        firewall.load(rules)
        firewall.open([SSH], ALICE, 60, "daemon sequence")
        firewall.open([SSH], ALICE6, 60, "hand")
        firewall.open([SSH], HOME, 60, "packet")
        before, text, chains = in_force(), firewall.text(), firewall.chains()
        assert "7000" in before and "hold_5000ms" in before
        assert "192.0.2.7 . 6 . 22" not in text and "2001:db8" not in text
        assert ("10.0.0.0/8" in text) == ("10.0.0.0/8" in gate)

        other_ports = CONFIGURATION.replace("tcp/25", "tcp/26").replace("7100", "7200")
        firewall.pause([SSH], 60)
        firewall.load(compile_ruleset(parse(other_ports)))
        assert in_force() != before
        firewall.load(text)
        assert in_force() == before
        assert firewall.chains() == chains
        assert {lease.source for lease in firewall.leases()} == {ALICE, ALICE6, HOME}
        assert [pause.port for pause in firewall.pauses()] == [SSH]

        firewall.unload()
        firewall.load(text)
        assert in_force() == before
        assert firewall.text() == text
        assert firewall.leases() == [] == firewall.pauses()


LIVING = ("leases", "given", "networks", "grace", "pace", "prog", "paused", "would")


def in_force() -> str:
    """What nft lists of the rules, with sets in a fixed order and without what is alive."""
    names = [line.split()[1] for line in listing().splitlines() if line.startswith(("\tset", "\tmap"))]
    constant = [name for name in names if not name.startswith(LIVING)]
    structure = run("nft", "-s", "-t", "list", "table", "inet", "knockgate")
    kinds = {name: "set" if name.startswith(("configuration", "allow")) else "map" for name in constant}
    elements = [
        sorted(run("nft", "list", kinds[name], "inet", "knockgate", name).replace(",", "\n").split("\n"))
        for name in constant
    ]
    blocks = re.sub("# progname .*", "", structure).split("\n\n")
    return "\n".join([*sorted(blocks), *(str(each) for each in elements)])


@isolated
def test_the_text_over_a_table_that_somebody_made_plain() -> None:
    """Without ownership the same text loads as well, also with plain nft."""
    run("nft", RULESET)
    with Nftables() as firewall:
        text = firewall.text()
        firewall.load(text)
        assert firewall.text() == text
    run("nft", "flush ruleset")
    run("nft", text)
    with Nftables() as firewall:
        assert firewall.text() == text


@isolated
def test_a_table_of_before_there_were_networks() -> None:
    """It has no set for them: nothing is found and closed there, nothing opened; loading again makes one."""
    rules = compile_ruleset(parse(CONFIGURATION))
    before = "\n".join(line for line in rules.splitlines() if "networks6" not in line) + "\n"
    assert before != rules + "\n"
    for own in (True, False):
        with Nftables(own=own) as firewall:
            firewall.load(before)
            firewall.open([SSH], ALICE6, 60, "hand")
            assert [lease.source for lease in firewall.leases()] == [ALICE6]
            assert firewall.close([SSH], [HOME]) == 0
            with pytest.raises(Unavailable):
                firewall.open([SSH], HOME, 60, "hand")
            firewall.load(rules)
            firewall.open([SSH], HOME, 60, "hand")
            assert {lease.source for lease in firewall.leases()} == {ALICE6, HOME}
            firewall.unload()


# --- ownership ----------------------------------------------------------------------------------------


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


# --- rights and programs ------------------------------------------------------------------------------


@isolated
def test_without_the_right_it_says_so() -> None:
    with Nftables() as firewall:
        firewall.load(RULESET)

    def everything_fails() -> None:
        with Nftables() as firewall:
            attempts: tuple[Callable[[], object], ...] = (
                lambda: firewall.load(RULESET),
                firewall.unload,
                firewall.is_loaded,
                firewall.leases,
                firewall.text,
                firewall.chains,
                firewall.redirects,
                lambda: firewall.open([SSH], ALICE, 60, "hand"),
                lambda: firewall.close([SSH], [ALICE]),
            )
            for attempt in attempts:
                with pytest.raises(Unavailable, match="no right") as caught:
                    attempt()
                assert "CAP_NET_ADMIN" in str(caught.value.hint)

    before = listing()
    without_rights(everything_fails)
    assert listing() == before


def test_without_the_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libnftables, "_LIBRARY", "libnftables.so.no")
    with pytest.raises(Unavailable, match=r"libnftables\.so\.no is not installed") as caught:
        Nftables()
    assert caught.value.hint == "apt install nftables"


@isolated
def test_somebody_elses_table_of_that_name_is_left_alone() -> None:
    """It is neither filled nor taken away; the control is an empty one, which is nobody's."""
    theirs = "table inet knockgate { chain input { type filter hook input priority 0; tcp dport 1 drop; }; }"
    run("nft", theirs)
    before = listing()
    with Nftables() as firewall:
        for change in (partial(firewall.load, compile_ruleset(parse(CONFIGURATION))), firewall.unload):
            with pytest.raises(Unavailable, match="is there already, and is not ours"):
                change()
            assert listing() == before
        run("nft", "delete", "table", "inet", "knockgate")
        run("nft", "add", "table", "inet", "knockgate")
        firewall.load(compile_ruleset(parse(CONFIGURATION)))
        assert firewall.in_force() is not None
