"""What an examination finds, as sets of kinds: a test compares what is there with its control."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from knockgate.config.doors import Configuration, parse
from knockgate.doctor.finding import Finding, Kind, Severity
from knockgate.doctor.host import Host

SSH = '[doors.ssh]\nports = ["tcp/22"]\n[doors.ssh.sequence]\nsteps = ["tcp/7000", "udp/8000", "tcp/9000"]\n'
COMMANDS = (
    '[doors.run.sequence]\nruns_in = "daemon"\nsteps = ["udp/2"]\n'
    '[doors.run.commands]\nopen = ["/bin/a", "%IP%"]\n'
)
KEYED = '[keys.people]\nssh = "{folder}/people"\ndoors = ["ssh"]\n'


def host(text: str = SSH, gate: str = "", path: str = "") -> Host:
    """A gate with these doors."""
    return Host(configuration(text, gate), path)


def configuration(text: str = SSH, gate: str = "") -> Configuration:
    return parse((f"[gate]\n{gate}\n" if gate else "") + text)


def written(folder: Path, text: str = SSH, gate: str = "") -> Host:
    """The same, with the file and its folders there."""
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    file = folder / "gate.toml"
    beside = f'run_directory = "{folder}/run"\nstate_directory = "{folder}/state"\n'
    file.write_text(f"[gate]\n{beside}{gate}\n" + text.format(folder=folder))
    file.chmod(0o644)
    return Host(parse(file.read_text()), str(file))


def kinds(findings: Iterable[Finding]) -> set[Kind]:
    """Those that are not fine; each has what a person needs."""
    found = list(findings)
    assert found, "nothing is said at all"
    for each in found:
        assert each.seen
        assert each.severity is Severity.OK or (each.why and each.fix), each
    return {each.kind for each in found if each.severity}


def of(findings: Iterable[Finding], kind: Kind) -> Finding:
    """The one finding of that kind."""
    (one,) = [each for each in findings if each.kind is kind]
    return one
