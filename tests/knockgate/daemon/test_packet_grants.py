"""What becomes of a packet without a network: whose it must be, where it must go, what is run and told of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.knockgate.daemon.killed import Heard, hear
from tests.knockgate.daemon.test_packets_crash import ALICE, SSH, STRANGER, World, knock
from tests.packets import UDP, ipv4, udp

from knockgate.config.doors import Commands, Configuration, Door, Fwknop, Gate, Reliance
from knockgate.daemon import packets
from knockgate.daemon.log import Record
from knockgate.daemon.packets import PacketGrants
from knockgate.mechanisms.packet import Bearer, Way
from knockgate.model import Port, Protocol, Source
from knockgate.spa.fwknop import Message, MessageType, Secret, seal
from knockgate.wire import frames

WEB = Port(Protocol.TCP, 80)
PORTS = {"ssh": SSH, "web": WEB}
#: Without an HMAC: whatever looks like a packet may be one of its holder's, or anybody's.
BARE = Secret(b"c" * 32)


@pytest.fixture(autouse=True)
def told_what_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "Ears", Heard)


@dataclasses.dataclass
class Town(World):
    """Two doors, which both run something; ``refused``: those that the warden does not open."""

    refused: set[str] = dataclasses.field(default_factory=set)

    def open_for_key(self, door: Door, source: Source, seconds: float, record: Record) -> bool:
        self.opens = door.name not in self.refused
        return super().open_for_key(door, source, seconds, record)

    def begin(self) -> PacketGrants:
        gate = Gate(clock=Reliance.TRUSTED, state_directory=str(self.folder))
        runs = Commands(open=("/bin/true",))
        doors = tuple(
            Door(name=name, ports=(port,), keyed=True, commands=runs) for name, port in PORTS.items()
        )
        ways = {port: Way(name, 15.0, 15.0, runs_commands=True) for name, port in PORTS.items()}
        bearers = [Bearer("alice", ALICE, ways), Bearer("bare", BARE, ways)]
        return PacketGrants(Configuration(gate=gate, doors=doors, fwknop=Fwknop()), bearers, self)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


@pytest.fixture
def grants(town: Town) -> Iterator[PacketGrants]:
    grants = town.begin()
    yield grants
    grants.close()


def both(world: World, nonce: int) -> bytes:
    """Alice asks for both doors at once."""
    request = Message(
        nonce=f"{nonce:016}",
        username="alice",
        issued=world.now,
        type=MessageType.ACCESS,
        address=bytes([192, 0, 2, 7]),
        ports=(SSH, WEB),
    )
    return sent(seal(request, ALICE, salt=b"saltsalt"))


def sent(payload: bytes, destination: str = "127.0.0.1") -> bytes:
    return ipv4(udp(62201, payload=payload), UDP, source="192.0.2.7", destination=destination)


def addressed(packet: bytes, destination: str) -> bytes:
    """The same payload on its way to somebody else."""
    return sent(frames.datagram(packet)[2], destination)


@pytest.mark.parametrize(("refused", "ran"), [("ssh", ["web"]), ("web", ["ssh"]), ("", ["ssh", "web"])])
def test_nothing_is_run_for_a_door_that_was_not_opened(
    town: Town, grants: PacketGrants, refused: str, ran: list[str]
) -> None:
    """Nobody is let in there, so its command would tell of a guest who is none; the other door's runs."""
    town.refused = {refused}
    hear(grants, both(town, 1))
    assert (town.folder / "ran").read_text().split() == ran
    assert (town.folder / "opened").read_text().split() == ran
    # A refusal is for that packet: the next one that is opened runs what it runs.
    town.refused = set()
    hear(grants, both(town, 2))
    assert [town.count("ran", name) - (name in ran) for name in PORTS] == [1, 1]


def test_nothing_is_run_for_the_only_door(tmp_path: Path) -> None:
    ran = {}
    for opens in (False, True):
        world = World(tmp_path / str(opens), opens=opens)
        world.folder.mkdir()
        grants = world.begin()
        hear(grants, knock(world.now))
        grants.close()
        ran[opens] = world.count("ran")
    assert ran == {False: 0, True: 1}


def test_a_packet_for_another_host_opens_nothing(town: Town, grants: PacketGrants) -> None:
    """On a router, or with a capture that hears everything, it comes by here; it is not spent by that."""
    packet = knock(town.now)
    hear(grants, addressed(packet, "198.51.100.9"))  # of the documentation's: no host has it
    assert town.count("opened") == town.count("ran") == town.count("said") == 0
    assert grants.document()["remembered"] == 0 and grants.document()["refused"] == {}
    hear(grants, addressed(packet, "127.0.0.1"))
    assert town.count("opened") == town.count("ran") == 1
    assert grants.document()["remembered"] == 1


def test_what_was_replayed_is_turned_away_at_a_glance_for_a_while(
    town: Town, grants: PacketGrants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of so many, and no longer than a minute: whoever has captured packets does not fill the memory."""
    monkeypatch.setattr(packets, "_REPLAYS", 2)
    looked_at: list[bytes] = []
    read = frames.datagram

    def datagram(packet: bytes) -> frames.Datagram:
        looked_at.append(packet)
        return read(packet)

    monkeypatch.setattr(frames, "datagram", datagram)
    captured = [knock(town.now - ago) for ago in range(3)]
    for times in range(1, 4):
        for packet in captured:
            hear(grants, packet)
        assert grants.document()["refused"] == ({"replayed": 3 * (times - 1)} if times > 1 else {})
    assert len(looked_at) == 3 + 3 + 1  # the third time there is no room for one of them
    grants._replays_until = 0.0  # the minute is over
    looked_at.clear()
    hear(grants, captured[0])
    assert looked_at == [captured[0]] and town.count("opened") == 3


def test_what_a_stranger_sends_is_counted_and_never_told(town: Town, grants: PacketGrants) -> None:
    """Else, where a key has no HMAC, anybody could fill the log, and push out what is told of the others."""
    for ago in range(3):
        hear(grants, knock(town.now - ago, Secret(STRANGER.key)))
    document: dict[str, Any] = grants.document()
    assert document["refused"] == {"not-sealed": 3}
    assert document["recent_refused"] == [] and town.count("said") == 0
    # Whoever has the HMAC's key is no stranger: the same reason is told, and of whom.
    hear(grants, knock(town.now, Secret(STRANGER.key, ALICE.hmac_key)))
    after: dict[str, Any] = grants.document()
    assert after["refused"] == {"not-sealed": 4}
    assert [(each["key"], each["reason"]) for each in after["recent_refused"]] == [("alice", "not-sealed")]
    assert town.count("said") == town.count("said", "a knock of alice is refused: not-sealed") == 1
    # And what the key without HMAC sealed is no stranger's: it opens.
    hear(grants, knock(town.now, BARE))
    assert town.count("opened") == 1 and town.count("said") == 1
