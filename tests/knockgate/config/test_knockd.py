"""knockd.conf read and translated; test_knockd_controls asks the real knockd the same."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest
from tests.knockgate.config.knockd_files import notes_on, tcp, the_door, translation, written
from tests.netns import Network, isolated, run

from knockgate.config import doors
from knockgate.config.doors import Commands, Configuration, Door, Flags, Gate, RunsIn, Sequence
from knockgate.config.knockd import examine, load, translate
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
