"""The tour's questions, one function each, in the order in which they are asked.

A question begins with every door shown shut and notes its answers in ``Asking.notes``, by lane. What
could not be measured raises Unavailable; "no" is an answer only after ``PATIENCE``, and beside a control.
"""

from __future__ import annotations

import json
import math
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from itertools import groupby

from knockdemo.lab import reading
from knockdemo.lab.asking import Asking, wire_time
from knockdemo.lab.hosts import Actor
from knockdemo.lab.ssh import entered
from knockdemo.lab.wait import until
from knockdemo.lanes import Lane
from knockdemo.observer import Passing, in_words
from knockdemo.scan import scan, scan_command
from knockgate.errors import Unavailable

__all__ = ["CONTROL_PORT", "PATIENCE", "QUESTIONS", "sweep"]

#: Without listener and without rule: it must answer that it is closed.
CONTROL_PORT = 6509
#: Seconds after which a door that has not opened is said to stay shut. The slowest lane needs 0.2.
PATIENCE = 2.0
_TRIES = 3
_SWEEP = (7000, 9000)


def before(asking: Asking) -> None:
    """1. What does a scan from the client see before anybody has knocked?"""
    asking.tell("scanning before the knock", None)
    seen = asking.scan(asking.site.client, [*asking.doors, CONTROL_PORT], version=True)
    for lane in asking.lanes:
        asking.note(
            lane,
            lane=lane.NAME,
            mechanism=lane.MECHANISM,
            firewall=lane.FIREWALL,
            port=lane.PORT,
            scans={"before": seen[lane.PORT].state},
            control=seen[CONTROL_PORT].state,
            version_learns={"before": seen[lane.PORT].learned is not None},
        )


def knocked(asking: Asking) -> None:
    """2 and 3. Knock, look from everywhere while the door is open, then wait until it is shut again."""
    asking.expect_shut()
    with ThreadPoolExecutor() as pool:
        watches = [(lane, _knock_and_look(asking, lane, pool)) for lane in asking.lanes]
        end = time.monotonic() + asking.window
        for lane, watch in watches:
            while not watch.done():
                left = max(0.0, end - time.monotonic())
                asking.tell(f"waiting for door {lane.NAME} to close by itself", left)
                wait([watch], timeout=0.1)
            open_for = watch.result()
            asking.note(lane, open_for_s=open_for)
            if open_for is None:
                opened = asking.notes[lane.NAME]["scans"]["knocked"] == "open"
                asking.why(lane, "open_for_s", "still open at the end" if opened else "it never opened")
    asking.tell("scanning after the window", None)
    seen = asking.scan(asking.site.client, asking.doors)
    for lane in asking.lanes:
        asking.notes[lane.NAME]["scans"]["expired"] = seen[lane.PORT].state


def _knock_and_look(asking: Asking, lane: Lane, pool: ThreadPoolExecutor) -> Future[float | None]:
    """Everything that must be seen within one window; returns the watch over the door's closing."""
    client, bystander = asking.site.client, asking.site.bystander
    for _ in range(_TRIES):
        asking.tell(f"knocking at door {lane.NAME}", None)
        at = wire_time()
        with asking.client_sends:  # the doors before this one are being watched from the same address
            seconds = lane.knock(asking.sender(), asking.site.host.address4, PATIENCE)
        opened_at = time.monotonic()
        asking.tell(f"scanning door {lane.NAME} from the client and the bystander", None)
        banner = pool.submit(_banner, asking, lane) if seconds is not None else None
        ours = pool.submit(asking.scan, client, [lane.PORT], version=True)
        theirs = pool.submit(asking.scan, bystander, [lane.PORT])
        mine, other = ours.result()[lane.PORT], theirs.result()[lane.PORT]
        greeting = banner.result() if banner else None
        if seconds is not None and asking.door(client, lane) != "open":
            # The bystander's "filtered" means nothing unless the door was open all the while.
            asking.expect_shut()
            continue
        to_open_ms = None if seconds is None else _on_the_wire(asking, lane, at)
        knock = _whole_knock(asking, lane, at)
        asking.knocks[lane.NAME] = knock
        cells = asking.notes[lane.NAME]
        cells["scans"]["knocked"] = mine.state
        cells["version_learns"]["knocked"] = mine.learned is not None
        asking.note(
            lane,
            bystander=other.state,
            banner=greeting,
            wire=[in_words(packet) for packet in knock],
            knock_to_open_ms=to_open_ms,
        )
        if seconds is None:
            for cell in ("banner", "knock_to_open_ms"):
                asking.why(lane, cell, "the knock did not open the door")
            asking.why(lane, "knocked", asking.words(lane))
            return pool.submit(lambda: None)
        return pool.submit(_watch_closing, asking, lane, opened_at)
    raise Unavailable(
        f"door {lane.NAME} closes before it can be looked at", hint="this machine needs a longer --window"
    )


