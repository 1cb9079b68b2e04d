from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from tests.netns import isolated, run, until, up
from tests.packets import ACK, UDP, ipv4, ipv6, tcp, udp

from knockgate.config.doors import Door, parse
from knockgate.daemon import addresses, onetime
from knockgate.daemon.addresses import OwnAddresses
from knockgate.daemon.grants import Grants
from knockgate.model import Source, address_text

KNOCKER, OWN, OWN6, FOREIGN = "192.0.2.7", "127.0.0.1", "::1", "192.0.2.99"


class Recorder:
    """Hands that only note what they are told; ``refuses`` are doors that cannot be opened."""

    def __init__(self, *refuses: str) -> None:
        self.told: list[str] = []
        self.lines: list[str] = []
        self._refuses = refuses

    def open(self, door: Door, source: Source) -> bool:
        self.told.append(f"open {door.name} {address_text(source)}")
        return door.name not in self._refuses

    def run_commands(self, door: Door, source: Source) -> None:
        self.told.append(f"run {door.name} {address_text(source)}")

    def complain(self, line: str) -> None:
        self.lines.append(line)

    def take(self) -> list[str]:
        told, self.told = self.told, []
        return told


def door(name: str, sequence: str, *, commands: bool = False) -> str:
    text = f'[doors.{name}]\nports = []\nlease = 0\n[doors.{name}.sequence]\nruns_in = "daemon"\n{sequence}\n'
    return (
        text + f'[doors.{name}.commands]\nopen = ["/bin/true"]\n'
        if commands
        else text.replace("ports = []\nlease = 0", f'ports = ["tcp/{100 + len(name)}"]')
    )


def knock(grants: Grants, *ports: int, destination: str = OWN, flags: int = 2) -> None:
    for port in ports:
        if ":" in destination:
            grants.hear([ipv6(tcp(port, flags=flags), source="2001:db8::7", destination=destination)])
        else:
            grants.hear([ipv4(tcp(port, flags=flags), source=KNOCKER, destination=destination)])


@isolated
def test_only_what_is_for_this_host_counts() -> None:
    hands = Recorder()
    grants = Grants(parse(door("ssh", 'steps = ["tcp/1", "tcp/2"]')), hands)
    knock(grants, 1, 2, destination=FOREIGN)
    assert hands.take() == []
    knock(grants, 1, 2)
    assert hands.take() == [f"open ssh {KNOCKER}"]
    knock(grants, 1, 2, destination=OWN6)
    assert hands.take() == ["open ssh 2001:db8::7"]
    knock(grants, 1)
    knock(grants, 5, destination=FOREIGN)  # in transit, so it is no reset either
    knock(grants, 2)
    assert hands.take() == [f"open ssh {KNOCKER}"]
    knock(grants, 1, 5, 2)
    assert hands.take() == []
    grants.hear([b""])
    grants.hear([ipv4(tcp(1), source=KNOCKER, destination=OWN)[:30]])
    assert hands.lines == []


@isolated
def test_a_batch_is_its_packets_one_after_the_other() -> None:
    """Whoever else is in it; a stray between two knocks resets these, and none does not (control)."""
    hands = Recorder()
    grants = Grants(parse(door("ssh", 'steps = ["tcp/1", "tcp/3", "tcp/5"]')), hands)
    opened = [f"open ssh {KNOCKER}"]

    def batch(*knocks: tuple[int, str]) -> list[str]:
        grants.hear([ipv4(tcp(port), source=source, destination=OWN) for port, source in knocks])
        return hands.take()

    sweep = [(port, KNOCKER) for port in range(1, 9)]
    assert batch((1, KNOCKER), (1, "192.0.2.9"), (3, KNOCKER), (5, KNOCKER)) == opened
    assert batch((1, KNOCKER), (7, KNOCKER), (3, KNOCKER), (5, KNOCKER)) == []
    assert batch(*sweep) == []
    assert batch(*sweep, (1, KNOCKER)) == batch((3, KNOCKER)) == [] and batch((5, KNOCKER)) == opened
    assert batch((3, "192.0.2.9"), (5, "192.0.2.9")) == ["open ssh 192.0.2.9"]


