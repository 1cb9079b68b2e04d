"""Showing reports and progress to people, with rich (extra ``lab``); never runs in the namespaces."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from knockdemo.report import Report, rows, sweep_line, trade_offs
from knockgate.errors import Unavailable

try:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.padding import Padding
    from rich.status import Status
    from rich.table import Table
    from rich.text import Text
except ModuleNotFoundError:
    raise Unavailable(
        "the library rich is not installed", hint="apt install python3-rich, or `make demo`, which brings it"
    ) from None

__all__ = ["Progress", "show_report"]


class Progress:
    """One line that says what is going on and how long a wait still takes; only lines without a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._last = ""

    def tell(self, text: str, left: float | None) -> None:
        """``left``: seconds that the wait may still take, None where nothing is waited for."""
        if self._status is not None:
            self._status.update(text if left is None else f"{text} ({max(0, round(left))} s)")
        elif text != self._last:
            self._console.print(text)
        self._last = text

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("entering the lab")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()


_COLOURS = {"open": "yellow", "opens": "yellow", "filtered": "green", "STAYS OPEN": "red"}
#: Wide enough for six columns where nobody looks at a terminal, such as in a file.
_WIDTH = 136


def show_report(report: Report) -> None:
    """The table (a row a question, a column a lane, a reason below its cell) and the trade-offs."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    with console.capture() as captured:
        _print(console, report)
    # rich fills every line up to the width, which a file or a mail does not need.
    for line in captured.get().splitlines():
        print(line.rstrip())


def _print(console: Console, report: Report) -> None:
    title = f"A knock opens a door for {report.window_s} s"
    table = Table(title=title, title_justify="left", pad_edge=False, box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for lane in report.lanes:
        table.add_column(f"{lane.lane}: {lane.mechanism}\n{lane.firewall}, tcp/{lane.port}", ratio=1)
    for question, cells in rows(report):
        table.add_row(question, *(_cell(*cell) for cell in cells))
    console.print(table)
    console.print("What the observer read off the wire:")
    for lane in report.lanes:
        console.print(Padding(f"{lane.lane}: {'; '.join(lane.wire)}", (0, 0, 0, 2)))
    console.print(sweep_line(report))
    console.print(
        "nmap's SERVICE column is left out: it looks the port number up in a table, wrongly here.\n"
    )
    console.print("What you trade:")
    for line in trade_offs(report):
        console.print(Padding(line, (0, 0, 0, 2)))
    verdict = (
        "Every lane hides its port, opens it for the one who knocked, and hides it again."
        if report.ok
        else "NOT as it should be: see the first rows."
    )
    console.print(f"\n{verdict}")


def _cell(text: str, below: str) -> Text:
    cell = Text(text, style=_COLOURS.get(text, ""))
    if below:
        cell.append(f"\n{below}", style="dim")
    return cell
