"""Packets of fwknop's that ``knockgate knock`` sends: the secrets, command lines, and what is on the wire."""

from __future__ import annotations

import base64
import time
from pathlib import Path

from tests.knockgate.cli.process import knockgate
from tests.knockgate.client.wire import Opening, wire

from knockgate.spa.fwknop import Secret

KEY, HMAC_KEY = bytes(range(32)), bytes(range(64))
SECRET = Secret(KEY, HMAC_KEY)
KEY64, HMAC64 = (base64.b64encode(each).decode() for each in (KEY, HMAC_KEY))
LINES = f"KEY_BASE64: {KEY64}\nHMAC_KEY_BASE64: {HMAC64}\n"


def file_of_secrets(folder: Path) -> str:
    file = folder / "home.secrets"
    file.write_text(LINES)
    file.chmod(0o600)
    return str(file)


def asking(secrets: str, *words: str, host: str = "127.0.0.1") -> list[str]:
    return ["knock", host, "--fwknop", "--secrets", secrets, "-A", "tcp/22", *words]


def sent_by(*words: str, interface: str = "lo") -> Opening:
    """The one packet that a command puts on the wire."""
    with wire(interface) as seen:
        done = knockgate(*words)
        assert done.returncode == 0, done.stderr
        (opening,) = seen.openings()
    return opening


def now() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)
