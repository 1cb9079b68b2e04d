from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knockgate.daemon.link import (
    REPLY_SIZE,
    REQUEST_SIZE,
    Reply,
    Request,
    Status,
    Surprise,
    Verb,
    is_ours,
)

requests = st.builds(
    Request,
    verb=st.sampled_from(Verb),
    number=st.integers(0, 2**32 - 1),
    door=st.integers(0, 2**16 - 1),
    source=st.sampled_from([0, 4, 8, 16]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    milliseconds=st.integers(0, 2**32 - 1),
    checksum=st.binary(min_size=16, max_size=16),
)
replies = st.builds(
    Reply,
    status=st.sampled_from(Status),
    number=st.integers(0, 2**32 - 1),
    value=st.integers(0, 2**32 - 1),
    owned=st.booleans(),
    says=st.text(st.characters(exclude_categories=["C", "Z"]), max_size=60),
)


@given(requests)
def test_a_request_arrives_as_it_was_sent(request: Request) -> None:
    message = request.encode()
    assert len(message) == REQUEST_SIZE == 48
    assert Request.decode(message) == request


@given(replies)
def test_a_reply_arrives_as_it_was_sent(reply: Reply) -> None:
    message = reply.encode()
    assert len(message) == REPLY_SIZE == 256
    assert Reply.decode(message) == reply


@given(st.binary(max_size=300))
def test_noise_is_a_surprise(message: bytes) -> None:
    for kind in (Request, Reply):
        with pytest.raises(Surprise):
            kind.decode(message)


@given(requests, st.integers(0, REQUEST_SIZE - 1), st.integers(1, 255))
def test_a_changed_request_is_another_one_or_a_surprise(request: Request, at: int, change: int) -> None:
    message = bytearray(request.encode())
    message[at] ^= change
    try:
        decoded = Request.decode(bytes(message))
    except Surprise:
        return
    assert decoded != request and decoded.encode() == message


@given(replies, st.integers(0, REPLY_SIZE - 1), st.integers(1, 255))
def test_a_changed_reply_is_another_one_or_a_surprise(reply: Reply, at: int, change: int) -> None:
    message = bytearray(reply.encode())
    message[at] ^= change
    try:
        decoded = Reply.decode(bytes(message))
    except Surprise:
        return
    assert decoded != reply and decoded.encode() == message


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, b"X"), (2, b"\2"), (3, b"\0"), (3, b"\10"), (10, b"\5"), (11, b"\1"), (36, b"\1")],
    ids=["magic", "version", "no verb", "a verb too many", "length", "padding", "beyond the source"],
)
def test_each_field_of_a_request_is_checked(at: int, value: bytes) -> None:
    message = Request(Verb.OPEN, 7, 1, b"\x0a\0\0\1", 1000).encode()
    assert Request.decode(message).source == b"\x0a\0\0\1"  # control
    with pytest.raises(Surprise):
        Request.decode(message[:at] + value + message[at + 1 :])
    for other in (message[:-1], message + b"\0", b""):
        with pytest.raises(Surprise):
            Request.decode(other)


def test_what_is_said_is_one_line_that_fits() -> None:
    assert Reply.decode(Reply(Status.KERNEL, says="two\nlines\x1b[2J").encode()).says == "two lines [2J"
    cut = Reply.decode(Reply(Status.KERNEL, says="ü" * 200).encode()).says
    assert cut == "ü" * 120
    cut = Reply.decode(Reply(Status.KERNEL, says="x" + "ü" * 200).encode()).says
    assert cut == "x" + "ü" * 119  # half a letter is none


def test_our_own_processes_are_ours() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        assert is_ours(here)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_nobody_is_not_ours() -> None:
    path = f"\0knockgate-test-{os.getpid()}"  # abstract: nobody's permissions are in the way
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as doorbell:
        doorbell.bind(path)
        doorbell.listen()
        for user, ours in ((0, True), (65534, False)):
            child = os.fork()
            if child == 0:
                os.setresuid(user, user, user)
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                    sock.connect(path)
                    sock.recv(1)
                os._exit(0)
            connection, _ = doorbell.accept()
            with connection:
                assert is_ours(connection) == ours
            os.waitpid(child, 0)