def _whole_knock(asking: Asking, lane: Lane, at: float) -> list[Passing]:
    """The packets of the knock sent since ``at``, once the observer has told of all of them."""
    client = asking.site.client.address4

    def seen() -> list[Passing]:
        packets = asking.wire.knock_of(client, asking.doors, at)
        return packets if len(packets) >= lane.STEPS else []

    return until(seen, 5, f"the observer has seen the {lane.STEPS} packets of the knock at door {lane.NAME}")


def _on_the_wire(asking: Asking, lane: Lane, at: float) -> float:
    """Milliseconds from the knock's last packet to the first answer that accepts a connection."""
    client = asking.site.client.address4

    def answers() -> list[float]:
        return [
            p.at
            for p in asking.wire.since(at)
            if p.answer and p.destination == client and p.source_port == lane.PORT
        ]

    accepted = until(answers, 5, "the observer has seen the door answer")[0]
    # What came before the answer has been told before it: there is one watcher, and it keeps the order.
    last = max(packet.at for packet in _whole_knock(asking, lane, at) if packet.at <= accepted)
    return round((accepted - last) * 1000, 1)


def _banner(asking: Asking, lane: Lane) -> str:
    with asking.site.client.inside():
        sock = socket.create_connection((asking.site.host.address4, lane.PORT), timeout=2)
    with sock, sock.makefile("r", encoding="utf-8") as lines:
        return lines.readline().rstrip("\n")


def _watch_closing(asking: Asking, lane: Lane, opened_at: float) -> float | None:
    """Seconds the door was open for the client, to a tenth; None if it is still open long after."""
    last_open = opened_at
    while time.monotonic() < opened_at + asking.window + 10:
        with asking.client_sends:
            asked = time.monotonic()
            state = asking.door(asking.site.client, lane)
        if state != "open":
            return round(last_open - opened_at, 1)
        last_open = asked
        time.sleep(0.05)
    return None


def replayed(asking: Asking) -> None:
    """4. The observer sends what it saw from its own address: for whom does that open the door?"""
    asking.expect_shut()
    observer, host = asking.site.observer, asking.site.host.address4
    for lane in asking.lanes:
        asking.tell(f"the observer replays the knock of lane {lane.NAME}", None)
        heard = asking.heard(lane)
        lines = "".join(json.dumps(asdict(packet)) + "\n" for packet in asking.knocks[lane.NAME])
        if not lines:
            raise Unavailable(f"the observer saw nothing of the knock of lane {lane.NAME}")
        command = [*asking.python, "-m", "knockdemo.observer", "replay", host, "--source", observer.address4]
        done = observer.run(command, stdin=lines)
        if done.returncode:
            raise Unavailable(f"the replay was not sent: {done.stderr.strip()}")
        with ThreadPoolExecutor() as pool:
            people = {"observer": observer, "client": asking.site.client}
            found = {who: pool.submit(_opens, asking, actor, lane) for who, actor in people.items()}
            asking.note(lane, replay_opens={who: opens.result() for who, opens in found.items()})
        asking.why(lane, "replay_opens", asking.words(lane, heard))
    for lane in asking.lanes:
        _knock_anew(asking, lane)


