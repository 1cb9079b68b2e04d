"""What is measured side by side: three peers, and our lanes. Each guards the same port, one at a time.

They are started as somebody would start them who has read their manuals, with a lease of 30 s, and each lets
in whoever made the right knock: a sequence of three SYNs, a packet of fwknop's client, or a sealed one.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.lab import Lab
from bench.peers import SPA_PORT, Count, Guard
from bench.stage import FILES, prefer, running
from bench.wire import DOOR, KNOCKS, PORT
from knockdemo.lab.wait import until
from knockgate.config.doors import parse
from knockgate.errors import Unavailable
from knockgate.firewall.ruleset import compile_ruleset
from knockgate.spa.sealed import Suite

__all__ = ["PEERS", "SUBJECTS", "Running", "Subject", "Way"]

PEERS = ("knockd", "fwknopd", "fwknopd-udp")
#: Between two steps of a sequence: knockd and lane A take them in the order in which they come.
APART = 0.002
_SEQUENCE = '[doors.bench.sequence]\nsteps = ["tcp/7000", "tcp/8000", "tcp/9000"]\nruns_in = "daemon"\n'
_LANE_A = f"""\
interface = "eth0"
service_port = {PORT}
open_window_seconds = 30
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A subject at work. ``processes``: all; ``looks``: the one that looks at packets, if any does."""

    processes: tuple[int, ...] = ()
    looks: int | None = None
    guard: Guard | None = None

    def count(self) -> Count | None:
        """Packets looked at, where it tells."""
        return self.guard.count() if self.guard else None


class Way:
    """How one knocks at it."""

    #: Where its knocks go, and the junk that is aimed at it.
    port: int
    #: Which kind of ``bench.junk`` has all that a stranger can know of its packets.
    junk = "mimic"

    def make(self, lab: Lab, source: str) -> bytes | None:
        """What has to be made beforehand of a knock to let that address in; it is good for a minute."""
        raise NotImplementedError

    def send(self, lab: Lab, source: str, made: bytes | None) -> float:
        """Knock, in the client's network; the monotonic time at which the last packet left."""
        raise NotImplementedError

    def length(self, lab: Lab) -> int | None:
        """Bytes of its packet; None where it is no packet but a sequence."""
        raise NotImplementedError


class _Sequence(Way):
    port = KNOCKS[0]

    def make(self, lab: Lab, source: str) -> None:
        """Nothing."""

    def send(self, lab: Lab, source: str, made: bytes | None) -> float:  # noqa: ARG002 - as its siblings
        return lab.knock(4, source, APART)

    def length(self, lab: Lab) -> None:
        """None."""


class _Fwknop(Way):
    port = SPA_PORT

    def make(self, lab: Lab, source: str) -> bytes:
        return lab.packet(source)

    def send(self, lab: Lab, source: str, made: bytes | None) -> float:
        return lab.send(source, made or b"", port=self.port)

    def length(self, lab: Lab) -> int:
        return lab.length


class _Sealed(Way):
    port = Lab.port
    junk = "random"  # a sealed packet cannot be told from it

    def __init__(self, suite: Suite) -> None:
        self._suite = suite

    def make(self, lab: Lab, source: str) -> bytes:
        return lab.sealed_knock(source, self._suite)

    def send(self, lab: Lab, source: str, made: bytes | None) -> float:
        return lab.send(source, made or b"", port=self.port)

    def length(self, lab: Lab) -> int:  # noqa: ARG002 - as its siblings
        return self._suite.length


@dataclass(frozen=True, slots=True)
class Subject:
    """``start`` has it guard the door; its argument is how many keys it knows, None: as suits who knocks."""

    name: str
    title: str
    way: Way
    start: Callable[[Lab, int | None], contextlib.AbstractContextManager[Running]]

    @property
    def is_peer(self) -> bool:
        """Whether it is somebody else's."""
        return self.name in PEERS


