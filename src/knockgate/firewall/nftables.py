"""The table in the kernel: rules by libnftables, leases by netlink, both over one socket.

They share the socket because of ownership. A table may belong to a socket (flag *owner*, Linux 5.12):
nobody else can change it then, and somebody's ``nft flush ruleset`` passes it by. With *persist*
(Linux 6.9) it outlives its owner, with its leases and rules, and waits for the next one. So

* a table is made with both flags or with none; owner alone would take it away with the process;
* the flags are asked for in a message of ours, since nft 1.0.6 has no word for persist, and the line
  that declares the table is then left out of a rule set: it would take the flags back, and is refused;
* a table that was made without the flags cannot get them. It is used as it is, unowned;
* where several processes want it, the first has it. The others may look, and are refused changes.
"""

from __future__ import annotations

import errno
import math
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from knockgate.errors import Unavailable
from knockgate.firewall import listing, nfmessages
from knockgate.firewall.channel import Channel
from knockgate.firewall.copies import LeaseCopy
from knockgate.firewall.doorway import PAUSED, SHADOW_KEPT, SHADOWED
from knockgate.firewall.libnftables import NUMERIC_PROTOCOLS, STATELESS, TERSE, Libnftables
from knockgate.firewall.names import LEASE_SETS, TABLE
from knockgate.firewall.redirects import Redirect, find_redirects
from knockgate.firewall.watch import Watch
from knockgate.model import Lease, Pause, Port, Shadow, Shadowed, Source

__all__ = ["Nftables"]

_DECLARATION = f"add table inet {TABLE}\n"
_PACKET_PATH, _PACKET, _HAND = "kernel sequence", "packet", "hand"
#: Leases that are ended in one transaction, since more do not fit into a datagram everywhere. Up to so
#: many are looked for one by one; for more it takes less time to list all that are live.
_AT_ONCE = 1000
#: Deleting what is not there fails as a whole, and a lease may end by itself after we have looked.
_TRIES = 10


