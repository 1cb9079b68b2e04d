"""The real tcpdump, writing what it hears to a file."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path

from tests.netns import DEADLINE


class Tcpdump:
    """``with Tcpdump("-i", "any") as file:`` it is capturing, and each packet is written at once."""

    def __init__(self, *options: str) -> None:
        with tempfile.NamedTemporaryFile(suffix=".pcap", delete=False) as file:
            self.file = Path(file.name)
        self._options = options

    def __enter__(self) -> Path:
        command = ["tcpdump", "-U", "--immediate-mode", "-w", str(self.file), *self._options]
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
        self._process.communicate(timeout=DEADLINE)
        self.file.unlink()
