from __future__ import annotations

from pathlib import Path

from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, SSH_KNOCKS, WEB_KNOCKS, Gate, knock, leases, network
from tests.netns import isolated, run, until

from knockgate.daemon.loggroup import bound_to


@isolated
def test_exhausted_bounds_are_counted_and_seldom_told(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    gate.write(running.KERNEL + running.DAEMON, gate="leases = 16\n")
    with network():
        gate.start()
        sources = [f"10.0.0.{number}" for number in range(100, 120)]
        with running.client:
            for source in sources:
                run("ip", "address", "add", f"{source}/24", "dev", "far")
        for source in sources[:16]:
            knock(*SSH_KNOCKS, source=source)
        until(lambda: gate.status()["doors"]["ssh"]["opened"] == 16, "as many as may be")
        assert gate.status()["bounds"] == {"crowded": 0, "paced": 0, "leases_full": 0}
        for source in sources[16:]:
            knock(*SSH_KNOCKS, source=source)
            knock(*WEB_KNOCKS, source=source)
        until(lambda: gate.status()["bounds"]["leases_full"], "the status tells it")
        gate.until_said("no room for more leases; somebody who knocked was not let in (gate.leases)")
        gate.until_said(f"web is not opened for {sources[16]}: no room for another lease")
        until(lambda: gate.status()["heard"]["opened"] == 4, "all knocks were heard")
        assert len(leases()) == 16 and gate.log().count("is not opened for") == 1
        # Somebody who changes state more often than he may: about 10 times a second.

        def is_paced() -> bool:
            knock(*SSH_KNOCKS * 20, source=CLIENT)
            return bool(gate.status()["bounds"]["paced"])

        until(is_paced, "the status tells it")
        gate.until_said("sources knock faster than they may; some knocks were lost")
        assert gate.end() == 0
        assert "4 completed" in gate.log().splitlines()[-1]


@isolated
def test_an_interface_that_goes_and_comes(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    gate.write(running.KERNEL + running.DAEMON, gate='interface = "near"\n')
    with network():
        gate.start()
        run("ip", "link", "set", "near", "down")
        gate.until_said("near is down")
        run("ip", "link", "set", "near", "up")
        gate.until_said("near is up again")
        until(lambda: running.connects(6000), "the cable carries")
        knock(*WEB_KNOCKS)
        gate.until_said(f"open web for {CLIENT}")


@isolated
def test_without_the_kernels_reports_doors_open_all_the_same(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with network(), bound_to(5):
        gate.start()
        assert "what the kernel opens is not told: another program has log group 5" in gate.log()
        knock(*SSH_KNOCKS)
        knock(*WEB_KNOCKS)
        gate.until_said(f"open web for {CLIENT}")
        assert ("tcp/22", CLIENT, "kernel sequence") in leases()
        assert gate.status()["doors"]["ssh"] == {"opened": 0, "by": {}, "last": None}
