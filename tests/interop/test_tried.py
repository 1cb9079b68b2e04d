"""``knockgate test`` at whole gates: sealed knocks, packets of fwknop's, and a gate that has ended."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest
from tests.interop.sealed import Gate, Person, guarding, machine, public, root
from tests.knockgate.cli.process import knockgate
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import HOST, leases, network
from tests.netns import isolated

pytestmark = root

LEASE = '\nwait = "tcp/22"\ntimeout = "5s"\nlease = "2s"\n'
FOUND = r"OK - home: tcp/22 of .+ was hidden, opened [0-9.]+ ms after the packet, was hidden again after .+\n"


@isolated
def test_a_sealed_knock(tmp_path: Path) -> None:
    with machine(tmp_path):
        jo, stranger = Person(tmp_path / "jo"), Person(tmp_path / "stranger")
        key, other = jo.key(), stranger.key()
        gate = Gate(tmp_path, public(key))
        for each, own in ((jo, key), (stranger, other)):
            each.trusts(gate, own)
            profile = each.home / ".config" / "knockgate" / "profiles.toml"
            lines = [line for line in profile.read_text().splitlines() if "wait" not in line]
            profile.write_text("\n".join(lines) + LEASE)
        with guarding(gate):
            done = jo.does("test", "home")
            assert re.fullmatch(FOUND, done.stdout) and done.stderr == ""
            assert leases() == set()
            refused = stranger.does("test", "home", "--timeout", "0.5s", "--json", status=1)
            facts = json.loads(refused.stdout)
            assert (facts["result"], facts["before"]["good"], facts["knock"]["good"]) == (
                "failed",
                True,
                False,
            )
            assert facts["knock"]["diagnosis"]["look_for"] and facts["after"] is None
            assert "sudo knockgate explain" in refused.stderr
            gate.until_opened(1)


@isolated
def test_a_packet_of_fwknops_and_a_gate_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate that ends leaves its doors shut: from outside they are hidden, and no knock opens them."""
    file = tmp_path / "home.secrets"
    made = json.loads(knockgate("key", "new", "--fwknop", "home", "-o", str(file), "--json").stdout)
    home = tmp_path / "home" / "knockgate" / "profiles.toml"
    home.parent.mkdir(parents=True)
    profile = made["profile"].replace("HOST", HOST).replace("~/.config/knockgate", str(tmp_path))
    home.write_text(profile + LEASE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    with network(), socket.create_server((HOST, 22)):
        gate = running.Gate(tmp_path, own=False)
        gate.write(
            f'[doors.ssh]\nports = ["tcp/22"]\nlease = "30s"\n{made["gate_toml"]}\n',
            gate='clock = "trusted"\n',
        )
        gate.start()
        with running.client:
            done = knockgate("test", "home")
        assert done.returncode == 0 and re.fullmatch(FOUND, done.stdout), done
        assert gate.end() == 0, gate.log()
        with running.client:
            ended = knockgate("test", "home", "--timeout", "0.5s")
        assert ended.returncode == 1
        assert "was hidden, but is still filtered 0.5 s after the packet" in ended.stdout
