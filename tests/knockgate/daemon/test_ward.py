from __future__ import annotations

import dataclasses
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.knockgate.daemon.running import DAEMON, KERNEL
from tests.knockgate.daemon.wardens import SOURCE, SRC, SSH, WEB, Warden, ask, request
from tests.netns import DEADLINE, isolated, run, until

from knockgate.config import doors
from knockgate.daemon.control import LINK_SOCKET, WardenClient
from knockgate.daemon.link import BEGIN_ANEW, Reply, Request, Status, Verb
from knockgate.daemon.loggroup import bound_to
from knockgate.daemon.nflog import reports
from knockgate.daemon.ward import BeginAnew, Gone, Ward


@isolated
def test_listeners_come_and_go_and_get_what_the_kernel_reports(tmp_path: Path) -> None:
    warden = Warden(tmp_path)
    configuration = warden.configuration()
    group = configuration.gate.log_group
    with bound_to(group), warden.connect(LINK_SOCKET) as link:  # another program's
        reply = ask(link, request(configuration, Verb.HEAR))
        assert reply.status is Status.KERNEL and "another program has log group" in reply.says
    run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    run("nft", f'add rule inet t c udp dport 7000 log group {group} prefix "heard"')
    first = Ward(configuration)
    with first.hear() as heard, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", ("127.0.0.1", 7000))
        assert [each.prefix for each in reports(until(lambda: _waiting(heard), "a report"))] == ["heard"]
        sender.sendto(b"", ("127.0.0.1", 7000))
    assert first.open(configuration.doors[WEB], SOURCE) is None
    assert first.open(configuration.doors[SSH], SOURCE) == "door ssh is not the daemon's to open"
    second = Ward(configuration)  # has to wait for its turn
    first._socket.close()
    with second.hear() as heard:
        # What came while nobody listened is there.
        assert [each.prefix for each in reports(until(lambda: _waiting(heard), "a report"))] == ["heard"]
    warden.send(signal.SIGHUP)
    with pytest.raises(BeginAnew):
        until(second.take_notices, "the notice")
    third = Ward(dataclasses.replace(configuration, doors=configuration.doors[:1]))
    with pytest.raises(BeginAnew):
        third.hear()
    warden.send(signal.SIGTERM)
    assert warden.ended() == 0
    with pytest.raises(Gone, match="the warden is gone"):
        third.take_notices()


def _waiting(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 16)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("is_gone", [True, False])
@pytest.mark.parametrize("says", [True, False])
def test_what_the_warden_said_last_is_heard(tmp_path: Path, *, says: bool, is_gone: bool) -> None:
    """When it reloads it may leave with a request unread, and that is what the kernel tells first."""
    configuration = doors.parse(f'[gate]\nrun_directory = "{tmp_path}"\n{KERNEL}{DAEMON}')
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as doorbell:
        (tmp_path / LINK_SOCKET).parent.mkdir()
        doorbell.bind(str(tmp_path / LINK_SOCKET))
        doorbell.listen()
        ward = Ward(configuration)
        link, _ = doorbell.accept()

    def leave() -> None:
        link.recv(1, socket.MSG_PEEK)
        if says:
            link.send(Reply(Status.OTHER_CONFIGURATION).encode())
        link.close()

    leaving = threading.Thread(target=leave)
    leaving.start()
    if is_gone:
        ward._socket.send(Request(Verb.PING).encode())
        leaving.join()
    with ward._socket, pytest.raises(BeginAnew if says else Gone):
        ward.open(configuration.doors[WEB], SOURCE)
    leaving.join()


_STOPS_AFTER_KEYS = """
def then(*read, listens=listener.Listener):
    print("read", flush=True)
    sys.stdin.readline()
    return listens(*read)
listener.Listener = then
"""


@isolated
@pytest.mark.parametrize("reloads", [True, False])
def test_a_reload_is_told_also_to_a_listener_that_has_just_read_its_keys(
    tmp_path: Path, *, reloads: bool
) -> None:
    """The checksum says nothing of keys: what was read before the reload must not stay in force."""
    warden = Warden(tmp_path)
    start = f"import sys; sys.path.insert(0, {str(SRC)!r}); from knockgate.daemon import listener"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(tmp_path / "listening"))
        ready.settimeout(DEADLINE)
        with subprocess.Popen(
            [
                *(sys.executable, "-I", "-c", f"{start}{_STOPS_AFTER_KEYS}listener.main()"),
                *("--config", str(warden.file)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"NOTIFY_SOCKET": str(tmp_path / "listening")},
        ) as listener:
            assert listener.stdout and listener.stdin
            assert listener.stdout.readline() == "read\n"
            if reloads:
                with WardenClient(str(warden.directory)) as client:
                    client.reload()
            print(file=listener.stdin, flush=True)
            if not reloads:
                assert ready.recv(100).startswith(b"READY=1\n")
                listener.send_signal(signal.SIGTERM)
            try:
                assert listener.wait(DEADLINE) == (BEGIN_ANEW if reloads else 0)
            finally:
                listener.kill()
