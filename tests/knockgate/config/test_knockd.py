"""knockd.conf read and translated; test_knockd_controls asks the real knockd the same."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from tests.knockgate.cli.process import knockgate
from tests.netns import Network, isolated, run

from knockgate.config import doors
from knockgate.config.doors import Commands, Configuration, Door, Flags, Gate, RunsIn, Sequence
from knockgate.config.knockd import Note, examine, load, translate
from knockgate.config.knockd.rules import opening_of
from knockgate.errors import ConfigError
from knockgate.model import Port, Protocol, TcpFlag

EVERYTHING = """\
# comment
 [options]
    usesyslog
    LOGFILE = /var/log/knockd.log
    PidFile = /run/knockd.pid
    interface = eth1

[open SSH]
    sequence        = 7000, 8000:udp ,9000 : TCP
    seq_timeout     = 5
    tcpflags        = syn,!ack
    tcpflags        = !RST
    target          = 2001:db8:0::7
    start_command   = /sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -m comment --comment "=\\ü" -j ACCEPT
    START_COMMAND_6 =
    cmd_timeout     = 30
    stop_command    = echo '%IP%' >> /tmp/log # shut
    stop_command_6  = true
[mail]
    one_time_sequences = /etc/knockd/mail
    timeout = 86400
    command = /bin/one
    command_6 = /bin/two
