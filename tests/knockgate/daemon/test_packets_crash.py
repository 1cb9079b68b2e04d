"""The listener is killed at each step between an authentic packet and its being settled.

The steps are all lines of ``packets.py`` that taking a packet, and beginning anew, can come by: they are read
out of its source, and each must be a point of some course below. Afterwards a packet that has opened never
opens again, and one that was taken and has not opened is told of.
"""

from __future__ import annotations

import dataclasses
import inspect
import time
from pathlib import Path

import pytest
from tests.knockgate.daemon import killed
from tests.knockgate.daemon.killed import Hands, Heard, folder, hear
from tests.packets import UDP, ipv4, udp

from knockgate.config.doors import Commands, Configuration, Door, Fwknop, Gate, Reliance
from knockgate.daemon import hearing, packets
from knockgate.daemon.packets import STORE, PacketGrants
from knockgate.errors import Unavailable
from knockgate.mechanisms.packet import Bearer, Way
from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import Message, MessageType, Secret, seal
from knockgate.store.sqlite import SqliteStore

__all__ = ["folder"]  # a fixture is found by its name here

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

SSH = Port(Protocol.TCP, 22)
ALICE = Secret(b"a" * 32, b"A" * 64)
BEFORE_OPEN = "a knock of alice for 192.0.2.7 was accepted, but the gate ended before it had answered"
#: Somebody's whom the gate does not know.
STRANGER = Secret(b"b" * 32, b"B" * 64)


@pytest.fixture(autouse=True)
def told_what_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packets, "Ears", Heard)


@dataclasses.dataclass
class World(Hands):
    """A gate with one key."""

    now: int = dataclasses.field(default_factory=lambda: int(time.clock_gettime(time.CLOCK_REALTIME)))

    def begin(self) -> PacketGrants:
        """A listener's half of it, on the same disk."""
        gate = Gate(clock=Reliance.TRUSTED, state_directory=str(self.folder))
        door = Door(name="ssh", ports=(SSH,), keyed=True, commands=Commands(open=("/bin/true",)))
        bearer = Bearer("alice", ALICE, {SSH: Way("ssh", 15.0, 15.0, runs_commands=True)})
        return PacketGrants(Configuration(gate=gate, doors=(door,), fwknop=Fwknop()), [bearer], self)


def knock(issued: int, secret: Secret = ALICE, fragment: int = 0) -> bytes:
    """A packet from its network header on."""
    request = Message(
        nonce="1" * 16,
        username="alice",
        issued=issued,
        type=MessageType.ACCESS,
        address=bytes([192, 0, 2, 7]),
        ports=(SSH,),
    )
    payload = seal(request, secret, salt=b"saltsalt")
    inner = udp(62201, payload=payload)
    return ipv4(inner, UDP, source="192.0.2.7", destination="127.0.0.1", fragment=fragment)


def _refuses(*_: object) -> None:
    raise Unavailable("no space left on device")


@dataclasses.dataclass(frozen=True)
class Course:
    """A packet, and what goes wrong in the life in which it comes; the next life is as it should be."""

    secret: Secret | None = ALICE  #: None: it is no packet at all
    fragment: int = 0  #: where in its packet it begins
    ago: int = 0  #: seconds that it is old
    opens: bool = True  #: whether a door can be opened
    broken: str = ""  #: the verb of the store that fails
    times: int = 1  #: how often it comes
    told: str = BEFORE_OPEN  #: what is said at the latest in the next life, where the packet opened nothing

    def packet(self, world: World) -> bytes:
        return knock(world.now - self.ago, self.secret, self.fragment) if self.secret else b"no packet"

    @property
    def may_open(self) -> bool:
        return self.secret is ALICE and not self.ago and not self.fragment


COURSES = {
    "opens": Course(),
    "comes again and again": Course(times=3),
    "the door cannot be opened": Course(opens=False, told="ssh"),
    "cannot be settled": Course(broken="settle"),
    "cannot be claimed": Course(broken="claim", told="cannot be remembered"),
    "the store cannot be tidied": Course(broken="tidy"),
    "too late": Course(ago=3600),
    "nobody's": Course(secret=STRANGER),
    "a fragment": Course(fragment=1),
    "no datagram": Course(secret=None),
}


# --- the points --------------------------------------------------------------------------------------


