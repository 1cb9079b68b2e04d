"""``open``, ``extend`` and ``close`` by hand: what the client sees of the door."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tests.knockgate.cli.gates import SSH, WEB, Host, gate, running, status
from tests.knockgate.cli.process import knockgate
from tests.netns import isolated, until, up

from knockgate.client.wait import State, probe
from knockgate.model import Port, Protocol


@isolated
def test_a_door_is_opened_for_one_address_and_shut_again(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, SSH, WEB)
    assert knockgate("up", file).returncode == 0
    with_file = ["--config", file]
    other = knockgate("open", "ssh", "10.9.9.3", *with_file)
    assert other.returncode == 0 and host.seen() == "filtered"
    done = knockgate("open", "ssh", "10.9.9.2", *with_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "ssh is open for 10.9.9.2, for 1h\n"
    assert host.seen() == "open" and host.seen(443) == "filtered"
    session, served = host.session()
    done = knockgate("close", "ssh", "10.9.9.2", *with_file)
    words = "ssh is shut for 10.9.9.2: 1 lease ended; connections that are established live on\n"
    assert (done.returncode, done.stdout) == (0, words)
    assert host.seen() == "filtered"
    session.sendall(b"typed")
    assert served.recv(5) == b"typed"
    done = knockgate("close", "ssh", "10.9.9.2", *with_file)
    assert (done.returncode, done.stdout) == (0, "ssh was shut for 10.9.9.2: there was no lease\n")


@isolated
def test_all_means_the_leases_of_one_door(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH, WEB)
    with_file = ["--config", file]
    assert knockgate("up", file).returncode == 0
    for source in ("10.9.9.2", "10.9.9.3", "fd00::2"):
        for door in ("ssh", "web"):
            assert knockgate("open", door, source, "--for", "5m", *with_file).returncode == 0
    assert len(status(file)["leases"]) == 9  # web has two ports
    assert (
        "web is shut for everybody: 6 leases ended" in knockgate("close", "web", "--all", *with_file).stdout
    )
    left = status(file)["leases"]
    assert [lease["source"] for lease in left] == ["10.9.9.2", "10.9.9.3", "fd00::2"]
    assert {lease["port"] for lease in left} == {"tcp/22"}
    assert all(lease["lasts"] == 300 and lease["by"] == "hand" for lease in left)


@isolated
def test_a_lease_is_extended_and_only_a_live_one(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH)
    with_file = ["--config", file]
    assert knockgate("up", file).returncode == 0
    done = knockgate("extend", "ssh", "10.9.9.2", "1h", *with_file)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "knockgate: ssh is not open for 10.9.9.2",
        "  hint: knockgate open ssh 10.9.9.2",
    ]
    assert status(file)["leases"] == []
    assert knockgate("open", "ssh", "10.9.9.2", "--for", "10m", *with_file).returncode == 0
    assert knockgate("extend", "ssh", "10.9.9.2", "1h", *with_file).returncode == 0
    (lease,) = status(file)["leases"]
    assert 4100 < lease["left"] <= 4200  # 70 minutes, less what the test takes
    assert knockgate("extend", "ssh", "10.9.9.2", "30d", *with_file).returncode == 0
    (lease,) = status(file)["leases"]
    assert lease["lasts"] == 30 * 86400  # and not more


@isolated
def test_a_network_is_opened_extended_and_shut(tmp_path: Path) -> None:
    """What its client sees of it, and what status says. Neither its lease nor an address's ends the other."""
    host = Host()
    up("near", "fd00:0:0:9::1/64")
    with host.client:
        up("far", "fd00:0:0:9::2/64")
    service = socket.create_server(("fd00:0:0:9::1", 22), family=socket.AF_INET6)

    def seen() -> State:
        with host.client:
            return probe("fd00:0:0:9::1", Port(Protocol.TCP, 22))

    file = gate(tmp_path, SSH)
    with_file = ["--config", file]
    with service:
        until(lambda: seen() == "open", "the client can be reached")
        assert knockgate("up", file).returncode == 0
        assert knockgate("open", "ssh", "fd00:0:0:8::/64", *with_file).returncode == 0
        assert seen() == "filtered"
        done = knockgate("open", "ssh", "fd00:0:0:9::/64", *with_file)
        assert (done.returncode, done.stdout) == (0, "ssh is open for fd00:0:0:9::/64, for 1h\n")
        assert seen() == "open"
        assert knockgate("extend", "ssh", "fd00:0:0:9::/64", "1h", *with_file).returncode == 0
        leases = {lease["source"]: lease["lasts"] for lease in status(file)["leases"]}
        assert leases.keys() == {"fd00:0:0:8::/64", "fd00:0:0:9::/64"}
        assert leases["fd00:0:0:9::/64"] > 7000
        assert "fd00:0:0:9::/64  ssh   tcp/22" in knockgate("status", *with_file).stdout

        done = knockgate("extend", "ssh", "fd00:0:0:9::2", "1h", *with_file)
        assert done.returncode == 1 and "only as one of fd00:0:0:9::/64" in done.stderr
        done = knockgate("close", "ssh", "fd00:0:0:9::2", *with_file)
        assert (done.returncode, done.stdout) == (1, "") and seen() == "open"
        words = "there was no lease for fd00:0:0:9::2; ssh is still open by the lease of fd00:0:0:9::/64"
        assert done.stderr.splitlines() == [
            f"knockgate: {words}",
            "  hint: knockgate close ssh fd00:0:0:9::/64",
        ]
        assert knockgate("open", "ssh", "fd00:0:0:9::2", *with_file).returncode == 0
        done = knockgate("close", "ssh", "fd00:0:0:9::/64", *with_file)
        assert done.returncode == 1 and seen() == "open"
        assert "1 lease ended for fd00:0:0:9::/64; ssh is still open by the lease of fd00" in done.stderr
        assert "knockgate close ssh fd00:0:0:9::2\n" in done.stderr
        assert knockgate("close", "ssh", "fd00:0:0:9::2", *with_file).returncode == 0
        assert seen() == "filtered"
        assert [lease["source"] for lease in status(file)["leases"]] == ["fd00:0:0:8::/64"]


