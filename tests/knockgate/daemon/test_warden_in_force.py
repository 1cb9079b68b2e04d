from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.knockgate.daemon.running import KERNEL, leases
from tests.knockgate.daemon.wardens import SRC, Warden
from tests.netns import DEADLINE, isolated, run, until

from knockgate.daemon.control import WardenClient
from knockgate.daemon.run import alone
from knockgate.daemon.sockets import connected
from knockgate.errors import Unavailable
from knockgate.firewall.nftables import Nftables


def _cannot_start(file: Path, *arguments: str) -> str:
    """What a warden says that ends at once."""
    start = f"import sys; sys.path.insert(0, {str(SRC)!r}); from knockgate.daemon.warden import main; main()"
    command = [sys.executable, "-I", "-c", start, "--config", str(file), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 2
    return ended.stderr


@isolated
def test_a_listener_that_is_no_user_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(f'[gate]\nrun_directory = "{tmp_path}"\n{KERNEL}')
    ended = _cannot_start(file, "--listener-user", "nobody-of-that-name")
    assert "there is no user nobody-of-that-name\n" in ended and "hint: knockgate install" in ended
    with Nftables(own=False) as firewall:
        assert firewall.is_loaded()  # all the same


@isolated
def test_a_wrong_configuration_at_the_start_leaves_the_doors_as_they_were_last(tmp_path: Path) -> None:
    last = tmp_path / "last.nft"
    warden = Warden(tmp_path, "--last", str(last))
    warden.send(signal.SIGTERM)
    warden.ended()
    with Nftables(own=False) as firewall:
        before = firewall.text()
        firewall.unload()  # as at a boot
        warden.file.write_text("[doors.ssh]\n")
        for arguments, guards in (((), False), (("--last", str(last)), True)):  # the first is the control
            said = _cannot_start(warden.file, *arguments)
            assert firewall.is_loaded() == guards
            assert ("the doors are guarded as they were last" in said) == guards
        assert firewall.text() == before
        last.write_text("delete table inet knockgate\n")  # what is in force is not replaced by it
        assert "the doors are guarded as they were last" in _cannot_start(warden.file, "--last", str(last))
        assert firewall.text() == before
        firewall.unload()
        last.write_text("nonsense")
        assert "NOTHING IS GUARDED" in _cannot_start(warden.file, "--last", str(last))
        last.unlink()
        assert "NOTHING IS GUARDED" in _cannot_start(warden.file, "--last", str(last))


@isolated
def test_a_second_warden_is_kept_out(tmp_path: Path) -> None:
    """It would take the sockets away from the first."""
    warden = Warden(tmp_path)
    with pytest.raises(Unavailable, match="is running already"), alone(str(warden.directory)):
        pass
    for _ in range(100):  # a unit tries again and again; none of them may wait there for good
        connected("\0knockgate/warden", socket.SOCK_SEQPACKET, DEADLINE).close()
    said = _cannot_start(warden.file, "--watch")
    assert "another gate guards this host" in said
    with WardenClient(str(warden.directory)) as client:
        assert client.ping()
    warden.send(signal.SIGKILL)
    warden.ended()
    with alone(str(warden.directory)):  # control
        pass


@isolated
def test_the_first_load_spares_the_session_that_one_types_on(tmp_path: Path) -> None:
    """As ``up`` does: grace where no table was before, and none where one was."""
    grace = ("nft", "list", "set", "inet", "knockgate", "grace")
    first = Warden(tmp_path)
    assert "tcp" in run(*grace).partition("elements")[2]
    first.send(signal.SIGTERM)
    assert first.ended() == 0
    run("nft", "flush", "set", "inet", "knockgate", "grace")
    other = tmp_path / "other"
    other.mkdir()
    Warden(other)
    assert "elements" not in run(*grace)


@isolated
def test_a_watched_table_that_somebody_emptied_is_filled_again(tmp_path: Path) -> None:
    warden = Warden(tmp_path, "--watch")
    run("nft", "add", "element", "inet", "knockgate", "leases4", "{ 192.0.2.7 . tcp . 22 timeout 1h }")
    run("nft", "flush", "table", "inet", "knockgate")
    until(lambda: "emptied it" in warden.log(), "it was noticed")
    assert "vmap @ports" in run("nft", "list", "chain", "inet", "knockgate", "guard")
    assert leases()


@isolated
def test_a_wrong_file_changes_nothing_and_says_why(tmp_path: Path) -> None:
    warden = Warden(tmp_path)
    before = warden.file.read_text()
    listing = ("nft", "-s", "list", "table", "inet", "knockgate")
    rules = run(*listing)
    with WardenClient(str(warden.directory)) as client:
        for wrong, why in (
            (before.replace("ports", "prots"), "unknown key"),
            ("", "there is no door"),
            (before.replace("/run", "/other"), "run_directory: cannot change while the daemon runs"),
            (
                before.replace("[gate]", '[gate]\nstate_directory = "/other"'),
                "state_directory: cannot change",
            ),
        ):
            warden.file.write_text(wrong)
            with pytest.raises(Unavailable, match=f"not reloaded: .*{why}"):
                client.reload()
            assert why in warden.log().splitlines()[-2]
            assert run(*listing) == rules
        warden.file.write_text(before.replace("7000", "7100"))
        with pytest.raises(Unavailable, match="another configuration"):
            client.reload(bytes(range(16)))
        assert run(*listing) == rules
        client.reload(warden.configuration().checksum)
        listed = run("nft", "list", "table", "inet", "knockgate")
        assert "7100" in listed and "7000" not in listed and "7000" in rules
        # Leases of another length need other chains; those that are not needed any more go.
        assert "lease_tcp_3600000ms" in listed
        warden.file.write_text(before.replace('"1h"', '"90s"'))
        client.reload()
        listed = run("nft", "list", "table", "inet", "knockgate")
        assert "lease_tcp_3600000ms" not in listed and "lease_tcp_90000ms" in listed


@isolated
def test_an_interface_that_is_not_there_is_no_reload(tmp_path: Path) -> None:
    warden = Warden(tmp_path)
    before = warden.file.read_text()
    with WardenClient(str(warden.directory)) as client:
        warden.file.write_text(before.replace("[gate]", '[gate]\ninterface = "eht0"'))
        with pytest.raises(Unavailable, match="no interface eht0"):
            client.reload()
        warden.file.write_text(before.replace("[gate]", '[gate]\ninterface = "lo"'))
        client.reload()
