"""The listener is killed at each line between a sealed knock and its answer.

The lines are those of ``hearing.py`` and ``sealed.py``; where the store is killed within its own, see
``store/test_marks_crash.py``. Afterwards a knock that has opened never opens again, and the next one of the
same device does.
"""

from __future__ import annotations

import dataclasses
import inspect
import socket
from pathlib import Path

import pytest
from tests.knockgate.daemon import killed
from tests.knockgate.daemon.killed import Hands, Heard, folder, hear
from tests.knockgate.daemon.sealed_stage import INCARNATION, make_gate, message, now
from tests.knockgate.spa import sealed_messages as messages
from tests.knockgate.spa import sealed_signers as signers
from tests.packets import UDP, ipv4, udp

from knockgate.config.doors import Commands, Configuration, Door, Gate, Reliance
from knockgate.config.keys import load_ssh
from knockgate.config.schema import Sealed
from knockgate.daemon import hearing, sealed
from knockgate.daemon.sealed import SealedGrants
from knockgate.errors import Unavailable
from knockgate.model import Port, Protocol
from knockgate.spa.sealed import KeyKind, SourceKind, Suite, seal
from knockgate.store.marks import SqliteMarks

__all__ = ["folder"]  # a fixture is found by its name here

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

_HOUR = 3600 * 10**9


@pytest.fixture(autouse=True)
def told_what_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "Ears", Heard)


@dataclasses.dataclass
class World(Hands):
    """A gate with one line of authorized_keys."""

    clock: Reliance = Reliance.TRUSTED
    now: int = dataclasses.field(default_factory=now)

    def make(self) -> None:
        """What `knockgate init` has made."""
        self.folder.mkdir(exist_ok=True)
        make_gate(self.folder)
        keys = self.folder / "authorized_keys"
        keys.write_text(f"nonsense\n{signers.line(signers.ED25519)} jo\n")
        keys.chmod(0o600)
        (self.folder / "gate.toml").write_text(f'[keys.people]\nssh = "{keys}"\ndoors = ["ssh"]\n')

    def begin(self) -> SealedGrants:
        """A listener's half of it, on the same disk."""
        gate = Gate(clock=self.clock, state_directory=str(self.folder / "state"))
        ports = (Port(Protocol.TCP, 22),)
        door = Door(name="ssh", ports=ports, keyed=True, commands=Commands(open=("/bin/true",)))
        configuration = Configuration(gate=gate, doors=(door,), sealed=Sealed())
        return SealedGrants(configuration, load_ssh(self.folder / "gate.toml", configuration), self)


def knock(issued: int, *, kind: KeyKind = KeyKind.ED25519, fragment: int = 0, to: str = "127.0.0.1") -> bytes:
    """A packet from its network header on."""
    said = message(kind, issued=issued, source=SourceKind.V4, address=socket.inet_aton("192.0.2.7"))
    inner = udp(62202, payload=seal(said, messages.CARD, Suite.X25519))
    return ipv4(inner, UDP, source="192.0.2.7", destination=to, fragment=fragment)


def _refuses(*_: object, **__: object) -> None:
    raise Unavailable("no space left on device")


@dataclasses.dataclass(frozen=True)
class Course:
    """A knock, and what goes wrong in the life in which it comes; the next life is as it should be."""

    kind: KeyKind = KeyKind.ED25519
    fragment: int = 0  #: where in its packet it begins
    ago: int = 0  #: nanoseconds that it is old
    to: str = "127.0.0.1"
    opens: bool = True  #: whether a door can be opened
    broken: str = ""  #: the verb of the store that fails
    clock: Reliance = Reliance.TRUSTED
    junk: bool = False

    def packet(self, world: World) -> bytes:
        if self.junk:
            return b"no packet"
        return knock(world.now - self.ago, kind=self.kind, fragment=self.fragment, to=self.to)

    @property
    def may_open(self) -> bool:
        return self == dataclasses.replace(Course(), opens=self.opens, broken=self.broken, clock=self.clock)


