"""A throw-away machine: systemd as process 1 on an overlay of this host's own root, and a client beside it.

::

    client  10.77.0.2 fd77::2 ── wire, a bridge ═══ eth0 ── 10.77.0.1 fd77::1  machine (systemd, all its own)

What the machine writes lands in a tmpfs, its disk; the programs are this host's. Disk and network outlive
a boot (``hardware``), so there can be another one. All of it ends with the test process, ``kill -9``
included: by parent-death signals, and by a watchdog that waits for the end of a pipe only we hold, empties
the control group and removes what has a name on this host (the group and a mount point).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.netns import until
from tests.systemd.booting import BOOT, WATCHDOG

__all__ = [
    "ADDRESS",
    "ADDRESS6",
    "CLIENT",
    "CLIENT6",
    "MAC",
    "NEEDS",
    "Hardware",
    "Host",
    "Machine",
    "boot",
    "hardware",
]

ADDRESS, ADDRESS6 = "10.77.0.1", "fd77::1"
CLIENT, CLIENT6 = "10.77.0.2", "fd77::2"
#: Of the machine's network card.
MAC = "02:77:00:00:00:01"
SYSTEMD = "/lib/systemd/systemd"
PROGRAMS = (
    "ip",
    "unshare",
    "nsenter",
    "mount",
    "pivot_root",
    "systemctl",
    "nft",
    "iptables",
    "nmap",
    "knockd",
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Seconds for anything that a whole machine does: it shares two cores with everything else.
PATIENCE = 90.0
_PR_SET_PDEATHSIG = 1


def _why_not() -> str | None:
    """Why this host can boot no such machine; None if it can."""
    if os.geteuid() != 0:
        return "booting systemd needs root"
    missing = [program for program in PROGRAMS if not shutil.which(program, path=PATH)]
    if not Path(SYSTEMD).exists():
        missing.append(SYSTEMD)
    if missing:
        return f"not installed: {', '.join(missing)}"
    if _cgroup2() is None:
        return "no cgroup2 file system is mounted here"
    with tempfile.TemporaryDirectory() as base:
        script = (
            'mount -t tmpfs tmpfs "$0" && cd "$0" && mkdir u w m && '
            "mount -t overlay overlay -o lowerdir=/,upperdir=u,workdir=w m"
        )
        probe = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, base], capture_output=True, text=True, check=False
        )
    if probe.returncode:
        return f"no overlay can be mounted over /: {probe.stderr.strip()}"
    return None


class Host:
    """One end of the wire: where commands can be run."""

    def __init__(self, enter: Sequence[str]) -> None:
        self._enter = enter

    def run(self, command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command there, as root, with nothing of our environment."""
        variables = {
            "PATH": PATH,
            "HOME": "/root",
            "LC_ALL": "C",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }
        return subprocess.run(
            [*self._enter, "env", "-i", *(f"{name}={value}" for name, value in variables.items()), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def start(self, command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        """Start a command there and let it run; it dies with us."""
        return subprocess.Popen(
            [
                *self._enter,
                "env",
                "-i",
                f"PATH={PATH}",
                *(f"{k}={v}" for k, v in environment.items()),
                *command,
            ],
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_us(),  # noqa: PLW1509 - it calls the kernel and nothing else
        )

    def tell(self, *command: str, **environment: str) -> str:
        """What a command printed; where it fails, so does the test, with what it said."""
        done = self.run(command, **environment)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout


class Machine(Host):
    """The booted machine, its first process and control group; ``client`` is at the cable's other end."""

    def __init__(self, process: int, cgroup: Path, client: Host) -> None:
        super().__init__(["nsenter", "-t", str(process), "-m", "-u", "-i", "-n", "-p", "-C", "--"])
        self.process = process
        self.cgroup = cgroup
        self.client = client

    def property_of(self, unit: str, name: str) -> str:
        """One property of a unit, as ``systemctl show`` has it."""
        return self.tell("systemctl", "show", "--value", "-p", name, unit).strip()

    def is_active(self, *units: str) -> list[str]:
        """What ``systemctl is-active`` says of each."""
        return self.run(["systemctl", "is-active", *units]).stdout.split()

    def unit_files(self) -> list[str]:
        """What ``systemctl list-unit-files`` says."""
        words = ["list-unit-files", "--no-legend", "--plain", "--no-pager"]
        return self.tell("systemctl", *words).splitlines()

    def enabled(self) -> set[str]:
        """The units that are."""
        rows = (line.split() for line in self.unit_files())
        return {name for name, state, *_ in rows if state == "enabled"}

    def shut_down(self) -> None:
        """As an admin does before a reboot; returns when its first process has ended."""
        self.run(["systemctl", "reboot"])  # which may end before it can say that it went well
        until(lambda: not Path(f"/proc/{self.process}").exists(), "the machine shuts down", PATIENCE)


class Hardware:
    """What outlives a boot: the disk, the network and the cable. ``near`` is the machine's end of that."""

    def __init__(self, base: Path, group: Path, keeper: int, client: Host) -> None:
        self.client = client
        self.near = Host(["nsenter", "-t", str(keeper), "-n", "--"])
        self._base, self._group, self._keeper = base, group, keeper
        self._boots = 0

    def plug(self, name: str = "eth0", mac: str = MAC) -> None:
        """A network card of the machine's, which is not there yet, and its cable to the client."""
        ours = f"plug-{name}"
        card = ["peer", "name", name, "address", mac, "netns", str(self._keeper)]
        self.client.tell("ip", "link", "add", ours, "type", "veth", *card)
        self.client.tell("ip", "link", "set", ours, "master", "wire", "up")

    @contextlib.contextmanager
    def boot(self, *, prepare: str = ":", lend: Sequence[Path] = ()) -> Iterator[Machine]:
        """Boot, and take the power away at the end, if the machine was not shut down before.

        As ``boot``. A second boot finds the disk as the one before has left it, and the kernel's rules and
        links as a kernel has them that has just started.
        """
        self._boots += 1
        group = self._group / str(self._boots)
        group.mkdir()
        if self._boots > 1:
            self.near.tell("ip", "link", "set", "eth0", "down")
            self.near.tell("nft", "flush", "ruleset")  # what nobody owns any more
            assert self.near.tell("nft", "list", "ruleset") == ""
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(tempfile.TemporaryFile("w+"))
            join = 'echo 0 >"$0/cgroup.procs" && exec "$@"'
            unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup"]
            command = ["nsenter", "-t", str(self._keeper), "-n", "-m", "--", *unshare, "--"]
            words = ["bash", "-c", BOOT, "boot", str(self._base), prepare, *map(str, lend)]
            outer = subprocess.Popen(
                ["sh", "-c", join, str(group), *command, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_us(),  # noqa: PLW1509 - it calls the kernel and nothing else
            )
            stack.callback(_until_empty, group)
            stack.callback(outer.wait)
            stack.callback(outer.kill)

            def first_process() -> int | None:
                if outer.poll() is not None:
                    log.seek(0)
                    raise AssertionError(f"the machine does not boot: {log.read()}")
                for child in _children(outer.pid):
                    if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                        return child
                return None

            process = until(first_process, "systemd starts", PATIENCE) or 0
            machine = Machine(process, group, self.client)
            until(
                lambda: (
                    machine.run(["systemctl", "is-system-running"]).stdout.strip() in ("running", "degraded")
                ),
                "the machine is up",
                PATIENCE,
            )
            yield machine


@contextlib.contextmanager
def hardware() -> Iterator[Hardware]:
    """A machine that is switched off, cabled to a client; it is taken away at the end."""
    mounted = _cgroup2()
    assert mounted, "why_not() has said so"
    base = Path(tempfile.mkdtemp(prefix="knockgate-machine-"))
    group = mounted / base.name
    with contextlib.ExitStack() as stack:
        watchdog = subprocess.Popen(
            [sys.executable, "-I", "-c", WATCHDOG, str(group), str(base)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; it must live a little longer
        )
        stack.callback(_end, watchdog)
        group.mkdir()
        keeper, client_end = _kept(stack, base), _kept(stack)
        client = Host(["nsenter", "-t", str(client_end), "-n", "--"])
        machine = Hardware(base, group, keeper, client)
        _cable(machine, client)
        yield machine


@contextlib.contextmanager
def boot(
    *,
    prepare: str = ":",
    lend: Sequence[Path] = (),
    before: Callable[[Host, Host], None] | None = None,
) -> Iterator[Machine]:
    """Boot a machine and take it away again.

    ``prepare`` is a shell script that runs in the machine's tree and network just before its first
    process; ``lend`` are folders of ours that it sees, read-only, at the same place. ``before`` is called
    with the machine's network and the client, once they are cabled and before anything else of the machine.
    """
    with hardware() as built:
        if before:
            before(built.near, built.client)
        with built.boot(prepare=prepare, lend=lend) as machine:
            yield machine


def _cgroup2() -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2":
            return Path(before.split()[4])
    return None


def _children(process: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The fields after the name, which may hold anything, in parentheses: state, parent, ...
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == process:
                    found.append(int(entry.name))
    return found


def _die_with_us() -> Callable[[], None]:
    us, libc = os.getpid(), ctypes.CDLL(None)

    def arrange() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != us:  # we died before the line above
            os._exit(1)

    return arrange


def _kept(stack: contextlib.ExitStack, disk: Path | None = None) -> int:
    """A network namespace, kept by a process whose number this is; and a disk, which only it has mounted."""
    script = "exec sleep infinity"
    if disk:
        script = f'mount -t tmpfs tmpfs "$0"; mkdir "$0/upper" "$0/work" "$0/root"; {script}'
    keeper = subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-euc", script, str(disk or "sh")],
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with_us(),  # noqa: PLW1509 - as above
    )
    stack.callback(keeper.wait)
    stack.callback(keeper.kill)
    comm = Path(f"/proc/{keeper.pid}/comm")  # the last thing that it becomes
    until(lambda: comm.read_text() == "sleep\n", "a network of its own")
    return keeper.pid


def _until_empty(group: Path) -> None:
    """Until nobody is left in the control group, who could still write on the disk."""
    until(lambda: "populated 0" in (group / "cgroup.events").read_text(), "the machine has ended", PATIENCE)


def _cable(machine: Hardware, client: Host) -> None:
    # To a bridge, so that who listens at the client's end does not notice when the machine's is pulled out.
    # It has an address of its own: else that of the least of its cables.
    bridge = ["address", "02:77:00:00:00:ff", "type", "bridge", "mcast_snooping", "0"]
    client.tell("ip", "link", "add", "wire", *bridge)
    machine.plug()
    near = machine.near
    ends = ((near, "eth0", ADDRESS, ADDRESS6, CLIENT), (client, "wire", CLIENT, CLIENT6, ADDRESS))
    for host, interface, address, address6, _ in ends:
        host.tell("ip", "link", "set", "lo", "up")
        host.tell("ip", "address", "add", f"{address}/24", "dev", interface)
        host.tell("ip", "address", "add", f"{address6}/64", "dev", interface, "nodad")
        host.tell("ip", "link", "set", interface, "up")
    for host, *_, gateway in ends:
        host.tell("ip", "route", "add", "default", "via", gateway)


def _end(watchdog: subprocess.Popen[bytes]) -> None:
    assert watchdog.stdin
    watchdog.stdin.close()
    assert watchdog.wait(PATIENCE) == 0


_obstacle = _why_not()
#: Marks of the files whose tests boot one.
NEEDS = [
    pytest.mark.root,
    pytest.mark.long,
    pytest.mark.skipif(_obstacle is not None, reason=f"no machine with systemd: {_obstacle}"),
]
