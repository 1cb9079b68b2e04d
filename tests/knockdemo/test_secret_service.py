"""The demo service over real sockets on loopback: what it says and whom it survives."""

from __future__ import annotations

import contextlib
import errno
import resource
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from tests.knockdemo.serving import DEADLINE_S, Service, connect, free_port, greeting, read_all, wait_until

from knockdemo import secret_service
from knockgate.errors import Unavailable

CLIENT_BYTES = b"x" * 50_000
"""What a talkative client says; it fits the receive buffer of a server that has not accepted yet."""


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def service(port: int) -> Iterator[Service]:
    with Service(str(port)) as running:
        yield running


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_greets_and_hangs_up_on_both_families(service: Service, port: int, address: str) -> None:
    with connect(port, address) as client:
        assert read_all(client) == greeting(port)
    assert service.ready_line == f"secret-service: listening on [::]:{port} (IPv4 and IPv6)\n"


def test_binds_to_the_named_address_alone() -> None:
    number = free_port()
    with Service(str(number), "--bind", "127.0.0.1") as one:
        with pytest.raises(ConnectionRefusedError):
            connect(number, "::1")
        with connect(number) as client:
            assert read_all(client) == greeting(number)
        assert one.ready_line.endswith("(IPv4 only)\n")
    with Service(str(number), "--bind", "::1") as one:
        with pytest.raises(ConnectionRefusedError):
            connect(number)
        with connect(number, "::1") as client:
            assert read_all(client) == greeting(number)
        assert one.ready_line.endswith("(IPv6 only)\n")


def test_serves_ipv4_where_the_kernel_has_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    with secret_service.listen(free_port()) as listener:
        assert listener.family == socket.AF_INET6
    real = socket.socket

    def without_ipv6(family: int = -1, *arguments: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *arguments)

    number = free_port()
    monkeypatch.setattr(socket, "socket", without_ipv6)
    with secret_service.listen(number) as listener:
        assert listener.family == socket.AF_INET
    with pytest.raises(Unavailable):  # who asks for IPv6 by name is not served with something else
        secret_service.listen(number, "::1")


def test_silent_clients_keep_nobody_waiting_and_cost_nothing_for_long(service: Service, port: int) -> None:
    before = service.descriptors()
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(200)]
        begin = time.monotonic()
        with connect(port) as client:
            assert read_all(client) == greeting(port)
        assert time.monotonic() - begin < secret_service.LINGER_S / 2
        assert service.descriptors() > before + 100  # they are still connected, so the above says something
        # None of them hangs up; the service does.
        wait_until(lambda: service.descriptors() == before, "silent clients are dropped")
        assert {read_all(client) for client in silent} == {greeting(port)}


def test_lingering_connections_are_capped_and_all_were_greeted(service: Service, port: int) -> None:
    before = service.descriptors()
    clients = secret_service.LINGER_MAX + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < clients + 100:
        pytest.skip(f"needs {clients + 100} descriptors, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, clients + 100), hard))
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(clients):
                assert read_all(stack.enter_context(connect(port))) == greeting(port)
            assert before < service.descriptors() <= before + secret_service.LINGER_MAX
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: service.descriptors() == before, "all have been hung up on")


def was_reset(sock: socket.socket) -> bool:
    """Whether a RST came; after a FIN, recv() alone says "end" either way."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def test_a_client_that_spoke_first_still_gets_the_banner_and_an_orderly_end(
    service: Service, port: int
) -> None:
    before = service.descriptors()
    with service.frozen():
        client = connect(port)
        client.sendall(CLIENT_BYTES)
    with client:
        assert read_all(client) == greeting(port)
        # The client does not hang up first: with its FIN before the close there is no RST in either case.
        wait_until(lambda: service.descriptors() == before, "the service has closed")
        assert not was_reset(client)


def test_closing_without_draining_would_reset() -> None:
    """The control of the test above: the same client at a server that closes at once."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        connect(listener.getsockname()[1]) as client,
    ):
        client.sendall(CLIENT_BYTES)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.recv(1, socket.MSG_PEEK)
            accepted.sendall(b"banner\n")
            accepted.shutdown(socket.SHUT_WR)
        wait_until(lambda: was_reset(client), "a RST arrives")


