from __future__ import annotations

import contextlib
import dataclasses
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.folders import let_others_in
from tests.knockgate.daemon.running import DAEMON, KERNEL, all_leases, leases
from tests.netns import DEADLINE, isolated, run, until

from knockgate.config import doors
from knockgate.config.doors import Configuration
from knockgate.daemon.control import LINK_SOCKET, WARDEN_SOCKET, WardenClient
from knockgate.daemon.link import BEGIN_ANEW, EVERY_DOOR, Reply, Request, Status, Verb
from knockgate.daemon.loggroup import bound_to
from knockgate.daemon.nflog import reports
from knockgate.daemon.run import alone
from knockgate.daemon.ward import BeginAnew, Gone, Ward
from knockgate.errors import Unavailable
from knockgate.firewall.nftables import Nftables

SRC = Path(__file__).resolve().parents[3] / "src"
SOURCE, ANOTHER = bytes([192, 0, 2, 7]), bytes([192, 0, 2, 8])
SSH, WEB = 0, 1
LONGEST = 30 * 86400 * 1000


class Warden:
    """A warden as a process of its own, ready; with a configuration of a kernel's door and a daemon's."""

    def __init__(self, folder: Path, *arguments: str, code: str = "") -> None:
        self.directory = folder / "run"
        self.directory.mkdir(mode=0o700)
        self.file = folder / "gate.toml"
        self.file.write_text(f'[gate]\nrun_directory = "{self.directory}"\n{KERNEL}{DAEMON}')
        self._log = folder / "log"
        start = f"import sys; sys.path.insert(0, {str(SRC)!r}); from knockgate.daemon import warden; "
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self._log.open("w") as log:
            ready.bind(str(folder / "notify"))
            ready.settimeout(DEADLINE)
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-c", f"{start}{code}warden.main()"),
                    *("--config", str(self.file), *arguments),
                ],
                stderr=log,
                env={"NOTIFY_SOCKET": str(folder / "notify")},
            )
            assert ready.recv(100).startswith(b"READY=1\n")

    def configuration(self) -> Configuration:
        return doors.load(self.file)

    def connect(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(DEADLINE)
        sock.connect(str(self.directory / name))
        return sock

    def log(self) -> str:
        return self._log.read_text()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> int:
        return self._process.wait(DEADLINE)


def ask(sock: socket.socket, request: Request) -> Reply:
    sock.send(request.encode())
    return Reply.decode(sock.recv(1000))


def request(
    configuration: Configuration,
    verb: Verb = Verb.OPEN,
    door: int = WEB,
    *,
    source: bytes = SOURCE,
    milliseconds: int = 0,
    number: int = 7,
) -> Request:
    return Request(verb, number, door, source, milliseconds, configuration.checksum)


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
    said = _cannot_start(warden.file, "--watch")
    assert "another warden is running already" in said or "belongs to a knockgate" in said
    with WardenClient(str(warden.directory)) as client:
        assert client.ping()
    warden.send(signal.SIGKILL)
    warden.ended()
    with alone(str(warden.directory)):  # control
        pass


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


def _waiting(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 16)
    except BlockingIOError:
        return b""


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
def test_an_interface_that_is_not_there_is_no_reload(tmp_path: Path) -> None:
    warden = Warden(tmp_path)
    before = warden.file.read_text()
    with WardenClient(str(warden.directory)) as client:
        warden.file.write_text(before.replace("[gate]", '[gate]\ninterface = "eht0"'))
        with pytest.raises(Unavailable, match="no interface eht0"):
            client.reload()
        warden.file.write_text(before.replace("[gate]", '[gate]\ninterface = "lo"'))
        client.reload()


_STOPS_AFTER_KEYS = """
def then(origin, configuration, read=listener.ssh_keys_of):
    found = read(origin, configuration)
    print("read", flush=True)
    sys.stdin.readline()
    return found
listener.ssh_keys_of = then
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
