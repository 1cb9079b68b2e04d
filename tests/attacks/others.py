"""The other lanes' guards, as programs in the present network: lane A's daemon, knockd and fwknopd.

Lanes A, B and C of the tutorial. What they do under an attack is measured as anybody can see it, with the
setups that their manuals show; it is said of them, and nothing is promised.
"""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Protocol

from tests.attacks import lanes
from tests.attacks.lanes import FWKNOP_PORT, Packets, tcp_ip, udp_ip
from tests.interop.fwknopd import Fwknopd, Stanza
from tests.knockdemo.guarding import Daemon
from tests.knockgate.daemon.test_packets import ALICE, key
from tests.netns import DEADLINE, run, until

from knockgate.spa.fwknop import Hash

_LEASE = 3600
_KNOCKD = """\
[options]
    logfile = {log}
[door]
    sequence = 7100,7200,7300
    seq_timeout = 60
    tcpflags = syn
    command = iptables -w -A DOOR -s %IP% -p tcp --dport 6501 -j ACCEPT
"""


class Other(Protocol):
    """A guard that is running."""

    name: str

    def knock(self, source: str) -> Packets:
        """A new one."""

    def opened(self, source: str) -> int:
        """How often it has let that source in, since it was started or was last told to close."""

    def close(self) -> None:
        """Nobody is in any more."""

    def restart(self) -> None:
        """Returns when it is ready; nobody is in."""

    def end(self) -> None:
        """For good."""


class TutorialsDaemon:
    """Lane A, over nft."""

    name = "lane A, the tutorial's daemon"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._daemon = Daemon(folder, f"open_window_seconds = {_LEASE}\nsequence_window_seconds = 60\n")
        self._read = 0

    def knock(self, source: str) -> Packets:
        return [tcp_ip(port, source) for port in (7000, 8000, 9000)]

    def opened(self, source: str) -> int:
        return len(re.findall(rf"open to {re.escape(source)} for", self._daemon.log()[self._read :]))

    def close(self) -> None:
        self._read = len(self._daemon.log())
        for name in re.findall(r"set (\w+) {", run("nft", "list", "table", "inet", "knockdemo")):
            run("nft", "flush", "set", "inet", "knockdemo", name)

    def restart(self) -> None:
        self.end()
        self._read = len(self._daemon.log())
        self._daemon.start()

    def end(self) -> None:
        assert self._daemon.end(signal.SIGTERM) == 0


class Knockd:
    """Lane B, over iptables."""

    name = "lane B, knockd"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._config, self._log = folder / "knockd.conf", folder / "log"
        self._config.write_text(_KNOCKD.format(log=folder / "knockd.log"))
        run("iptables", "-N", "DOOR")
        run("iptables", "-I", "INPUT", "-j", "DOOR")
        self._start()

    def _start(self) -> None:
        with self._log.open("w") as log:
            words = ["knockd", "-i", "near", "-c", str(self._config), "-v", "-4"]
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        until(lambda: "listening on" in self._log.read_text() or self._process.poll() is not None, "knockd")
        assert self._process.poll() is None, self._log.read_text()

    def knock(self, source: str) -> Packets:
        return [tcp_ip(port, source) for port in (7100, 7200, 7300)]

    def opened(self, source: str) -> int:
        return run("iptables", "-S", "DOOR").count(f"-s {source}/32 ")

    def close(self) -> None:
        run("iptables", "-F", "DOOR")

    def restart(self) -> None:
        self.end()
        self.close()
        self._start()

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE)


class RealFwknopd:
    """Lane C, over iptables."""

    name = "lane C, fwknopd"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        key(folder, "alice", ALICE)
        self._daemon = Fwknopd(folder, "near", [Stanza(folder / "alice", Hash.SHA256)])
        self._daemon.__enter__()

    def knock(self, source: str) -> Packets:
        return [udp_ip(FWKNOP_PORT, source, lanes.fwknop(source))]

    def opened(self, source: str) -> int:
        return run("iptables", "-S", "FWKNOP_INPUT").count(f"-s {source}/32 ")

    def close(self) -> None:
        run("iptables", "-F", "FWKNOP_INPUT")

    def restart(self) -> None:
        self.end()
        self._daemon.__enter__()

    def end(self) -> None:
        self._daemon.__exit__()
