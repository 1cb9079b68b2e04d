"""What an examination finds: a closed list, each kind with how bad it is, and why it matters.

docs/operating.md has the list as a table; a test holds the two to each other.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Finding", "Kind", "Severity", "Topic", "blind", "fine", "found"]


class Severity(enum.IntEnum):
    """How bad it is. From a warning on the exit status says so."""

    OK = 0  #: it was looked at, and is as it should be
    NOTE = 1  #: worth knowing
    WARNING = 2  #: it will let somebody in, or keep somebody out, when something else happens
    ERROR = 3  #: it does so now


class Topic(enum.StrEnum):
    """What is looked at, in this order."""

    CLOCK = "clock"
    NETWORK = "network"
    RULES = "rules"
    PORTS = "ports"
    CONTAINERS = "containers"
    KERNEL = "kernel"
    STATE = "state"
    RIGHTS = "rights"
    SSHD = "sshd"
    GATE = "gate"


class _Is(NamedTuple):
    topic: Topic | None  #: None: any
    severity: Severity
    why: str


class _On(NamedTuple):
    """Makes what can be found on a topic."""

    topic: Topic

    def note(self, why: str) -> _Is:
        return _Is(self.topic, Severity.NOTE, why)

    def warning(self, why: str) -> _Is:
        return _Is(self.topic, Severity.WARNING, why)

    def error(self, why: str) -> _Is:
        return _Is(self.topic, Severity.ERROR, why)


_CLOCK, _NETWORK, _RULES, _PORTS, _CONTAINERS, _KERNEL, _STATE, _RIGHTS, _SSHD, _GATE = map(_On, Topic)


class Kind(enum.Enum):
    """All that can be found. The names that programs see are these in small letters, with hyphens."""

    FINE = _Is(None, Severity.OK, "it was looked at, and nothing is wrong")
    NOT_LOOKED_AT = _Is(None, Severity.WARNING, "what was not looked at is not known to be right")

    CLOCK_NOT_KEPT = _CLOCK.warning("no program keeps the clock right, so a packet's age cannot be judged")
    CLOCK_NOT_SET_YET = _CLOCK.warning("until the clock is right, a packet's age cannot be judged")
    CLOCK_TRUSTED = _CLOCK.warning(
        'with clock = "trusted" a clock that is off refuses honest knocks, and takes old ones'
    )
    CLOCK_FLAGGED = _CLOCK.note(
        "the hardware's clock is not set by the right one: the next boot may begin wrong"
    )
    CLOCK_TWICE_KEPT = _CLOCK.note("two programs that set one clock work against each other")

    INTERFACE_MISSING = _NETWORK.error("while the interface is not there, no door is guarded")
    INTERFACE_DOWN = _NETWORK.warning("no knock arrives through it")
    INTERFACE_ENSLAVED = _NETWORK.error(
        "its packets come in as those of the interface above it, which is not guarded"
    )
    OTHER_WAYS_IN = _NETWORK.note("through these interfaces no door is guarded")
    NO_ADDRESS = _NETWORK.warning("no client can reach this host")
    LINK_LOCAL_ONLY = _NETWORK.warning("a client on another network cannot reach this host")
    PRIVATE_ONLY = _NETWORK.note(
        "from the internet, a client reaches it through a router alone, which has to pass on the knocks too"
    )
    ADDRESS_CHANGES = _NETWORK.note(
        "a client that has the address in its profile will knock at somebody else's"
    )
    ADDRESS_UNUSABLE = _NETWORK.warning("somebody else has the address, so it does not work here")
    PROGRAM_BEFORE = _NETWORK.note(
        "an XDP program sees packets before the gate, and may answer or send them on"
    )

    BACK_DOOR = _RULES.error("it leads past a door to what is behind it, without a knock")
    RULE_NOT_READ = _RULES.warning("it may lead past a door")
    SENT_ON_BEFORE = _RULES.error("the packets never come to the gate's rules, which cannot keep them out")
    CHANGED_BEFORE = _RULES.error("the gate sees another port or address than the one that was asked for")
    NOT_TRACKED = _RULES.warning("sessions that are not tracked are cut off when their lease ends")
    PROXIED = _RULES.note("what a proxy passes on comes from this host itself, past the doors")
    OFFLOADED = _RULES.note("sessions in a flow table go by all rules, so closing a door does not end them")
    DROPPED_BEFORE = _RULES.note("knocks that are dropped there open nothing")
    DROPPED_BEHIND = _RULES.note("a door that opens lets nobody in whom other rules keep out")
    LEGACY_RULES = _RULES.note(
        "rules of iptables-legacy are beside those that nft lists, and easily overlooked"
    )
    LEGACY_BACK_DOOR = _RULES.warning("such a rule may lead past a door, or cut sessions off")
    FLUSHED_AT_BOOT = _RULES.warning(
        "whoever loads that file takes the guard away, until something puts it back"
    )
    COPY_DOES_NOT_LOAD = _RULES.error("at boot none of the rules in that file will be loaded")

    NO_LISTENER = _PORTS.warning("who knocks is let in, and finds nobody")
    LISTENS_LOCALLY = _PORTS.warning("the program answers this host alone, so a knock lets in nobody")
    KNOCK_PORT_USED = _PORTS.warning("knock ports are silent, so nobody reaches that program")
    UNGUARDED = _PORTS.note("everybody reaches these without a knock")

    PUBLISHED = _CONTAINERS.note("everybody reaches these containers without a knock")
    OWN_ADDRESS = _CONTAINERS.note(
        "a neighbour that sends straight to the container's own address goes past the door"
    )

    NONLOCAL_BIND = _KERNEL.warning(
        "the daemon takes every address for this host's, and packets in transit for knocks"
    )
    ROUTE_LOCALNET = _KERNEL.warning("neighbours reach what listens on 127.0.0.1, as if it were not local")
    SOURCE_ROUTE = _KERNEL.warning("whoever forges an address gets the answers, and uses another's lease")
    NO_REVERSE_PATH = _KERNEL.note(
        "packets with the forged address of somebody who was let in come in anywhere"
    )
    USER_NAMESPACES = _KERNEL.note(
        "any user gets at nf_tables' code, where many ways to become root were found"
    )
    TRACKING_FULL = _KERNEL.warning("when it is full new sessions are dropped, whoever has a lease")
    TRACKING_MISSING = _KERNEL.error("without connection tracking every session ends with its lease")
    NO_CONNTRACK_PROGRAM = _KERNEL.note(
        "sessions outlive their lease, and only that program can list and end them"
    )
    OLD_KERNEL = _KERNEL.note("others can flush the table; the daemon puts it back, up to a second later")
    UNTRIED_KERNEL = _KERNEL.warning("the kernel lacks what the rules are made of")
    UNTRIED_NFT = _KERNEL.warning("it does not read, or not print, what the rules are made of")
    NO_NFT = _KERNEL.error("without it no rules can be loaded")

    STATE_MISSING = _STATE.error("the daemon has nowhere to remember which knocks are spent")
    STATE_VOLATILE = _STATE.error(
        "after a reboot it is forgotten which knocks are spent, and the gate's key is lost"
    )
    STATE_READ_ONLY = _STATE.error("no knock can be marked as spent, so none opens anything")
    STATE_REMOTE = _STATE.warning("without its server no knock opens anything, and a lock may not be one")
    STATE_LAYERED = _STATE.warning("the upper layer is often thrown away, and all that is remembered with it")
    STATE_NOT_FLUSHED = _STATE.warning(
        "what is said to be on the disk is not, so a power cut forgets spent knocks"
    )
    STATE_FULL = _STATE.warning("on a full disk no knock can be marked as spent, so none opens")

    WRITABLE = _RIGHTS.error("whoever can write it decides who comes in")
    READABLE = _RIGHTS.error("whoever reads the secrets can knock, or tell who does")
    FOREIGN = _RIGHTS.error("its owner can write it, and so decides who comes in")
    KEYS_UNUSABLE = _RIGHTS.error("what cannot be used opens nothing")
    KEYS_MISSING = _RIGHTS.error("without the gate's key no sealed knock opens anything")
    CLOSED_TO_UNIT = _RIGHTS.error("a unit that cannot read or write what it needs opens nothing")

    LOCKED_OUT = _SSHD.error("sshd refuses a line with an option of ours, so nobody logs in with that key")
    WOULD_LOCK_OUT = _SSHD.warning(
        "an option of ours in it, which the gate takes, would make sshd refuse the line"
    )
    SSHD_ELSEWHERE = _SSHD.warning("who finds the other port needs no knock")
    KEYS_BY_COMMAND = _SSHD.note("the lines that a command prints cannot be looked at from here")

    NOT_LOADED = _GATE.error("nothing is guarded: everybody reaches what is behind the doors")
    OTHER_CONFIGURATION = _GATE.error("what is guarded is not what the configuration says")
    NOT_RUNNING = _GATE.error("nobody hears the knocks that a daemon has to hear")
    NOT_AT_BOOT = _GATE.warning("after a reboot nothing is guarded, or nobody hears a knock")
    TWICE_AT_BOOT = _GATE.warning("of two units that exclude each other, either may be left out")
    NOT_CONFIGURED = _GATE.note("without a configuration only the host was looked at")
    SHADOW = _GATE.warning("nobody is kept out; it is only counted who would be")
    NO_RESCUE = _GATE.note("where the one way in fails, nobody can mend it but at the machine itself")

    @property
    def id(self) -> str:
        """As programs and the documentation know it."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    kind: Kind
    topic: Topic
    seen: str  #: what there is
    fix: str = ""  #: what to type, or to write where; empty where there is nothing to mend
    severity: Severity = Severity.OK

    @property
    def why(self) -> str:
        """Why it matters."""
        return self.kind.value.why

    def facts(self) -> dict[str, object]:
        """For programs."""
        return {
            "topic": self.topic.value,
            "id": self.kind.id,
            "severity": self.severity.name.lower(),
            "looked": self.kind is not Kind.NOT_LOOKED_AT,
            "seen": self.seen,
            "why": self.why if self.severity else None,
            "fix": self.fix or None,
        }


def found(kind: Kind, seen: str, fix: str, *, most: Severity = Severity.ERROR) -> Finding:
    """A finding; ``most`` is how bad it can be where less depends on it."""
    topic = kind.value.topic
    if topic is None:
        raise ValueError(f"{kind} has no topic of its own")
    return Finding(kind, topic, seen, fix, min(kind.value.severity, most))


def fine(topic: Topic, seen: str) -> Finding:
    """It was looked at, and is as it should be."""
    return Finding(Kind.FINE, topic, seen)


def blind(topic: Topic, what: str, fix: str) -> Finding:
    """It could not be looked at: ``what`` says at what, and why not."""
    return Finding(
        Kind.NOT_LOOKED_AT, topic, f"could not look at {what}", fix, Kind.NOT_LOOKED_AT.value.severity
    )
