"""Whether the gate guards and hears, on a real kernel with a real daemon; boot and rescue."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.knockgate.cli.gates import SSH, running
from tests.knockgate.cli.process import knockgate
from tests.knockgate.doctor.looking import KEYED, configuration, host, kinds, of, written
from tests.netns import isolated, own_mounts, run, without_rights

from knockgate.daemon.control import Facts
from knockgate.doctor import gate
from knockgate.doctor.finding import Kind
from knockgate.doctor.host import Host
from knockgate.doctor.units import LISTENER, RULES, WARDEN, Does

BOTH = Does.GUARDS | Does.HEARS
DAEMON = SSH.replace("[doors.ssh.sequence]\n", '[doors.ssh.sequence]\nruns_in = "daemon"\n')
NOW = {Kind.NOT_LOADED, Kind.OTHER_CONFIGURATION, Kind.NOT_RUNNING, Kind.NOT_LOOKED_AT}


def now(known: Host) -> set[Kind]:
    """What is found besides boot and rescue."""
    return kinds(gate.examine(known)) & NOW


@isolated
def test_a_gate_that_guards(tmp_path: Path) -> None:
    own_mounts()
    known = written(tmp_path, SSH)
    assert now(known) == {Kind.NOT_LOADED}
    assert knockgate("up", known.path).returncode == 0
    assert now(known) == set()
    other = written(tmp_path, SSH.replace("8000", "8001"))
    assert now(other) == {Kind.OTHER_CONFIGURATION}
    assert knockgate("up", other.path).returncode == 0
    assert now(other) == set()
    run("nft", "delete", "table", "inet", "knockgate")
    assert now(other) == {Kind.NOT_LOADED}


@isolated
def test_a_gate_that_hears(tmp_path: Path) -> None:
    own_mounts()
    known = written(tmp_path, DAEMON)
    (tmp_path / "run").mkdir()
    assert knockgate("up", known.path).returncode == 0
    assert now(known) == {Kind.NOT_RUNNING}
    with running(known.path, directory=tmp_path):
        found = list(gate.examine(known))
        assert kinds(found) & NOW == set()
        assert found[0].seen.startswith("the doors are guarded, the table ")
    assert now(known) == {Kind.NOT_RUNNING}


@isolated
def test_without_rights_it_is_not_said_to_be_loaded(tmp_path: Path) -> None:
    own_mounts()
    known = written(tmp_path, SSH)
    assert knockgate("up", known.path).returncode == 0

    def look() -> None:
        assert now(known) == {Kind.NOT_LOOKED_AT}

    without_rights(look)
    assert now(known) == set()


def test_without_a_configuration() -> None:
    (found,) = gate.examine(Host(None, "/nonexistent/gate.toml"))
    assert found.kind is Kind.NOT_CONFIGURED and "/nonexistent/gate.toml" in found.seen
    assert Kind.NOT_CONFIGURED not in kinds(gate.examine(host(SSH)))


@pytest.mark.parametrize(
    ("starts", "files", "needs_daemon", "lacks"),
    [
        ({}, [], False, {Kind.NOT_AT_BOOT}),
        ({}, [], True, {Kind.NOT_AT_BOOT}),
        ({WARDEN: Does.GUARDS, LISTENER: BOTH}, [], True, set()),
        ({"gate.service": BOTH}, [], True, set()),
        ({WARDEN: Does.GUARDS}, [], True, {Kind.NOT_AT_BOOT}),
        ({WARDEN: Does.GUARDS}, [], False, set()),
        ({RULES: Does.GUARDS}, [], False, set()),
        ({RULES: Does.GUARDS}, [], True, {Kind.NOT_AT_BOOT}),
        ({RULES: Does.GUARDS, WARDEN: Does.GUARDS}, [], False, {Kind.TWICE_AT_BOOT}),
        ({RULES: Does.GUARDS, WARDEN: Does.GUARDS, LISTENER: BOTH}, [], True, {Kind.TWICE_AT_BOOT}),
        ({RULES: Does.GUARDS, LISTENER: BOTH}, [], True, {Kind.TWICE_AT_BOOT}),
        ({}, ['include "/etc/knockgate/rules.nft"'], False, set()),
        ({}, ['include "/etc/knockgate/rules.nft"'], True, {Kind.NOT_AT_BOOT}),
        ({}, ["flush ruleset"], False, {Kind.NOT_AT_BOOT}),
    ],
)
def test_what_comes_back_at_boot(
    starts: dict[str, Does], files: list[str], needs_daemon: bool, lacks: set[Kind]
) -> None:
    found = list(gate.judge_boot(starts, files, needs_daemon=needs_daemon, units=True))
    assert {each.kind for each in found} == lacks
    for each in found:
        names = each.fix.split()[2:]
        assert ("disable" in each.fix) is (each.kind is Kind.TWICE_AT_BOOT)
        assert (LISTENER in names) is (needs_daemon and each.kind is Kind.NOT_AT_BOOT)
        assert (RULES in names) is (needs_daemon is (each.kind is Kind.TWICE_AT_BOOT))


def test_units_that_are_not_there_have_to_be_laid_down_first() -> None:
    for needs_daemon in (True, False):
        (found,) = gate.judge_boot({}, [], needs_daemon=needs_daemon, units=False)
        assert found.fix.startswith("knockgate install")
    nothing = gate.State(loaded=True, in_force=True, warden=None, listening=False)
    for units in (True, False):
        (found,) = gate.judge(nothing, needs_daemon=True, guards=True, units=units)
        assert ("knockgate install" in found.fix, LISTENER in found.fix) == (not units, units)


def test_a_gate_that_only_looks_on_is_told_of() -> None:
    def judged(text: str, gate_: str = "") -> set[Kind]:
        return {each.kind for each in gate.judge_shadow(configuration(text, gate_))}

    assert judged(SSH) == set()
    assert judged(SSH, "shadow = true") == {Kind.SHADOW}
    assert judged(SSH.replace("[doors.ssh]\n", "[doors.ssh]\nshadow = true\n")) == {Kind.SHADOW}


def test_one_way_in_is_not_enough() -> None:
    def judged(text: str, *, console: bool = False) -> set[Kind]:
        doors = [each for each in configuration(text).doors if each.name.startswith("ssh")]
        return {each.kind for each in gate.judge_rescue(doors, console=console)}

    assert judged(SSH) == {Kind.NO_RESCUE}
    assert judged(SSH, console=True) == set()
    assert judged(SSH.replace("[doors.ssh]\n", '[doors.ssh]\nallow = ["203.0.113.0/24"]\n')) == set()
    assert judged(SSH + KEYED.format(folder="/nonexistent")) == set()
    assert judged('[doors.ssh]\nports = ["tcp/22"]\n') == {Kind.NO_RESCUE}
    assert (
        judged(SSH + '[doors.ssh-too]\nports = ["tcp/23"]\n[doors.ssh-too.sequence]\nsteps = ["udp/1"]\n')
        == set()
    )


def test_the_door_that_has_no_rescue_is_named() -> None:
    doors = configuration(SSH).doors
    assert "door ssh" in of(gate.judge_rescue(doors, console=False), Kind.NO_RESCUE).seen


@pytest.mark.parametrize(
    ("listens", "gate_", "alone"),
    [
        (["0.0.0.0:22"], "", True),
        (["0.0.0.0:22", "127.0.0.1:2222"], "", True),
        (["0.0.0.0:22", "0.0.0.0:2222"], "", False),  # told as sshd-elsewhere
        (["0.0.0.0:2222"], "", False),
        ([], "", False),
        (["0.0.0.0:22"], 'allow = ["203.0.113.0/24"]', False),
    ],
)
def test_only_where_all_of_sshd_is_behind_doors_a_rescue_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, listens: list[str], gate_: str, alone: bool
) -> None:
    monkeypatch.setattr(gate, "output_of", lambda *_: "".join(f"listenaddress {each}\n" for each in listens))
    monkeypatch.setattr(gate, "running_programs", set)
    assert (Kind.NO_RESCUE in kinds(gate.examine(host(SSH, gate_)))) is alone


def test_what_does_not_answer_is_named() -> None:
    facts = Facts(owned=True, restored=1)
    for warden, seen in (
        (None, "the daemon is not running"),
        (facts, "the daemon's listener does not answer"),
    ):
        state = gate.State(loaded=True, in_force=True, warden=warden, listening=False)
        (found,) = gate.judge(state, needs_daemon=True, guards=True, units=False)
        assert found.seen == seen
