"""A knock that is one packet of our own: sealed to a gate, signed with an SSH key."""

from __future__ import annotations

import contextlib
import os
import time
from functools import cached_property
from typing import NamedTuple

from knockgate.cli.knocking.attempt import Attempt
from knockgate.cli.knocking.signing import Keys, fingerprint, key_facts, key_in_words, needs_in_words
from knockgate.cli.knocking.whom import Whom
from knockgate.cli.terminal import advise, say
from knockgate.client import device, rights, route, sealed
from knockgate.client.allow import Network
from knockgate.client.device import Ticket
from knockgate.client.identities import Candidate
from knockgate.client.profiles import SealedProfile
from knockgate.client.trusting import read_card
from knockgate.client.wait import State
from knockgate.clock import KernelClock
from knockgate.config.readers import Reliance
from knockgate.config.toml import spell
from knockgate.errors import ConfigError, KnockgateError
from knockgate.model import Moment
from knockgate.spa.sealed import SourceKind, Suite

__all__ = ["SealedAttempt"]

_SHARE = 1.0
"""Seconds for each key, while there is another one. A door opens a round trip and some milliseconds after its
knock, and ssh's users have a key or two."""
_SLOW = 45.0
"""Seconds from a knock's date until it is signed; after 60 a gate with a clock does not take it any more."""
_SUITES = {Suite.XWING: "x-wing", Suite.X25519: "x25519"}


class _Knock(NamedTuple):
    """One datagram, made."""

    candidate: Candidate
    ticket: Ticket
    moment: Moment  #: when it was dated
    payload: bytes

    @property
    def ahead(self) -> float:
        """Seconds by which its date is later than the clock was."""
        return max(0.0, self.ticket.date.issued / 1e9 - self.moment.now)


