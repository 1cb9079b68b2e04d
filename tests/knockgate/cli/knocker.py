"""Somebody who knocks in the tests: a home with a card, keys, and addresses that a knock can let in."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from tests.knockgate.client.sealed_gate import HERE, HERE6
from tests.knockgate.spa.sealed_messages import CARD
from tests.knockgate.spa.sshkeys.signers import made
from tests.netns import up

from knockgate.spa.sshkeys import PublicKey


def at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A card and no key yet; the keys of whoever runs the tests are none of ours."""
    for name, below in (("HOME", ""), ("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "state")):
        monkeypatch.setenv(name, str(folder / below))
    for name in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("knockgate.client.identities.home_of_user", lambda: folder)
    (folder / "card").write_text(CARD.text())
    (folder / "card").chmod(0o600)
    (folder / ".ssh").mkdir(mode=0o700)
    return folder


def new_key(folder: Path, name: str, *arguments: str) -> Path:
    """The file of a private key that ssh-keygen made with these arguments."""
    (folder / name).mkdir()
    return made(folder / name, *(arguments or ("-t", "ed25519")))


def words_for(home: Path, *words: str, host: str = HERE) -> list[str]:
    """A command line that knocks without a profile."""
    return ["knock", host, "--card", str(home / "card"), *words]


def named(key: PublicKey) -> str:
    """As ``ssh-keygen -l`` names it."""
    return f"SHA256:{base64.b64encode(key.fingerprint).decode().rstrip('=')}"


def addresses() -> None:
    """Give the loopback interface of the present network some that a knock can let in."""
    up("lo", f"{HERE}/32", "198.51.100.9/32", f"{HERE6}/128")
