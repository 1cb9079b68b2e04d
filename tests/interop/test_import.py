"""Moving over: clients, old and imported, come in at the real fwknopd and at the gate made of its files."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.knockgate.cli.process import knockgate
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, HOST, Gate, network
from tests.netns import DEADLINE, isolated, run, until

pytestmark = pytest.mark.skipif(
    not (shutil.which("fwknop") and shutil.which("fwknopd", path=f"{os.environ['PATH']}:/usr/sbin")),
    reason="needs Debian's fwknop-client and fwknop-server",
)

SSH_KEYS = "KEY open sesame\nHMAC_KEY_BASE64 c2VjcmV0IHNlY3JldCBzZWNyZXQ=\n"
WEB_KEYS = "KEY_BASE64 c29tZXRoaW5nIGVsc2U=\nHMAC_KEY another\nHMAC_DIGEST_TYPE SHA512\nENCRYPTION_MODE CTR\n"
ACCESS = f"""\
SOURCE 10.0.0.0/24, 192.0.2.0/24
OPEN_PORTS tcp/22
REQUIRE_USERNAME alice
FW_ACCESS_TIMEOUT 3600
{SSH_KEYS}
SOURCE: ANY;
OPEN_PORTS: tcp/80, tcp/81;
REQUIRE_SOURCE_ADDRESS Y
{WEB_KEYS}"""
SETTINGS = "PCAP_INTF near;\nPCAP_FILTER udp port 4000;\nPCAP_LOOP_SLEEP 1000;\nFWKNOP_RUN_DIR {folder};\n"
RC = f"""\
[default]
SPA_SERVER {HOST}
SPA_SERVER_PORT 4000
[ssh]
ALLOW_IP source
ACCESS tcp/22
SPOOF_USER alice
KEY_BASE64 b3BlbiBzZXNhbWU=
HMAC_KEY_BASE64 c2VjcmV0IHNlY3JldCBzZWNyZXQ=
[web]
ALLOW_IP {CLIENT}
ACCESS tcp/80
FW_TIMEOUT 120
{WEB_KEYS}[not bob]
ALLOW_IP {CLIENT}
ACCESS tcp/22
SPOOF_USER bob
KEY_BASE64 b3BlbiBzZXNhbWU=
HMAC_KEY_BASE64 c2VjcmV0IHNlY3JldCBzZWNyZXQ=
[not there]
ALLOW_IP {CLIENT}
ACCESS tcp/22
{WEB_KEYS}[not nobody]
ALLOW_IP source
ACCESS tcp/80
{WEB_KEYS}"""
PORTS = {"ssh": 22, "web": 80}
NOBODY = ("not bob", "not there", "not nobody")


class Clients:
    """One .fwknoprc, and the profiles that it was imported to."""

    def __init__(self, folder: Path) -> None:
        self._rc = folder / "rc"
        self._rc.write_text(RC)
        self._rc.chmod(0o600)
        self._folder = folder
        output = folder / "config/knockgate/profiles.toml"
        made = knockgate("import", "fwknoprc", str(self._rc), "-o", str(output))
        assert made.returncode == 0, made.stderr

    def fwknop(self, name: str) -> None:
        words = ["fwknop", "--rc-file", str(self._rc), "-n", name, "--no-save-args"]
        with running.client:
            subprocess.run(words, env=os.environ | {"HOME": str(self._folder)}, check=True, timeout=DEADLINE)

    def ours(self, name: str) -> None:
        os.environ["XDG_CONFIG_HOME"] = str(self._folder / "config")
        with running.client:
            done = knockgate("knock", name)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def fwknopd(folder: Path) -> Iterator[Callable[[], object]]:
    """The real one with its files, behind rules that shut what it opens; gives what shuts it again."""
    for port in (22, 80, 81):
        run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP")
    log = folder / "log"
    words = ["fwknopd", "-f", "-c", str(folder / "fwknopd.conf"), "-a", str(folder / "access.conf")]
    with log.open("w") as stream:
        process = subprocess.Popen(words, stdout=stream, stderr=subprocess.STDOUT)
    try:
        until(lambda: "main event loop" in log.read_text() or process.poll() is not None, "it listens")
        assert process.poll() is None, log.read_text()
        yield lambda: run("iptables", "-F", "FWKNOP_INPUT")
    finally:
        process.terminate()
        process.wait()
        run("iptables", "-F")


@contextlib.contextmanager
def the_gate(folder: Path) -> Iterator[Callable[[], object]]:
    """``knockgate run`` with what was imported; gives what shuts its doors again."""
    output = folder / "new" / "gate.toml"
    files = [str(folder / "access.conf"), str(folder / "fwknopd.conf")]
    made = knockgate("import", "fwknop", *files, "-o", str(output))
    assert made.returncode == 0, made.stderr
    assert knockgate("check", str(output)).returncode == 0
    gate = Gate(folder)
    beside = f'run_directory = "{folder}/run"\nstate_directory = "{folder}/state"\nclock = "trusted"\n'
    gate.file.write_text(output.read_text().replace("[gate]\n", f"[gate]\n{beside}"))
    gate.start()

    def shut() -> None:
        for door in ("tcp-22", "tcp-80"):
            done = knockgate("close", door, CLIENT, "--config", str(gate.file))
            assert done.returncode in (0, 1), done.stderr

    yield shut
    assert gate.end() == 0, gate.log()


def answering() -> set[int]:
    """The ports that the client gets a connection to, within a moment."""
    with running.client:
        tried = {port: socket.socket(socket.AF_INET, socket.SOCK_STREAM) for port in (22, 80, 81)}
        for port, sock in tried.items():
            sock.setblocking(False)
            sock.connect_ex((HOST, port))
        deadline = time.monotonic() + 0.2
        found: set[int] = set()
        while len(found) < len(tried) and (left := deadline - time.monotonic()) > 0:
            waiting = [sock for port, sock in tried.items() if port not in found]
            ready = select.select([], waiting, [], left)[1]
            found |= {port for port, sock in tried.items() if sock in ready}
        for sock in tried.values():
            sock.close()
        return found


def come_in(clients: Clients, shut: Callable[[], object]) -> None:
    """Whoever may, with either client; and whoever may not, beside somebody who may."""
    for knock in (clients.fwknop, clients.ours):
        assert answering() == set()
        for name, port in PORTS.items():
            for other in NOBODY:
                knock(other)
            knock(name)
            until(answering, f"{name} by {knock.__name__}")
            assert answering() == {port}  # 81 may be opened with 80, but nobody has asked for it
            shut()


@isolated
def test_the_clients_come_in_before_and_after(tmp_path: Path) -> None:
    (tmp_path / "access.conf").write_text(ACCESS)
    (tmp_path / "fwknopd.conf").write_text(SETTINGS.format(folder=tmp_path))
    for name in ("access.conf", "fwknopd.conf"):
        (tmp_path / name).chmod(0o600)
    clients = Clients(tmp_path)
    with network(), contextlib.ExitStack() as services:
        for port in (22, 80, 81):
            services.enter_context(socket.create_server((HOST, port)))
        for guard in (fwknopd, the_gate):
            with guard(tmp_path) as shut:
                come_in(clients, shut)