@isolated
def test_targets_flags_and_datagrams() -> None:
    text = door("behind", f'steps = ["tcp/1", "tcp/2"]\ntarget = "{FOREIGN}"')
    text += door("acks", 'steps = ["tcp/3", "tcp/4"]\nflags = ["ack"]')
    text += door("mixed", 'steps = ["tcp/5", "udp/6"]')
    hands = Recorder()
    grants = Grants(parse(text), hands)
    knock(grants, 1, 2)
    assert hands.take() == []
    knock(grants, 1, 2, destination=FOREIGN)
    assert hands.take() == [f"open behind {KNOCKER}"]
    knock(grants, 3, 4)
    assert hands.take() == []
    knock(grants, 3, 4, flags=ACK)
    assert hands.take() == [f"open acks {KNOCKER}"]
    knock(grants, 5)
    grants.hear([ipv4(udp(6), UDP, source=KNOCKER, destination=OWN)])
    assert hands.take() == [f"open mixed {KNOCKER}"]


@isolated
def test_commands_run_for_doors_that_open() -> None:
    text = door("shell", 'steps = ["tcp/1"]', commands=True)
    for refuses, expected in ((), ["open", "run"]), (("shell",), ["open"]):
        hands = Recorder(*refuses)
        knock(Grants(parse(text), hands), 1)
        assert [each.split()[0] for each in hands.take()] == expected


@isolated
def test_each_line_opens_once(tmp_path: Path) -> None:
    file = tmp_path / "once"
    file.write_text(" 1,2\n 3,4\n x\n 5,6\n")
    hands = Recorder()
    grants = Grants(parse(door("ssh", f'one_time = "{file}"')), hands)
    assert [line.split(": ", 1)[1] for line in hands.lines] == ["'x' is no step"]
    knock(grants, 1, 2)
    assert hands.take() == [f"open ssh {KNOCKER}"]
    assert file.read_text() == "#1,2\n 3,4\n x\n 5,6\n"
    knock(grants, 1, 2, 5, 6)
    assert hands.take() == []
    # Somebody else uses the line that is armed: what it knocked is worth nothing, and the next is armed.
    file.write_text("#1,2\n#3,4\n x\n 5,6\n")
    knock(grants, 3, 4)
    assert hands.take() == []
    knock(grants, 5, 6)
    assert hands.take() == [f"open ssh {KNOCKER}"]
    assert "all lines of" in hands.lines[-1]
    knock(grants, 5, 6, 1, 2, 3, 4)
    assert hands.take() == []


@isolated
def test_a_file_that_cannot_be_read_opens_nothing_until_it_can(tmp_path: Path) -> None:
    file = tmp_path / "once"
    hands = Recorder()
    grants = Grants(parse(door("ssh", f'one_time = "{file}"')), hands)
    assert hands.lines == [f"door ssh cannot be opened: {file}: No such file or directory"]
    file.write_text(" 1,2\n 3,4\n")
    knock(grants, 1, 2)
    assert hands.take() == []
    assert grants.next_wakeup() is not None
    grants._one_time._unread["ssh"] = 0.0  # the time for another look has come
    grants.tick()
    assert grants.next_wakeup() is None
    knock(grants, 1, 2)
    assert hands.take() == [f"open ssh {KNOCKER}"]
    # It can be neither spent nor read: nothing opens, whoever knocks.
    file.unlink()
    file.mkdir()
    knock(grants, 3, 4)
    assert hands.take() == [] and "door ssh is not opened" in hands.lines[-2]
    assert onetime._LOOK_AGAIN >= 1  # however often somebody knocks, the log gets few lines


@isolated
def test_own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_FRESH", 0.1)
    own, before = OwnAddresses(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    def is_own(address: str) -> bool:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.inet_pton(family, address) in own

    assert is_own(OWN) and is_own(OWN6) and is_own("127.1.2.3") and is_own("fe80::1")
    assert not any(map(is_own, ("10.0.0.1", "fd00::1", "224.0.0.1", "ff02::1", "8.8.8.8")))
    up("lo", "10.0.0.1/32", "fd00::1/128")
    until(lambda: is_own("10.0.0.1") and is_own("fd00::1"), "new addresses are ours")
    run("ip", "address", "del", "10.0.0.1/32", "dev", "lo")
    until(lambda: not is_own("10.0.0.1"), "it is ours no more")
    for number in range(3000):
        assert not is_own(f"198.18.{number >> 8}.{number & 255}")
    assert len(own._known) <= 1024
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - nothing is left open
