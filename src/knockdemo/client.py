"""Knock at a host: one packet to each port of a sequence, then, if asked, wait until a door answers.

This file is copied alone to the machine that knocks, so it imports the standard library and nothing else,
needs no rights, and keeps to what Linux, macOS and Windows with Python 3.8 or later have in common. As a
library it offers ``knock``, ``wait_open`` and ``probe``; addresses are numeric text, times are seconds.

The rule to keep: one step is one packet. A TCP step starts a connection and drops it before the
system would send the SYN again; a repeated knock is noise at best and a wrong knock at worst.

What cannot be known from here: whether a SYN that left was delivered, and, on Linux, whether this
machine's own firewall silently dropped it (connect() swallows that; a datagram's send() does not).
"""

from __future__ import annotations

import argparse
import errno
import ipaddress
import json
import math
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, NoReturn

__all__ = [
    "DELAY_S", "TIMEOUT_S", "Answer", "KnockError", "Step", "knock", "local_address", "main", "parse_step",
    "probe", "resolve", "wait_answer", "wait_open",
]  # fmt: skip

PROGRAM = "knock-client"

DEFAULT_PORTS = ("7000", "8000", "9000")
DELAY_S = 0.1
"""Between two steps. Packets of different connections may take different queues and paths and overtake
each other; a tenth of a second is more than a sound path's jitter, and three steps stay far below 5 s."""
TIMEOUT_S = 5.0
"""How long ``--check`` waits for the door."""
HOLD_S = 0.25
"""Longest time that the last step's socket is kept: Windows would repeat a refused SYN after 0.5 s."""
FIRST_GAP_S = 0.001
GAP_GROWTH = 1.1
LAST_GAP_S = 0.2
"""A new probe starts after each gap; the gap grows with the time waited, so the answer to "after how
long did it open" is late by a tenth of itself (and a millisecond) at most, for 70 packets in 5 s."""
PROBE_LIFE_S = 0.9
"""A probe lives this long, so that a slow path's answer counts; from 1 s on the kernel would repeat it."""

State = Literal["open", "closed", "filtered"]

DESCRIPTION = """\
Send a knock: one packet to each PORT of HOST, in order. A TCP step is a single SYN, a UDP step is a
datagram with one zero byte. HOST is resolved once, so all steps go to one address. A refused connection
is the normal answer of a knock port. Needs no special rights.
"""

EPILOG = """\
PORT is 8000, 8000/tcp or 8000/udp; without any the ports are 7000 8000 9000.
HOST is a name or an address, such as 192.0.2.7, ::1, [::1] or fe80::1%eth0.

With --check the door is then tried with short probes, the first one as soon as the last knock was
answered or, if nothing answers, after one more delay, so that no probe can overtake a knock. The time
reported counts from the moment the last knock left. At the end of the time the port is called
"closed" if connections were refused and "filtered" if there was silence.

exit status:
  0    the knock left and, with --check, the port is open
  1    the port did not open in time
  2    wrong usage, or the knock could not be sent
  130  interrupted

examples:
  knock-client.py 192.0.2.7
  knock-client.py pi.example 7100 7200/udp 7300 --check 6501
  knock-client.py pi.example --check 22 && ssh pi.example
"""