@contextlib.contextmanager
def _knockd(lab: Lab, keys: int | None) -> Iterator[Running]:  # noqa: ARG001 - it has none
    with lab.knockd() as pid:
        os.sched_setaffinity(pid, {lab.args.cores[1]})
        yield Running((pid,), pid)


@contextlib.contextmanager
def _fwknopd(lab: Lab, keys: int | None) -> Iterator[Running]:
    with lab.fwknopd(keys or 1) as guard:
        yield Running((guard.pid,), guard.pid, guard)


@contextlib.contextmanager
def _fwknopd_udp(lab: Lab, keys: int | None) -> Iterator[Running]:
    with lab.fwknopd(keys or 1, "ENABLE_UDP_SERVER Y;\n", binds=True) as guard:
        yield Running((guard.pid,), guard.pid, guard)


@contextlib.contextmanager
def _lane_a(lab: Lab, keys: int | None) -> Iterator[Running]:  # noqa: ARG001 - it has none
    lab.clear()
    config, log = FILES / "knockdemo.toml", FILES / "knockdemo.log"
    config.write_text(_LANE_A)
    told = ["-X", "importtime"] if lab.python else []
    argv = ["env", f"KNOCKDEMO_CONFIG={config}", sys.executable, *told, "-m", "knockdemo.daemon"]
    with log.open("wb") as output, running(lab.site.host, argv, output.fileno()) as process:
        until(lambda: b"listening" in log.read_bytes() or process.poll() is not None, 20, "lane A")
        os.sched_setaffinity(process.pid, {lab.args.cores[1]})
        prefer(process.pid)
        yield Running((process.pid,), process.pid)
        if process.poll() is not None:
            raise Unavailable(f"measurement failed: lane A ended: {log.read_text().strip()[-300:]}")
    lab.clear()


@contextlib.contextmanager
def _kernel(lab: Lab, keys: int | None) -> Iterator[Running]:  # noqa: ARG001 - it has none
    lab.clear()
    lab.load(compile_ruleset(parse(DOOR)))
    yield Running()
    lab.clear()


@contextlib.contextmanager
def _daemon(lab: Lab, keys: int | None) -> Iterator[Running]:  # noqa: ARG001 - it has none
    with lab.running_gate(lab.new_state(), _SEQUENCE) as pid:
        yield Running(_halves(pid), pid)


@contextlib.contextmanager
def _fwknop(lab: Lab, keys: int | None) -> Iterator[Running]:
    with lab.gate(keys or 1) as guard:
        yield Running(_halves(guard.pid), guard.pid, guard)


@contextlib.contextmanager
def _sealed(lab: Lab, keys: int | None) -> Iterator[Running]:
    with lab.sealed(1, keys) as guard:
        yield Running(_halves(guard.pid), guard.pid, guard)


def _halves(listener: int) -> tuple[int, ...]:
    """The listener, its siblings and who supervises them."""
    stat = Path(f"/proc/{listener}/stat").read_text().rpartition(")")[2].split()
    parent = int(stat[1])
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return (parent, *map(int, children))


_ALL = (
    Subject("knockd", "knockd, iptables", _Sequence(), _knockd),
    Subject("fwknopd", "fwknopd, pcap, iptables", _Fwknop(), _fwknopd),
    Subject("fwknopd-udp", "fwknopd, UDP mode, iptables", _Fwknop(), _fwknopd_udp),
    Subject("lane-a", "lane A: the tutorial's daemon, nft", _Sequence(), _lane_a),
    Subject("kernel", "knockgate: sequence in the kernel", _Sequence(), _kernel),
    Subject("daemon", "knockgate: sequence in the daemon", _Sequence(), _daemon),
    Subject("fwknop", "knockgate: fwknop's packet", _Fwknop(), _fwknop),
    Subject("sealed", "knockgate: sealed packet, X-Wing", _Sealed(Suite.XWING), _sealed),
    Subject("sealed-small", "knockgate: sealed packet, X25519", _Sealed(Suite.X25519), _sealed),
)
SUBJECTS = {each.name: each for each in _ALL}
