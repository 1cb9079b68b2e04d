"""``knockgate knock`` with a packet: where its secrets come from, and that nobody is shown them."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
from tests.knockgate.cli.packets import (
    HMAC64,
    KEY64,
    LINES,
    SECRET,
    file_of_secrets,
    sent_by,
)
from tests.knockgate.cli.process import command, environment, knockgate, process
from tests.knockgate.client.wire import wire
from tests.netns import isolated

from knockgate.spa.fwknop import Secret, unseal


@pytest.fixture
def secrets(tmp_path: Path) -> str:
    return file_of_secrets(tmp_path)


@isolated
def test_secrets_come_from_the_file_else_from_the_environment(
    secrets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["knock", "127.0.0.1", "--fwknop", "-A", "tcp/22"]
    other = Secret(b"a passphrase", b"another one")
    monkeypatch.setenv("KNOCKGATE_KEY", other.key.decode())
    monkeypatch.setenv("KNOCKGATE_HMAC_KEY", "another one")
    unseal(sent_by(*words).payload, other)
    unseal(sent_by(*words, "--secrets", secrets).payload, SECRET)
    monkeypatch.delenv("KNOCKGATE_KEY")
    monkeypatch.delenv("KNOCKGATE_HMAC_KEY")
    monkeypatch.setenv("KNOCKGATE_KEY_BASE64", KEY64)
    monkeypatch.setenv("KNOCKGATE_HMAC_KEY_BASE64", HMAC64)
    unseal(sent_by(*words).payload, SECRET)


@isolated
def test_secrets_that_are_typed_are_not_shown() -> None:
    words = command("knock", "127.0.0.1", "--fwknop", "-A", "tcp/22", "-U", "jo")
    for typed, secret in (
        ([f"KEY_BASE64: {KEY64}", f"HMAC_KEY_BASE64: {HMAC64}"], SECRET),
        (["a passphrase", "another one"], Secret(b"a passphrase", b"another one")),
        (["a passphrase", ""], Secret(b"a passphrase")),
    ):
        with wire() as seen:
            shown = _typed_at_a_terminal(words, typed)
            (opening,) = seen.openings()
        assert unseal(opening.payload, secret).message.username == "jo"
        assert "key: " in shown and "HMAC key (empty: none): " in shown
        assert not any(line and line in shown for line in (KEY64, HMAC64, *typed)), shown
        assert ("there is no HMAC key" in shown) is (secret.hmac_key is None)


def _typed_at_a_terminal(words: list[str], lines: list[str]) -> str:
    """What somebody sees who starts a command and types the lines, each when he is asked."""
    child, near = pty.fork()
    if child == 0:
        os.execve(words[0], words, environment())  # noqa: S606 - what the parent of a terminal does
    shown = ""
    try:
        for line in [*lines, None]:
            while line is None or shown.count("key") <= lines.index(line):
                try:
                    shown += os.read(near, 4096).decode()
                except OSError:  # the command has ended
                    return shown
                if line is not None and re.search(r"key[^:]*: $", shown):
                    break
            if line is not None:
                os.write(near, f"{line}\n".encode())
    finally:
        os.close(near)
        os.waitpid(child, 0)
    return shown


def test_a_dry_run_says_where_the_secrets_would_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["knock", "127.0.0.1", "--fwknop", "-A", "tcp/22", "--dry-run"]
    assert knockgate(*words).stdout.endswith("; secrets from this terminal\n")
    monkeypatch.setenv("KNOCKGATE_KEY", "a passphrase")
    assert knockgate(*words).stdout.endswith("; secrets from the environment\n")


def test_without_secrets_and_terminal_it_says_where_they_go() -> None:
    words = ["knock", "127.0.0.1", "--fwknop", "-A", "tcp/22"]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command(*words)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    for done in (process(*words), closed):
        assert (done.returncode, done.stdout) == (2, "")
        first, hint = done.stderr.splitlines()
        assert first == "knockgate: there are no secrets, and no terminal to ask for them"
        assert hint.startswith(
            "  hint: --secrets FILE, or KNOCKGATE_KEY_BASE64 and KNOCKGATE_HMAC_KEY_BASE64"
        )


def test_no_secret_is_in_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "broken"
    words = ["knock", "127.0.0.1", "--fwknop", "-A", "tcp/22"]
    for line, message in (
        ("KEY_BASE64: s3cr3t!", "is no base64"),
        ("s3cr3t", "is no line of a file of secrets"),
        (f"KEY: s3cr3t{'x' * 40}", "it must have 1 to 32"),
    ):
        file.write_text(line)
        file.chmod(0o600)
        done = knockgate(*words, "--secrets", str(file))
        assert done.returncode == 2
        assert message in done.stderr and "s3cr3t" not in done.stderr
    monkeypatch.setenv("KNOCKGATE_KEY_BASE64", "s3cr3t!")
    done = knockgate(*words)
    assert done.stderr.splitlines()[0] == "knockgate: KNOCKGATE_KEY_BASE64: is no base64"
    file.write_text(LINES)
    file.chmod(0o640)
    assert "can be read by others" in knockgate(*words, "--secrets", str(file)).stderr