def test_a_firehose_is_cut_off(service: Service, port: int) -> None:
    before = service.descriptors()
    begin = time.monotonic()
    with connect(port) as client, pytest.raises(OSError, match=r"reset|Broken pipe"):
        client.sendall(b"x" * (64 * secret_service.DRAIN_MAX))  # far more than the buffers on the way hold
    # By its bytes, and not by its time.
    assert time.monotonic() - begin < secret_service.LINGER_S
    wait_until(lambda: service.descriptors() == before, "it is gone")


def test_clients_that_vanish_are_no_loss(service: Service, port: int) -> None:
    before = service.descriptors()
    with service.frozen():
        for _ in range(20):
            client = connect(port)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()  # a RST, while the connection waits to be accepted
        last = connect(port)
    with last:
        assert read_all(last) == greeting(port)
    wait_until(lambda: service.descriptors() == before, "nothing is left of them")


def test_running_out_of_descriptors_drops_the_oldest_and_greets_all() -> None:
    number = free_port()
    with Service(str(number), limit=16) as service, contextlib.ExitStack() as stack:
        for _ in range(60):
            assert read_all(stack.enter_context(connect(number))) == greeting(number)
        # It did come to the limit. One less, because at the limit accept() says so before it looks whether
        # anybody waits, and so the oldest goes when nobody does.
        assert service.descriptors() in (15, 16)
        assert service.stop() == (0, [])


def test_without_a_descriptor_to_spare_it_waits_and_does_not_spin() -> None:
    number = free_port()
    with Service(str(number)) as service:
        pid = service.process.pid
        limit = max(service.open_files()) + 1
        assert service.descriptors() == limit  # no hole below the highest
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, 1024))
        switches, cpu = service.voluntary_switches(), service.cpu_seconds()
        with connect(number) as client:
            said = service.lines.get(timeout=DEADLINE_S)
            assert said == "secret-service: cannot accept for now: too many open files\n"
            # Five pauses of 0.2 s, in which a loop that spins would burn a second and never sleep.
            wait_until(lambda: service.voluntary_switches() >= switches + 5, "it sleeps between attempts")
            assert service.cpu_seconds() - cpu < 0.2
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (64, 1024))
            assert read_all(client) == greeting(number)
        assert service.stop() == (0, [])  # said once, not once a pause


class MoodyListener(socket.socket):
    """A listener whose accept() fails with each of ``errors`` before it works."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            raise OSError(self.errors.pop(0), "made up")
        return super().accept()


@pytest.mark.parametrize(
    ("code", "survives"),
    [(errno.ECONNABORTED, True), (errno.EPROTO, True), (errno.ENFILE, True), (errno.EINVAL, False)],
)
def test_accept_errors_pass_unless_they_are_bugs(code: int, survives: bool) -> None:
    raised: list[OSError] = []
    with MoodyListener(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.errors = [code]
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0)
        stop, stopper = socket.socketpair()

        def serve() -> None:
            try:
                secret_service.serve(listener, b"hello\n", stop)
            except OSError as error:
                raised.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        with stop, stopper, connect(listener.getsockname()[1]) as client:
            if survives:
                assert read_all(client) == b"hello\n"
            else:
                thread.join(DEADLINE_S)
            stopper.send(b"x")
            thread.join(DEADLINE_S)
    assert [error.errno for error in raised] == ([] if survives else [code])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_at_a_signal_without_a_word(number: int) -> None:
    service_port = free_port()
    with Service(str(service_port)) as service, connect(service_port) as lingering:
        assert read_all(lingering) == greeting(service_port)
        assert service.stop(number) == (0, [])
    with Service(str(service_port)):  # the port is free again at once, TIME_WAIT or not
        pass
