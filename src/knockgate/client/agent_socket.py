"""An ssh agent at the other end of a socket: which keys it has, and a signature of it.

Each question goes over a connection of its own, with a time limit for the whole of it. What an agent answers,
``spa.agent`` reads; all that can go wrong is ``Unavailable``.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from knockgate.errors import Unavailable
from knockgate.spa import agent
from knockgate.spa.sshkeys import PublicKey, Signature

__all__ = ["LISTING", "SIGNING", "Agent"]

LISTING = 5.0  #: seconds
SIGNING = 60.0  #: seconds: somebody may have to confirm, to touch a token, to type its PIN


class Agent:
    """The agent that listens at ``path``; ``listing`` and ``signing`` are the seconds that it may take."""

    def __init__(self, path: str, *, listing: float = LISTING, signing: float = SIGNING) -> None:
        self.path = path
        self._listing = listing
        self._signing = signing

    def keys(self) -> tuple[agent.Offer, ...]:
        """The keys that it has, in its order; raises Unavailable."""
        late = "it may be busy with a question to you, or hang: ssh-add -l"
        return agent.keys(self._asked(agent.REQUEST_KEYS, self._listing, late))

    def sign(self, key: PublicKey, message: bytes) -> Signature:
        """The key's signature of the message, looked at; raises Unavailable."""
        late = "it may wait for you to confirm, or to touch a token"
        answer = self._asked(agent.request_signature(key, message), self._signing, late)
        return agent.signature(answer, key, message)

    def _asked(self, request: bytes, seconds: float, late: str) -> bytes:
        end = time.monotonic() + seconds

        def left() -> float:
            rest = end - time.monotonic()
            if rest <= 0:
                raise TimeoutError
            return rest

        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(left())
                sock.connect(self.path)
                sock.settimeout(left())
                sock.sendall(request)
                return _exactly(sock, agent.length(_exactly(sock, agent.HEADER, left)), left)
        except TimeoutError:
            message = f"the ssh agent does not answer within {seconds:g} seconds"
            raise Unavailable(message, hint=late) from None
        except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> Unavailable:
        reason = getattr(error, "strerror", None) or str(error)
        return Unavailable(
            f"no ssh agent answers at {self.path!r}: {reason[:1].lower()}{reason[1:]}",
            hint="start one: eval $(ssh-agent); or correct SSH_AUTH_SOCK, or IdentityAgent of ssh_config",
        )


def _exactly(sock: socket.socket, size: int, left: Callable[[], float]) -> bytes:
    """So many octets; OSError, TimeoutError where all of them take too long."""
    octets = bytearray()
    while len(octets) < size:
        sock.settimeout(left())
        part = sock.recv(size - len(octets))
        if not part:
            raise OSError("it closed the connection before it had answered")
        octets += part
    return bytes(octets)
