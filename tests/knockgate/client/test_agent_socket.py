"""Real agents, and whatever else may be at the other end of SSH_AUTH_SOCK."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.knockgate.client import agents
from tests.knockgate.spa.sshkeys.signers import made, signer
from tests.netns import DEADLINE

from knockgate.client.agent_socket import Agent
from knockgate.errors import Unavailable
from knockgate.spa import agent as protocol
from knockgate.spa.sshkeys import Kind, PublicKey, verify
from knockgate.spa.sshkeys.encoding import string, uint32
from knockgate.spa.sshkeys.sshsig import wrapped

MESSAGE = bytes(range(144))
KEY = signer(Kind.ED25519)
LISTED = b"\x0c" + uint32(1) + string(KEY.public.blob) + string(b"me")
SIGNED = b"\x0e" + string(wrapped(Kind.ED25519, KEY.sign(MESSAGE)))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    with agents.real(tmp_path / "socket") as path:
        yield path


def public(file: Path) -> PublicKey:
    return PublicKey.of_text(*file.with_suffix(".pub").read_bytes().split()[:2])


@pytest.mark.parametrize(
    "arguments", [["-t", "ed25519"], ["-t", "ecdsa", "-b", "256"]], ids=lambda each: each[1]
)
def test_the_real_one(arguments: list[str], running: Path, tmp_path: Path) -> None:
    file = made(tmp_path, *arguments)
    agent = Agent(str(running))
    assert agent.keys() == ()
    with pytest.raises(Unavailable, match="refuses to sign"):
        agent.sign(public(file), MESSAGE)
    agents.add(running, file)
    assert agent.keys() == (protocol.Offer(public(file), None, "somebody"),)
    assert verify(public(file), agent.sign(public(file), MESSAGE), MESSAGE)


def test_many_keys(running: Path, tmp_path: Path) -> None:
    """The answer comes in more than one piece."""
    for number in range(40):
        folder = tmp_path / str(number)
        folder.mkdir()
        agents.add(running, made(folder, "-t", "ed25519", "-C", "x" * 1000))
    offers = Agent(str(running)).keys()
    assert len({offer.key for offer in offers}) == 40
    assert {offer.comment for offer in offers} == {"x" * 1000}


def test_a_locked_one(running: Path, tmp_path: Path) -> None:
    file = made(tmp_path, "-t", "ed25519")
    agents.add(running, file)
    _lock(running, "-x", tmp_path)
    agent = Agent(str(running))
    assert agent.keys() == (), "so it says itself"
    with pytest.raises(Unavailable, match="refuses to sign") as caught:
        agent.sign(public(file), MESSAGE)
    assert "ssh-add -X" in (caught.value.hint or "")
    _lock(running, "-X", tmp_path)
    assert agent.sign(public(file), MESSAGE)


def _lock(agent: Path, option: str, folder: Path) -> None:
    environment = agents.askpass(folder, "echo word") | {"SSH_AUTH_SOCK": str(agent)}
    subprocess.run(["ssh-add", option], env=environment, capture_output=True, timeout=DEADLINE, check=True)


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_key_that_wants_to_be_confirmed(answer: str, tmp_path: Path) -> None:
    file = made(tmp_path, "-t", "ed25519")
    environment = agents.askpass(tmp_path, f"[ {answer} = yes ]")
    with agents.real(tmp_path / "socket", environment=environment) as path:
        agents.add(path, "-c", file)
        if answer == "yes":
            assert Agent(str(path)).sign(public(file), MESSAGE)
        else:
            with pytest.raises(Unavailable, match="refuses to sign") as caught:
                Agent(str(path)).sign(public(file), MESSAGE)
            assert "nobody confirmed" in (caught.value.hint or "")


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_of_key(kind: Kind, tmp_path: Path) -> None:
    one = signer(kind)
    with agents.acting(tmp_path / "socket", agents.tokens([one])) as path:
        assert Agent(str(path)).keys() == (protocol.Offer(one.public, None, "a token"),)
        found = Agent(str(path)).sign(one.public, MESSAGE)
        assert verify(one.public, found, MESSAGE)
        assert found.touched is kind.on_token


# --- no agent ----------------------------------------------------------------------------------------


def test_nobody_there(tmp_path: Path, running: Path) -> None:
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(dead))
    file = tmp_path / "file"
    file.write_text("text")
    paths = [str(dead), str(file), str(tmp_path / "none"), str(tmp_path), "", "a\0b", "/" + "x" * 200]
    for path in paths:
        for ask in (Agent(path).keys, lambda path=path: Agent(path).sign(KEY.public, MESSAGE)):
            with pytest.raises(Unavailable, match="no ssh agent answers at") as caught:
                ask()
            assert "SSH_AUTH_SOCK" in (caught.value.hint or "")
    assert Agent(str(running)).keys() == ()


# --- an agent that is none ---------------------------------------------------------------------------


def says(*parts: bytes) -> agents.Answer:
    """These, whatever it is asked; then it hears on, until the client has gone."""

    def answer(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        for part in parts:
            sock.sendall(part)
        while sock.recv(1 << 16):
            pass

    return answer


def ends(octets: bytes) -> agents.Answer:
    """These, and no more."""

    def answer(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        sock.sendall(octets)

    return answer


def slowly(octets: bytes) -> agents.Answer:
    """One octet after the other, each of them well in time."""

    def answer(sock: socket.socket) -> None:
        for octet in octets:
            sock.sendall(bytes([octet]))
            time.sleep(0.02)

    return answer


def endless(sock: socket.socket) -> None:
    while True:
        sock.sendall(uint32(2**31) + bytes(1 << 16))


def both(path: Path, match: str, seconds: float) -> None:
    """Listing and signing end so, within the time."""
    agent = Agent(str(path), listing=seconds, signing=seconds)
    for ask in (agent.keys, lambda: agent.sign(KEY.public, MESSAGE)):
        began = time.monotonic()
        with pytest.raises(Unavailable, match=match) as caught:
            ask()
        assert caught.value.hint
        assert time.monotonic() - began < DEADLINE / 2


def test_the_control_of_those_below(tmp_path: Path) -> None:
    with agents.acting(tmp_path / "list", says(string(LISTED))) as path:
        assert Agent(str(path)).keys() == (protocol.Offer(KEY.public, None, "me"),)
    whole = string(SIGNED)
    with agents.acting(tmp_path / "sign", says(whole[:2], whole[2:9], whole[9:])) as path:
        assert Agent(str(path)).sign(KEY.public, MESSAGE) == KEY.sign(MESSAGE)
    with agents.acting(tmp_path / "slow", slowly(whole[:20] + whole[20:])) as path:
        assert Agent(str(path)).sign(KEY.public, MESSAGE) == KEY.sign(MESSAGE)


@pytest.mark.parametrize(
    "octets",
    [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        uint32(0),
        uint32(2**32 - 1),
        string(b"\x06"),
        string(b"\x0c" + uint32(5)),
        string(b"\x0e" + string(b"junk")),
        string(LISTED + b"\0")[:4] + LISTED + b"\0",
    ],
)
def test_garbage(octets: bytes, tmp_path: Path) -> None:
    with agents.acting(tmp_path / "socket", says(octets)) as path:
        both(path, "makes no sense", DEADLINE)


@pytest.mark.parametrize("octets", [string(LISTED), string(SIGNED)], ids=["keys", "signature"])
def test_cut_off_at_each_octet(octets: bytes, tmp_path: Path) -> None:
    for end in range(0, len(octets), 5):
        with agents.acting(tmp_path / str(end), ends(octets[:end])) as path:
            both(path, "closed the connection before|[Cc]onnection reset", DEADLINE)


def test_endless(tmp_path: Path) -> None:
    with agents.acting(tmp_path / "socket", endless) as path:
        both(path, "makes no sense", DEADLINE)


@pytest.mark.parametrize("answer", [says(), says(string(LISTED)[:9])], ids=["nothing", "a part"])
def test_one_that_never_answers(answer: agents.Answer, tmp_path: Path) -> None:
    with agents.acting(tmp_path / "socket", answer) as path:
        both(path, re.escape("does not answer within 0.1 seconds"), 0.1)


def test_single_octets_do_not_make_it_wait(tmp_path: Path) -> None:
    with agents.acting(tmp_path / "socket", slowly(uint32(1000) + bytes(500))) as path:
        both(path, "does not answer within", 0.3)


def test_one_that_takes_no_connections(tmp_path: Path) -> None:
    """Its queue is full, so that connecting waits."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as first:
        listening.bind(str(path))
        listening.listen(0)
        first.connect(str(path))
        both(path, "does not answer within|temporarily unavailable", 0.1)


def test_one_that_signs_something_else(tmp_path: Path) -> None:
    with agents.acting(tmp_path / "socket", says(string(SIGNED))) as path:
        with pytest.raises(Unavailable, match="signature is wrong"):
            Agent(str(path)).sign(KEY.public, MESSAGE + b"\0")
        assert Agent(str(path)).sign(KEY.public, MESSAGE)


def test_nothing_of_ours_is_left_behind(tmp_path: Path) -> None:
    """Each question's connection is closed, also where the answer was no good."""
    closed = threading.Semaphore(0)

    def answer(sock: socket.socket) -> None:
        says(string(b"\x06"))(sock)
        closed.release()

    with agents.acting(tmp_path / "socket", answer) as path:
        for _ in range(2):
            both(path, "makes no sense", DEADLINE)
        for _ in range(4):
            assert closed.acquire(timeout=DEADLINE)
