"""ssh-agent: the real one, and one that answers whatever it likes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.spa.sshkeys.signers import made, signer
from tests.netns import until

from knockgate.errors import Unavailable
from knockgate.spa import agent
from knockgate.spa.sshkeys import Flaw, Kind, PublicKey, verify
from knockgate.spa.sshkeys.encoding import string, uint32
from knockgate.spa.sshkeys.sshsig import wrapped

MESSAGE = bytes(range(144))


class Agent:
    """An ssh-agent of this test's own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, *arguments: str | Path) -> None:
        environment = os.environ | {"SSH_AUTH_SOCK": str(self.path)}
        subprocess.run(["ssh-add", "-q", *arguments], env=environment, timeout=30, check=True)

    def ask(self, request: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(self.path))
            sock.sendall(request)
            with sock.makefile("rb") as stream:
                return stream.read(agent.length(stream.read(agent.HEADER)))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Agent]:
    path = tmp_path / "socket"
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: listens(path), "the agent listens")
            yield Agent(path)
        finally:
            process.terminate()


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:  # the path is there a moment earlier
        return sock.connect_ex(str(path)) == 0


def public(file: Path) -> PublicKey:
    return PublicKey.of_text(*file.with_suffix(".pub").read_bytes().split()[:2])


@pytest.mark.parametrize(
    "arguments", [["-t", "ed25519"], ["-t", "ecdsa", "-b", "256"]], ids=lambda each: each[1]
)
def test_the_real_one_signs(arguments: list[str], running: Agent, tmp_path: Path) -> None:
    file = made(tmp_path, *arguments)
    assert agent.keys(running.ask(agent.REQUEST_KEYS)) == ()
    running.add(file)
    key = public(file)
    assert agent.keys(running.ask(agent.REQUEST_KEYS)) == (agent.Offer(key, None, "somebody"),)
    answer = running.ask(agent.request_signature(key, MESSAGE))
    assert verify(key, agent.signature(answer, key, MESSAGE), MESSAGE)
    with pytest.raises(Unavailable, match="signature is wrong"):
        agent.signature(answer, key, MESSAGE + b"\0")


def test_a_key_that_cannot_knock_is_told_with_its_reason(running: Agent, tmp_path: Path) -> None:
    running.add(made(tmp_path, "-t", "rsa", "-b", "2048"))
    (offer,) = agent.keys(running.ask(agent.REQUEST_KEYS))
    assert offer.key is None
    assert offer.flaw is not None and offer.flaw.flaw is Flaw.RSA


def test_a_key_that_it_does_not_have(running: Agent) -> None:
    key = signer(Kind.ED25519).public
    with pytest.raises(Unavailable, match="refuses to sign"):
        agent.signature(running.ask(agent.request_signature(key, MESSAGE)), key, MESSAGE)


def test_a_key_that_was_added_for_certain_hosts_alone(running: Agent, tmp_path: Path) -> None:
    file = made(tmp_path, "-t", "ed25519")
    key = public(file)
    hosts = tmp_path / "known_hosts"
    hosts.write_bytes(b"host.example " + file.with_suffix(".pub").read_bytes())
    running.add("-H", hosts, "-h", "host.example", file)
    with pytest.raises(Unavailable) as caught:
        agent.signature(running.ask(agent.request_signature(key, MESSAGE)), key, MESSAGE)
    assert "ssh-add -h" in (caught.value.hint or "")
    running.add("-D")
    running.add(file)
    assert agent.signature(running.ask(agent.request_signature(key, MESSAGE)), key, MESSAGE)


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_of_key(kind: Kind) -> None:
    one = signer(kind)
    answer = b"\x0e" + string(wrapped(kind, one.sign(MESSAGE)))
    assert agent.signature(answer, one.public, MESSAGE) == one.sign(MESSAGE)
    listed = b"\x0c" + uint32(1) + string(one.public.blob) + string(b"a\xff")
    assert agent.keys(listed) == (agent.Offer(one.public, None, "a\\xff"),)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x06",
        b"\x0c",
        b"\x0c" + uint32(1),
        b"\x0c" + uint32(2**32 - 1),
        b"\x0c" + uint32(0) + b"\0",
        b"\x0c" + uint32(2049) + bytes(8) * 2049,
        b"\x0c" + uint32(1) + string(b"x") + uint32(2**31),
        b"\x0e" + string(b""),
        b"\x0e" + string(wrapped(Kind.ED25519, signer(Kind.ED25519).sign(MESSAGE))) + b"\0",
        b"\x0e" + string(wrapped(Kind.SK_ED25519, signer(Kind.SK_ED25519).sign(MESSAGE))),
    ],
)
def test_answers_that_make_no_sense(answer: bytes) -> None:
    key = signer(Kind.ED25519).public
    with pytest.raises(Unavailable, match="makes no sense"):
        agent.keys(answer)
    with pytest.raises(Unavailable, match="makes no sense"):
        agent.signature(answer, key, MESSAGE)


def test_as_many_keys_as_openssh_takes() -> None:
    listed = b"\x0c" + uint32(2048) + bytes(8) * 2048
    assert len(agent.keys(listed)) == 2048


@pytest.mark.parametrize("code", [5, 28])
def test_a_refusal(code: int) -> None:
    with pytest.raises(Unavailable, match="does not say which keys"):
        agent.keys(bytes([code]))
    with pytest.raises(Unavailable, match="refuses to sign"):
        agent.signature(bytes([code]), signer(Kind.ED25519).public, MESSAGE)


def test_an_answer_has_a_length() -> None:
    assert agent.length(uint32(1)) == 1
    assert agent.length(uint32(256 * 1024)) == 256 * 1024
    for header in (uint32(0), uint32(256 * 1024 + 1), uint32(2**32 - 1), b"", b"\0\0\1"):
        with pytest.raises(Unavailable, match="makes no sense"):
            agent.length(header)


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x0c", b"\x0e", b"\x0c\0\0\0\1", b"\x0c\0\0\0\2"]))
def test_any_answer_is_one_or_makes_no_sense(octets: bytes, begin: bytes) -> None:
    with contextlib.suppress(Unavailable):
        agent.keys(begin + octets)
    with pytest.raises(Unavailable):
        agent.signature(begin + octets, signer(Kind.ECDSA_P256).public, MESSAGE)
