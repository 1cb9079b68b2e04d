"""``knockgate knock``: what it tells, and at whom it knocks: the real knockd, and a door of ours."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
from pathlib import Path

import pytest
from tests.knockgate.cli.process import command, environment, knockgate
from tests.netns import Network, isolated, run, until, up, veth

from knockgate.cli import main
from knockgate.config import doors
from knockgate.firewall.ruleset import compile_ruleset

SHUT = "table inet test { chain door { type filter hook input priority 0; tcp dport 6500 drop; }; }"


def test_a_knock_tells_whom_it_was_for(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["knock", "127.0.0.1", "20001", "20002:udp", "tcp/20003", "--delay", "1ms"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.out == "knocked at 127.0.0.1 from 127.0.0.1: tcp/20001 udp/20002 tcp/20003\n"
    assert told.err == ""
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "host": "127.0.0.1",
        "address": "127.0.0.1",
        "source": "127.0.0.1",
        "steps": ["tcp/20001", "udp/20002", "tcp/20003"],
        "sent": True,
        "wait": None,
    }


@isolated
def test_a_dry_run_sends_nothing() -> None:
    run("nft", "table inet test { chain sent { type filter hook output priority 0; counter; }; }")
    words = ["knock", "127.0.0.1", "7000", "8000", "--delay", "70ms"]
    dry = knockgate(*words, "--dry-run", "--wait", "22")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout == "would knock at 127.0.0.1, from 127.0.0.1: tcp/7000 tcp/8000, 70ms apart\n"
    assert knockgate(*words[:-1], "0", "--dry-run").stdout.endswith(", 0s apart\n")
    assert "packets 0 " in run("nft", "list", "ruleset")
    assert knockgate(*words).returncode == 0
    assert "packets 0 " not in run("nft", "list", "ruleset")


@isolated
def test_waiting_has_three_answers() -> None:
    words = ["knock", "127.0.0.1", "7000", "--delay", "1ms", "--wait", "tcp/6500", "--timeout", "0.2"]
    shut = knockgate(*words)
    assert shut.returncode == 1
    assert re.fullmatch(
        r"knocked .*\ntcp/6500 is still closed, 0\.[2-9] s after the last knock\n", shut.stdout
    )
    assert shut.stderr.startswith("  hint: the host refuses")
    with socket.create_server(("127.0.0.1", 6500)):
        was_open = knockgate(*words)
        assert was_open.returncode == 0
        assert was_open.stdout.splitlines()[1] == "tcp/6500 is open, as it was already before the knock"
        run("nft", SHUT)
        silent = knockgate(*words, "--json")
    assert silent.returncode == 1
    assert "a longer --delay" in silent.stderr
    wait = json.loads(silent.stdout)["wait"]
    assert wait == {
        "port": "tcp/6500",
        "before": "filtered",
        "state": "filtered",
        "open": False,
        "seconds": None,
    }


@isolated
def test_what_cannot_be_sent_is_no_success() -> None:
    """knock exits 0 here."""
    gone = knockgate("knock", "203.0.113.9", "7000")
    assert gone.returncode == 2
    assert gone.stdout == ""
    assert gone.stderr.splitlines() == [
        "knockgate: step 1 of 1 (tcp/7000) could not be sent to 203.0.113.9: network is unreachable",
        "  hint: this machine has no way to 203.0.113.9; check its network and routes",
    ]
    dry = knockgate("knock", "203.0.113.9", "7000", "--dry-run")
    assert "but there is no route" in dry.stdout


def test_the_wait_is_shown_on_a_terminal_only() -> None:
    words = ["knock", "127.0.0.1", "20001", "--delay", "1ms", "--wait", "20002", "--timeout", "0.4"]
    assert "waiting" not in knockgate(*words).stderr
    near, far = pty.openpty()
    with subprocess.Popen(command(*words), env=environment(), stderr=far, stdout=far) as process:
        process.wait(timeout=30)
    os.close(far)
    shown = os.read(near, 65536).decode()
    os.close(near)
    assert "waiting for tcp/20002 ... 0.2 s" in shown
    assert re.search(r"\r +\r", shown)  # wiped out before the answer is printed


# --- profiles -----------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "knockgate" / "profiles.toml"
    file.parent.mkdir()
    file.write_text(
        '[profiles.home]\nhost = "127.0.0.1"\nsteps = ["20001", "udp/20002"]\ndelay = "1ms"\n'
        'wait = "20003"\ntimeout = "0.1s"\n[profiles.office]\nhost = "::1"\nsteps = [20001]\n'
    )
    return file


def test_a_profile_is_knocked_at_by_name_and_options_come_before_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.exists()
    assert main(["knock", "home", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["steps"] == ["tcp/20001", "udp/20002"]
    assert told["wait"]["port"] == "tcp/20003"
    with socket.create_server(("127.0.0.1", 0)) as service:
        assert main(["knock", "home", "--wait", str(service.getsockname()[1])]) == 0
    capsys.readouterr()
    # With steps it is a host, also where a profile has the name.
    assert main(["knock", "home.invalid", "7000"]) == 2
    assert "unknown host 'home.invalid'" in capsys.readouterr().err


def test_the_family_comes_from_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    for source, address in (("127.0.0.9", "127.0.0.1"), ("::1", "::1")):
        words = ["knock", "ip6-localhost" if ":" in source else "localhost", "1", "--source", source]
        if main([*words, "--dry-run", "--json"]) == 0:  # some systems have no such name
            assert json.loads(capsys.readouterr().out)["address"] == address
    assert main(["knock", "127.0.0.1", "1", "--source", "::1"]) == 2
    assert "use" not in (told := capsys.readouterr().err)
    assert "take a source of the same one" in told


def test_profiles_are_listed_without_their_steps(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knock", "--list"]) == 0
    told = capsys.readouterr().out
    assert told == "home: 127.0.0.1, 2 steps, tcp/20003\noffice: ::1, 1 step\n"
    assert main(["knock", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "home": {"host": "127.0.0.1", "kind": "sequence"},
        "office": {"host": "::1", "kind": "sequence"},
    }
    home.unlink()
    assert main(["knock", "--list"]) == 0
    assert "there is no profile in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ([], "there is no HOST and no PROFILE", "knockgate knock --help"),
        (["hme"], "no steps, and no profile 'hme'", "did you mean home?"),
        (["192.0.2.1"], "no steps, and no profile '192.0.2.1'", "there are: home, office"),
        (["127.0.0.1", "70000"], "STEP: '70000': a port is a number", None),
        (["127.0.0.1", "7000,8000"], "STEP: '7000,8000' is no step", "separate words: 7000 8000"),
        (["home", "--wait", "udp/53"], "--wait: cannot wait for udp/53", "TCP port of the same door"),
        (["home", "--delay", "soon"], "--delay: 'soon' is no time", 'write "15s"'),
        (["home", "--delay", "-1"], "--delay: -1.0 is not between 0s and 1m", None),
        (["home", "--tiemout", "1"], "no such option", "did you mean --timeout?"),
    ],
)
def test_a_mistake_is_one_line_and_a_hint(
    words: list[str], message: str, hint: str | None, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.exists()
    assert main(["knock", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    first, *rest = told.err.splitlines()
    assert first.startswith("knockgate: ") and message in first
    assert [line.startswith("  hint: ") and (hint or "") in line for line in rest] == [True] * bool(hint)


# --- the real thing -----------------------------------------------------------------------------------


@isolated
def test_our_knock_opens_the_real_knockd(tmp_path: Path) -> None:
    host = Network()
    veth("near", "far", host)
    up("near", "10.9.9.2/24")
    proof = tmp_path / "opened"
    configuration = tmp_path / "knockd.conf"
    configuration.write_text(
        "[options]\n logfile = /dev/null\n"
        "[door]\n sequence = 7000,8000:udp,9000\n seq_timeout = 10\n tcpflags = syn\n"
        f" start_command = /usr/bin/touch {proof}-%IP%\n"
    )
    with host:
        up("far", "10.9.9.1/24")
        words = ["knockd", "-i", "far", "-c", str(configuration), "-v"]
        daemon = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert daemon.stdout is not None
    try:
        assert "listening on far" in daemon.stdout.readline()
        wrong = knockgate("knock", "10.9.9.1", "7000", "9000", "8000:udp")
        assert wrong.returncode == 0, wrong.stderr
        right = knockgate("knock", "10.9.9.1", "7000", "8000:udp", "9000")
        assert right.returncode == 0, right.stderr
        until(Path(f"{proof}-10.9.9.2").exists, "knockd opens")
    finally:
        daemon.kill()
        log, _ = daemon.communicate()
    assert log.count("OPEN SESAME") == 1  # the first knock, in the wrong order, was heard and opened nothing
    assert log.count("Stage 1") == 2


@pytest.mark.parametrize("address", ["10.9.9.1", "fd09::1"])
@isolated
def test_a_door_of_ours_opens_for_our_knock_and_for_knock(tmp_path: Path, address: str) -> None:
    configuration = doors.parse(
        '[doors.ssh]\nports = ["tcp/22"]\nlease = "1h"\n'
        '[doors.ssh.sequence]\nsteps = ["tcp/7000", "udp/8000", "tcp/9000"]\n'
    )
    (tmp_path / "rules.nft").write_text(compile_ruleset(configuration))
    host = Network()
    veth("near", "far", host)
    up("near", "10.9.9.2/24", "10.9.9.3/24", "fd09::2/64", "fd09::3/64")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    ours, theirs = (f"{address[:-1]}{digit}" for digit in "23")
    with host:
        up("far", "10.9.9.1/24", "fd09::1/64")
        run("nft", "-f", str(tmp_path / "rules.nft"))
        service = socket.create_server((address, 22), family=family)
    with service:
        wrong = knockgate("knock", address, "7000", "9000", "--wait", "22", "--timeout", "0.3")
        assert wrong.returncode == 1
        assert "tcp/22 is still filtered" in wrong.stdout
        words = ["7000", "udp/8000", "9000", "--wait", "22", "--json"]
        right = knockgate("knock", address, *words, "--source", ours)
        assert right.returncode == 0, right.stderr
        wait = json.loads(right.stdout)["wait"]
        assert (wait["before"], wait["open"]) == ("filtered", True)
        assert wait["seconds"] < 0.9  # no SYN waited for its repetition
        other = knockgate("knock", address, "7000", "--wait", "22", "--timeout", "0.3", "--source", theirs)
        assert other.returncode == 1  # the lease is for one source
        # knock has no way to choose the source, so the one it would take goes away.
        run("ip", "address", "del", ours + ("/64" if ":" in ours else "/24"), "dev", "near")
        if ":" not in ours and "10.9.9.3" not in run("ip", "-4", "address", "show", "near"):
            up("near", "10.9.9.3/24")  # secondary addresses may go with the first
        run("knock", "-d", "50", address, "7000", "8000:udp", "9000")
        after = knockgate("knock", address, "7000", "--wait", "22", "--timeout", "5", "--json")
        assert json.loads(after.stdout)["wait"]["before"] == "open"
