"""The real tcpdump, writing what it hears to a file."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path

from tests.netns import DEADLINE


class Tcpdump:
    """``with Tcpdump("-i", "any") as file:`` it is capturing, and each packet is written at once.

    In this mode each packet takes the room of the longest possible one (-s), so there must be much of it
    (-B, in KiB). A capture that has lost something fails the test.
    """

    def __init__(self, *options: str) -> None:
        with tempfile.NamedTemporaryFile(suffix=".pcap", delete=False) as file:
            self.file = Path(file.name)
        self._options = options

    def __enter__(self) -> Path:
        command = ["tcpdump", "-U", "--immediate-mode", "-B", "16384", "-w", str(self.file), *self._options]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        said = ""
        for line in self._process.stderr:
            said += line
            if "listening on" in line:
                return self.file
        raise AssertionError(f"{' '.join(command)}: {said}")

    def __exit__(self, *error: object) -> None:
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=DEADLINE)
        self.file.unlink()
        assert any(error) or "\n0 packets dropped by kernel" in said, said
