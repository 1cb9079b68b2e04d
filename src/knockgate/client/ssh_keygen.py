"""A signature that the real ssh-keygen makes, of keys that only it can use: with a passphrase, or in a token.

It asks for passphrase and PIN itself, at the terminal or by way of SSH_ASKPASS, and says when to touch; it
does not say of which file. It is given the message as a file, and the terminal as its standard input: where
that is something else and DISPLAY is set, it asks a window, which may not be there.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from knockgate.errors import ConfigError, Unavailable
from knockgate.spa.sshkeys import NAMESPACE, PublicKey, Signature, verify
from knockgate.spa.sshkeys.sshsig import read_armored

__all__ = ["sign"]

_AGENT = "give the key to an agent, which signs without asking each time: ssh-add FILE"


def sign(file: Path, key: PublicKey, message: bytes, *, tokens: str | None = None) -> Signature:
    """What ssh-keygen signs with ``file``, looked at: it must be ``key``'s. Raises Unavailable.

    ``tokens``: the library for keys on tokens; None for the one of SSH_SK_PROVIDER, or that is built in.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="knockgate-") as folder:
            text = _signed(file, Path(folder, "knock"), message, tokens)
    except FileNotFoundError:
        hint = f"it comes with OpenSSH's client; or {_AGENT}"
        raise Unavailable(f"{file} cannot sign: there is no ssh-keygen here", hint=hint) from None
    except OSError as error:
        raise Unavailable(f"{file} cannot sign: {error.strerror or error}", hint=_AGENT) from None
    try:
        _, signature = read_armored(text)
    except ConfigError:
        raise _wrong(file) from None
    if not verify(key, signature, message):
        raise _wrong(file)
    return signature


def _signed(file: Path, knock: Path, message: bytes, tokens: str | None) -> bytes:
    knock.write_bytes(message)
    # An agent would be asked first, and may be the one that has just refused.
    environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    if tokens is not None:
        environment["SSH_SK_PROVIDER"] = tokens
    with _terminal() as terminal:
        done = subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE.decode(), "-f", file.absolute(), knock],
            stdin=terminal,
            stdout=subprocess.DEVNULL,
            env=environment,
            check=False,
        )
    if done.returncode != 0:
        raise Unavailable(f"ssh-keygen does not sign with {file}; it says above why", hint=_AGENT)
    result = knock.with_name(f"{knock.name}.sig")
    return result.read_bytes() if result.exists() else b""


@contextlib.contextmanager
def _terminal() -> Iterator[int]:
    """Ours, whatever our standard input is: behind ssh's ProxyCommand it is the connection."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        yield subprocess.DEVNULL
        return
    try:
        yield terminal
    finally:
        os.close(terminal)


def _wrong(file: Path) -> Unavailable:
    return Unavailable(
        f"what ssh-keygen signed with {file} is no signature of that key",
        hint="do the file and the .pub beside it belong together? ssh-keygen -y -f FILE",
    )
