"""Whether the clock is kept right."""

from __future__ import annotations

import os
import sys

import pytest
from tests.knockgate.doctor.looking import KEYED, SSH, host, kinds
from tests.netns import isolated, own_mounts, run

from knockgate import clock as machine
from knockgate.clock import KernelSays
from knockgate.config.readers import Reliance
from knockgate.doctor import clock
from knockgate.doctor.finding import Kind, Severity

RIGHT, FLAGGED, NOBODY = KernelSays(0.01, False), KernelSays(0.01, True), KernelSays(16.0, True)
AUTO, TRUSTED, UNKNOWN = Reliance.AUTO, Reliance.TRUSTED, Reliance.UNKNOWN


@pytest.mark.parametrize(
    ("says", "keepers", "reliance", "finds"),
    [
        (RIGHT, ["chronyd"], AUTO, set()),
        (RIGHT, [], AUTO, set()),  # kept from outside, as in a container
        (RIGHT, [], TRUSTED, set()),
        (FLAGGED, ["chronyd"], AUTO, {Kind.CLOCK_FLAGGED}),
        (FLAGGED, ["systemd-timesyn"], AUTO, {Kind.CLOCK_FLAGGED}),
        (NOBODY, ["ntpd"], AUTO, {Kind.CLOCK_NOT_SET_YET}),
        (NOBODY, [], AUTO, {Kind.CLOCK_NOT_KEPT}),
        (NOBODY, [], TRUSTED, {Kind.CLOCK_TRUSTED}),
        (RIGHT, ["chronyd", "systemd-timesyn"], AUTO, {Kind.CLOCK_TWICE_KEPT}),
    ],
)
def test_what_the_kernel_says(
    says: KernelSays, keepers: list[str], reliance: Reliance, finds: set[Kind]
) -> None:
    assert kinds(clock.judge(says, keepers, reliance, matters=True)) == finds


def test_the_remedy_is_for_the_program_that_runs() -> None:
    def fix(says: KernelSays, keeper: str) -> str:
        (found,) = clock.judge(says, [keeper], AUTO, matters=True)
        return found.fix

    assert "rtcsync" in fix(FLAGGED, "chronyd") and "rtcsync" not in fix(FLAGGED, "systemd-timesyn")
    assert "chronyc tracking" in fix(NOBODY, "chronyd")
    assert "timedatectl timesync-status" in fix(NOBODY, "systemd-timesyn")
    assert "ntpq" in fix(NOBODY, "ntpd")


@pytest.mark.parametrize(
    ("matters", "reliance", "severity"),
    [
        (True, AUTO, Severity.WARNING),
        (False, AUTO, Severity.NOTE),
        (True, UNKNOWN, Severity.NOTE),
        (False, TRUSTED, Severity.NOTE),
    ],
)
def test_it_is_a_warning_where_packets_are_judged_by_it(
    matters: bool, reliance: Reliance, severity: Severity
) -> None:
    (found,) = clock.judge(NOBODY, [], reliance, matters=matters)
    assert found.severity is severity


def test_this_machine_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    says = machine.kernel_says()
    assert says is not None
    assert says.synchronised == machine.is_synchronised()
    kinds(clock.examine(host()))
    monkeypatch.setattr(machine, "kernel_says", lambda: None)
    assert kinds(clock.examine(host())) == {Kind.NOT_LOOKED_AT}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
@isolated
def test_processes_that_are_hidden_may_keep_it() -> None:
    own_mounts()
    asks = "from knockgate.doctor.host import sees_all_programs as sees; print(sees())"
    python = [sys.executable, "-c", asks]
    somebody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "env",
        "PYTHONPATH=src",
        *python,
    ]
    assert run(*somebody) == "True\n"
    run("mount", "-o", "remount,hidepid=2", "/proc")
    assert run(*somebody) == "False\n"
    assert run("env", "PYTHONPATH=src", *python) == "True\n"


def test_what_is_hidden_is_not_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "kernel_says", lambda: NOBODY)
    monkeypatch.setattr(clock, "sees_all_programs", lambda: True)
    assert Kind.NOT_LOOKED_AT not in kinds(clock.examine(host()))
    monkeypatch.setattr(clock, "sees_all_programs", lambda: False)
    assert kinds(clock.examine(host())) == {Kind.NOT_LOOKED_AT}


def test_who_needs_a_clock() -> None:
    assert not host().needs_daemon
    assert host(SSH + KEYED.format(folder="/nonexistent")).needs_daemon
