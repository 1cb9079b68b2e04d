"""The one who watches the wire: prints what passes and sends it again. Holds no keys, and imports none.

``python3 -m knockdemo.observer watch --interface IF`` prints one JSON object a line for each packet that
opens a connection (and each answer that accepts one): what anybody on the path can see.
``python3 -m knockdemo.observer replay HOST --source ADDRESS`` reads such lines and sends the same
knocks from its own address: the same ports in the same order, the same payload to the byte.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from knockdemo import terminal
from knockgate.capture.afpacket import ETH_P_ALL, deaf_socket, hear
from knockgate.errors import ConfigError, Refused, Unavailable
from knockgate.model import Protocol, TcpFlag, address_text
from knockgate.wire import bpf, frames

__all__ = ["Passing", "in_words", "main", "read_passing", "replay", "watch"]

PROGRAM = "observer"
_SO_TIMESTAMPNS = 35


@dataclass(frozen=True, slots=True)
class Passing:
    """A packet on its way. ``at`` is the kernel's time of day in seconds; ``payload`` is hexadecimal."""

    at: float
    source: str
    destination: str
    protocol: str  #: "tcp" or "udp"
    source_port: int
    port: int
    answer: bool  #: a SYN with ACK: somebody accepts the connection
    payload: str


def read_passing(line: str) -> Passing:
    """The inverse of what ``watch`` prints."""
    return Passing(**json.loads(line))


def watch(interface: str) -> Iterable[Passing]:
    """Every packet passing ``interface``, both ways, that opens a connection or accepts one."""
    try:
        sock = deaf_socket(bpf.passings(), 32 << 20, ignore_outgoing=False)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.settimeout(None)
        hear(sock, ETH_P_ALL, socket.if_nametoindex(interface))
    except PermissionError:
        raise Unavailable("no right to watch the wire", hint="run it as root") from None
    except OSError as error:
        raise Unavailable(
            f"cannot watch {interface}: {error.strerror or error}", hint="list interfaces: ip -brief link"
        ) from None
    print("watching", file=sys.stderr, flush=True)
    with sock:
        while True:
            # All that is there before any of it is read: a sweep comes faster than lines are written, and
            # an ordinary user's receive buffer holds three hundred packets.
            heard = [sock.recvmsg(65536, 64)]
            with contextlib.suppress(BlockingIOError):
                while True:
                    heard.append(sock.recvmsg(65536, 64, socket.MSG_DONTWAIT))
            for packet, ancillary, _, _ in heard:
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                if passing := _passing(packet, seconds + nanoseconds / 1e9):
                    yield passing


def _passing(packet: bytes, at: float) -> Passing | None:
    try:
        seen = frames.observe(packet)
    except Refused:
        return None
    answer = seen.protocol == Protocol.TCP and seen.flags & 0x17 == TcpFlag.SYN | TcpFlag.ACK
    if not seen.opens_connection and not answer:
        return None
    return Passing(
        at,
        address_text(seen.source),
        address_text(seen.destination),
        Protocol(seen.protocol).name.lower(),
        seen.source_port,
        seen.port,
        answer,
        packet[seen.payload :].hex() if seen.protocol == Protocol.UDP else "",
    )


def replay(knocks: Iterable[Passing], host: str, source: str) -> None:
    """Send the same knocks to ``host`` from ``source``, which must be an address of this machine."""
    for knock in knocks:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = socket.SOCK_STREAM if knock.protocol == "tcp" else socket.SOCK_DGRAM
        with socket.socket(family, kind) as sock:
            sock.bind((source, 0))
            if knock.protocol == "tcp":
                # Until the refusal is back, so that the next knock cannot overtake this one.
                sock.settimeout(0.3)
                with contextlib.suppress(ConnectionRefusedError, TimeoutError):
                    sock.connect((host, knock.port))
            else:
                sock.sendto(bytes.fromhex(knock.payload), (host, knock.port))


def in_words(knock: Passing) -> str:
    """A knock as a person reads it off the wire: a port in clear, or a blob."""
    name = f"{knock.protocol}/{knock.port}"
    if not knock.payload.strip("0"):  # a datagram of zeros says no more than its port
        return name
    blob = bytes.fromhex(knock.payload)
    try:
        text = blob.decode("ascii")
    except UnicodeDecodeError:
        return f"{name}, {len(blob)} bytes: {blob[:8].hex()}…{blob[-2:].hex()}"
    return f"{name}, {len(blob)} bytes: {text[:16]}…{text[-4:]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Watch or replay; exits 0 on SIGTERM and SIGINT."""
    parser = argparse.ArgumentParser(prog="python3 -m knockdemo.observer", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    watching = verbs.add_parser("watch", help="print what passes, a JSON object a line")
    watching.add_argument("--interface", required=True, metavar="IF")
    replaying = verbs.add_parser("replay", help="send what was seen again; lines of watch on standard input")
    replaying.add_argument("host", metavar="HOST")
    replaying.add_argument("--source", required=True, metavar="ADDRESS")
    args = parser.parse_args(argv)

    def act() -> int:
        if args.verb == "watch":
            for passing in watch(args.interface):
                print(json.dumps(asdict(passing)), flush=True)
        else:
            try:
                replay([read_passing(line) for line in sys.stdin or ()], args.host, args.source)
            except (ValueError, TypeError) as error:
                raise ConfigError(
                    f"not a line of `watch`: {error}", file="standard input", hint="pipe what watch printed"
                ) from None
            except (OSError, OverflowError) as error:
                raise Unavailable(
                    f"cannot send to {args.host} from {args.source}: {error}",
                    hint="both are addresses of one family, and the second is this machine's",
                ) from None
        return 0

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    return terminal.run(PROGRAM, act)


if __name__ == "__main__":
    sys.exit(main())