def _knock_anew(asking: Asking, lane: Lane) -> None:
    """The control beside a replay, and a second knock beside the first: what can be read in them?"""
    if asking.door(asking.site.client, lane) != "filtered":
        asking.expect_shut()
    asking.tell(f"knocking at door {lane.NAME} anew", None)
    at, first = wire_time(), asking.knocks[lane.NAME]
    opened = lane.knock(asking.sender(), asking.site.host.address4, PATIENCE)
    second = _whole_knock(asking, lane, at)
    names = reading.named(second, _words_for(asking, lane))
    same = reading.alike(first, second)
    asking.note(
        lane,
        fresh_opens=opened is not None,
        wire_names=names,
        wire_again={"same": same, "bytes_in_common": reading.in_common(first, second)},
    )
    if names is None:
        asking.why(lane, "wire_names", "its packets carry nothing: the ports are all there is")


def _words_for(asking: Asking, lane: Lane) -> dict[str, list[bytes]]:
    """What a watcher would like to read in a knock, in all spellings that may stand there."""
    client = asking.site.client
    door = [f"tcp/{lane.PORT}".encode(), str(lane.PORT).encode()]
    return {
        "address": reading.forms_of_address(client.address4),
        "door": [*door, *([lane.ASKS_FOR.encode()] if lane.ASKS_FOR else [])],
        "key": reading.forms_of_key(asking.ssh_key),
    }


def _opens(asking: Asking, actor: Actor, lane: Lane) -> bool:
    """Whether the door opens for ``actor`` now: by a connection within ``PATIENCE``, or in nmap's eyes.

    Either is enough: the scan may come after the window, and must not turn an open door into a shut one.
    """
    connected = asking.wait_open(actor, asking.site.host.address4, lane.PORT, PATIENCE) is not None
    return asking.scan(actor, [lane.PORT])[lane.PORT].state == "open" or connected


def swept(asking: Asking) -> None:
    """5. A sweep over all knock ports, in ascending and in random order: what does it open?"""
    asking.sweep["ports"] = _SWEEP[1] - _SWEEP[0] + 1
    found = {order: sweep(asking, order) for order in ("ascending", "random")}
    for lane in asking.lanes:
        opens = {order: answers[lane.NAME] for order, answers in found.items()}
        asking.note(lane, sweep_opens=opens)
        knocks = len([packet for packet in asking.knocks[lane.NAME] if packet.protocol == "tcp"])
        if opens["ascending"]:
            asking.why(
                lane, "sweep_ascending", "its ports ascend, and the ports between them do not reset it"
            )
            odds = f", {knocks} ports come in the right order one time in {math.factorial(knocks)}"
            asking.why(lane, "sweep_random", f"by chance{odds}")


def sweep(asking: Asking, order: str) -> dict[str, bool]:
    """Sweep once, "ascending" or "random"; returns by lane whether that opened its door for the sweeper."""
    low, high = _SWEEP
    sweeper, host = asking.site.sweeper, asking.site.host.address4
    asking.expect_shut()
    asking.tell(f"sweeping ports {low} to {high} in {order} order", None)
    at = wire_time()
    command = scan_command(
        host,
        f"{low}-{high}",
        source=sweeper.address4,
        interface=sweeper.device,
        ascending=order == "ascending",
    )
    scan(sweeper.run, command)
    with ThreadPoolExecutor() as pool:
        found = {
            lane.NAME: pool.submit(asking.wait_open, sweeper, host, lane.PORT, PATIENCE)
            for lane in asking.lanes
        }
        opens = {name: answer.result() is not None for name, answer in found.items()}
    asking.sweep[f"{order}_per_s"] = _rate(asking, at)
    return opens


def _rate(asking: Asking, at: float) -> int:
    """Ports swept a second, from the first to the last SYN on the wire."""
    low, high = _SWEEP
    mine = asking.site.sweeper.address4

    def all_seen() -> list[float]:
        firsts: dict[int, float] = {}  # silent ports are tried again, later
        for passing in asking.wire.since(at):
            if passing.source == mine and low <= passing.port <= high:
                firsts.setdefault(passing.port, passing.at)
        return list(firsts.values()) if len(firsts) == high - low + 1 else []

    times = until(all_seen, 10, "the observer has seen the whole sweep")
    return round(len(times) / (max(times) - min(times)))


