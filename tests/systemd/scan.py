"""Somebody who tries doors without end, from before a machine boots: what has answered, and for how long.

He has addresses of his own, beside those of who knocks: his SYNs would reset their sequences.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.netns import until
from tests.systemd import gate, scanner
from tests.systemd.gate import CONTROL, PORTS
from tests.systemd.machine import ADDRESS, ADDRESS6, MAC, Host

__all__ = ["EVERYWHERE", "SCANNER", "SCANNER6", "Answer", "Exposure", "Scan", "longest"]

SCANNER, SCANNER6 = "10.77.0.66", "fd77::66"
#: All doors, and a port that is none, over IPv4 and IPv6.
EVERYWHERE = tuple(f"{host},{port}" for port in (*PORTS.values(), CONTROL) for host in (ADDRESS, ADDRESS6))


class Answer(NamedTuple):
    """``kind``: ``open`` or ``closed``."""

    at: float  # seconds by the monotonic clock
    host: str
    port: int
    kind: str


class Exposure(NamedTuple):
    """What doors have answered while something was done."""

    seconds: float  #: the longest time for which one of them did
    answers: int
    late: float  #: for how long the scanner itself was kept from scanning, at most


class Scan:
    """``begin`` is for ``machine.boot``'s ``before``."""

    def __init__(self, folder: Path, targets: Sequence[str] = EVERYWHERE) -> None:
        """``targets``: as ``scanner`` takes them."""
        self._file = folder / "scan"
        self._targets = targets
        self._read, self._rest = 0, ""
        self._answers: list[Answer] = []
        self._late: list[float] = []
        self._heard: Counter[str] = Counter()  # of the control: answers of each host
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, _: Host, client: Host) -> None:
        for address in (f"{SCANNER}/24", f"{SCANNER6}/64"):
            client.tell(
                "ip", "address", "add", address, "dev", "wire", *(["nodad"] if ":" in address else [])
            )
        words = ["wire", MAC, f"{SCANNER},{SCANNER6}", str(self._file), *self._targets]
        # Ahead of whatever else this host has to do: who comes late measures nothing.
        command = ["nice", "-n", "-15", sys.executable, "-m", "tests.systemd.scanner", *words]
        self._process = client.start(command, PYTHONPATH=f"{gate.REPOSITORY}")
        until(lambda: self._file.exists() and "began" in self._file.read_text(), "the scanner has begun")

    def answers(self) -> list[Answer]:
        """All that came so far."""
        with self._file.open() as stream:
            stream.seek(self._read)
            *lines, self._rest = (self._rest + stream.read()).split("\n")
            self._read = stream.tell()
        for line in lines:
            first, *rest = line.split()
            if first == "late":
                self._late.append(float(rest[0]))
            elif first[0].isdigit():
                self._answers.append(Answer(float(first), rest[0], int(rest[1]), rest[2]))
                self._heard[rest[0]] += rest[1:] == [str(CONTROL), "open"]
        return self._answers

    def of_doors(self) -> list[Answer]:
        return [each for each in self.answers() if each.port != CONTROL]

    def of_control(self) -> list[Answer]:
        return [each for each in self.answers() if each.port == CONTROL and each.kind == "open"]

    def exposed(self, act: Callable[[], object]) -> Exposure:
        """What it did to the doors, until half a second later."""
        before, lates = len(self.answers()), len(self._late)
        act()
        self.until_heard()
        new = self._answers[before:]
        times: dict[tuple[str, int], list[float]] = defaultdict(list)
        for each in new:
            if each.port != CONTROL:
                times[each.host, each.port].append(each.at)
        seconds = max(map(longest, times.values()), default=0.0)
        return Exposure(seconds, sum(map(len, times.values())), max(self._late[lates:], default=0.0))

    def until_heard(self, hosts: Sequence[str] = (ADDRESS, ADDRESS6), count: int = 50) -> None:
        """Until what is no door has answered so often from now on, at each of these addresses."""
        for host in hosts:
            self.answers()
            before = self._heard[host]
            until(
                lambda each=host, old=before: self.answers() and self._heard[each] >= old + count,  # type: ignore[misc]
                f"the control answers at {host}",
                30.0,
            )

    def end(self) -> int:
        """How many SYNs were sent."""
        if self._process is None:
            return 0
        self._process.terminate()
        self._process.wait()
        return int(self._file.read_text().splitlines()[-1].split()[2])


def longest(times: Sequence[float]) -> float:
    """Seconds from the first to the last of answers that came with none missing in between, and one turn."""
    runs, begin = [0.0], None
    for before, now in itertools.pairwise(times):
        begin = before if begin is None else begin
        if now - before > 2.5 * scanner.EVERY:
            begin = None
        else:
            runs.append(now - begin)
    return max(runs) + (scanner.EVERY if times else 0)
