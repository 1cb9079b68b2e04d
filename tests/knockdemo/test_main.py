"""The command line: help that says what exits mean, mistakes in one line, completion that completes."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

import knockgate
from knockdemo.__main__ import main, parser


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "knockdemo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("verb", ["lab", "tour", "install", "uninstall", "completion"])
def test_every_verb_explains_itself(verb: str) -> None:
    done = run(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: knockdemo {verb}" in done.stdout


def test_help_says_what_the_exit_status_means() -> None:
    assert "exit status" in parser().format_help()


def test_version() -> None:
    assert run("--version").stdout == f"knockdemo {knockgate.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["paint"], ["lab", "--window", "x"], ["tour"]])
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage:" in done.stderr and "Traceback" not in done.stderr


def test_reader_that_leaves_is_no_traceback() -> None:
    script = f"{shlex.quote(sys.executable)} -m knockdemo completion bash | head -n 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_bash_completes_verbs_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    ask = "COMP_WORDS=(knockdemo {}); COMP_CWORD={}; _shtab_knockdemo; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    for words, number, wanted in (("la", 1, "lab"), ("lab --win", 2, "--window"), ("un", 1, "uninstall")):
        done = subprocess.run(
            ["bash", "-c", script + "\n" + ask.format(words, number)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert wanted in done.stdout.split()
