"""Signatures by the real ssh-keygen: passphrases at a terminal and without one, tokens with touch and PIN."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.knockgate.client import agents, software_token
from tests.knockgate.spa.sshkeys.signers import keygen, made
from tests.netns import DEADLINE

from knockgate.client import ssh_keygen
from knockgate.errors import Unavailable
from knockgate.spa.sshkeys import PublicKey, verify

MESSAGE = bytes(range(144))
KINDS = [["-t", "ed25519"], ["-t", "ecdsa", "-b", "256"]]


def public(file: Path) -> PublicKey:
    return PublicKey.of_text(*file.with_name(f"{file.name}.pub").read_bytes().split()[:2])


def locked(folder: Path, *arguments: str) -> Path:
    file = made(folder, *arguments or KINDS[0])
    keygen("-q", "-p", "-a", "1", "-P", "", "-N", "open sesame", "-f", file)
    return file


def asked(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    for name, value in agents.askpass(folder, script).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("arguments", KINDS, ids=lambda each: each[1])
def test_a_passphrase_by_askpass(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = locked(tmp_path, *arguments)
    asked(monkeypatch, tmp_path, "echo open sesame")
    assert verify(public(file), ssh_keygen.sign(file, public(file), MESSAGE), MESSAGE)
    asked(monkeypatch, tmp_path, "echo open barley")
    with pytest.raises(Unavailable, match="does not sign") as caught:
        ssh_keygen.sign(file, public(file), MESSAGE)
    assert "ssh-add" in (caught.value.hint or "")
    assert "incorrect passphrase" in capfd.readouterr().err
    asked(monkeypatch, tmp_path, "exit 1")
    with pytest.raises(Unavailable, match="does not sign"):
        ssh_keygen.sign(file, public(file), MESSAGE)


def test_three_passphrases_as_with_ssh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = locked(tmp_path)
    # It answers with the line that is next.
    next_line = f"n=$(wc -l <{tmp_path}/asked); echo >>{tmp_path}/asked; sed -n $((n + 1))p {tmp_path}/words"
    asked(monkeypatch, tmp_path, next_line)

    def signs(*words: str) -> bool:
        (tmp_path / "asked").write_text("")
        (tmp_path / "words").write_text("".join(f"{word}\n" for word in words))
        capfd.readouterr()
        try:
            return verify(public(file), ssh_keygen.sign(file, public(file), MESSAGE), MESSAGE)
        except Unavailable as error:
            return f"ssh-add {file}" not in str(error.hint)

    def times() -> int:
        return len((tmp_path / "asked").read_text())

    assert signs("open sesame") and times() == 1
    assert signs("open barley", "", "open sesame") and times() == 3
    assert capfd.readouterr().err.count("incorrect passphrase") == 2
    assert not signs("open barley", "open rye", "open oats", "open sesame") and times() == 3
    file.chmod(0o644)  # what ssh-keygen says then is about something else, and asking again does not help
    assert not signs("open sesame") and times() == 0
    assert capfd.readouterr().err.count("UNPROTECTED") == 1
    file.chmod(0o600)
    for name in ("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(ssh_keygen, "somebody_is_there", lambda: False)
    assert not signs()
    assert capfd.readouterr().err.count("incorrect passphrase") == 1


_PROGRAM = """
import os, sys
from pathlib import Path
from knockgate.client import private_key, ssh_keygen
file = Path(sys.argv[1])
try:
    found = ssh_keygen.sign(file, private_key.look(file.read_bytes()).key, bytes(range(144)))
    Path(sys.argv[2]).write_text(found.octets.hex())
except Exception as error:
    Path(sys.argv[2]).write_text(repr(error))
