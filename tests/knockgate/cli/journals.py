"""What `knockgate log` is to do with a journal, asked of a real one and of the one below, which is a file."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.knockgate.cli.process import Done
from tests.netns import until

# Not our own interpreter: there may be a blank in its path.
_PROGRAM = """#!/usr/bin/python3
import json, os, sys, time
options, units = {{}}, set()
for word in sys.argv[1:]:
    name, _, value = word.partition("=")
    units.add(value + ".service") if name == "--unit" else options.__setitem__(name, value)
known = {{"--quiet", "--no-pager", "--all", "--output", "--output-fields", "--reverse", "--lines", "--since",
    "--until", "--after-cursor", "--follow", "--no-tail"}}
assert options.keys() <= known and options["--output"] == "json" and "--all" in options, options
fields = options["--output-fields"].split(",") + ["__CURSOR", "__REALTIME_TIMESTAMP"]

def entries(stream):
    after = "--after-cursor" in options
    for line in stream:
        entry = json.loads(line)
        if after:
            after = entry["__CURSOR"] != options["--after-cursor"]
            continue
        at = int(entry["__REALTIME_TIMESTAMP"])
        since, until = options.get("--since", "@0"), options.get("--until", "@9999999999")
        if int(since[1:]) * 10**6 <= at <= int(until[1:]) * 10**6:
            if {{entry.get("_SYSTEMD_UNIT"), entry.get("UNIT")}} & units:
                yield json.dumps({{name: entry[name] for name in fields if name in entry}})

with open({file!r}) as stream:
    if "--follow" in options:
        while True:
            for line in entries(stream):
                print(line, flush=True)
            time.sleep(0.01)
    found = list(entries(stream))
    if "--reverse" in options:
        found.reverse()
    for line in found[:int(options.get("--lines") or len(found))]:
        print(line)
"""


class FileJournal:
    """A `journalctl` in ``folder``/bin, and what it has to say."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "bin"
        self.programs.mkdir()
        self._file = folder / "journal"
        self._file.touch()
        program = self.programs / "journalctl"
        program.write_text(_PROGRAM.format(file=str(self._file)))
        program.chmod(0o755)
        self._number = 0

    def add(self, unit: str, message: object, time: float, *, by_systemd: bool = False) -> None:
        self._number += 1
        of = {"UNIT": unit, "_SYSTEMD_UNIT": "init.scope", "SYSLOG_IDENTIFIER": "systemd"}
        entry = {
            "__CURSOR": f"s=1;i={self._number}",
            "__REALTIME_TIMESTAMP": str(round(time * 1e6)),
            "MESSAGE": message,
            "_TRANSPORT": "stdout",
            **(of if by_systemd else {"_SYSTEMD_UNIT": unit, "SYSLOG_IDENTIFIER": "python3"}),
        }
        with self._file.open("a") as stream:
            stream.write(json.dumps(entry) + "\n")


@dataclass(frozen=True)
class Site:
    """A gate with ``log = "json"``: it has opened ``door`` for ``source``, and refused that ``key`` once."""

    log: Callable[..., Done]  #: runs `knockgate log`
    #: The same with --follow; gives what it has said so far.
    following: Callable[..., AbstractContextManager[Callable[[], str]]]
    knock: Callable[[], None]  #: once more: it opens
    door: str
    source: str
    key: str


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def conforms(site: Site) -> None:
    """All that a journal is asked for."""

    def found(*words: str) -> list[dict[str, Any]]:
        done = site.log("--json", *words)
        assert done.returncode == 0, done.stderr
        return objects(done.stdout)

    everything = found("--since", "2000-01-01")
    times = [each["time"] for each in everything]
    assert times == sorted(times) and len(set(times)) > 3
    records = [each for each in everything if "event" in each]
    texts = [each for each in everything if "event" not in each]
    assert [each for each in texts if "Started" in each["message"]]  # systemd's word about a unit
    assert {"note", "opened", "refused"} <= {each["event"] for each in records}

    # By field. Lines of text of the gate's own nobody can tell apart; systemd's are about none of it.
    opened = [each for each in records if each["event"] == "opened"]
    for words in (
        ("--event", "opened"),
        ("--event", "opened", "--door", site.door),
        ("--event", "opened", "--key", site.key.upper()),
        ("--event", "opened", "--source", f"{site.source}/24"),
    ):
        assert [each for each in found("--since", "2000-01-01", *words) if "event" in each] == opened
        assert not [each for each in found(*words) if "Started" in each["message"]]
    both = found("--since", "2000-01-01", "--event", "opened", "--event", "refused")
    assert {each["event"] for each in both if "event" in each} == {"opened", "refused"}
    assert not [each for each in found("--door", "none") if "event" in each]

    # By time and by number.
    middle = sorted(set(times))[len(set(times)) // 2]
    stamp = f"@{middle}"
    assert site.log("--since", stamp).returncode == 2  # journalctl's own spelling is none of ours
    at = dt.datetime.fromtimestamp(middle, dt.UTC).isoformat()
    assert found("--since", at) == [each for each in everything if each["time"] >= middle]
    assert found("--since", "2000-01-01", "--until", at) == [
        each for each in everything if each["time"] <= middle
    ]
    assert found("--last", "2") == everything[-2:]
    assert found() == everything[-100:]
    assert found("--last", "1", "--event", "refused")[-1]["event"] == "refused"

    # For people.
    heading, *lines = site.log("--since", "2000-01-01", "--event", "opened").stdout.splitlines()
    assert heading.split() == ["TIME", "(UTC)", "EVENT", "DOOR", "SOURCE", "KEY", "MESSAGE"]
    row = next(line for line in lines if line[heading.index("EVENT") :].startswith("opened"))
    assert row.index(site.door) == heading.index("DOOR") and row.index(site.source) == heading.index("SOURCE")
    assert row[heading.index("MESSAGE") :].startswith(f"open {site.door} for {site.source} (")

    # What comes.
    with site.following("--json", "--event", "opened", "--last", "1") as said:
        until(lambda: said().count("\n") == 1, "the last one")
        site.knock()
        until(lambda: said().count("\n") == 2, "the new one")
        first, second = objects(said())
        assert first == opened[-1] and second["time"] > first["time"] and second["door"] == site.door
