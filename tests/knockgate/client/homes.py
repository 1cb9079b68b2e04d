"""Somebody's home with ssh's config and keys, and what is found there to knock with."""

from __future__ import annotations

from pathlib import Path

from tests.knockgate.spa.sshkeys.signers import keygen

from knockgate.client import identities
from knockgate.client.identities import Candidate, Identities
from knockgate.spa.sshkeys import verify

MESSAGE = bytes(range(144))


class Home:
    """Somebody's home, with a config and keys in ``.ssh``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ssh = folder / ".ssh"
        self.ssh.mkdir(0o700)
        self.config("")

    def key(self, name: str, *arguments: str, passphrase: str = "") -> Path:
        file = self.ssh / name
        options = ["-q", "-a", "1", "-N", passphrase, "-C", f"comment of {name}"]
        keygen(*options, "-f", file, *arguments or ["-t", "ed25519"])
        return file

    def config(self, text: str) -> None:
        (self.ssh / "config").write_text(text)

    @property
    def command(self) -> list[str]:
        return ["ssh", "-F", str(self.ssh / "config")]

    def find(self, agent: Path | None = None, identity: Path | None = None) -> Identities:
        return identities.find(
            "host.example",
            identity=identity,
            agent=str(agent) if agent else None,
            home=self.folder,
            ssh=self.command,
        )


def names(found: Identities) -> list[tuple[str, str]]:
    return [(each.where.value, Path(each.name).name) for each in found.candidates]


def signs(each: Candidate) -> bool:
    return verify(each.key, each.sign(MESSAGE), MESSAGE)
