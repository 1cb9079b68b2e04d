"""What a listener tells the admin, read with care: it may be one that was taken over.

A document has to have the shape that ``status``, ``packets``, ``sealed`` and ``stories`` give it, with
numbers that are some; then nothing that is made of it fails. Its texts are spelled out where they could move
a terminal. What it has beyond the shape is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["EXPLAINED", "STATUS", "Misshapen", "read"]


class Misshapen(ValueError):
    """It is none that a listener makes."""


@dataclass(frozen=True, slots=True)
class Maybe:
    """Or null."""

    shape: Any


@dataclass(frozen=True, slots=True)
class Each:
    """An object whose keys are any texts, these among them, and what each of them has."""

    shape: Any
    needs: tuple[str, ...] = ()


#: Shapes are ``str``, ``bool``, ``int`` (a count), ``float`` (seconds, either way), a pattern, one of these
#: in a list, in a dict with all the keys that there have to be, in ``Maybe`` or in ``Each``.
_HEX, _FINGERPRINT = re.compile("[0-9a-f]*"), re.compile("SHA256:[0-9A-Za-z+/]{43}")
_CLOCK = {"state": str, "vouched": bool, "not_before": Maybe(float)}
_OPENED = {"source": Maybe(str), "by": str, "seconds_ago": float}
_REFUSED = {
    "key": Maybe(str), "reason": str, "why": str, "sender": str, "skew": Maybe(float), "seconds_ago": float,
}  # fmt: skip
_CLAIMS = {
    "key": Maybe(str), "fingerprint": Maybe(_FINGERPRINT), "card": Maybe(str), "suite": Maybe(str),
    "device": Maybe(_HEX), "standing": Maybe(str), "doors": [str], "source": Maybe(str), "stated": bool,
    "sender": str, "lease": Maybe(float), "era": int, "issued": Maybe(float), "skew": Maybe(float),
}  # fmt: skip
_KNOCK = _CLAIMS | {
    "seconds_ago": float, "result": str, "reason": Maybe(str), "step": Maybe(int), "why": Maybe(str),
    "hint": Maybe(str), "leases": Each(float), "key": str, "fingerprint": _FINGERPRINT, "device": _HEX,
    "issued": float,
}  # fmt: skip

#: What ``control.ask`` returns.
STATUS: dict[str, Any] = {
    "format": int,
    "pid": int,
    "since": float,
    "doors": Each({"opened": int, "by": Each(int), "last": Maybe(_OPENED)}),
    "recent": [_OPENED | {"door": Maybe(str)}],
    "bounds": Each(int),
    "heard": Each(int, ("packets", "lost", "lost_reports")),
    "packets": Maybe(
        {"opened": int, "refused": Each(int), "strangers": Each(int), "recent_refused": [_REFUSED],
         "remembered": int, "room": int, "synchronised": bool}
    ),
    "sealed": Maybe(
        {"opened": int, "refused": Each(int), "strangers": Each(int), "keys": int, "clock": _CLOCK}
    ),
    "warden": {"owned": bool, "restored": int},
}  # fmt: skip
#: What ``control.explain`` returns; without ssh keys ``format`` alone.
EXPLAINED: dict[str, Any] = {
    "format": int,
    "since": float,
    "port": str,
    "clock": _CLOCK,
    "files": [
        {"keys_of": str, "file": str, "keys": int, "flaws_left_out": int,
         "flaws": [{"line": Maybe(int), "message": str, "hint": Maybe(str)}]}
    ],
    "knocks": [_KNOCK],
    "strangers": [
        {"reason": str, "why": str, "hint": Maybe(str), "count": int, "relayed": int, "seconds_ago": float,
         "sender": Maybe(str), "claims": Maybe(_CLAIMS)}
    ],
    "devices": [{"row": _HEX, "key": _HEX, "era": int, "issued": float, "seconds_ago": float}],
    "devices_left_out": int,
}  # fmt: skip

#: Counts, and seconds: two thousand years, which `gmtime` can do.
_MOST, _LONGEST = 2**63, 2.0**36


def read(value: Any, shape: Any) -> Any:  # noqa: ANN401 - what JSON has
    """What is there of the shape; raises Misshapen."""
    match shape:
        case Maybe(inner):
            return None if value is None else read(value, inner)
        case dict() if isinstance(value, dict) and shape.keys() <= value.keys():
            return {key: read(value[key], inner) for key, inner in shape.items()}
        case Each(inner, needs) if isinstance(value, dict) and value.keys() >= {*needs}:
            return {_plain(key): read(one, inner) for key, one in value.items()}
        case [inner] if isinstance(value, list):
            return [read(one, inner) for one in value]
        case re.Pattern() if isinstance(value, str) and shape.fullmatch(value):
            return value
        case _ if shape is str and isinstance(value, str):
            return _plain(value)
        case _ if shape is bool and isinstance(value, bool):
            return value
        case _ if shape is int and type(value) is int and 0 <= value < _MOST:
            return value
        case _ if shape is float and type(value) in (int, float) and -_LONGEST < value < _LONGEST:
            return value
    raise Misshapen


def _plain(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
