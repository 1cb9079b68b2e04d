"""Asking the running gate, from a command line: what happened (``ask``), and to do something by hand.

The sockets lie in the run directory, in a folder for each half: ``status.sock`` is the listener's and only
tells, as is ``explain.sock``, which tells of each sealed knock;
``warden.sock`` changes leases. ``link.sock`` is between warden and listener.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from knockgate.config.doors import Configuration, Door
from knockgate.daemon.link import ANY_CHECKSUM, EVERY_DOOR, REPLY_SIZE, Reply, Request, Status, Surprise, Verb
from knockgate.daemon.sockets import connected
from knockgate.errors import Unavailable

__all__ = [
    "EXPLAIN_SOCKET",
    "FOLDER",
    "LINK_SOCKET",
    "STATUS_SOCKET",
    "WARDEN_SOCKET",
    "Facts",
    "WardenClient",
    "ask",
    "explain",
]

#: In the run directory. Each half has a folder of its own in there, since each may be another user.
STATUS_SOCKET, EXPLAIN_SOCKET = "listener/status.sock", "listener/explain.sock"
WARDEN_SOCKET, LINK_SOCKET = "warden/warden.sock", "warden/link.sock"
#: The warden's, which it locks.
FOLDER = "warden"

#: A reload compiles and loads thousands of doors in this time, many times over. Seconds.
_PATIENCE = 30.0
#: 10,000 doors with long names are a tenth of it.
_LONGEST_ANSWER = 32 << 20


class Facts(NamedTuple):
    """What the warden knows about its table."""

    owned: bool  #: nobody else can change it
    restored: int  #: how often it was removed by somebody and put back


def ask(run_directory: str) -> dict[str, Any]:
    """The listener's account of what happened since it started, as ``docs`` describe it.

    ::

        {"format": 1, "pid": 4711, "since": 86400.0,
         "doors": {"ssh": {"opened": 1, "by": {"kernel-sequence": 1},
                           "last": {"source": "192.0.2.7", "by": "kernel sequence",
                                                 "seconds_ago": 3.2}}},
         "recent": [{"door": "ssh", "source": ..., "by": ..., "seconds_ago": ...}, ...],
         "bounds": {"crowded": 0, "paced": 0, "leases_full": 0},
         "heard": {"begun": 0, ..., "packets": 0, "lost": 0},
         "packets": {"opened": 1, "refused": {"not-ours": 4711, "stale": 1},
                     "strangers": {"not-ours": 4711}, "recent_refused": [...],
                     "remembered": 12, "room": 1000000, "synchronised": true},
         "sealed": {"opened": 1, "refused": {"not-ours": 4711},
                    "strangers": {"not-ours": 4711}, "keys": 3,
                    "clock": {"state": "sure", "vouched": true, "not_before": 1795391880.0}},
         "warden": {"owned": true, "restored": 0}}

    ``since`` and ``seconds_ago`` count seconds back from now. ``last`` is null for a door that has not been
    opened, ``recent`` has the newest first, ``door`` there is null where the kernel did not say which.
    ``packets`` is null where there are no keys of fwknop's, ``sealed`` where there are no ssh keys; refusals
    are counted by ``errors.Reason``, and ``strangers`` are those that no key has made. Raises Unavailable
    where no daemon answers.
    """
    return _document(run_directory, STATUS_SOCKET, "STATUS")


def explain(run_directory: str) -> dict[str, Any]:
    """What became of sealed knocks, and which devices made them.

    ::

        {"format": 1, "since": 3600.0, "port": "udp/62202",
         "clock": {"state": "sure", "vouched": true, "not_before": 1795391880.0},
         "files": [{"keys_of": "people", "file": "/etc/knockgate/authorized_keys", "keys": 3,
                    "flaws": [{"line": 7, "message": "...", "hint": "..."}], "flaws_left_out": 0}, ...],
         "knocks": [{"seconds_ago": 3.2, "result": "opened", "reason": null, "step": null, "why": null,
                     "hint": null, "leases": {"ssh": 15.0}, "key": "people/jo@laptop SHA256:AbCdEfGhIj",
                     "fingerprint": "SHA256:...", "card": "everybody", "suite": "xwing", "device": "5f3a...",
                     "standing": "known", "doors": ["ssh"], "source": "192.0.2.7", "stated": true,
                     "sender": "192.0.2.7", "lease": null, "era": 0, "issued": 1795391937.2,
                     "skew": 0.041}, ...],
         "strangers": [{"reason": "unknown-key", "why": "...", "hint": "...", "count": 3, "relayed": 0,
                        "seconds_ago": 12.0, "sender": "198.51.100.7", "claims": {...}}, ...],
         "devices": [{"row": "5f3a...", "key": "a1b2...", "era": 0, "issued": ..., "seconds_ago": 3.2}, ...],
         "devices_left_out": 0}

    ``knocks`` are those that an ssh key has signed that may come in, the newest first, at most 200.
    ``result`` is ``opened``, ``refused``, or ``not opened`` where the firewall refused. ``strangers`` are
    all others, by ``errors.Reason``: ``claims`` is what the last one says of itself, with the keys of a
    knock, and nobody has signed that; the card alone is certain. ``step`` is docs/spec/spa-v1.md's,
    ``standing`` is ``known``, ``barred`` or null, as the admin has said of the device; ``flaws`` without a
    line are why a file cannot be used; at most 20 of a file are told, and 1,000 in all. ``devices`` are those
    of the newest dates, at most 10,000. ``skew``: seconds that the sender's clock is behind ours, null where
    ours is not known to be right. All but ``format`` is missing where there are no ssh keys. Raises
    Unavailable.
    """
    return _document(run_directory, EXPLAIN_SOCKET, "EXPLAINED")


def _document(run_directory: str, name: str, shape: Literal["STATUS", "EXPLAINED"]) -> dict[str, Any]:
    """What is there of the shape (``told``); where nothing is heard, ``format`` alone."""
    from knockgate.daemon import told  # noqa: PLC0415 - the halves import us, and ask nobody

    try:
        found = json.loads(_answer(run_directory, name))
        if shape == "EXPLAINED" and found == {"format": 1}:
            return {"format": 1}
        found = told.read(found, getattr(told, shape))
        if found["format"] != 1:
            raise told.Misshapen
    except told.Misshapen:
        hint = "it is of another version; start it again"
        raise Unavailable("the daemon answers in another format", hint=hint) from None
    except (OSError, ValueError, RecursionError):
        raise _broken_off() from None
    return dict(found)


def _answer(run_directory: str, name: str) -> bytearray:
    """All of it; OSError where it takes too long."""
    answer, until = bytearray(), time.monotonic() + _PATIENCE
    with _connected(run_directory, name, socket.SOCK_STREAM) as connection:
        while chunk := connection.recv(1 << 16):
            answer += chunk
            if len(answer) > _LONGEST_ANSWER:
                raise Unavailable("the daemon's answer has no end")
            connection.settimeout(max(0.0, until - time.monotonic()))
    return answer


class WardenClient:
    """Leases by hand, through the warden that owns the table. A context manager.

    Raises Unavailable where there is no warden, and where it refuses.
    """

    def __init__(self, run_directory: str) -> None:
        self._connection = _connected(run_directory, WARDEN_SOCKET, socket.SOCK_SEQPACKET)
        self._number = 0

    def open(self, configuration: Configuration, door: Door, source: bytes, seconds: float) -> None:
        """Let ``source`` through ``door`` for ``seconds``, up to 30 days, counted from now.

        Extending a lease is opening it again. A knock does not shorten it.
        """
        self._ask(
            Request(
                Verb.OPEN,
                door=configuration.doors.index(door),
                source=source,
                milliseconds=round(seconds * 1000),
                checksum=configuration.checksum,
            )
        )

    def close(self, configuration: Configuration, door: Door | None, sources: Sequence[bytes] = ()) -> int:
        """End the leases of ``sources``, or of everybody, for ``door`` or for all; returns how many."""
        number = EVERY_DOOR if door is None else configuration.doors.index(door)
        return sum(
            self._ask(Request(Verb.CLOSE, door=number, source=source, checksum=configuration.checksum)).value
            for source in sources or (b"",)
        )

    def pause(self, configuration: Configuration, door: Door | None, seconds: float) -> int:
        """Let everybody in through ``door``, or all, for up to 24 hours from now; 0: no longer.

        What was said before of the same door counts no more. Returns at how many ports something changed.
        """
        number = EVERY_DOOR if door is None else configuration.doors.index(door)
        milliseconds = round(seconds * 1000)
        request = Request(Verb.PAUSE, door=number, milliseconds=milliseconds, checksum=configuration.checksum)
        return self._ask(request).value

    def leases(self) -> int:
        """How many leases are live."""
        return self._ask(Request(Verb.LEASES)).value

    def reload(self, expected: bytes = ANY_CHECKSUM) -> None:
        """Have the configuration read again and put in force.

        Where it is wrong, or its checksum is not the ``expected`` one, nothing changes.
        """
        self._ask(Request(Verb.RELOAD, checksum=expected))

    def ping(self) -> Facts:
        """Whether the warden answers, and what it says of its table."""
        reply = self._ask(Request(Verb.PING))
        return Facts(owned=reply.owned, restored=reply.value)

    def shut(self) -> None:
        """End the conversation."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()

    def _ask(self, request: Request) -> Reply:
        self._number += 1
        message = dataclasses.replace(request, number=self._number)
        try:
            self._connection.send(message.encode())
            reply = Reply.decode(self._connection.recv(REPLY_SIZE + 1))
        except (OSError, Surprise):
            raise _broken_off() from None
        if reply.status is Status.DONE and reply.number == self._number:
            return reply
        if reply.status is Status.OTHER_CONFIGURATION:
            hint = "name its file; where that was changed, `knockgate up` with its name puts it in force"
            if request.verb is Verb.RELOAD:
                hint = "name its file, or stop it and start it with this one: knockgate run FILE"
            raise Unavailable("the daemon runs another configuration than this file", hint=hint)
        if reply.status is Status.BAD_CONFIGURATION:
            hint = "the daemon goes on with what it had; `knockgate check` shows all that is wrong"
            raise Unavailable(f"not reloaded: {reply.says}", hint=hint)
        raise Unavailable(reply.says or "the daemon refuses", hint="its log may say more")


def _connected(run_directory: str, name: str, kind: socket.SocketKind) -> socket.socket:
    try:
        return connected(str(Path(run_directory, name)), kind, _PATIENCE)
    except PermissionError:
        raise Unavailable("no right to ask the daemon", hint="run it as root") from None
    except BlockingIOError:
        hint = "many others ask it, or it hangs; its log may say more"
        raise Unavailable(f"the daemon does not answer within {_PATIENCE:g} seconds", hint=hint) from None
    except OSError:  # no such socket, nobody behind it, or a path too long for one
        hint = "start it with `knockgate run`, or as a service: systemctl start knockgate-listener"
        raise Unavailable("the daemon is not running", hint=hint) from None


def _broken_off() -> Unavailable:
    return Unavailable("the daemon broke off in the middle of its answer", hint="its log may say why")
