from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable

import pytest

from knockgate.daemon.arguments import Parser


def parser() -> Parser:
    made = Parser(prog="half", description="Does half of it.", epilog="And ends.")
    files = made.add_mutually_exclusive_group()
    files.add_argument("--config", metavar="FILE", default="/etc/gate.toml", help="a file")
    files.add_argument("--knockd", metavar="FILE", help="another one")
    ends = made.add_mutually_exclusive_group(required=True)
    ends.add_argument("--link", metavar="FD", type=int, help="a descriptor")
    ends.add_argument("--doorbell", metavar="FD", type=int, help="the same")
    made.add_argument("--user-name", metavar="NAME", required=True, help="who")
    made.add_argument("--watch", action="store_true", help="watch")
    made.add_argument("--pause", metavar="SECONDS", type=float, default=0.0, help="wait")
    return made


def outcome(parse: Callable[[list[str]], object], words: list[str]) -> object:
    try:
        found = parse(words)
    except SystemExit as end:
        return end.code
    return found if isinstance(found, dict) else vars(found)


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("--link 3 --user-name jo", True),
        ("--doorbell 0 --user-name jo --config /x --watch --pause 1.5", True),
        ("--user-name '' --link 3", True),
        ("--user-name=jo --link 3", False),
        ("--user jo --link 3", False),
        ("--link 3 --link 4 --user-name jo", False),
        ("--link three --user-name jo", False),
        ("--link -1 --user-name jo", False),
        ("--link 3 --doorbell 4 --user-name jo", False),
        ("--config /x --knockd /y --link 3 --user-name jo", False),
        ("--user-name jo", False),
        ("--link 3", False),
        ("--link 3 --user-name", False),
        ("--link 3 --user-name jo more", False),
        ("--link 3 --user-name jo --nope", False),
        ("--help", False),
    ],
)
def test_a_line_means_what_it_means_to_argparse(
    line: str, *, plain: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    words, made = shlex.split(line), parser()
    assert (made._plain(words) is not None) == plain
    assert outcome(made.parse_args, words) == outcome(made._at_length, words)
    assert not plain or capsys.readouterr() == ("", "")


def test_argparse_is_only_asked_where_a_line_is_not_plain() -> None:
    code = """
import sys
from knockgate.daemon.arguments import Parser
made = Parser(prog="half", description="Does half of it.")
made.add_argument("--name")
print(made.parse_args().name, "argparse" in sys.modules)
"""
    for words, said in ((["--name", "jo"], "jo False"), (["--name=jo"], "jo True")):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == said
