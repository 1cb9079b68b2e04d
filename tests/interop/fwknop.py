"""Debian's fwknop client, as it is, knocking at a gate of ours from the other end of a cable."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, HOST, Gate, leases, network
from tests.knockgate.daemon.test_packets import DOORS
from tests.netns import DEADLINE, stay_on_one_core, until

from knockgate.spa.fwknop import Hash, Secret

__all__ = ["DOORS", "Client", "Stage", "stage", "until_open"]


class Client:
    """A ``.fwknoprc`` with a stanza for each of the secrets, and runs of the client with it."""

    def __init__(self, folder: Path, secrets: Mapping[str, Secret]) -> None:
        self._folder = folder / "client"
        self._folder.mkdir()
        self._file = self._folder / "rc"
        self._file.write_text("[default]\n" + "".join(map(_stanza, secrets, secrets.values())))
        self._file.chmod(0o600)

    def knock(self, name: str, *options: str, source: str = CLIENT, digest: Hash = Hash.SHA256) -> None:
        """Knock with the secrets of that name, as the option ``-n`` does."""
        with running.client:
            self._run(name, *options, *(["-a", source] if source else []), "-m", digest.value)

    def made(self, name: str, *options: str, source: str = CLIENT) -> bytes:
        """The payload that it would send, and has not."""
        packet = self._folder / "packet"
        self._run(name, *options, *(["-a", source] if source else []), "-T", "-B", str(packet))
        payload = packet.read_bytes().strip()
        packet.unlink()
        return payload

    def _run(self, name: str, *options: str) -> None:
        command = ["fwknop", "--rc-file", str(self._file), "-n", name, "--no-save-args", *options]
        environment = {"HOME": str(self._folder), "PATH": os.environ["PATH"], "TZ": "UTC"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def _stanza(name: str, secret: Secret) -> str:
    lines = {
        "SPA_SERVER": HOST,
        "KEY_BASE64": base64.b64encode(secret.key).decode(),
        "ENCRYPTION_MODE": secret.mode.value,
    }
    if secret.hmac_key is not None:
        hmac_key = base64.b64encode(secret.hmac_key).decode()
        lines |= {"USE_HMAC": "Y", "HMAC_KEY_BASE64": hmac_key, "HMAC_DIGEST_TYPE": secret.hmac.value}
    return f"[{name}]\n" + "".join(f"{field} {value}\n" for field, value in lines.items())


class Stage(running.Counted):
    """A gate that runs, whose keys the client has."""

    def __init__(self, folder: Path, doors: str, keys: Mapping[str, tuple[Secret, str]], clock: str) -> None:
        """``keys``: the secret of each, and the lines of its table."""
        self.gate = Gate(folder)
        tables = [_table(folder, name, secret, lines) for name, (secret, lines) in keys.items()]
        self.gate.write(doors + "\n".join(tables), gate=f'clock = "{clock}"\n')


def _table(folder: Path, name: str, secret: Secret, lines: str) -> str:
    """``[keys.NAME]``, and the file with its secrets."""
    path = folder / f"{name}.keys"
    text = f"KEY_BASE64: {base64.b64encode(secret.key).decode()}\n"
    table = [f"[keys.{name}]", f'fwknop = "{path}"', f'mode = "{secret.mode.value}"', lines]
    if secret.hmac_key is None:
        table.append("insecure = true")
    else:
        table.append(f'hmac = "{secret.hmac.value}"')
        text += f"HMAC_KEY_BASE64: {base64.b64encode(secret.hmac_key).decode()}\n"
    path.write_text(text)
    path.chmod(0o600)
    return "\n".join(table)


@contextlib.contextmanager
def stage(
    folder: Path, keys: Mapping[str, tuple[Secret, str]], *, doors: str = DOORS, clock: str = "trusted"
) -> Iterator[Stage]:
    """The gate is running. Packets keep their order, so what came after is a control of what came before."""
    stay_on_one_core()
    with network():
        found = Stage(folder, doors, keys, clock)
        found.gate.start()
        yield found
        assert found.gate.end() == 0, found.gate.log()


def until_open(*expected: tuple[str, str]) -> None:
    """Wait until just these are open, as (port, source), and all for packets."""
    wanted = {(port, source, "packet") for port, source in expected}
    until(lambda: leases() >= wanted, f"{sorted(wanted)} are open")
    assert leases() == wanted
