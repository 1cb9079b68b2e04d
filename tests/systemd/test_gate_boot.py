"""From before process 1 starts somebody tries all doors every 10 ms, and gets no answer at boot."""

from __future__ import annotations

from pathlib import Path

from tests.netns import until
from tests.systemd.gate import CONTROL, HALVES, until_active
from tests.systemd.machine import ADDRESS, ADDRESS6, NEEDS
from tests.systemd.scanned import booted

pytestmark = NEEDS


def test_without_the_units_doors_answer_from_the_moment_the_network_is_up(tmp_path: Path) -> None:
    with booted(tmp_path, guarded=False) as (_, scan, _):
        until(lambda: any(each.kind == "open" for each in scan.of_doors()), "a door answers")
        firsts: dict[tuple[str, int], float] = {}
        for each in scan.answers():
            firsts.setdefault((each.host, each.port), each.at)
        print(f"of {scan.end()} SYNs {len(scan.answers())} were answered")
        assert len(firsts) == 10
        for (host, port), at in firsts.items():
            assert abs(at - firsts[host, CONTROL]) < 1, f"{host} {port}"


def test_with_them_none_ever_does(tmp_path: Path) -> None:
    with booted(tmp_path, guarded=True) as (site, scan, _):
        until_active(site.machine, *HALVES)
        scan.until_heard()
        assert scan.of_doors() == []
        assert {each.host for each in scan.of_control()} == {ADDRESS, ADDRESS6}
        for door in ("packet", "sealed", "kernel", "daemon"):
            assert until(lambda each=door: site.knock(each), f"{door} opens", 20.0)  # type: ignore[misc]
        print(f"of {scan.end()} SYNs {len(scan.of_control())} were answered, none of them at a door")
        assert scan.of_doors() == []
