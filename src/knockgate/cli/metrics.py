"""``knockgate metrics``: what the gate counts, for Prometheus' node exporter."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import click

from knockgate.cli.page import Page
from knockgate.cli.status import look
from knockgate.cli.words import FILE, configuration
from knockgate.daemon.origin import Origin
from knockgate.errors import Unavailable

__all__ = ["metrics"]


@click.command(cls=Page)
@configuration(file=False)
@click.option(
    "-o", "--output", metavar="FILE", type=FILE, default="-", help="Write it here; - is the terminal."
)
def metrics(origin: Origin, *, output: str) -> int:
    """Write what the gate counts in Prometheus' text format.

    For the textfile collector of the node exporter, which reads files whose names end in .prom. FILE is
    replaced whole, so that nobody reads half of one, and everybody may read it: there is no address, no
    key's name and no secret in it. It asks the gate that runs on this host and the kernel's table, changes
    nothing there, and needs root.

    A gate whose daemon does not answer is no error: knockgate_gate_up is 0 then, and there is what the
    kernel knows. Where nothing can be found out FILE stays as it is, and gets old:
    node_textfile_mtime_seconds tells.

    Exit status: 0 it is written; 2 it is not.

    For example:

        knockgate metrics
        knockgate metrics -o /var/lib/prometheus/node-exporter/knockgate.prom
    """
    from knockgate.cli.exposition import families, text  # noqa: PLC0415 - see cli

    found = origin.load()
    facts = look(found).facts()
    written = text(
        families(facts, _stores(Path(found.gate.state_directory)), time.clock_gettime(time.CLOCK_REALTIME))
    )
    if output == "-":
        click.echo(written, nl=False)
    else:
        _replace(Path(output), written)
    return 0


def _stores(folder: Path) -> dict[str, int]:
    """Bytes, with what is still to be put in its place."""
    sizes = {}
    for path in sorted(folder.glob("*.sqlite")):
        with contextlib.suppress(OSError):
            sizes[path.name] = path.stat().st_size
            sizes[path.name] += path.with_name(f"{path.name}-wal").stat().st_size
    return sizes


def _replace(path: Path, text: str) -> None:
    """By a name that the exporter does not read, and that is overwritten by the next one."""
    waiting = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        waiting.unlink(missing_ok=True)
        with os.fdopen(os.open(waiting, flags, 0o644), "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o644)  # whatever the umask: the exporter is another user
            stream.write(text)
        waiting.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            waiting.unlink(missing_ok=True)
        hint = "run it as root" if isinstance(error, PermissionError) else "is its folder there?"
        raise Unavailable(f"{path} cannot be written: {error.strerror}", hint=hint) from None
