from __future__ import annotations

import re
from pathlib import Path

from tools.reference import EXAMPLE, PAGE, page

from knockgate.config import keys
from knockgate.config.advice import advise
from knockgate.config.doors import (
    Commands,
    Demands,
    Door,
    Fwknop,
    Gate,
    RunsIn,
    Sealed,
    Sequence,
    load,
    parse,
)
from knockgate.config.keys import FwknopKey, SshKeys
from knockgate.config.toml import fields_of

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


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text() == page(), "make reference writes it anew"


def test_the_page_begins_with_an_example_that_is_used_as_it_stands() -> None:
    example = page().partition("```toml\n")[2].partition("```\n")[0]
    assert example == EXAMPLE.read_text()
    configuration = parse(example)
    assert configuration == load(EXAMPLE)
    assert advise(configuration) == ()
    runs_in = [door.sequence.runs_in if door.sequence else None for door in configuration.doors]
    assert runs_in == [RunsIn.KERNEL, RunsIn.DAEMON, None]  # one of each kind


def test_every_key_has_its_line() -> None:
    lines = re.findall(r"^\| `(\w+)` \| .+ \| .+ \| .+ \|$", page(), re.MULTILINE)
    assert lines == [field.name for schema in SCHEMAS for field in fields_of(schema)]


def test_defaults_that_are_told_are_those_that_are_taken(tmp_path: Path) -> None:
    """Of each section: the defaults out of its table, written into a file, change nothing."""
    secrets = tmp_path / "a"
    secrets.write_text("KEY: sesame\nHMAC_KEY: open sesame\n")
    secrets.chmod(0o600)
    told = {}
    for section in page().split("\n## `[")[1:]:
        title, _, rest = section.partition("`\n")
        heading = title.replace("keys.NAME]` with `ssh", "keys.b").partition("]")[0]
        table = rest.partition("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| .+? \| `(.+?)` \| ", table, re.MULTILINE)
        told[heading.replace("NAME", "a")] = rows
    doors = ["doors.a", "doors.a.sequence", "doors.a.commands", "doors.a.sealed"]
    assert list(told) == ["gate", *doors, "fwknop", "sealed", "keys.a", "keys.b"]
    given = {  # without these there would be no door, no sequence, no commands
        "doors.a": {"ports": '["tcp/22"]'},
        "doors.a.sequence": {"steps": '["tcp/7000"]', "runs_in": '"daemon"'},
        "keys.a": {"fwknop": f'"{secrets}"', "doors": '["a"]'},
        "keys.b": {"ssh": '"/nowhere"', "doors": '["a"]'},
    }
    short = long = ""
    for heading, defaults in told.items():
        needed = given.get(heading, {})
        values = dict(defaults) | needed
        short += "\n".join([f"[{heading}]", *(f"{key} = {value}" for key, value in needed.items()), ""])
        long += "\n".join([f"[{heading}]", *(f"{key} = {value}" for key, value in values.items()), ""])
    assert parse(long) == parse(short)
    assert keys.parse(long, parse(long)) == keys.parse(short, parse(short))
    assert keys.parse_ssh(long, parse(long)) == keys.parse_ssh(short, parse(short))
    assert long.count(" = ") == sum(
        field.default is not None for schema in SCHEMAS for field in fields_of(schema)
    )


def test_each_kind_of_warning_is_told_once() -> None:
    """A new kind needs a door in tools/reference.py; they are told apart by the ports left out."""
    warnings = page().partition("about\n")[2]
    kinds = [
        re.sub(r"(tcp|udp)/\d+", "PORT", line) for line in warnings.splitlines() if line.startswith("| ")
    ]
    assert len(kinds) == len(set(kinds)) == 1 + 19
