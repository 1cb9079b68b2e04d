"""The command as a whole: help of every command, statuses, mistakes, completion, readers that leave."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.knockgate.cli.gates import SSH, gate
from tests.knockgate.cli.process import command, environment, process, started

from knockgate import __version__
from knockgate.cli import main
from knockgate.cli.commands import SECTIONS, knockgate


def every_command(group: click.Group = knockgate, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, each in group.commands.items():
        yield (*path, name)
        if isinstance(each, click.Group):
            yield from every_command(each, (*path, name))


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_every_command_has_a_page(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"Usage: knockgate {' '.join(words)} ")
    assert max(map(len, page.splitlines())) <= 110
    if words not in (("import",), ("key",), ("card",), ("device",), ("replay",)):
        assert "Exit status: 0" in page
        assert "hanges nothing" in page or words[-1] not in (
            "check",
            "rules",
            "status",
            "completion",
            "knock",
        )
    assert main([*words, "-h"]) == 0
    assert capsys.readouterr().out == page


def test_the_list_of_commands_names_all_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    page = capsys.readouterr().out
    for heading, places in SECTIONS.items():
        assert places and f"\n{heading}:\n" in page
    for name, each in knockgate.commands.items():
        assert each.name == name
        assert f"\n  {name} " in page
        assert each.get_short_help_str(200).endswith(".")
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == page
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"knockgate {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["stauts"], "no such command: stauts", "did you mean status?"),
        (["zzz"], "no such command: zzz", "knockgate --help shows what there is"),
        (["status", "--jsn"], "no such option", "did you mean --json?"),
        (["open", "ssh"], "missing argument 'SOURCE'", "knockgate open --help shows what there is"),
        (["check", "a", "b"], "got unexpected extra argument (b)", "knockgate check --help"),
        (["check", "a", "--config", "b"], "there are two configurations: a and b", "knockgate check --help"),
        (["up", "--config", "a", "--knockd", "b"], "there are two configurations: a and b", "knockgate up"),
        (["status", "-i", "eth0"], "-i goes with --knockd", "knockgate status --help"),
        (["up", "--confirm", "0"], "--confirm: 0.0 is not between 1s and 1d", None),
        (["up", "--confirm", "soon"], "--confirm: 'soon' is no time", 'write "15s"'),
        (["import", "knokd"], "no such command: knokd", "did you mean knockd?"),
        (["import"], "missing command", "knockgate import --help shows what there is"),
        (["check", "/nonexistent/gate.toml"], "/nonexistent/gate.toml: no such file", "--config FILE"),
        (["run", "/nonexistent/gate.toml"], "/nonexistent/gate.toml: no such file", "--config FILE"),
        (["confirm", "/nonexistent/gate.toml"], "/nonexistent/gate.toml: no such file", "--config FILE"),
        (["check", ""], "the name of the configuration is empty", "knockgate check --help"),
        (["up", "--config", ""], "the name of the configuration is empty", "knockgate up --help"),
        (["simulate", "a.toml"], "a.toml: is a configuration, not a capture", "simulate a.toml knock.pcap"),
        (["simulate", "a.conf"], "a.conf: is a configuration, not a capture", "--knockd a.conf knock.pcap"),
        (["knock", "a", "1", "-6", "-4"], "-4 and -6 leave no address", "knockgate knock --help"),
        (["connect", "a", "22", "-6", "-4"], "-4 and -6 leave no address", "knockgate connect --help"),
        (["connect", "a", "ssh"], "PORT: 'ssh' is no port", "write 7000"),
        (["connect", "a", "udp/22"], "PORT: cannot wait for udp/22", "a TCP port"),
        (["completion"], "missing argument '{bash|zsh|fish}'", "knockgate completion --help"),
        (["completion", "tcsh"], "'tcsh' is not one of", "knockgate completion --help"),
    ],
)
def test_a_mistake_is_one_line_and_a_hint(
    words: list[str], message: str, hint: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    first, *rest = told.err.splitlines()
    assert first.startswith("knockgate: ") and message in first
    assert len(rest) <= 1 and (hint or "") in "".join(rest)
    assert all(line.startswith("  hint: ") for line in rest)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_made_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert f"_KNOCKGATE_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_a_bash_that_is_not_there_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert main(["completion", "fish"]) == 0
    assert capsys.readouterr().out
    assert main(["completion", "bash"]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.splitlines()[0]) == ("", "knockgate: no completion for this bash")


def test_a_shell_completes_commands_doors_and_profiles(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH, '[doors.smtp]\nports = ["tcp/25"]\n[doors.web]\nports = ["tcp/443"]\n')
    (tmp_path / "knockgate").mkdir()
    profiles = '[profiles.home]\nhost = "a"\nsteps = ["1"]\n[profiles.work]\nhost = "b"\nsteps = ["1"]\n'
    (tmp_path / "knockgate" / "profiles.toml").write_text(profiles)

    def completed(*words: str) -> set[str]:
        asked = environment(
            _KNOCKGATE_COMPLETE="bash_complete",
            COMP_WORDS=" ".join(["knockgate", *words]),
            COMP_CWORD=str(len(words)),
            XDG_CONFIG_HOME=str(tmp_path),
        )
        # The variable is of the program's name, which `python -m` hides.
        code = "import sys; from knockgate.cli import main; sys.exit(main())"
        done = subprocess.run(
            [sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=True, timeout=30
        )
        return {line.partition(",")[2] for line in done.stdout.splitlines()}

    assert completed("co") == {"confirm", "connect", "completion"}
    assert completed("open", "--config", file, "s") == {"ssh", "smtp"}
    assert completed("log", "--event", "no") == {"not-opened", "note"}
    assert completed("knock", "h") == {"home"}
    assert completed("connect", "w") == completed("connect", "--profile", "w") == {"work"}


def test_a_reader_that_left_is_no_traceback(tmp_path: Path) -> None:
    doors = "".join(f'[doors.d{number}]\nports = ["tcp/{number}"]\n' for number in range(1, 3000))
    reader, writer = os.pipe()
    os.close(reader)
    file = gate(tmp_path, doors)
    for words in (["rules", file], ["check", file]):
        done = subprocess.run(
            command(*words), stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False, timeout=60
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (141, False), done.stderr
    os.close(writer)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("rules", file),
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr == b"knockgate: the output cannot be written: No space left on device\n"


def test_output_that_was_closed_is_not_taken_for_read(tmp_path: Path) -> None:
    """Nor does anything that is opened later become standard output."""

    def ended(words: list[str], closed: str) -> tuple[int, str, str]:
        shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command(*words)]
        done = subprocess.run(
            shell, capture_output=True, text=True, env=environment(), check=False, timeout=60
        )
        return done.returncode, done.stdout, done.stderr

    file = gate(tmp_path, SSH)
    for words in (["rules", file], ["check", "--json", file]):
        status, out, _ = ended(words, "<&-")
        assert status == 0 and out
        said = "knockgate: the output cannot be written: Bad file descriptor\n"
        assert ended(words, "<&- >&-") == (2, "", said)
        assert ended(words, "<&- >&- 2>&-") == (2, "", "")
    # A message does not go where results are wanted.
    assert ended(["check", "/nonexistent"], "2>&-") == (2, "", "")


def test_ctrl_c_is_quiet() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first_step:
        first_step.bind(("127.0.0.1", 0))
        first_step.settimeout(30)
        step = f"udp/{first_step.getsockname()[1]}"
        words = ["knock", "127.0.0.1", step, "7000", "--delay", "50s"]
        with started(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as knocking:
            assert first_step.recv(9) == b"\0"
            knocking.send_signal(signal.SIGINT)
            out, err = knocking.communicate(timeout=30)
    assert (knocking.returncode, out, err.strip()) == (130, "", "")


def test_help_and_knocking_load_nothing_of_the_gate(tmp_path: Path) -> None:
    """Only what is asked for is imported: help is quick, and knocking works where there is no libnftables."""
    (tmp_path / "knockgate").mkdir()
    (tmp_path / "knockgate" / "profiles.toml").write_text(
        '[profiles.home]\nhost = "127.0.0.1"\nsteps = ["20001"]\ndelay = "1ms"\n'
    )
    heavy = (
        "ctypes",
        "asyncio",
        "cryptography",
        "knockgate.firewall.nftables",
        "knockgate.capture",
        "knockgate.daemon.run",
        "knockgate.doctor.surroundings",
    )
    others = ("knockgate.cli.status", "knockgate.config.doors")  # which the help of all commands needs
    code = (
        "import sys; from knockgate.cli import main; main(sys.argv[1:]); "
        f"print([name for name in {(*heavy, *others)!r} if name in sys.modules])"
    )
    for words, loaded in (
        (["--help"], list(others)),
        (["knock", "127.0.0.1", "20001", "--delay", "1ms"], []),
        (["connect", "home", "20002", "--timeout", "0.01"], []),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env=environment(XDG_CONFIG_HOME=str(tmp_path)),
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        assert done.stdout.splitlines()[-1] == str(loaded)
    assert process("--version").stdout == f"knockgate {__version__}\n"
