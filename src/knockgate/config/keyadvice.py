"""Advice on keys: what works, and is weaker than its admin will think."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from knockgate.config.keys import FwknopKey
from knockgate.spa.fwknop import Mode

__all__ = ["KeyAdvice", "advise_on_keys"]

#: Bytes. What fwknop and we make by ourselves has 32; a passphrase of fewer letters can be guessed at home.
_SHORT = 16


class KeyAdvice(NamedTuple):
    """What is doubtful about a key, and what to do about it."""

    key: str
    message: str
    hint: str


def advise_on_keys(keys: Sequence[FwknopKey], now: float) -> tuple[KeyAdvice, ...]:
    """All advice, in the order of the keys; ``now`` in seconds since 1970."""
    return tuple(advice for key in keys for advice in _on_key(key, now))


def _on_key(key: FwknopKey, now: float) -> Iterator[KeyAdvice]:
    if key.expires and key.expires.timestamp() <= now:
        message = f"has expired, on {key.expires:%Y-%m-%d at %H:%M:%SZ}: it opens nothing"
        yield KeyAdvice(key.name, message, "give it another date, or take it out")
    new = f"make a new pair: knockgate key new --fwknop {key.name}"
    if key.secret.hmac_key is None:
        message = "has no HMAC: packets can be tampered with, and any stranger's costs a decryption"
        yield KeyAdvice(key.name, message, new)
    elif key.insecure:
        yield KeyAdvice(key.name, "is marked insecure, and has an HMAC", "take insecure = true away")
    if key.mode is Mode.ECB:
        yield KeyAdvice(key.name, "in ECB mode equal blocks look equal", 'mode = "cbc", on both sides')
    if key.mode is Mode.LEGACY:
        message = "in legacy mode what a passphrase lacks to 16 letters is filled up with zeros"
        yield KeyAdvice(key.name, message, new)
    short = [
        name
        for name, value in (("KEY", key.secret.key), ("HMAC_KEY", key.secret.hmac_key))
        if value is not None and len(value) < _SHORT
    ]
    if short:
        message = f"{' and '.join(short)} of fewer than {_SHORT} bytes can be guessed from one packet"
        yield KeyAdvice(key.name, message, new)
    if key.observed:
        message = "takes packets that name no address: who intercepts one can send it on as their own"
        yield KeyAdvice(key.name, message, "observed = false; clients then name their address (-a, -R)")
