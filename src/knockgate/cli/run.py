"""``knockgate run`` and ``import``: the daemon, and what comes from knockd."""

from __future__ import annotations

import click

from knockgate.cli.page import Page, PageGroup
from knockgate.cli.terminal import advise, say
from knockgate.cli.words import configuration
from knockgate.daemon.origin import Origin

__all__ = ["import_", "run"]


@click.command(cls=Page)
@configuration(file=True)
def run(origin: Origin) -> int:
    """Guard the doors, and do what the kernel cannot do.

    Loads the table and stays in the foreground, until SIGTERM or Ctrl-C; the table and its leases stay
    then. Starts its halves as processes of their own: a warden that owns the table, and a listener that
    hears knocks. Whatever removes the table from outside is undone at once. SIGHUP, and `knockgate up`,
    have the configuration read again; where it is wrong, all goes on as before. Doors that the kernel
    follows (runs_in = "kernel") work without it as well, once `knockgate up` has loaded the table.

    With --knockd a knockd.conf is run as it is, in knockd's place.

    Exit status: 0 it was asked to end; 1 a part of it kept ending by itself; 2 it could not start.

    For example:

        knockgate run
        knockgate run --knockd /etc/knockd.conf -i eth0
    """
    from knockgate.cli.trial import refuse_while_one_waits  # noqa: PLC0415 - see cli
    from knockgate.daemon.run import supervise  # noqa: PLC0415 - see cli

    refuse_while_one_waits(origin.load().gate.run_directory)
    if origin.knockd:
        from knockgate.config import knockd  # noqa: PLC0415 - see cli

        for note in knockd.examine(origin.path, origin.interface)[1]:
            say(f"note: {note}")
            advise(note.hint)
    return supervise(origin)


@click.group("import", cls=PageGroup, no_args_is_help=False)
def import_() -> None:
    """Turn the configuration of another program into a gate.toml.

    Changes nothing: it prints what it has found.
    """


@import_.command("knockd", cls=Page)
@click.argument("file", type=click.Path())
@click.option("-i", "--interface", metavar="IF", default="", help="Instead of the one that the file names.")
def import_knockd(file: str, interface: str) -> int:
    """Print the gate.toml that means the same as a knockd.conf.

    With a comment wherever knockd itself would do something else than its file says, and with advice on
    what the kernel could do by itself. A door that cannot be used stands there as a comment. Changes nothing.

    Exit status: 0; 2 the file, or a door of it, cannot be used, or read.

    For example:

        knockgate import knockd /etc/knockd.conf > gate.toml && knockgate check gate.toml
    """
    from knockgate.config import knockd  # noqa: PLC0415 - see cli

    click.echo(knockd.translate(file, interface), nl=False)
    knockd.load(file, interface)  # says which door it is
    return 0
