"""Which packages tools/setup.sh installs, and how it leaves the machine, also where it was stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.staged import ALL, Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_missing_does_nothing(machine: Machine) -> None:
    machine.installed(*ALL)
    assert machine.run("packages", "test").returncode == 0
    assert machine.log == []


def test_only_what_is_missing_is_installed(machine: Machine) -> None:
    machine.installed(*(name for name in ALL if name not in {"knockd", "nmap"}))
    assert machine.run("packages", "test").returncode == 0
    (install,) = [line for line in machine.log if " install " in line and "--simulate" not in line]
    assert install.endswith(" knockd nmap")
    assert "--no-install-recommends" in install
    assert not any(line.endswith(" update") for line in machine.log), "the lists were good enough"


def test_the_demo_does_not_install_what_only_tests_need(machine: Machine) -> None:
    for_tests = {"openssl", "procps", "python3-cffi-backend", "strace", "systemd", "tcpdump"}
    for_tests |= {"fish", "groff-base", "man-db", "mandoc", "zsh"}
    machine.installed(*(name for name in ALL if name not in for_tests))
    assert machine.run("packages", "demo").returncode == 0
    assert machine.log == []


def test_a_package_is_built_without_what_is_packed_beside_it(machine: Machine) -> None:
    machine.installed("python3", "python3-venv")
    assert machine.run("packages", "deb").returncode == 0
    assert machine.log == []


def test_lists_are_fetched_when_they_do_not_resolve(machine: Machine) -> None:
    (machine.fake / "no-lists").touch()
    assert machine.run("packages", "demo").returncode == 0
    assert [line.endswith(" update") for line in machine.log if line.startswith("apt-get")].count(True) == 1


def test_newcomers_are_neither_started_nor_left_enabled(machine: Machine) -> None:
    done = machine.run("packages", "demo")
    assert done.returncode == 0, done.stderr
    assert "policy knockd.service 101" in machine.log
    assert "systemctl disable knockd.service" in machine.log
    assert "update-rc.d knockd disable" in machine.log
    assert "not started and not enabled: knockd.service\n" in done.stderr
    assert not any("ssh" in line for line in machine.log if "disable" in line)
    machine.assert_right()


def test_services_that_were_here_keep_their_policy(machine: Machine) -> None:
    """A service of a package that was here may be restarted, when there was no policy-rc.d."""
    machine.run("packages", "demo")
    # What invoke-rc.d does without a policy: yes where there is an init, no where there is none.
    assert f"policy ssh.service {0 if Path('/sbin/init').exists() else 101}" in machine.log


def test_a_package_that_was_here_is_not_touched(machine: Machine) -> None:
    """The package was installed and off; that its links appear now is none of our business."""
    machine.installed(*(name for name in ALL if name != "nmap"))
    assert machine.run("packages", "test").returncode == 0
    assert not any("disable" in line for line in machine.log)


def test_a_unit_that_was_enabled_before_stays_enabled(machine: Machine) -> None:
    """A link of the same unit that the admin made before the package came is kept."""
    wants = machine.root / "etc/systemd/system/multi-user.target.wants/fwknop-server.service"
    wants.symlink_to("x")
    machine.ships("fwknop-server", "/lib/systemd/system/fwknop-server.service")
    machine.run("packages", "demo")
    assert not any("fwknop" in line for line in machine.log if "disable" in line)


def test_without_systemctl_debians_own_tool_disables(machine: Machine) -> None:
    machine.run("packages", "demo", FAKE_SYSTEMCTL="1")
    assert "deb-systemd-helper disable knockd.service" in machine.log


def test_the_policy_of_before_is_asked_and_comes_back(machine: Machine) -> None:
    machine.program(machine.policy, "# theirs\nexit 104")
    before = machine.policy.read_bytes()
    assert machine.run("packages", "demo").returncode == 0
    assert "policy ssh.service 104" in machine.log
    assert "policy knockd.service 101" in machine.log
    assert machine.policy.read_bytes() == before
    assert machine.policy.stat().st_mode & 0o777 == 0o755
    assert not machine.state.exists()


def test_a_failed_install_leaves_the_machine_right(machine: Machine) -> None:
    (machine.fake / "fail").touch()
    done = machine.run("packages", "demo")
    assert done.returncode == 2
    assert "apt-get could not install" in done.stderr
    machine.assert_right()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_install_leaves_the_machine_right(machine: Machine, number: signal.Signals) -> None:
    process = start_and_reach_apt(machine)
    os.killpg(process.pid, number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "systemctl disable knockd.service" in machine.log
    machine.assert_right()


def test_a_killed_set_up_is_put_right_by_the_next(machine: Machine) -> None:
    process = start_and_reach_apt(machine)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert machine.policy.exists()
    assert machine.state.exists()
    (machine.fake / "hang").unlink()
    machine.installed(*ALL)
    done = machine.run("packages", "demo")
    assert "interrupted" in done.stderr
    assert "systemctl disable knockd.service" in machine.log
    machine.assert_right()


def start_and_reach_apt(machine: Machine) -> subprocess.Popen[str]:
    (machine.fake / "hang").touch()
    process = machine.start("packages", "demo")
    end = time.monotonic() + 30
    while not (machine.fake / "hanging").exists():
        assert time.monotonic() < end, "apt-get was never called"
        time.sleep(0.01)
    return process


def test_an_ordinary_user_goes_through_sudo(machine: Machine) -> None:
    machine.installed(*(name for name in ALL if name != "nmap"))
    # This machine has no /usr/bin/python3, so the set-up ends after the packages.
    machine.run("demo", uid=1000, sudo="yes")
    assert any(re.fullmatch(r"sudo .*/a clone/tools/setup\.sh packages demo", line) for line in machine.log)
    assert any(line.startswith("apt-get") and line.endswith(" nmap") for line in machine.log)
    machine.assert_right()


def test_neither_root_nor_sudo_is_one_clear_line(machine: Machine) -> None:
    machine.installed(*(name for name in ALL if name != "nmap"))
    done = machine.run("demo", uid=1000, sudo="no")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "missing packages: nmap; run as root: " in line
    assert line.endswith(" packages demo")
    assert "a\\ clone/tools/setup.sh" in line, "the command can be pasted"
    assert not any(line.startswith("apt-get") for line in machine.log)


def test_wrong_arguments_are_one_line(machine: Machine) -> None:
    for arguments in ([], ["demos"], ["packages"], ["demo", "test"]):
        done = machine.run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("setup: usage: ")
