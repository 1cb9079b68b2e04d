"""From ``knockgate init`` to a door that opens, by what it says is to be typed next."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.knockgate.cli.gates import Host, running
from tests.knockgate.cli.process import command, environment
from tests.knockgate.cli.sealed_gates import initialised
from tests.netns import isolated, run

from knockgate.cli.cardfiles import fingerprint_of


@isolated
def test_what_it_says_leads_to_a_door_that_opens(tmp_path: Path) -> None:
    """Each command that a gate and a client need, typed by nobody else than these two."""
    host = Host()
    key = tmp_path / "id"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    gate = initialised(tmp_path, key.with_suffix(".pub").read_text().strip())
    home = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "local")}
    env = environment(**home, HOME=str(tmp_path), SSH_AUTH_SOCK="")

    def client(*argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
        with host.client:
            return subprocess.run(
                command(*argv), env=env, input=text, capture_output=True, text=True, check=False, timeout=60
            )

    with running("--config", gate.config, directory=tmp_path):
        card = gate.does("card", "show").stdout
        trusted = client("trust", "home", "10.9.9.1", "-", "-i", str(key), text=card)
        assert trusted.returncode == 0, trusted.stderr
        assert fingerprint_of(gate.keys().keys[0]) in trusted.stdout
        assert host.seen() == "filtered"
        knocked = client("knock", "home", "--wait", "tcp/22")
        assert knocked.returncode == 0, knocked.stdout + knocked.stderr
        assert host.seen() == "open"
        (device,) = json.loads(gate.does("device", "list", "--json").stdout)["devices"]
        assert device["remembered"] is True
        told = run("ssh-keygen", "-l", "-f", str(key)).split()[1]
        assert told in gate.does("device", "list").stdout
        gate.does("close", "ssh", "--all")
        assert host.seen() == "filtered"
        gate.does("card", "revoke", "everybody")
        again = client("knock", "home", "--wait", "tcp/22", "--timeout", "1s")
        assert again.returncode == 1, again.stdout + again.stderr
        assert host.seen() == "filtered"
