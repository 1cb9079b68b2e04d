"""The command ``knockgate`` and what is below it, in the order in which help lists it."""

from __future__ import annotations

import click

from knockgate import __version__
from knockgate.cli.backup import backup
from knockgate.cli.cards import card
from knockgate.cli.check import check, rules
from knockgate.cli.completion import completion
from knockgate.cli.connect import connect
from knockgate.cli.devices import device
from knockgate.cli.doctor import doctor
from knockgate.cli.explain import explain
from knockgate.cli.importing import import_
from knockgate.cli.init import init
from knockgate.cli.install import install, uninstall
from knockgate.cli.key import key
from knockgate.cli.knock import knock
from knockgate.cli.leases import close, extend, open_
from knockgate.cli.metrics import metrics
from knockgate.cli.page import PageGroup
from knockgate.cli.pause import pause, resume
from knockgate.cli.rekeying import rekey, replay
from knockgate.cli.restore import restore
from knockgate.cli.run import run
from knockgate.cli.simulate import simulate
from knockgate.cli.status import status
from knockgate.cli.table import confirm, down, up
from knockgate.cli.terminal import PROGRAM, ReaderLeft
from knockgate.cli.test import test
from knockgate.cli.trust import trust

__all__ = ["knockgate"]

SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "The table": (check, doctor, rules, simulate, up, confirm, down),
    "The doors": (status, open_, extend, close, pause, resume),
    "Sealed knocks": (init, card, device, explain, rekey, replay),
    "The daemon": (run, metrics, install, uninstall, backup, restore, import_),
    "Elsewhere": (trust, knock, test, connect, key),
    "Shell": (completion,),
}


class _Commands(PageGroup):
    """The group of all, in sections."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        width = max(len(name) for name in self.commands)
        for heading, commands in SECTIONS.items():
            with formatter.section(heading):
                rows = [((each.name or "").ljust(width), each.get_short_help_str(80)) for each in commands]
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderLeft from error


@click.group(
    PROGRAM,
    cls=_Commands,
    commands=[command for section in SECTIONS.values() for command in section],
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def knockgate(ctx: click.Context) -> None:
    """Hide services until the right knock arrives.

    A gate is one nftables table that keeps the doors of this host shut. A door opens for an address
    that has knocked its sequence, for as long as its lease lasts. The kernel follows sequences by
    itself; `knockgate run` is for what the kernel cannot do.

    Begin with /etc/knockgate/gate.toml:

        [doors.ssh]
        ports = ["tcp/22"]
        [doors.ssh.sequence]
        steps = ["tcp/7000", "udp/8000", "tcp/9000"]

    then: knockgate check, knockgate up --confirm 60s, and from elsewhere:
    knockgate knock HOST 7000 udp/8000 9000 --wait tcp/22

    Exit status: 0 it worked; 1 it worked, and the answer is no; 2 it could not be done, and a line on
    standard error says why; 130 interrupted. `knockgate COMMAND --help` has the rest.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
