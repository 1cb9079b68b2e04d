"""``knockgate install`` under a real systemd: three users, four knocks, and nobody who notices a kill -9."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.netns import until
from tests.systemd import gate
from tests.systemd.gate import HALVES, KEEPER, LISTENER, PORTS, WARDEN, answers, process_of, until_active
from tests.systemd.machine import CLIENT, NEEDS, boot
from tests.systemd.site import Site, key_pair, secrets_of

pytestmark = NEEDS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    bag = tmp_path_factory.mktemp("client")
    packages = gate.bundle(tmp_path_factory.mktemp("packages") / "knockgate")
    script = gate.prepare(packages, secrets_of(bag), key_pair(bag))
    with boot(prepare=script, lend=[packages]) as machine:
        gate.begin_service(machine)
        assert set(PORTS) == {
            door for door, port in PORTS.items() if answers(machine.client, port)
        }  # control
        machine.tell("knockgate", "init", "--bare", "-o", "/root/card")
        site = Site(machine, bag)
        site.take_card("/root/card")
        report = json.loads(machine.tell("knockgate", "install", "--json"))
        assert report["next"] == [f"systemctl enable --now {WARDEN}.service {LISTENER}.service"]
        assert machine.is_active(*HALVES) == ["inactive"] * 2  # nothing is started
        assert json.loads(machine.tell("knockgate", "install", "--now", "--json"))["changes"] == []
        until_active(machine, *HALVES)
        yield site


def test_three_users_none_of_them_root_and_none_with_rights_but_its_own(site: Site) -> None:
    assert site.open_doors() == set()
    users, rights = {}, {}
    for unit in (*HALVES, KEEPER):
        status = site.machine.tell("cat", f"/proc/{process_of(site.machine, unit)}/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        users[unit] = {*fields["Uid"].split()}
        rights[unit] = int(fields["CapEff"], 16) | int(fields["CapPrm"], 16) | int(fields["CapAmb"], 16)
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    assert all(len(each) == 1 and each != {"0"} for each in users.values())
    assert len({next(iter(each)) for each in users.values()}) == 3
    assert rights == {WARDEN: 1 << 12, LISTENER: 0, KEEPER: 1 << 2}  # NET_ADMIN, none, DAC_READ_SEARCH


def test_systemd_accepts_the_units_and_finds_little_to_say_against_them(site: Site) -> None:
    units = [f"{unit}.service" for unit in (*HALVES, KEEPER)]
    done = site.machine.run(["systemd-analyze", "verify", "--man=no", *units])
    assert [line for line in done.stderr.splitlines() if "knockgate" in line] == []
    for unit in units:
        found = site.machine.tell("systemd-analyze", "security", "--no-pager", unit).splitlines()[-1]
        score = float(found.split(": ")[1].split()[0])
        assert score <= 1.5, found


@pytest.mark.parametrize("door", PORTS)
def test_each_kind_of_knock_opens_its_door_and_no_other(site: Site, door: str) -> None:
    site.close()
    assert site.open_doors() == set()
    assert site.knock(door)
    assert site.open_doors() == {door}


def test_who_is_taken_out_of_a_users_file_comes_in_no_more(site: Site) -> None:
    """Its folder is closed to all but jo, and nothing is reloaded."""
    site.close()
    path = "/home/jo/.ssh/authorized_keys"
    assert site.knock("sealed")
    site.close()
    before = process_of(site.machine, LISTENER)
    site.machine.tell("sh", "-c", f"cp -p {path} /root/keys; : > {path}")
    assert not site.knock("sealed")
    site.machine.tell("cp", "-p", "/root/keys", path)
    assert site.knock("sealed")
    assert process_of(site.machine, LISTENER) == before


@pytest.mark.parametrize("unit", [WARDEN, LISTENER, KEEPER])
def test_a_half_that_is_killed_is_started_again_and_no_lease_notices(site: Site, unit: str) -> None:
    site.close()
    assert site.knock("kernel") and site.knock("sealed")
    before = process_of(site.machine, unit)
    site.machine.tell("kill", "-KILL", str(before))
    assert site.open_doors() == {"kernel", "sealed"}
    until(lambda: process_of(site.machine, unit) not in (0, before), "it is started again")
    until_active(site.machine, *HALVES)
    assert site.open_doors() == {"kernel", "sealed"}
    site.close()
    for door in PORTS:
        assert until(lambda each=door: site.knock(each), f"{door} opens", 20.0)  # type: ignore[misc]


def test_a_reload_takes_what_is_right_and_says_what_is_wrong(site: Site) -> None:
    site.close()
    assert site.knock("kernel")
    path = gate.CONFIG
    site.machine.tell("sh", "-c", f"cp -p {path} /root/gate.toml; echo '[doors.ssh]' >> {path}")
    done = site.machine.run(["systemctl", "reload", WARDEN])
    assert done.returncode != 0
    log = site.machine.tell("journalctl", "--no-pager", "-u", WARDEN)
    assert "guards no port and runs no command" in log and "all stays as it is" in log
    assert site.open_doors() == {"kernel"}
    more = '[doors.more]\\nports = ["tcp/6510"]\\n'
    site.machine.tell("sh", "-c", f"cp -p /root/gate.toml {path}; printf '{more}' >> {path}")
    assert answers(site.machine.client, gate.CONTROL)  # control
    site.machine.tell("systemctl", "reload", WARDEN)
    assert not answers(site.machine.client, gate.CONTROL)
    assert site.open_doors() == {"kernel"}
    assert until(lambda: site.knock("packet"), "the listener has begun anew", 20.0)
    site.machine.tell("cp", "-p", "/root/gate.toml", path)
    site.machine.tell("systemctl", "reload", WARDEN)
    assert answers(site.machine.client, gate.CONTROL)


def test_commands_are_run_by_a_runner_that_is_there_from_then_on(site: Site) -> None:
    path, told = gate.CONFIG, "/root/told"
    assert site.machine.is_active("knockgate-runner") == ["inactive"]
    command = f'[doors.packet.commands]\nopen = ["/bin/sh", "-c", "id -un >> {told}; echo %IP% >> {told}"]\n'
    site.machine.tell("sh", "-c", f"cp -p {path} /root/gate.toml; cat >> {path} <<'EOF'\n{command}EOF")
    site.machine.tell("systemctl", "reload", WARDEN)
    until_active(site.machine, *HALVES, "knockgate-runner")
    for times in (1, 2):
        site.machine.tell("systemctl", "restart", LISTENER)  # which the runner outlives
        assert until(lambda: site.knock("packet"), "packet opens", 20.0)
        text = until(
            lambda n=times: (got := site.machine.run(["cat", told]).stdout).count(CLIENT) >= n and got,  # type: ignore[misc]
            "the command has run",
        )
        assert text.startswith(f"root\n{CLIENT}\n")
        site.close()
    site.machine.tell("cp", "-p", "/root/gate.toml", path)
    site.machine.tell("systemctl", "reload", WARDEN)


def test_the_table_alone_is_put_back_with_nftables(site: Site) -> None:
    rules = "knockgate-rules"
    site.close()
    site.machine.tell("sh", "-c", "printf '#!/usr/sbin/nft -f\\nflush ruleset\\n' > /etc/nftables.conf")
    site.machine.tell("systemctl", "start", "nftables", rules)
    until(lambda: site.machine.is_active(WARDEN, rules) == ["inactive", "active"], "one instead of the other")
    assert site.open_doors() == set()
    site.machine.tell("nft", "flush", "ruleset")
    assert site.open_doors() == set(PORTS)  # control: nobody watches
    site.machine.tell("systemctl", "restart", "nftables")
    until(lambda: site.open_doors() == set(), "it is put back", 10.0)
    assert site.knock("kernel")
    site.machine.tell("systemctl", "reload", rules)
    assert site.open_doors() == {"kernel"}
    site.machine.tell("systemctl", "stop", rules)
    assert site.open_doors() == {"kernel"}
    site.machine.tell("systemctl", "start", *HALVES)
    until_active(site.machine, *HALVES)


def test_a_file_in_the_way_is_left_alone(site: Site) -> None:
    path = f"/etc/systemd/system/{WARDEN}.service"
    site.machine.tell("sh", "-c", f"cp {path} /root/unit; echo '# mine' >> {path}")
    done = site.machine.run(["knockgate", "install"])
    assert done.returncode == 0 or "was changed by somebody" in done.stderr
    assert "# mine" in site.machine.tell("cat", path)
    site.machine.tell("cp", "/root/unit", path)


def test_uninstalled_it_leaves_the_doors_as_they_are_until_somebody_opens_them(site: Site) -> None:
    site.close()
    assert site.knock("kernel")
    assert "knockgate down" in site.machine.tell("knockgate", "uninstall")
    folders = ["/etc/systemd", "/etc/sysusers.d", "/etc/tmpfiles.d", "/run/knockgate"]
    assert site.machine.run(["find", *folders, "-name", "*knockgate?*"]).stdout == ""
    assert site.machine.is_active(*HALVES, KEEPER) == ["inactive"] * 3
    assert site.open_doors() == {"kernel"}
    site.machine.tell("knockgate", "down")
    assert site.open_doors() == set(PORTS)
    site.machine.tell("knockgate", "install", "--now")  # and on again, with what it remembers
    assert site.open_doors() == set()
    assert until(lambda: site.knock("sealed"), "sealed opens", 20.0)