class SealedAttempt(Attempt):
    """One datagram; with ``wait`` one more for each other key, until the door opens."""

    what = "the packet"

    def __init__(self, profile: SealedProfile) -> None:
        """Raises ConfigError where the card is none or others may write it, or no packet can ask for that."""
        self._plan = profile
        rights.check(profile.card)
        self._card = read_card(profile.card)
        if rights.others_read(profile.card):
            say(f"{profile.card} can be read by others, and a card is half a secret")
            advise(f"chmod 600 {profile.card}")
        super().__init__(profile)
        self._clock = KernelClock(Reliance.AUTO)
        self._suite = Suite.X25519 if profile.small else Suite.XWING
        self._whom = Whom(profile.allow, self.address, self.source, profile.source)
        self._whom.warn()
        if self._whom.found:
            self._check()
        self._knocks: list[_Knock] = []
        self._sockets = contextlib.ExitStack()

    @cached_property
    def _keys(self) -> Keys:
        return Keys(self._plan.ssh_host or self._plan.host, self._plan.identity)

    # --- whom to let in -------------------------------------------------------------------------------

    def _source(self) -> tuple[SourceKind, bytes]:
        is_network = isinstance(self._plan.allow, Network)
        return sealed.source_kind(self._whom.found, network=is_network), self._whom.found or b""

    def _check(self) -> None:
        try:
            sealed.check(self._plan.doors, *self._source(), int(self._plan.lease or 0))
        except ConfigError as error:
            hint = "-a ADDRESS says whom to let in; -s lets in whoever sends the packet"
            raise ConfigError(error.message, hint=hint) from None

    # --- the knock ------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Find an address and a key, and make the first packet; its date is spent from then on."""
        self._whom.find()
        self._check()
        if not self._make():
            raise self._keys.none_left()

    def obstacle(self) -> KnockgateError | None:
        """No key that could sign."""
        return None if self._keys.waiting else self._keys.none_left()

    def _make(self) -> bool:
        """The packet of the next key that signs; False: there is no such key."""
        while candidate := self._keys.take():
            moment = self._clock.read()
            ticket = device.next_date(
                device.default_path(),
                self._card.gate,
                now=round(moment.now * 1e9),
                machine=device.machine_id(),
                fresh_secret=lambda: os.urandom(device.SECRET),
            )
            if ticket.renewed:
                say("the clock was set back more often than a knock can say: this is a new device now")
                advise("to every gate; a door that takes known devices only has to be told of it")
            try:
                payload = self._sealed(candidate, ticket)
            except KnockgateError as error:
                self._keys.failed(candidate, error)
            else:
                self._knocks.append(_Knock(candidate, ticket, moment, payload))
                self._warn_of_age()
                return True
        return False

    def _warn_of_age(self) -> None:
        age = self._clock.read().now - self._knocks[-1].moment.now
        if age >= _SLOW:
            say(
                f"it took {age:.0f} s to sign the knock: a gate with a clock takes it for 60 s after its date"
            )

    def _sealed(self, candidate: Candidate, ticket: Ticket) -> bytes:
        source, address = self._source()
        return sealed.make(
            self._card,
            candidate.key,
            lambda message: self._keys.sign(candidate, message),
            doors=self._plan.doors,
            source=source,
            address=address,
            lease=int(self._plan.lease or 0),
            ticket=ticket,
            suite=self._suite,
        )

    def send(self) -> float:
        """Send the packet that was made last."""
        payload = self._knocks[-1].payload
        left_at, sock = route.sent(self.address, self._plan.port, payload, source=self._plan.source)
        if self._plan.wait:
            self._sockets.callback(sock.close)  # what routers say of the packet, the kernel takes meanwhile
        else:
            sock.close()
        return left_at

    def wait(self, left_at: float) -> None:
        """Wait, and try the other keys meanwhile."""
        left = self._plan.timeout
        with self._sockets:
            while True:
                others = len(self._keys.waiting)
                share = min(_SHARE, left / (others + 1)) if others else left
                if self.watch(left_at, share) or not others:
                    return
                left -= share
                if self._make():
                    left_at = self.send()

    # --- what is told of it ---------------------------------------------------------------------------

    def asked(self) -> dict[str, object]:
        """What is in the packet and around it."""
        plan = self._plan
        return {
            "sealed": {
                "gate": self._card.fingerprint,
                "port": str(plan.port),
                "doors": list(plan.doors),
                "allow": self._whom.text(),
                "allow_from": self._whom.by,
                "lease": plan.lease,
                "suite": _SUITES[self._suite],
                "bytes": self._suite.length,
                "device": "new" if self._is_new_device() else "known",
                "keys": [key_facts(each) for each in self._candidates()],
                "skipped": [
                    {"name": each.name, "where": each.where.value, "why": each.why}
                    for each in self._keys.skipped
                ],
            }
        }

    def _candidates(self) -> list[Candidate]:
        """Whose knocks were sent; before, those that will be tried."""
        return [each.candidate for each in self._knocks] or self._keys.waiting

    def _is_new_device(self) -> bool:
        if self._knocks:
            return self._knocks[0].ticket.is_new
        return not device.knows(device.default_path(), self._card.gate)

    def line(self, where: str) -> str:
        """The same in words."""
        origin = f"from {self.source}" if self.source else "but there is no route"
        does = "sent a" if self.sent else "would send a" if self._keys.waiting else "would not send the"
        line = f"{does} sealed knock to {where}, {self._plan.port}, {origin}: {self._request()}"
        return f"{line}\n  {self._signed_by()}" if self.sent else "\n  ".join([line, *self._preview()])

    def _request(self) -> str:
        lease = f", for {spell(self._plan.lease)}" if self._plan.lease else ""
        return f"{', '.join(self._plan.doors)} for {self._whom.words()}{lease}"

    def _signed_by(self) -> str:
        others = len(self._knocks) - 1
        before = f", after {others} other key{'s' if others > 1 else ''}" if others else ""
        return f"signed with {key_in_words(self._knocks[-1].candidate)}{before}"

    def _preview(self) -> list[str]:
        """What a dry run can say without a signature and a date."""
        before = "has not knocked" if self._is_new_device() else "has knocked"
        gate = f"the gate {self._card.fingerprint}, at which this device {before} before"
        lines = [f"{self._suite.length:,} bytes ({_SUITES[self._suite]}) for {gate}"]
        for number, each in enumerate(self._keys.waiting):
            needs = needs_in_words(each)
            first = "signed with" if number == 0 else "  or, while the door stays shut,"
            lines.append(f"{first} {key_in_words(each)}{f', which {needs}' if needs else ''}")
        return [*lines, *self._not_used(), *([] if self._keys.waiting else ["no key signs"])]

    def _not_used(self) -> list[str]:
        return [f"not used: {each.name}: {each.why}" for each in self._keys.skipped]

    # --- where the door stays shut --------------------------------------------------------------------

    def diagnosis(self) -> dict[str, object]:
        """All that this side knows about a knock that came to nothing."""
        moment, last = self._clock.read(), self._knocks[-1]
        mtu, room = self._room() or (None, None)
        return {
            "clock": _utc(moment.now),
            "synchronised": moment.synchronised,
            "ahead": round(max(each.ahead for each in self._knocks), 3),
            "era": last.ticket.date.era,
            "mtu": mtu,
            "room": room,
            "explain": _EXPLAIN,
            "look_for": [fingerprint(each.candidate.key) for each in self._knocks],
        }

    def explain(self, state: State) -> None:
        """Say what this side knows, and what to ask the host's admin for."""
        say(self._clock_line())
        say(f"asked for {self._request()}{self._whom.why()}")
        for each in self._knocks:
            say(f"signed with {key_in_words(each.candidate)}")
        for text in self._not_used():
            say(text)
        say(self._size_line())
        if self._is_new_device():
            say("this device is new to the gate: a door that takes known devices only has to be told of it")
        names = " or ".join(fingerprint(each.candidate.key) for each in self._knocks)
        hint = f"at {self._plan.host}: {_EXPLAIN} has the reason, under {names} if the gate knows that key"
        if state == "closed":
            hint = f"the port answers, but refuses: does something listen there? If so, {hint}"
        elif self._suite is Suite.XWING:
            small = "the packet was too large for the way: --small"
            hint = small if self._is_too_large() else f"{hint}; if it has none, perhaps {small}"
        advise(hint)

    def _clock_line(self) -> str:
        moment = self._clock.read()
        doubt = "" if moment.synchronised else ", and nothing keeps it right"
        line = f"our clock says {_utc(moment.now)} UTC{doubt}; a gate with a clock wants the same to a minute"
        ahead = max(each.ahead for each in self._knocks)
        if ahead >= 1:
            line += f"; the knock is dated {ahead:.0f} s later, to come after the one before it"
        if era := self._knocks[-1].ticket.date.era:
            line += f"; it was set back by more than a minute {f'{era} times' if era > 1 else 'once'}"
        return line

    def _room(self) -> tuple[int, int] | None:
        """The MTU of the way there, and what it leaves for a datagram, as far as is known by now."""
        mtu = route.mtu(self.address, self._plan.source)
        return None if mtu is None else (mtu, route.room(mtu, self.address))

    def _is_too_large(self) -> bool:
        known = self._room()
        return known is not None and known[1] < self._suite.length

    def _size_line(self) -> str:
        known = self._room()
        carries = "nobody here knows what the way there carries"
        if known is not None:
            carries = f"the way there carries {known[1]:,} (MTU {known[0]})"
        return f"the packet has {self._suite.length:,} bytes ({_SUITES[self._suite]}); {carries}"


_EXPLAIN = "sudo knockgate explain --last 5"


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
