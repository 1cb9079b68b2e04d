"""One packet to each step of a sequence, all of them to one address, or one datagram; needs no rights.

The rule to keep: one step is one packet. A TCP step begins a connection and drops it before the system
would send the SYN again, since a repeated knock is noise at best and a wrong knock at worst.

What cannot be known from here: whether a packet that left was delivered, and whether this machine's own
firewall dropped a SYN (connect() swallows that; a datagram's send() does not). Addresses are numeric
text, with the interface where one is needed (``fe80::1%eth0``); times are seconds.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence

from knockgate.errors import Unavailable
from knockgate.model import Port, Protocol

__all__ = [
    "DELAY",
    "Family",
    "begin",
    "datagram",
    "knock",
    "local_address",
    "resolve",
    "sockaddr",
    "udp_socket",
    "unsent",
]

Family = socket.AddressFamily

DELAY = 0.05
"""From one step to the next. Packets of different connections may take different queues and overtake each
other: 50 ms is more than a sound path's jitter, and a long sequence still fits into a few seconds."""

_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


def resolve(host: str, family: Family = socket.AF_UNSPEC) -> str:
    """The address of ``host`` that this system prefers, of that family; raises Unavailable."""
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        if not name:
            raise ValueError  # getaddrinfo would take it for this machine
        sockaddr = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)[0][4]
        # getnameinfo keeps the interface of a link-local address, which sockaddr[0] leaves out.
        address = socket.getnameinfo(sockaddr, _NUMERIC)[0]
    except (OSError, ValueError) as error:  # ValueError: no name at all, such as one with an empty label
        raise _unknown(host, name, family, error) from None
    if ":" in address and "%" not in address and ipaddress.ip_address(address).is_link_local:
        raise Unavailable(
            f"{host} is a link-local address and means nothing without its interface",
            hint=f"add the interface, as in {address}%eth0",
        )
    return address


def _unknown(host: str, name: str, family: Family, error: Exception) -> Unavailable:
    try:
        own = socket.AF_INET if ipaddress.ip_address(name).version == 4 else socket.AF_INET6
    except ValueError:
        own = socket.AF_UNSPEC
    if own != socket.AF_UNSPEC and family not in (socket.AF_UNSPEC, own):
        kind = "IPv4" if own == socket.AF_INET else "IPv6"
        hint = f"it is an {kind} address; leave the other family away, or take a source of the same one"
    elif "%" in name:
        hint = "check the name of the interface after the %"
    elif name.count(":") == 1:
        hint = "the steps are words of their own after the host"
    else:
        hint = "check the spelling, or give the address itself"
    reason = getattr(error, "strerror", None) or "not a name"
    return Unavailable(f"unknown host {host!r}: {reason[0].lower()}{reason[1:]}", hint=hint)


def local_address(address: str, source: str | None = None) -> str | None:
    """The address from which this machine sends to ``address``, None where it has no route; sends nothing.

    Raises Unavailable when ``source`` is no address of this machine, or one of the other family.
    """
    with _socket(address, Protocol.UDP, source) as sock:
        try:
            sock.connect(sockaddr(address, 9))  # connecting a datagram socket looks up the route only
            return socket.getnameinfo(sock.getsockname(), _NUMERIC)[0]
        except OSError:
            return None


def knock(
    address: str,
    steps: Sequence[Port],
    *,
    delay: float = DELAY,
    source: str | None = None,
    on_step: Callable[[int, Port], None] | None = None,
) -> float:
    """Send one packet for each step, ``delay`` apart; returns the monotonic time at which the last left.

    Returns when whatever is sent next cannot overtake the last step: when the host has answered it, as a
    port with no gate does, or ``delay`` after it. ``on_step`` is called after each step with its number,
    from 1. Raises Unavailable naming the step that could not be sent.
    """
    left_at = time.monotonic()
    for number, step in enumerate(steps, 1):
        left_at = time.monotonic()  # before the call, so that a time counted from it is never too short
        try:
            sock = begin(address, step, source)
        except OSError as error:
            raise unsent(f"step {number} of {len(steps)} ({step})", address, error) from None
        with sock:
            if on_step is not None:
                on_step(number, step)
            # Not longer than that: from 1 s on the system would send the last step's SYN again.
            if number == len(steps) and _is_answered(sock, step.protocol, min(delay, 0.5)):
                break
        time.sleep(max(0.0, left_at + delay - time.monotonic()))
    return left_at


def datagram(address: str, port: Port, payload: bytes, *, source: str | None = None) -> float:
    """Send one datagram; returns the monotonic time at which it left. Raises Unavailable."""
    left_at = time.monotonic()
    try:
        begin(address, port, source, payload).close()
    except OSError as error:
        raise unsent("the packet", address, error) from None
    return left_at


# Not an empty datagram: some systems on the way drop those.
def begin(address: str, port: Port, source: str | None, payload: bytes = b"\0") -> socket.socket:
    """Put one packet on the wire, a SYN or a datagram of ``payload``; OSError when it cannot leave.

    Returns the socket, non-blocking. Whoever holds it for a second will see the SYN repeated.
    """
    sock = _socket(address, port.protocol, source)
    try:
        if port.protocol is Protocol.UDP:
            sock.connect(sockaddr(address, port.number))
            sock.send(payload)
        else:
            # Over loopback the refusal may be back by the time that it returns.
            code = sock.connect_ex(sockaddr(address, port.number))
            if code not in (0, errno.EINPROGRESS, errno.ECONNREFUSED):
                raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


def unsent(what: str, address: str, error: OSError) -> Unavailable:
    """The error about a packet that could not leave."""
    reason = error.strerror or str(error)
    hint = None
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN):
        hint = f"this machine has no way to {address}; check its network and routes"
    elif error.errno in (errno.EPERM, errno.EACCES):
        hint = "a firewall or a policy of this machine forbids it, or the address is a broadcast one"
    return Unavailable(f"{what} could not be sent to {address}: {reason[0].lower()}{reason[1:]}", hint=hint)


def sockaddr(address: str, port: int) -> tuple[str | int | bytes, ...]:
    """An address as sockets take it; OSError where it is none."""
    # By way of getaddrinfo because of the interface in fe80::1%eth0, a number in the socket's own words.
    return socket.getaddrinfo(address, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)[0][4]


def udp_socket(address: str, source: str | None) -> socket.socket:
    """For datagrams to ``address``, non-blocking; Unavailable where ``source`` cannot send there."""
    return _socket(address, Protocol.UDP, source)


def _socket(address: str, protocol: Protocol, source: str | None) -> socket.socket:
    """A non-blocking socket towards ``address``, bound to ``source``; Unavailable is about the latter."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM)
    try:
        sock.settimeout(0)
        if source is not None:
            if (":" in source) is not (":" in address):
                raise Unavailable(f"{source} cannot send to {address}: one is IPv4 and the other is IPv6")
            sock.bind(sockaddr(source, 0))
    except (OSError, ValueError):
        sock.close()
        raise Unavailable(
            f"{source!r} is not an address of this machine", hint="list them: ip -brief address"
        ) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _is_answered(sock: socket.socket, protocol: Protocol, timeout: float) -> bool:
    """Wait for the host's answer to a step; a datagram's is a reply or "port unreachable"."""
    # A datagram socket is always writable; only an answer or an error makes it readable.
    event = selectors.EVENT_WRITE if protocol is Protocol.TCP else selectors.EVENT_READ
    with selectors.DefaultSelector() as selector:
        selector.register(sock, event)
        return bool(selector.select(max(0.0, timeout)))
