"""fwknop's files for tests, and what fwknop itself makes of them."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

from tests.netns import DEADLINE

from knockgate.config import doors, keys, readers
from knockgate.config.fwknop import Translation, translate
from knockgate.config.keys import FwknopKey
from knockgate.errors import ConfigError

KEY, HMAC = b"a key of twenty four b..", b"its hmac key"
KEYS = f"KEY_BASE64 {base64.b64encode(KEY).decode()}\nHMAC_KEY_BASE64 {base64.b64encode(HMAC).decode()}\n"
PLAIN = f"SOURCE ANY\nOPEN_PORTS tcp/22\n{KEYS}"


def written(folder: Path, text: str | bytes, name: str = "access.conf") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o600)
    return path


def translated(folder: Path, text: str | bytes, conf: str | None = None, opened: str = "") -> Translation:
    """The translation of an access.conf and, if given, a fwknopd.conf."""
    settings = written(folder, conf, "fwknopd.conf") if conf is not None else None
    ports = [readers.port(word) for word in opened.split()]
    return translate(written(folder, text), settings, folder / "keys", opened=ports)


def refusals(found: Translation) -> str:
    return "\n".join(f"{each} ({each.hint})" for each in found.refusals)


def notes(found: Translation) -> str:
    return "\n".join(f"{each} ({each.hint})" for each in found.notes)


def gate(found: Translation) -> tuple[doors.Configuration, tuple[FwknopKey, ...]]:
    """What the gate reads of it, once the files with the secrets are there."""
    assert not found.refusals, refusals(found)
    for path, text in found.secrets.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
    configuration = doors.parse(found.text)
    return configuration, keys.parse(found.text, configuration)


def the_key(found: Translation) -> FwknopKey:
    (key,) = gate(found)[1]
    return key


def the_door(found: Translation) -> doors.Door:
    (door,) = gate(found)[0].doors
    return door


def loads(found: Translation) -> bool:
    """Whether what was translated can be used; a refusal is the other way to answer."""
    try:
        gate(found)
    except ConfigError as error:
        raise AssertionError(f"{error} of\n{found.text}") from error
    return True


# --- the real one -------------------------------------------------------------------------------------


def fwknopd(folder: Path, text: str | bytes, conf: str = "") -> subprocess.CompletedProcess[str]:
    """``fwknopd -D``: it reads both files, prints what it understood, and ends. In ``@isolated`` only."""
    access, settings = written(folder, text), written(folder, conf, "fwknopd.conf")
    words = ["fwknopd", "-D", "-f", "-a", str(access), "-c", str(settings), "-r", str(folder / "run")]
    return subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE, check=False, cwd=folder)


def understood(folder: Path, text: str | bytes) -> list[dict[str, str]]:
    """The stanzas that fwknopd prints, by its names for the options."""
    done = fwknopd(folder, text)
    assert done.returncode == 0, done.stdout + done.stderr
    stanzas = re.split(r"^SOURCE \(\d+\): ", done.stdout, flags=re.MULTILINE)[1:]
    found = [dict(re.findall(r"^ *([A-Z_0-9]+): +(.*)$", each, re.MULTILINE)) for each in stanzas]
    return [
        {"SOURCE": each.splitlines()[0].strip(), **fields}
        for each, fields in zip(stanzas, found, strict=True)
    ]
