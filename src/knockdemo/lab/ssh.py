"""The question that a real ssh asks at a lane's second door, behind which a real sshd is."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from knockdemo.lab.asking import Asking
from knockdemo.lab.hosts import Actor
from knockdemo.lanes import Lane
from knockdemo.lanes.e import SHELL
from knockgate.errors import Unavailable

__all__ = ["entered"]

#: Seconds for a login with the knock before it, and for a line to come back within a session.
_LOGIN, _ECHO = 15.0, 5.0
_TRIES = 3


def entered(asking: Asking) -> None:
    """8. ssh knocks by itself, with ``ProxyCommand knockgate connect``: does it stay in after the lease?

    Beside the session there are new connections without a knock, before the end of the lease and after it.
    """
    for lane in asking.lanes:
        if lane.SSH_PORT is None:
            asking.note(lane, ssh=None)
            asking.why(lane, "ssh", "no sshd stands behind this lane")
        else:
            asking.note(lane, ssh=_enter(asking, lane, lane.SSH_PORT))


def _enter(asking: Asking, lane: Lane, port: int) -> dict[str, Any]:
    for _ in range(_TRIES):
        if found := _try(asking, lane, port):
            return found
        _wait_until_shut(asking, lane, port)
    raise Unavailable(
        f"the second door of lane {lane.NAME} closes before it can be looked at",
        hint="this machine needs a longer --window",
    )


def _try(asking: Asking, lane: Lane, port: int) -> dict[str, Any] | None:
    """None where the door was shut again before all was seen that is to be seen while it is open."""
    client, bystander, host = asking.site.client, asking.site.bystander, asking.site.host.address4
    asking.tell(f"ssh knocks at the second door of lane {lane.NAME}", None)
    found: dict[str, Any] = {
        "port": port,
        "before": asking.state(client, port),
        "enters": False,
        "seconds": None,
        "seen_from": None,
        "stays": None,
        "meanwhile": {},
        "after": {},
    }
    began = time.monotonic()
    with _Session(client) as session:
        greeting = session.line(_LOGIN)
        if greeting is None:
            asking.why(lane, "ssh", session.complaint())
            return found
        found["enters"] = session.echoes("hello")
        found["seconds"] = round(time.monotonic() - began, 1)
        found["seen_from"] = greeting.partition(" ")[0]
        found["meanwhile"] = {
            "client": asking.state(client, port),
            "bystander": asking.state(bystander, port),
            "ssh_without_a_knock": _logs_in(client, host),
        }
        if asking.state(client, port) != "open":
            # The bystander's "filtered" means nothing unless the door was open all the while.
            return None
        _wait_until_shut(asking, lane, port)
        found["stays"] = session.echoes("still there?")
        found["after"] = {
            "client": asking.state(client, port),
            "bystander": asking.state(bystander, port),
            "ssh_without_a_knock": _logs_in(client, host),
        }
    return found


def _wait_until_shut(asking: Asking, lane: Lane, port: int) -> None:
    """Until no new connection is accepted, or well past the end; what there is then is asked once more."""
    end = time.monotonic() + asking.window + 10
    while asking.state(asking.site.client, port) == "open" and (left := end - time.monotonic()) > 0:
        asking.tell(f"waiting for the second door of lane {lane.NAME} to close by itself", left)
        time.sleep(0.1)


def _logs_in(client: Actor, host: str) -> bool:
    """Whether ssh gets in without knocking."""
    plain = ["-o", "ProxyCommand=none", "-o", f"HostName={host}", "-o", "ConnectTimeout=2"]
    return client.run(["ssh", *plain, SHELL, "true"], timeout=_LOGIN).returncode == 0


class _Session:
    """ssh, logged in: there it says from where it is seen to come, then sends back each line that it gets."""

    def __init__(self, client: Actor) -> None:
        self._process = subprocess.Popen(
            client.command(["ssh", SHELL, 'echo "$SSH_CONNECTION"; exec cat']),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(client.environment),
        )
        if self._process.stdout is None or self._process.stdin is None or self._process.stderr is None:
            raise AssertionError("all three are pipes")
        self._stdin, self._stderr = self._process.stdin, self._process.stderr
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, seconds: float) -> str | None:
        """The next line; None where none comes in time, or the session has ended."""
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def echoes(self, words: str) -> bool:
        """Whether a line comes back."""
        try:
            self._stdin.write(f"{words}\n")
            self._stdin.flush()
        except BrokenPipeError:
            return False
        return self.line(_ECHO) == words

    def complaint(self) -> str:
        """What ssh has said about its end; it is ended if it has not."""
        self._process.kill()
        said = self._stderr.read().strip().splitlines()
        return said[0] if said else "ssh did not say why"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
