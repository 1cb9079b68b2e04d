"""A token for the real ssh-keygen and ssh-agent that lives in a library of ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.knockgate.client.agents import askpass
from tests.netns import DEADLINE

SOURCE = Path(__file__).with_name("token.c")
PIN = "1234"


def built(folder: Path) -> Path:
    """The library, for SSH_SK_PROVIDER. Skips where it cannot be made."""
    library = folder / "token.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"]
    try:
        done = subprocess.run(
            [*command, str(library), str(SOURCE), "-lcrypto"],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no C compiler")
    if "openssl/" in done.stderr and "No such file" in done.stderr:
        pytest.skip("OpenSSL's headers are not installed")
    assert done.returncode == 0 and not done.stderr, done.stderr
    return library


def enrolled(folder: Path, library: Path, kind: str, *options: str, passphrase: str = "") -> Path:
    """The handle that ``ssh-keygen -t KIND`` makes: ed25519-sk or ecdsa-sk. Skips where it cannot."""
    file = folder / kind
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "a token", "-w", str(library)]
    done = subprocess.run(
        [*command, "-f", str(file), *options],
        env=askpass(folder, f"echo {PIN}"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    if "implements version" in done.stderr or "unknown key type" in done.stderr:
        pytest.skip(f"this OpenSSH has other tokens: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return file
