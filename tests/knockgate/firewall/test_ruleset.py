"""What the compiled table does to packets, in the real kernel."""

from __future__ import annotations

import re

import pytest
from tests.knockgate.firewall.cases import CASES, CONFIGURATION, SWEEP
from tests.knockgate.firewall.table import Cable, doors_of, elements, leases, listing, load, nft
from tests.netns import isolated, run, until

from knockgate.config.doors import parse
from knockgate.firewall.doorway import chain_of
from knockgate.firewall.ruleset import compile_ruleset

SOURCE = {4: "10.1.{}.1", 6: "fd00:1::{:x}"}
STRANGER = {4: "10.2.{}.1", 6: "fd00:2::{:x}"}


@isolated
def test_what_opens_and_what_stays_shut() -> None:
    """Every case over both families, each from a source of its own."""
    configuration = load(CONFIGURATION)
    cable = Cable()
    for number, (packets, _) in enumerate(CASES.values(), 1):
        for family in (4, 6):
            for packet in packets.split():
                who = STRANGER if packet.startswith("!") else SOURCE
                cable.send(family, who[family].format(number), packet.removeprefix("!"))
    cable.settle("u7600", "tcp/105")
    opened = leases()
    for number, (name, (_, expected)) in enumerate(CASES.items(), 1):
        for family in (4, 6):
            ports = opened.get(SOURCE[family].format(number), {})
            assert (name, family, doors_of(configuration, ports)) == (name, family, set(expected.split()))
            assert (name, family, STRANGER[family].format(number) in opened) == (name, family, False)


@isolated
def test_a_sweep_opens_only_what_lies_side_by_side() -> None:
    """Every port from 6990 to 9009 in a row: the control is the sequence of three neighbours."""
    configuration = load(CONFIGURATION)
    cable = Cable()
    for family in (4, 6):
        for packet in SWEEP.split():
            cable.send(family, SOURCE[family].format(1), packet)
    cable.settle("u7600", "tcp/105")
    for family in (4, 6):
        opened = doors_of(configuration, leases()[SOURCE[family].format(1)])
        assert "low" in opened and not opened & {"ssh", "web", "back", "shut", "daemon"}


TIMED = """
[doors.ssh]
ports = ["tcp/22"]
lease = "1s"
sequence = { steps = ["tcp/7000", "tcp/8000", "tcp/9000"], within = "600ms" }
[doors.mark]
ports = ["tcp/105"]
sequence = { steps = ["udp/7600"] }
"""


@isolated
def test_each_step_has_its_time() -> None:
    """A knock after the pause is too late; one just before is not; a repeat prolongs nothing; leases end."""
    load(TIMED)
    cable = Cable()

    def remembered() -> dict[str, float]:
        return {str(each["val"]): float(str(each["expires"])) for each in elements("progress4")}

    slow, quick, repeating = "10.1.0.1", "10.1.0.2", "10.1.0.3"
    for source in (slow, quick, repeating):
        for packet in ("t7000", "t8000"):
            cable.send(4, source, packet)
    until(lambda: len(remembered()) == 3, "all three are remembered")
    cable.send(4, quick, "t9000")
    until(lambda: quick in leases(), "the quick one is in")

    def late() -> bool:
        cable.send(4, repeating, "t8000")
        return not remembered()

    until(late, "the second knock is forgotten, however often it is repeated")
    for source in (slow, repeating):
        cable.send(4, source, "t9000")
    cable.settle("u7600", "tcp/105")
    assert not {slow, repeating} & set(leases())
    until(lambda: quick not in leases(), "the lease of one second ends by itself")


@isolated
def test_when_there_is_no_room_left_a_knock_has_a_second() -> None:
    """Progress full: the second tier remembers for at most a second; both full: counted and reported."""
    load("[gate]\nsources = 16\nhurried = 16\n" + TIMED.replace("600ms", "20s"))
    cable = Cable()
    for number in range(16):
        cable.send(4, f"10.3.0.{number}", "t7000")
    for packet in ("t7000", "t8000"):
        cable.send(4, "10.1.0.1", packet)
    (hurried,) = elements("hurried4")
    assert hurried["val"] == "10.1.0.1" and hurried["timeout"] == 1
    cable.send(4, "10.1.0.1", "t9000")
    until(lambda: "10.1.0.1" in leases(), "it opened all the same")
    assert crowded() == 0
    for number in range(17):
        cable.send(4, f"10.4.0.{number}", "t7000")
    assert crowded() >= 1


