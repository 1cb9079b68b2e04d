"""docs/coming-from-knockd.md, command by command, under a real systemd and from another machine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.netns import until
from tests.systemd.gate import bundle
from tests.systemd.machine import ADDRESS, NEEDS, Machine, boot

from knockgate.config import doors

pytestmark = [*NEEDS, pytest.mark.skipif(not shutil.which("knock"), reason="not installed: knock")]

REPOSITORY = Path(__file__).resolve().parents[2]
#: With shorter times: there is much waiting for doors to shut.
PAGE = (
    (REPOSITORY / "docs" / "coming-from-knockd.md")
    .read_text()
    .replace("= 10\n", "= 3\n")
    .replace('"10s"', '"3s"')
)
SHUT = "iptables -A INPUT -p tcp --dport 22 -j DROP"
ANSWER = "import socket, sys; s = socket.create_connection((sys.argv[1], 22), 1); print(s.recv(9).decode())"


class Reader:
    """Somebody who does what the page says, block by block, each of them once."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.blocks: list[tuple[str, str]] = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", PAGE)

    def block(self, kind: str, has: str) -> str:
        """The text of the first block of that kind with ``has`` in it; it is not there a second time."""
        found = next(each for each in self.blocks if each[0] == kind and has in each[1])
        self.blocks.remove(found)
        return found[1]

    def do(self, has: str) -> str:
        """Run a block on the machine; whoever reads it is root."""
        return self.machine.tell("sh", "-euc", f'cd /root; sudo() {{ "$@"; }}; {self.block("sh", has)}')

    def begin(self, has: str) -> None:
        """The same with what stays in the foreground; it has all rights of a service."""
        script = f'cd /root; sudo() {{ "$@"; }}; {self.block("sh", has)}'
        self.machine.tell("systemd-run", "--unit=reader", "sh", "-euc", script)

    def answers(self) -> bool:
        """Whether port 22 answers the client at once."""
        return self.machine.client.run(["python3", "-I", "-c", ANSWER, ADDRESS]).stdout == "hello\n"

    def knock(self, line: str = "knock gate.example 7000 8000 9000") -> bool:
        self.machine.client.tell(*line.replace("gate.example", ADDRESS).split())
        return self.answers()

    def runs(self, program: str) -> bool:
        """Whether the unit's first process is that program."""
        process = self.machine.property_of("knockd", "MainPID")
        return program in self.machine.run(["cat", f"/proc/{process}/cmdline"]).stdout.replace("\0", " ")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    packages = bundle(tmp_path / "packages")
    (conf,) = re.findall(r"(?ms)^```ini\n(.*?)^```$", PAGE)
    serve = "import socket; s = socket.create_server(('', 22))\nwhile True: s.accept()[0].sendall(b'hello')"
    prepare = f"""
        cd /usr/local/bin
        printf '#!/bin/sh\\nPYTHONPATH={packages} exec python3 -m knockgate "$@"\\n' > knockgate
        chmod 755 knockgate
        cat > /etc/knockd.conf <<'EOF'\n{conf}EOF
        {SHUT}
    """
    with boot(prepare=prepare, lend=[packages]) as machine:
        machine.tell("systemd-run", "--unit=service", "python3", "-I", "-c", serve)
        machine.tell("systemctl", "start", "knockd")
        yield Reader(machine)


def test_the_page(reader: Reader) -> None:
    until(reader.knock, "knockd opens")
    until(lambda: not reader.answers(), "and shuts")

    assert "ssh: after tcp/7000, tcp/8000, tcp/9000" in reader.do("knockgate check --knockd")
    reader.begin("knockgate run --knockd")
    assert not reader.answers()
    line = reader.block("sh", "knock gate.example")
    until(lambda: reader.knock(line), "ours opens")
    until(lambda: not reader.answers(), "and shuts")
    reader.machine.tell("systemctl", "stop", "reader")

    reader.do("mkdir -p /etc/systemd/system/knockd.service.d")
    assert reader.runs("knockgate")
    until(reader.knock, "ours opens as a service")
    until(lambda: not reader.answers(), "and shuts")
    reader.machine.tell("systemctl", "reload", "knockd")

    reader.do("knockgate import knockd")
    imported = reader.machine.tell("cat", "/root/gate.toml")
    offered = "\n".join(re.findall(r"^# (\[doors.*|\w+ = .*)$", imported, re.MULTILINE))
    toml = reader.block("toml", "[doors.ssh]")
    assert doors.parse(offered) == doors.parse(toml)
    reader.machine.tell("sh", "-c", 'printf %s "$1" > /root/gate.toml', "sh", toml)
    reader.begin("knockgate up --confirm")
    until(lambda: "7000" in reader.machine.tell("nft", "list", "ruleset"), "the table is on trial")
    reader.do("knockgate confirm")
    reader.do("iptables -D")
    assert not reader.answers()
    until(reader.knock, "the kernel opens")
    until(lambda: not reader.answers(), "and shuts")

    reader.do("iptables -A")
    reader.do("rm -f")
    assert "knockgate" not in reader.machine.tell("nft", "list", "tables")
    assert not reader.answers()
    assert reader.runs("/usr/sbin/knockd")
    until(reader.knock, "knockd opens again")
    assert [kind for kind, _ in reader.blocks] == ["ini"]
