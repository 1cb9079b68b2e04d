from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.netns import isolated, run
from tests.packets import raw

from knockgate.config.doors import parse
from knockgate.errors import Unavailable
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.ruleset import compile_ruleset
from knockgate.model import Lease, Port, Protocol

SSH, DNS = Port(Protocol.TCP, 22), Port(Protocol.UDP, 53)
ALICE, ALICE6 = raw("192.0.2.7"), raw("2001:db8::7")
HOME = raw("2001:db8:1:2::")[:8]
RULESET = compile_ruleset(parse('[doors.ssh]\nports = ["tcp/22"]\n'))


def known(leases: list[Lease]) -> set[tuple[Port, bytes, float, str]]:
    return {(lease.port, lease.source, lease.lasts, lease.by) for lease in leases}


@isolated
def test_all_that_is_known_of_a_lease_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with Nftables(own=False) as firewall:
        firewall.load(RULESET)
        copy = firewall.copy()
        assert copy.put_back() == 0  # never taken
        for source in (ALICE, ALICE6):
            firewall.open([SSH, DNS], source, 1000, "kernel sequence")
            firewall.open([SSH], source, 500, "hand")
            firewall.open([DNS], source, 300, "daemon sequence")
        firewall.open([SSH], HOME, 500, "packet")
        run("nft", "add element inet knockgate leases4 { 192.0.2.9 . 6 . 22 }")  # without an end
        firewall.pause([SSH], 1000)
        firewall.pause([DNS], 300)
        before = known(firewall.leases())
        assert len(before) == 8
        assert copy.take()
        run("nft", "flush", "ruleset")
        assert not copy.take()  # nothing is there, and that is not copied
        firewall.load(RULESET)
        assert firewall.leases() == []
        assert copy.put_back() == 8
        assert known(firewall.leases()) == before
        assert {pause.port: pause.lasts for pause in firewall.pauses()} == {SSH: 1000, DNS: 300}
        assert copy.put_back() == 8  # over live ones
        assert known(firewall.leases()) == before
        # Time goes on while the table is gone.
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 450)
        firewall.unload()
        firewall.load(RULESET)
        assert copy.put_back() == 6
        left = {(lease.source, lease.by): lease.left for lease in firewall.leases() if lease.port == SSH}
        assert 0 < left[HOME, "packet"] <= 50
        (paused,) = firewall.pauses()
        assert paused.port == SSH and 500 < paused.left <= 550
        assert 0 < left[ALICE, "hand"] <= 50 and 500 < left[ALICE, "kernel sequence"] <= 550


@isolated
def test_many_leases(tmp_path: Path) -> None:
    with Nftables(own=False) as firewall:
        firewall.load(RULESET)
        elements = ", ".join(f"10.0.{n >> 8}.{n & 255} . 6 . 22 timeout 1h" for n in range(1300))
        (tmp_path / "many").write_text(f"add element inet knockgate leases4 {{ {elements} }}\n")
        run("nft", "-f", str(tmp_path / "many"))
        copy = firewall.copy()
        assert copy.take()
        firewall.unload()
        with pytest.raises(Unavailable, match="nf_tables refuses: No such file"):
            copy.put_back()
        firewall.load(RULESET)
        assert copy.put_back() == 1300
        listed = run("nft", "list", "set", "inet", "knockgate", "leases4")
        assert listed.count("expires") == 1300
