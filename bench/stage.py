"""What runs inside the namespaces: host, wire and client, a daemon on one core and a flood on another.

Process 1 of its PID namespace. Each line on standard output is an event: ``progress`` (text), ``run``
(what was measured in one run), ``failed`` (message, hint). A measurement that cannot be trusted fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from bench.scenarios import DAEMONS, SCENARIOS, Scenario
from knockdemo import client
from knockdemo.config import Config
from knockdemo.lab.hosts import PATH, Actor, Site, build
from knockdemo.lab.wait import until
from knockgate.errors import KnockgateError, Unavailable

__all__ = [
    "ATTEMPTS",
    "FILES",
    "UNANSWERED",
    "emit",
    "mac_of",
    "main",
    "prefer",
    "prefer_us",
    "prepare",
    "running",
]

T = TypeVar("T")

FILES = Path("/run/flood")
CONFIG = Config()  # the tutorial's numbers
#: A run whose flood did not reach the host at this part of the rate is none.
ENOUGH = 0.9
#: Other people use the machine too: such a run is thrown away and made again, up to this often.
ATTEMPTS = 3
#: How long a knock's door is waited for; the last knock is not repeated, so longer would not help.
PATIENCE = 1.0
#: No run takes longer, whatever happens. Seconds.
LONGEST_RUN = 180

UNANSWERED = """\
table inet flood {{
	chain unanswered {{
		type filter hook prerouting priority raw
		ether saddr {mac} drop
	}}
}}
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run measured. Shares are of 1; ``None`` where nothing was asked."""

    scenario: str
    seconds: float
    arrived_per_s: float  # packets that the host's interface received
    cpu: float  # of the daemon, as a share of one core
    kernel: float  # of that, what was spent in system calls, as a share of one core
    waited: float  # time in which it could have run but somebody else had its core, as a share
    us_each: float | None  # of the daemon's time for each packet that it was handed, in microseconds
    queued: int  # packets that passed the filter, those lost among them
    lost: int  # of these, for want of room in the daemon's queue
    knocks: int
    opened: int
    opened6: int  # of these, over IPv6, as every second knock is
    latency_ms: float | None  # median, from the last knock's leaving to the door seen open


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one moment."""

    at: float
    cpu_s: float
    kernel_s: float
    waited_s: float
    packets: int

    @classmethod
    def of(cls, pid: int) -> Reading:
        """Of a process, and of the interface ``eth0`` of the network it lives in."""
        process = Path("/proc", str(pid))
        # proc(5): the second field, in brackets, may hold anything; utime and stime are the 14th and 15th.
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        tick = 1 / os.sysconf("SC_CLK_TCK")
        user, kernel = int(fields[11]) * tick, int(fields[12]) * tick
        # Documentation/scheduler/sched-stats.rst: time on the core, time in its queue, in nanoseconds.
        waited = int((process / "schedstat").read_text().split()[1]) / 1e9
        interface = re.search(r"eth0:\s*\d+\s+(\d+)", (process / "net/dev").read_text())
        if not interface:
            raise Unavailable("measurement failed: the host has no eth0")
        return cls(time.monotonic(), user + kernel, kernel, waited, int(interface.group(1)))


def emit(event: str, **more: object) -> None:
    """Print one event line."""
    print(json.dumps({"event": event, **more}), flush=True)


