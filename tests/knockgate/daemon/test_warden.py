from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import signal
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folders import let_others_in
from tests.knockgate.daemon.running import all_leases, leases
from tests.knockgate.daemon.wardens import ANOTHER, SOURCE, SSH, Warden, ask, request
from tests.netns import isolated

from knockgate.daemon.control import LINK_SOCKET, WARDEN_SOCKET, WardenClient
from knockgate.daemon.link import EVERY_DOOR, Reply, Request, Status, Verb
from knockgate.errors import Unavailable
from knockgate.firewall.nftables import Nftables

LONGEST = 30 * 86400 * 1000


@isolated
def test_the_listener_opens_the_daemons_doors_for_as_long_as_they_say(tmp_path: Path) -> None:
    warden = Warden(tmp_path)
    configuration = warden.configuration()
    with warden.connect(LINK_SOCKET) as link:

        def refused(asked: Request, status: Status, says: str) -> None:
            reply = ask(link, asked)
            assert (reply.status, reply.number) == (status, asked.number) and says in reply.says
            assert leases() == set()

        asked = request(configuration)
        other = dataclasses.replace(asked, checksum=bytes(16))
        refused(other, Status.OTHER_CONFIGURATION, "another configuration is in force")
        refused(request(configuration, door=2), Status.NO_SUCH_DOOR, "no door 2")
        refused(request(configuration, door=EVERY_DOOR), Status.NO_SUCH_DOOR, "no door")
        refused(request(configuration, door=SSH), Status.NOT_ALLOWED, "ssh is not the daemon's to open")
        refused(request(configuration, source=b""), Status.NOT_ALLOWED, "for one address")
        refused(request(configuration, milliseconds=1000), Status.NOT_ALLOWED, "web is for no key")
        for verb in (Verb.CLOSE, Verb.RELOAD, Verb.PAUSE):
            refused(request(configuration, verb), Status.NOT_ALLOWED, "is not for this socket")
        assert ask(link, asked) == Reply(Status.DONE, 7, 0, owned=True)  # control
        assert leases() == {(port, "192.0.2.7", "daemon sequence") for port in ("tcp/80", "udp/80")}
        assert all(3500 < lease.left <= 3600 for lease in all_leases())
        assert ask(link, Request(Verb.LEASES, 8)) == Reply(Status.DONE, 8, 2, owned=True)


@isolated
def test_by_hand_every_door_opens_for_up_to_thirty_days(tmp_path: Path) -> None:
    warden = Warden(tmp_path)
    configuration = warden.configuration()
    with WardenClient(str(warden.directory)) as client, warden.connect(WARDEN_SOCKET) as control:
        for milliseconds in (0, 999, LONGEST + 1):
            reply = ask(control, request(configuration, milliseconds=milliseconds))
            assert (reply.status, leases()) == (Status.NOT_ALLOWED, set())
        for milliseconds in (1000, LONGEST):
            assert ask(control, request(configuration, milliseconds=milliseconds)).status is Status.DONE
        ssh, web = configuration.doors
        client.open(configuration, ssh, SOURCE, 100)
        client.open(configuration, ssh, ANOTHER, 100)
        client.open(configuration, web, ANOTHER, 100)
        assert client.leases() == len(leases()) == 6
        assert all(lease.by == "hand" for lease in all_leases())
        assert client.close(configuration, web, [ANOTHER, SOURCE, bytes(16)]) == 4
        client.open(configuration, ssh, SOURCE, 1000)
        assert {round(lease.lasts) for lease in all_leases()} == {100, 1000}
        assert client.close(configuration, None) == 2
        changed = dataclasses.replace(configuration, doors=(ssh,))
        with pytest.raises(Unavailable, match="another configuration") as caught:
            client.open(changed, ssh, SOURCE, 100)
        assert caught.value.hint
        with pytest.raises(Unavailable, match="lasts from 1 second to 30 days"):
            client.open(configuration, ssh, SOURCE, 31 * 86400)
        assert leases() == set()


@isolated
def test_by_hand_doors_are_paused_for_up_to_a_day(tmp_path: Path) -> None:
    """One of them or all; what was said last holds; a reload, and the end of the warden, change nothing."""
    warden = Warden(tmp_path)
    configuration = warden.configuration()
    ssh, web = configuration.doors

    def paused() -> dict[str, float]:
        with Nftables(own=False) as firewall:
            return {str(pause.port): pause.lasts for pause in firewall.pauses()}

    with WardenClient(str(warden.directory)) as client, warden.connect(WARDEN_SOCKET) as control:
        for milliseconds in (1, 999, 86_400_001):
            reply = ask(control, request(configuration, Verb.PAUSE, source=b"", milliseconds=milliseconds))
            assert (reply.status, paused()) == (Status.NOT_ALLOWED, {})
        reply = ask(control, request(configuration, Verb.PAUSE, milliseconds=1000))
        assert (reply.status, reply.says) == (Status.NOT_ALLOWED, "a pause is for everybody")
        reply = ask(control, request(configuration, Verb.PAUSE, source=b"", door=2, milliseconds=1000))
        assert (reply.status, paused()) == (Status.NO_SUCH_DOOR, {})
        assert client.pause(configuration, ssh, 86400) == 1
        assert paused() == {"tcp/22": 86400}
        assert client.pause(configuration, None, 600) == 3
        assert paused() == {"tcp/22": 600, "tcp/80": 600, "udp/80": 600}
        client.reload()
        assert client.pause(configuration, web, 0) == 2
        assert client.pause(configuration, web, 0) == 0
        assert paused() == {"tcp/22": 600}
        changed = dataclasses.replace(configuration, doors=(ssh,))
        with pytest.raises(Unavailable, match="another configuration"):
            client.pause(changed, ssh, 60)
        assert leases() == set()
    warden.send(signal.SIGKILL)
    warden.ended()
    assert paused() == {"tcp/22": 600}


