"""The command ``knockdemo``: install, uninstall, tour, lab."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import knockgate
from knockdemo import install, terminal
from knockdemo.lanes import INSTALLED, NAMES
from knockgate.errors import Unavailable

PROGRAM = "knockdemo"

EPILOG = """\
The daemons and the client are modules of their own: python3 -m knockdemo.daemon (lane A),
python3 -m knockdemo.secret_service PORT, python3 -m knockdemo.client HOST [PORT ...].

exit status: 0 it worked; 1 it worked, and what was measured is not what a gate should show;
2 it could not be done; 130 interrupted.
"""


def _lab(args: argparse.Namespace) -> int:
    from knockdemo.lab import front  # noqa: PLC0415 - installing must work on a bare Python

    return front.command(args)


def _tour(args: argparse.Namespace) -> int:
    from knockdemo import tour  # noqa: PLC0415 - as above

    return tour.command(args)


def _completion(args: argparse.Namespace) -> int:
    try:
        import shtab  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise Unavailable("the library shtab is not installed", hint="pip install shtab") from None
    print(shtab.complete(parser(), shell=args.shell))
    return 0


def _window(text: str) -> int:
    if not text.isdecimal() or not 3 <= int(text) <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds from 3 to 86400")
    return int(text)


def _add_lanes(verb: argparse.ArgumentParser, names: Sequence[str]) -> None:
    every = ",".join(names)
    verb.add_argument("--lanes", default=every, metavar=every, help="which lanes (default: %(default)s)")


def parser() -> argparse.ArgumentParser:
    """The command line, whole; shell completion is made from it too."""
    top = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Ways to knock, side by side: a small nftables daemon (A), knockd (B), fwknop (C) and, "
        "in the lab, doors of knockgate's (D, E, F), each in front of an identical service on its own port.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {knockgate.__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="COMMAND", required=True)

    one = verbs.add_parser(
        "lab",
        help="the whole tour on this machine, in namespaces, nothing left behind",
        description="Build a host, a client and the wire between them out of namespaces, run the real "
        "daemons there, and ask every lane the same questions. Needs no root where the system lets "
        "ordinary users make user namespaces. Touches nothing of this machine's own network.",
        epilog="Exit status 0: scans, control, bystander and banner are right in every lane; 1: not so.",
    )
    _add_lanes(one, NAMES)
    one.add_argument(
        "--window",
        type=_window,
        default=15,
        metavar="SECONDS",
        help="how long a knock opens a door, in every lane; whole, at least 3 (default: %(default)s)",
    )
    one.add_argument("--json", metavar="FILE", help="write the report there too; - for standard output")
    one.set_defaults(act=_lab)

    two = verbs.add_parser(
        "tour",
        help="scan, knock, scan, wait, scan: against a host on which `knockdemo install` was run",
        description="The tutorial's last step, from another machine on the network: scan, knock at every "
        "lane, scan, wait until the window is over, scan.",
        epilog="Exit status 0: every door was filtered, then open, then filtered. 1: one was not.",
    )
    two.add_argument("host", metavar="HOST", help="the host's name or IPv4 address")
    _add_lanes(two, INSTALLED)
    two.add_argument(
        "--window",
        type=_window,
        default=15,
        metavar="SECONDS",
        help="the host's window (default: %(default)s)",
    )
    two.add_argument(
        "--rc-file",
        default="client.fwknoprc",
        metavar="FILE",
        help="lane C's keys, the host's /etc/knockdemo/client.fwknoprc (default: ./%(default)s)",
    )
    two.add_argument(
        "--allow-ip",
        metavar="ADDRESS",
        help="our address as the host sees it (default: the one we send from)",
    )
    two.add_argument("--json", metavar="FILE", help="write the result there too; - for standard output")
    two.set_defaults(act=_tour)

    three = verbs.add_parser("install", help="lay down units, configuration and keys on this host")
    install.add_install_arguments(three)
    three.set_defaults(act=install.install)
    four = verbs.add_parser("uninstall", help="take all of it away again, rules and tables included")
    install.add_uninstall_arguments(four)
    four.set_defaults(act=install.uninstall)
    five = verbs.add_parser(
        "completion",
        help="print a completion script for a shell",
        description='Print a completion script. For bash: eval "$(knockdemo completion bash)"',
    )
    five.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    five.set_defaults(act=_completion)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = parser().parse_args(argv)
    return terminal.run(PROGRAM, lambda: args.act(args))


if __name__ == "__main__":
    sys.exit(main())
