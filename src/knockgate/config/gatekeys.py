"""``gate.keys``: the gate's secret keys, and the cards that clients have of them. ``docs/sealed.md``.

::

    incarnation = "32 hex digits"               marks.sqlite has the same, or the gate does not start

    [keys.2026-11-22]                           the newest key is the first
    made = 2026-11-22T10:00:00Z
    ends = 2026-12-22T10:00:00Z                 from then on it is as if it were not there; or no such line
    xwing = "32 bytes in base64"
    x25519 = "32 bytes in base64"

    [keys.2026-11-22.cards.everybody]
    made = 2026-11-22T10:00:00Z
    secret = "32 bytes in base64"

The values here are frozen, and each operation makes a new one; randomness and time are arguments. No secret
is in a message or in a repr.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime as dt
import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knockgate.config import private, readers, writing
from knockgate.config.doors import DOOR_NAME
from knockgate.config.toml import Document, Keys, Reader, Wrong, key, shown, values
from knockgate.errors import ConfigError

if TYPE_CHECKING:
    from knockgate.spa.sealed import GateKey

__all__ = [
    "FILE_NAME",
    "MAX_CARDS",
    "NAME_HINT",
    "CardEntry",
    "GateKeys",
    "KeyEntry",
    "cleared",
    "fresh",
    "load",
    "parse",
    "rekeyed",
    "replacing",
    "revoked",
    "save",
    "text_of",
    "with_card",
]

#: In ``gate.state_directory``.
FILE_NAME = "gate.keys"
#: Of one key: each costs every datagram that comes a hash.
MAX_CARDS = 64
#: Live at once, for the same reason.
_MAX_KEYS = 2
NAME_HINT = "letters, digits, _, . and -, at most 63 of them; the first is a letter, a digit or _"

_LARGEST = 1 << 16  # both keys with all their cards are half of it
_SEED, _INCARNATION = 32, 16
_HEADER = """\
# The secret keys of this gate, and its cards. Whoever has this file can read knocks, and forges none.
# knockgate writes it: knockgate card, knockgate rekey. It and marks.sqlite beside it belong together, live
# and die together: with one of them out of a backup the gate does not start, or takes knocks that it has
# taken before. So do not bring them back; `knockgate rekey --now` makes new ones.
"""


# --- the values ---------------------------------------------------------------------------------------


def _octets(value: object) -> bytes:
    """Not ``shown``: it is a secret, also where it is spelled wrong."""
    if not isinstance(value, str):
        raise Wrong("must be a text in quotes", _DAMAGED)
    try:
        found = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Wrong("is no base64", _DAMAGED) from None
    if len(found) != _SEED:
        raise Wrong(f"has {len(found)} bytes and not {_SEED}", _DAMAGED)
    return found


_DAMAGED = "the file is damaged: knockgate rekey --now makes a new one, and all clients need new cards"
_secret = Reader("32 bytes in base64", _octets)


def _hidden(doc: str) -> Any:  # noqa: ANN401 - a field
    """A secret: a field of the file that is not in the repr."""
    return dataclasses.field(repr=False, metadata={"doc": doc, "reader": _secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class CardEntry:
    """What makes a card one of this key's: its secret."""

    name: str
    made: dt.datetime = key("when it was made", readers.instant)
    ends: dt.datetime | None = key("from then on knocks with it are refused", readers.instant, None)
    secret: bytes = _hidden("32 random bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """The gate's two private keys, and the cards that have their public halves."""

    name: str
    made: dt.datetime = key("when it was made", readers.instant)
    ends: dt.datetime | None = key("from then on knocks for it are refused", readers.instant, None)
    xwing: bytes = _hidden("the seed of the X-Wing key, 32 random bytes")
    x25519: bytes = _hidden("the X25519 key, 32 random bytes")
    cards: tuple[CardEntry, ...] = ()

    def gate_key(self) -> GateKey:
        """What opens knocks, and makes cards."""
        from knockgate.spa.sealed import GateKey  # noqa: PLC0415 - all but this is quick to load

        return GateKey(xwing_seed=self.xwing, x25519_key=self.x25519)

    def live_cards(self, now: float | None) -> Iterator[CardEntry]:
        """Those that have not ended at ``now``, in seconds since 1970; None: nobody knows, so all."""
        return (card for card in self.cards if not _has_ended(card, now))


@dataclass(frozen=True, slots=True, kw_only=True)
class GateKeys:
    """A whole gate.keys; the newest key is the first."""

    incarnation: bytes  #: 16 bytes
    keys: tuple[KeyEntry, ...]

    def live(self, now: float | None) -> Iterator[tuple[KeyEntry, CardEntry]]:
        """What a datagram may be for at ``now``, in seconds since 1970; None: nobody knows, nothing ended."""
        for one in self.live_keys(now):
            yield from ((one, card) for card in one.live_cards(now))

    def live_keys(self, now: float | None) -> Iterator[KeyEntry]:
        """The keys alone, those without a card too."""
        return (one for one in self.keys if not _has_ended(one, now))

    def names(self, now: float | None) -> list[str]:
        """What the live cards are called, each name once."""
        return list(dict.fromkeys(card.name for _, card in self.live(now)))


def _has_ended(entry: KeyEntry | CardEntry, now: float | None) -> bool:
    return now is not None and entry.ends is not None and entry.ends.timestamp() <= now


# --- operations ---------------------------------------------------------------------------------------


def fresh(
    incarnation: bytes, *, xwing: bytes, x25519: bytes, secrets: Mapping[str, bytes], now: dt.datetime
) -> GateKeys:
    """Of a gate that never was: one key, and a card for each name in ``secrets``."""
    cards = tuple(CardEntry(name=name, secret=secret, made=now) for name, secret in secrets.items())
    one = KeyEntry(name=f"{now:%Y-%m-%d}", xwing=xwing, x25519=x25519, made=now, cards=cards)
    return GateKeys(incarnation=incarnation, keys=(one,))


def with_card(
    keys: GateKeys, name: str, secret: bytes, now: dt.datetime, ends: dt.datetime | None = None
) -> GateKeys:
    """One card more, of the newest key. ConfigError where there is one of that name, or no room."""
    if not DOOR_NAME.fullmatch(name):
        raise ConfigError(f"{shown(name)} is no name for a card", hint=NAME_HINT)
    if name in keys.names(now.timestamp()):
        hint = f"knockgate card show {name} prints it; knockgate card revoke {name} ends it"
        raise ConfigError(f"there is a card {name} already", hint=hint)
    newest, *others = keys.keys
    kept = tuple(card for card in newest.cards if card.name != name)  # one that has ended
    if len(kept) >= MAX_CARDS:
        hint = "knockgate card list; one card can be for many people, and tells nothing about any"
        raise ConfigError(f"there are {MAX_CARDS} cards, which is the most", hint=hint)
    card = CardEntry(name=name, secret=secret, made=now, ends=ends)
    newest = dataclasses.replace(newest, cards=(*kept, card))
    return dataclasses.replace(keys, keys=(newest, *others))


def revoked(keys: GateKeys, name: str) -> GateKeys:
    """Without that card, of whichever key. ConfigError where there is none."""
    if name not in (names := keys.names(None)):
        import difflib  # noqa: PLC0415 - only who mistypes needs it

        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names) or 'none'}"
        raise ConfigError(f"there is no card {shown(name)}", hint=hint)
    left = tuple(
        dataclasses.replace(one, cards=tuple(card for card in one.cards if card.name != name))
        for one in keys.keys
    )
    return dataclasses.replace(keys, keys=left)


