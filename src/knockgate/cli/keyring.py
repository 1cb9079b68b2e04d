"""The keys of a configuration, in words; most configurations have none, and load no codec for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from knockgate.config.doors import Configuration
from knockgate.config.toml import spell
from knockgate.daemon.origin import Origin

if TYPE_CHECKING:
    from knockgate.config.keys import FwknopKey

__all__ = ["key_facts", "key_in_words", "keys_of"]


def keys_of(origin: Origin, configuration: Configuration) -> Sequence[FwknopKey]:
    """The keys with their secrets; raises ConfigError, also where we may not read them."""
    if origin.knockd or configuration.fwknop is None:
        return ()
    from knockgate.config.keys import load  # noqa: PLC0415 - see cli

    return load(origin.path, configuration)


def key_in_words(key: FwknopKey) -> str:
    """``key alice: opens ssh, web with fwknop's packet (hmac sha256, cbc), for 10m at most``."""
    parts = [f"key {key.name}: opens {', '.join(key.doors)} with fwknop's packet ({_crypto(key)})"]
    if key.longest is not None:
        parts.append(f"for {spell(key.longest)} at most")
    if key.sources:
        parts.append(f"lets in {', '.join(map(str, key.sources))}")
    if key.observed:
        parts.append("lets in who sends it")
    if key.senders:
        parts.append(f"knocks from {', '.join(map(str, key.senders))}")
    if key.username:
        parts.append(f"as {key.username}")
    if key.expires:
        parts.append(f"until {key.expires:%Y-%m-%d %H:%M:%SZ}")
    return ", ".join(parts)


def _crypto(key: FwknopKey) -> str:
    hmac = f"hmac {key.hmac.value}" if key.secret.hmac_key is not None else "no hmac"
    return f"{hmac}, {key.mode.value}"


def key_facts(key: FwknopKey) -> dict[str, object]:
    """The same for programs, without the secrets; times in seconds."""
    return {
        "name": key.name,
        "kind": "fwknop",
        "doors": list(key.doors),
        "hmac": key.hmac.value if key.secret.hmac_key is not None else None,
        "mode": key.mode.value,
        "sources": [str(each) for each in key.sources],
        "senders": [str(each) for each in key.senders],
        "observed": key.observed,
        "username": key.username or None,
        "longest": key.longest,
        "expires": key.expires.isoformat() if key.expires else None,
        "in_words": key_in_words(key),
    }
