"""Pages for man(1): there is one for everything, they say what --help says, and readers find no fault."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import click
import pytest
from tests.conftest import REPO
from tests.knockgate.cli.process import knockgate as does
from tests.knockgate.cli.test_commands import every_command
from tools import reference
from tools.manpages import pages
from tools.roff import Roff, escaped, prose

from knockdemo.__main__ import parser
from knockgate.cli.commands import knockgate
from knockgate.config.toml import fields_of

DATE = "2020-02-02"  # mandoc warns of those to come
READERS: dict[str, list[str]] = {
    "groff": ["groff", "-man", "-Tutf8", "-ww", "-z"],
    "mandoc": ["mandoc", "-Tlint", "-Wwarning"],
    "man": ["man", "--warnings", "-l", "-Tutf8", "-Z"],
}


@cache
def written() -> dict[str, str]:
    return dict(pages(DATE))


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def faults(reader: str, file: Path) -> str:
    """What a reader has to say about a page, but for the page itself."""
    done = subprocess.run(
        [*READERS[reader], str(file)],
        stdout=subprocess.PIPE if reader == "mandoc" else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"LC_ALL": "C.UTF-8", "MANROFFSEQ": ""},
    )
    return (done.stdout or "") + done.stderr


def shown(name: str, text: str, folder: Path) -> str:
    """As somebody sees the page, in one line, since it is filled anew."""
    needs("groff")
    (folder / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-P-c", "-P-b", "-P-u", "-P-o", "-rLL=500n", str(folder / name)],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    return " ".join(done.stdout.split())


# --- each is there ------------------------------------------------------------------------------------


def test_there_is_a_page_for_each_command_and_for_the_file() -> None:
    commands = {"-".join(("knockgate", *words)) for words in every_command()} | {"knockgate"}
    demo = {f"knockdemo-{verb}" for verb in ("lab", "tour", "install", "uninstall", "completion")}
    assert set(written()) == {f"{name}.1" for name in commands | demo | {"knockdemo"}} | {"gate.toml.5"}


def test_what_is_referred_to_is_there() -> None:
    found = set()
    for name, text in written().items():
        for page, section in re.findall(r"\\fB([\w.\\-]+)\\fR\(([15])\)", text.partition("SEE ALSO")[2]):
            found.add(f"{page.replace(chr(92), '')}.{section}")
        assert f'"{DATE}" "knock' in text.splitlines()[0], name
    assert found == set(written())  # and each can be found from another one


# --- they say what --help says ------------------------------------------------------------------------


def command_of(words: tuple[str, ...]) -> click.Command:
    command: click.Command = knockgate
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


@pytest.mark.parametrize("words", [(), *every_command()], ids=" ".join)
def test_a_page_has_all_that_help_has(words: tuple[str, ...], tmp_path: Path) -> None:
    """Each paragraph with all its words, and each option with its line."""
    name = "-".join(("knockgate", *words)) + ".1"
    page = shown(name, written()[name], tmp_path).replace("`", "")
    purpose, *paragraphs = inspect.cleandoc(command_of(words).help or "").replace("`", "").split("\n\n")
    assert " ".join(purpose.rstrip(".").split())[1:] in page
    for paragraph in paragraphs:
        text = re.sub(r"^(?:Exit status|For example):(?:\s|$)", "", paragraph)  # headings in a manual
        assert " ".join(text.split()) in page
    rows = re.findall(r"^  (-\S.*?)  +(\S.*)$", does(*words, "--help").stdout, re.MULTILINE)
    assert rows
    for row in rows:
        assert " ".join(" ".join(row).split()).replace("`", "") in page


@pytest.mark.parametrize("verb", ["", "lab", "tour", "install", "uninstall", "completion"])
def test_a_page_has_all_that_the_demos_help_has(verb: str, tmp_path: Path) -> None:
    name = f"knockdemo-{verb}.1" if verb else "knockdemo.1"
    page = shown(name, written()[name], tmp_path)
    top = parser()
    actions = {each.dest: each for each in top._actions}
    one = actions["verb"].choices[verb] if verb else top  # type: ignore[index]
    for text in ((one.description or ""), (one.epilog or "")):
        for paragraph in text.split("\n\n"):
            said = re.sub(r"(?i)^exit status:? ", "", " ".join(paragraph.split()))
            assert said.replace("`", "") in page
    for action in one._actions:
        for option in action.option_strings:
            assert option in page


def test_the_page_of_the_file_has_every_key_and_every_warning(tmp_path: Path) -> None:
    page = shown("gate.toml.5", written()["gate.toml.5"], tmp_path)
    for schema in reference.SCHEMAS:
        for field in fields_of(schema):
            meaning = " ".join(field.metadata["doc"].split()).replace("`", "")
            assert f"{field.name} - {field.metadata['reader'].says.replace('`', '')} {meaning}" in page
    rows = re.findall(r"^\| (.+) \| (.+) \|$", reference.page().partition("about\n")[2], re.MULTILINE)[2:]
    assert len(rows) >= 16
    for warning, advice in rows:
        assert f"{warning} {advice}".replace("`", "") in page
    assert " ".join(reference.EXAMPLE.read_text().split()) in page


# --- their readers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_finds_a_fault(reader: str, tmp_path: Path) -> None:
    needs(reader)
    for name, text in written().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert faults(reader, tmp_path / name) == "", name
    broken = tmp_path / "broken.1"  # the control: they do look
    broken.write_text(written()["knockgate.1"].replace(".PP\n", ".PP\n.nosuch thing\n\\fXoh\n\\[nosuch]\n"))
    assert faults(reader, broken)


def test_man_finds_the_page_of_a_command_below_a_command(tmp_path: Path) -> None:
    needs("man")
    for name, text in written().items():
        folder = tmp_path / f"man{name[-1]}"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    def read(*words: str) -> str:
        done = subprocess.run(
            ["man", "-M", str(tmp_path), "-P", "cat", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
        )
        return done.stdout

    assert "knockgate-card-show - print a card" in read("knockgate-card-show")
    assert "knockgate-knock - knock at a host" in read("knockgate", "knock")  # man joins them by itself
    assert "gate.toml - what a gate guards" in read("5", "gate.toml")
    assert read("knockgate-nothing") == ""


SIGNS: list[tuple[Callable[[str], str], str, str]] = [
    (escaped, ".TH is no request", ".TH is no request"),
    (escaped, "'so neither", "'so neither"),
    (escaped, r"a\fBword\fR \n[.x] \\", r"a\fBword\fR \n[.x] \\"),
    (escaped, '~/a-b --long `x` ^y "z"', '~/a-b --long `x` ^y "z"'),
    (
        escaped,
        "\N{BULLET} caf\N{LATIN SMALL LETTER E WITH ACUTE}",
        "\N{BULLET} caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    ),
    (prose, "take `-x .y` or\n.z **now**", "take -x .y or .z now"),
]


@pytest.mark.parametrize(("write", "given", "seen"), SIGNS)
def test_what_is_written_is_what_is_seen(
    write: Callable[[str], str], given: str, seen: str, tmp_path: Path
) -> None:
    roff = Roff("x", 1, date=DATE, version="x 1")
    roff.section("X")
    roff.raw(write(given))
    assert f"X {seen} x 1" in shown("x.1", str(roff), tmp_path)


# --- the file -----------------------------------------------------------------------------------------


def test_a_package_is_the_same_whenever_it_is_built(tmp_path: Path) -> None:
    own = os.environ | {"SOURCE_DATE_EPOCH": "1580601600", "PYTHONPATH": f"{REPO}:{REPO / 'src'}"}
    command = [sys.executable, "-m", "tools.manpages", str(tmp_path / "man")]
    subprocess.run(command, check=True, env=own, cwd=REPO, timeout=60)
    found = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "man").iterdir()}
    assert found == written()