def rekeyed(
    keys: GateKeys,
    *,
    xwing: bytes,
    x25519: bytes,
    secrets: Mapping[str, bytes],
    now: dt.datetime,
    overlap: dt.timedelta,
) -> GateKeys:
    """A new key before the one there is, which ends after the overlap.

    ``secrets`` has one for each name of ``keys.names(now.timestamp())``: those are the new key's cards. The
    marks go on counting, so the incarnation stays. ConfigError where two keys are live already.
    """
    left = cleared(keys, now)
    if len(left.keys) >= _MAX_KEYS:
        ends = left.keys[-1].ends
        when = f"{ends:%Y-%m-%d %H:%M} UTC" if ends else "no date is given"
        hint = f"the older one ends on {when}; rekey --now ends both at once, and makes new marks"
        raise ConfigError("there are two keys already, a new one and one that is to end", hint=hint)
    ends_of = {card.name: card.ends for _, card in reversed(list(left.live(None)))}
    cards = tuple(
        CardEntry(name=name, secret=secret, made=now, ends=ends_of.get(name))
        for name, secret in secrets.items()
    )
    taken = {one.name for one in left.keys}
    name = next(each for each in _key_names(now) if each not in taken)
    new = KeyEntry(name=name, xwing=xwing, x25519=x25519, made=now, cards=cards)
    end = now + overlap
    old = tuple(
        dataclasses.replace(one, ends=end if one.ends is None else min(one.ends, end)) for one in left.keys
    )
    return dataclasses.replace(left, keys=(new, *old))


def _key_names(now: dt.datetime) -> Iterator[str]:
    yield f"{now:%Y-%m-%d}"
    for number in range(2, 2 + _MAX_KEYS):
        yield f"{now:%Y-%m-%d}-{number}"


def cleared(keys: GateKeys, now: dt.datetime) -> GateKeys:
    """Without what has ended."""
    at = now.timestamp()
    left = tuple(dataclasses.replace(one, cards=tuple(one.live_cards(at))) for one in keys.live_keys(at))
    return dataclasses.replace(keys, keys=left)


