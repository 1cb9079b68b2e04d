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

__all__ = ["sign", "somebody_is_there"]

_TRIES = 3
"""For a passphrase, as ssh has them (NumberOfPasswordPrompts)."""
_WRONG = b"incorrect passphrase"


def somebody_is_there() -> bool:
    """Whether ssh-keygen has a terminal to ask at, or a window (ssh(1), SSH_ASKPASS)."""
    display = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_ASKPASS_REQUIRE"))
    if os.environ.get("SSH_ASKPASS") and display:
        return True
    with _terminal() as terminal:
        return terminal != subprocess.DEVNULL


def sign(file: Path, key: PublicKey, message: bytes, *, tokens: str | None = None) -> Signature:
    """What ssh-keygen signs with ``file``, looked at: it must be ``key``'s. Raises Unavailable.

    ``tokens``: the library for keys on tokens; None for the one of SSH_SK_PROVIDER, or that is built in.
    Where somebody can be asked for a passphrase, they have three tries, as with ssh.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="knockgate-") as folder:
            text = _signed(file, Path(folder, "knock"), message, tokens, on_token=key.kind.on_token)
    except FileNotFoundError:
        hint = f"it comes with OpenSSH's client; or {_agent(file)}"
        raise Unavailable(f"{file} cannot sign: there is no ssh-keygen here", hint=hint) from None
    except OSError as error:
        raise Unavailable(f"{file} cannot sign: {error.strerror or error}", hint=_agent(file)) from None
    try:
        _, signature = read_armored(text)
    except ConfigError:
        raise _wrong(file) from None
    if not verify(key, signature, message):
        raise _wrong(file)
    return signature


def _signed(file: Path, knock: Path, message: bytes, tokens: str | None, *, on_token: bool) -> bytes:
    knock.write_bytes(message)
    # An agent would be asked first, and may be the one that has just refused.
    environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    if tokens is not None:
        environment["SSH_SK_PROVIDER"] = tokens
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE.decode(), "-f", str(file.absolute())]
    # Where a token is, the same words would be about its PIN, of which each wrong one counts; and
    # ssh-keygen says when to touch it where its standard error is a terminal.
    run = _run if on_token else _run_again
    if run([*command, str(knock)], environment) != 0:
        raise Unavailable(f"ssh-keygen does not sign with {file}; it says above why", hint=_agent(file))
    result = knock.with_name(f"{knock.name}.sig")
    return result.read_bytes() if result.exists() else b""


def _run_again(command: list[str], environment: dict[str, str]) -> int:
    """The exit status, of the last try where the passphrase was wrong. OSError."""
    left = _TRIES if somebody_is_there() else 1
    while True:
        left -= 1
        # A file, since a pipe is not at its end while a program lives that the window has left behind.
        with tempfile.TemporaryFile() as errors:
            status = _run(command, environment, errors.fileno())
            errors.seek(0)
            told = errors.read()
        with contextlib.suppress(OSError):
            os.write(2, told)
        if status == 0 or not left or _WRONG not in told:
            return status


def _run(command: list[str], environment: dict[str, str], errors: int | None = None) -> int:
    with _terminal() as terminal:
        done = subprocess.run(
            command, stdin=terminal, stdout=subprocess.DEVNULL, stderr=errors, env=environment, check=False
        )
    return done.returncode


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


def _agent(file: Path) -> str:
    return f"give the key to an agent, which signs without asking each time: ssh-add {file}"


def _wrong(file: Path) -> Unavailable:
    return Unavailable(
        f"what ssh-keygen signed with {file} is no signature of that key",
        hint=f"do the file and the .pub beside it belong together? ssh-keygen -y -f {file}",
    )
