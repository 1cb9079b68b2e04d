"""``knockgate replay forget-time``: the gate was sure of a wrong time, and an admin says so."""

from __future__ import annotations

import contextlib
import time

import click

from knockgate.cli.gatefiles import GateFiles, config_option
from knockgate.cli.page import Page
from knockgate.cli.terminal import say, tell

__all__ = ["forget_time"]

_MEANS = (
    "from its next start until the kernel vouches for the clock, the gate does not ask how old a knock is: "
    "one that was held back on its way opens late. None opens twice: the marks stay"
)


@click.command("forget-time", cls=Page)
@config_option
def forget_time(*, config: str | None) -> int:
    """Forget the last time that the gate was sure of, because it was wrong.

    A gate that starts where nothing vouches for the clock goes by the last time that it was sure of: it
    cannot be earlier, so it refuses knocks that are dated before then, as stale. Where that time was wrong,
    as after an hour in 2038, it refuses honest people. `knockgate status` tells what it goes by. The better
    way out is a clock that is right: once the kernel vouches for it, the gate goes by that.

    After this it knows no time until the kernel vouches for one. Until then it does not ask how old a knock
    is: one that was held back on its way opens late. None opens twice: what the gate remembers of knocks
    stays as it is. Keys that expire, and knocks that name no address, are refused without a clock anyway.

    The gate must not run. Needs root.

    Exit status: 0 it is forgotten, or there was none; 2 it could not be done, and all is as it was.

    For example:

        knockgate replay forget-time
    """
    from knockgate.config.doors import Sealed  # noqa: PLC0415 - see cli
    from knockgate.daemon.run import alone  # noqa: PLC0415 - see cli
    from knockgate.store.marks import SqliteMarks  # noqa: PLC0415 - see cli

    files = GateFiles.of(config)
    with files.changing(), alone(files.found.gate.run_directory):
        most = (files.found.sealed or Sealed()).devices
        marks = SqliteMarks(files.marks, incarnation=files.load().incarnation, devices=most)
        with contextlib.closing(marks):
            floor = marks.floor()
            if floor is not None:
                marks.keep_floor(None)
    if floor is None:
        say("the gate keeps no time that it was sure of, so there is nothing to forget")
        return 0
    was = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(floor.time / 10**9))
    tell(f"forgotten: the gate was sure that it was {was} UTC")
    tell(_MEANS)
    return 0
