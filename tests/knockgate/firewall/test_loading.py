from __future__ import annotations

import re
from functools import partial

import pytest
from tests.knockgate.firewall.small_table import ALICE, ALICE6, HOME, RULESET, SSH, listing
from tests.netns import isolated, run

from knockgate.config.doors import parse
from knockgate.errors import Unavailable
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.ruleset import compile_ruleset


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
