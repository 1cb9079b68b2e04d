"""Files of ssh keys for tests, and one who looks at them again and again."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from knockgate.config.keyfiles import KeyFiles
from knockgate.config.keys import KeyFile, SshKeys
from knockgate.spa.sshkeys import PublicKey

RSA = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 old"


@cache
def key(number: int) -> str:
    """One line for each number, without options and comment."""
    private = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32))
    return private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def fingerprint(number: int) -> bytes:
    kind, text = key(number).split()
    return PublicKey.of_text(kind.encode(), text.encode()).fingerprint


def group(name: str, *files: Path | KeyFile, shared: bool | None = None) -> SshKeys:
    """A key of gate.toml with these files."""
    places = tuple(each if isinstance(each, KeyFile) else KeyFile(str(each)) for each in files)
    return SshKeys(name=name, ssh=("/x",), doors=("ssh",), shared=shared, files=places)


class Gate:
    """One who looks at files again and again."""

    def __init__(self, *groups: SshKeys) -> None:
        self.files = KeyFiles(groups)
        self.told = self.look()

    def look(self) -> list[str]:
        return [str(notice) for notice in self.files.refresh()]

    def known(self, *numbers: int) -> list[int]:
        """Those of the keys that are found."""
        return [number for number in numbers if self.files.find(fingerprint(number))]


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o644)
    return path


def aged(path: Path) -> None:
    """Wait until nobody would read it a second time for having changed just now."""
    while abs(time.time_ns() - path.stat().st_ctime_ns) < 110_000_000:
        time.sleep(0.01)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is opened, from now on."""
    opened: list[str] = []

    def opening(name: str, *more: int) -> int:
        opened.append(name)
        return real(name, *more)

    real = os.open
    monkeypatch.setattr(os, "open", opening)
    return opened
