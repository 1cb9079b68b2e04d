"""knockd.conf translated into a gate.toml: what is suggested, and what stands there with a reason."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from tests.knockgate.cli.process import knockgate
from tests.knockgate.config.knockd_files import tcp, translation, written

from knockgate.config import doors
from knockgate.config.doors import RunsIn
from knockgate.config.knockd import load, translate
from knockgate.config.knockd.rules import opening_of
from knockgate.errors import ConfigError
from knockgate.model import Port, Protocol


def suggested(text: str) -> str:
    """The lines of gate.toml that stand in the comments."""
    # A door may be called "x =", and what is said of it then looks like a line of TOML.
    return "\n".join(re.findall(r"^# (\[doors.*|[a-z_]+ = [\[\"].*)$", text, re.MULTILINE))


def test_a_door_of_the_kernel_is_suggested(tmp_path: Path) -> None:
    rule = "INPUT -s %IP% -p tcp --dport 22 -j ACCEPT"
    text = (
        "[ssh]\nsequence = 7000,8000:udp,9000\nseq_timeout = 10\ntcpflags = syn,!ack\ncmd_timeout = 5\n"
        f"start_command = /sbin/iptables -I {rule}\nstop_command = /sbin/iptables -D {rule}\n"
    )
    (door,) = doors.parse(suggested(translation(text, tmp_path))).doors
    assert door.sequence
    assert (door.name, door.ports, door.lease, door.commands) == ("ssh", tcp(22), 5.0, None)
    assert door.sequence.runs_in is RunsIn.KERNEL
    assert door.sequence.steps == (
        Port(Protocol.TCP, 7000),
        Port(Protocol.UDP, 8000),
        Port(Protocol.TCP, 9000),
    )
    assert door.sequence.within == 10.0


def test_a_pair_of_doors_becomes_one(tmp_path: Path) -> None:
    rule = "INPUT -s %IP% -p tcp --dport 22 -j ACCEPT"
    text = (
        f"[closeSSH]\nsequence = 9000,8000,7000\ncommand = iptables -D {rule}\n"
        f"[openSSH]\nsequence = 7000,8000,9000\ncommand = iptables -A {rule}\n"
    )
    translated = translation(text, tmp_path)
    (door,) = doors.parse(suggested(translated)).doors
    assert (door.name, door.ports) == ("openSSH", tcp(22))
    assert "this one is not needed" in translated
    assert "closeSSH is not needed" in translated


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("sequence = 7\ntarget = 192.0.2.1", "another host's address"),
        ("sequence = 7\ntcpflags = fin", "SYN alone"),
        ("sequence = 7\ntcpflags = !syn", "SYN alone"),
        ("sequence = 7,22", "is a knock of d"),
        ("one_time_sequences = /x", "one-time"),
    ],
)
def test_why_the_kernel_cannot(lines: str, says: str, tmp_path: Path) -> None:
    command = "command = iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT"
    translated = translation(f"[d]\n{lines}\n{command}\n", tmp_path)
    assert says in translated
    assert suggested(translated) == ""


def test_a_port_is_offered_once(tmp_path: Path) -> None:
    door = "sequence = 7\ncommand = ufw allow from %IP% to any port 22 proto tcp\n"
    translated = translation(f"[a]\n{door}[b]\n{door}", tmp_path)
    assert [each.name for each in doors.parse(suggested(translated)).doors] == ["a"]
    assert "offered to a above" in translated


@pytest.mark.parametrize(
    "lines",
    [
        "start_command = iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT\nstop_command = logger shut",
        "command = ufw allow from %IP% to any port 2\nstop_command = ufw delete allow from %IP%",
        "start_command = iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT\nstart_command_6 = logger six",
        "start_command = wakeonlan 00:11:22:33:44:55",
    ],
)
def test_a_door_that_does_more_is_left_alone(lines: str, tmp_path: Path) -> None:
    assert "Kernel:" not in translation(f"[d]\nsequence = 7\n{lines}\n", tmp_path)


def test_a_door_that_is_refused_stands_there_with_the_reason(tmp_path: Path) -> None:
    text = "[bad]\nsequence = abc,70,-5\ncommand = a \x07 b\n[good]\nsequence = 7\ncommand = x\n"
    translated = translation(text, tmp_path)
    assert [door.name for door in doors.parse(translated).doors] == ["good"]
    assert "'abc' is no port" in translated and "# sequence = abc,70,-5" in translated
    with pytest.raises(ConfigError, match="'abc' is no port"):
        load(written(text, tmp_path), "lo")
    with pytest.raises(ConfigError, match="'abc' is no port"):
        translation("[bad]\nsequence = abc\n", tmp_path)


def test_import_prints_what_can_be_used_and_says_what_cannot(tmp_path: Path) -> None:
    good = "[good]\nsequence = 7\ncommand = x\n"
    done = knockgate("import", "knockd", str(written(good, tmp_path)), "-i", "lo")
    assert (done.returncode, done.stderr) == (0, "")
    assert doors.parse(done.stdout) == load(written(good, tmp_path), "lo")
    done = knockgate("import", "knockd", str(written(f"{good}[bad]\nsequence = abc\n", tmp_path)), "-i", "lo")
    assert [door.name for door in doors.parse(done.stdout).doors] == ["good"]
    assert (done.returncode, done.stderr.count("knockd.conf:5: bad.Sequence")) == (2, 1)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ("7000,8000,9000", "knockd: a scan upwards"),
        ("9000:udp,8000:udp", "knockd: a scan downwards"),
        ("7000,7001,7002", "leave room"),
        ("7000,7000,1", "twice in a row"),
        ("7000", "A single knock"),
    ],
)
def test_a_weak_sequence_is_remarked_upon(steps: str, says: str, tmp_path: Path) -> None:
    assert says in translation(f"[d]\nsequence = {steps}\n", tmp_path)
    assert says not in translation("[d]\nsequence = 8000,7000,9000\n", tmp_path)


@pytest.mark.parametrize(
    ("command", "ports", "shuts"),
    [
        ("/sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT", "tcp/22", False),
        ("ip6tables -w 5 -I KNOCK 1 -s %IP%/128 -p udp --dport 51820 -j ACCEPT", "udp/51820", False),
        ("iptables -D INPUT -s %IP% -p tcp -m multiport --dports 22,80 -j ACCEPT", "tcp/22 tcp/80", True),
        ("sudo iptables -A INPUT -p tcp -m state --state NEW --dport 22 -s %IP% -j ACCEPT", "tcp/22", False),
        ("iptables -A INPUT -s %IP% --dport 22 -j ACCEPT", "tcp/22", False),
        ("nft add rule inet filter input ip saddr %IP% tcp dport { 22, 80 } accept", "tcp/22 tcp/80", False),
        ("/usr/sbin/nft 'insert rule ip f in iif eth0 ip saddr %IP% udp dport 53 accept'", "udp/53", False),
        ("ufw insert 1 allow from %IP% to any port 22 proto tcp", "tcp/22", False),
        ("ufw delete allow proto tcp from %IP% to any port 22", "tcp/22", True),
        ("ufw allow from %IP% to any port 22", "tcp/22 udp/22", False),
        ("/usr/local/sbin/knock_add -i -c INPUT -p tcp -d 443 -f %IP%", "tcp/443", False),
        ("knock_helper_ipt.sh -x -d 443 -f %IP%", "tcp/443", True),
    ],
)
def test_commands_that_open_a_port(command: str, ports: str, shuts: bool) -> None:
    opening = opening_of(command)
    assert opening and (" ".join(map(str, opening.ports)), opening.shuts) == (ports, shuts)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "'",
        "touch /tmp/%IP%",
        "iptables -A INPUT -s %IP% -p tcp --syn -j ACCEPT",
        "iptables -A INPUT -s %IP% -p tcp --dport 22 -j DROP",
        "iptables -A INPUT -s %IP% -p tcp --dport 20:22 -j ACCEPT",
        "iptables -A INPUT -s %IP% -p tcp --dport ssh -j ACCEPT",
        "iptables -A INPUT -s %IP% -p tcp --dport 0 -j ACCEPT",
        "iptables -A INPUT -s 192.0.2.1 -p tcp --dport 22 -j ACCEPT",
        "iptables -A INPUT -s %IP%/24 -p tcp --dport 22 -j ACCEPT",
        "iptables -A INPUT ! -s %IP% -p tcp --dport 22 -j ACCEPT",
        "iptables -A INPUT -s %IP% -p tcp -m limit --limit 1/s --dport 22 -j ACCEPT",
        "iptables -A INPUT -s %IP% -p tcp -m state --state ESTABLISHED --dport 22 -j ACCEPT",
        "iptables -A INPUT -d 10.0.0.1 -s %IP% -p tcp --dport 22 -j ACCEPT",
        "iptables -A FORWARD -s %IP% -p tcp --dport 22 -j ACCEPT",
        "iptables -t nat -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT",
        "iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT; logger x",
        "iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT && logger x",
        "iptables -A INPUT -s %IP% -p tcp --dport",
        "nft add element inet filter let_in { %IP% }",
        "nft add rule inet filter forward ip saddr %IP% tcp dport 22 accept",
        "ufw allow from %IP%",
        "knock_add -a -x -d 443 -f %IP%",
    ],
)
def test_commands_that_do_something_else(command: str) -> None:
    assert opening_of(command) is None


# --- any text -----------------------------------------------------------------------------------------

_words = st.text(st.characters(exclude_characters="\n\0", codec="utf-8"), max_size=30) | st.sampled_from(
    ["%IP%", "iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT"]
)
_steps = st.lists(
    st.integers(1, 65535).map(str) | st.integers(1, 65535).map("{}:udp".format), min_size=1, max_size=5
).map(",".join)
_flags = st.lists(st.sampled_from(["syn", "!ack", "FIN", "!syn", " rst"]), min_size=1).map(",".join)
_lines = st.one_of(
    st.builds("sequence = {}".format, _steps),
    st.builds("one_time_sequences = /{}".format, _words),
    st.builds(
        "{} = {}".format, st.sampled_from(["seq_timeout", "Timeout", "cmd_timeout"]), st.integers(-1, 90000)
    ),
    st.builds("TCPFlags = {}".format, _flags),
    st.builds("target = {}".format, st.ip_addresses()),
    st.builds(
        "{} = {}".format,
        st.sampled_from(["command", "command_6", "start_command", "stop_command", "STOP_COMMAND_6"]),
        _words,
    ),
    st.builds("#{}".format, _words),
    st.just("command = ufw allow from %IP% to any port 22"),
)
_doors = st.builds(
    lambda name, steps, lines: f"[{name}]\nsequence={steps}\n" + "".join(f"{line}\n" for line in lines),
    _words.filter(bool),
    _steps,
    st.lists(_lines, max_size=6),
)
_files = st.lists(_doors, max_size=4).map(lambda parts: "".join(parts).encode("utf-8", "replace"))


@given(st.binary() | _files | st.builds(bytes.__add__, _files, st.binary()))
@example(b"[d]\nsequence=1\ncommand=\xff\n")
@example(b"[d]\nsequence=1\ncommand=\x1c\n")
@example(b"[d\xff]\n# \xff\nsequence=1\n")
@example(b"[0\x01=]\nsequence=1")
@example(b"[" + b"a" * 3000 + b"]\nsequence=1\ncommand=\xe2\x80\xa8[x]\n")
def test_any_bytes_are_a_configuration_or_an_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(content, Path(folder))
        try:
            configuration = load(path, "lo")
        except ConfigError:
            event("refused")
            return
        event(f"{len(configuration.doors)} doors")
        translated = translate(path, "lo")
        assert doors.parse(translated) == configuration
        if lines := suggested(translated):
            event("suggested")
            assert all(door.ports for door in doors.parse(lines).doors)