class Nftables:
    """Satisfies ``world.Firewall`` with nf_tables. A context manager; leases and rules outlive it.

    Raises Unavailable, with a hint, where the library, a right or the kernel's support is missing.
    """

    def __init__(self, *, own: bool = True) -> None:
        """With ``own``, ``load`` makes the table this process's own as long as it lives, if possible."""
        self._own = own
        self._nft = Libnftables()
        self._channel = Channel(self._nft.socket())

    # --- the table ---

    @property
    def owned(self) -> bool:
        """Whether the table is ours alone now. If not, others may remove it: ``watch``."""
        table = self._table()
        return table is not None and table.owner == self._channel.portid

    def is_loaded(self) -> bool:
        """Whether the table is there."""
        return self._table() is not None

    def load(self, ruleset: str) -> None:
        """Put a rule set in force, all of it or nothing; live leases stay."""
        self._refuse_foreign()
        before = self._table()
        claimed = self._own and self._claim()
        if claimed or (before and before.flags & nfmessages.PERSIST):
            ruleset = ruleset.replace(_DECLARATION, "", 1)
        try:
            self._run(ruleset)
        except Unavailable:
            if claimed and not before:
                self.unload()
            raise

    def unload(self) -> None:
        """Take the table away, with its leases. Without a table it does nothing."""
        self._refuse_foreign()
        try:
            self._channel.change([nfmessages.delete_table(TABLE)])
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise self._unavailable(error) from error

    def text(self) -> str:
        """The rules in force, without leases, as text that ``load`` takes; empty without a table."""
        if not self.is_loaded():
            return ""
        table = f"inet {TABLE}"
        flags = STATELESS | NUMERIC_PROTOCOLS
        # Asked for by name, nft 1.0.6 fetches every lease of the table to print none of them.
        structure = self._run("list ruleset inet", flags | TERSE)
        return listing.commands(
            structure, lambda word, name: self._run(f"list {word} {table} {name}", flags), table
        )

    def chains(self) -> set[str]:
        """Names of the table's chains; none without a table."""
        try:
            found = map(nfmessages.chain_of, self._channel.list(nfmessages.chains()))
        except OSError as error:
            raise self._unavailable(error) from error
        return {chain.name for chain in found if chain.table == TABLE}

    def in_force(self) -> int | None:
        """The mark of the configuration whose rules are in force (``ruleset.mark_of``).

        None where there are none, be it because the table is not there or because somebody emptied it.
        """
        marks = [int.from_bytes(each.key, sys.byteorder) for each in self._elements("configuration")]
        try:
            rules = map(nfmessages.rule_of, self._channel.list(nfmessages.rules()))
        except OSError as error:
            raise self._unavailable(error) from error
        guarding = any(rule.table == TABLE and rule.chain == "guard" for rule in rules)
        return marks[0] if guarding and len(marks) == 1 else None

    def watch(self) -> Watch:
        """Tells when somebody else removes the table; close it when it is no longer needed."""
        return Watch(TABLE, self.is_loaded, self._channel.portid)

    def copy(self) -> LeaseCopy:
        """Where leases can be copied to; nothing is in it yet."""
        return LeaseCopy(self._channel)

    def redirects(self) -> tuple[list[Redirect], list[str]]:
        """Ports that rules of others send on to other ports, and what could not be read of such rules."""
        try:
            return find_redirects(self._channel, TABLE)
        except OSError as error:
            raise self._unavailable(error) from error

    # --- leases ---

    def open(self, ports: Sequence[Port], source: Source, seconds: float, by: str) -> None:
        """Begin or renew the leases of ``source`` for all of ``ports``, in one transaction.

        Adding an element that is there does not renew its time, and deleting one that is not there
        fails: so add, delete, add. A packet's leases last as long as it asked for, so they are kept beside
        those by hand, and none is made shorter.
        """
        name = LEASE_SETS[len(source)][-1 if by in (_HAND, _PACKET) else 0]
        milliseconds = max(1, round(seconds * 1000))
        keys = [nfmessages.key_of(port, source) for port in ports]
        if by == _PACKET and not (keys := [key for key in keys if self._left(name, key) < milliseconds]):
            return
        add = nfmessages.add_elements(TABLE, name, keys, milliseconds, "" if by == _PACKET_PATH else by)
        try:
            self._channel.change([*add, *nfmessages.delete_elements(TABLE, name, keys), *add])
        except OSError as error:
            raise self._unavailable(error) from error

    def close(self, ports: Sequence[Port], sources: Iterable[Source]) -> int:
        """End these leases, whoever gave them; returns how many there were. In transactions of 1000."""
        wanted, whose = set(ports), set(sources)
        if len(wanted) * len(whose) > _AT_ONCE:
            keys = [
                (name, element.key)
                for length, names in LEASE_SETS.items()
                for name in names
                for element in self._elements(name)
                if (known := nfmessages.lease_of(element.key, length))
                and known[0] in wanted
                and known[1] in whose
            ]
        else:
            keys = [
                (name, nfmessages.key_of(port, source))
                for source in whose
                for name in LEASE_SETS[len(source)]
                for port in wanted
            ]
        return sum(self._end(keys[start : start + _AT_ONCE]) for start in range(0, len(keys), _AT_ONCE))

    def leases(self) -> list[Lease]:
        """All live leases, in no order; none without a table. One without an end has ``inf`` left."""
        return [
            lease
            for length, names in LEASE_SETS.items()
            for name in names
            for element in self._elements(name)
            if (lease := _lease(element, length, by_hand=name == names[-1]))
        ]

    # --- without a knock ---

    def pause(self, ports: Sequence[Port], seconds: float) -> None:
        """Let everybody in at ``ports`` until ``seconds`` from now, in one transaction; 0: no more."""
        keys = [nfmessages.port_key(port) for port in ports]
        add = nfmessages.add_elements(TABLE, PAUSED, keys, max(1, round(seconds * 1000)), "")
        again = add if seconds > 0 else []
        try:
            self._channel.change([*add, *nfmessages.delete_elements(TABLE, PAUSED, keys), *again])
        except OSError as error:
            raise self._unavailable(error) from error

    def pauses(self) -> list[Pause]:
        """All ports that let everybody in for a time, in no order; none without a table."""
        found = ((nfmessages.port_of(each.key), each) for each in self._elements(PAUSED))
        return [Pause(port, *_times(element)) for port, element in found if port]

    def shadow(self) -> Shadow:
        """What came to the ports that are in shadow."""
        counted = {
            answer: {
                port: each.packets for each in self._elements(name) if (port := nfmessages.port_of(each.key))
            }
            for answer, name in SHADOWED.items()
        }
        sources = [
            Shadowed(known[1], known[0], each.packets, max(0.0, SHADOW_KEPT - _times(each)[0]), answer)
            for answer, name in SHADOWED.items()
            for length, digit in ((4, "4"), (16, "6"))
            for each in self._elements(f"{name}{digit}")
            if (known := nfmessages.lease_of(each.key, length))
        ]
        return Shadow(counted[True], counted[False], sorted(sources, key=lambda each: each.ago))

    # --- the socket ---

    def release(self) -> None:
        """Give library and socket back. The table stays as it is; if it was owned, it waits for an owner."""
        self._channel.close()
        self._nft.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _table(self) -> nfmessages.Table | None:
        try:
            return nfmessages.table_of(self._channel.ask(nfmessages.get_table(TABLE)))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise self._unavailable(error) from error

    def _refuse_foreign(self) -> None:
        """A table of our name with chains, none of which is ``guard``, is somebody else's."""
        chains = self.chains()
        if chains and "guard" not in chains:
            hint = f"see `nft list table inet {TABLE}`; delete it, if nobody needs it"
            raise Unavailable(f"the table inet {TABLE} is there already, and is not ours", hint=hint)

    def _claim(self) -> bool:
        """Make the table ours, new and empty if there is none; False where the kernel does not do that."""
        try:
            self._channel.change([nfmessages.add_table(TABLE, nfmessages.OWNER | nfmessages.PERSIST)])
        except OSError as error:
            # A table without the flags; a kernel that does not know them, such as 6.8 or 5.10.
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return False
            raise self._unavailable(error) from error
        return True

    def _run(self, commands: str, output: int = 0) -> str:
        try:
            return self._nft.run(commands, output)
        except Unavailable as error:
            if "Operation not permitted" in error.message:
                raise self._forbidden() from error
            raise

    def _elements(self, name: str) -> list[nfmessages.Element]:
        try:
            answers = self._channel.list(nfmessages.elements(TABLE, name))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return []
            raise self._unavailable(error) from error
        found = {each.key: each for answer in answers for each in nfmessages.elements_of(answer)}
        return list(found.values())

    def _end(self, keys: Sequence[tuple[str, bytes]]) -> int:
        """Delete those of the (set, key) that are there, in one transaction; returns how many."""
        for _ in range(_TRIES):
            by_set: dict[str, list[bytes]] = {}
            for name, key in keys:
                by_set.setdefault(name, []).append(key)
            requests = [nfmessages.delete_elements(TABLE, name, found) for name, found in by_set.items()]
            try:
                self._channel.change([each for some in requests for each in some])
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise self._unavailable(error) from error
                keys = [(name, key) for name, key in keys if self._has(name, key)]
            else:
                return len(keys)
        raise Unavailable("leases end faster than they can be deleted")

    def _has(self, name: str, key: bytes) -> bool:
        return self._left(name, key) > 0

    def _left(self, name: str, key: bytes) -> float:
        """Milliseconds until it ends; 0 where it is not there, ``inf`` where it never does."""
        try:
            answer = self._channel.ask(nfmessages.get_element(TABLE, name, key))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return 0
            raise self._unavailable(error) from error
        left = [each.left for each in nfmessages.elements_of(answer)]
        return math.inf if None in left else max((each or 0 for each in left), default=math.inf)

    def _unavailable(self, error: OSError) -> Unavailable:
        match error.errno:
            case errno.ENFILE:
                return Unavailable("no room for another lease", hint="raise leases in [gate] of gate.toml")
            case errno.ENOENT:
                return Unavailable("the table is not loaded", hint="knockgate up")
            case errno.EPERM:
                return self._forbidden()
            case _:
                return Unavailable(f"nf_tables refuses: {error.strerror}")

    def _forbidden(self) -> Unavailable:
        """Why it is not permitted: whose table it is can be read by everybody with the right."""
        try:
            table = nfmessages.table_of(self._channel.ask(nfmessages.get_table(TABLE)))
        except OSError:
            return Unavailable(
                "no right to change the firewall", hint="run it as root, or give it CAP_NET_ADMIN"
            )
        return Unavailable(
            f"the table belongs to a knockgate that runs (netlink port {table.owner})",
            hint="that process has to do it, or be stopped first",
        )


def _lease(element: nfmessages.Element, length: int, *, by_hand: bool) -> Lease | None:
    known = nfmessages.lease_of(element.key, length)
    if known is None:
        return None
    port, source = known
    left, lasts = _times(element)
    # The packet path cannot write a comment; who has added an element with nft has often written none.
    return Lease(port, source, left, lasts, element.comment or (_HAND if by_hand else _PACKET_PATH))


def _times(element: nfmessages.Element) -> tuple[float, float]:
    """Seconds (left, given); ``inf`` where it has no end."""
    left, lasts = (math.inf if time is None else time / 1000 for time in (element.left, element.timeout))
    return left, lasts
