"""The words that the client takes, what it says of those that are wrong, and that its file can go alone."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.knockdemo.knocking import (
    DEADLINE_S,
    SCRIPT,
    run,
)

from knockdemo import client
from knockdemo.client import KnockError, Step

# What it reads


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("8000", Step(8000, "tcp")),
        ("8000/tcp", Step(8000, "tcp")),
        ("8000/udp", Step(8000, "udp")),
        ("tcp/8000", Step(8000, "tcp")),
        ("UDP/8000", Step(8000, "udp")),
        ("1", Step(1)),
        ("65535", Step(65535)),
    ],
)
def test_a_port_is_read_in_every_spelling(text: str, step: Step) -> None:
    assert client.parse_step(text) == step
    assert client.parse_step(str(step)) == step


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("0", "1 to 65535"),
        ("65536", "1 to 65535"),
        ("99999999999", "1 to 65535"),
        ("-1", "1 to 65535"),
        ("+80", "1 to 65535"),
        ("8_0", "1 to 65535"),
        ("٨٠", "1 to 65535"),
        ("", "1 to 65535"),
        ("ssh", "1 to 65535"),
        ("udp", "1 to 65535"),
        ("udp/", "1 to 65535"),
        ("8000/", "8000/tcp or 8000/udp"),
        ("8000/sctp", "8000/tcp or 8000/udp"),
        ("tcp/udp", "1 to 65535"),
        ("8000:udp", "after a slash"),
        ("7000,8000, 9000", "separate words: 7000 8000 9000"),
    ],
)
def test_what_is_no_port_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(KnockError, match="not a port") as raised:
        client.parse_step(text)
    assert hint in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("fe80::1%lo", "fe80::1%lo"),
        ("[fe80::1%lo]", "fe80::1%lo"),
    ],
)
def test_a_literal_address_keeps_its_meaning(host: str, address: str) -> None:
    assert client.resolve(host) == address


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ([], "the following arguments are required: HOST", "--help"),
        (["127.0.0.1", "70000"], "not a port: '70000'", "1 to 65535"),
        (["127.0.0.1", "--check", "70000"], "not a port: '70000'", "1 to 65535"),
        (["127.0.0.1", "--check", "53/udp"], "cannot check 53/udp", "TCP port"),
        (["127.0.0.1", "--delay", "soon"], "not a number of milliseconds: 'soon'", "from 0 to"),
        (["127.0.0.1", "--delay", "nan"], "not a number of milliseconds: 'nan'", "from 0 to"),
        (["127.0.0.1", "--delay=-1"], "not a number of milliseconds: '-1'", "from 0 to"),
        (["127.0.0.1", "--timeout", "0"], "not a number of seconds: '0'", "from 0.001 to"),
        (["127.0.0.1", "--quiet"], "unrecognized arguments: --quiet", "--help"),
        (["127.0.0.1", "-4", "-6"], "not allowed with", "--help"),
        (["host.invalid"], "unknown host 'host.invalid'", "spelling"),
        (["two..dots"], "unknown host 'two..dots'", "spelling"),
        (["127.0.0.1:7000"], "unknown host '127.0.0.1:7000'", "words of their own"),
        (["::1", "-4"], "unknown host '::1'", "IPv6 address; leave out -4"),
        (["fe80::1%lo", "-4"], "unknown host", "IPv6 address; leave out -4"),
        (["fe80::1"], "link-local", "fe80::1%eth0"),
        (["fe80::1%nowhere"], "unknown host", "name of the interface"),
        (["127.0.0.1", "--source", "203.0.113.9"], "'203.0.113.9' is not an address of this machine", "list"),
        (["127.0.0.1", "--source", "pi"], "'pi' is not an address of this machine", "list"),
        (["127.0.0.1", "--source", "::1"], "unknown host '127.0.0.1'", "--source of the same family"),
    ],
)
def test_a_mistake_is_one_line_and_a_hint(arguments: list[str], message: str, hint: str) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert first.startswith("knock-client: ")
    assert message in first
    assert not first.endswith(".")
    assert second.startswith("  hint: ")
    assert hint in second


def test_an_empty_host_is_refused() -> None:
    assert run("").stderr == "knock-client: the host is empty\n"


def test_help_is_a_page_with_exit_status_and_examples() -> None:
    result = run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for part in ("usage: knock-client", "--check PORT", "exit status:", "examples:", "7000 8000 9000"):
        assert part in result.stdout


# One file, alone


def test_the_script_is_the_module() -> None:
    assert SCRIPT.is_symlink()
    assert SCRIPT.resolve() == Path(client.__file__).resolve()


def test_runs_as_a_lone_copy_on_a_bare_python(tmp_path: Path) -> None:
    copy = tmp_path / "knock-client.py"
    shutil.copy(SCRIPT, copy)
    result = subprocess.run(
        [sys.executable, "-I", "-S", copy, "127.0.0.1", "--delay", "0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "knocked at 127.0.0.1: 7000/tcp 8000/tcp 9000/tcp\n"


def test_imports_the_standard_library_only() -> None:
    imported = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "knockdemo").partition(".")[0])
    assert "socket" in imported
    assert imported <= sys.stdlib_module_names


def test_no_neighbour_hides_the_standard_library() -> None:
    # Run through the link, the script has its own folder first on the path (Python resolves the link).
    neighbours = {path.stem for path in Path(client.__file__).parent.iterdir()} - {"__init__", "__main__"}
    assert "client" in neighbours
    assert not neighbours & sys.stdlib_module_names
