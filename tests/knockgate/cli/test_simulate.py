"""``simulate``: what it prints of a capture, and how it ends. What it decides has tests of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest
from tests.knockgate.capture import files
from tests.knockgate.cli.gates import SSH, gate
from tests.knockgate.cli.process import command, environment, knockgate
from tests.netns import DEADLINE
from tests.packets import ipv4, ipv6, tcp, udp

OPENS = ["t7000", "u8000", "t9000", "t22"]
KNOCKD = "[openSSH]\n sequence = 7000,8000:udp\n seq_timeout = 5\n start_command = /bin/echo %IP%\n"


def captured(*packets: str, source: str = "192.0.2.7", to: str = "10.0.0.1") -> bytes:
    """A pcap file with a packet each tenth of a second."""
    make = ipv6 if ":" in source else ipv4
    frames = []
    for number, packet in enumerate(packets):
        port = int(packet[1:])
        inner, protocol = (udp(port), 17) if packet[0] == "u" else (tcp(port), 6)
        kind = files.IP6 if ":" in source else files.IP
        frame = files.ethernet(make(inner, protocol, source=source, destination=to), kind)
        frames.append((number * 10**8, frame))
    return files.pcap(frames)


@pytest.fixture
def config(tmp_path: Path) -> str:
    return gate(tmp_path, SSH)


def capture(directory: Path, content: bytes) -> str:
    file = directory / "knock.pcap"
    file.write_bytes(content)
    return str(file)


def test_a_line_a_packet_and_the_sums(tmp_path: Path, config: str) -> None:
    done = knockgate("simulate", config, capture(tmp_path, captured("t22", *OPENS, "t5000")))
    assert done.stdout.splitlines() == [
        "    1    0.000000  192.0.2.7        tcp/22 SYN     dropped  door ssh is shut",
        "    2    0.100000  192.0.2.7        tcp/7000 SYN   dropped  a first knock",
        "    3    0.200000  192.0.2.7        udp/8000       dropped  the next knock",
        "    4    0.300000  192.0.2.7        tcp/9000 SYN   dropped  the last knock -> opens ssh for 15s",
        "    5    0.400000  192.0.2.7        tcp/22 SYN     passed   door ssh: a lease for 14.900 s more",
        "    6    0.500000  192.0.2.7        tcp/5000 SYN   passed   no port of the gate",
        "6 packets in 0.5 s: ssh opened once, 0 resets, 1 dropped at doors",
    ]
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("only", "numbers"),
    [([], [1, 2, 3, 4, 5, 6]), (["--only", "gate"], [2, 3, 4, 5]), (["--only", "opened"], [4])],
)
def test_only_some_lines(tmp_path: Path, config: str, only: list[str], numbers: list[int]) -> None:
    file = capture(tmp_path, captured("t5000", *OPENS, "t5000"))
    done = knockgate("simulate", config, file, *only)
    *lines, sums = done.stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == numbers
    assert sums.startswith("6 packets")


def test_json(tmp_path: Path, config: str) -> None:
    file = capture(tmp_path, captured("t22", "t7000", "u8000", "t9000", source="2001:db8::7", to="fd00::1"))
    *steps, last = map(json.loads, knockgate("simulate", config, file, "--json").stdout.splitlines())
    assert [step["verdict"] for step in steps] == ["dropped"] * 4
    assert steps[3] == {
        "number": 4,
        "time": 0.3,
        "source": "2001:db8::7",
        "destination": "fd00::1",
        "packet": "tcp/9000 SYN",
        "verdict": "dropped",
        "why": "the last knock",
        "at": "knock",
        "opened": ["ssh"],
        "effects": ["opens ssh for 15s"],
        "reset": False,
        "would_drop": False,
    }
    assert last == {
        "summary": {
            "packets": 4,
            "seconds": 0.3,
            "opened": {"ssh": 1},
            "reset": 0,
            "dropped_at_doors": 1,
            "would_drop": 0,
            "backwards": 0,
        }
    }


def test_in_shadow_it_says_who_would_be_kept_out(tmp_path: Path) -> None:
    """And who is always let in. Knocks pass, and open all the same."""
    file = capture(tmp_path, captured("t22", *OPENS))
    config = gate(tmp_path, 'shadow = true\nallow = ["198.51.100.0/24"]\n', SSH)
    *lines, sums = knockgate("simulate", config, file).stdout.splitlines()
    assert all(" passed " in line for line in lines)
    assert lines[0].endswith("passed   door ssh is shut, but for its shadow")
    assert lines[3].endswith("the last knock -> opens ssh for 15s")
    assert sums.endswith("ssh opened once, 0 resets, 0 dropped at doors; 1 would be, but for a shadow")
    file = capture(tmp_path, captured("t22", source="198.51.100.9"))
    done = knockgate("simulate", config, file)
    assert "passed   door ssh: always let in" in done.stdout
    assert done.stdout.endswith("0 dropped at doors\n")
    shut = knockgate("simulate", gate(tmp_path, SSH), file)  # the control
    assert "dropped  door ssh is shut" in shut.stdout


def test_nothing_opened_is_a_no(tmp_path: Path, config: str) -> None:
    done = knockgate("simulate", config, capture(tmp_path, captured("t7000", "t9000", "u8000")))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "3 packets in 0.2 s: no door opened, 1 reset, 0 dropped at doors"
    assert knockgate("simulate", config, capture(tmp_path, captured())).stdout.startswith("0 packets")


def test_a_knockd_conf(tmp_path: Path) -> None:
    conf = tmp_path / "knockd.conf"
    conf.write_text(KNOCKD)
    file = capture(tmp_path, captured("t7000", "u8000"))
    done = knockgate("simulate", "--knockd", str(conf), "-i", "eth0", file)
    assert done.returncode == 0, done.stderr
    assert "the daemon's last knock -> " in done.stdout and "runs /bin/echo 192.0.2.7" in done.stdout


def test_one_time_sequences_are_read_and_left_alone(tmp_path: Path) -> None:
    file, lines = capture(tmp_path, captured("t1", "t2")), tmp_path / "lines"
    door = f'[doors.x]\nports = ["tcp/22"]\nsequence = {{ runs_in = "daemon", one_time = "{lines}" }}\n'
    config = gate(tmp_path, door)
    lines.write_text("#7000\n 1\n 2\n")
    done = knockgate("simulate", config, file, "--only", "opened")
    assert re.findall(r"spends line (\d)", done.stdout) == ["2", "3"]
    assert lines.read_text() == "#7000\n 1\n 2\n"
    lines.unlink()
    done = knockgate("simulate", config, file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"knockgate: {lines}: cannot be read: No such file or directory\n"
        "  hint: door x has its one-time sequences there\n"
    )


def test_hosts_that_are_named_and_not(tmp_path: Path, config: str) -> None:
    both = captured(*OPENS) + captured(*OPENS, to="10.0.0.2")[24:]
    file = capture(tmp_path, both)
    done = knockgate("simulate", config, file)
    assert "ssh opened 2 times" in done.stdout
    assert done.stderr == (
        "knockgate: time runs backwards in the capture: 3 packets counted as of the latest time before\n"
        "knockgate: all these counted as the host: 10.0.0.1, 10.0.0.2\n"
        "  hint: name its addresses with --host ADDRESS\n"
    )
    named = knockgate("simulate", config, file, "--host", "10.0.0.2", "--host", "fd00::1")
    assert "ssh opened once" in named.stdout and "counted as the host" not in named.stderr


# --- what cannot be done ------------------------------------------------------------------------------


def test_what_comes_before_the_damage_counts(tmp_path: Path, config: str) -> None:
    file = capture(tmp_path, captured(*OPENS)[:-1])
    done = knockgate("simulate", config, file, "--only", "opened")
    assert done.returncode == 2
    assert "opens ssh" in done.stdout and "3 packets in 0.2 s: ssh opened once" in done.stdout
    assert done.stderr.startswith(
        f"knockgate: {file}: at byte 222, after packet 3: the file ends too early\n  hint:"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "missing argument"),
        (["{config}", "{pcap}", "more"], "there is one PCAP too many: more"),
        (["--config", "{config}", "other.toml", "{pcap}"], "there are two configurations: other.toml and "),
        (["{config}", "/nonexistent"], "/nonexistent: cannot be read: No such file or directory"),
        (["{config}", "/"], "/: cannot be read: Is a directory"),
        (["{config}", "/etc/passwd"], "no capture file, neither pcap nor pcapng"),
        (["/nonexistent", "{pcap}"], "/nonexistent: no such file"),
        (["{config}", "{pcap}", "--host", "10.0.0.0/8"], "--host: '10.0.0.0/8' is no address"),
    ],
)
def test_mistakes_are_a_line_and_a_hint(tmp_path: Path, config: str, words: list[str], says: str) -> None:
    pcap = capture(tmp_path, captured(*OPENS))
    done = knockgate("simulate", *(word.format(config=config, pcap=pcap) for word in words))
    assert (done.returncode, done.stdout) == (2, "")
    first, hint = done.stderr.splitlines()
    assert says in first and hint.startswith("  hint: ")


def standing_by(config: str) -> subprocess.Popen[bytes]:
    words = command("simulate", config, "-")
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())


def test_standard_input_as_it_comes(config: str) -> None:
    """A line is printed while the capture goes on; its end is that of the pipe."""
    with standing_by(config) as process:
        assert process.stdin and process.stdout
        first, second = captured("t22"), captured("t22", "t23")
        process.stdin.write(first)
        process.stdin.flush()
        assert b"door ssh is shut" in process.stdout.readline()
        process.stdin.write(second[len(first) :])
        process.stdin.close()
        assert b"no port of the gate" in process.stdout.readline()
        assert process.wait(DEADLINE) == 1


def test_an_interrupt_still_sums_up(config: str) -> None:
    with standing_by(config) as process:
        assert process.stdin and process.stdout
        process.stdin.write(captured("t22"))
        process.stdin.flush()
        assert b"door ssh is shut" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"1 packet in 0.0 s: no door opened, 0 resets, 1 dropped at doors\n"
        assert process.wait(DEADLINE) == 130