COURSES = {
    "opens": Course(),
    "opens without a clock": Course(clock=Reliance.UNKNOWN),
    "the door cannot be opened": Course(opens=False),
    "cannot be claimed": Course(broken="claim"),
    "the time cannot be kept": Course(broken="keep_floor"),
    "the store cannot be tidied": Course(broken="tidy"),
    "too late": Course(ago=_HOUR),
    "nobody's": Course(kind=KeyKind.ECDSA_P256),
    "another host's": Course(to="192.0.2.99"),
    "a fragment": Course(fragment=1),
    "junk": Course(junk=True),
}

STEPS = killed.steps(SealedGrants, (hearing, "Hearing"), (sealed, "SealedGrants"))
del STEPS[SealedGrants.close.__code__]  # which only its name brings in: the store has one too
del STEPS[SealedGrants._said_of.__code__]  # for who asks what became of a knock, and not for the knock
#: Not on the way of a knock: the kernel refuses the ears, or somebody sets the clock.
ELSEWHERE = (
    'raise AssertionError("a gate with ssh keys hears sealed packets")',
    "except Unavailable:",
    "self._store.close()",
    "raise",
    'side = "ahead" if effect.by > 0 else "back"',
    """line = f"clock-stepped: the clock was set {side} by {abs(effect.by) / _NANO:.0f} s\"""",
    'self._hands.complain(line, "clock", Record(event=Event.CLOCK))',
    "return",
)


def run(world: World, course: Course, at: int) -> list[int]:
    """Take the knock in a process of its own, killed at its ``at``-th step; the lines that it came by."""
    packet = course.packet(world)

    def take() -> None:
        world.opens, world.clock = course.opens, course.clock
        if course.broken:
            setattr(SqliteMarks, course.broken, _refuses)
        hear(world.begin(), packet)

    return killed.run(world, take, STEPS, at)


def whole(folder: Path, course: Course) -> list[int]:
    """The lines of a life in which nobody is killed."""
    world = World(folder)
    world.make()
    return run(world, course, 0)


def expect_once(world: World, course: Course, where: str) -> None:
    """What becomes of the knock in the next two lives, sent twice in each."""
    packet = course.packet(world)
    for _ in range(2):
        grants = world.begin()
        for _ in range(2):
            hear(grants, packet)
        grants.close()
    opened, ran = world.count("opened"), world.count("ran")
    assert (opened, ran) in {(0, 0), (1, 0), (1, 1)}, where
    if not course.may_open:
        assert opened == 0, where
    # The control: the same device is let in at its next knock.
    grants = world.begin()
    hear(grants, knock(world.now + 1))
    grants.close()
    assert world.count("opened") == opened + 1, where


@pytest.mark.parametrize("name", COURSES)
def test_killed_at_each_step(name: str, folder: Path) -> None:
    course = COURSES[name]
    points = whole(folder / "whole", course)
    beginning = {line for _, _, line in SealedGrants.__init__.__code__.co_lines()}
    began = max(at for at, line in enumerate(points, 1) if line in beginning)
    # How it begins is the same in all of them.
    for at in range(1 if name == "opens" else began + 1, len(points) + 1):
        world = World(folder / str(at))
        world.make()
        run(world, course, at)
        expect_once(world, course, f"{name}: killed at line {points[at - 1]}")


def test_each_step_is_a_point(folder: Path) -> None:
    """A new line of the source that no course comes by has no test, and fails this one."""
    reached = {
        line for number, each in enumerate(COURSES.values()) for line in whole(folder / str(number), each)
    }
    lines = inspect.getsource(sealed).splitlines()
    wanted = {line for code, each in STEPS.items() if code.co_filename == sealed.__file__ for line in each}
    missed = [f"{line}: {lines[line - 1].strip()}" for line in sorted(wanted - reached)]
    assert [each for each in missed if each.partition(": ")[2] not in ELSEWHERE] == []
    assert {code.co_name for code in STEPS} >= {"__init__", "hear", "_do", "_claim", "_consider", "_refuse"}


def test_what_is_not_remembered_opens_twice(folder: Path) -> None:
    """The control of all of the above: the same knock and another store."""
    world = World(folder)
    world.make()
    packet = COURSES["opens"].packet(world)
    for times in (1, 2):
        killed.run(world, lambda: hear(world.begin(), packet), STEPS, 0)
        assert world.count("opened") == times
        for path in (folder / "state").glob("marks.sqlite*"):
            path.unlink()
        SqliteMarks.create(folder / "state" / "marks.sqlite", INCARNATION)