# --- the file -----------------------------------------------------------------------------------------


def load(path: Path) -> GateKeys:
    """Read the file; raises ConfigError, whose ``file`` is None where it cannot be read at all."""
    hints = {errno.ENOENT: "knockgate init makes a gate's keys", errno.EACCES: "run it as root"}
    content = private.read(path, _LARGEST, kind="the file with the gate's keys", hints=hints, gates=True)
    try:
        return parse(content.decode(), str(path))
    except UnicodeDecodeError:
        raise ConfigError("is no text in UTF-8", file=str(path), hint=_DAMAGED) from None


def parse(content: str, file: str = FILE_NAME) -> GateKeys:
    """The same from a text; ``file`` is for the messages."""
    document = Document(content, file)
    top = document.only((), document.table, ["incarnation", "keys"])
    incarnation = top.get("incarnation")
    if not isinstance(incarnation, str) or not re.fullmatch(rf"[0-9a-f]{{{2 * _INCARNATION}}}", incarnation):
        raise document.wrong(("incarnation",), "must be 32 hex digits in quotes", _DAMAGED)
    tables = document.only(("keys",), top.get("keys", {}))
    if not tables:
        raise document.wrong(("keys",), "there is no key", _DAMAGED)
    keys = tuple(_key(document, name, table) for name, table in tables.items())
    _no_two_alike(document, keys)
    return GateKeys(incarnation=bytes.fromhex(incarnation), keys=keys)


def _key(document: Document, name: str, table: object) -> KeyEntry:
    place: Keys = ("keys", name)
    given = _named(document, place, table, KeyEntry, besides=("cards",))
    tables = document.only((*place, "cards"), given.pop("cards"))
    if len(tables) > MAX_CARDS:
        raise document.wrong((*place, "cards"), f"{len(tables)} cards", f"{MAX_CARDS} are possible")
    cards = [_named(document, (*place, "cards", each), card, CardEntry) for each, card in tables.items()]
    return KeyEntry(cards=tuple(CardEntry(**card) for card in cards), **given)


def _named(
    document: Document, place: Keys, table: object, schema: type[object], *, besides: Keys = ()
) -> dict[str, Any]:
    """The fields of a table that is called by the last of ``place``."""
    name = place[-1]
    if not DOOR_NAME.fullmatch(name):
        raise document.wrong(place, f"{shown(name)} is no name", NAME_HINT)
    if not isinstance(table, dict):
        raise document.wrong(place, "must be a table", _DAMAGED)
    found = values(document, place, table, schema, besides=besides)
    return {"name": name, **found, **{each: table.get(each, {}) for each in besides}}


def _no_two_alike(document: Document, keys: tuple[KeyEntry, ...]) -> None:
    """A datagram could be for either, and what is revoked of one would go on with the other."""
    seen: dict[bytes, str] = {}
    for one in keys:
        parts: list[tuple[bytes, Keys]] = [(one.xwing, ("xwing",)), (one.x25519, ("x25519",))]
        parts += [(card.secret, ("cards", card.name, "secret")) for card in one.cards]
        for secret, place in parts:
            if secret in seen:
                raise document.wrong(("keys", one.name, *place), f"is the same as {seen[secret]}", _DAMAGED)
            seen[secret] = ".".join(("keys", one.name, *place))


def save(path: Path, keys: GateKeys) -> None:
    """Put it in the file's place, on the disk and of mode 0600. Unavailable: the old file is there, whole."""
    with replacing(path, keys):
        pass


def replacing(path: Path, keys: GateKeys) -> AbstractContextManager[None]:
    """The same at the end of a block, and not at all where that raises; what can fail is done before it."""
    return private.replacement(path, text_of(keys))


def text_of(keys: GateKeys) -> str:
    """What stands in the file, secrets included."""
    parts = [f'{_HEADER}incarnation = "{keys.incarnation.hex()}"\n']
    for one in keys.keys:
        parts.append(_table(("keys", one.name), one, {"xwing": one.xwing, "x25519": one.x25519}))
        parts += [
            _table(("keys", one.name, "cards", card.name), card, {"secret": card.secret})
            for card in one.cards
        ]
    return "\n".join(parts)


def _table(place: Keys, entry: KeyEntry | CardEntry, secrets: Mapping[str, bytes]) -> str:
    lines = [writing.table(*place), f"made = {_instant(entry.made)}"]
    lines += [f"ends = {_instant(entry.ends)}"] if entry.ends else []
    lines += [f'{name} = "{base64.b64encode(secret).decode()}"' for name, secret in secrets.items()]
    return "\n".join([*lines, ""])


def _instant(when: dt.datetime) -> str:
    return when.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
