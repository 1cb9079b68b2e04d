"""How the demo service starts: its arguments, its configuration, what it refuses, what systemd is told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.knockdemo.serving import (
    DEADLINE_S,
    Service,
    connect,
    environment,
    free_port,
    greeting,
    read_all,
    run,
)

from knockdemo import secret_service
from knockgate.errors import ConfigError, Unavailable


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