class KnockError(Exception):
    """The knock cannot be sent as asked; ``hint`` says what to do about it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Step(NamedTuple):
    """One packet of a knock: to ``port``, as ``protocol`` "tcp" or "udp"."""

    port: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.port}/{self.protocol}"


class Answer(NamedTuple):
    """What a watched port is, and how many seconds after the starting point that was seen."""

    state: State
    after_s: float


def parse_step(text: str) -> Step:
    """Read ``8000``, ``8000/udp`` or ``udp/8000``; raises ``KnockError``."""
    number, slash, protocol = text.lower().partition("/")
    if number in ("tcp", "udp"):
        number, protocol = protocol, number
    if slash and protocol not in ("tcp", "udp"):
        raise KnockError(f"not a port: {text!r}", hint="write it as 8000, 8000/tcp or 8000/udp")
    if not (number.isascii() and number.isdigit() and len(number) <= 5 and 1 <= int(number) <= 65535):
        hint = "a port is a number from 1 to 65535, such as 8000 or 8000/udp"
        if "," in text:
            hint = "give the ports as separate words: " + " ".join(text.replace(",", " ").split())
        elif ":" in text:
            hint = "the protocol comes after a slash, as in 8000/udp"
        raise KnockError(f"not a port: {text!r}", hint=hint)
    return Step(int(number), protocol or "tcp")


def resolve(host: str, family: int = socket.AF_UNSPEC) -> str:
    """The address of ``host`` that this system prefers, as numeric text; raises ``KnockError``."""
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not name:
        raise KnockError("the host is empty")
    try:
        sockaddr = socket.getaddrinfo(name, None, socket.AddressFamily(family), socket.SOCK_STREAM)[0][4]
        # getnameinfo keeps the interface of a link-local address, which sockaddr[0] leaves out.
        address = socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    except (OSError, ValueError) as error:  # ValueError: no name at all, such as one with an empty label
        raise _unknown_host(host, name, family, error) from error
    if ":" in address and "%" not in address and ipaddress.ip_address(address).is_link_local:
        raise KnockError(
            f"{host} is a link-local address and means nothing without its interface",
            hint=f"add the interface, as in {address}%eth0",
        )
    return address


def _unknown_host(host: str, name: str, family: int, error: Exception) -> KnockError:
    try:
        version = ipaddress.ip_address(name).version
    except ValueError:
        version = None
    own_family = {4: socket.AF_INET, 6: socket.AF_INET6}.get(version or 0)
    if own_family is not None and family not in (socket.AF_UNSPEC, own_family):
        hint = f"it is an IPv{version} address; leave out -4 and -6, and use a --source of the same family"
    elif "%" in name:
        hint = "check the name of the interface after the %"
    elif name.count(":") == 1:
        hint = "the ports are words of their own after the host"
    else:
        hint = "check the spelling, or give the address itself"
    reason = getattr(error, "strerror", None) or "not a name"
    return KnockError(f"unknown host {host!r}: {reason[0].lower()}{reason[1:]}", hint=hint)


def local_address(address: str, source: str | None = None) -> str | None:
    """The address from which this machine sends to ``address``, None where it has no route; sends nothing.

    Raises ``KnockError`` when ``source`` is not an address of this machine, or of the other family.
    """
    with _socket(address, Step(9, "udp"), source) as sock:
        try:
            sock.connect(_sockaddr(address, 9)[1])  # connecting a datagram socket looks up the route only
            return socket.getnameinfo(sock.getsockname(), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
        except OSError:
            return None


def knock(
    address: str,
    steps: Sequence[Step],
    *,
    source: str | None = None,
    delay_s: float = DELAY_S,
    on_step: Callable[[int, Step], None] | None = None,
) -> float:
    """Send one packet for each step, ``delay_s`` apart; returns the monotonic time at which the last left.

    Returns when whatever is sent next cannot overtake the last step: when the host has answered it
    (with a refusal, as a rule), or ``delay_s`` after it. ``on_step`` is called after each step with its
    number, from 1. Raises ``KnockError`` naming the step that could not be sent.
    """
    left_at = time.monotonic()
    for number, step in enumerate(steps, 1):
        # Taken before the call, so that a time counted from it is never too short.
        left_at = time.monotonic()
        try:
            sock = _send(address, step, source)
        except OSError as error:
            raise _unsent(f"step {number} ({step})", address, error) from error
        with sock:
            if on_step is not None:
                on_step(number, step)
            if number == len(steps) and _is_answered(sock, step, min(delay_s, HOLD_S)):
                break
        time.sleep(max(0.0, left_at + delay_s - time.monotonic()))
    return left_at


def probe(address: str, port: int, *, source: str | None = None, timeout_s: float = 0.5) -> State:
    """Try a TCP port once: with a single SYN as long as ``timeout_s`` is below 1 s.

    An ICMP error counts as "filtered". Windows hides a refusal for two seconds: there "closed" looks
    "filtered" to a shorter probe. Raises ``KnockError`` when the probe cannot be sent.
    """
    with _start_probe(address, port, source) as sock:
        return _verdict(sock) if _is_answered(sock, Step(port), timeout_s) else "filtered"


def wait_open(
    address: str,
    port: int,
    *,
    source: str | None = None,
    timeout_s: float = TIMEOUT_S,
    since: float | None = None,
) -> float | None:
    """Wait for a TCP port; returns the seconds from ``since`` until it was seen open, None if it never was.

    ``since`` is monotonic time, such as ``knock`` returns; without it, the time of the call.
    Raises ``KnockError`` when a probe cannot be sent.
    """
    answer = wait_answer(address, port, source=source, timeout_s=timeout_s, since=since)
    return answer.after_s if answer.state == "open" else None


def wait_answer(
    address: str,
    port: int,
    *,
    source: str | None = None,
    timeout_s: float = TIMEOUT_S,
    since: float | None = None,
    on_wait: Callable[[float], None] | None = None,
) -> Answer:
    """As ``wait_open``, and tells at the end of the time whether the port was closed or filtered.

    Probes overlap: a SYN that came a moment before the door opened is lost, and the next one must not
    wait for it, nor must a far host's late answer be thrown away. ``on_wait`` gets the seconds waited.
    """
    begin = time.monotonic()
    since = begin if since is None else since
    next_at, gap = begin, FIRST_GAP_S
    pending: dict[socket.socket, float] = {}
    newest_settled: tuple[float, State] = (begin, "filtered")
    with selectors.DefaultSelector() as selector:
        try:
            while (now := time.monotonic()) < begin + timeout_s:
                if now >= next_at:
                    sock = _start_probe(address, port, source)
                    pending[sock] = now
                    selector.register(sock, selectors.EVENT_WRITE, sock)
                    next_at, gap = now + gap, min(gap * GAP_GROWTH, LAST_GAP_S)
                wait_s = min(next_at, begin + timeout_s) - time.monotonic()
                states = {key.data: _verdict(key.data) for key, _ in selector.select(max(0.0, wait_s))}
                if "open" in states.values():
                    return Answer("open", time.monotonic() - since)
                for sock, started in list(pending.items()):
                    state = states.get(sock) or ("filtered" if now - started > PROBE_LIFE_S else None)
                    if state is not None:
                        newest_settled = max(newest_settled, (started, state))
                        del pending[sock]
                        selector.unregister(sock)
                        sock.close()
                if on_wait is not None:
                    on_wait(now - begin)
        finally:
            for sock in pending:
                sock.close()
    return Answer(newest_settled[1], time.monotonic() - since)


def _sockaddr(address: str, port: int) -> tuple[socket.AddressFamily, tuple[str | int | bytes, ...]]:
    # By way of getaddrinfo because of the interface in fe80::1%eth0, a number in the socket's own words.
    found = socket.getaddrinfo(address, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)[0]
    return found[0], found[4]


def _socket(address: str, step: Step, source: str | None) -> socket.socket:
    """A non-blocking socket towards ``address``, bound to ``source``; ``KnockError`` is about the latter."""
    family = _sockaddr(address, step.port)[0]
    sock = socket.socket(family, socket.SOCK_STREAM if step.protocol == "tcp" else socket.SOCK_DGRAM)
    try:
        sock.settimeout(0)
        if source is not None:
            _bind(sock, source, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, source: str, address: str) -> None:
    lister = {"win32": "ipconfig", "linux": "ip -brief address"}.get(sys.platform, "ifconfig")
    try:
        family, sockaddr = _sockaddr(source, 0)
        if family == sock.family:
            return sock.bind(sockaddr)
    except (OSError, ValueError) as error:
        raise KnockError(
            f"{source!r} is not an address of this machine", hint=f"list them: {lister}"
        ) from error
    raise KnockError(f"{source} cannot send to {address}: one is IPv4 and the other is IPv6")


def _send(address: str, step: Step, source: str | None) -> socket.socket:
    """Put the one packet of ``step`` on the wire; raises ``OSError`` when it cannot leave."""
    sock = _socket(address, step, source)
    try:
        sockaddr = _sockaddr(address, step.port)[1]
        if step.protocol == "udp":
            sock.connect(sockaddr)
            sock.send(b"\0")  # not an empty datagram: some systems on the way drop those
        else:
            # Sends the SYN before it returns. Over loopback the refusal may be back by then.
            _expect_started(sock.connect_ex(sockaddr))
    except BaseException:
        sock.close()
        raise
    return sock


def _expect_started(code: int) -> None:
    started = {0, errno.EINPROGRESS, errno.ECONNREFUSED}
    if os.name == "nt":
        started.add(errno.EWOULDBLOCK)  # elsewhere this value means that there is no port left to send from
    if code not in started:
        raise OSError(code, os.strerror(code))


def _start_probe(address: str, port: int, source: str | None) -> socket.socket:
    try:
        return _send(address, Step(port), source)
    except OSError as error:
        raise _unsent(f"the probe of {port}/tcp", address, error) from error


def _unsent(what: str, address: str, error: OSError) -> KnockError:
    reason = error.strerror or str(error)
    hint = None
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN):
        hint = f"this machine has no way to {address}; check its network and routes"
    elif error.errno in (errno.EPERM, errno.EACCES):
        hint = "a firewall or a policy of this machine forbids it, or the address is a broadcast one"
    return KnockError(f"{what} could not be sent to {address}: {reason[0].lower()}{reason[1:]}", hint=hint)


def _is_answered(sock: socket.socket, step: Step, timeout_s: float) -> bool:
    """Wait for the host's answer to a step; a datagram's is a reply or "port unreachable"."""
    with selectors.DefaultSelector() as selector:
        # A datagram socket is always writable; only an answer or an error makes it readable.
        selector.register(sock, selectors.EVENT_WRITE if step.protocol == "tcp" else selectors.EVENT_READ)
        return bool(selector.select(max(0.0, timeout_s)))


def _verdict(sock: socket.socket) -> State:
    """What a probe that has been answered says about its port."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code not in (0, errno.ECONNREFUSED, errno.ECONNRESET):
        return "filtered"  # an ICMP error: something on the way said no
    try:
        # A refusal that connect() itself reported has left no SO_ERROR, but there is no peer either.
        # And on loopback a probe can be given the very port it asks for and connect to itself.
        return "closed" if code or sock.getpeername() == sock.getsockname() else "open"
    except OSError:
        return "closed"


