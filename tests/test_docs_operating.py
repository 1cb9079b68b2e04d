"""What docs/operating.md says of the log and of metrics is what there is."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
import subprocess
from pathlib import Path

from tests.conftest import REPO
from tests.knockgate.cli.test_exposition import facts

from knockgate.cli.exposition import families
from knockgate.daemon.log import Event, Record, as_json
from knockgate.daemon.records import refusal_record
from knockgate.effects import KnockRefused
from knockgate.errors import Reason

PAGE = (REPO / "docs" / "operating.md").read_text()


def rows(heading: str) -> list[str]:
    """What stands in the first column of the table that begins so."""
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(\w[\w-]*)` \|", table, re.MULTILINE)


def block(kind: str, beginning: str) -> str:
    (found,) = [
        text
        for text in re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        if text.startswith(beginning)
    ]
    return str(found)


def test_each_event_and_field_has_its_line() -> None:
    assert rows("event") == [event.value for event in Event]
    fields = [field.name for field in dataclasses.fields(Record)]
    assert rows("field") == ["event", "program", *fields[1:], "message"]


def test_each_metric_has_its_line() -> None:
    found = list(families(facts(), {"marks.sqlite": 1}, 1000.0))
    assert rows("metric") and sorted(rows("metric")) == sorted(family.name for family in found)
    told = PAGE.partition("| metric |")[2]
    for family in found:
        labels = ", ".join(f"`{name}`" for name in family.samples[0][0])
        assert f"| `{family.name}` | {labels} |".replace("|  |", "| |") in told
    assert set(re.findall(r"knockgate_\w+", block("yaml", "groups"))) <= {family.name for family in found}


def test_the_record_that_is_shown_is_one() -> None:
    shown = json.loads("{" + PAGE.partition("jq .\n{")[2].partition("```")[0])
    event, program, text = shown.pop("event"), shown.pop("program"), shown.pop("message")
    line = as_json(program, text, Record(event=Event(event), **shown))
    assert list(json.loads(line)) == ["event", "program", *shown, "message"]


def test_the_notification_names_who_opened() -> None:
    program = re.search(r"-rR '(.*)' \|$", block("sh", "journalctl -f"), re.MULTILINE)
    assert program
    opened = Record(event=Event.OPENED, door="ssh", source="192.0.2.7", by="sealed", key="jo")
    lines = [
        "knockgate: a line of text",
        as_json("gate", "refused", Record(event=Event.REFUSED)),
        as_json("gate", "open", opened),
        as_json("gate", "open", dataclasses.replace(opened, key=None)),
    ]
    done = subprocess.run(
        ["jq", "-rR", program[1]], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"ssh opened for 192.0.2.7 by {who}" for who in ("jo", "sealed")]


def test_the_filter_finds_refusals_and_nothing_that_somebody_made_up() -> None:
    expression = re.search(r"^failregex = (.*)$", block("ini", "# /etc/fail2ban/filter.d"), re.MULTILINE)
    assert expression
    found = re.compile(expression[1].replace("<ADDR>", r"(?P<ip>[0-9a-f:.]+)"))

    def banned(record: Record, text: str) -> str | None:
        """Of a line as the journal hands it over."""
        match = found.search("gate knockgate-listener[4711]: " + as_json("knockgate-listener", text, record))
        return match["ip"] if match else None

    for sender in ("192.0.2.9", "2001:db8::9"):
        packed = ipaddress.ip_address(sender).packed
        for source in (b"", bytes([192, 0, 2, 7])):
            refused = KnockRefused(Reason.STALE, key="jo", sender=packed, source=source)
            assert banned(refusal_record(refused, "fwknop"), "refused") == sender
    faked = '{"event": "refused", "program": "knockgate-listener", "sender": "192.0.2.1"'
    assert banned(Record(event=Event.NOTE, key=faked), faked) is None


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for kind in ("service", "timer"):
        text = block("ini", f"# /etc/systemd/system/knockgate-metrics.{kind}")
        (tmp_path / f"knockgate-metrics.{kind}").write_text(text.replace("/usr/bin/knockgate", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "knockgate-metrics" not in done.stderr, done.stderr
    broken = tmp_path / "knockgate-metrics.timer"
    broken.write_text(broken.read_text().replace("OnCalendar=minutely", "OnCalendar=each minute"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "knockgate-metrics" in done.stderr  # the control
