"""Writes docs/reference/gate-toml.md out of the schema: `make reference`.

Whatever the page says is taken from what reads the file: keys, values and defaults from the dataclasses
of ``knockgate.config.doors`` and ``.keys``, the warnings from ``advise`` itself. A test holds the page to it.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

from knockgate.config.advice import advise
from knockgate.config.doors import (
    DEFAULT_PATH,
    MAX_DOORS,
    Commands,
    Demands,
    Devices,
    Door,
    Fwknop,
    Gate,
    LogFormat,
    Observed,
    Reliance,
    RunsIn,
    Sealed,
    Sequence,
    parse,
)
from knockgate.config.keys import MAX_KEYS, FwknopKey, SshKeys
from knockgate.config.toml import fields_of, spell
from knockgate.model import Port
from knockgate.spa.fwknop import Hash, Mode

__all__ = ["PAGE", "page"]

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE, PAGE = ROOT / "examples" / "gate.toml", ROOT / "docs" / "reference" / "gate-toml.md"

_BEGIN = f"""\
<!-- Made by `make reference`; change tools/reference.py, examples/gate.toml or the schema instead. -->

# gate.toml

What the gate guards, and what opens it. Commands take the file as an argument or with `--config`; without
either it is `{DEFAULT_PATH}`. `knockgate check` reads it and says what it comes to. A file with a
mistake in it is refused whole, with the line, the key and what to write instead.

```toml
"""

_VALUES = f"""\
## Values

* A **port** is `"tcp/22"` or `"udp/53"`. A port belongs to one door, and a port that a door guards cannot be
  a knock of any door.
* A **time** is a number of seconds or a text of numbers with units, such as `"15s"`, `"1h30m"` or `"500ms"`.
  The units are d, h, m, s and ms; what is finer than a millisecond is rounded.
* The **name** of a door begins with a letter, a digit or `_`, and has at most 63 of these, `.` and `-`. With
  a `.` in it, it stands in quotes: `[doors."web.1"]`. There are at most {MAX_DOORS} doors.
  So it is with keys, of which there are at most {MAX_KEYS}.
* A **network** is `"192.0.2.0/24"`, `"2001:db8::/32"` or one address. A **date** stands without quotes, as
  TOML has it: `2027-05-03` is good until the end of that day, `2027-05-03T18:00:00Z` until then; UTC is meant
  where nothing is said.
"""

# One door for each kind of warning; those that take two doors say so.
_DOUBTFUL = """
swept         = { ports = ["tcp/1"], sequence = { steps = ["tcp/7000", "tcp/7001", "tcp/7002"] } }
ordered       = { ports = ["tcp/2"], sequence = { steps = ["tcp/7010", "tcp/8000", "tcp/9000"] } }
single        = { ports = ["tcp/3"], sequence = { steps = ["tcp/7020"] } }
rescanned     = { ports = ["tcp/16"], sequence = { steps = ["tcp/7130", "tcp/9130", "tcp/8130"] } }
doubled       = { ports = ["tcp/4"], sequence = { steps = ["tcp/7030", "tcp/7030", "udp/8030"] } }
returning     = { ports = ["tcp/5"], sequence = { steps = ["tcp/7040", "udp/8040", "tcp/7040"] } }
frequent      = { ports = ["tcp/6"], sequence = { steps = ["tcp/7050", "udp/8050", "tcp/443"] } }
datagrams     = { ports = ["tcp/7"], sequence = { steps = ["tcp/7060", "udp/8060"], runs_in = "daemon" } }
short         = { ports = ["tcp/8"], sequence = { steps = ["tcp/7070", "udp/8070"] }, lease = "2s" }
long          = { ports = ["tcp/9"], sequence = { steps = ["tcp/7080", "udp/8080"] }, lease = "1d" }
slow          = { ports = ["tcp/10"], sequence = { steps = ["tcp/7090", "udp/8090"], within = "2m" } }
first         = { ports = ["tcp/11"], sequence = { steps = ["tcp/7100", "udp/8100"] } }
twin          = { ports = ["tcp/12"], sequence = { steps = ["tcp/7100", "udp/8100"] } }
containing    = { ports = ["tcp/13"], sequence = { steps = ["udp/9110", "tcp/7100", "udp/8100"] } }
anytime       = { ports = ["tcp/17"], sealed = { observed = "always" } }
everybody     = { ports = ["tcp/19"], allow = ["0.0.0.0/0"] }
many          = { ports = ["tcp/20"], allow = ["64.0.0.0/2"] }
dark          = { ports = ["tcp/21"], shadow = true }
demanding     = { ports = ["tcp/18"], sealed = { touch = true } }
patient       = { ports = ["tcp/14"], sequence = { steps = ["tcp/7120", "udp/8120"], within = "30s" } }
hurried       = { ports = ["tcp/15"], sequence = { steps = ["tcp/7120", "udp/8121"] } }
[keys.people]
ssh           = "/etc/knockgate/authorized_keys"
doors         = ["anytime"]
"""


SCHEMAS: tuple[type[object], ...] = (
    Gate,
    Door,
    Sequence,
    Commands,
    Demands,
    Fwknop,
    Sealed,
    FwknopKey,
    SshKeys,
)


def page() -> str:
    """The whole text of the page."""
    sections = [_section(schema) for schema in SCHEMAS]
    return (
        "\n".join([f"{_BEGIN}{EXAMPLE.read_text()}```\n", *sections, _VALUES, "\n".join(_warnings())]) + "\n"
    )


def _section(schema: type[object]) -> str:
    first, _, more = inspect.cleandoc(schema.__doc__ or "").replace("``", "`").partition("\n")
    title, _, purpose = first.partition(": ")
    lines = [f"## {title}", "", f"{purpose[:1].upper()}{purpose[1:]}", *([more] if more else []), ""]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    for field in fields_of(schema):
        value, doc = field.metadata["reader"].says, field.metadata["doc"]
        lines.append(f"| `{field.name}` | {value} | {_default(field.default)} | {doc} |")
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    if value is None or value is dataclasses.MISSING:
        return "none"
    if isinstance(value, RunsIn | Reliance | LogFormat | Observed | Devices | Hash | Mode):
        return f'`"{value.value}"`'
    if isinstance(value, float):
        return f'`"{spell(value)}"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Port):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        listed = ", ".join(f'"{each}"' for each in value)
        return f"`[{listed}]`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _warnings() -> Iterator[str]:
    yield "## What `knockgate check` warns about\n"
    yield "Such a file is used all the same. `check` also looks at the host: see `knockgate check --help`.\n"
    yield "| warning, for example | what to do |\n|---|---|"
    for advice in advise(parse(f"[doors]{_DOUBTFUL}")):
        yield f"| {advice.message} | {advice.hint} |"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