"""


def test_a_passphrase_at_the_terminal(tmp_path: Path) -> None:
    _ask_at_the_terminal(tmp_path, locked(tmp_path), b"Enter passphrase", b"open sesame\n")


def test_a_pin_at_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = software_token.built(tmp_path)
    monkeypatch.setenv("SSH_SK_PROVIDER", str(library))
    file = software_token.enrolled(tmp_path, library, "ed25519-sk", "-O", "verify-required")
    _ask_at_the_terminal(tmp_path, file, b"Enter PIN", software_token.PIN.encode() + b"\n")


def _ask_at_the_terminal(folder: Path, file: Path, prompt: bytes, words: bytes) -> None:
    """On a desktop. Standard input and output are somebody else's, as behind ssh's ProxyCommand."""
    result = folder / "result"
    near, far = os.pipe()
    child, terminal = pty.fork()
    if child == 0:
        try:
            os.environ.pop("SSH_ASKPASS_REQUIRE", None)
            os.environ |= {"DISPLAY": ":9", "SSH_ASKPASS": "/nowhere"}
            os.dup2(near, 0)
            os.dup2(far, 1)
            os.execv(sys.executable, [sys.executable, "-c", _PROGRAM, str(file), str(result)])  # noqa: S606
        finally:
            os._exit(1)
    try:
        _type(terminal, prompt, words)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        status = os.waitpid(child, 0)[1]
        os.close(terminal)
    assert status == 0
    os.close(far)
    with os.fdopen(near, "rb") as stream:
        assert stream.read() == b"", "nothing of it is on standard output"
    assert len(result.read_text()) == 128, result.read_text()


def _type(terminal: int, prompt: bytes, words: bytes) -> None:
    said, end = b"", time.monotonic() + DEADLINE
    while prompt not in said:
        assert select.select([terminal], [], [], max(0, end - time.monotonic()))[0], said
        said += os.read(terminal, 1024)
    os.write(terminal, words)


def test_no_terminal_and_nobody_to_ask(tmp_path: Path) -> None:
    """As in a cron job; with the control that the same program signs with a key that is not locked."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY", "WAYLAND_DISPLAY")
    }
    for file, wanted in ((locked(tmp_path), "does not sign"), (_open(tmp_path), None)):
        result = tmp_path / "result"
        subprocess.run(
            [sys.executable, "-c", _PROGRAM, file, result],
            env=environment,
            start_new_session=True,
            capture_output=True,
            timeout=DEADLINE,
            check=True,
        )
        assert wanted in result.read_text() if wanted else len(result.read_text()) == 128


def _open(folder: Path) -> Path:
    (folder / "open").mkdir()
    return made(folder / "open", *KINDS[0])


@pytest.mark.parametrize("kind", ["ed25519-sk", "ecdsa-sk"])
def test_a_token(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = software_token.built(tmp_path)
    monkeypatch.setenv("SSH_SK_PROVIDER", str(library))
    asked(monkeypatch, tmp_path, f"echo {software_token.PIN}")
    file = software_token.enrolled(tmp_path, library, kind)
    for _ in range(8):  # a number of ECDSA's may be shorter
        found = ssh_keygen.sign(file, public(file), MESSAGE)
        assert verify(public(file), found, MESSAGE)
        assert (found.touched, found.verified, found.counter) == (True, False, 7)


def test_a_tokens_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = software_token.built(tmp_path)
    monkeypatch.setenv("SSH_SK_PROVIDER", str(library))
    file = software_token.enrolled(tmp_path, library, "ed25519-sk", "-O", "verify-required")
    asked(monkeypatch, tmp_path, f"echo {software_token.PIN}")
    assert ssh_keygen.sign(file, public(file), MESSAGE).verified
    asked(monkeypatch, tmp_path, "echo 0000")
    with pytest.raises(Unavailable, match="does not sign"):
        ssh_keygen.sign(file, public(file), MESSAGE)


def test_a_token_that_is_not_plugged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = software_token.built(tmp_path)
    file = software_token.enrolled(tmp_path, library, "ed25519-sk")
    monkeypatch.setenv("SSH_SK_PROVIDER", str(tmp_path / "none"))
    with pytest.raises(Unavailable, match="does not sign"):
        ssh_keygen.sign(file, public(file), MESSAGE)


def test_the_agent_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hang, and may be the one that has just refused."""
    file, asked_ = _open(tmp_path), []

    def answer(sock: socket.socket) -> None:
        asked_.append(sock.recv(1))

    with agents.acting(tmp_path / "socket", answer) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        assert ssh_keygen.sign(file, public(file), MESSAGE)
        assert asked_ == []
        subprocess.run(["ssh-add", "-l"], capture_output=True, timeout=DEADLINE, check=False)
        assert asked_ != [], "the control: others do ask it"


def test_another_key_than_was_meant(tmp_path: Path) -> None:
    file, other = made(tmp_path, *KINDS[0]), _open(tmp_path)
    with pytest.raises(Unavailable, match="no signature of that key"):
        ssh_keygen.sign(file, public(other), MESSAGE)
    assert ssh_keygen.sign(file, public(file), MESSAGE)


@pytest.mark.parametrize("script", ["echo junk >$8.sig", "exit 0", "exit 7"])
def test_a_program_that_is_none(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = made(tmp_path, *KINDS[0])
    program = tmp_path / "ssh-keygen"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    before = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{tmp_path}:{before}")
    with pytest.raises(Unavailable) as caught:
        ssh_keygen.sign(file, public(file), MESSAGE)
    assert caught.value.hint and "there is no ssh-keygen" not in caught.value.message
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(Unavailable, match="there is no ssh-keygen here"):
        ssh_keygen.sign(file, public(file), MESSAGE)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder = made(tmp_path, *KINDS[0]), tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert ssh_keygen.sign(file, public(file), MESSAGE)
    file.write_bytes(b"junk")
    with pytest.raises(Unavailable):
        ssh_keygen.sign(file, public(file.with_name("key")), MESSAGE)
    assert not any(folder.iterdir())
