"""Reloads and flushes while a stranger and a lease holder send: who slips in, and who is lost.

``reload``: two configurations take turns, and beside it the table is deleted and added in one transaction.
``flush``: somebody else's ``nft flush ruleset`` while the daemon runs, from the first datagram of a stranger
that comes through to the last, by the kernel's stamps; owned as on Linux 6.9 and later, watched as before.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from bench.figures import Figure, Finding
from bench.lab import Lab
from bench.stage import FILES, running
from bench.wire import DOOR, PORT
from knockdemo.lab.wait import until
from knockgate.config.doors import parse
from knockgate.errors import Unavailable
from knockgate.firewall.ruleset import compile_ruleset

__all__ = ["FIGURE"]

_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
#: `knockgate run`, but where the kernel could own the table it must not always.
_RUN = """\
from knockgate.daemon.origin import Origin
from knockgate.daemon.run import supervise
supervise(Origin({config!r}), own={own})
"""


def _measure(lab: Lab, name: str) -> Iterator[Finding]:  # noqa: ARG001 - there is one
    texts = [compile_ruleset(parse(DOOR + more)) for more in ("", '[doors.more]\nports = ["tcp/99"]\n')]
    crude = ["delete table inet knockgate\n" + text for text in texts]
    for case, pair in (("reload", texts), ("reload by delete and add", crude)):
        lab.clear()
        lab.load(texts[0])
        holder, stranger = lab.source(4), lab.source(4)
        lab.load(f"add element inet knockgate leases4 {{ {holder} . udp . {PORT} timeout 1h }}\n")
        sent, arrived, took = _under_load(lab, pair, [holder, stranger])
        values = {
            "times": len(took),
            "sent_each": min(sent.values()),
            "strangers_passed": arrived.get(stranger, 0),
            "holders_lost": sent[holder] - arrived.get(holder, 0),
            "takes_ms": round(statistics.median(took) * 1e3, 2),
        }
        yield Finding(case, values)
    lab.clear()
    for owned in (True, False):
        gaps, leaked = _exposure(lab, owned=owned)
        values = {
            "times": len(gaps),
            "strangers_passed": sum(leaked),
            "exposed_ms": round(statistics.median(gaps) * 1e3, 2),
            "exposed_most_ms": round(max(gaps) * 1e3, 2),
        }
        yield Finding("flush, owned table" if owned else "flush, watched table", values)


def _under_load(
    lab: Lab, texts: Sequence[str], sources: list[str]
) -> tuple[dict[str, int], dict[str, int], list[float]]:
    with lab.site.host.inside():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    over, sent = threading.Event(), dict.fromkeys(sources, 0)
    arrived: dict[str, int] = {}
    with server:
        server.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
        server.bind((lab.host_address(4), PORT))
        threads = [threading.Thread(target=_stream, args=(lab, who, sent, over)) for who in sources]
        reader = threading.Thread(target=_count, args=(server, arrived, over))
        for thread in (reader, *threads):
            thread.start()
        turns = zip(range(lab.args.reloads), itertools.cycle(texts), strict=False)
        took = [lab.load(text) for _, text in turns]
        over.set()
        for thread in (*threads, reader):
            thread.join()
    return sent, arrived, took


def _stream(lab: Lab, source: str, sent: dict[str, int], over: threading.Event, pause: float = 0.0) -> None:
    """Datagrams from one source in 16 flows, as fast as it goes or with a pause after each round."""
    with lab.site.client.inside():
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(16)]
    for sock in socks:
        sock.bind((source, 0))
    for sock in itertools.cycle(socks):
        if over.is_set():
            break
        if pause and sock is socks[0]:
            time.sleep(pause)
        sock.sendto(source.encode(), (lab.host_address(4), PORT))
        sent[source] += 1
    for sock in socks:
        sock.close()


def _count(server: socket.socket, arrived: dict[str, int], over: threading.Event) -> None:
    server.settimeout(0.2)
    while True:
        try:
            who = server.recv(99).decode()
        except TimeoutError:
            if over.is_set():
                return
            continue
        arrived[who] = arrived.get(who, 0) + 1


def _exposure(lab: Lab, *, owned: bool) -> tuple[list[float], list[int]]:
    """Seconds from the first datagram that came through to the last, and how many, for each flush."""
    lab.clear()
    config, log = FILES / "gate.toml", FILES / "gate.log"
    config.write_text(f'[gate]\nrun_directory = "{FILES}/run"\nstate_directory = "{FILES}/state"\n' + DOOR)
    gaps, leaked = [], []
    argv = [sys.executable, "-c", _RUN.format(config=str(config), own=owned)]
    with log.open("wb") as output, running(lab.site.host, argv, output.fileno()) as process:
        with lab.site.host.inside():
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with server:
            server.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
            server.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            server.bind((lab.host_address(4), PORT))
            server.settimeout(0)
            until(lambda: "guarding" in log.read_text() or process.poll() is not None, 20, "the daemon")
            over, sent = threading.Event(), {lab.source(4): 0}
            sender = threading.Thread(target=_stream, args=(lab, next(iter(sent)), sent, over, 0.0005))
            sender.start()
            for _ in range(lab.args.flushes):
                lab.site.host.run(["nft", "flush", "ruleset"])
                time.sleep(0.1)
                stamps = _stamps(server)
                gaps.append(max(stamps) - min(stamps) if stamps else 0.0)
                leaked.append(len(stamps))
            over.set()
            sender.join()
        if process.poll() is not None:
            raise Unavailable(f"measurement failed: the daemon ended: {log.read_text()[-300:]}")
    if not next(iter(sent.values())):
        raise Unavailable("measurement failed: nothing was sent")
    lab.clear()
    return gaps, leaked


def _stamps(server: socket.socket) -> list[float]:
    stamps = []
    with contextlib.suppress(BlockingIOError):
        while True:
            _, notes, _, _ = server.recvmsg(99, 256)
            seconds, nanoseconds = (int.from_bytes(notes[0][2][at : at + 8], sys.byteorder) for at in (0, 8))
            stamps.append(seconds + nanoseconds / 1e9)
    return stamps


FIGURE = Figure("reloads", ("kernel",), _measure, rounds=1)
