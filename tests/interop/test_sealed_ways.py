"""Ways from a client to the gate: IPv6, the small packet, a cable that carries less, and cards of before."""

from __future__ import annotations

import re
from pathlib import Path

from tests.interop.sealed import (
    OPEN,
    SECOND,
    Gate,
    Person,
    guarding,
    machine,
    public,
    recording,
    root,
    set_clocks,
)
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT6, leases
from tests.netns import isolated, run

pytestmark = root

DAY = 86400 * SECOND


@isolated
def test_both_families_and_both_sizes(tmp_path: Path) -> None:
    with machine(tmp_path):
        jo = Person(tmp_path / "jo")
        key = jo.key("ecdsa")
        gate = Gate(tmp_path, public(key))
        jo.trusts(gate, key)
        shown = gate.card.read_text()
        jo.does("trust", "six", "six.example", "-", "-i", str(key), "--wait", "tcp/22", text=shown)
        with guarding(gate), recording() as recorded:
            for number, (words, size) in enumerate(((("home",), 1333), (("home", "--small"), 245)), 1):
                jo.does("knock", *words, "--wait", "22")
                gate.until_opened(number)
                assert leases() == OPEN and len(recorded()) == size
                gate.close()
            assert not running.connects(22, CLIENT6, running.HOST6)
            for number, words in enumerate((("six",), ("six", "--small")), 3):
                jo.does("knock", *words)
                gate.until_opened(number)
                assert {source for _, source, _ in leases()} == {CLIENT6}
                assert not running.connects(22)  # the other family was not asked for
                gate.close(CLIENT6)
            jo.does("knock", "six", "-a", "fd00::/64")
            gate.until_opened(5)
            assert running.connects(22, CLIENT6, running.HOST6)


@isolated
def test_a_way_that_carries_1280_bytes(tmp_path: Path) -> None:
    """Both ends of the cable: the large packet is not sent, and it is said what helps, which then opens."""
    with machine(tmp_path):
        jo = Person(tmp_path / "jo")
        key = jo.key()
        gate = Gate(tmp_path, public(key))
        jo.trusts(gate, key)
        with guarding(gate), recording() as recorded:
            _carry(1280)
            said = jo.knock("--wait", "22", "--timeout", "0.2s", status=2)
            first, hint = said.stderr.splitlines()
            assert "1333 bytes does not fit" in first and "MTU 1280" in first
            option = re.search(r"--\w+", hint)
            assert option and option[0] == "--small"
            jo.enters(option[0])
            gate.until_opened(1)
            assert len(recorded()) == 245 and gate.sealed()["refused"] == {}
            gate.close()
            _carry(1500)
            jo.enters()  # the control
            assert len(recorded()) == 1333


def _carry(mtu: int) -> None:
    run("ip", "link", "set", "near", "mtu", str(mtu))
    with running.client:
        run("ip", "link", "set", "far", "mtu", str(mtu))


@isolated
def test_two_keys_of_a_gate_until_one_has_ended(tmp_path: Path) -> None:
    """`rekey` with overlap; the clocks are set to its end and beyond (see ``set_clocks``)."""
    with machine(tmp_path):
        ours, theirs = set_clocks()
        ours.synchronised()
        early, late = (Person(tmp_path / name, clocks=theirs) for name in ("early", "late"))
        key = early.key()
        gate = Gate(tmp_path, public(key))
        gate.says(gate='clock = "auto"')
        early.trusts(gate, key)
        gate.start()
        early.gets_in(gate)
        folder = tmp_path / "new"
        folder.mkdir()
        said = gate.changes("rekey", "--overlap", "10d", "-o", str(folder)).stdout
        assert "the old cards are good until" in said
        (card,) = folder.iterdir()
        late.trusts(gate, key, card=card)
        for day, opens in ((0, True), (9, True), (11, False)):
            for clocks in (ours, theirs):
                clocks.lead(day * DAY)
            late.gets_in(gate)
            if opens:
                early.gets_in(gate)
        early.knock()
        gate.until_refused("not-ours")
        gate.end()
        gate.start()
        early.knock()
        gate.until_refused("not-ours")
        assert leases() == set()
        early.trusts(gate, key, "--replace", card=card)
        early.gets_in(gate)  # the control: the new card is all that it wanted
        gate.end()