@isolated
def test_it_ends_where_its_listener_surprises_it_and_all_stays(tmp_path: Path) -> None:
    warden = Warden(tmp_path)
    configuration = warden.configuration()
    with warden.connect(LINK_SOCKET) as link, warden.connect(WARDEN_SOCKET) as control:
        assert ask(control, request(configuration, milliseconds=1000)).status is Status.DONE
        with warden.connect(WARDEN_SOCKET) as peer:
            peer.send(b"hello")
            assert peer.recv(1) == b""  # such a one is dropped, which harms nobody else
        assert ask(control, Request(Verb.PING)).status is Status.DONE
        assert "somebody with our rights sent a request of 5 bytes to warden/warden.sock" in warden.log()
        link.send(request(configuration).encode() + b"\0")
        assert warden.ended() == 1
    assert warden.log().splitlines()[-1] == (
        "knockgate-warden: the listener sent a request of 49 bytes; ending, all that is open stays as it is"
    )
    assert len(leases()) == 2


@isolated
def test_noise_of_a_peer_ends_in_nothing(tmp_path: Path) -> None:
    warden = Warden(tmp_path)
    sound = request(warden.configuration()).encode()

    @settings(max_examples=50)
    @given(
        st.binary(max_size=60)
        | st.binary(min_size=1, max_size=47).map(lambda head: head + sound[len(head) :])
    )
    def send(message: bytes) -> None:
        with warden.connect(WARDEN_SOCKET) as peer:
            peer.send(message)
            answer = peer.recv(1000)
            assert not answer or Reply.decode(answer).number >= 0

    send()
    with WardenClient(str(warden.directory)) as client:
        assert client.ping()


def _is_heard(sock: socket.socket, message: bytes) -> bool:
    with contextlib.suppress(OSError):
        sock.send(message)
        return bool(sock.recv(1000))
    return False


@isolated
def test_who_is_heard_is_root_and_we_and_on_the_link_the_listener(tmp_path: Path) -> None:
    if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split()[2] == "1":
        pytest.skip("needs other users")
    listener = pwd.getpwuid(1)
    warden = Warden(tmp_path, "--listener-user", listener.pw_name)
    configuration = warden.configuration()
    let_others_in(warden.directory / "warden")
    for name, milliseconds in ((WARDEN_SOCKET, 1000), (LINK_SOCKET, 0)):
        asked = request(configuration, milliseconds=milliseconds)
        Path(warden.directory, name).chmod(0o666)  # nothing but the check itself is in the way
        for user, hears in ((65534, False), (listener.pw_uid, name == LINK_SOCKET), (0, True)):
            child = os.fork()
            if child == 0:
                status = 2
                try:
                    os.setresuid(user, user, user)
                    with warden.connect(name) as sock:
                        status = _is_heard(sock, asked.encode())
                finally:
                    os._exit(status)  # never back into the test
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == hears
            assert bool(leases()) == hears
            with WardenClient(str(warden.directory)) as client:
                client.close(configuration, None)


@isolated
def test_peers_are_bounded_and_a_full_queue_stops_nobody(tmp_path: Path) -> None:
    warden = Warden(tmp_path)
    ping = Request(Verb.PING, 7)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(warden.connect(WARDEN_SOCKET)) for _ in range(8)]
        assert all(ask(peer, ping).number == 7 for peer in peers)
        # One that asks and never reads is dropped, once the kernel holds no more answers for it.
        deaf = peers.pop()
        with contextlib.suppress(OSError):
            while True:
                deaf.send(ping.encode())
        with WardenClient(str(warden.directory)) as client:
            assert client.ping().owned
        more = [stack.enter_context(warden.connect(WARDEN_SOCKET)) for _ in range(8)]
        assert all(ask(peer, ping).number == 7 for peer in more)
        for peer in peers:
            assert peer.recv(1000) == b""  # they came first


@isolated
def test_the_half_with_rights_has_loaded_nothing_that_parses_packets(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    spy = (
        "from pathlib import Path; serve = warden.Warden.serve; "
        f"setattr(warden.Warden, 'serve', lambda self: (serve(self), "
        f"Path({str(modules)!r}).write_text(' '.join(sys.modules)))); "
    )
    warden = Warden(tmp_path, code=spy)
    configuration = warden.configuration()
    with warden.connect(LINK_SOCKET) as link, WardenClient(str(warden.directory)) as client:
        assert ask(link, request(configuration, Verb.HEAR)).status is Status.DONE
        assert ask(link, request(configuration)).status is Status.DONE
        client.reload()
    warden.send(signal.SIGTERM)
    assert warden.ended() == 0
    loaded = modules.read_text().split()
    assert "knockgate.daemon.guard" in loaded  # control
    forbidden = ("wire", "spa", "engine", "capture", "store", "client", "cli", "config.keys", "config.knockd")
    ours = [name.removeprefix("knockgate.") for name in loaded if name.startswith("knockgate.")]
    assert not [name for name in ours if name.startswith(forbidden)]
    assert not {"daemon.nflog", "daemon.listener", "daemon.grants", "daemon.runner"} & set(ours)
    assert not [name for name in loaded if name.split(".")[0] in ("cryptography", "click", "asyncio", "rich")]