class Stage:
    """The hosts, and what all runs have in common."""

    def __init__(self, site: Site, args: argparse.Namespace) -> None:
        self._site = site
        self._rate: int = args.rate
        self._seconds: float = args.seconds
        self._daemon_core, self._sender_core = args.cores
        # Every knock has an address of its own: a door that is open already would prove nothing.
        self._clients = [
            f"2001:db8::1:{number}" if number % 2 else f"192.0.2.{100 + number // 2}"
            for number in range(args.knocks)
        ]
        for address in self._clients:
            whole = [f"{address}/64", "nodad"] if ":" in address else [f"{address}/24"]
            site.client.do(["ip", "address", "add", whole[0], "dev", "eth0", *whole[1:]])
        self._flood_mac, self._host_mac = mac_of(site.bystander, "br0"), mac_of(site.host, "eth0")
        # Netfilter comes after the packet sockets, so this changes nothing for the daemon. It keeps the
        # kernel from answering the flood, which would be paid for on the sender's core: on two cores the
        # rate could not be reached.
        load = site.host.run(["nft", "-f", "-"], stdin=UNANSWERED.format(mac=self._flood_mac))
        if load.returncode:
            raise Unavailable(f"measurement failed: {load.stderr}")

    def run(self, scenario: Scenario) -> Run:
        """One run in which the flood arrived; raises Unavailable when there is none to be had."""
        for _ in range(ATTEMPTS):
            run = self._run(scenario)
            if not scenario.flood or run.arrived_per_s >= ENOUGH * self._rate:
                return run
            emit("progress", text=f"thrown away: only {run.arrived_per_s:.0f} packets/s arrived")
        raise Unavailable(
            f"measurement failed: {scenario.name}: never {ENOUGH:.0%} of {self._rate} packets/s arrived",
            hint="leave the machine alone meanwhile, or ask for a lower --rate",
        )

    def _run(self, scenario: Scenario) -> Run:
        """Start the daemon, flood it, knock in between, end everything."""
        log = FILES / "daemon.log"
        with self._daemon(scenario, log) as daemon:
            if scenario.knocks:
                self._expect_shut()
            with self._flood(scenario):
                before = Reading.of(daemon.pid)
                times = self._knock() if scenario.knocks else []
                time.sleep(max(0.0, before.at + self._seconds - time.monotonic()))
                after = Reading.of(daemon.pid)
            if daemon.poll() is not None:
                raise Unavailable(f"measurement failed: the daemon ended: {log.read_text().strip()}")
        heard = re.search(r"(\d+) openings heard \((\d+) ", log.read_text())
        if not heard:
            raise Unavailable("measurement failed: the daemon's last line does not tell what it heard")
        seconds, cpu_s = after.at - before.at, after.cpu_s - before.cpu_s
        handed, lost = map(int, heard.groups())
        arrived = (after.packets - before.packets) / seconds
        # The daemon's counts are of its whole life; the losses are even over the time of a flood.
        queued = handed + lost
        handled = arrived * seconds * handed / queued if scenario.flood and queued > arrived else 0
        opened = [each for each in times if each is not None]
        return Run(
            scenario=scenario.name,
            seconds=seconds,
            arrived_per_s=arrived,
            cpu=cpu_s / seconds,
            kernel=(after.kernel_s - before.kernel_s) / seconds,
            waited=(after.waited_s - before.waited_s) / seconds,
            us_each=cpu_s / handled * 1e6 if handled else None,
            queued=queued,
            lost=lost,
            knocks=len(times),
            opened=len(opened),
            opened6=sum(each is not None for each in times[1::2]),
            latency_ms=statistics.median(opened) * 1000 if opened else None,
        )

    def _knock(self) -> list[float | None]:
        """A genuine knock from each address in turn: seconds until its door opened, None if it did not."""
        steps = [client.Step(number) for number in CONFIG.sequence]
        times = []
        with self._site.client.inside():
            for source in self._clients:
                host = self._host_for(source)
                left_at = client.knock(host, steps, source=source)
                door = CONFIG.service_port
                times.append(client.wait_open(host, door, source=source, timeout_s=PATIENCE, since=left_at))
        return times

    def _expect_shut(self) -> None:
        """Before the flood: to every client the door is shut while another port answers."""
        with self._site.client.inside():
            for source in self._clients:
                host = self._host_for(source)
                if client.probe(host, 1, source=source, timeout_s=0.9) != "closed":
                    raise Unavailable(f"measurement failed: the host does not answer {source}")
                if client.probe(host, CONFIG.service_port, source=source, timeout_s=0.02) != "filtered":
                    raise Unavailable(f"measurement failed: the door is not shut to {source}")

    def _host_for(self, source: str) -> str:
        return self._site.host.address6 if ":" in source else self._site.host.address4

    @contextlib.contextmanager
    def _daemon(self, scenario: Scenario, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        argv = [sys.executable, "-m", DAEMONS[scenario.daemon]]
        with log.open("wb") as output, running(self._site.host, argv, output.fileno()) as process:
            os.sched_setaffinity(process.pid, {self._daemon_core})
            prefer(process.pid)
            until(lambda: "listening" in log.read_text() or process.poll() is not None, 20, "a daemon")
            yield process

    @contextlib.contextmanager
    def _flood(self, scenario: Scenario) -> Iterator[None]:
        if not scenario.flood:
            yield
            return
        site = self._site
        argv = [sys.executable, "-m", "bench.sender", "--kind", scenario.flood, "--device", "to-host"]
        argv += ["--source-mac", self._flood_mac.replace(":", "")]
        argv += ["--host-mac", self._host_mac.replace(":", "")]
        argv += ["--hosts", site.host.address4, site.host.address6]
        argv += ["--rate", str(self._rate), "--seconds", str(LONGEST_RUN), "--core", str(self._sender_core)]
        if scenario.sources:
            own = {"one": [site.observer.address4], "clients": self._clients}
            argv += ["--sources", *own[scenario.sources]]
        said = FILES / "sender.log"
        with said.open("wb") as output, running(site.observer, argv, output.fileno()) as process:
            until(lambda: "flowing" in said.read_text() or process.poll() is not None, 20, "a sender")
            prefer(process.pid)
            time.sleep(0.5)  # the flood's own beginning is not measured
            yield
            if process.poll() is not None:
                raise Unavailable(f"measurement failed: the sender ended: {said.read_text().strip()}")


@contextlib.contextmanager
def running(actor: Actor, argv: Sequence[str], output: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process of an actor, ended with SIGTERM."""
    process = subprocess.Popen(
        actor.command(argv),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(actor.environment),
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def prefer(pid: int) -> None:
    """Before other people's processes on this machine, if it has a session of its own too; only root may."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, pid, -20)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("-20")


def prefer_us() -> None:
    """The same among sessions, which share out the time first where sched(7)'s autogroups are on."""
    os.setsid()
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("-20")


def mac_of(actor: Actor, device: str) -> str:
    """The Ethernet address of an actor's device, as ``ip`` spells it."""
    shown = actor.run(["ip", "-j", "link", "show", "dev", device]).stdout
    (link,) = json.loads(shown)
    return str(link["address"])


def prepare() -> Site:
    """The lab's hosts, with a ``/run`` of our own."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    FILES.mkdir()
    nowhere = FILES / "no-such-file"  # the machine's own configuration, if any, is none of ours
    nowhere.touch()
    variables: Mapping[str, str] = {
        "PATH": PATH,
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": os.environ["PYTHONPATH"],
        "PYTHONDONTWRITEBYTECODE": "1",
        "KNOCKDEMO_CONFIG": str(nowhere),
    }
    return build(variables)


def main() -> int:
    """Run every scenario that is asked for, round by round; exits 1 when a run could not be measured."""
    parser = argparse.ArgumentParser(prog="python3 -m bench.stage")
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--repeat", type=int, required=True)
    parser.add_argument("--knocks", type=int, required=True)
    parser.add_argument("--scenarios", nargs="+", required=True)
    parser.add_argument("--cores", nargs=2, type=int, required=True)
    args = parser.parse_args()
    try:
        prefer_us()
        site = prepare()
        # Beside the sender: the daemon's core is the daemon's.
        os.sched_setaffinity(0, {args.cores[1]})
        stage = Stage(site, args)
        service = [sys.executable, "-m", "knockdemo.secret_service", str(CONFIG.service_port)]
        with running(site.host, service, subprocess.DEVNULL):
            with site.client.inside():
                until(lambda: _serves(site), 20, "the service listens")
            # Round by round, not scenario by scenario: a busy minute of the machine then spoils no median.
            for number in range(args.repeat):
                for name in args.scenarios:
                    emit("progress", text=f"round {number + 1} of {args.repeat}: {name}")
                    emit("run", **asdict(stage.run(SCENARIOS[name])))
    except KnockgateError as error:
        emit("failed", message=str(error), hint=error.hint)
        return 1
    return 0


def _serves(site: Site) -> bool:
    return client.probe(site.host.address4, CONFIG.service_port) == "open"


if __name__ == "__main__":
    sys.exit(main())
