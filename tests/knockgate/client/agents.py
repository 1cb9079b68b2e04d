"""ssh agents for tests: the real one, one that speaks the protocol for tokens that are none, and others."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.knockgate.spa.sshkeys.signers import Signer
from tests.netns import DEADLINE, until

from knockgate.spa.sshkeys.encoding import Reader, string, uint32
from knockgate.spa.sshkeys.sshsig import Signature, by_token, wrapped

#: What an agent does with one connection; it has a deadline, and is closed afterwards.
Answer = Callable[[socket.socket], None]


@contextlib.contextmanager
def real(
    path: Path, options: Sequence[str] = (), environment: dict[str, str] | None = None
) -> Iterator[Path]:
    """An ssh-agent of this test's own, at ``path``."""
    command = ["ssh-agent", "-D", "-a", str(path), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        try:
            until(lambda: _listens(path), "the agent listens")
            yield path
        finally:
            process.terminate()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:  # the path is there a moment earlier
        return sock.connect_ex(str(path)) == 0


def add(agent: Path, *arguments: str | Path) -> None:
    """What ssh-add does with these arguments."""
    environment = os.environ | {"SSH_AUTH_SOCK": str(agent)}
    subprocess.run(["ssh-add", "-q", *arguments], env=environment, timeout=DEADLINE, check=True)


def askpass(folder: Path, script: str) -> dict[str, str]:
    """An environment in which OpenSSH's programs ask this script, whether or not there is a terminal."""
    file = folder / "askpass"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return os.environ | {"SSH_ASKPASS": str(file), "SSH_ASKPASS_REQUIRE": "force"}


@contextlib.contextmanager
def acting(path: Path, answer: Answer) -> Iterator[Path]:
    """Something that listens at ``path`` and does ``answer`` with each connection, in a thread for each."""
    threads: list[threading.Thread] = []

    def one(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            sock.settimeout(DEADLINE)
            answer(sock)

    def serve() -> None:
        while True:
            sock, _ = listening.accept()
            if over.is_set():
                sock.close()
                return
            threads.append(threading.Thread(target=one, args=(sock,)))
            threads[-1].start()

    over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        server = threading.Thread(target=serve)
        server.start()
        try:
            yield path
        finally:
            over.set()
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            server.join(DEADLINE)
            for thread in threads:
                thread.join(DEADLINE)


def tokens(signers: Sequence[Signer], *, flags: int = 1) -> Answer:
    """An agent that has these keys; of tokens that are none: it signs what a token would."""

    def answer(sock: socket.socket) -> None:
        while request := _frame(sock):
            reader = Reader(request)
            if reader.byte() == 11:
                keys = b"".join(string(each.public.blob) + string(b"a token") for each in signers)
                sock.sendall(string(b"\x0c" + uint32(len(signers)) + keys))
                continue
            blob, octets = reader.string(), reader.string()
            one = next((each for each in signers if each.public.blob == blob), None)
            sock.sendall(string(b"\x0e" + string(_signed(one, octets, flags)) if one else b"\x05"))

    return answer


def _signed(one: Signer, octets: bytes, flags: int) -> bytes:
    """What the agent is given is signed as it is; that it is SSHSIG's, only the client knows."""
    kind = one.public.kind
    if not kind.on_token:
        return wrapped(kind, Signature(one._raw(octets)))
    raw = one._raw(by_token(one.public.application, flags, 7, octets))
    return wrapped(kind, Signature(raw, flags, 7))


def _frame(sock: socket.socket) -> bytes:
    """A request without its length; empty where the client has gone."""
    with sock.makefile("rb") as stream:
        header = stream.read(4)
        return stream.read(int.from_bytes(header, "big")) if header else b""
