"""The demo service over real sockets on loopback: what it says, whom it survives, how it refuses to start."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from knockdemo import secret_service
from knockgate.errors import ConfigError, Unavailable

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 15.0
CLIENT_BYTES = b"x" * 50_000
"""What a talkative client says; it fits the receive buffer of a server that has not accepted yet."""


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Look again and again until it is so; a deadline, not a sleep, decides that it never will be."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.005)


def free_port() -> int:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as sock:
        return int(sock.getsockname()[1])


def environment(**extra: str) -> dict[str, str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY", "KNOCKDEMO"))
    }
    return clean | {"PYTHONPATH": str(ROOT / "src")} | extra


class Service:
    """The service as a process of its own, ready to serve; ``limit`` is its number of descriptors."""

    def __init__(self, *arguments: str, limit: int | None = None, **extra: str) -> None:
        command = [sys.executable, "-m", "knockdemo.secret_service", *arguments]
        if limit is not None:
            command = ["prlimit", f"--nofile={limit}:1024", *command]
        self.process = subprocess.Popen(command, env=environment(**extra), stderr=subprocess.PIPE, text=True)
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.ready_line = self.lines.get(timeout=DEADLINE_S)
        assert "listening on" in self.ready_line, self.ready_line
        # Ready is said as soon as clients may come; descriptors are worth counting once the loop has its own.
        wait_until(lambda: "anon_inode:[eventpoll]" in self.open_files().values(), "the loop runs")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.put(line)
        self.lines.put("")

    def open_files(self) -> dict[int, str]:
        """What each descriptor stands for; one that is closed while we look is left out."""
        found: dict[int, str] = {}
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[int(link.name)] = str(link.readlink())
        return found

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def voluntary_switches(self) -> int:
        """How often the process went to sleep of its own will; a busy loop does not."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile connections are made by the kernel and wait in the backlog."""
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: ") T " in stat.read_text(encoding="ascii"), "the service stops")
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, list[str]]:
        """Ask it to stop; returns its exit status and what it said after the ready line."""
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE_S)
        self.reader.join(DEADLINE_S)
        said = [self.lines.get_nowait() for _ in range(self.lines.qsize())]
        return status, [line for line in said if line]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((address, port), timeout=DEADLINE_S)


def read_all(sock: socket.socket) -> bytes:
    text = b""
    while piece := sock.recv(4096):
        text += piece
    return text


def greeting(port: int) -> bytes:
    return f"You knocked. Welcome to the secret service on port {port}.\n".encode()


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


def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "knockdemo.secret_service", *arguments],
        env=environment(**extra), capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["65536"], "not a port: '65536'", "1 to 65535"),
        (["0"], "not a port: '0'", "1 to 65535"),
        (["-1"], "not a port: '-1'", "1 to 65535"),
        (["ssh"], "not a port: 'ssh'", "1 to 65535"),
        (["٦٥٠٠"], "not a port", "1 to 65535"),
        (["6500", "--bind", "pi"], "--bind: not an IP address: 'pi'", "numeric"),
        (["6500", "--bind", "203.0.113.9"], "203.0.113.9 is not an address of this host", "ip -brief"),
        (["6500", "--blind", "x"], "unrecognized arguments", "--help"),
    ],
)
def test_a_mistake_is_one_line_and_a_hint(arguments: list[str], message: str, hint: str) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert first.startswith("secret-service: ")
    assert message in first
    assert second.startswith("  hint: ")
    assert hint in second


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_a_taken_port_is_named_with_the_way_to_its_owner(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as owner:
        number = owner.getsockname()[1]
        result = run(str(number))
    assert result.returncode == 2
    assert result.stderr == (
        f"secret-service: port {number} is already in use\n"
        f"  hint: see who has it: ss -ltnp 'sport = :{number}'\n"
    )
    with Service(str(number)) as service:  # and when it is free, it is taken
        assert service.stop() == (0, [])


def test_a_privileged_port_is_refused_with_a_way_out() -> None:
    # In a user namespace of its own the process has no rights over the host's network, whoever started it.
    prefix = ["unshare", "--user"]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], check=False).returncode != 0:
        pytest.skip("this system makes no user namespaces")
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii")) < 8:
        pytest.skip("this system lets everybody listen on every port")
    result = subprocess.run(
        [*prefix, sys.executable, "-m", "knockdemo.secret_service", "7"],
        env=environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "secret-service: port 7 needs rights that you do not have",
        "  hint: choose a port from 1024 on, or run as root or with CAP_NET_BIND_SERVICE",
    ]


def test_help_is_a_page_with_exit_status_and_examples() -> None:
    result = run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for part in ("usage: secret-service", "--bind ADDRESS", "exit status:", "examples:"):
        assert part in result.stdout


def test_without_a_port_the_configuration_decides(tmp_path: Path) -> None:
    number = free_port()
    configuration = tmp_path / "knockdemo.toml"
    configuration.write_text(f"service_port = {number}\n", encoding="utf-8")
    with Service(KNOCKDEMO_CONFIG=str(configuration)), connect(number) as client:
        assert read_all(client) == greeting(number)


def test_with_a_port_no_configuration_is_read(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    result = run(KNOCKDEMO_CONFIG=missing)
    assert result.returncode == 2
    assert result.stderr.startswith("secret-service: ")
    assert missing in result.stderr
    with Service(str(free_port()), KNOCKDEMO_CONFIG=missing) as service:
        assert service.stop() == (0, [])


@pytest.mark.parametrize("is_abstract", [False, True])
def test_tells_systemd_that_it_is_ready(tmp_path: Path, is_abstract: bool) -> None:
    name = f"knockdemo-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if is_abstract else name)
        systemd.settimeout(DEADLINE_S)
        number = free_port()
        with Service(str(number), NOTIFY_SOCKET="@" + name if is_abstract else name) as service:
            message = systemd.recv(4096).decode()
            assert message == f"READY=1\nSTATUS=listening on [::]:{number} (IPv4 and IPv6)"
            assert service.stop() == (0, [])


def test_a_notification_that_cannot_be_sent_is_an_error(tmp_path: Path) -> None:
    result = run(str(free_port()), NOTIFY_SOCKET=str(tmp_path / "nobody"))
    assert result.returncode == 2
    first, second = result.stderr.splitlines()
    assert first.startswith("secret-service: cannot reach the notification socket")
    assert "unset NOTIFY_SOCKET" in second


def test_listen_as_a_function_raises_the_houses_errors() -> None:
    with pytest.raises(ConfigError, match="not an IP address"):
        secret_service.listen(6500, "nowhere")
    with socket.create_server(("127.0.0.1", 0)) as owner, pytest.raises(Unavailable, match="in use"):
        secret_service.listen(owner.getsockname()[1])
