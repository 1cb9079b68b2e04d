"""``check``: what a configuration means, and what on this host works against it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from tests.knockgate.cli.gates import SSH, WEB, gate
from tests.knockgate.cli.process import knockgate
from tests.netns import isolated, run, up

from knockgate.cli import main
from knockgate.cli.phrases import columns, door_in_words, time_in_words
from knockgate.config import doors
from knockgate.doctor import surroundings
from knockgate.model import Port, Protocol

RUNS = (
    '[doors.x.sequence]\nruns_in = "daemon"\nsteps = ["udp/2"]\n'
    '[doors.x.commands]\nopen = ["/bin/a", "%IP%"]\nclose = ["/bin/b"]\n'
)
IN_WORDS = (
    "ssh: tcp/22 for 15s, after tcp/7000, udp/8000, tcp/9000, each within 5s of the one before (kernel)"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SSH, IN_WORDS),
        (WEB, "web: tcp/443, udp/443 for 1h, opened by hand alone"),
        (
            WEB + '[doors.web.sequence]\nruns_in = "daemon"\nsteps = ["tcp/1", "udp/2"]\nwithin = "90s"\n',
            "web: tcp/443, udp/443 for 1h, after tcp/1, udp/2, all within 90s (daemon)",
        ),
        (
            RUNS,
            "x: after udp/2 (daemon), runs /bin/a and /bin/b",
        ),
        (
            '[doors.x]\nports = ["tcp/1"]\n[doors.x.sequence]\nruns_in = "daemon"\none_time = "/x"\n',
            "x: tcp/1 for 15s, after the next line of /x, all within 5s (daemon)",
        ),
    ],
)
def test_a_door_is_told_in_words(text: str, words: str) -> None:
    (door,) = doors.parse(text).doors
    assert door_in_words(door) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1s"),
        (59, "59s"),
        (60, "1m"),
        (119.5, "2m"),
        (3599, "59m 59s"),
        (3671, "1h 1m"),
        (86400.0, "1d"),
        (90000.0, "1d 1h"),
        (float("inf"), "ever"),
    ],
)
def test_a_time_is_told_in_two_units(seconds: float, words: str) -> None:
    assert time_in_words(seconds) == words


def test_columns_are_as_wide_as_their_widest_text() -> None:
    assert columns([("A", "BB", "C"), ("xxx", "y", "")]) == "A    BB  C\nxxx  y"


def test_a_sound_configuration_has_a_line_a_door(tmp_path: Path) -> None:
    done = knockgate("check", "--strict", gate(tmp_path, SSH, WEB))
    lines = [
        line
        for line in done.stderr.splitlines()
        if "not looked at" not in line and "hint: run it as" not in line
    ]
    assert (done.returncode, lines) == (0, [])
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["ssh", "web"]
    as_json = json.loads(knockgate("check", "--json", gate(tmp_path, SSH)).stdout)
    (door,) = as_json["doors"]
    assert (as_json["file"], as_json["warnings"]) == (str(tmp_path / "gate.toml"), [])
    assert (door["name"], door["ports"], door["lease"], door["within"]) == ("ssh", ["tcp/22"], 15, 5)


def test_advice_is_a_warning_and_strictly_a_no(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = gate(tmp_path, SSH.replace('"udp/8000", "tcp/9000"', '"tcp/7001", "tcp/7002"'))
    assert main(["check", file]) == 0
    told = capsys.readouterr()
    assert "knockgate: warning: ssh: any port scan in ascending order opens it" in told.err
    assert "  hint: mix tcp and udp" in told.err
    assert main(["check", "--strict", file]) == 1
    assert main(["check", "--json", file]) == 0
    (warning,) = json.loads(capsys.readouterr().out.splitlines()[-1])["warnings"]
    assert warning["door"] == "ssh" and warning["hint"]


def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = gate(tmp_path, SSH.replace("ports", "prots"))
    for command in ("check", "rules"):
        assert main([command, file]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err == f"knockgate: {file}:5: doors.ssh.prots: unknown key\n  hint: did you mean ports?\n"


@isolated
def test_programs_that_listen_on_a_knock_port_are_told_of(tmp_path: Path) -> None:
    up("lo", "10.9.9.1/32", "fd00::1/128")
    file = gate(tmp_path, SSH)
    quiet = knockgate("check", file)
    assert quiet.stderr == ""
    with (
        socket.create_server(("10.9.9.1", 7000)),
        socket.create_server(("127.0.0.1", 9000)),  # nobody else can connect to it
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(("::", 8000))
        assert surroundings.listeners() == {Port(Protocol.TCP, 7000), Port(Protocol.UDP, 8000)}
        done = knockgate("check", "--strict", file)
        other = knockgate(
            "check",
            gate(
                tmp_path,
                SSH.replace('ports = ["tcp/22"]', "").replace("steps", 'runs_in = "daemon"\nsteps')
                + '[doors.ssh.commands]\nopen = ["/bin/a"]\n',
            ),
        )
    assert done.returncode == 1
    assert done.stderr.count("a program listens on") == 2
    assert "ssh: a program listens on tcp/7000, and nobody reaches it while the gate is up" in done.stderr
    assert "ssh: a program listens on tcp/7000, so whoever uses it knocks" in other.stderr


def test_a_file_of_one_time_sequences_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "lines"
    door = f'[doors.x]\nports = ["tcp/1"]\n[doors.x.sequence]\nruns_in = "daemon"\none_time = "{lines}"\n'
    assert main(["check", gate(tmp_path, door)]) == 0
    wrong = f"warning: x: its one-time sequences cannot be read: {lines}: No such file or directory\n"
    assert wrong in capsys.readouterr().err
    lines.write_text("7000,8000,9000\n")
    assert main(["check", gate(tmp_path, door)]) == 0
    assert "one-time" not in capsys.readouterr().err


@isolated
def test_rules_of_others_that_lead_past_a_door_are_told_of(tmp_path: Path) -> None:
    up("lo", "10.9.9.1/32")
    file = gate(tmp_path, SSH, WEB)
    assert knockgate("check", "--strict", file).returncode == 0
    run(
        "nft",
        "table ip nat { chain in { type nat hook prerouting priority -100; "
        "tcp dport 7777 redirect to :22; tcp dport 443 dnat to 10.9.9.1:9999; "
        "tcp dport 8080 dnat to 10.9.9.7:22; udp dport 5353 redirect to :53; }; }",
    )
    done = knockgate("check", "--strict", file)
    assert done.returncode == 1
    first, second = [line for line in done.stderr.splitlines() if "warning" in line]
    assert first.startswith("knockgate: warning: ssh: tcp/7777 is a way past it: table ip nat, chain in")
    assert second.startswith("knockgate: warning: web: tcp/9999 is a way past it: table ip nat, chain in")
    # Guarded as well, it is none.
    guarded = gate(tmp_path, SSH.replace('"tcp/22"', '"tcp/22", "tcp/7777"'), WEB.replace("443", "9999", 1))
    assert "tcp/7777 is a way" not in knockgate("check", guarded).stderr


@isolated
def test_a_copy_that_does_not_load_at_boot_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = gate(tmp_path, SSH)
    copy = tmp_path / "nftables.conf"
    monkeypatch.setattr(surroundings, "BOOT_FILES", (str(copy),))
    assert knockgate("up", file).returncode == 0
    copy.write_text(run("nft", "list", "ruleset"))
    assert main(["check", "--strict", file]) == 1
    assert f"warning: {copy} has a copy of the table" in capsys.readouterr().err
    run("nft", "delete", "table", "inet", "knockgate")
    with pytest.raises(AssertionError, match="syntax error"):
        run("nft", "-f", str(copy))  # so it is
    # One that was loaded with plain nft has no flags of its own, and does not load either.
    (tmp_path / "rules.nft").write_text(knockgate("rules", file).stdout)
    run("nft", "-f", str(tmp_path / "rules.nft"))
    copy.write_text(run("nft", "list", "ruleset"))
    assert main(["check", "--strict", file]) == 1
    run("nft", "delete", "table", "inet", "knockgate")
    with pytest.raises(AssertionError, match="syntax error"):
        run("nft", "-f", str(copy))
    copy.write_text(knockgate("rules", file).stdout)
    assert main(["check", "--strict", file]) == 0
    run("nft", "-f", str(copy))
