"""Our commands together: a pair, a gate that has the printed stanza, and a knock that opens it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from tests.knockgate.cli.process import knockgate
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, CLIENT6, HOST, HOST6, OTHER, Gate, leases, network
from tests.netns import isolated, until

DOORS = '[doors.ssh]\nports = ["tcp/22"]\nlease = "30s"\nlongest = "10m"\n'


@isolated
def test_a_printed_stanza_and_profile_open_the_door_over_both_families(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "alice.secrets"
    made = json.loads(knockgate("key", "new", "--fwknop", "alice", "-o", str(file), "--json").stdout)
    stranger = tmp_path / "stranger.secrets"
    knockgate("key", "new", "--fwknop", "stranger", "-o", str(stranger))
    home = tmp_path / "home" / "knockgate" / "profiles.toml"
    home.parent.mkdir(parents=True)
    profile = made["profile"].replace("HOST", HOST).replace("~/.config/knockgate", str(tmp_path))
    home.write_text(f'{profile}\nwait = "tcp/22"\ntimeout = "1s"\nlease = "5m"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    with network(), socket.create_server(("::", 22), family=socket.AF_INET6, dualstack_ipv6=True):
        gate = Gate(tmp_path)
        gate.write(f"{DOORS}{made['gate_toml']}\n", gate='clock = "trusted"\n')
        gate.start()
        with running.client:
            shut = knockgate("knock", "alice", "--secrets", str(stranger), "--timeout", "0.3")
        assert (shut.returncode, leases()) == (1, set())
        with running.client:
            opened = knockgate("knock", "alice", "--json")
        assert opened.returncode == 0, gate.log()
        wait = json.loads(opened.stdout)["wait"]
        assert (wait["before"], wait["open"]) == ("filtered", True)
        until(lambda: f"open ssh for {CLIENT} (packet of alice, 5m)" in gate.log(), "it is logged")
        ad_hoc = ["--fwknop", "--secrets", str(file), "-A", "22", "--wait", "22", "--timeout", "1"]
        with running.client:
            six = knockgate("knock", HOST6, *ad_hoc)
            for_other = knockgate("knock", HOST, *ad_hoc, "-a", OTHER, "--source", CLIENT)
        assert six.returncode == 0 and for_other.returncode == 0, gate.log()
        wanted = {("tcp/22", source, "packet") for source in (CLIENT, CLIENT6, OTHER)}
        until(lambda: leases() == wanted, "open for all three")  # the door that was tried was open before
        assert gate.end() == 0, gate.log()
