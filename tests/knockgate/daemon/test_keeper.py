"""The half that opens files of keys for the listener, over a socket, and hands out nothing else."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folders import let_others_in
from tests.knockgate.spa import sealed_signers as signers
from tests.netns import DEADLINE

from knockgate.config import doors, places
from knockgate.config.keyfiles import KeyFiles
from knockgate.config.keys import load, load_ssh
from knockgate.daemon.kept import Kept
from knockgate.daemon.keylink import MOST_FILES, Reply, Request, Status, Verb, checksum_of
from knockgate.daemon.link import Surprise
from knockgate.daemon.ward import BeginAnew, Gone
from knockgate.errors import ConfigError, Unavailable

SRC = Path(__file__).resolve().parents[3] / "src"
DOORS = """
[doors.ssh]
ports = ["tcp/22"]
[keys.alice]
fwknop = "{folder}/alice"
doors = ["ssh"]
[keys.people]
ssh = ["{folder}/one", "{folder}/two"]
doors = ["ssh"]
"""
SECRETS = "KEY_BASE64: " + "A" * 43 + "=\nHMAC_KEY_BASE64: " + "B" * 43 + "=\n"


class Keeper:
    """A keeper as a process of its own, with its socket."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.path = folder, str(folder / "keys.sock")
        self._kept: list[Kept] = []
        self.file = folder / "gate.toml"
        self.file.write_text(DOORS.format(folder=folder))
        self.write("alice", SECRETS)
        self.write("one", signers.line(signers.ED25519) + " jo\n")
        self.write("two", "")
        self._doorbell = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._doorbell.bind(self.path)
        self._doorbell.listen()
        self._arguments = arguments
        self.begin()

    def begin(self) -> None:
        """The doorbell is the same each time, as systemd keeps it."""
        start = (
            f"import sys; sys.path.insert(0, {str(SRC)!r}); from knockgate.daemon.keeper import main; main()"
        )
        doorbell = self._doorbell.fileno()
        words = ["--config", str(self.file), "--doorbell", str(doorbell), *self._arguments]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", start, *words], stderr=log, pass_fds=[doorbell]
            )

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)

    def kept(self) -> Kept:
        self._kept.append(Kept(self.path, places.load(self.file)))
        return self._kept[-1]

    def files(self, kept: Kept) -> KeyFiles:
        return KeyFiles(load_ssh(self.file, doors.load(self.file)), reading=kept)

    def ask(self, message: bytes) -> tuple[bytes, list[int]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.settimeout(DEADLINE)
            link.connect(self.path)
            link.send(message)
            answer, files, _, _ = socket.recv_fds(link, 1000, 2)
        return answer, files

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        self._doorbell.close()
        for each in self._kept:
            each.close()


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    made = Keeper(tmp_path)
    yield made
    made.end()


def test_keys_come_as_if_they_were_read_here(keeper: Keeper) -> None:
    configuration = doors.load(keeper.file)
    kept = keeper.kept()
    (key,) = load(keeper.file, configuration, kept.contents)
    assert key == load(keeper.file, configuration)[0]
    files = keeper.files(kept)
    assert [str(notice) for notice in files.refresh()] == []
    assert files.total == 1
    assert files.refresh() == () and files.total == 1


def test_a_line_that_is_taken_out_is_gone_with_the_next_look(keeper: Keeper) -> None:
    files = keeper.files(keeper.kept())
    files.refresh()
    for times in range(20):
        keeper.write("one", "" if times % 2 == 0 else signers.line(signers.ED25519) + "\n")
        files.refresh()
        assert files.total == times % 2
    (keeper.folder / "one").unlink()
    assert "there is no such file" in str(files.refresh()[0])
    assert files.refresh() == ()
    keeper.write("one", signers.line(signers.ED25519) + "\n")
    assert "can be read again, and has 1 key" in str(files.refresh()[0])


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_what_others_can_write_is_not_handed_out(keeper: Keeper, mode: int) -> None:
    files = keeper.files(keeper.kept())
    (keeper.folder / "one").chmod(mode)
    assert "can be written by others" in str(files.refresh()[0]) and files.total == 0
    (keeper.folder / "one").chmod(0o600)
    files.refresh()
    assert files.total == 1  # control


def test_secrets_that_others_can_read_are_not_handed_out(keeper: Keeper) -> None:
    (keeper.folder / "alice").chmod(0o640)
    with pytest.raises(ConfigError, match="can be read by others") as caught:
        load(keeper.file, doors.load(keeper.file), keeper.kept().contents)
    assert "chmod 600" in (caught.value.hint or "")


def test_other_files_than_it_thinks_of_are_those_of_another_configuration(keeper: Keeper) -> None:
    before = keeper.kept()
    keeper.file.write_text(DOORS.format(folder=keeper.folder).replace("/two", "/three"))
    keeper.write("three", "")
    keeper.files(keeper.kept()).refresh()  # it reads gate.toml anew for who has
    with pytest.raises(BeginAnew):
        before.look()


def test_nothing_else_is_handed_out(keeper: Keeper) -> None:
    known = checksum_of(places.load(keeper.file))
    for verb, number in ((Verb.KEYS, 2), (Verb.SECRETS, 1)):
        answer, files = keeper.ask(Request(verb, number - 1, known).encode())
        assert Reply.decode(answer).status is Status.DONE and len(files) == 1  # control
        os.close(files[0])
        assert keeper.ask(Request(verb, number, known).encode()) == (b"", [])
    answer, files = keeper.ask(Request(Verb.KEYS, 0, bytes(16)).encode())
    assert Reply.decode(answer).status is Status.OTHER_CONFIGURATION and files == []
    assert keeper.ask(b"/etc/shadow") == (b"", [])
    keeper.files(keeper.kept()).refresh()  # and it is still there


def test_who_hangs_up_before_it_is_answered_ends_nothing(keeper: Keeper) -> None:
    request = Request(Verb.KEYS, 0, checksum_of(places.load(keeper.file))).encode()
    for _ in range(50):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.connect(keeper.path)
            link.send(request)
    files = keeper.files(keeper.kept())
    files.refresh()
    assert files.total == 1 and keeper.process.poll() is None


def test_when_it_is_gone_the_listener_hears_of_it_and_none_reads_on(keeper: Keeper) -> None:
    kept = keeper.kept()
    kept.look()
    keeper.end()
    with pytest.raises(Gone, match="the keeper is gone"):
        kept.look()
    with pytest.raises(Unavailable, match="cannot reach the keeper"):
        keeper.kept()


def test_the_next_keeper_is_asked_where_the_one_before_has_ended(keeper: Keeper) -> None:
    """And reads the files anew: what changed while there was none is not missed."""
    files = keeper.files(keeper.kept())
    files.refresh()
    assert files.total == 1
    keeper.kill()
    keeper.write("one", "")
    keeper.begin()
    files.refresh()
    assert files.total == 0
    keeper.write("one", signers.line(signers.ED25519) + "\n")
    files.refresh()
    assert files.total == 1
    keeper.kill()
    keeper.begin()
    files.refresh()
    assert files.total == 1


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
@pytest.mark.parametrize(("user", "is_heard"), [(1, True), (65534, False), (0, True)])
def test_only_the_listener_is_heard(tmp_path: Path, user: int, *, is_heard: bool) -> None:
    keeper = Keeper(tmp_path, "--listener-user", pwd.getpwuid(1).pw_name)
    let_others_in(tmp_path)
    Path(keeper.path).chmod(0o666)  # nothing but the check itself is in the way
    message = Request(Verb.LOOK, 0, checksum_of(places.load(keeper.file))).encode()
    child = os.fork()
    if child == 0:
        status = 2
        try:
            os.setresuid(user, user, user)
            status = int(bool(keeper.ask(message)[0]))
        except OSError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == is_heard
    keeper.end()


def test_more_peers_than_it_has_room_for_drop_the_first(keeper: Keeper) -> None:
    known = places.load(keeper.file)
    peers = []
    for _ in range(5):
        peers.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        peers[-1].connect(keeper.path)
        peers[-1].send(Request(Verb.LOOK, 0, checksum_of(known)).encode())
        assert peers[-1].recv(1000)
    assert peers[0].recv(1000) == b""
    for peer in peers:
        peer.close()


texts = st.text(max_size=60).map(lambda text: "".join(each for each in text if each.isprintable()))


@given(
    st.sampled_from(Status), st.integers(0, 2**32 - 1), st.frozensets(st.integers(0, MOST_FILES - 1)), texts
)
def test_replies_come_back_as_they_were(
    status: Status, index: int, changed: frozenset[int], text: str
) -> None:
    reply = Reply(status, index, changed, text.rstrip("\0"), text[::-1])
    assert Reply.decode(reply.encode()) == reply


@given(st.binary(max_size=700) | st.binary(min_size=616, max_size=616) | st.binary(min_size=24, max_size=24))
def test_noise_raises_surprise_or_is_one(message: bytes) -> None:
    for kind in (Request, Reply):
        try:
            decoded = kind.decode(message)
        except Surprise:
            continue
        assert kind.decode(decoded.encode()) == decoded
