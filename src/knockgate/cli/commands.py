"""The command ``knockgate`` and what is below it, in the order in which help lists it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping

import click

from knockgate import __version__
from knockgate.cli.page import PageGroup
from knockgate.cli.terminal import PROGRAM, ReaderLeft

__all__ = ["knockgate"]

#: Each is found in the file of its own name, unless another one stands before the dot.
SECTIONS: dict[str, tuple[str, ...]] = {
    "The table": ("check", "doctor", "check.rules", "simulate", "table.up", "table.confirm", "table.down"),
    "The doors": ("status", "log", "leases.open_", "leases.extend", "leases.close", "pause", "pause.resume"),
    "Sealed knocks": ("init", "cards.card", "devices.device", "explain", "rekeying.rekey", "rekeying.replay"),
    "The daemon": (
        "run",
        "metrics",
        "install",
        "install.uninstall",
        "backup",
        "restore",
        "importing.import_",
    ),
    "Elsewhere": ("trust", "knock", "test", "connect", "key"),
    "Shell": ("completion",),
}


class _OnDemand(MutableMapping[str, click.Command]):
    """The commands by name. Each is imported when it is asked for: of all, one run needs one."""

    def __init__(self) -> None:
        self._places = {_name(place): place for section in SECTIONS.values() for place in section}

    def __getitem__(self, name: str) -> click.Command:
        module, _, attribute = self._places[name].rpartition(".")
        found: click.Command = getattr(
            importlib.import_module(f"knockgate.cli.{module or attribute}"), attribute
        )
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __setitem__(self, name: str, command: click.Command) -> None:
        raise NotImplementedError

    def __delitem__(self, name: str) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _name(place: str) -> str:
    """Of the command there; Python has words of its own, so two of them end in an underscore."""
    return place.rpartition(".")[2].rstrip("_")


class _Commands(PageGroup):
    """The group of all, in sections."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        width = max(len(name) for name in self.commands)
        for heading, places in SECTIONS.items():
            names = map(_name, places)
            with formatter.section(heading):
                rows = [(name.ljust(width), self.commands[name].get_short_help_str(80)) for name in names]
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderLeft from error


@click.group(
    PROGRAM,
    cls=_Commands,
    commands=_OnDemand(),
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
