"""One function a figure; each clears up behind itself and says what it found with ``emit``."""

from __future__ import annotations

import contextlib
import itertools
import re
import select
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.gate_lab import DOOR, ENOUGH, FAMILY, PORT, Bench
from bench.stage import FILES, UNANSWERED, emit, mac_of, running
from knockdemo.lab.wait import until
from knockgate.config.doors import parse
from knockgate.errors import Unavailable
from knockgate.firewall.nftables import Nftables
from knockgate.firewall.ruleset import compile_ruleset
from knockgate.model import Port, Protocol

__all__ = ["FIGURES"]


# --- figures ------------------------------------------------------------------------------------------


def first_syn(bench: Bench) -> None:
    """Connect at once after the last knock: how many first SYNs are accepted, and when."""
    for family in (4, 6):
        bench.clear()
        bench.load(compile_ruleset(parse(DOOR)))
        bench.expect_shut(family)
        with bench.site.client.inside():
            times = []
            for _ in range(bench.args.connects):
                source = bench.source(family)
                bench.knock(family, source)
                times.append(bench.try_once(family, source))
        _figure("first_syn", f"kernel sequence, IPv{family}", len(times), times)
    for family in (4, 6):
        with bench.knockd():
            bench.expect_shut(family)
            with bench.site.client.inside():
                times, after = [], []
                for _ in range(max(10, bench.args.connects // 20)):
                    source = bench.source(family)
                    bench.knock(family, source, 0.002)
                    last = time.perf_counter()
                    times.append(bench.try_once(family, source))
                    # The door itself: found open with one SYN after the other, without their second.
                    again = bench.source(family)
                    bench.knock(family, again, 0.002)
                    last = time.perf_counter()
                    after.append(_until_open(bench, family, again, last))
        _figure("first_syn", f"knockd, IPv{family}", len(times), times, {"door_open_ms": _ms(after)})


def _until_open(bench: Bench, family: int, source: str, since: float) -> float | None:
    """Seconds from ``since`` until a connection is accepted, trying every two milliseconds."""
    address, tries = bench.host_address(family), []
    poll = select.poll()
    try:
        while time.perf_counter() - since < 2:
            sock = socket.socket(FAMILY[family])
            tries.append(sock)
            sock.bind((source, 0))
            sock.settimeout(0)
            sock.connect_ex((address, PORT))
            poll.register(sock, select.POLLOUT)
            if poll.poll(2):
                return time.perf_counter() - since
        return None
    finally:
        for sock in tries:
            sock.close()


def flood(bench: Bench) -> None:
    """Genuine knocks, one attempt each, while made-up sources begin sequences at the given rate."""
    seconds = bench.args.seconds
    for family in (4, 6):
        bench.clear()
        bench.load(compile_ruleset(parse(DOOR)))
        bench.expect_shut(family)
        slab = _slab()
        with bench.spoofed(family, seconds + 3) as arrived:
            time.sleep(0.5)
            opened, grown, rate = _knock_on(bench, family, bench.args.knocks, seconds, arrived, slab)
        more = {
            "crowded": bench.counter("crowded"),
            "paced": bench.counter("paced"),
            "kernel_MB": round(grown / 1e6, 1),
            "arrived_per_s": round(rate),
        }
        _figure("flood", f"kernel sequence, IPv{family}", bench.args.knocks, opened, more)
    with bench.knockd():
        bench.expect_shut(4)
        # knockd hears before netfilter. Without this the host would answer the flood, on the sender's core.
        bench.load(UNANSWERED.format(mac=mac_of(bench.site.bystander, "br0")))
        with bench.spoofed(4, seconds + 3) as arrived:
            time.sleep(0.5)
            few = max(5, bench.args.knocks // 10)
            # Fewer packets are to the peer's advantage: what arrived stands beside the figure.
            opened, _, rate = _knock_on(bench, 4, few, seconds, arrived, _slab(), enough=0.3)
        _figure("flood", "knockd, IPv4", few, opened, {"arrived_per_s": round(rate)})


def _knock_on(
    bench: Bench,
    family: int,
    count: int,
    seconds: float,
    arrived: Callable[[], float],
    before: int,
    enough: float = ENOUGH,
) -> tuple[list[float | None], int, float]:
    times: list[float | None] = []
    grown, began = 0, time.monotonic()
    with bench.site.client.inside():
        for number in range(count):
            time.sleep(max(0.0, began + seconds * number / count - time.monotonic()))
            source = bench.source(family)
            bench.knock(family, source, 0.005)
            times.append(bench.try_once(family, source))
            grown = max(grown, _slab() - before)
    rate = arrived()
    if rate < enough * bench.args.rate:
        raise Unavailable(f"measurement failed: only {rate:.0f} packets/s arrived", hint="a lower --rate")
    return times, grown, rate


def _slab() -> int:
    """Bytes in the kernel's small objects, in which the elements of sets lie; 0 where we may not know."""
    try:
        text = Path("/proc/slabinfo").read_text()
    except OSError:
        return 0
    found = re.findall(
        r"^(?:kmalloc-(?:rnd-\d+-)?(?:cg-)?(?:64|96|128))\s+(\d+)\s+\d+\s+(\d+)", text, re.MULTILINE
    )
    return sum(int(active) * int(size) for active, size in found)


def leases(bench: Bench) -> None:
    """What a lease and a packet cost with none and with 100,000 live leases; the iptables chain beside it."""
    bench.clear()
    bench.load(compile_ruleset(parse(DOOR)))
    leased, shut, unrelated = (bench.syn("10.250.0.1", port) for port in (PORT, PORT, 81))
    shut = bench.syn("10.250.0.2", PORT)
    bench.load("add element inet knockgate leases4 { 10.250.0.1 . tcp . 6503 timeout 1h }\n")
    found: dict[str, list[float]] = {}
    for count in (0, 100_000):
        if count:
            for start in range(0, count, 1000):
                members = (
                    f"10.{100 + n // 65536}.{n // 256 % 256}.{n % 256} . tcp . 6503 timeout 1h"
                    for n in range(start, start + 1000)
                )
                bench.load(f"add element inet knockgate leases4 {{ {', '.join(members)} }}\n")
        _collect(found, "lease added", _add_cost(bench, count))
        _collect(found, "leased packet", bench.cost(leased))
        _collect(found, "shut packet", bench.cost(shut))
        _collect(found, "unrelated packet", bench.cost(unrelated))
    for name, (none, many) in found.items():
        emit(
            "figure",
            figure="leases",
            subject=f"knockgate: {name}",
            none_us=round(none / 1e3, 2),
            many_us=round(many / 1e3, 2),
            many=100_000,
            ratio=round(many / none, 2),
        )
    bench.clear()
    found = {}
    for count in (0, 10_000):
        rules = "".join(
            f"-A INPUT -s 10.{100 + n // 65536}.{n // 256 % 256}.{n % 256} -p tcp --dport {PORT} -j ACCEPT\n"
            for n in range(count)
        )
        text = f"*filter\n:INPUT ACCEPT [0:0]\n{rules}-A INPUT -p tcp --dport {PORT} -j DROP\nCOMMIT\n"
        done = bench.site.host.run(["iptables-restore"], stdin=text, timeout=300)
        if done.returncode:
            raise Unavailable(f"measurement failed: {done.stderr}")
        times = []
        for number in range(10):
            began = time.perf_counter()
            bench.site.host.do(
                [
                    "iptables",
                    "-I",
                    "INPUT",
                    "-s",
                    f"10.251.0.{number}",
                    "-p",
                    "tcp",
                    "--dport",
                    str(PORT),
                    "-j",
                    "ACCEPT",
                ]
            )
            times.append((time.perf_counter() - began) * 1e9)
        _collect(found, "lease added", statistics.median(times))
        _collect(found, "shut packet", bench.cost(shut))
        _collect(found, "unrelated packet", bench.cost(unrelated))
    for name, (none, many) in found.items():
        emit(
            "figure",
            figure="leases",
            subject=f"iptables: {name}",
            none_us=round(none / 1e3, 2),
            many_us=round(many / 1e3, 2),
            many=10_000,
            ratio=round(many / none, 2),
        )


def _add_cost(bench: Bench, base: int) -> float:
    """Median nanoseconds of one lease by the gate's own adapter, out of 500, the middle of three rounds."""
    port = [Port(Protocol.TCP, PORT)]
    rounds = []
    with bench.site.host.inside(), Nftables(own=False) as firewall:
        for turn in range(3):
            times = []
            for number in range(500):
                source = socket.inet_aton(
                    f"10.{200 + turn + (3 if base else 0)}.{number // 250}.{number % 250}"
                )
                began = time.perf_counter()
                firewall.open(port, source, 3600, "daemon sequence")
                times.append((time.perf_counter() - began) * 1e9)
            rounds.append(statistics.median(times))
    return statistics.median(rounds)


def _collect(found: dict[str, list[float]], name: str, value: float) -> None:
    found.setdefault(name, []).append(value)


def doors(bench: Bench) -> None:
    """A thousand doors with a sequence each: loading them, and what an unrelated packet pays."""
    frame = bench.syn("10.250.0.2", 81)
    # Nobody shall pay for answers: what passed the gate ends here.
    end = "table inet end { chain end { type filter hook prerouting priority -150; tcp dport 81 drop\n}\n}\n"
    costs: dict[int, list[float]] = {0: [], 1: [], 1000: []}
    loads: dict[int, list[float]] = {1: [], 1000: []}
    for _ in range(3):
        for count, found in costs.items():
            bench.clear()
            bench.load(end + "add rule inet end end ct state invalid drop\n")
            if count:
                loads[count].append(bench.load(compile_ruleset(parse(_many(count)))))
            found.append(bench.cost(frame))
    best = {count: min(found) for count, found in costs.items()}
    emit(
        "figure",
        figure="doors",
        subject="unrelated packet",
        no_gate_ns=round(best[0]),
        one_ns=round(best[1]),
        thousand_ns=round(best[1000]),
        ratio=round(best[1000] / best[1], 2),
    )
    emit(
        "figure",
        figure="doors",
        subject="load with nft -f",
        one_ms=round(min(loads[1]) * 1e3, 1),
        thousand_ms=round(min(loads[1000]) * 1e3, 1),
    )
    bench.clear()


def _many(count: int) -> str:
    return "".join(
        f'[doors.d{n}]\nports = ["tcp/{n + 1000}"]\n'
        f'sequence = {{ steps = ["tcp/{20000 + 3 * n}", "tcp/{20001 + 3 * n}", "tcp/{20002 + 3 * n}"] }}\n'
        for n in range(count)
    )


def networks(bench: Bench) -> None:
    """What a packet to a door pays where networks are always let in, and where the door is in shadow."""
    # Nobody shall pay for answers: what passed the gate ends here.
    end = (
        "table inet end { chain end { type filter hook prerouting priority -150; tcp dport 6503 drop\n}\n}\n"
    )
    end += "add rule inet end end ct state invalid drop\n"
    many = [f"{100 + n // 250}.{n % 250}.0.0/16" for n in range(1000)]
    gates = {
        "none": "",
        "one of the gate's": f"[gate]\nallow = {many[:1]}\n",
        "1,000 of the gate's": f"[gate]\nallow = {many}\n",
        "one of the door's": f"[doors.bench]\nallow = {many[:1]}\n",
        "1,000 of the door's": f"[doors.bench]\nallow = {many}\n",
        "none, in shadow": "[gate]\nshadow = true\n",
        "none, in shadow, 1,000 doors": f"[gate]\nshadow = true\n{_many(1000)}",
    }
    texts = {name: compile_ruleset(parse(_with_door(gate))) for name, gate in gates.items()}
    frame = bench.syn("10.250.0.2", PORT)
    costs: dict[str, list[float]] = {name: [] for name in texts}
    for _ in range(5):
        for name, text in texts.items():
            bench.clear()
            bench.load(end)
            bench.load(text)
            costs[name].append(bench.cost(frame))
    for name, found in costs.items():
        emit(
            "figure",
            figure="networks",
            subject=f"stranger's packet to a door; networks: {name}",
            ns=round(min(found)),
            more_than_none_ns=round(min(found) - min(costs["none"])),
        )
    bench.clear()


def _with_door(gate: str) -> str:
    """The text of a gate with the door that is measured, which may have begun there."""
    heading = "[doors.bench]\n"
    return gate + (DOOR.replace(heading, "") if gate.startswith(heading) else DOOR)


def reloads(bench: Bench) -> None:
    """Reload while a stranger and a lease holder send: who slips in, who is lost."""
    texts = [
        compile_ruleset(parse(DOOR)),
        compile_ruleset(parse(DOOR + '[doors.more]\nports = ["tcp/99"]\n')),
    ]
    crude = ["delete table inet knockgate\n" + text for text in texts]
    for name, pair in (("knockgate", texts), ("delete and add", crude)):
        bench.clear()
        bench.load(texts[0])
        holder, stranger = bench.source(4), bench.source(4)
        bench.load(f"add element inet knockgate leases4 {{ {holder} . udp . {PORT} timeout 1h }}\n")
        sent, arrived, took = _under_load(bench, pair, [holder, stranger])
        emit(
            "figure",
            figure="reloads",
            subject=name,
            reloads=bench.args.reloads,
            sent_each=min(sent.values()),
            stranger_passed=arrived.get(stranger, 0),
            holder_lost=sent[holder] - arrived.get(holder, 0),
            median_ms=round(statistics.median(took) * 1e3, 2),
        )
    bench.clear()


def _under_load(
    bench: Bench, texts: Sequence[str], sources: list[str]
) -> tuple[dict[str, int], dict[str, int], list[float]]:
    with bench.site.host.inside():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    over, sent = threading.Event(), dict.fromkeys(sources, 0)
    arrived: dict[str, int] = {}
    with server:
        server.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
        server.bind((bench.host_address(4), PORT))
        threads = [threading.Thread(target=_stream, args=(bench, who, sent, over)) for who in sources]
        reader = threading.Thread(target=_count, args=(server, arrived, over))
        for thread in (reader, *threads):
            thread.start()
        took = [
            bench.load(text)
            for _, text in zip(range(bench.args.reloads), itertools.cycle(texts), strict=False)
        ]
        over.set()
        for thread in (*threads, reader):
            thread.join()
    return sent, arrived, took


def _stream(
    bench: Bench, source: str, sent: dict[str, int], over: threading.Event, pause: float = 0.0
) -> None:
    """Datagrams from one source in 16 flows, as fast as it goes or with a pause after each round."""
    with bench.site.client.inside():
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(16)]
    for sock in socks:
        sock.bind((source, 0))
    for sock in itertools.cycle(socks):
        if over.is_set():
            break
        if pause and sock is socks[0]:
            time.sleep(pause)
        sock.sendto(source.encode(), (bench.host_address(4), PORT))
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


def exposure(bench: Bench) -> None:
    """Somebody else's ``nft flush ruleset`` while the daemon runs: how long, and what slips in."""
    for owned in (True, False):
        gaps, leaked = _exposure(bench, owned=owned)
        emit(
            "figure",
            figure="exposure",
            subject="owned table" if owned else "watched table",
            flushes=len(gaps),
            median_ms=round(statistics.median(gaps) * 1e3, 2),
            worst_ms=round(max(gaps) * 1e3, 2),
            packets_median=statistics.median(leaked),
            packets_worst=max(leaked),
        )


_RUN = """\
from knockgate.daemon.origin import Origin
from knockgate.daemon.run import supervise
supervise(Origin({config!r}), own={own})
"""


def _exposure(bench: Bench, *, owned: bool) -> tuple[list[float], list[int]]:
    """Seconds from the first datagram that came through to the last, and how many, for each flush."""
    bench.clear()
    config = FILES / "gate.toml"
    config.write_text(f'[gate]\nrun_directory = "{FILES}/run"\nstate_directory = "{FILES}/state"\n' + DOOR)
    log = FILES / "gate.log"
    gaps, leaked = [], []
    # `knockgate run`, but where the kernel could own the table it must not always.
    argv = [sys.executable, "-c", _RUN.format(config=str(config), own=owned)]
    with log.open("wb") as output, running(bench.site.host, argv, output.fileno()) as process:
        with bench.site.host.inside():
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with server:
            server.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)
            server.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
            server.bind((bench.host_address(4), PORT))
            server.settimeout(0)
            until(lambda: "guarding" in log.read_text() or process.poll() is not None, 20, "the daemon")
            over, sent = threading.Event(), {bench.source(4): 0}
            sender = threading.Thread(target=_stream, args=(bench, next(iter(sent)), sent, over, 0.0005))
            sender.start()
            for _ in range(bench.args.flushes):
                bench.site.host.run(["nft", "flush", "ruleset"])
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
    return gaps, leaked


def _stamps(server: socket.socket) -> list[float]:
    stamps = []
    with contextlib.suppress(BlockingIOError):
        while True:
            _, notes, _, _ = server.recvmsg(99, 256)
            seconds, nanoseconds = (int.from_bytes(notes[0][2][at : at + 8], sys.byteorder) for at in (0, 8))
            stamps.append(seconds + nanoseconds / 1e9)
    return stamps


def _ms(times: Sequence[float | None]) -> float | None:
    there = [each for each in times if each is not None]
    return round(statistics.median(there) * 1e3, 3) if there else None


def _figure(
    name: str, subject: str, tried: int, times: list[float | None], more: Mapping[str, object] | None = None
) -> None:
    there = sorted(each for each in times if each is not None)
    emit(
        "figure",
        figure=name,
        subject=subject,
        tried=tried,
        opened=len(there),
        median_ms=_ms(times),
        p99_ms=round(there[int(len(there) * 0.99) - 1] * 1e3, 3) if len(there) >= 100 else None,
        **(more or {}),
    )


FIGURES: dict[str, Callable[[Bench], None]] = {
    each.__name__: each for each in (first_syn, flood, leases, doors, networks, reloads, exposure)
}
