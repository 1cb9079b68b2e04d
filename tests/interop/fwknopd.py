"""Debian's fwknopd, as it is, with iptables behind it, in the present network."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple, Self

from tests.netns import run, until

from knockgate.spa.fwknop import Hash, Mode

WINDOW, LONGEST = 3600, 7200  # seconds that a door stays open, by itself and at most


class Stanza(NamedTuple):
    """One of access.conf; ``secrets`` is the file that the one who knocks has."""

    secrets: Path
    hmac: Hash
    mode: Mode = Mode.CBC

    def lines(self) -> list[str]:
        keys = [line for line in self.secrets.read_text().splitlines() if not line.startswith("#")]
        return [
            "SOURCE ANY",
            *keys,
            f"HMAC_DIGEST_TYPE {self.hmac.value}",
            f"ENCRYPTION_MODE {self.mode.value}",
            f"FW_ACCESS_TIMEOUT {WINDOW}",
            f"MAX_FW_TIMEOUT {LONGEST}",
        ]


class Fwknopd:
    """The daemon; on entering, TCP is shut and it listens on ``interface``."""

    def __init__(self, folder: Path, interface: str, stanzas: list[Stanza]) -> None:
        self._log = folder / "fwknopd.log"
        self._read = self._added = 0
        access, configuration = folder / "access.conf", folder / "fwknopd.conf"
        access.write_text("\n\n".join("\n".join(each.lines()) for each in stanzas) + "\n")
        # With the default of 100 ms between two looks most of a test would be sleep.
        lines = [f"PCAP_INTF {interface};", f"FWKNOP_RUN_DIR {folder};", "PCAP_LOOP_SLEEP 1000;"]
        configuration.write_text("\n".join(lines) + "\n")
        for file in (access, configuration):
            file.chmod(0o600)
        self._words = ["fwknopd", "-f", "-i", interface, "-c", str(configuration), "-a", str(access)]

    def __enter__(self) -> Self:
        run("iptables", "-A", "INPUT", "-p", "tcp", "-j", "DROP")
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._words, stdout=log, stderr=subprocess.STDOUT)
        until(lambda: "main event loop" in self.log() or self._process.poll() is not None, "fwknopd listens")
        assert self._process.poll() is None, self.log()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def until_added(self, rules: int) -> None:
        """Wait until it says that it has added so many since its start."""

        def has_added() -> bool:
            # What is new alone: it tells of each stanza that a packet was not for.
            with self._log.open("rb") as log:
                log.seek(self._read)
                lines = log.read().rpartition(b"\n")[0]
            self._read += len(lines)
            self._added += lines.count(b"Added access rule")
            return self._added >= rules

        until(has_added, f"fwknopd has added {rules} rules")

    def taken(self) -> dict[int, tuple[str, int]]:
        """What is open now, which is shut hereafter: few rules are quick to go through."""
        found = self.opened()
        run("iptables", "-F", "FWKNOP_INPUT")
        return found

    def opened(self) -> dict[int, tuple[str, int]]:
        """TCP ports that are open now: for whom, and until when, in seconds since 1970."""
        rules = run("iptables", "-S", "FWKNOP_INPUT")
        found = re.findall(r"-s ([0-9.]+)/32 -p tcp .*--dport (\d+) .*_exp_(\d+)", rules)
        return {int(port): (source, int(until)) for source, port, until in found}