@isolated
def test_with_the_daemon_it_is_the_same(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH)
    with_file = ["--config", file]
    with running(file, directory=tmp_path):
        for source in ("2001:db8:1:2::/64", "2001:db8:1:2::7", "2001:db8:1:3::/64", "10.0.0.1"):
            assert knockgate("open", "ssh", source, *with_file).returncode == 0
        assert status(file)["guard"] == "owned"
        done = knockgate("close", "ssh", "2001:db8:1:2::7", *with_file)
        assert done.returncode == 1 and "by the lease of 2001:db8:1:2::/64\n" in done.stderr
        done = knockgate("close", "ssh", "2001:db8:1:2::/64", *with_file)
        assert done.returncode == 0 and "shut for 2001:db8:1:2::/64: 1 lease ended" in done.stdout
        done = knockgate("close", "ssh", "--all", *with_file)
        assert done.returncode == 0 and "2 leases ended" in done.stdout
        assert status(file)["leases"] == []


@isolated
def test_an_ipv4_address_in_ipv6_clothes_is_an_ipv4_source(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, SSH)
    assert knockgate("up", file).returncode == 0
    assert host.seen() == "filtered"
    assert knockgate("open", "ssh", "::ffff:10.9.9.2", "--config", file).returncode == 0
    assert host.seen() == "open"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["open", "shs", "10.0.0.1"], "there is no door 'shs'", "did you mean ssh?"),
        (["close", "zebra", "--all"], "there is no door 'zebra'", "there are: ssh, wake"),
        (["open", "wake", "10.0.0.1"], "door wake guards no port", "only runs commands"),
        (["open", "ssh", "home.example"], "SOURCE: 'home.example' is no address", "192.0.2.7"),
        (["open", "ssh", "10.0.0.0/8"], "SOURCE: '10.0.0.0/8' is no network that can", "one address, or"),
        (["open", "ssh", "2001:db8::/48"], "'2001:db8::/48' is no network that can", "2001:db8:1:2::/64"),
        (["open", "ssh", "fe80::%v0/64"], "'fe80::%v0/64' is no network that can", "one address, or"),
        (["close", "ssh", "2001:db8::7/64"], "is an address in a network", "itself is 2001:db8::/64"),
        (["extend", "ssh", "ff02::/64", "1h"], "'ff02::/64' is the network of no host", "nothing comes"),
        (["open", "ssh", "::/64"], "SOURCE: '::/64' is the network of no host", "nothing comes"),
        (["open", "ssh", "0.0.0.0"], "SOURCE: '0.0.0.0' is the address of no host", "nothing comes"),
        (["open", "ssh", "::"], "SOURCE: '::' is the address of no host", "nothing comes"),
        (["open", "ssh", "::ffff:224.0.0.1"], "is the address of no host", "nothing comes"),
        (["open", "ssh", "ff02::1"], "SOURCE: 'ff02::1' is the address of no host", "nothing comes"),
        (["open", "ssh", "fe80::1%v0"], "SOURCE: 'fe80::1%v0' names an interface", "without %v0"),
        (["close", "z" * 3000, "--all"], f"there is no door '{'z' * 56}...", "there are: ssh, wake"),
        (["open", "ssh", "10.0.0.1", "--for", "0"], "--for: 0.0 is not between 1s and 30d", None),
        (["extend", "ssh", "10.0.0.1", "31d"], "TIME: '31d' is not between 1s and 30d", None),
        (["close", "ssh"], "give a SOURCE, or --all", "knockgate close --help"),
        (["close", "ssh", "10.0.0.1", "--all"], "give a SOURCE, or --all", "knockgate close --help"),
        (["open", "ssh", "10.0.0.1"], "the table is not loaded: nothing is guarded", "knockgate up"),
        (["close", "ssh", "--all"], "the table is not loaded: nothing is guarded", "knockgate up"),
    ],
)
@isolated
def test_a_mistake_is_one_line_and_a_hint(
    tmp_path: Path, words: list[str], message: str, hint: str | None
) -> None:
    wake = (
        '[doors.wake.sequence]\nsteps = ["tcp/7003", "tcp/7001"]\nruns_in = "daemon"\n'
        '[doors.wake.commands]\nopen = ["/bin/true"]\n'
    )
    done = knockgate(*words, "--config", gate(tmp_path, SSH, wake))
    assert (done.returncode, done.stdout) == (2, "")
    first, *rest = done.stderr.splitlines()
    assert first.startswith("knockgate: ") and message in first
    assert [line.startswith("  hint: ") and (hint or "") in line for line in rest] == [True] * bool(hint)
