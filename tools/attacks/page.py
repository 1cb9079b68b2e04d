"""``docs/attacks.md``, out of the file of a run and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tools.attacks.results import KINDS, Attack, Results, Value

__all__ = ["NAME", "page"]

NAME = "attacks"
#: Ends of the names of figures, and how their unit is written.
_UNITS = {"_s": "s", "_ms": "ms", "_kb": "kB", "_bytes": "bytes"}
_HEAD = ("attack", "tries", "opened wrongly", "opened as is known", "honest", "bounds", "beside it", "test")


def page(found: Results) -> str:
    """The whole of it."""
    sections = [
        f"## {title}\n\n{_table(_HEAD, map(_row, found.of(kind)))}\n"
        for kind, title in KINDS.items()
        if found.of(kind)
    ]
    return "\n".join([_intro(found), *sections, *_left_out(found)])


def _intro(found: Results) -> str:
    about = found.machine
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    cores = f"{about['cores']} {'virtual ' if about['virtual'] else ''}cores"
    sums = {
        what: sum(getattr(each, what) for each in found.attacks) for what in ("tries", "wrongly", "known")
    }
    rightly = sum(each.rightly for each in found.attacks)
    return f"""\
# Attacks

Written by `make attacks` on {found.day}; every figure here comes out of [{NAME}.json]({NAME}.json),
which the same command wrote. Where a test fails there is no page.

{len(found.attacks)} attacks, {_number(sums["tries"])} tries: **{_number(sums["wrongly"])} opened wrongly**, \
{_number(sums["known"])} as is known, and beside them
{_number(rightly)} honest ones did what they should. {found.passed} tests passed in {_number(found.took_s)} s.

{about["cpu"]}, {cores}, {about["memory_GB"]} GB; {about["system"]}, {about["kernel"]};
Python {about["python"]}; {about["rights"]}. {versions}.

| column | what |
|---|---|
| opened wrongly | let somebody in who should not be, or came through in another way: always 0 |
| opened as is known | what [SECURITY.md](../SECURITY.md) says of it: who has seen a plain sequence has it, \
and a packet opens whoever delivers it first. Of other programs: what they do |
| honest | knocks, commands or connections of who may, that did what they should beside the attack |
| bounds | what it took and what grew: memory, disk, log, descriptors, time |
| beside it | the control: without it nothing that stays shut would say anything |
"""


def _row(attack: Attack) -> Sequence[str]:
    counts = (attack.tries, attack.wrongly, attack.known, attack.rightly)
    where, _, test = attack.test.partition("::")
    linked = f"[{test}](../{where})" if test else attack.test
    return (_text(attack.what), *map(_number, counts), _bounds(attack.bounds), _text(attack.control), linked)


def _bounds(bounds: Mapping[str, Value]) -> str:
    return "; ".join(_bound(name, value) for name, value in bounds.items())


def _bound(name: str, value: Value) -> str:
    words, unit = name, ""
    for end, written in _UNITS.items():
        if name.endswith(end):
            words, unit = name.removesuffix(end), f" {written}"
    if isinstance(value, Mapping):
        told = ", ".join(f"{each} {_number(number)}" for each, number in value.items()) + unit
    elif isinstance(value, str):
        told = value
    elif name.endswith("_share"):
        words, told = name.removesuffix("_share"), f"{_number(round(100 * value, 1))} %"
    else:
        told = f"{_number(value)}{unit}"
    return _text(f"{words.replace('_', ' ')}: {told}")


def _number(value: float) -> str:
    if isinstance(value, int) or value.is_integer():
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _text(text: str) -> str:
    """In a cell."""
    return text.replace("|", "\\|")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(['---', *['--:'] * 4, *['---'] * 3])}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _left_out(found: Results) -> list[str]:
    if not found.left_out:
        return []
    lines = "\n".join(f"* `{test}`: {_text(why)}" for test, why in found.left_out.items())
    return [f"## Not attacked on this machine\n\n{lines}\n"]
