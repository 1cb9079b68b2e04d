"""The service worth hiding: it writes one banner and hangs up.

``python3 -m knockdemo.secret_service 6500`` runs it. It is dull on purpose and knows nothing of knocks
or firewalls: whether anybody reaches it is decided elsewhere. Every lane guards one of these, so that a
difference seen is a difference of mechanism.

One loop serves everybody, so that a slow or vanished client costs a file descriptor for two seconds and
nothing else. A connection lives like this::

    accept -> banner into the socket's buffer -> shutdown(SHUT_WR) -> drain -> close

Draining is what makes hanging up polite: closing a socket with unread bytes in it sends a RST, which
may overtake or destroy the banner on its way to a client that spoke first.
"""

from __future__ import annotations

import argparse
import errno
import ipaddress
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import NoReturn

from knockdemo import notify, terminal
from knockgate.errors import ConfigError, Unavailable

__all__ = ["LINGER_MAX", "LINGER_S", "banner", "listen", "main", "serve"]

PROGRAM = "secret-service"

LINGER_S = 2.0
"""Seconds a client gets to hang up after the banner: many times a bad round trip."""
LINGER_MAX = 256
"""Connections drained at once, the oldest closed first; well under the usual limit of 1024 descriptors."""
DRAIN_MAX = 1 << 20
"""Bytes read from one client before it is cut off, so that a firehose cannot keep the loop busy."""
PAUSE_S = 0.2
"""Seconds without accepting, when descriptors ran out and there is no connection of ours to close."""
ACCEPT_MAX = 64
"""Connections accepted before the loop looks at the others again."""

# accept(2): the connection died before we took it, or its network error was handed to us; the next is fine.
PASSING = frozenset(
    {errno.ECONNABORTED, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EPERM, errno.EINTR}
    | {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENONET, errno.ETIMEDOUT}
)
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

DESCRIPTION = """\
Listen on a TCP port, greet whoever connects with one line and hang up.

This is the service that the knocks of the demonstration reveal. It has no protection of its own; the
firewall in front of it is the only lock. It listens on IPv4 and IPv6, says one line on standard error
when it is ready, tells systemd so when started by it, and runs until SIGTERM or SIGINT.
"""

EPILOG = """\
exit status:
  0  asked to stop
  2  it could not be started: the port is taken or out of range, or rights are missing

examples:
  python3 -m knockdemo.secret_service 6500
  python3 -m knockdemo.secret_service 6500 --bind 192.0.2.7
  nc -w2 192.0.2.7 6500
"""


def banner(port: int) -> bytes:
    """The line that proves that the door was open."""
    return b"You knocked. Welcome to the secret service on port %d.\n" % port


def listen(port: int, address: str | None = None) -> socket.socket:
    """A non-blocking listener on TCP ``port``: on both families, or on ``address`` and its family alone.

    Without ``address`` it is one dual-stack socket, or an IPv4 one where the kernel has no IPv6.
    Raises ``ConfigError`` for an address that is none, ``Unavailable`` when the kernel refuses.
    """
    try:
        version = ipaddress.ip_address(address).version if address is not None else None
    except ValueError:
        raise ConfigError(
            f"not an IP address: {address!r}", key="--bind", hint="a numeric one, such as 192.0.2.7 or ::1"
        ) from None
    try:
        if version == 4:
            return _bound(socket.AF_INET, address, port)
        try:
            return _bound(socket.AF_INET6, address, port)
        except OSError as error:
            # Booted with ipv6.disable=1, or a sandbox without the family: the socket itself is refused.
            if version == 6 or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            return _bound(socket.AF_INET, None, port)
    except OSError as error:
        raise _refusal(error, port, address) from error


def _bound(family: socket.AddressFamily, address: str | None, port: int) -> socket.socket:
    """A listener on ``address``; without one on every address, and on IPv4 too if the family is IPv6."""
    # getaddrinfo turns the name in fe80::1%eth0 into the interface number that bind() wants.
    flags = socket.AI_NUMERICHOST | socket.AI_PASSIVE
    sockaddr = socket.getaddrinfo(address, port, family, socket.SOCK_STREAM, 0, flags)[0][4]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Start again while old connections are in TIME_WAIT; a second listener is still refused.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address is None else 1)
        sock.bind(sockaddr)
        sock.listen(1024)
        sock.settimeout(0)
    except BaseException:
        sock.close()
        raise
    return sock


