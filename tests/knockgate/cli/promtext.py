"""A strict reader of Prometheus' text exposition format, version 0.0.4, as its documentation has it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"')
_VALUE = re.compile(r"[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN")

Labels = tuple[tuple[str, str], ...]


@dataclass
class Metric:
    kind: str
    help: str
    samples: dict[Labels, float] = field(default_factory=dict)


def parsed(text: str) -> dict[str, Metric]:
    """All families; raises ValueError for whatever a strict reader would not take."""
    if text and not text.endswith("\n"):
        raise ValueError("the last line has no end")
    found: dict[str, Metric] = {}
    told: tuple[str, str] | None = None
    name = ""
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            name, _, words = line.removeprefix("# HELP ").partition(" ")
            if re.search(r"\\(?![\\n])", words.replace(r"\\", "")):
                raise ValueError(f"help that is badly escaped: {line}")
            told = name, words
        elif line.startswith("# TYPE "):
            name, _, kind = line.removeprefix("# TYPE ").partition(" ")
            if kind not in ("counter", "gauge") or name in found or told is None or told[0] != name:
                raise ValueError(f"a type that is not expected: {line}")
            found[name] = Metric(kind, told[1])
        else:
            _sample(line, name, found)
    if any(not metric.samples for metric in found.values()):
        raise ValueError("a family without samples")
    return found


def _sample(line: str, family: str, found: dict[str, Metric]) -> None:
    match = _NAME.match(line)
    if not match or match[0] != family or family not in found:
        raise ValueError(f"a sample of no family, or of another: {line}")
    rest = line[match.end() :]
    labels: list[tuple[str, str]] = []
    if rest.startswith("{"):
        at = 1
        while True:
            one = _LABEL.match(rest, at)
            if not one:
                raise ValueError(f"no label: {line}")
            labels.append((one[1], re.sub(r"\\(.)", lambda each: {"n": "\n"}.get(each[1], each[1]), one[2])))
            at = one.end() + 1
            if rest[one.end()] == "}":
                break
            if rest[one.end()] != ",":
                raise ValueError(f"something between labels: {line}")
        rest = rest[at:]
    if not re.fullmatch(f" (?:{_VALUE.pattern})", rest):
        raise ValueError(f"no value: {line}")
    key = tuple(sorted(labels))
    if len(dict(labels)) != len(labels) or key in found[family].samples:
        raise ValueError(f"twice: {line}")
    found[family].samples[key] = float(rest)
