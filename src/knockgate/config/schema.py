"""What gate.toml can say: its tables as dataclasses, and what follows from their values.

``doors`` reads them. A configuration is a value; ``checksum`` tells whether two processes hold the same one.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

from knockgate.config import readers
from knockgate.config.readers import Devices, Flags, LogFormat, Network, Observed, Reliance, RunsIn, Suite
from knockgate.config.toml import duration, flag, key, whole
from knockgate.model import Port, Protocol

__all__ = ["Commands", "Configuration", "Demands", "Door", "Fwknop", "Gate", "Sealed", "Sequence"]

_COME_TO = "Packets come to this UDP port. Nothing is bound to it, and it answers nobody."


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """``[gate]``: what holds for all doors. Everything here has a default."""

    interface: str = key(
        "Guard and listen on this interface alone; empty: on all but loopback.",
        readers.interface,
        "",
    )
    allow: tuple[Network, ...] = key(
        "Networks that come in through all doors without a knock, always: from where you get in when all "
        "else fails. An address is no proof of who sends; over UDP anybody can write it into a datagram.",
        readers.allowed,
        (),
    )
    shadow: bool = key(
        "Shut nothing: all doors let everybody in, and what would have been dropped is counted for "
        "`knockgate status`. Knocks open leases as ever, and pass on like any packet.",
        flag,
        False,  # noqa: FBT003 - a default
    )
    sources: int = key(
        "Sources whose half-made sequences the kernel remembers for their full time, for each address "
        "family (64 bytes each).",
        whole(16, 1 << 24),
        65536,
    )
    hurried: int = key(
        "Further sources, remembered for at most one second, once those places are taken: it is what "
        "keeps a door reachable under a flood.",
        whole(16, 1 << 24),
        524288,
    )
    leases: int = key(
        "Leases that may be live at once: for IPv4, for IPv6, and for IPv6 networks.",
        whole(16, 1 << 24),
        262144,
    )
    log_group: int = key(
        "The netlink log group through which the kernel reports openings (`log group` in nft).",
        whole(0, 65535),
        5,
    )
    tracked: int = key(
        "Sources whose half-made sequences the daemon remembers; the oldest is forgotten first.",
        whole(1, 1 << 24),
        65536,
    )
    clock: Reliance = key(
        "`auto`: rely on the clock while the kernel says that it is synchronised, and ever after until the "
        "gate is started again. `trusted`: always. `unknown`: never; then a packet's age says nothing, and "
        "packets are remembered for good.",
        readers.reliance,
        Reliance.AUTO,
    )
    log: LogFormat = key(
        "`text`: lines for people. `json`: each is a JSON object; docs/operating.md has its fields.",
        readers.log_format,
        LogFormat.TEXT,
    )
    run_directory: str = key("Sockets of the running daemon.", readers.folder, "/run/knockgate")
    state_directory: str = key(
        "What must outlive a reboot: the gate's keys, what is remembered of packets, and commands that are "
        "still to be run to close a door.",
        readers.folder,
        "/var/lib/knockgate",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fwknop:
    """``[fwknop]``: how fwknop's packets are heard; they are as soon as a key of ``[keys]`` is for them."""

    port: Port = key(_COME_TO, readers.udp_port, Port(Protocol.UDP, 62201))
    freshness: float = key(
        "How far the time that a packet bears may be from ours, before and after, while our clock is "
        "synchronised.",
        duration(1, 86400),
        120.0,
    )
    remembered: int = key(
        "Packets that are remembered, so that none is taken twice. When there is no room for more they are "
        "refused: that takes a clock that is not synchronised, or very many knocks.",
        whole(16, 100_000_000),
        1_000_000,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """``[sealed]``: how sealed packets are heard; they are as soon as a key of ``[keys]`` has ``ssh``."""

    port: Port = key(_COME_TO, readers.udp_port, Port(Protocol.UDP, 62202))
    suites: tuple[Suite, ...] = key(
        "What packets may be sealed with. `x-wing` withstands quantum computers, in packets of 1,333 bytes; "
        "`x25519` does not, and its packets of 245 bytes get through everywhere.",
        readers.suites,
        tuple(Suite),
    )
    budget: int = key(
        "Packets that one card may make us open in a second, and twice as many at once. What is beyond that "
        "is refused: whoever got hold of a card can keep its other owners out, and not keep us busy.",
        whole(1, 10_000),
        50,
    )
    devices: int = key(
        "Devices that are remembered of one ssh key, at most. While the gate is sure of the time, one that "
        "was not used for longest makes room for another.",
        whole(1, 4096),
        32,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """``[doors.NAME.sequence]``: the ports to be knocked at, in this order."""

    steps: tuple[Port, ...] = key(
        'The knocks, such as `["tcp/7000", "udp/8000"]`; 1 to 32.', readers.steps, ()
    )
    within: float = key(
        "In the kernel: the longest pause from one knock to the next, at most 1h. In the daemon: the time "
        "for the whole sequence, from the first knock to the last.",
        duration(0.1, 86400),
        5.0,
    )
    runs_in: RunsIn = key(
        "`kernel`: the rules themselves follow the sequence and no daemon is needed. `daemon`: for what "
        "they cannot do (the three keys below, commands, and a time for the whole sequence).",
        readers.runs_in,
        RunsIn.KERNEL,
    )
    flags: Flags | None = key(
        'TCP flags that a knock must have and, behind `!`, must not have, such as `["syn", "!ack"]`, of fin, '
        "syn, rst, psh, ack and urg. TCP packets that differ are as if they had not come. Without it a knock "
        "is a SYN alone. Daemon only.",
        readers.flags,
        None,
    )
    target: bytes | None = key(
        "Knocks go to this address instead of this host's own (on a router). Daemon only.",
        readers.address,
        None,
    )
    one_time: str = key(
        "File with one sequence a line, each good for one opening; used ones are marked with `#` in "
        "place. Stands instead of `steps`. Daemon only.",
        readers.file_path,
        "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """``[doors.NAME.commands]``: what to run when the door opens and closes. Needs the daemon.

    A command is a list of words, run as it is, without a shell. ``%IP%`` in a word becomes the source's
    address or, where a packet has asked for its whole network, ``2001:db8:1:2::/64``, slash and all; the
    environment has KNOCKGATE_DOOR, KNOCKGATE_SOURCE (the same) and KNOCKGATE_EVENT (open or close).

    What cannot begin to run on opening within 5 seconds, or within a lease that is shorter, is not run any
    more, and that is told: nobody waits for it, or they knock again. What is to be run on closing is never
    forgotten.
    """

    open: tuple[str, ...] = key("Run when the door opens.", readers.command, ())
    close: tuple[str, ...] = key(
        "Run when the lease ends; also after a crash or a reboot in between. It is not run for a door "
        "that has nothing to run on opening.",
        readers.command,
        (),
    )
    open6: tuple[str, ...] | None = key(
        "The same as `open` for an IPv6 source; without it `open` is run, `[]` runs nothing.",
        readers.command,
        None,
    )
    close6: tuple[str, ...] | None = key(
        "The same as `close` for an IPv6 source; without it `close` is run, `[]` runs nothing.",
        readers.command,
        None,
    )
    shell: bool = key(
        "The commands are single texts for `/bin/sh -c`, as knockd's are. Imported configurations have it; "
        "a list of words is safer.",
        flag,
        False,  # noqa: FBT003 - a default
    )
    time_limit: float = key(
        "A command that runs longer is killed, with its children.", duration(0.1, 3600), 10.0
    )

    def for_source(self, source: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What to run on opening and on closing for a source (``model.Source``)."""
        start, stop = self.open, self.close
        if len(source) != 4:  # an IPv6 address, or a network of those
            start = start if self.open6 is None else self.open6
            stop = stop if self.close6 is None else self.close6
        return start, stop if start else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """``[doors.NAME.sealed]``: what this door demands of a sealed packet, beyond a key that may open it."""

    observed: Observed = key(
        "Whether to take packets that name no address: who sent it is let in, also somebody who held it back "
        "and sends it on as their own. `clock`: while the gate is sure of the time, so within a minute. "
        "`always`: also without a clock, so at any time later. `never`: they must name one, and sign it.",
        readers.observed,
        Observed.CLOCK,
    )
    touch: bool = key(
        "A token must have been touched for the packet. Keys that are on no token do not open such a door.",
        flag,
        False,  # noqa: FBT003 - a default
    )
    devices: Devices = key(
        "`any`: from whatever device. `known`: only from those that were enrolled here, so that whoever gets "
        "at somebody's agent cannot knock from elsewhere.",
        readers.devices,
        Devices.ANY,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """``[doors.NAME]``: a named set of ports that stays shut until the right knock arrives."""

    name: str
    ports: tuple[Port, ...] = key(
        'What is shut, such as `["tcp/22"]`. A port belongs to one door. May be empty for a door that only '
        "runs commands.",
        readers.ports,
        (),
    )
    lease: float = key(
        "How long the door stays open for who knocked; connections made in that time live on. A new knock "
        "begins the time anew. At least 1s, but for a door that only runs commands.",
        duration(0, 30 * 86400),
        15.0,
    )
    longest: float | None = key(
        "A packet that asks for a time of its own gets at most this; without it `lease` is the most.",
        duration(1, 30 * 86400),
        None,
    )
    allow: tuple[Network, ...] = key(
        "Networks that come in through this door without a knock, always, besides those of `[gate]`.",
        readers.allowed,
        (),
    )
    shadow: bool = key(
        "Do not shut this door: everybody comes in, and who would have been kept out is counted for "
        "`knockgate status`. Its knocks stay as they are.",
        flag,
        False,  # noqa: FBT003 - a default
    )
    sequence: Sequence | None = None
    commands: Commands | None = None
    sealed: Demands = Demands()
    keyed: bool = False  #: whether a key may open it

    @property
    def runs_in(self) -> RunsIn | None:
        """Who follows its sequence; None: it has none."""
        return self.sequence.runs_in if self.sequence else None

    @property
    def needs_daemon(self) -> bool:
        """Whether some knocks open nothing without one: it follows the sequence, or hears a key's packets."""
        return self.keyed or self.runs_in is RunsIn.DAEMON

    @property
    def most(self) -> float:
        """Seconds that a lease for somebody's key lasts at most."""
        return max(self.lease, self.longest or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A whole gate.toml, checked; doors in the order of the file, which numbers them."""

    gate: Gate
    doors: tuple[Door, ...]
    fwknop: Fwknop | None = None  #: None where no key is for its packets
    sealed: Sealed | None = None  #: None where no key is of ssh
    file: str = dataclasses.field(default="", compare=False)

    @property
    def checksum(self) -> bytes:
        """16 bytes that differ where what is configured differs; comments and order of keys do not count."""
        parts = (self.gate, self.doors, self.fwknop, self.sealed)
        return hashlib.sha256(repr(parts).encode()).digest()[:16]

    def in_shadow(self, door: Door) -> bool:
        """Whether the door shuts nobody out, and only counts who would be."""
        return bool(door.ports) and (self.gate.shadow or door.shadow)

    def kernel_doors(self) -> list[Door]:
        """The doors whose sequence the kernel follows."""
        return [door for door in self.doors if door.runs_in is RunsIn.KERNEL]

    def daemon_doors(self) -> list[Door]:
        """The doors whose sequence the daemon follows."""
        return [door for door in self.doors if door.runs_in is RunsIn.DAEMON]

    def quiet_ports(self) -> set[Port]:
        """Where the daemon hears knocks and packets; the table drops them, so that they look like doors.

        A door without ports only runs commands, as knockd does: its knocks are left as they are.
        """
        found = {packets.port for packets in (self.fwknop, self.sealed) if packets}
        for door in self.daemon_doors():
            if door.ports and door.sequence:
                found |= set(door.sequence.steps)
        return found

    def door_of(self, port: Port) -> Door | None:
        """The door that a port belongs to."""
        return next((door for door in self.doors if port in door.ports), None)
