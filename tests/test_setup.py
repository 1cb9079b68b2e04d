"""The decisions of tools/setup.sh, with recorders in place of the programs that change a machine.

The script's files of the machine are staged below a folder (SETUP_ROOT), and PATH begins with a folder
of stand-ins that write down how they were called. What is real: bash, coreutils, grep, sed, flock. That
Debian's packages really come without a running daemon is shown where real systemd runs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent

ALL = [
    "fish",
    "groff-base",
    "man-db",
    "mandoc",
    "zsh",
    "procps",
    "python3-cffi-backend",
    "openssh-client",
    "openssh-server",
    "openssl",
    "strace",
    "nftables",
    "iptables",
    "knockd",
    "fwknop-server",
    "fwknop-client",
    "nmap",
    "iproute2",
    "util-linux",
    "python3",
    "python3-venv",
    "tcpdump",
    "systemd",
]

STAND_INS = {
    "id": 'echo "$FAKE_UID"',
    # What is installed is a file of names; what a package ships is a file named after it.
    "dpkg-query": """
case $1 in
-L) cat "$FAKE/files/$2" 2>/dev/null ;;
*) shift 3; status=0
   if [ $# = 0 ]; then sed 's/^/installed /' "$FAKE/installed"; exit; fi
   for name; do grep -qx -- "$name" "$FAKE/installed" && echo "installed $name" || status=1; done
   exit $status ;;
esac""",
    # Installing puts the names on the list and makes the links that Debian's scripts make, and asks
    # policy-rc.d as they do.
    "apt-get": """
echo "apt-get $*" >>"$FAKE/log"
case " $* " in
*" update "*) exit 0 ;;
*" --simulate "*) [ ! -e "$FAKE/no-lists" ] || { rm "$FAKE/no-lists"; exit 100; }; exit 0 ;;
esac
[ ! -e "$FAKE/fail" ] || exit 100
for asked in knockd.service ssh.service; do
    "$SETUP_ROOT/usr/sbin/policy-rc.d" $asked start; echo "policy $asked $?" >>"$FAKE/log"
done
for name; do case $name in -* | install | *=*) ;; *) echo "$name" >>"$FAKE/installed" ;; esac; done
ln -s x "$SETUP_ROOT/etc/systemd/system/multi-user.target.wants/knockd.service"
ln -s x "$SETUP_ROOT/etc/rc3.d/S01knockd"
[ ! -e "$FAKE/hang" ] || { touch "$FAKE/hanging"; sleep 1; }""",
    "systemctl": 'echo "systemctl $*" >>"$FAKE/log"; exit "${FAKE_SYSTEMCTL:-0}"',
    "deb-systemd-helper": 'echo "deb-systemd-helper $*" >>"$FAKE/log"',
    "update-rc.d": 'echo "update-rc.d $*" >>"$FAKE/log"',
    "sudo": """echo "sudo $*" >>"$FAKE/log"; [ "$FAKE_SUDO" = yes ] || exit 1
[ "$1" != -n ] || shift
export FAKE_UID=0; exec "$@"
""",
}


class Machine:
    """A staged machine: its files, its stand-ins, and what they were asked to do."""

    def __init__(self, folder: Path) -> None:
        self.fake = folder / "fake"
        self.root = folder / "the machine"
        self.repo = folder / "a clone"
        self.policy = self.root / "usr/sbin/policy-rc.d"
        self.state = self.root / "var/lib/knockgate-setup"
        for name in (
            "etc/systemd/system/multi-user.target.wants",
            "etc/init.d",
            "etc/rc3.d",
            "lib/systemd/system",
            "run",
            "usr/sbin",
            "usr/bin",
            "var/lib",
        ):
            (self.root / name).mkdir(parents=True)
        (self.fake / "files").mkdir(parents=True)
        (self.fake / "bin").mkdir()
        for name, text in STAND_INS.items():
            self.program(self.fake / "bin" / name, text)
        self.installed("bash", "openssh-server")
        self.ships("knockd", "/lib/systemd/system/knockd.service", "/etc/init.d/knockd")
        self.ships("openssh-server", "/lib/systemd/system/ssh.service")
        (self.root / "lib/systemd/system/ssh.service").touch()
        (self.root / "etc/systemd/system/multi-user.target.wants/ssh.service").symlink_to("x")
        for name in ("tools/setup.sh", "requirements/dev.txt", "pyproject.toml"):
            (self.repo / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, self.repo / name)

    @staticmethod
    def program(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def installed(self, *names: str) -> None:
        (self.fake / "installed").write_text("".join(f"{name}\n" for name in names))

    def ships(self, package: str, *files: str) -> None:
        (self.fake / "files" / package).write_text("".join(f"{name}\n" for name in files))

    def start(self, *arguments: str, uid: int = 0, sudo: str = "no", **more: str) -> subprocess.Popen[str]:
        environment = os.environ | {
            "PATH": f"{self.fake / 'bin'}:/usr/bin:/bin",
            "SETUP_ROOT": str(self.root),
            "FAKE": str(self.fake),
            "FAKE_UID": str(uid),
            "FAKE_SUDO": sudo,
        }
        return subprocess.Popen(
            [self.repo / "tools/setup.sh", *arguments],
            env=environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a Ctrl-C can be sent to all of it
        )

    def run(
        self, *arguments: str, uid: int = 0, sudo: str = "no", **more: str
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, uid=uid, sudo=sudo, **more)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @property
    def log(self) -> list[str]:
        log = self.fake / "log"
        return log.read_text().splitlines() if log.exists() else []

    def assert_right(self) -> None:
        """Nothing of the set-up is left on the machine."""
        assert not self.policy.exists()
        assert not self.state.exists()
        assert [path.name for path in self.policy.parent.iterdir()] == []


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


# --- .venv ---------------------------------------------------------------------------------------

# `python3 -m venv FOLDER` makes a folder whose python "installs" by making the programs.
FAKE_PYTHON = """
echo "python $*" >>"$FAKE/log"
case $2 in -c) exit "${FAKE_OLD:-0}" ;; esac
mkdir -p "$4/bin"
cat >"$4/bin/python" <<'END'
#!/bin/sh
echo "pip $*" >>"$FAKE/log"
[ ! -e "$FAKE/pip-fails" ] || exit 1
for name in knockdemo knockgate pytest ruff mypy lint-imports; do
    printf '#!/bin/sh\\n' >"${0%/*}/$name"; chmod 755 "${0%/*}/$name"
