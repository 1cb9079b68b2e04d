"""Somebody who is not root, and what such a one has at home."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.knockgate.cli.process import Done, as_nobody
from tests.knockgate.cli.sealed_gates import LINE
from tests.netns import run

KNOCKD = "[options]\n interface = lo\n[ssh]\n sequence = 7000\n tcpflags = syn\n command = /bin/true %IP%\n"
SECRET, OTHER = "QUJD" * 10 + "QUI=", "QUJE" * 10 + "QUI="
KEYS = f"KEY_BASE64 {SECRET}\nHMAC_KEY_BASE64 {OTHER}\n"
ACCESS = f"SOURCE ANY\n{KEYS}OPEN_PORTS tcp/22\n"
RC = f"[default]\nSPA_SERVER 127.0.0.1\nACCESS tcp/22\n{KEYS}"
PROFILE = '[profiles.near]\nhost = "127.0.0.1"\nsteps = ["7000"]\nwait = "tcp/7001"\ndelay = "1ms"\n'


@dataclass
class Somebody:
    """Who has a home, and nothing else."""

    folder: Path

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        nobody = pwd.getpwnam("nobody")
        self.home.mkdir()
        (self.home / ".config" / "knockgate").mkdir(parents=True)
        (self.home / ".ssh").mkdir()
        for name, text in (
            (".config/knockgate/profiles.toml", PROFILE),
            ("authorized_keys", f"{LINE}\n"),
            ("knockd.conf", KNOCKD),
            ("access.conf", ACCESS),
            ("fwknoprc", RC),
            ("plain.toml", '[doors.ssh]\nports = ["tcp/22"]\n'),
            ("text", "knockgate-warden: guarding ssh\n"),
        ):
            (self.home / name).write_text(text)
        (self.home / "capture").write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.home / ".ssh" / "id"))
        for each in (self.home, *self.home.rglob("*")):
            os.chown(each, nobody.pw_uid, nobody.pw_gid)
            each.chmod(0o700 if each.is_dir() else 0o600)

    def does(self, *words: str, program: list[str] | None = None) -> Done:
        config, state = str(self.home / ".config"), str(self.home / ".state")
        return as_nobody(
            *words, program=program, HOME=str(self.home), XDG_CONFIG_HOME=config, XDG_STATE_HOME=state
        )

    def files(self) -> set[str]:
        """All that there is in the folder, but for what a program may keep for itself."""
        return {str(each) for each in self.folder.rglob("*") if each.name != "__pycache__"}


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The port of a service that hangs up on everybody."""
    with socket.create_server(("127.0.0.1", 0)) as service:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    service.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        yield str(service.getsockname()[1])
        service.shutdown(socket.SHUT_RDWR)
