"""The rules of others, as the kernel tells of them over netlink: hooks, jumps, and what rules do to packets.

Only what could get in the gate's way is kept: an accept elsewhere ends nothing of ours. A chain counts as
run from every hook of its table from which jumps lead to it. Where a rule jumps through a map, it may be to
any chain of the table.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from knockgate.errors import Unavailable
from knockgate.firewall.channel import NETLINK_NETFILTER, Channel
from knockgate.firewall.names import TABLE
from knockgate.firewall.netlink import INET, Request, Verb, fields, items, number, text
from knockgate.firewall.nfmessages import chain_of, chains, rule_of, rules
from knockgate.firewall.redirects import Redirect, find_redirects

__all__ = ["FAMILIES", "Act", "Chain", "Rules", "acts_of", "read_rules"]

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_GET_FLOWTABLE = Verb.GET_CHAIN - 4 + 23  # NFT_MSG_GETFLOWTABLE of the same subsystem
_DUMP = 0x300
#: Where addresses and ports are, as (header, offset, size): of IPv4, of IPv6, of TCP and UDP.
_LOOKED_AT = {(1, 12, 4), (1, 16, 4), (1, 8, 16), (1, 24, 16), (2, 0, 2), (2, 2, 2), (2, 0, 4)}
_VERBS = {"notrack": "notrack", "fwd": "fwd", "tproxy": "tproxy", "nat": "nat", "redir": "nat"}
_TARGETS = {"NOTRACK": "notrack", "TPROXY": "tproxy", "DNAT": "nat", "REDIRECT": "nat"}
_NO_TRACK = 1  # XT_CT_NOTRACK, in the first two bytes of what the target CT is told

Place = tuple[int, str, str]  #: family, table, chain


class Chain(NamedTuple):
    """A chain that hangs on a hook."""

    family: int
    table: str
    name: str
    hook: int
    priority: int
    kind: str  #: filter, nat or route
    drops: bool  #: what no rule takes

    def __str__(self) -> str:
        return f"table {FAMILIES.get(self.family, self.family)} {self.table}, chain {self.name}"


class Act(NamedTuple):
    """What a rule of a chain does: ``notrack``, ``fwd``, ``rewrite``, ``tproxy`` or ``nat``."""

    verb: str
    chain: Chain  #: from whose hook


class Rules(NamedTuple):
    """What others have loaded."""

    chains: list[Chain]
    acts: list[Act]  #: each once
    flowtables: list[str]
    redirects: list[Redirect]
    unread: list[str]  #: rules that send packets on in a way that is not understood


def read_rules() -> Rules:
    """All rules but those of our table. Raises Unavailable."""
    try:
        channel = Channel(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
    except OSError as error:
        raise Unavailable(f"no socket to nf_tables: {error.strerror}") from None
    try:
        return _read(channel)
    except PermissionError:
        raise Unavailable("no right to read the rules", hint="run it as root") from None
    except OSError as error:
        raise Unavailable(f"nf_tables refuses: {error.strerror}") from None
    finally:
        channel.close()


def _read(channel: Channel) -> Rules:
    bases: dict[Place, Chain] = {}
    for answer in channel.list(chains(), 0):
        known = chain_of(answer)
        has = fields(answer.body)
        hook = fields(has.get(4, b""))
        if known.hook is not None and (known.family, known.table) != (INET, TABLE):
            (priority,) = struct.unpack(">i", hook.get(2, bytes(4)))
            drops = 5 in has and not number(has[5])
            chain = Chain(
                known.family, known.table, known.name, known.hook, priority, text(has.get(7)), drops
            )
            bases[known.family, known.table, known.name] = chain

    does: dict[Place, set[str]] = {}
    jumps: dict[Place, set[str]] = {}
    for answer in channel.list(rules(), 0):
        rule = rule_of(answer)
        if (rule.family, rule.table) == (INET, TABLE):
            continue
        place = (rule.family, rule.table, rule.chain)
        verbs, targets = acts_of(rule.expressions)
        does.setdefault(place, set()).update(verbs)
        jumps.setdefault(place, set()).update(targets)

    acts = {
        Act(verb, chain)
        for place, verbs in does.items()
        if verbs
        for chain in _entries(place, bases, jumps)
        for verb in verbs
    }
    redirects, unread = find_redirects(channel, TABLE)
    return Rules(sorted(bases.values()), sorted(acts), sorted(_flowtables(channel)), redirects, unread)


def _flowtables(channel: Channel) -> Iterator[str]:
    for answer in channel.list(Request(_GET_FLOWTABLE, _DUMP, b""), 0):
        has = fields(answer.body)
        yield f"{FAMILIES.get(answer.family, answer.family)} {text(has.get(1))} {text(has.get(2))}"


def acts_of(expressions: bytes) -> tuple[set[str], set[str]]:
    """What the rule of these expressions does that ``Act`` knows, and the chains that it jumps to.

    A jump through a map is one to the chain ``*``.
    """
    verbs, targets = set(), set()
    for expression in items(expressions):
        parts = fields(expression)
        name, has = text(parts.get(1)), fields(parts.get(2, b""))
        if name in _VERBS and not (name == "nat" and number(has.get(1)) != 1):  # 1: DNAT
            verbs.add(_VERBS[name])
        elif name == "target":
            target = text(has.get(1))
            if target in _TARGETS:
                verbs.add(_TARGETS[target])
            elif target == "CT" and int.from_bytes(has.get(3, b"")[:2], "little") & _NO_TRACK:
                verbs.add("notrack")
        elif (
            name == "payload"
            and 5 in has
            and tuple(number(has.get(kind)) for kind in (2, 3, 4)) in _LOOKED_AT
        ):
            verbs.add("rewrite")
        elif name == "immediate":
            verdict = fields(fields(has.get(2, b"")).get(2, b""))
            if 2 in verdict:
                targets.add(text(verdict[2]))
        elif name == "lookup" and number(has.get(3)) == 0 and 3 in has:  # into the register of verdicts
            targets.add("*")
    return verbs, targets


def _entries(place: Place, bases: dict[Place, Chain], jumps: dict[Place, set[str]]) -> Iterable[Chain]:
    """The chains with a hook from which a packet may come to that one."""
    if place in bases:
        return [bases[place]]
    family, table, name = place
    reaching, grown = {name}, True
    while grown:
        more = {
            chain
            for (other, their, chain), targets in jumps.items()
            if (other, their) == (family, table) and (targets & reaching or "*" in targets)
        }
        grown = not more <= reaching
        reaching |= more
    return [
        chain
        for (other, their, name), chain in bases.items()
        if (other, their) == (family, table) and name in reaching
    ]
