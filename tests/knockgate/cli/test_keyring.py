"""Keys on the command line: check, up and status, and a knock from there to there."""

from __future__ import annotations

import json
from pathlib import Path

from tests.knockgate.cli.gates import SSH, Host, gate, running, status
from tests.knockgate.cli.process import knockgate
from tests.netns import isolated, until

SECRETS = "KEY: correct horse battery\nHMAC_KEY: staple and something more\n"


def keyed(folder: Path, *lines: str) -> str:
    """A gate.toml in which alice may open ssh."""
    path = folder / "alice.secrets"
    path.write_text(SECRETS)
    path.chmod(0o600)
    return gate(folder, SSH, "\n".join(["[keys.alice]", f'fwknop = "{path}"', 'doors = ["ssh"]', *lines, ""]))


def test_check_tells_what_a_key_may_and_not_its_secrets(tmp_path: Path) -> None:
    more = ('sources = ["192.0.2.0/24"]', 'longest = "2m"', "expires = 2027-05-03", 'username = "al"')
    done = knockgate("check", "--json", keyed(tmp_path, *more))
    (key,) = json.loads(done.stdout)["keys"]
    assert key["in_words"] == (
        "key alice: opens ssh with fwknop's packet (hmac sha256, cbc), for 2m at most, "
        "lets in 192.0.2.0/24, as al, until 2027-05-04 00:00:00Z"
    )
    assert key["in_words"] in knockgate("check", keyed(tmp_path, *more)).stdout
    assert "or by a key's packet" in knockgate("check", keyed(tmp_path)).stdout
    assert "horse" not in done.stdout + done.stderr


def test_check_warns_of_weak_keys(tmp_path: Path) -> None:
    file = keyed(tmp_path)
    assert knockgate("check", "--strict", file).returncode == 0
    done = knockgate("check", "--strict", keyed(tmp_path, "observed = true"))
    assert done.returncode == 1
    assert "warning: key alice: takes packets that name no address" in done.stderr


@isolated
def test_a_key_that_cannot_be_used_puts_nothing_in_force(tmp_path: Path) -> None:
    file = keyed(tmp_path)
    secrets = tmp_path / "alice.secrets"
    secrets.chmod(0o644)
    for command in ("check", "up"):
        done = knockgate(command, file)
        assert done.returncode == 2
        assert f"{file}:9: keys.alice.fwknop: {secrets} can be read by others" in done.stderr
        assert f"hint: chmod 600 {secrets}" in done.stderr
    assert status(file)["loaded"] is False
    secrets.chmod(0o600)
    done = knockgate("up", file)
    assert done.returncode == 0 and "without the daemon no packet opens ssh" in done.stderr
    assert status(file)["in_force"] and status(file)["doors"][0]["needs_daemon"]


@isolated
def test_a_knock_with_a_key_and_what_status_tells_of_it(tmp_path: Path) -> None:
    host = Host()
    file = keyed(tmp_path)
    secrets = str(tmp_path / "alice.secrets")
    knock = ("knock", "10.9.9.1", "--fwknop", "--secrets", secrets, "-A")
    with running(file, directory=tmp_path):
        assert host.seen() == "filtered"
        with host.client:
            done = knockgate(*knock, "tcp/22", "-a", "10.9.9.3", "--wait", "22", "--timeout", "0.5")
        assert done.returncode == 1, done.stdout  # somebody else was let in
        with host.client:
            done = knockgate(*knock, "tcp/23")
        assert done.returncode == 0, done.stderr
        until(lambda: status(file)["daemon"]["packets"]["refused"], "one is refused")
        with host.client:
            done = knockgate(*knock, "tcp/22", "-f", "5", "--wait", "22")
        assert done.returncode == 0, done.stdout
        assert host.seen() == "open"
        told = knockgate("status", file).stdout
        assert "packets: opened 2 doors; refused: 1 port-denied" in told
        assert "alice: port-denied: the key does not open that: tcp/23 (from 10.9.9.2)" in told
        assert "ssh   10.9.9.2  packet of alice, 5s" in told
        assert {lease["by"] for lease in status(file)["leases"]} == {"packet"}
        assert "horse" not in told
