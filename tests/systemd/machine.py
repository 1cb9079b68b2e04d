"""A throw-away machine: systemd as process 1 on an overlay of this host's own root, and a client beside it.

::

    client  10.77.0.2 fd77::2 ── wire ═══ eth0 ── 10.77.0.1 fd77::1  machine (systemd, its own everything)

What the machine writes lands in a tmpfs that ends with it; the programs are this host's. It ends with
the test process, ``kill -9`` included: by parent-death signals, and by a watchdog that waits for the
end of a pipe only we hold, empties the control group and removes what has a name on this host (the
group and a mount point).
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

from tests.netns import until

__all__ = ["ADDRESS", "ADDRESS6", "CLIENT", "Host", "Machine", "boot", "why_not"]

ADDRESS, ADDRESS6 = "10.77.0.1", "fd77::1"
CLIENT, CLIENT6 = "10.77.0.2", "fd77::2"
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

#: Arguments: mount point, what to do before the first process starts, folders to lend.
BOOT = r"""
set -eu
base=$1 prepare=$2; shift 2
root=$base/root
hostname machine
mount -t tmpfs tmpfs "$base"
mkdir "$base/upper" "$base/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
for folder do # they may lie on other file systems than the root
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
    mount -o remount,ro,bind "$root$folder"
done
# This host's own services are none of ours: nothing is enabled, and what always starts but has no
# work here is masked.
: >"$root/etc/fstab"
find "$root/etc/systemd/system" -path '*.wants*' -delete
find "$root"/etc/rc?.d -name 'S*' ! -name '*knockd' ! -name '*fwknop-server' -delete
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
    systemd-udev-trigger.service systemd-modules-load.service systemd-networkd.service \
    systemd-logind.service console-getty.service getty@tty1.service systemd-timesyncd.service \
    systemd-resolved.service networking.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
chroot "$root" /bin/sh -euc "$prepare" </dev/null
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
rmdir /.old
exec env -i container=lab "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no
"""

#: Standard input ends when we do. Arguments: control group, mount point.
WATCHDOG = r"""
import pathlib, sys, time
sys.stdin.read()
group, base = map(pathlib.Path, sys.argv[1:])
if group.exists():
    (group / "cgroup.kill").write_text("1")
    while "populated 1" in (group / "cgroup.events").read_text():
        time.sleep(0.01)
    for path in sorted(group.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
    group.rmdir()
base.rmdir()
"""


def why_not() -> str | None:
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
        machine_end, client_end = _network(stack), _network(stack)
        client = Host(["nsenter", "-t", str(client_end), "-n", "--"])
        near = Host(["nsenter", "-t", str(machine_end), "-n", "--"])
        _cable(near, client, machine_end)
        if before:
            before(near, client)
        log = stack.enter_context(tempfile.TemporaryFile("w+"))
        join = 'echo 0 >"$0/cgroup.procs" && exec "$@"'
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup"]
        command = ["nsenter", "-t", str(machine_end), "-n", "--", *unshare, "--", "bash", "-c", BOOT, "boot"]
        outer = subprocess.Popen(
            ["sh", "-c", join, str(group), *command, str(base), prepare, *map(str, lend)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_us(),  # noqa: PLW1509 - it calls the kernel and nothing else
        )
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

        machine = Machine(until(first_process, "systemd starts", PATIENCE) or 0, group, client)
        until(
            lambda: machine.run(["systemctl", "is-system-running"]).stdout.strip() in ("running", "degraded"),
            "the machine is up",
            PATIENCE,
        )
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


def _network(stack: contextlib.ExitStack) -> int:
    """A network namespace, kept by a process whose number this is."""
    keeper = subprocess.Popen(
        ["unshare", "--net", "sleep", "infinity"],
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with_us(),  # noqa: PLW1509 - as above
    )
    stack.callback(keeper.wait)
    stack.callback(keeper.kill)
    home = Path("/proc/self/ns/net").readlink()
    until(lambda: Path(f"/proc/{keeper.pid}/ns/net").readlink() != home, "a network of its own")
    return keeper.pid


def _cable(machine: Host, client: Host, machine_end: int) -> None:
    client.tell(
        *("ip", "link", "add", "wire", "type", "veth", "peer", "name", "eth0", "netns", str(machine_end))
    )
    ends = ((machine, "eth0", ADDRESS, ADDRESS6, CLIENT), (client, "wire", CLIENT, CLIENT6, ADDRESS))
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
