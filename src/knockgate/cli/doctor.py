"""``knockgate doctor``: what on this host works against the gate, and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from knockgate.cli.page import Page
from knockgate.cli.words import configuration
from knockgate.config.doors import DEFAULT_PATH
from knockgate.daemon.origin import Origin
from knockgate.errors import ConfigError

if TYPE_CHECKING:
    from knockgate.doctor.finding import Finding
    from knockgate.doctor.host import Host

__all__ = ["doctor"]


@click.command(cls=Page)
@configuration(file=True)
@click.option("--json", "as_json", is_flag=True, help="Print all findings as one JSON object.")
@click.option("--quiet", "-q", is_flag=True, help="Say only what is a warning or an error.")
def doctor(origin: Origin, *, as_json: bool, quiet: bool) -> int:
    """Look for what on this host works against the gate, and say how to mend it.

    Changes nothing. It looks at the clock; interfaces and addresses; rules of other tables; who listens,
    behind doors and without one; what containers publish; settings and versions of kernel and nft; where
    the gate keeps its state; who can read and write its files; what sshd reads and where it listens; and
    whether the gate guards now and after a boot. Without a configuration it looks at the host alone.

    Each finding is ok, a note, a warning or an error, with its name in brackets: what was seen, why it
    matters, and how to mend it. What cannot be looked at is a warning of its own (not-looked-at), since
    it may be anything; run it as root to see all. docs/operating.md lists all there can be. Each part is
    given 30 s at most.

    With --json, one object: "format" (1), "file" (the configuration, or null), "worst" (ok, note, warning
    or error) and "findings", a list of objects with

        topic     clock, network, rules, ports, containers, kernel, state, rights, sshd, gate
        id        the name of the finding, such as clock-not-kept; fine where all is well
        severity  ok, note, warning, error
        looked    false where it could not be looked at
        seen      what there is
        why       why it matters; null where all is well
        fix       what to do; null where there is nothing to do

    Exit status: 0 there is nothing worse than a note; 1 there are warnings or errors; 2 it could not be
    run, or the configuration cannot be used or read.

    For example:

        knockgate doctor
        found=$(knockgate doctor --quiet) || echo "$found" | mail -s "the gate" root
        knockgate doctor --json | jq -r '.findings[] | select(.severity == "error").fix'
    """
    from knockgate.doctor.examine import examine  # noqa: PLC0415 - see cli
    from knockgate.doctor.finding import Severity  # noqa: PLC0415 - see cli

    host = _host(origin)
    findings = list(examine(host))
    worst = max(each.severity for each in findings)
    if as_json:
        facts = {
            "format": 1,
            "file": host.path if host.configuration else None,
            "worst": worst.name.lower(),
            "findings": [each.facts() for each in findings],
        }
        click.echo(json.dumps(facts))
    else:
        least = Severity.WARNING if quiet else Severity.OK
        for line in _lines([each for each in findings if each.severity >= least]):
            click.echo(line)
        if not quiet:
            click.echo(_summary(findings))
    return 1 if worst >= Severity.WARNING else 0


def _host(origin: Origin) -> Host:
    """The host with its configuration; without one where none was named and there is none."""
    from knockgate.doctor.host import Host  # noqa: PLC0415 - see cli

    if origin.path == str(DEFAULT_PATH) and not origin.knockd and not _is_there():
        return Host(None, origin.path)
    found = origin.load()
    return Host(found, "" if origin.knockd else origin.path)


def _is_there() -> bool:
    try:
        return DEFAULT_PATH.exists()
    except OSError as error:
        raise ConfigError(f"{DEFAULT_PATH} cannot be read: {error.strerror}", hint="run it as root") from None


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    topic = None
    for each in findings:
        if each.topic != topic:
            topic = each.topic
            yield f"{topic}"
        if not each.severity:
            yield f"  ok       {each.seen}"
            continue
        yield f"  {each.severity.name.lower():<8} {each.seen} [{each.kind.id}]"
        yield f"           why: {each.why}"
        if each.fix:
            yield f"           fix: {each.fix}"


def _summary(findings: Sequence[Finding]) -> str:
    counts = [(word, sum(each.severity.name.lower() == word for each in findings)) for word in _WORDS]
    found = [f"{number} {word}{'s' if number > 1 else ''}" for word, number in counts if number]
    return f"{', '.join(found)}" if found else "nothing is wrong"


_WORDS = ("error", "warning", "note")