"""


def tcp(*numbers: int) -> tuple[Port, ...]:
    return tuple(Port(Protocol.TCP, number) for number in numbers)


def written(text: str | bytes, folder: Path) -> Path:
    path = folder / "knockd.conf"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def the_door(text: str, folder: Path) -> Door:
    (door,) = load(written(text, folder), "lo").doors
    return door


def notes_on(text: str, folder: Path) -> list[Note]:
    return list(examine(written(text, folder), "lo")[1])


def translation(text: str, folder: Path) -> str:
    """With every comment on one line, however long the name of the file is."""
    return translate(written(text, folder), "lo").replace("\n#  ", "")


def test_every_key(tmp_path: Path) -> None:
    path = written(EVERYTHING, tmp_path)
    ssh = Door(
        name="open_SSH",
        lease=30.0,
        sequence=Sequence(
            runs_in=RunsIn.DAEMON,
            steps=(Port(Protocol.TCP, 7000), Port(Protocol.UDP, 8000), Port(Protocol.TCP, 9000)),
            within=5.0,
            flags=Flags(TcpFlag.SYN, TcpFlag.ACK | TcpFlag.RST),
            target=bytes.fromhex("20010db8000000000000000000000007"),
        ),
        commands=Commands(  # noqa: S604 - knockd's lines are for a shell
            shell=True,
            time_limit=3600.0,
            open=('/sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -m comment --comment "=\\ü" -j ACCEPT',),
            open6=(),
            close=("echo '%IP%' >> /tmp/log # shut",),
            close6=("true",),
        ),
    )
    mail = Door(
        name="mail",
        lease=10.0,
        sequence=Sequence(runs_in=RunsIn.DAEMON, within=86400.0, one_time="/etc/knockd/mail"),
        commands=Commands(shell=True, time_limit=3600.0, open=("/bin/one",), open6=("/bin/two",)),  # noqa: S604
    )
    assert load(path) == Configuration(gate=Gate(interface="eth1"), doors=(ssh, mail))
    assert load(path, "eth7").gate.interface == "eth7"
    assert [(note.line, note.key) for note in examine(path)[1]] == [
        (3, "options.UseSyslog"),
        (4, "options.LogFile"),
        (5, "options.PidFile"),
        (8, "open SSH"),
        (19, "mail"),
    ]
    assert doors.parse(translate(path)) == load(path)


def test_knockds_defaults(tmp_path: Path) -> None:
    door = the_door("[d]\nsequence=7\ncommand=a\nstop_command=b\n", tmp_path)
    assert door.sequence and door.commands
    assert (door.sequence.within, door.lease, door.sequence.flags) == (25.0, 10.0, None)
    assert door.sequence.steps == tcp(7)
    assert door.commands.for_source(bytes(16)) == (("a",), ("b",))


@pytest.mark.parametrize(
    ("lines", "line", "says"),
    [
        ("", 1, "has no Sequence"),
        ("sequence =", 2, "port 0"),
        ("sequence = 7000,", 2, "port 0"),
        ("sequence = abc,70,-5", 2, "'abc' is no port"),
        ("sequence = 70,-5", 2, "port 65531"),
        ("sequence = 70x", 2, "port 70 "),
        ("sequence = 7000 8000", 2, "port 7000 "),
        ("sequence = 65536", 2, "1 to 65535"),
        ("sequence = 7:tcp:x", 2, "neither tcp nor udp"),
        ("sequence = 7:icmp", 2, "neither tcp nor udp"),
        ("sequence = " + ",".join(["7"] * 33), 2, "33 steps"),
        ("sequence = 7\nseq_timeout = 0", 3, "never open"),
        ("sequence = 7\nseq_timeout = soon", 3, "no number"),
        ("sequence = 7\nseq_timeout = 86401", 3, "86400"),
        ("sequence = 7\ncmd_timeout = -1", 3, "never run"),
        ("sequence = 7\ncmd_timeout =", 3, "no number"),
        ("sequence = 7\ncmd_timeout = 99999999999", 3, "no number|not between"),
        ("sequence = 7\ntcpflags =", 3, "no flag"),
        ("sequence = 7\ntcpflags = syn,ece", 3, "'ece' is no flag"),
        ("sequence = 7\ntarget = gate.example", 3, "no address"),
        ("one_time_sequences = /x\nsequence = 7", 3, "One_Time_Sequences"),
        ("one_time_sequences =", 2, "no file"),
        ("sequence", 2, "no value"),
        ("sequense = 7", 2, "did you mean Sequence"),
        ("comand = x", 2, "did you mean Start_Command"),
        ("logfile = /x", 2, "below .options."),
        ("[options]\nsequence = 7", 3, "not for .options.|not for|for doors"),
        ("[x] # text", 2, "line of its own"),
        ("[]", 2, "without a name"),
        ("sequence = 7\ncommand = a\0b", 3, "zero byte"),
        ("sequence = 7\ncommand = " + "x" * 4094, 3, "longer than"),
    ],
)
def test_refused_with_a_line_and_a_reason(lines: str, line: int, says: str, tmp_path: Path) -> None:
    path = written(f"[d]\n{lines}\n", tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(path, "lo")
    assert (caught.value.file, caught.value.line) == (str(path), line)
    assert re.search(says, f"{caught.value} {caught.value.hint}")


@pytest.mark.parametrize("text", ["", "# nothing\n", "[options]\nusesyslog\n"])
def test_a_file_without_doors_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no door"):
        load(written(text, tmp_path), "lo")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="before the first heading"):
        load(written("sequence = 7\n", tmp_path))


@pytest.mark.parametrize(
    ("lines", "key", "says"),
    [
        ("sequence = 70 # ssh", "d.Sequence", "passed over"),
        ("sequence = 7\nseq_timeout = 5 s", "d.Seq_Timeout", "5 seconds"),
        ("sequence = 7\ntcpflags = syn, ack", "d.TCPFlags", "blanks"),
        ("sequence = 7\nsequence = 8", "d.Sequence", "the last one counts"),
        ("sequence = 7\nstop_command = x", "d.Stop_Command", "never run"),
        ("sequence = 7", "d", "runs no command"),
        ("sequence = 7\ncommand = x", "d", "SYN alone"),
        ("sequence = 7\none_time_sequences = /x", "d.Sequence", "does not count"),
        ("one_time_sequences = x", "d.One_Time_Sequences", "present folder"),
        ("sequence = 7\nusesyslog = 1", "options.UseSyslog", "knockd refuses"),
    ],
)
def test_accepted_with_a_note(lines: str, key: str, says: str, tmp_path: Path) -> None:
    text = f"[d]\n{lines}\n"
    assert [note for note in notes_on(text, tmp_path) if note.key == key and says in note.message]
    path = written(text, tmp_path)
    assert doors.parse(translate(path, "lo")) == load(path, "lo")
    assert says in translation(text, tmp_path)


def test_what_is_the_same_gets_no_note(tmp_path: Path) -> None:
    assert notes_on("[d]\nsequence = 7,8:udp\ntcpflags = syn\ncommand = x\n", tmp_path) == []
    assert notes_on("[d]\nsequence = 8:udp\ncommand = x\n", tmp_path) == []


def test_names(tmp_path: Path) -> None:
    headings = ["ssh", "ssh", "ssh-2", "ssh", "öffne ssh!", "..", "a" * 127, "a" * 126, "Options", "options "]
    text = "".join(f"[{name}]\nsequence = 7\ncommand = x\n" for name in headings)
    path = written(text, tmp_path)
    configuration, notes = examine(path, "lo")
    names = [door.name for door in configuration.doors]
    assert names[:6] == ["ssh", "ssh-2", "ssh-2-2", "ssh-3", "_ffne_ssh_", "door"]
    assert len(set(names)) == len(headings)
    assert all(doors.DOOR_NAME.fullmatch(name) for name in names)
    renamed = [note.key for note in notes if "is called" in note.message]
    assert renamed == [heading for heading, name in zip(headings, names, strict=True) if heading != name]
    assert doors.parse(translate(path, "lo")) == configuration


@isolated
def test_the_interface_is_eth0_where_there_is_one() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written("[d]\nsequence = 7\ntcpflags = syn\ncommand = x\n", Path(folder))
        configuration, notes = examine(path)
        assert configuration.gate.interface == ""
        assert [note.line for note in notes] == [0]
        assert "eth0" in str(notes[0])
        run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        configuration, notes = examine(path)
        assert (configuration.gate.interface, notes) == ("eth0", ())
        with Network():
            assert load(path).gate.interface == ""


def test_the_interface_of_the_file(tmp_path: Path) -> None:
    door = "[d]\nsequence = 7\n"
    assert load(written(f"[options]\ninterface = wan\n{door}", tmp_path)).gate.interface == "wan"
    assert load(written(f"[options]\ninterface = any\n{door}", tmp_path)).gate.interface == ""
    with pytest.raises(ConfigError, match="no name for an interface"):
        load(written(f"[options]\ninterface = a-name-of-16-bytes\n{door}", tmp_path))
    with pytest.raises(ConfigError, match=r"-i: .* no name"):
        load(written(door, tmp_path), "a b")


# --- translation --------------------------------------------------------------------------------------


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