def _number(text: str, low: float, high: float, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:  # also false for nan
        raise KnockError(f"not a number of {unit}: {text!r}", hint=f"from {low:g} to {high:g}")
    return value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # Parsing intermixed words, argparse asks for the optional ports too when the host is missing.
        raise KnockError(
            message.replace("HOST, PORT", "HOST"), hint=f"{self.prog} --help shows what there is"
        )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("host", metavar="HOST", help="whom to knock at")
    parser.add_argument("ports", metavar="PORT", nargs="*", help="the sequence (default: 7000 8000 9000)")
    family = parser.add_mutually_exclusive_group()
    for flag, const, name in (("-4", socket.AF_INET, "IPv4"), ("-6", socket.AF_INET6, "IPv6")):
        family.add_argument(flag, dest="family", action="store_const", const=const, help=f"use {name} only")
    parser.add_argument(
        "--delay",
        metavar="MS",
        default="100",
        help="milliseconds from one step to the next (default: 100); more on a path that reorders "
        "packets, but the whole knock must fit the host's window",
    )
    parser.add_argument("--source", metavar="ADDRESS", help="knock from this address of this machine")
    parser.add_argument("--check", metavar="PORT", help="then wait until this TCP port answers")
    parser.add_argument("--timeout", metavar="S", default="5", help="seconds that --check waits (default: 5)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("-v", "--verbose", action="store_true", help="say each step as it is sent")
    # Intermixed, so that ports may also follow options: HOST --delay 50 7000 8000
    return parser.parse_intermixed_args(argv)


def _say(text: str) -> None:
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)


def _progress(check: Step) -> Callable[[float], None]:
    """A line about the waiting that is rewritten in place; call it with a negative number to clear it."""
    shown_at = 0.0

    def show(waited_s: float) -> None:
        nonlocal shown_at
        text = f"{PROGRAM}: waiting for {check} ... {waited_s:.1f} s"
        if waited_s < 0:
            text = " " * 60 + "\r" if shown_at else ""
        elif waited_s - shown_at < 0.1:
            return
        shown_at = waited_s
        sys.stderr.write(f"\r{text}" if text else "")
        sys.stderr.flush()

    return show


def _checked(address: str, check: Step, source: str | None, timeout_s: float, since: float) -> Answer:
    if not sys.stderr.isatty():
        return wait_answer(address, check.port, source=source, timeout_s=timeout_s, since=since)
    show = _progress(check)
    try:
        return wait_answer(address, check.port, source=source, timeout_s=timeout_s, since=since, on_wait=show)
    finally:
        show(-1.0)


def _report(check: Step, answer: Answer) -> None:
    """Say what became of the door: facts to standard output, advice to standard error."""
    if answer.state == "open":
        print(f"{check} is open, {answer.after_s * 1000:.1f} ms after the last knock")
        return
    print(f"{check} is still {answer.state}, {answer.after_s:.1f} s after the last knock", flush=True)
    if answer.state == "closed":
        advice = "the host refuses: nothing listens there, or its firewall rejects instead of dropping"
    else:
        advice = "wrong ports, a lost or reordered packet (try a longer --delay), or a wrong host"
    print(f"  hint: {advice}", file=sys.stderr, flush=True)


def _main(argv: Sequence[str] | None) -> int:
    arguments = _arguments(argv)
    steps = [parse_step(text) for text in arguments.ports or DEFAULT_PORTS]
    delay_s = _number(arguments.delay, 0, 60000, "milliseconds") / 1000
    timeout_s = _number(arguments.timeout, 0.001, 3600, "seconds")
    check = None if arguments.check is None else parse_step(arguments.check)
    if check is not None and check.protocol != "tcp":
        raise KnockError(
            f"cannot check {check}: an open UDP port need not answer",
            hint="check a TCP port of the same door",
        )
    source, family = arguments.source, arguments.family or socket.AF_UNSPEC
    if source is not None:
        source = source.strip("[]")
        if family == socket.AF_UNSPEC:  # a name with both kinds of address: take the kind that can be reached
            family = socket.AF_INET6 if ":" in source else socket.AF_INET
    address = resolve(arguments.host, family)
    used_source = local_address(address, source)

    def on_step(number: int, step: Step) -> None:
        if arguments.verbose:
            _say(f"step {number} of {len(steps)}: {step}")

    left_at = knock(address, steps, source=source, delay_s=delay_s, on_step=on_step)
    answer = None if check is None else _checked(address, check, source, timeout_s, left_at)
    is_open = answer is not None and answer.state == "open"
    if arguments.json:
        result: dict[str, object] = {
            "host": arguments.host,
            "address": address,
            "source": used_source,
            "steps": [str(step) for step in steps],
            "check": None,
        }
        if check is not None and answer is not None:
            ms = round(answer.after_s * 1000, 3) if is_open else None
            result["check"] = {"port": check.port, "open": is_open, "state": answer.state, "ms": ms}
        print(json.dumps(result))
    else:
        is_literal = arguments.host.strip("[]") == address
        where = address if is_literal else f"{arguments.host} ({address})"
        print(f"knocked at {where}: {' '.join(map(str, steps))}")
        if check is not None and answer is not None:
            _report(check, answer)
    return 0 if check is None or is_open else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Knock, check, report; returns the exit status."""
    try:
        status = _main(argv)
        if sys.stdout:  # None where it was closed before we began
            sys.stdout.flush()  # here, where a reader that left is our business, not at exit
    except KnockError as error:
        _say(str(error))
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output left (`| head`): not our error, but Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # no room for our output; what could not be sent has been a KnockError
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _say(f"the output cannot be written: {error.strerror}")
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
