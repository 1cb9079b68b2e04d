"""Keys on the command line: check, up and status, and a knock from there to there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.folders import let_others_in
from tests.knockgate.cli.gates import SSH, WEB, Host, gate, running, status
from tests.knockgate.cli.process import as_nobody, knockgate
from tests.knockgate.daemon.sealed_stage import make_gate
from tests.netns import isolated, run, until

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
    for word in ("check", "up"):
        done = knockgate(word, file)
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


# --- keys of ssh --------------------------------------------------------------------------------------


def ssh_keyed(folder: Path, *lines: str) -> str:
    """A gate.toml in which those whose keys are in a file may open ssh; what init makes is there."""
    if not (folder / "state").exists():
        make_gate(folder)
    return gate(folder, SSH, "\n".join(["[keys.people]", *lines, 'doors = ["ssh"]', ""]))


def made(folder: Path, name: str, kind: str = "ed25519") -> str:
    """The public half of a key that ssh-keygen makes."""
    run("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", str(folder / name))
    return (folder / f"{name}.pub").read_text()


def test_check_tells_whose_ssh_keys_open_what(tmp_path: Path) -> None:
    file = tmp_path / "people"
    file.write_text(made(tmp_path, "jo") + made(tmp_path, "al", "ecdsa"))
    named = f'ssh = "{file}"'
    configuration = ssh_keyed(tmp_path, named, 'sources = ["192.0.2.0/24"]', 'longest = "10s"', "leases = 1")
    done = knockgate("check", "--json", configuration)
    told = json.loads(done.stdout)
    (key,) = told["keys"]
    assert told["warnings"] == [] and done.returncode == 0
    assert key["in_words"] == (
        f"key people: opens ssh with a sealed packet, 2 keys in {file}, for 10s at most, "
        "lets in 192.0.2.0/24, 1 lease each"
    )
    assert (key["kind"], key["doors"], key["shared"], key["leases"]) == ("ssh", ["ssh"], False, 1)
    assert key["files"] == [{"path": str(file), "keys": 2, "usable": True}]
    plain = knockgate("check", "--strict", configuration)
    assert key["in_words"] in plain.stdout and plain.returncode == 0
    assert "or by a key's packet, takes sealed knocks\n" in plain.stdout


def test_check_tells_what_a_door_demands_of_sealed_knocks(tmp_path: Path) -> None:
    file = tmp_path / "people"
    file.write_text(made(tmp_path, "jo"))
    key = f'[keys.people]\nssh = "{file}"\ndoors = ["ssh"]\n'
    make_gate(tmp_path)
    usual = {"observed": "clock", "touch": False, "devices": "any"}
    for demands, differ, words in (
        ("", {}, "takes sealed knocks\n"),
        ("touch = true", {"touch": True}, "takes sealed knocks (a token must be touched)\n"),
        ('observed = "never"', {"observed": "never"}, "(each names the address to let in)"),
        (
            'observed = "always"',
            {"observed": "always"},
            "(also without a clock they need not name an address)",
        ),
        (
            'touch = true\ndevices = "known"\nobserved = "never"',
            {"touch": True, "devices": "known", "observed": "never"},
            "(a token must be touched; known devices only; each names the address to let in)",
        ),
    ):
        configuration = gate(tmp_path, SSH, f"[doors.ssh.sealed]\n{demands}\n", WEB, key)
        ssh, web = json.loads(knockgate("check", "--json", configuration).stdout)["doors"]
        assert ssh["sealed"] == usual | differ and web["sealed"] is None
        told = knockgate("check", configuration).stdout
        assert words in told and words.strip() in ssh["in_words"]
        assert told.count("sealed knocks") == 1, "none at the other door"


def test_check_tells_of_each_line_that_is_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "people"
    file.write_text(f'{made(tmp_path, "jo")}{made(tmp_path, "old", "rsa")}doors="ssh" {made(tmp_path, "al")}')
    done = knockgate("check", "--strict", ssh_keyed(tmp_path, f'ssh = "{file}"'))
    assert done.returncode == 1
    assert f"warning: key people: {file}:2: an RSA key cannot knock\n  hint: its signatures" in done.stderr
    assert done.stderr.count("warning") == 1 and "2 keys in" in done.stdout
    done = knockgate("check", "--strict", ssh_keyed(tmp_path, f'ssh = "{file}"', "shared = true"))
    assert f"warning: key people: {file}:3: the option is one of the gate's own" in done.stderr
    assert "1 key in" in done.stdout


def test_check_tells_of_files_that_cannot_be_used(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("there", "open", "none")]
    for each in files[:2]:
        each.write_text(made(tmp_path, f"key-{each.name}"))
    files[1].chmod(0o666)
    several = ssh_keyed(tmp_path, f"ssh = {[str(each) for each in files]}")
    done = knockgate("check", "--strict", several)
    assert done.returncode == 1
    assert f"1 key in {files[0]}, no keys in {files[1]}, no keys in {files[2]}" in done.stdout
    assert f"warning: key people: {files[1]}: can be written by others\n  hint: chmod go-w" in done.stderr
    assert f"warning: key people: {files[2]}: there is no such file" in done.stderr
    (key,) = json.loads(knockgate("check", "--json", several).stdout)["keys"]
    assert [each["usable"] for each in key["files"]] == [True, False, False]


def test_many_files_are_told_in_one_number(tmp_path: Path) -> None:
    files = []
    for number in range(6):
        files.append(str(tmp_path / f"{number}"))
        (tmp_path / f"{number}").write_text(made(tmp_path, f"key{number}"))
    assert "6 keys in 6 files" in knockgate("check", ssh_keyed(tmp_path, f"ssh = {files}")).stdout


def test_a_mistake_in_ssh_keys_is_told_by_check_and_by_up(tmp_path: Path) -> None:
    """Before anything is in force."""
    file = ssh_keyed(tmp_path, 'ssh = "/etc/%u"', 'users = ["nobody", "no such"]')
    for word in ("check", "up"):
        done = knockgate(word, file)
        assert done.returncode == 2
        assert "keys.people.users: there is no user 'no such'" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_check_without_rights_says_what_it_could_not_read(tmp_path: Path) -> None:
    """As nobody, who may read gate.toml and one of two files."""
    files = [tmp_path / name for name in ("there", "hidden")]
    for each in files:
        each.write_text(made(tmp_path, f"key-{each.name}"))
    files[1].chmod(0o600)
    configuration = ssh_keyed(tmp_path, f"ssh = {[str(each) for each in files]}")
    let_others_in(tmp_path)
    done = as_nobody("check", configuration)
    assert done.returncode == 0, done.stderr
    assert f"1 key in {files[0]}, no keys in {files[1]}" in done.stdout
    told = f"warning: key people: {files[1]}: cannot be read: Permission denied\n  hint: run it as root"
    assert told in done.stderr