done
END
chmod 755 "$4/bin/python"
"""


@pytest.fixture
def ready(machine: Machine) -> Machine:
    """A machine with all packages, and a Python that only pretends."""
    machine.installed(*ALL)
    machine.program(machine.root / "usr/bin/python3", FAKE_PYTHON)
    return machine


def built(machine: Machine) -> int:
    return sum("-m venv" in line for line in machine.log)


def test_the_environment_is_made_once(ready: Machine) -> None:
    done = ready.run("test")
    assert done.returncode == 0, done.stderr
    pinned, project = (line for line in ready.log if line.startswith("pip"))
    assert "--require-hashes" in pinned
    assert pinned.endswith("/a clone/requirements/dev.txt")
    assert "--no-deps --no-build-isolation --editable" in project
    began = time.monotonic()
    assert ready.run("demo").returncode == 0
    assert time.monotonic() - began < 1
    assert built(ready) == 1


def test_other_pins_make_it_anew(ready: Machine) -> None:
    ready.run("test")
    change(ready.repo / "requirements/dev.txt")
    ready.run("test")
    assert built(ready) == 2


def test_another_pyproject_installs_the_project_anew(ready: Machine) -> None:
    """The pinned programs stay: others may be running them, and it takes a second instead of thirty."""
    ready.run("test")
    change(ready.repo / "pyproject.toml")
    ready.run("test")
    assert built(ready) == 1
    assert sum("--editable" in line for line in ready.log) == 2
    ready.run("test")
    assert sum("--editable" in line for line in ready.log) == 2


def change(path: Path) -> None:
    with path.open("a") as file:
        file.write("# changed\n")


def test_a_moved_clone_makes_it_anew(ready: Machine) -> None:
    """Scripts in it begin with the old folder's name."""
    ready.run("test")
    ready.repo = ready.repo.rename(ready.repo.with_name("another place"))
    ready.run("test")
    assert built(ready) == 2


@pytest.mark.parametrize("name", ["python", "pytest", "ruff"])
def test_a_broken_one_is_made_anew(ready: Machine, name: str) -> None:
    ready.run("test")
    program = ready.repo / ".venv/bin" / name
    program.unlink()
    program.symlink_to("/nowhere/python3.9")
    ready.run("test")
    assert built(ready) == 2
    assert program.exists()


def test_a_half_made_one_is_made_anew(ready: Machine) -> None:
    (ready.fake / "pip-fails").touch()
    done = ready.run("test")
    assert done.returncode == 2
    assert "pip could not install" in done.stderr
    (ready.fake / "pip-fails").unlink()
    assert ready.run("test").returncode == 0
    assert built(ready) == 2


def test_an_old_python_is_one_clear_line(ready: Machine) -> None:
    done = ready.run("demo", FAKE_OLD="1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "older than 3.11" in line


# --- what the pinned files may say ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["dev.in", "dev.txt"])
def test_requirements_name_no_index_and_no_place(name: str) -> None:
    text = (REPO / "requirements" / name).read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*-|--(index|extra-index|find-links|trusted-host)", text.replace("--hash", ""), re.MULTILINE
    )
    assert not re.search(r"(?<![\w.])/\w", text), "a path of some machine"
    assert not re.search(r"\b[\w-]+\.(org|com|net|io|dev|internal|local)\b", text), "a host"


def test_every_requirement_is_pinned_with_hashes() -> None:
    text = (REPO / "requirements/dev.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(lines) > 10
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+ (; [^-]+)?(\s*--hash=sha256:[0-9a-f]{64})+\s*", line), line
