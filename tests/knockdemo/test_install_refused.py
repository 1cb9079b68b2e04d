"""What keeps the demonstration from being installed, told before anything is written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.knockdemo.installing import (
    COMMAND,
    SOURCE,
    lay_down,
    needs_programs,
    snapshot,
)
from tests.netns import isolated, run, until, veth

from knockdemo import preflight
from knockdemo.ledger import STATE
from knockgate.errors import ConfigError, KnockgateError, Unavailable

# --- bad input ---------------------------------------------------------------------------------------


def refusal(root: Path | None, *options: str, interface: str | None = "eth0") -> KnockgateError:
    with pytest.raises(KnockgateError) as caught:
        lay_down(root, *options, interface=interface)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_tree_needs_an_interface(root: Path) -> None:
    assert "--interface" in str(refusal(root, interface=None))


def test_no_such_tree(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no directory"):
        lay_down(tmp_path / "missing")


@pytest.mark.parametrize(
    "path",
    [
        "etc/systemd/system/knock-demo.service",
        "usr/lib/python3/dist-packages/knockdemo/daemon.py",
        "usr/lib/knockdemo/knock-client.py",
    ],
)
def test_somebody_elses_file_is_not_replaced(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("not ours\n")
    before = snapshot(root)
    assert str(root / path) in str(refusal(root))
    assert snapshot(root) == before


def test_a_directory_in_the_way(root: Path) -> None:
    (root / "etc/knockd.conf").unlink()
    (root / "etc/knockd.conf").mkdir()
    assert "is no file" in str(refusal(root))


def test_a_link_out_of_the_tree(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "etc/knockdemo").symlink_to(tmp_path / "elsewhere")
    assert "outside" in str(refusal(root))
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "text", ["not json", "{}", '{"format": 99, "facts": {}, "directories": [], "files": {}}']
)
def test_a_manifest_of_another_version(root: Path, text: str) -> None:
    (root / STATE.lstrip("/")).mkdir(parents=True)
    (root / STATE.lstrip("/") / "manifest.json").write_text(text)
    assert "manifest.json" in str(refusal(root))


def test_a_window_that_is_no_number(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        lay_down(root, "--window", "soon")
    assert caught.value.code == 2
    assert "--window" in capsys.readouterr().err


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "PROGRAMS", {"/usr/sbin/no-such-knockd": "knockd", "/bin/sh": "dash"})
    with pytest.raises(Unavailable, match=r"no-such-knockd is missing") as caught:
        preflight.require_programs()
    assert caught.value.hint == "apt install knockd"


def test_an_ordinary_user_is_told_to_be_root() -> None:
    command = [sys.executable, "-c", COMMAND, "install"]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": str(SOURCE)}
    )
    if "Permission" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("the sources cannot be read by another user")
    assert done.returncode == 2
    assert "needs root" in done.stderr
    assert "sudo" in done.stderr


def test_a_dry_run_that_may_not_look(root: Path) -> None:
    file = root / "etc/fwknop/fwknopd.conf"
    file.chmod(0)
    command = [
        sys.executable,
        "-c",
        COMMAND,
        "install",
        "--dry-run",
        "--root",
        str(root),
        "--interface",
        "eth0",
    ]
    if os.geteuid() == 0:  # root may read anything, so root has to give that up
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
        os.chown(file, 65534, 65534)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": str(SOURCE)}
    )
    assert done.returncode == 2, done.stderr
    assert "fwknopd.conf may not be read" in done.stderr
    assert "sudo" in done.stderr


@isolated
def test_the_interface_must_exist() -> None:
    assert "there are lo" in str(refusal(None, "--dry-run", interface="eth7").hint)


@isolated
def test_without_a_default_route_there_is_nothing_to_guess() -> None:
    assert "default route" in str(refusal(None, "--dry-run", interface=None))


@isolated
def test_the_interface_of_the_default_route() -> None:
    veth("one", "two")
    run("ip", "address", "add", "10.9.1.1/24", "dev", "one")
    run("ip", "address", "add", "fd09::1/64", "dev", "two", "nodad")
    run("ip", "-6", "route", "add", "default", "via", "fd09::9", "dev", "two")
    assert preflight.default_interface() == "two", "IPv6 where there is no IPv4"
    assert preflight.address_of("two") == "fd09::1"
    run("ip", "route", "add", "default", "via", "10.9.1.9", "metric", "50")
    assert preflight.default_interface() == "one"
    assert preflight.address_of("one") == "10.9.1.1"
    assert preflight.address_of("lo") == "127.0.0.1"


@pytest.mark.parametrize(
    ("port", "kind", "said"),
    [
        (6500, socket.SOCK_STREAM, "tcp port 6500"),
        (6502, socket.SOCK_STREAM, "tcp port 6502"),
        (62201, socket.SOCK_DGRAM, "udp port 62201"),
    ],
)
@isolated
def test_a_port_that_somebody_uses(port: int, kind: socket.SocketKind, said: str) -> None:
    preflight.require_free_ports()
    with socket.socket(socket.AF_INET6, kind) as taken:
        taken.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        with pytest.raises(Unavailable, match=said) as caught:
            preflight.require_free_ports()
        assert "(process " in str(caught.value)


@isolated
def test_a_table_that_is_not_ours() -> None:
    needs_programs()
    preflight.refuse_strangers()
    run("nft", "add", "table", "inet", "knockdemo")
    with pytest.raises(Unavailable, match="inet knockdemo"):
        preflight.refuse_strangers()


@isolated
def test_a_mechanism_that_runs_already(tmp_path: Path) -> None:
    needs_programs()
    own = tmp_path / "knockd.conf"
    own.write_text("[options]\n UseSyslog\n[own]\n sequence = 1,2,3\n command = /bin/true\n tcpflags = syn\n")
    run("ip", "address", "add", "10.9.0.1/24", "dev", "lo")
    with subprocess.Popen(["/usr/sbin/knockd", "-i", "lo", "-c", str(own)]) as daemon:
        try:

            def runs() -> bool:
                found = preflight._processes()
                return any(name == "knockd" and preflight._shares_network(pid) for pid, name in found)

            until(runs, "knockd runs")
            with pytest.raises(Unavailable, match=r"knockd .* is running") as caught:
                preflight.refuse_strangers()
            assert "systemctl disable --now knockd" in str(caught.value.hint)
        finally:
            daemon.kill()
