"""What somebody with a key can do at this gate: all that was configured of it, put together.

A key of gate.toml is looked at as a whole. A line of a file of ssh keys is looked at with what its options
take away from that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from knockgate.cli.keyring import crypto_in_words, hours_in_words
from knockgate.config.doors import Configuration, Door, Observed
from knockgate.config.keyfiles import FileState
from knockgate.config.keys import ASKED_FOR, FwknopKey, Key, SshKeys
from knockgate.config.readers import Devices
from knockgate.config.toml import spell
from knockgate.config.unshut import network_text, networks_in_words
from knockgate.daemon.hours import hours_of
from knockgate.spa.sshkeys import Authorized, fingerprint_text

__all__ = ["DoorRight", "Rights", "door_in_words", "fingerprint_of", "of_fwknop", "of_line", "of_ssh"]


@dataclass(frozen=True, slots=True)
class DoorRight:
    """What of a door such a key opens."""

    door: str
    ports: tuple[str, ...]
    lease: float  #: seconds, where none are asked for
    most: float  #: seconds that may be asked for
    demands: tuple[str, ...] = ()
    against: str = ""  #: why it does not open this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """In words that say what holds, each for itself."""

    name: str  #: of ``[keys.NAME]``
    title: str
    who: tuple[str, ...]
    packet: tuple[str, ...]  #: what it must be like, and where it goes
    doors: tuple[DoorRight, ...]
    when: tuple[str, ...]
    lets_in: tuple[str, ...]
    leases: str
    against: tuple[str, ...]  #: each makes that it opens nothing now
    doubts: tuple[str, ...]  #: what may
    place: str | None = None  #: of a line: FILE:NUMBER
    fingerprint: str | None = None  #: of its key

    @property
    def opens(self) -> bool:
        """Whether it opens any door now, as far as is known here."""
        return not self.against and any(not each.against for each in self.doors)


def of_fwknop(found: Configuration, key: FwknopKey, now: float) -> Rights:
    """Of a pair of fwknop's secrets."""
    if found.fwknop is None:
        raise AssertionError("a gate with such a key hears its packets")
    packet = [f"fwknop's, to {found.fwknop.port} ({crypto_in_words(key)})"]
    if key.senders:
        packet.append(f"from {networks_in_words(key.senders)}, as far as its sender can be believed")
    if key.username:
        packet.append(f"with the user name {key.username}")
    named = "or its sender, where it names none" if key.observed else "which it must name"
    return Rights(
        name=key.name,
        title=f"key {key.name}, a pair of fwknop's secrets",
        who=(f"who has what is in {key.fwknop}",),
        packet=tuple(packet),
        doors=tuple(_door(each, (key.longest,)) for each in _doors(found, key.doors)),
        when=tuple(_when(key)),
        lets_in=(_networks(key), named),
        leases="any number at once" if key.leases is None else f"{key.leases} at once",
        against=tuple(_against(key, now)),
        doubts=(),
    )


def of_ssh(found: Configuration, key: SshKeys, files: Sequence[FileState], now: float) -> Rights:
    """Of all ssh keys that stand in files of ``key``; ``files`` are those."""
    number = sum(len(each.keys) for each in files)
    trouble = tuple(str(each.trouble) for each in files if each.trouble)
    ended = sum(_has_ended(entry, now) for each in files for entry in each.keys)
    against = list(_against(key, now))
    if not number:
        against.append("no ssh key stands in its files")
        against += trouble
    elif ended == number:
        against.append("all lines in its files have expired")
    doubts = list(trouble) if number else []
    if 0 < ended < number:
        doubts.append(f"{ended} of {number} lines in its files have expired")
    return Rights(
        name=key.name,
        title=f"key {key.name}, for ssh keys",
        who=tuple(f"{_keys(len(each.keys))} in {each.path}" for each in files),
        packet=tuple(_packet(found)),
        doors=tuple(_of_all(each, key, files) for each in _doors(found, key.doors)),
        when=tuple(_when(key)),
        lets_in=(_networks(key),),
        leases=f"{key.leases} at once, of each ssh key; {key.leases_in_all} of all of them together",
        against=tuple(against),
        doubts=tuple(doubts),
    )


