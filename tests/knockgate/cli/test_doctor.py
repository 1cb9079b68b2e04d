"""``doctor`` as a command: what it prints, for people and programs, and how it ends."""

from __future__ import annotations

import json
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.folders import let_others_in
from tests.knockgate.cli.gates import SSH, gate
from tests.knockgate.cli.process import Done, as_nobody, knockgate, process
from tests.knockgate.cli.sealed_gates import initialised
from tests.netns import isolated, own_mounts, run, up, veth

from knockgate.cli import doctor as command_module
from knockgate.doctor import examine as examining
from knockgate.doctor import network
from knockgate.doctor.finding import Finding, Kind, Severity, Topic, fine, found
from knockgate.doctor.host import Host, output_of

SEVERITIES = [each.name.lower() for each in Severity]


def facts(*words: str) -> dict[str, Any]:
    done = knockgate("doctor", "--json", *words)
    assert done.returncode in (0, 1), done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    bad = [each for each in told["findings"] if each["severity"] in ("warning", "error")]
    assert (done.returncode == 1) is bool(bad)
    assert told["format"] == 1
    assert told["worst"] == max((each["severity"] for each in told["findings"]), key=SEVERITIES.index)
    return told


def ids(told: dict[str, Any]) -> set[str]:
    return {each["id"] for each in told["findings"]}


@isolated
def test_a_gate_that_guards_beside_one_that_does_not(tmp_path: Path) -> None:
    own_mounts()
    veth("near", "far")
    up("near", "1.2.3.4/24")
    file = gate(tmp_path, SSH)
    assert {"not-loaded", "no-listener"} <= ids(facts(file))
    assert knockgate("up", file).returncode == 0
    with socket.create_server(("1.2.3.4", 22)):
        told = facts(file)
    assert not ids(told) & {"not-loaded", "no-listener"}
    assert told["file"] == file
    assert {each["topic"] for each in told["findings"]} == {each.value for each in Topic}


def answered(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    def few(host: Host) -> list[Finding]:
        assert isinstance(host, Host)
        return list(findings)

    monkeypatch.setattr(examining, "examine", few)


@pytest.mark.parametrize(
    ("kind", "status", "summary"),
    [
        (None, 0, "nothing is wrong"),
        (Kind.UNGUARDED, 0, "1 note"),
        (Kind.NO_LISTENER, 1, "1 warning"),
        (Kind.NOT_LOADED, 1, "1 error"),
    ],
)
def test_the_exit_status_is_that_of_the_worst(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: Kind | None, status: int, summary: str
) -> None:
    bad = [found(kind, "something", "mend it")] if kind else []
    answered(monkeypatch, fine(Topic.CLOCK, "it ticks"), *bad)
    done = knockgate("doctor", gate(tmp_path, SSH))
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.splitlines()[:2] == ["clock", "  ok       it ticks"]
    assert done.stdout.splitlines()[-1] == summary
    assert ("mend it" in done.stdout) is bool(kind)
    quiet = knockgate("doctor", "-q", gate(tmp_path, SSH))
    assert quiet.returncode == status
    assert ("mend it" in quiet.stdout) is bool(status) and "ticks" not in quiet.stdout


def test_what_is_wrong_with_the_file_is_told(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH.replace("ports", "prots"))
    done = knockgate("doctor", file)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{file}:5: doors.ssh.prots: unknown key" in done.stderr
    done = knockgate("doctor", str(tmp_path / "none.toml"))
    assert done.returncode == 2 and "none.toml" in done.stderr


def test_without_a_configuration_the_host_alone_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command_module, "DEFAULT_PATH", tmp_path / "gate.toml")
    monkeypatch.setattr("knockgate.cli.words.DEFAULT_PATH", tmp_path / "gate.toml")
    told = facts()
    assert told["file"] is None
    assert "not-configured" in ids(told)
    assert not {"state", "rights"} & {each["topic"] for each in told["findings"]}
    gate(tmp_path, SSH)
    told = facts()
    assert told["file"] == str(tmp_path / "gate.toml")
    assert "not-configured" not in ids(told)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
@isolated
def test_somebody_without_rights_is_told_what_was_not_looked_at() -> None:
    own_mounts()
    file = gate(Path("/run"), SSH)
    assert knockgate("up", file).returncode == 0
    done = as_nobody("doctor", "--json", file)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    blind = [each for each in told["findings"] if not each["looked"]]
    assert {"rules", "gate", "containers"} <= {each["topic"] for each in blind}
    assert all(each["severity"] == "warning" and each["fix"] for each in blind)
    for topic in ("rules", "gate"):  # nothing there is said to be fine
        assert not [each for each in told["findings"] if each["topic"] == topic and each["severity"] == "ok"]
    as_root = facts(file)["findings"]
    assert not [each for each in as_root if each["topic"] in ("rules", "gate") and not each["looked"]]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_files_of_keys_that_somebody_may_not_read_are_not_said_to_be_unusable(tmp_path: Path) -> None:
    initialised(tmp_path)
    let_others_in(tmp_path)
    file = str(tmp_path / "gate.toml")
    (tmp_path / "people").chmod(0o600)

    def on_keys(done: Done) -> set[str]:
        found = json.loads(done.stdout)["findings"]
        return {each["id"] for each in found if str(tmp_path / "people") in each["seen"]}

    assert on_keys(knockgate("doctor", "--json", file)) == set()
    assert on_keys(as_nobody("doctor", "--json", file)) == {"not-looked-at"}
    (tmp_path / "people").chmod(0o666)
    assert on_keys(knockgate("doctor", "--json", file)) == {"keys-unusable"}


@isolated
def test_a_program_that_hangs_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ip"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(network, "output_of", partial(output_of, patience=0.2))
    told = facts(gate(tmp_path, SSH))
    (blind,) = [each for each in told["findings"] if each["topic"] == "network"]
    assert not blind["looked"] and "ip has not answered within 0.2 s" in blind["seen"]
    assert {each["topic"] for each in told["findings"]} == {each.value for each in Topic}


def test_it_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    done = process("doctor", "--quiet", gate(tmp_path, SSH))
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    page = process("doctor", "--help").stdout
    for topic in Topic:
        assert topic.value in page
    assert "Exit status: 0 there is nothing worse than a note" in page


@isolated
def test_nothing_is_changed(tmp_path: Path) -> None:
    own_mounts()
    file = gate(tmp_path, SSH)
    assert knockgate("up", file).returncode == 0
    before = run("nft", "-s", "list", "ruleset"), sorted(map(str, tmp_path.rglob("*")))
    facts(file)
    assert (run("nft", "-s", "list", "ruleset"), sorted(map(str, tmp_path.rglob("*")))) == before