def _refusal(error: OSError, port: int, address: str | None) -> Unavailable:
    where = f"port {port}" if address is None else f"port {port} of {address}"
    if error.errno == errno.EADDRINUSE:
        return Unavailable(f"{where} is already in use", hint=f"see who has it: ss -ltnp 'sport = :{port}'")
    if error.errno == errno.EACCES:
        return Unavailable(
            f"{where} needs rights that you do not have",
            hint="choose a port from 1024 on, or run as root or with CAP_NET_BIND_SERVICE",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return Unavailable(f"{address} is not an address of this host", hint="list them: ip -brief address")
    return Unavailable(f"cannot listen on {where}: {error.strerror or error}")


@dataclass
class _Lingering:
    """A client that has its banner and has not hung up yet; ``deadline`` is monotonic seconds."""

    deadline: float
    bytes_left: int = DRAIN_MAX


class _Loop:
    """The connections of one listener. The dict keeps order of arrival, which is order of deadlines."""

    def __init__(self, listener: socket.socket, greeting: bytes) -> None:
        self.listener = listener
        self.greeting = greeting
        self.selector = selectors.DefaultSelector()
        self.lingering: dict[socket.socket, _Lingering] = {}
        self.paused_until: float | None = None
        self.has_complained = False
        self.selector.register(listener, selectors.EVENT_READ, self.listener)

    def close(self) -> None:
        while self.lingering:
            self.hang_up(next(iter(self.lingering)))
        self.selector.close()

    def seconds_to_wait(self, now: float) -> float | None:
        wakeups = [one.deadline for one in self.lingering.values()][:1]
        if self.paused_until is not None:
            wakeups.append(self.paused_until)
        return max(0.0, min(wakeups) - now) if wakeups else None

    def tick(self, now: float) -> None:
        """Hang up on those who had their time, and listen again after a pause."""
        while self.lingering and next(iter(self.lingering.values())).deadline <= now:
            self.hang_up(next(iter(self.lingering)))
        if self.paused_until is not None and self.paused_until <= now:
            self.paused_until = None
            self.selector.register(self.listener, selectors.EVENT_READ, self.listener)

    def welcome(self, now: float) -> None:
        """Accept and greet those who wait, but not for ever."""
        for _ in range(ACCEPT_MAX):
            try:
                client, _ = self.listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in PASSING:
                    continue
                if error.errno not in EXHAUSTED:
                    raise
                if not self.make_room():
                    self.pause(now, error)
                    return
                continue
            self.greet(client, now)

    def greet(self, client: socket.socket, now: float) -> None:
        if len(self.lingering) >= LINGER_MAX:
            self.make_room()
        try:
            client.settimeout(0)
            client.send(self.greeting)  # one short line into an empty buffer: it always fits
            client.shutdown(socket.SHUT_WR)
            self.selector.register(client, selectors.EVENT_READ, client)
        except OSError:
            client.close()  # gone already
            return
        self.lingering[client] = _Lingering(now + LINGER_S)

    def drain(self, client: socket.socket) -> None:
        """Throw away what the client said; hang up when it did, or when it said too much."""
        try:
            count = len(client.recv(65536))
        except BlockingIOError:
            return
        except OSError:
            count = 0
        state = self.lingering[client]
        state.bytes_left -= count
        if not count or state.bytes_left <= 0:
            self.hang_up(client)

    def hang_up(self, client: socket.socket) -> None:
        del self.lingering[client]
        self.selector.unregister(client)
        client.close()

    def make_room(self) -> bool:
        """Close the connection that has lingered longest; False if there is none."""
        if not self.lingering:
            return False
        self.hang_up(next(iter(self.lingering)))
        return True

    def pause(self, now: float, error: OSError) -> None:
        # The client stays in the backlog and so the listener stays readable: asking again at once would spin.
        self.selector.unregister(self.listener)
        self.paused_until = now + PAUSE_S
        if not self.has_complained:
            self.has_complained = True
            terminal.say(PROGRAM, f"cannot accept for now: {(error.strerror or str(error)).lower()}")


def serve(listener: socket.socket, greeting: bytes, stop: socket.socket) -> None:
    """Greet everybody who connects to the non-blocking ``listener`` until ``stop`` becomes readable."""
    loop = _Loop(listener, greeting)
    loop.selector.register(stop, selectors.EVENT_READ, stop)
    try:
        while True:
            ready = {key.data for key, _ in loop.selector.select(loop.seconds_to_wait(time.monotonic()))}
            if stop in ready:
                return
            now = time.monotonic()
            for client in ready & loop.lingering.keys():
                loop.drain(client)
            loop.tick(now)
            if listener in ready:
                loop.welcome(now)
    finally:
        loop.close()


def _until_signalled(listener: socket.socket, greeting: bytes) -> None:
    # The wake-up descriptor makes select() return, wherever in the loop the signal came.
    stop, waker = socket.socketpair()
    with stop, waker:
        waker.settimeout(0)
        old_descriptor = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        old = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            where = _description(listener)
            notify.ready(f"listening on {where}")
            terminal.say(PROGRAM, f"listening on {where}")
            serve(listener, greeting, stop)
        finally:
            for number, previous in old.items():
                signal.signal(number, previous)
            signal.set_wakeup_fd(old_descriptor)


def _description(listener: socket.socket) -> str:
    address, port = listener.getsockname()[:2]
    if listener.family == socket.AF_INET:
        return f"{address}:{port} (IPv4 only)"
    is_v6only = listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return f"[{address}]:{port} ({'IPv6 only' if is_v6only else 'IPv4 and IPv6'})"


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise ConfigError(f"not a port: {text!r}", hint="a number from 1 to 65535, such as 6500")
    return int(text)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, hint=f"{self.prog} --help shows what there is")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(
        PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("port", metavar="PORT", nargs="?", help="TCP port (default: as configured, 6500)")
    parser.add_argument("--bind", metavar="ADDRESS", help="listen on this address only (default: on all)")
    return parser.parse_args(argv)


def _main(argv: list[str] | None) -> int:
    arguments = _arguments(argv)
    if arguments.port is None:
        # Only here, so that a service that was given its port needs no configuration.
        from knockdemo.config import load  # noqa: PLC0415

        port = load().service_port
    else:
        port = _port(arguments.port)
    with listen(port, arguments.bind) as listener:
        _until_signalled(listener, banner(port))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the service until it is told to stop; returns the exit status."""
    return terminal.run(PROGRAM, lambda: _main(argv))


if __name__ == "__main__":
    sys.exit(main())
