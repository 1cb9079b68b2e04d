"""An ssh agent that is somebody else's: ``knockgate knock`` as a process, at whose SSH_AUTH_SOCK it listens.

Its time limits (5 s for the list of keys, 60 s for a signature: somebody may have to touch a token) are made
shorter here, and nothing else. For single answers see ``tests/knockgate/client/test_agent_socket.py``.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.attacks.figures import figure
from tests.knockgate.cli.knocker import addresses, at_home, words_for
from tests.knockgate.cli.process import environment, knockgate
from tests.knockgate.client import agents
from tests.knockgate.client.sealed_gate import gate
from tests.knockgate.spa import sealed_messages as messages
from tests.knockgate.spa.sshkeys.signers import Signer, signer
from tests.netns import DEADLINE, isolated

from knockgate.spa.sshkeys import Kind, Signature
from knockgate.spa.sshkeys.encoding import Reader, string, uint32
from knockgate.spa.sshkeys.sshsig import wrapped

KEY, OTHER, CURVE = signer(Kind.ED25519, 1), signer(Kind.ED25519, 2), signer(Kind.ECDSA_P256, 1)
_LISTING, _SIGNING = 0.5, 1.0
_START = f"""
import sys
from knockgate.client.agent_socket import Agent
Agent.__init__.__kwdefaults__.update(listing={_LISTING}, signing={_SIGNING})
from knockgate.cli import main
sys.exit(main(sys.argv[1:]))
"""
_LONGEST = 30.0  # seconds, on a machine that others keep busy
_GROWTH = 24 * 1024  # KiB beyond what it takes with an honest agent

Says = Callable[[bytes, socket.socket], None]
"""What the agent does about one request."""


class Ended(NamedTuple):
    """How the client ended."""

    status: int
    said: str
    seconds: float
    peak_kb: int


def listing(*keys: Signer, comment: bytes = b"me", number: int | None = None) -> bytes:
    body = b"".join(string(each.public.blob) + string(comment) for each in keys)
    return string(b"\x0c" + uint32(len(keys) if number is None else number) + body)


def signed(one: Signer, octets: bytes, kind: Kind | None = None) -> bytes:
    """As the agent answers; ``kind`` is the one that it says the signature is of."""
    blob = wrapped(kind or one.public.kind, Signature(one._raw(octets)))
    return string(b"\x0e" + string(blob))


def _drips(octets: bytes, sock: socket.socket) -> None:
    for octet in octets:
        sock.sendall(bytes([octet]))
        if over.wait(0.05):
            return


over = threading.Event()


def _hangs(*_: object) -> None:
    over.wait(DEADLINE)


def _pours(_: bytes, sock: socket.socket) -> None:
    sock.sendall(uint32(256 * 1024))
    while True:
        sock.sendall(bytes(1 << 16))


def always(octets: bytes) -> Says:
    return lambda _, sock: sock.sendall(octets)


def lists(then: Says, *keys: Signer, comment: bytes = b"me") -> Says:
    """These keys, and ``then`` is what it does about a signature."""

    def does(request: bytes, sock: socket.socket) -> None:
        if request[0] == 11:
            sock.sendall(listing(*(keys or (KEY,)), comment=comment))
        else:
            then(request, sock)

    return does


def signs(how: Callable[[bytes], bytes]) -> Says:
    """Answers with what ``how`` makes of the octets to be signed."""

    def does(request: bytes, sock: socket.socket) -> None:
        reader = Reader(request[1:])
        reader.string()
        sock.sendall(how(reader.string()))

    return does


HONEST = lists(signs(lambda octets: signed(KEY, octets)))
HOSTILE: dict[str, tuple[Says, str]] = {
    "hangs": (_hangs, "does not answer within"),
    "hangs at a signature": (lists(_hangs), "does not answer within"),
    "hangs at six": (lists(_hangs, *(signer(Kind.ED25519, n) for n in range(6))), "none of 6 SSH keys signs"),
    "drips": (lambda _, sock: _drips(listing(KEY), sock), "does not answer within"),
    "drips a signature": (lists(lambda request, sock: _drips(signed(KEY, request), sock)), "does not answer"),
    "announces 4 GiB": (always(uint32(2**32 - 1) + bytes(100)), "makes no sense"),
    "announces 4 GiB of signature": (lists(always(uint32(2**32 - 1))), "makes no sense"),
    "pours": (_pours, "makes no sense"),
    "announces 4 billion keys": (always(listing(KEY, number=2**32 - 1)), "makes no sense"),
    "lists 10,000 keys": (always(listing(*[KEY] * 10_000)), "makes no sense"),
    "lists 2,000 keys, none signs": (
        lists(always(string(b"\x05")), *(signer(Kind.ED25519, n) for n in range(2000))), "none of 6 SSH keys",
    ),
    "another key's signature": (lists(signs(lambda octets: signed(OTHER, octets))), "signature is wrong"),
    "of something else": (lists(signs(lambda octets: signed(KEY, octets + b"x"))), "signature is wrong"),
    "another algorithm": (
        lists(signs(lambda octets: signed(CURVE, octets))), "makes no sense",
    ),
    "another algorithm's name": (
        lists(signs(lambda octets: signed(KEY, octets, Kind.SK_ED25519))), "makes no sense",
    ),
    "a signature of zeros": (lists(signs(lambda _: string(b"\x0e" + string(
        string(b"ssh-ed25519") + string(bytes(64)))))), "signature is wrong"),
    "closes in the middle": (lambda _, sock: sock.sendall(listing(KEY)[:20]), "closed the connection"),
    "closes in a signature": (
        lists(signs(lambda octets: signed(KEY, octets)[:40])), "closed the connection",
    ),
    "succeeds at everything": (always(string(b"\x06")), "makes no sense"),
    "succeeds at signing": (lists(always(string(b"\x06"))), "makes no sense"),
    "moves the terminal": (
        lists(always(string(b"\x05")), KEY, OTHER, comment=b"\x1b[2J\x1b]0;mine\x07\r\n\x00\xff\xe2\x80\xae"),
        "none of 2 SSH keys",
    ),
}  # fmt: skip


@contextlib.contextmanager
def acting(path: Path, does: Says) -> Iterator[list[bytes]]:
    """An agent; yields the requests that it gets."""
    heard: list[bytes] = []

    def answer(sock: socket.socket) -> None:
        with sock.makefile("rb") as stream:
            while header := stream.read(4):
                heard.append(stream.read(int.from_bytes(header, "big")))
                does(heard[-1], sock)
                if does is not HONEST:
                    return

    over.clear()
    with agents.acting(path, answer):
        try:
            yield heard
        finally:
            over.set()


def knocks(home: Path, agent: Path) -> Ended:
    """The client, with nobody at the terminal."""
    words = [sys.executable, "-c", _START, *words_for(home)]
    own = environment(SSH_AUTH_SOCK=str(agent), XDG_CONFIG_HOME=os.environ["XDG_CONFIG_HOME"])
    began = time.monotonic()
    with (home / "said").open("w+b") as said:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=own)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode()
    return Ended(process.returncode, text, time.monotonic() - began, used.ru_maxrss)


SOME = ["hangs at a signature", "drips", "lists 10,000 keys", "another key's signature", "moves the terminal"]


@pytest.mark.parametrize(
    "names", [SOME, pytest.param([*HOSTILE], marks=pytest.mark.long)], ids=["some", "all"]
)
@isolated
def test_no_agent_gets_more_than_a_message(names: list[str], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        home = at_home(tmp_path, patch)
        addresses()
        with gate(KEY.public) as there:
            with acting(home / "honest", HONEST) as heard:
                control = knocks(home, home / "honest")
            assert control.status == 0, control.said
            assert len(there.number(1)) == 1 and [each[0] for each in heard] == [11, 13]
            for number, name in enumerate(names):
                does, message = HOSTILE[name]
                with acting(home / str(number), does) as heard:
                    ended = knocks(home, home / str(number))
                _is_clear(name, ended, message)
                _has_leaked_nothing(heard)
                figure(
                    f"agent.{name}",
                    tries=1,
                    wrongly=len(there.number(1)) - 1,
                    rightly=1,
                    control="with an honest agent the same client's knock opens",
                    took_s=round(ended.seconds, 2),
                    memory_more_kb=ended.peak_kb - control.peak_kb,
                )
                assert ended.seconds < _LONGEST and ended.peak_kb < control.peak_kb + _GROWTH, (name, ended)
            there.number(1)  # all that came, and nothing with a wrong signature


def test_of_a_thousand_tokens_few_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who is there is not told to touch one after the other."""
    home = at_home(tmp_path, monkeypatch)
    monkeypatch.setattr("knockgate.cli.knocking.signing._somebody_is_there", lambda: True)
    tokens = [signer(Kind.SK_ED25519, number) for number in range(1000)]
    with acting(home / "agent", lists(always(string(b"\x05")), *tokens)) as heard:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))
        done = knockgate(*words_for(home, "-a", "198.51.100.9", host="127.0.0.1"))
    assert done.returncode == 2 and "none of 6 SSH keys signs" in done.stderr
    assert [each[0] for each in heard] == [11, *[13] * 6] and done.stderr.count("touch the token") == 6


def _is_clear(name: str, ended: Ended, message: str) -> None:
    first, hint = ended.said.splitlines()[:2]
    assert (ended.status, message in first) == (2, True), (name, ended)
    assert first.startswith("knockgate: ") and hint.startswith("  hint: ") and len(ended.said) < 2000
    assert all(each.isprintable() or each == "\n" for each in ended.said), (name, ended.said)
    assert base64.b64encode(messages.SECRET).decode()[:20] not in ended.said


def _has_leaked_nothing(heard: list[bytes]) -> None:
    """It is asked which keys it has, and for signatures of hashes."""
    for each in heard:
        if each[0] == 11:
            assert each == b"\x0b"
            continue
        reader = Reader(each)
        assert reader.byte() == 13
        reader.string()
        to_sign = reader.string()
        assert to_sign.startswith(b"SSHSIG") and len(to_sign) == 6 + 4 + 16 + 4 + 4 + 6 + 4 + 64
        assert reader.uint32() == 0
        reader.end()
