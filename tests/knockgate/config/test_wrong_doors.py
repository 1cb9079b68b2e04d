"""Every way in which a gate.toml can be wrong, and what is said about it."""

from __future__ import annotations

import pytest

from knockgate.config.doors import MAX_DOORS, parse
from knockgate.errors import ConfigError

SSH = '[doors.ssh]\nports = ["tcp/22"]\n'
SEQUENCE = f'{SSH}[doors.ssh.sequence]\nsteps = ["tcp/7000"]\n'
DAEMON = f'{SEQUENCE}runs_in = "daemon"\n'
COMMANDS = f"{DAEMON}[doors.ssh.commands]\n"

# The text; line and key of the mistake; a part of the message, of the hint.
# One or two lines a case, to be read as a table.
# fmt: off
WRONG: dict[str, tuple[str, int | None, str | None, str, str]] = {
    # tables and names
    "nothing": ("", None, "doors", "there is no door", "begin with [doors.ssh]"),
    "no door": ("[gate]\n\n[doors]", 3, "doors", "there is no door", "begin with [doors.ssh]"),
    "doors that are none": ("\ndoors = 5", 2, "doors", "must be a table", "[doors]"),
    "a door without a name": ('[doors]\nports = ["tcp/22"]', 2, "doors.ports",
        "must be a table", "[doors.ssh]"),
    "the gate's number": ("gate = 1\n" + SSH, 1, "gate", "must be a table", "[gate]"),
    "a key of no table": ("ports = []\n" + SSH, 1, "ports", "unknown key", "known here: gate, doors"),
    "door for doors": ('[door.ssh]\nports = ["tcp/22"]', 1, "door", "unknown key", "did you mean doors?"),
    "port for ports": ('[doors.ssh]\nport = ["tcp/22"]', 2, "doors.ssh.port",
        "unknown key", "did you mean ports?"),
    "an unknown key": (SSH + "colour = 1", 3, "doors.ssh.colour",
        "unknown key", "ports, lease, longest, allow, shadow, sequence, commands"),
    "of the gate": (SSH + "[gate]\nsource = 99", 4, "gate.source", "unknown key", "did you mean sources?"),
    "a network to allow": (SSH + 'allow = ["10.0.0.1/8"]', 3, "doors.ssh.allow",
        "is an address within a network", "10.0.0.0/8"),
    "a network as it is": ('gate.allow = "10.0.0.0/8"\n' + SSH, 1, "gate.allow",
        "must be a list of networks", "192.0.2.0/24"),
    "more networks than there are places": (f"gate.allow = {['10.0.0.1'] * 1025}\n" + SSH, 1, "gate.allow",
        "has 1025 networks", "1024"),
    "a shadow of nothing": (
        '[doors.x]\nshadow = true\n[doors.x.commands]\nopen = ["/x"]\n[keys.k]\nssh = "/x"\ndoors = ["x"]', 2, "doors.x.shadow",
        "guards no port", "runs commands"),
    "a shadow as a text": (SSH + 'shadow = "yes"', 3, "doors.ssh.shadow", "true or false", "without quotes"),
    "dotted": (SSH + "sequence.step = []", 3, "doors.ssh.sequence.step",
        "unknown key", "did you mean steps?"),
    "inline": (SSH + "sequence = { step = [] }", 3, "doors.ssh.sequence.step", "unknown key", "steps?"),
    "of the sequence": (SSH + "within = 5", 3, "doors.ssh.within",
        "unknown key", "below [doors.ssh.sequence]"),
    "of the commands": (SSH + "open = []", 3, "doors.ssh.open", "unknown key", "below [doors.ssh.commands]"),
    "a sequence of one": (SSH + "sequence = 'tcp/1'", 3, "doors.ssh.sequence",
        "must be a table", "[doors.ssh.seq"),
    "two doors of a name": (SSH + SSH, 3, None, "cannot declare 'doors.ssh' twice", "made one"),
    "a name with a blank": ('[doors."a b"]', 1, 'doors."a b"', "'a b' is no name", "letters, digits"),
    "a name with a dash": ('["doors"."-a"]', 1, "doors.-a", "'-a' is no name", "the first is"),
    "no name": ('[doors.""]', 1, 'doors.""', "'' is no name", "letters, digits"),
    "a long name": (f"[doors.{'x' * 64}]", 1, f"doors.{'x' * 64}", "is no name", "at most 63"),
    "a name and a line": ('[doors."a\\n"]', 1, 'doors."a\\U0000000a"',
        "'a\\n' is no name", "letters, digits"),
    "a letter of another kind": ('[doors."ä"]', 1, 'doors."ä"', "'ä' is no name", "letters, digits"),
    "a quoted name": ('[doors."a.b"]\nlease = []', 2, 'doors."a.b".lease', "[] is no time", '"15s"'),
    "too many doors": ("[doors]\n" + "".join(f"d{number}={{}}\n" for number in range(MAX_DOORS + 1)),
        1, "doors", "10001 doors", "10000 are possible"),
    # ports
    "ports of one": ("[doors.ssh]\nports = 'tcp/22'", 2, "doors.ssh.ports",
        "must be a list of ports", '["tcp/22"]'),
    "a number": ("[doors.ssh]\nports = [22]", 2, "doors.ssh.ports",
        "22 is no port", 'did you mean "tcp/22"?'),
    "as knockd has it": (SEQUENCE.replace("tcp/7000", "7000:udp"), 4, "doors.ssh.sequence.steps",
        "'7000:udp' is no port", 'did you mean "udp/7000"?'),
    "as nmap has it": ("[doors.a]\nports = ['22/TCP']", 2, "doors.a.ports",
        "is no port", 'did you mean "tcp/22"?'),
    "a range": ("[doors.a]\nports = ['tcp/1-9']", 2, "doors.a.ports",
        "'tcp/1-9' is no port", 'write "tcp/22"'),
    "another protocol": ("[doors.a]\nports = ['icmp/8']", 2, "doors.a.ports", "is no port", 'write "tcp/22"'),
    "port 0": ("[doors.a]\nports = ['tcp/0']", 2, "doors.a.ports", "is no port", "from 1 to 65535"),
    "port 65536": ("[doors.a]\nports = ['udp/65536']", 2, "doors.a.ports", "is no port", "from 1 to 65535"),
    "truth": ("[doors.a]\nports = [true]", 2, "doors.a.ports", "true is no port", 'write "tcp/22"'),
    "a port twice": ("[doors.a]\nports = ['tcp/1', 'tcp/01']", 2, "doors.a.ports",
        "tcp/1 stands there twice", "once"),
    "a port of two doors": (SSH + "\n[doors.b]\nports = ['udp/22', 'tcp/22']", 5, "doors.b.ports",
        "tcp/22 is taken", "door ssh has it"),
    "a knock on the door": (SEQUENCE.replace("7000", "22"), 4, "doors.ssh.sequence.steps",
        "tcp/22 is what door ssh guards", "take another port"),
    "a knock on a later door": (SEQUENCE + "[doors.b]\nports = ['tcp/7000']", 4, "doors.ssh.sequence.steps",
        "tcp/7000 is what door b guards", "take another port"),
    "neither port nor command": ("[doors.a]", 1, "doors.a",
        "guards no port and runs no command", '["tcp/22"]'),
    "no port": (SSH + "[doors.a]\nports = []", 3, "doors.a", "guards no port", '["tcp/22"]'),
    # times and numbers
    "no time": (SSH + "lease = 'x'", 3, "doors.ssh.lease", "'x' is no time", '"15s"'),
    "a short lease": (SSH + "lease = '999ms'", 3, "doors.ssh.lease", "at least 1s", '"15s"'),
    "a lease of no time": (SSH + "lease = 0", 3, "doors.ssh.lease", "at least 1s", '"15s"'),
    "a long lease": (SSH + "lease = '31d'", 3, "doors.ssh.lease",
        "'31d' is not between 0s and 30d", "lease: How"),
    "no time to knock": (SEQUENCE + "within = 0", 5, "doors.ssh.sequence.within",
        "between 100ms and 1d", "within:"),
    "too long for the kernel": (SEQUENCE + "within = '61m'", 5, "doors.ssh.sequence.within",
        "at most 1h", 'runs_in = "daemon" below [doors.ssh.sequence]'),
    "no room": (SSH + "[gate]\nsources = 15", 4, "gate.sources",
        "15 is not between 16 and 16777216", "sources: S"),
    "a group beyond": (SSH + "[gate]\nlog_group = 65536", 4, "gate.log_group",
        "between 0 and 65535", "log_group:"),
    "half a source": (SSH + "[gate]\ntracked = 1.5", 4, "gate.tracked", "whole number, not 1.5", "from 1 to"),
    # texts of the gate
    "a wildcard": (SSH + "[gate]\ninterface = 'eth*'", 4, "gate.interface", "'eth*' is no name", "ip link"),
    "a quote": (SSH + "[gate]\ninterface = 'a\"b'", 4, "gate.interface", "is no name", "ip link"),
    "an alias": (SSH + "[gate]\ninterface = 'eth0:1'", 4, "gate.interface", "is no name", "ip link"),
    "a line": (SSH + '[gate]\ninterface = "a\\nb"', 4, "gate.interface", "is no name", "ip link"),
    "a zero": (SSH + '[gate]\ninterface = "a\\u0000"', 4, "gate.interface", "is no name", "ip link"),
    "a dot": (SSH + "[gate]\ninterface = '..'", 4, "gate.interface", "is no name", "ip link"),
    "16 letters": (SSH + f"[gate]\ninterface = '{'x' * 16}'", 4, "gate.interface", "is no name", "ip link"),
    "letters of two bytes": (SSH + "[gate]\ninterface = 'ää'", 4, "gate.interface", "is no name", "ip link"),
    "a number's interface": (SSH + "[gate]\ninterface = 2", 4, "gate.interface",
        "text in quotes", "interface:"),
    "a folder from here": (SSH + "[gate]\nrun_directory = 'x'", 4, "gate.run_directory",
        "no absolute path", "folder"),
    "no folder": (SSH + "[gate]\nstate_directory = ''", 4, "gate.state_directory",
        "no absolute path", "folder"),
    "a zero in a path": (SSH + '[gate]\nrun_directory = "/\\u0000"', 4, "gate.run_directory",
        "no absolute path", "folder"),
    # sequences
    "no steps": (SSH + "[doors.ssh.sequence]", 3, "doors.ssh.sequence", "steps is missing", '["tcp/7000"'),
    "an empty sequence": (SEQUENCE.replace('"tcp/7000"', ""), 3, "doors.ssh.sequence",
        "steps is missing", "tcp/"),
    "steps in words": (SEQUENCE.replace('["tcp/7000"]', '"a"'), 4, "doors.ssh.sequence.steps",
        "a list", '["tcp/'),
    "33 steps": (SEQUENCE.replace('"tcp/7000"', '"tcp/7000",' * 33), 4, "doors.ssh.sequence.steps",
        "has 33 steps", "32 are possible"),
    "steps and lines": (DAEMON + "one_time = '/x'", 3, "doors.ssh.sequence",
        "has both steps and one_time", "one of them"),
    "neither": (DAEMON.replace("daemon", "Kernel"), 5, "doors.ssh.sequence.runs_in",
        "'Kernel' is neither", '"kernel"'),
    "runs in 5": (DAEMON.replace('"daemon"', "5"), 5, "doors.ssh.sequence.runs_in",
        "text in quotes", "runs_in:"),
    "flags in the kernel": (SEQUENCE + "flags = []", 5, "doors.ssh.sequence.flags",
        "kernel's rules", "daemon"),
    "a target in the kernel": (SEQUENCE + "target = '::1'", 5, "doors.ssh.sequence.target",
        "kernel's", "daemon"),
    "lines in the kernel": (SSH + "sequence = { one_time = '/x' }", 3, "doors.ssh.sequence.one_time",
        "kernel's rules", 'add runs_in = "daemon"'),
    "lines from here": (DAEMON + "one_time = 'x'", 6, "doors.ssh.sequence.one_time",
        "no absolute path", "a file"),
    "no flag": (DAEMON + "flags = ['syn', 'ece']", 6, "doors.ssh.sequence.flags",
        "'ece' is no TCP", '["syn", "!ack"]'),
    "flags in words": (DAEMON + "flags = 'syn'", 6, "doors.ssh.sequence.flags",
        "list of TCP flags", "fin, syn"),
    "not not": (DAEMON + "flags = ['!!syn']", 6, "doors.ssh.sequence.flags", "'!!syn' is no TCP", "fin, syn"),
    "wanted and not": (DAEMON + "flags = ['syn', '!SYN']", 6, "doors.ssh.sequence.flags",
        "at once", "fin, syn"),
    "no address": (DAEMON + "target = 'host'", 6, "doors.ssh.sequence.target",
        "'host' is no address", "192.0.2.7"),
    "a network": (DAEMON + "target = '10.0.0.0/8'", 6, "doors.ssh.sequence.target",
        "is no address", "192.0.2.7"),
    "a link's address": (DAEMON + "target = 'fe80::1%a'", 6, "doors.ssh.sequence.target",
        "is no address", "192."),
    "a number's address": (DAEMON + "target = 5", 6, "doors.ssh.sequence.target",
        "text in quotes", "target: Kn"),
    # commands
    "commands by hand": (SSH + "commands = {}", 3, "doors.ssh.commands",
        "only the daemon runs", "[doors.ssh.sequence]"),
    "commands in the kernel": (SEQUENCE + "[doors.ssh.commands]", 5, "doors.ssh.commands",
        "only the daemon", "daemon"),
    "a line without shell": (COMMANDS + "open = '/bin/echo x'", 7, "doors.ssh.commands.open",
        "must be a list of words", "shell = true"),
    "words for a shell": (COMMANDS + "shell = true\nclose6 = ['a', 'b']\nopen = 'c'",
        8, "doors.ssh.commands.close6", "no list of words", "take shell away"),
    "a program somewhere": (COMMANDS + "open = ['echo']", 7, "doors.ssh.commands.open",
        "no absolute", "whole path"),
    "an empty program": (COMMANDS + "open6 = ['']", 7, "doors.ssh.commands.open6",
        "'' is no absolute", "whole path"),
    "a zero in a word": (COMMANDS + 'open = ["/x", "\\u0000"]', 7, "doors.ssh.commands.open",
        "zero byte", "out"),
    "numbers for words": (COMMANDS + "open = [1]", 7, "doors.ssh.commands.open",
        "must be a list of words", "%IP%"),
    "only a close": (COMMANDS + "close = ['/x']", 7, "doors.ssh.commands.close",
        "nothing to run on open", "as well"),
    "only a close6": (COMMANDS + "close6 = ['/x']", 7, "doors.ssh.commands.close6",
        "nothing to run", "as well"),
    "shell in words": (COMMANDS + "shell = 'true'", 7, "doors.ssh.commands.shell",
        "true or false", "without quotes"),
    "no limit": (COMMANDS + "time_limit = 0", 7, "doors.ssh.commands.time_limit",
        "between 100ms and 1h", "time_limit"),
    # which line
    "not the line of a text": (SSH + '[doors.ssh.sequence]\none_time = """\nsteps = 5\n"""\nsteps = 5',
        7, "doors.ssh.sequence.steps", "must be a list of ports", "tcp/7000"),
    "not the line of another door": (SSH + "lease = 5\n[doors.b]\nports = ['tcp/2']\nlease = -5",
        6, "doors.b.lease", "-5 is not between", "lease: How long"),
}
# fmt: on


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong(name: str) -> None:
    text, line, key, message, hint = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        parse(text, "a.toml")
    error = caught.value
    assert (error.file, error.line, error.key) == ("a.toml", line, key)
    assert message in error.message
    assert hint in str(error.hint)
