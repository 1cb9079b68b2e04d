"""``knockgate run``: the daemon."""

from __future__ import annotations

import click

from knockgate.cli.page import Page
from knockgate.cli.terminal import advise, say
from knockgate.cli.words import configuration
from knockgate.config.unshut import shadow_in_words
from knockgate.daemon.origin import Origin

__all__ = ["run"]


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

    found = origin.load()
    refuse_while_one_waits(found.gate.run_directory)
    if origin.knockd:
        from knockgate.config import knockd  # noqa: PLC0415 - see cli

        for note in knockd.examine(origin.path, origin.interface)[1]:
            say(f"note: {note}")
            advise(note.hint)
    if dark := shadow_in_words(found):
        say(dark)
        advise("`knockgate status` says who would be kept out")
    return supervise(origin)
