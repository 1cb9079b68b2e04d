"""Rules that send a port on to another one: ways past a door.

The gate sees the port that stands on the wire, before DNAT and REDIRECT. Who redirects 7777 to 22 has
built a second way to what the door of port 22 guards, and who redirects a door's port to 9999 has left
9999 itself open. ``check`` tells about both; here is only what the rules say.

A rule is a list of expressions that load registers and compare them (linux/netfilter/nf_tables.h). We
follow protocol and destination port up to the expression that gives a new port. Other conditions only
narrow a rule down, so they are passed over. Rules of nft and of iptables-nft look alike here, while a
listing, as text or JSON, of an iptables rule may not tell where it leads.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from knockgate.firewall.channel import Channel
from knockgate.firewall.netlink import INET, fields, items, number, text
from knockgate.firewall.nfmessages import bounds_of, chain_of, chains, elements, rule_of, rules
from knockgate.model import Port, Protocol

__all__ = ["Redirect", "Unread", "find_redirects", "redirects_of"]

#: The keys of a set by its name, and whether each only ends the range that the key below it began.
Contents = Callable[[str], Sequence[tuple[bytes, bool]]]

_META_L4PROTO, _TRANSPORT_HEADER, _NETWORK_HEADER = 16, 2, 1
_EQUAL, _LESS_EQUAL, _GREATER_EQUAL, _OUTSIDE = 0, 3, 5, -1
_DNAT, _NFPROTO_IPV4, _LOCAL_OUT = 1, 2, 3
_PORT_GIVEN = 2  # NF_NAT_RANGE_PROTO_SPECIFIED
#: Conditions of iptables that look at ports in a way of their own.
_PORT_MATCHES = ("multiport", "tcp", "udp")

_FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}
_LEGACY = (Path("/proc/net/ip_tables_names"), Path("/proc/net/ip6_tables_names"))


class Redirect(NamedTuple):
    """What arrives at one of ``ports`` goes on to ``target``."""

    protocol: Protocol
    ports: range  #: on the wire
    target: Port
    address: bytes  #: where it is sent; empty for this host
    where: str  #: such as ``table ip nat, chain PREROUTING``


class Unread(Exception):
    """A rule sends packets on in a way that is not understood here; the text says what is known."""


class _Part(NamedTuple):
    """What a register holds of a packet: its protocol, or bytes that have the destination port in them."""

    is_port: bool
    skip: int  #: where in the register's bytes it begins
    size: int  #: of all the bytes that are compared


class _Target(NamedTuple):
    port: int | None  #: None: it cannot be told
    address: bytes


_PORT = _Part(is_port=True, skip=0, size=2)
_PROTOCOL = _Part(is_port=False, skip=0, size=1)
_ANY = [range(65536)]


def find_redirects(channel: Channel, besides: str) -> tuple[list[Redirect], list[str]]:
    """What all rules do to ports, except those of the table ``inet NAME``, and what cannot be read of it.

    Packets of this host's own (hook output) do not count. OSError where the kernel refuses to tell.
    """
    found: list[Redirect] = []
    unread = [
        f"{file.name.removesuffix('_names')}: rules of iptables-legacy are not looked at"
        for file in _LEGACY
        # In a user namespace root of it may not read them.
        if os.access(file, os.R_OK) and "nat" in file.read_text().split()
    ]
    own = {chain[:3] for chain in map(chain_of, channel.list(chains(), 0)) if chain.hook == _LOCAL_OUT}
    for answer in channel.list(rules(), 0):
        family, table, chain, expressions = rule_of(answer)
        if (family, table) == (INET, besides) or (family, table, chain) in own:
            continue
        where = f"table {_FAMILIES.get(family, family)} {table}, chain {chain}"

        try:
            found += redirects_of(expressions, family, partial(_contents, channel, family, table), where)
        except Unread as error:
            unread.append(str(error))
    return found, unread


def _contents(channel: Channel, family: int, table: str, name: str) -> list[tuple[bytes, bool]]:
    try:
        listing = channel.list(elements(table, name), family)
    except FileNotFoundError:
        raise Unread(f"table {_FAMILIES.get(family, family)} {table}: changed while it was read") from None
    return [bound for part in listing for bound in bounds_of(part)]


def redirects_of(expressions: bytes, family: int, contents: Contents, where: str) -> list[Redirect]:
    """What the rule of these expressions (payload of NFTA_RULE_EXPRESSIONS) does to ports.

    Nothing if it leaves them as they are. Raises Unread.
    """
    rule = _Rule(family, contents)
    for expression in items(expressions):
        parts = fields(expression)
        rule.step(text(parts.get(1)), fields(parts.get(2, b"")))
    if not rule.target:
        return []
    port, address = rule.target
    if not port:
        raise Unread(f"{where}: a rule sends packets on; the new port comes from a map or a range")
    if not rule.is_understood or rule.ports == _ANY:
        raise Unread(f"{where}: a rule sends packets on to port {port}; from which ports cannot be read")
    return [
        Redirect(protocol, ports, Port(protocol, port), address, where)
        for protocol in sorted(rule.protocols)
        for ports in rule.ports
    ]


class _Rule:
    """What a rule demands of a packet so far, and what is in its registers."""

    def __init__(self, family: int, contents: Contents) -> None:
        self.protocols = set(Protocol)
        self.ports = list(_ANY)
        self.is_understood = True
        self.target: _Target | None = None
        self._family, self._contents = family, contents
        self._registers: dict[int, _Part | bytes] = {}

    def step(self, name: str, has: dict[int, bytes]) -> None:
        """Follow one expression; ``has`` are its attributes."""
        match name:
            case "meta" if 1 in has and number(has[2]) == _META_L4PROTO:
                self._registers[_register(has[1])] = _PROTOCOL
            case "payload" if 1 in has and (part := _part(*(number(has[kind]) for kind in (2, 3, 4)))):
                self._registers[_register(has[1])] = part
            case "immediate":
                self._registers[_register(has[1])] = _value(has[2])
            case "cmp":
                self._compare(has[1], number(has[2]), _value(has[3]))
            case "range":
                inside = number(has[2]) == _EQUAL
                self._compare(has[1], _GREATER_EQUAL if inside else _OUTSIDE, _value(has[3]))
                self._compare(has[1], _LESS_EQUAL if inside else _OUTSIDE, _value(has[4]))
            case "lookup" if 3 not in has:
                self._look_up(text(has[1]), has[2], is_inverted=bool(number(has.get(5))))
            case "nat" if number(has[1]) == _DNAT:
                address = self._registers.get(_register(has[3])) if 3 in has else b""
                self._send_on(has.get(5), has.get(6), address if isinstance(address, bytes) else b"")
            case "redir":
                self._send_on(has.get(1), has.get(2), b"")
            case "target":
                self.target = _iptables(text(has[1]), number(has[2]), has[3], self._family)
            case "match":
                self.is_understood &= text(has[1]) not in _PORT_MATCHES
            case _:
                # It may load any register. What is compared is loaded just before, so nothing is lost.
                self._registers.clear()

    def _compare(self, register: bytes, operator: int, value: bytes) -> None:
        part = self._registers.get(_register(register))
        if not isinstance(part, _Part):
            return
        if operator == _EQUAL and len(value) == part.size:
            end = part.skip + (2 if part.is_port else 1)
            exact = number(value[part.skip : end])
            self._demand(part, [range(exact, exact + 1)])
        elif part == _PORT and operator == _GREATER_EQUAL:
            self._demand(part, [range(number(value), 65536)])
        elif part == _PORT and operator == _LESS_EQUAL:
            self._demand(part, [range(number(value) + 1)])
        elif part.is_port:
            self.is_understood = False

    def _look_up(self, name: str, register: bytes, *, is_inverted: bool) -> None:
        part = self._registers.get(_register(register))
        if isinstance(part, _Part) and part in (_PORT, _PROTOCOL) and not is_inverted:
            self._demand(part, _ranges(self._contents(name)))
        elif any(isinstance(each, _Part) and each.is_port for each in self._registers.values()):
            self.is_understood = False  # the port is one of several fields of the key

    def _demand(self, part: _Part, ranges: list[range]) -> None:
        if part.is_port:
            self.ports = [
                common
                for old in self.ports
                for new in ranges
                if (common := range(max(old.start, new.start), min(old.stop, new.stop)))
            ]
        else:
            self.protocols = {each for each in self.protocols if any(each in one for one in ranges)}

    def _send_on(self, least: bytes | None, most: bytes | None, address: bytes) -> None:
        """Registers with the new port; without them the port stays as it is."""
        if least is None:
            return
        low = self._registers.get(_register(least))
        high = low if most is None else self._registers.get(_register(most))
        known = isinstance(low, bytes) and low == high
        self.target = _Target(number(low[:2]) if known and isinstance(low, bytes) else None, address)


def _iptables(name: str, revision: int, info: bytes, family: int) -> _Target | None:
    """The targets DNAT and REDIRECT of iptables, as linux/netfilter/nf_nat.h has them."""
    if name not in ("DNAT", "REDIRECT"):
        return None
    if revision == 0 and family == _NFPROTO_IPV4:  # nf_nat_ipv4_multi_range_compat
        layout, length = "=4xI4s4s", 4
    else:  # nf_nat_range, nf_nat_range2
        layout, length = "=I16s16s", 16 if family != _NFPROTO_IPV4 else 4
    flags, address, _ = struct.unpack_from(layout, info)
    low, high = struct.unpack_from(">HH", info, struct.calcsize(layout))
    if not flags & _PORT_GIVEN:
        return None
    return _Target(low if low == high else None, b"" if name == "REDIRECT" else address[:length])


def _part(base: int, offset: int, size: int) -> _Part | None:
    if base == _TRANSPORT_HEADER and offset <= 2 and offset + size >= 4:
        return _Part(is_port=True, skip=2 - offset, size=size)
    if (base, offset, size) == (_NETWORK_HEADER, 9, 1):  # protocol of IPv4
        return _PROTOCOL
    return None


def _ranges(keys: Sequence[tuple[bytes, bool]]) -> list[range]:
    """Keys of a set; where some end a range, each of the others goes on to the next that does."""
    if not any(is_end for _, is_end in keys):
        return [range(number(key), number(key) + 1) for key, _ in keys]
    found: list[range] = []
    start: int | None = None
    for bound, begins in sorted((number(key), not is_end) for key, is_end in keys):
        if begins:
            start = bound
        elif start is not None:
            found.append(range(start, bound))
            start = None
    return found if start is None else [*found, range(start, 65536)]


def _register(payload: bytes) -> int:
    """The number of a register of 4 bytes; the old ones of 16 bytes, 1 to 4, begin at 8."""
    register = number(payload)
    return 4 + 4 * register if 1 <= register <= 4 else register


def _value(payload: bytes) -> bytes:
    return fields(payload).get(1, b"")