def dated(asking: Asking) -> None:
    """6. A fresh knock that says it is an hour old, one an hour ahead, and one on time beside them."""
    host, client = asking.site.host.address4, asking.site.client
    for lane in asking.lanes:
        if "stale_opens" in lane.WHY:
            asking.note(lane, stale_opens=None, future_opens=None, on_time_opens=None)
            asking.why(lane, "on_time_opens", lane.WHY["stale_opens"])
            continue
        for cell, offset in (("stale_opens", -3600), ("future_opens", 3600), ("on_time_opens", 0)):
            asking.expect_shut()
            asking.tell(f"a knock at door {lane.NAME}, dated {offset:+d} s", None)
            at, heard = wire_time(), asking.heard(lane)
            lane.knock_dated(asking.sender(), host, offset)
            # fwknop's client can end well without having sent anything: believe the wire.
            _whole_knock(asking, lane, at)
            asking.note(lane, **{cell: _opens(asking, client, lane)})
            if not asking.notes[lane.NAME][cell]:
                reason = asking.words(lane, heard)
                asking.why(lane, cell, reason or "the daemon gave no reason")


def over_ipv6(asking: Asking) -> None:
    """7. The same over IPv6: is the door invisible, and does the lane's knock open it?"""
    asking.expect_shut()
    asking.tell("scanning over IPv6", None)
    seen = asking.scan(asking.site.client, [*asking.doors, CONTROL_PORT], ipv6=True)
    if seen[CONTROL_PORT].state != "closed":
        raise Unavailable(f"over IPv6 the control port is {seen[CONTROL_PORT].state}, not closed")
    for lane in asking.lanes:
        asking.tell(f"knocking at door {lane.NAME} over IPv6", None)
        heard, reason, opened = asking.heard(lane), None, None
        try:
            opened = lane.knock(asking.sender(ipv6=True), asking.site.host.address6, PATIENCE)
        except Unavailable as error:
            reason = str(error)
        state = asking.scan(asking.site.client, [lane.PORT], ipv6=True)[lane.PORT].state
        opens = opened is not None or state == "open"
        asking.note(lane, ipv6={"before": seen[lane.PORT].state, "knock_opens": opens})
        if not opens:
            told = asking.words(lane, heard)
            asking.why(lane, "ipv6", reason or told or "the daemon gave no reason")


def killed(asking: Asking) -> None:
    """9. The daemon dies by SIGKILL while the door is open: does the door still close?

    Its children die with it, as they do under systemd. A lane may have no process at all, or
    share one with the lane after it: then both doors are open when it dies.
    """
    asking.expect_shut()
    client, host = asking.site.client, asking.site.host.address4
    ends: dict[str, float] = {}
    for unit, sharing in groupby(asking.lanes, key=lambda lane: lane.UNITS[-1]):
        opened: list[Lane] = []
        for lane in sharing:
            asking.tell(f"killing what runs of lane {lane.NAME} while its door is open", None)
            if lane.knock(asking.sender(), host, PATIENCE) is not None:
                opened.append(lane)
                continue
            asking.note(lane, closes_without_daemon=None)
            asking.why(lane, "closes_without_daemon", "the knock did not open the door")
        number = asking.daemons.kill(unit)
        for lane in opened:
            if not number:
                asking.why(lane, "closes_without_daemon", "no process of this lane runs: nothing to kill")
            ends[lane.NAME] = time.monotonic() + asking.window
            if asking.door(client, lane) != "open":
                raise Unavailable(f"door {lane.NAME} was shut before its time when the daemon was killed")
    for lane in asking.lanes:
        if lane.NAME not in ends:
            continue
        # A fourth of the window and two seconds more than it could honestly take.
        end = ends[lane.NAME] + asking.window / 4 + 2
        while True:
            left = end - time.monotonic()
            # Asked at least once, and once more after the end: "no" is what was seen then.
            closed = asking.door(client, lane) == "filtered"
            if closed or left < 0:
                break
            asking.tell(f"waiting whether door {lane.NAME} closes without its daemon", left)
            time.sleep(0.1)
        asking.note(lane, closes_without_daemon=closed)


QUESTIONS: tuple[Callable[[Asking], None], ...] = (
    before,
    knocked,
    replayed,
    swept,
    dated,
    over_ipv6,
    entered,
    killed,
)