STEPS = killed.steps(PacketGrants, (hearing, "Hearing"), (packets, "PacketGrants"))
#: Cannot be: a gate with keys has ``[fwknop]``.
IMPOSSIBLE = 'raise AssertionError("a gate with keys hears packets")'


def run(world: World, course: Course, at: int) -> list[int]:
    """Take the packet in a process of its own, killed at its ``at``-th step; the lines that it came by."""

    def take() -> None:
        world.opens = course.opens
        if course.broken:
            setattr(SqliteStore, course.broken, _refuses)
        grants = world.begin()
        for _ in range(course.times):
            hear(grants, course.packet(world))

    return killed.run(world, take, STEPS, at)


# --- the tests ---------------------------------------------------------------------------------------


def test_each_step_is_a_point(folder: Path) -> None:
    """A new line of the source that no course comes by has no test, and fails this one."""
    reached = set[int]()
    for number, course in enumerate(COURSES.values()):
        for _ in range(2):  # in the second life there may be something to tell of
            world = World(folder / str(number))
            world.folder.mkdir(exist_ok=True)
            reached |= set(run(world, course, 0))
    lines = inspect.getsource(packets).splitlines()
    wanted = {line for each in STEPS.values() for line in each if IMPOSSIBLE not in lines[line - 1]}
    missed = [f"{line}: {lines[line - 1].strip()}" for line in sorted(wanted - reached)]
    assert missed == []
    assert {code.co_name for code in STEPS} >= {"__init__", "hear", "_do", "_claim", "_open", "_refuse"}


@pytest.mark.parametrize("name", COURSES)
def test_killed_at_each_step(name: str, folder: Path) -> None:
    course = COURSES[name]
    (folder / "whole").mkdir()
    points = run(World(folder / "whole"), course, 0)
    beginning = {line for _, _, line in PacketGrants.__init__.__code__.co_lines()}
    began = max(at for at, line in enumerate(points, 1) if line in beginning)
    # How it begins is the same in all of them.
    for at in range(1 if name == "opens" else began + 1, len(points) + 1):
        world = World(folder / str(at))
        world.folder.mkdir()
        run(world, course, at)
        expect_once(world, course, f"{name}: killed at line {points[at - 1]}")


def expect_once(world: World, course: Course, where: str) -> None:
    """What becomes of the packet in the next two lives, sent twice in each."""
    for _ in range(2):
        grants = world.begin()
        for _ in range(2):
            hear(grants, course.packet(world))
        grants.close()
    opened, ran = world.count("opened"), world.count("ran")
    told = world.count("said", course.told) + world.count("said", BEFORE_OPEN)
    assert (opened, ran) in {(0, 0), (1, 0), (1, 1)}, where
    if not course.may_open:
        assert opened == 0, where
    elif not ran:
        assert told, where  # not lost in silence
    # The control: the listener takes a packet that nobody has sent yet.
    grants = world.begin()
    hear(grants, knock(world.now + 1))
    grants.close()
    assert world.count("opened") == opened + 1, where


def test_who_begins_and_is_killed_before_he_has_told_tells_it_again(folder: Path) -> None:
    """A claim that was not answered; the next life is killed at each of its steps."""
    course = COURSES["opens"]
    (folder / "whole").mkdir()
    points = run(World(folder / "whole"), course, 0)
    source = inspect.getsource(packets).splitlines()
    opening = next(at for at, line in enumerate(points, 1) if "self._hands.open_for_key" in source[line - 1])
    told = 0
    for at in range(1, opening):
        world = World(folder / str(at))
        world.folder.mkdir()
        run(world, course, opening)
        assert world.count("opened") == world.count("said") == 0
        run(world, course, at)
        told += world.count("said", BEFORE_OPEN)
        grants = world.begin()
        assert world.count("said", BEFORE_OPEN) >= 1
        hear(grants, course.packet(world))
        grants.close()
        assert world.count("opened") == 0
    assert 0 < told < opening - 1  # some were killed before they had told, and some after


def test_what_is_not_remembered_opens_twice(folder: Path) -> None:
    """The control of all of the above."""
    world = World(folder)
    for times in (1, 2):
        run(world, COURSES["opens"], 0)
        assert world.count("opened") == times
        (folder / STORE).unlink()
