"""docs/coming-from-fwknop.md, command by command, with the real fwknopd and fwknop, and a client elsewhere.

There is no systemd here: what the page tells it is noted, and the test does it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.conftest import REPO
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, HOST, connects, network
from tests.netns import DEADLINE, isolated, own_mounts, run, until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (shutil.which("fwknop") and shutil.which("fwknopd", path=f"{os.environ['PATH']}:/usr/sbin")),
        reason="needs Debian's fwknop-client and fwknop-server",
    ),
]

PAGE = (REPO / "docs" / "coming-from-fwknop.md").read_text()
RC = """\
[gate]
SPA_SERVER gate.example
ACCESS tcp/22
ALLOW_IP 192.0.2.7
"""
#: The page's addresses and names -> ours. Every `sudo` runs as who we are; systemd is told nothing.
HERE = {"192.0.2.7": CLIENT, "gate.example": HOST, "/usr/local/bin/knockgate": "/run/bin/knockgate"}
PRELUDE = 'sudo() { "$@"; }; systemctl() { echo "$@" >> /run/systemctl; }; PATH=/run/bin:$PATH; '
SHUT = ("INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP")
LAUNCHER = f"""#!/bin/sh
PYTHONPATH={shlex.quote(f"{REPO}/src")} exec {shlex.quote(sys.executable)} -m knockgate "$@"
"""


def here(text: str) -> str:
    for theirs, ours in HERE.items():
        text = text.replace(theirs, ours)
    return text


class Reader:
    """Somebody who does what the page says, block by block, each of them once, from the top to the end."""

    def __init__(self) -> None:
        self.blocks: list[tuple[str, str]] = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", PAGE)
        self.programs: list[subprocess.Popen[bytes]] = []

    def text(self, kind: str, has: str) -> str:
        """The next block, which must be of that kind and have ``has`` in it."""
        its_kind, text = self.blocks.pop(0)
        assert its_kind == kind and has in text, text
        return here(text)

    def do(self, has: str, *, status: int = 0) -> str:
        """Run the next block."""
        words = ["sh", "-euc", PRELUDE + self.text("sh", has)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def told(self) -> list[str]:
        """What systemd was told since it was asked for the last time."""
        file = Path("/run/systemctl")
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def start(self, *words: str, log: Path, is_ready: Callable[[], bool]) -> subprocess.Popen[bytes]:
        with log.open("wb") as stream:
            program = subprocess.Popen(words, stdout=stream, stderr=stream)
        self.programs.append(program)
        until(lambda: is_ready() or program.poll() is not None, f"{words[0]} is ready")
        assert program.poll() is None, log.read_text()
        return program

    def start_fwknopd(self) -> subprocess.Popen[bytes]:
        log = Path("/run/fwknopd.log")
        words = ("fwknopd", "-f", "-c", "/etc/fwknop/fwknopd.conf", "-a", "/etc/fwknop/access.conf")
        return self.start(*words, log=log, is_ready=lambda: "main event loop" in log.read_text())

    def start_gate(self, unit: str) -> subprocess.Popen[bytes]:
        (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
        asked = ("/run/bin/knockgate", "status")
        return self.start(
            *command.split(),
            log=Path("/run/gate.log"),
            is_ready=lambda: "packets:" in run(*asked, check=False),
        )


@contextlib.contextmanager
def machine() -> Iterator[Reader]:
    """/etc, /run and a home to ourselves, with the files that the page begins with."""
    own_mounts()
    for command in ("mkdir /run/bin /run/home", "cp -a /etc /run/etc", "mount --bind /run/etc /etc"):
        run(*command.split())
    reader = Reader()
    access = reader.text("ini", "SOURCE")
    keys = "".join(line for line in access.splitlines(keepends=True) if "KEY_BASE64" in line)
    for path, text in {
        "/etc/fwknop/access.conf": access,
        "/etc/fwknop/fwknopd.conf": "PCAP_INTF near;\nPCAP_LOOP_SLEEP 1000;\nFWKNOP_RUN_DIR /run/fwknop;\n",
        "/run/home/.fwknoprc": here(RC) + keys,
        "/run/bin/knockgate": LAUNCHER,
    }.items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text)
        Path(path).chmod(0o700 if "bin" in path else 0o600)
    os.environ["HOME"] = "/run/home"
    os.environ.pop("XDG_CONFIG_HOME", None)
    run("iptables", "-A", *SHUT)
    try:
        yield reader
    finally:
        for program in reader.programs:
            program.terminate()
            program.wait()


def end(program: subprocess.Popen[bytes]) -> None:
    program.send_signal(signal.SIGTERM)
    program.wait(DEADLINE)


def is_open() -> bool:
    return connects(22)


def close() -> None:
    run("/run/bin/knockgate", "close", "tcp-22", CLIENT)


def knock(line: str) -> None:
    """fwknop as the page says it, but that it does not write down what it was told."""
    with running.client:
        run(*line.split(), "--no-save-args")


def import_it(reader: Reader) -> None:
    shown = reader.do("import fwknop /etc/fwknop/access.conf")
    assert not Path("/etc/knockgate").exists()
    reader.do("-o /etc/knockgate/gate.toml")
    assert Path("/etc/knockgate/gate.toml").read_text() == shown
    assert Path("/etc/knockgate/keys/stanza-1").stat().st_mode & 0o777 == 0o600


def try_it(reader: Reader) -> None:
    trial = ["sh", "-euc", PRELUDE + reader.text("sh", "knockgate up --confirm 60s")]
    with subprocess.Popen(trial, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as up:
        until(lambda: "knockgate" in run("nft", "list", "tables"), "the table is on trial")
        reader.do("knockgate open tcp-22")
        assert up.wait(DEADLINE) == 0
    assert not is_open()  # fwknopd's firewall drops it still
    run("iptables", "-D", *SHUT)
    assert is_open()  # and this is the hour that was given
    run("iptables", "-A", *SHUT)
    close()


def side_by_side(reader: Reader) -> tuple[subprocess.Popen[bytes], str]:
    """Both let in; gives the gate, and the line for a knock."""
    unit = reader.text("systemd", "[Service]")
    reader.do("enable --now knockgate")
    assert reader.told() == ["daemon-reload", "enable --now knockgate"]
    gate = reader.start_gate(unit)
    one, other = reader.text("sh", "fwknop -n gate -p 62202").splitlines()
    knock(one)
    until(lambda: "--dport 22" in run("iptables", "-S", "FWKNOP_INPUT"), "fwknopd opens")
    assert not is_open()  # the gate has not
    knock(other)
    until(is_open, "both have opened")
    assert "opened 1 door" in reader.do("knockgate status")
    return gate, one


def switch_over(reader: Reader, line: str, fwknopd: subprocess.Popen[bytes]) -> None:
    reader.do("disable --now fwknop-server")
    assert reader.told() == ["disable --now fwknop-server"]
    end(fwknopd)
    close()
    assert not is_open()
    knock(line)
    until(is_open, "the gate opens as fwknopd did")
    close()


def with_our_client(reader: Reader) -> None:
    with running.client:
        reader.do("import fwknoprc -o")
        assert is_open()
        assert "[profiles.gate]" not in reader.do("import fwknoprc --keys")
    profiles = Path("/run/home/.config/knockgate/profiles.toml").read_text()
    assert profiles.count("[profiles.gate]") == 2  # a reader would have another file to import


def go_back(reader: Reader, back: str, line: str, gate: subprocess.Popen[bytes]) -> None:
    end(gate)
    run("sh", "-euc", PRELUDE + back)
    assert reader.told() == ["disable --now knockgate", "enable --now fwknop-server"]
    assert "knockgate" not in run("nft", "list", "tables")
    assert not is_open()
    reader.start_fwknopd()
    knock(line)
    until(is_open, "fwknopd opens again")


@isolated
def test_the_page() -> None:
    with machine() as reader, network(), socket.create_server((HOST, 22)):
        fwknopd = reader.start_fwknopd()
        import_it(reader)
        try_it(reader)
        gate, line = side_by_side(reader)
        switch_over(reader, line, fwknopd)
        back = reader.text("sh", "knockgate down")
        with_our_client(reader)
        go_back(reader, back, line, gate)
        assert not reader.blocks