def crowded() -> int:
    (found,) = listing("counter", "inet", "knockgate", "crowded")
    described = found["counter"]
    assert isinstance(described, dict)
    return int(described["packets"])


@isolated
def test_one_source_that_goes_to_and_fro_is_held_back() -> None:
    """Its bucket allows a dozen changes at once and ten a second; others are not concerned."""
    load(TIMED)
    cable = Cable()
    for _ in range(40):
        for packet in ("t7000", "t8000"):
            cable.send(4, "10.1.0.1", packet)
    (found,) = listing("counter", "inet", "knockgate", "paced")
    described = found["counter"]
    assert isinstance(described, dict) and described["packets"] >= 20
    for packet in ("t7000", "t8000", "t9000"):
        cable.send(4, "10.1.0.2", packet)
    until(lambda: "10.1.0.2" in leases(), "another source is let in meanwhile")


# --- the text -----------------------------------------------------------------------------------------


def rules(text: str, chain: str) -> list[str]:
    return re.findall(rf"^add rule inet knockgate {chain} (.*)$", text, re.MULTILINE)


def many(count: int) -> str:
    return "".join(
        f'[doors.d{n}]\nports = ["tcp/{n + 1}"]\n'
        f'sequence = {{ steps = ["tcp/{20000 + 3 * n}", "udp/{20001 + 3 * n}", "tcp/{20002 + 3 * n}"] }}\n'
        for n in range(count)
    )


@pytest.mark.parametrize(
    "chain", ["guard", "door", "knock", "advance", "forget", "hold_5000ms", "lease_tcp_15000ms"]
)
def test_a_packet_meets_as_many_rules_with_many_doors_as_with_one(chain: str) -> None:
    one, hundred = (rules(compile_ruleset(parse(many(count))), chain) for count in (1, 100))
    assert one == hundred and one


@pytest.mark.parametrize("chain", ["guard", "door", "shadow", "would_drop", "would_pass", "of d0"])
def test_a_packet_meets_as_many_rules_with_many_networks_as_with_one(chain: str) -> None:
    def gate(count: int) -> str:
        networks = [f"10.{number}.0.0/24" for number in range(count)]
        door = f'[doors.{{}}]\nports = ["tcp/{{}}"]\nshadow = true\nallow = {networks}\n'
        doors = "".join(door.format(f"d{number}", number + 1) for number in range(count))
        shut = '[doors.shut]\nports = ["udp/1"]\n'
        return f"[gate]\nallow = {networks}\n{doors}{shut}"

    chain = chain_of(parse(gate(1)), 0) if chain == "of d0" else chain
    one, hundred = (len(rules(compile_ruleset(parse(gate(count))), chain)) for count in (1, 100))
    assert one == hundred > 0


def test_without_sequences_in_the_kernel_nothing_looks_for_progress() -> None:
    with_one, without = (
        compile_ruleset(parse(many(1))),
        compile_ruleset(parse('[doors.a]\nports = ["tcp/1"]')),
    )
    assert any("@progress4" in rule for rule in rules(with_one, "guard"))
    assert not any("@progress4" in rule for rule in rules(without, "guard"))


@isolated
def test_the_text_loads_and_loads_again() -> None:
    """With plain nft, a table of any size; live leases stay, chains of yesterday go."""
    load(many(1000))
    assert "hold_5000ms" in _chain_names()
    lease = "add element inet knockgate leases4 { 10.0.0.9 . tcp . 22 timeout 1h }\n"
    nft(lease)
    load(TIMED)
    assert "hold_5000ms" not in _chain_names() and "hold_600ms" in _chain_names()
    load(TIMED)
    assert set(leases()) == {"10.0.0.9"}


def _chain_names() -> set[str]:
    return set(re.findall(r"chain (\S+) \{", run("nft", "list", "table", "inet", "knockgate")))


@isolated
def test_a_wrong_text_changes_nothing() -> None:
    load(TIMED)
    before = run("nft", "-s", "list", "ruleset")
    text = compile_ruleset(parse(many(3))) + "add rule inet knockgate guard nonsense\n"
    with pytest.raises(AssertionError, match="nonsense"):
        nft(text)
    assert run("nft", "-s", "list", "ruleset") == before
    load(many(3))  # the control
    assert run("nft", "-s", "list", "ruleset") != before