def of_line(found: Configuration, key: SshKeys, file: str, entry: Authorized, now: float) -> Rights:
    """Of one line in a file of ``key``."""
    options, fingerprint = entry.options, fingerprint_of(entry)
    packet = list(_packet(found))
    if entry.key.kind.on_token and options.touch:
        packet.append("signed by a token that was touched")
    if entry.key.kind.on_token and options.verification:
        packet.append("by a token that has asked who touches it (a PIN, a finger)")
    lets_in = [_networks(key)] if key.sources or options.sources is None else []
    if options.sources is not None:
        patterns = options.sources.text.decode(errors="replace")
        lets_in.append(f"{'of these only ' * bool(lets_in)}{patterns} (from= on its line)")
    when = list(_when(key))
    if options.expires is not None:
        when.append(f"until {_date(options.expires)} (expiry-time= on its line)")
    against = list(_against(key, now))
    if _has_ended(entry, now):
        against.append("its line has expired")
    doors = (_of_line(each, key, entry) for each in _doors(found, key.doors))
    return Rights(
        name=key.name,
        title=f"the ssh key {fingerprint} {entry.comment}".rstrip() + f", by key {key.name}",
        who=(f"who has that ssh key, which stands in {file}, line {entry.line}",),
        packet=tuple(packet),
        doors=tuple(doors),
        when=tuple(when),
        lets_in=tuple(lets_in),
        leases=f"{key.leases} at once; {key.leases_in_all} with all others of key {key.name}",
        against=tuple(against),
        doubts=(),
        place=f"{file}:{entry.line}",
        fingerprint=fingerprint,
    )


def fingerprint_of(entry: Authorized) -> str:
    """As `ssh-keygen -l` shows it."""
    return fingerprint_text(entry.key.fingerprint)


# --- doors --------------------------------------------------------------------------------------------


def _doors(found: Configuration, names: Sequence[str]) -> Iterator[Door]:
    return (door for door in found.doors if door.name in names)


def _door(
    door: Door, most: Sequence[float | None], demands: Sequence[str] = (), against: str = ""
) -> DoorRight:
    longest = min((door.most, *(each for each in most if each is not None)))
    ports = tuple(map(str, door.ports))
    return DoorRight(door.name, ports, min(door.lease, longest), longest, tuple(demands), against)


def _sealed(door: Door, most: Sequence[float | None], against: str = "") -> DoorRight:
    if not ASKED_FOR.fullmatch(door.name):
        against = "no sealed packet can ask for it: it has no room for such a name"
    return _door(door, most, tuple(_demands(door)), against)


def _demands(door: Door) -> Iterator[str]:
    if door.sealed.touch:
        yield "a token must have been touched"
    if door.sealed.devices is Devices.KNOWN:
        yield "from devices that were enrolled"
    match door.sealed.observed:
        case Observed.NEVER:
            yield "the knock must name the address to let in"
        case Observed.CLOCK:
            yield "a knock that names no address lets in who sent it, while the gate is sure of the time"
        case Observed.ALWAYS:
            yield "a knock that names no address lets in who sent it, also without a clock"


def _of_all(door: Door, key: SshKeys, files: Sequence[FileState]) -> DoorRight:
    entries = [entry for each in files for entry in each.keys]
    against = ""
    if door.sealed.touch and entries and not any(entry.key.kind.on_token for entry in entries):
        against = "a token must have been touched, and none of its keys is on one"
    return _sealed(door, (key.longest,), against)


def _of_line(door: Door, key: SshKeys, entry: Authorized) -> DoorRight:
    options, against = entry.options, ""
    if options.doors is not None and door.name not in options.doors:
        against = "doors= on its line leaves it out"
    elif door.sealed.touch and not entry.key.kind.on_token:
        against = "a token must have been touched, and this key is on none"
    return _sealed(door, (key.longest, options.longest), against)


# --- the rest -----------------------------------------------------------------------------------------


def _packet(found: Configuration) -> Iterator[str]:
    if found.sealed is None:
        raise AssertionError("a gate with ssh keys hears sealed packets")
    yield f"a sealed one, to {found.sealed.port}, made with a card of this gate that has not ended"


def _networks(key: Key) -> str:
    return ", ".join(map(network_text, key.sources)) if key.sources else "any address"


def _when(key: Key) -> Iterator[str]:
    if key.hours:
        yield f"{hours_in_words(key)}; leases end with these hours"
    if key.expires:
        yield f"until {key.expires:%Y-%m-%d %H:%M:%SZ}"


def _against(key: Key, now: float) -> Iterator[str]:
    if key.revoked:
        yield "it is revoked"
    if key.expires and key.expires.timestamp() <= now:
        yield f"it has expired, on {key.expires:%Y-%m-%d at %H:%M:%SZ}"
    hours = hours_of(key)
    if hours and not hours.has(now):
        yield f"it is {hours.shown(now)} ({key.hours_in or 'local time'}), which is none of its hours"


def _has_ended(entry: Authorized, now: float) -> bool:
    return entry.options.expires is not None and now >= entry.options.expires + 1


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))


def _keys(number: int) -> str:
    return "1 key" if number == 1 else f"{number or 'no'} keys"


def door_in_words(each: DoorRight) -> str:
    """``ssh (tcp/22), for 15s, or up to 10m where it asks for that; a token must have been touched``."""
    name = f"{each.door} ({', '.join(each.ports)})" if each.ports else each.door
    if each.against:
        return f"NOT {name}: {each.against}"
    lease = f", for {spell(each.lease)}"
    if each.most > each.lease:
        lease += f", or up to {spell(each.most)} where it asks for that"
    return "; ".join((name + lease, *each.demands))
