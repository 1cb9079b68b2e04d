"""What the table does to sessions, and to leases that were given by hand: with real sockets."""

from __future__ import annotations

import select
import socket

import pytest
from tests.knockgate.firewall.guarded import (
    CLIENT,
    GATE,
    HOST,
    ONE_TRY,
    answering,
    cable,
    knock,
    lease,
    listening,
    look,
)
from tests.knockgate.firewall.table import load, nft
from tests.netns import isolated, run, until


@isolated
def test_sessions_outlive_the_lease() -> None:
    client = cable()
    with listening(22, 80) as (server, _):
        answering(client)
        load(GATE)
        lease("tcp/22", CLIENT[4])
        with client:
            session = socket.create_connection((HOST[4], 22), timeout=ONE_TRY)
        with session, server.accept()[0] as peer:
            nft("delete element inet knockgate leases4 { 10.0.0.2 . tcp . 22 }\n")
            with client:
                assert look(HOST[4], 22) == "silent"
            assert _talk(session, peer)


@isolated
def test_who_had_a_lease_does_not_come_back_through_a_session_that_the_server_reset() -> None:
    """Connection tracking takes a SYN between the same ports for established; the guard does not."""
    client = cable()
    with listening(22, 80) as (server, _):
        answering(client)
        load(GATE)
        lease("tcp/22", CLIENT[4])

        def begin() -> socket.socket:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((CLIENT[4], 40001))
            sock.settimeout(ONE_TRY)
            sock.connect((HOST[4], 22))
            return sock

        def reset_by_the_server() -> None:
            with client, begin() as session, server.accept()[0] as peer:
                session.sendall(b"never read")
                until(lambda: select.select([peer], [], [], 0)[0], "it has arrived")
                peer.close()  # with something unread: a reset
                with pytest.raises(ConnectionResetError):
                    session.recv(1)

        reset_by_the_server()
        reset_by_the_server()  # the control: the ports can be used again at once
        nft("delete element inet knockgate leases4 { 10.0.0.2 . tcp . 22 }\n")
        with client, pytest.raises(TimeoutError):
            begin()


def _talk(session: socket.socket, peer: socket.socket) -> bool:
    """Whether what the client says arrives at once."""
    session.sendall(b"hello")
    ready, _, _ = select.select([peer], [], [], ONE_TRY)
    return bool(ready) and peer.recv(99).startswith(b"hello")


@pytest.mark.parametrize("grace", [True, False])
@isolated
def test_the_session_that_one_types_on(grace: bool) -> None:
    """Connection tracking was not in use: only with grace does a running session go on."""
    client = cable()
    with listening(22, 80) as (server, _):
        answering(client)
        with client:
            session = socket.create_connection((HOST[4], 22), timeout=ONE_TRY)
        with session, server.accept()[0] as peer:
            assert _talk(session, peer)
            load(GATE, grace=grace)
            assert _talk(session, peer) == grace
            with client:
                assert look(HOST[4], 22) == "silent"


@isolated
def test_a_knock_does_not_shorten_what_was_given_by_hand() -> None:
    client = cable()
    with listening(22, 80):
        answering(client)
        load(GATE.replace("15s", "1s"))
        lease("tcp/22", CLIENT[4], name="given")
        with client:
            knock(HOST[4])
            assert look(HOST[4], 22) == "open"
        until(
            lambda: "10.0.0.2" not in run("nft", "list", "set", "inet", "knockgate", "leases4"),
            "the knock's ends",
        )
        with client:
            assert look(HOST[4], 22) == "open"
        nft("flush set inet knockgate given4\n")
        with client:
            assert look(HOST[4], 22) == "silent"
