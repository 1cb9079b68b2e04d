"""Warden, listener and keeper are killed (SIGKILL) at each line between a knock and its opening.

In a network of their own, with the kernel's table, and real packets. Each life does first what is owed from
the one before: what was killed with it opens once or never, a fresh knock opens, leases are in force, and
somebody who has none was not answered at any time. For the runner see ``test_crash.py``, for the stores
``store/test_marks_crash.py`` and ``test_replay_crash.py``, for the units ``tests/systemd``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.knockgate.daemon import running
from tests.knockgate.daemon.lives import Life
from tests.knockgate.daemon.running import CLIENT, HOST, OTHER, WEB_KNOCKS, knock, network
from tests.knockgate.daemon.sealed_stage import make_gate, message
from tests.knockgate.daemon.test_packets import ALICE, key
from tests.knockgate.daemon.test_packets import message as fwknop_message
from tests.knockgate.spa import sealed_messages, sealed_signers
from tests.netns import isolated, own_mounts, run, until

from knockgate.config import places
from knockgate.config.doors import Configuration, Door
from knockgate.daemon import keeper, listener, warden
from knockgate.daemon.control import WardenClient
from knockgate.daemon.grants import Grants
from knockgate.daemon.kept import Kept
from knockgate.daemon.origin import Origin
from knockgate.daemon.packets import PacketGrants
from knockgate.daemon.sealed import SealedGrants
from knockgate.daemon.ward import Gone, Ward
from knockgate.firewall.nftables import Nftables
from knockgate.model import Port, Protocol
from knockgate.spa import fwknop
from knockgate.spa.sealed import SourceKind, Suite, seal

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]

SSH, WEB = Port(Protocol.TCP, 22), Port(Protocol.TCP, 80)
STRANGER = "10.0.0.4"
#: What a listener comes by of its own; what it calls is pure, or has its own tests.
LISTENS = ("daemon",)
GATE = """
[gate]
clock = "trusted"
run_directory = "{folder}/run"
state_directory = "{folder}/state"
[doors.ssh]
ports = ["tcp/22"]
lease = "1h"
[doors.web]
ports = ["tcp/80"]
lease = "1h"
sequence = {{ steps = ["tcp/8000", "udp/8001"], runs_in = "daemon" }}
[keys.people]
ssh = "{folder}/authorized_keys"
doors = ["ssh"]
{alice}"""
_PROBE = """
import errno, socket, sys, time
print("began", flush=True)
while True:
    with socket.socket() as sock:
        sock.settimeout(0.02)
        sock.bind((sys.argv[1], 0))
        try:
            sock.connect((sys.argv[2], int(sys.argv[3])))
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                print("refused", flush=True)
        else:
            print("open", flush=True)
"""


@dataclass
class Place:
    """A host with a client beside it."""

    folder: Path
    table: Nftables

    @property
    def origin(self) -> Origin:
        return Origin(str(self.folder / "gate.toml"))

    def warden(self, *parts: str, times: int = 1, at: int = 0) -> Life:
        entry = warden.Warden._hear_listener
        return Life(
            self.folder, lambda: warden.serve(self.origin, own=True), entry, parts, times=times, at=at
        )

    def listener(self, entry: Callable[..., object], *, times: int = 1, at: int = 0) -> Life:
        """It has to be armed."""

        def listen() -> None:
            listener.serve(self.origin, None)

        return Life(self.folder, listen, entry, LISTENS, times=times, at=at, armed=False)

    def leases(self, port: Port) -> set[str]:
        return {socket.inet_ntoa(lease.source) for lease in self.table.leases() if lease.port == port}

    def until_open(self, port: Port, source: str) -> None:
        until(lambda: source in self.leases(port), f"{port} opens for {source}")

    def send(self, payload: bytes, port: int) -> None:
        with running.client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(payload, (HOST, port))

    def close(self, door: str) -> None:
        """By hand, for everybody."""
        with WardenClient(str(self.folder / "run")) as client:
            configuration = self.origin.load()
            (one,) = [each for each in configuration.doors if each.name == door]
            client.close(configuration, one)

    def answers(self) -> list[str]:
        """To the stranger, so far."""
        return (self.folder / "probed").read_text().splitlines()[1:]


@contextlib.contextmanager
def place(folder: Path) -> Iterator[Place]:
    """A service, and a configuration."""
    own_mounts()
    (folder / "run").mkdir(mode=0o700)
    keys = folder / "authorized_keys"
    keys.write_text(f"{sealed_signers.line(sealed_signers.ED25519)} jo\n")
    keys.chmod(0o600)
    make_gate(folder)
    text = GATE.format(folder=folder, alice=key(folder, "alice", ALICE, 'doors = ["ssh"]'))
    (folder / "gate.toml").write_text(text)
    with network(), socket.create_server(("", 22)), Nftables(own=False) as table:
        with running.client:
            run("ip", "address", "add", f"{STRANGER}/24", "dev", "far")
        yield Place(folder, table)


@contextlib.contextmanager
def somebody_tries(place: Place) -> Iterator[None]:
    """All the while, who has no lease; at the end he is let in, and then he is answered (control)."""
    with (place.folder / "probed").open("w") as probed, running.client:
        words = [sys.executable, "-I", "-c", _PROBE, STRANGER, HOST, "22"]
        prober = subprocess.Popen(words, stdout=probed)
    try:
        until((place.folder / "probed").read_text, "somebody tries")
        yield
        assert place.answers() == []
        with WardenClient(str(place.folder / "run")) as client:
            configuration = place.origin.load()
            client.open(configuration, configuration.doors[0], socket.inet_aton(STRANGER), 60)
        until(place.answers, "he is answered")
    finally:
        prober.kill()
        prober.wait()


def killed_at_each(lives: Callable[[int], Life], during: Callable[[Life, int], bool], most: int) -> int:
    """One life for each line, ``lives(at)``; ``during`` says whether it was killed. Returns how many were."""
    counts = [during(lives(at), at) for at in range(1, most + 1)]
    # A line or two less where a second has begun, or an address is known still.
    assert sum(counts) >= 0.9 * most, counts
    return sum(counts)


# --- the listener -------------------------------------------------------------------------------------


def sealed_knock(source: str) -> bytes:
    address = socket.inet_aton(source)
    said = message(source=SourceKind.V4, address=address, device=address * 4)
    return seal(said, sealed_messages.CARD, Suite.X25519)


def fwknop_knock(source: str) -> bytes:
    return fwknop.seal(fwknop_message(source), ALICE, salt=os.urandom(8))


@pytest.mark.parametrize(
    ("entry", "packet", "port"),
    [(SealedGrants._consider, sealed_knock, 62202), (PacketGrants._consider, fwknop_knock, 62201)],
    ids=["sealed", "fwknop"],
)
@isolated
def test_a_packet_opens_once_or_never_and_the_next_one_does(
    entry: Callable[..., object], packet: Callable[[str], bytes], port: int, tmp_path: Path
) -> None:
    with place(tmp_path) as here:
        guard = here.warden()
        with somebody_tries(here):
            owed = packet(CLIENT)  # of the life before, which was killed over it
            opened = set[int]()

            def live(life: Life, at: int) -> bool:
                nonlocal owed
                was_open = CLIENT in here.leases(SSH)
                here.close("ssh")
                for _ in range(2):  # what is owed, and somebody else's, after which that is settled
                    here.send(owed, port)
                    here.send(packet(OTHER), port)
                    here.until_open(SSH, OTHER)
                    is_open = CLIENT in here.leases(SSH)
                    assert not (was_open and is_open), f"the one before died at {lines[at - 2]}"
                    was_open = was_open or is_open
                    here.close("ssh")
                here.send(packet(OTHER), port)
                here.until_open(SSH, OTHER)
                owed = packet(CLIENT)
                life.arm()
                here.send(owed, port)
                until(lambda: life.ended() or CLIENT in here.leases(SSH), "it is killed, or opens")
                if CLIENT in here.leases(SSH):
                    opened.add(at)
                assert OTHER in here.leases(SSH)
                return life.dies()

            lines: list[str] = []
            live(life := here.listener(entry), 0)
            lines += life.came_by()
            assert any("/ward.py:" in line for line in lines)
            opened.clear()
            killed_at_each(lambda at: here.listener(entry, at=at), live, len(lines))
            assert opened and min(opened) > 1  # some were killed before it was open, and some after
        guard.end()


@isolated
def test_a_sequence_is_whole_or_begins_anew(tmp_path: Path) -> None:
    """The daemon's: killed at a line of its last step it opens or not; the last step alone never does."""
    with place(tmp_path) as here:
        guard = here.warden()
        entry = Grants.hear
        lines: list[str] = []

        def live(life: Life, at: int) -> bool:
            here.close("web")
            knock(WEB_KNOCKS[-1])  # what was still to come of the knock that was killed
            knock(*WEB_KNOCKS, source=OTHER)
            here.until_open(WEB, OTHER)
            assert CLIENT not in here.leases(WEB), f"the one before died at {lines[at - 2]}"
            life.arm()
            knock(*WEB_KNOCKS)
            until(lambda: life.ended() or CLIENT in here.leases(WEB), "it is killed, or opens")
            assert OTHER in here.leases(WEB)
            return life.dies()

        live(life := here.listener(entry, times=2), 0)
        lines += life.came_by()
        killed_at_each(lambda at: here.listener(entry, times=2, at=at), live, len(lines))
        here.listener(entry)
        knock(*WEB_KNOCKS)
        here.until_open(WEB, CLIENT)
        guard.end()


# --- the warden ---------------------------------------------------------------------------------------


def asked(configuration: Configuration, door: Door, source: bytes) -> bool:
    """As a listener does that has just begun; False where the warden is gone before it has answered."""
    ward = Ward(configuration)
    try:
        ward.ping()
        assert ward.open(door, source) is None
    except Gone:
        return False
    finally:
        ward._socket.close()
    return True


@isolated
def test_a_lease_is_there_or_not_and_nobody_else_notices(tmp_path: Path) -> None:
    """Killed at each line from the request to its answer. What was open stays, and it is asked for again."""
    parts = ("daemon", "firewall")
    with place(tmp_path) as here, contextlib.ExitStack() as stack:
        configuration = here.origin.load()
        (_, web), who = configuration.doors, socket.inet_aton(CLIENT)
        life = here.warden(*parts, times=2)
        assert asked(configuration, web, who)
        lines = life.came_by()
        life.end()
        assert any("/nftables.py:" in line for line in lines)
        stack.enter_context(somebody_tries(here))
        opened = set[bool]()

        def live(life: Life, at: int) -> bool:
            other = socket.inet_aton(f"10.9.{at // 250}.{at % 250 + 1}")
            died = not asked(configuration, web, other)
            before = here.leases(WEB)
            life.end()
            assert here.leases(WEB) == before >= {CLIENT}
            opened.add(socket.inet_ntoa(other) in before)
            again = here.warden()
            assert here.leases(WEB) == before
            assert asked(configuration, web, other)
            assert here.leases(WEB) == before | {socket.inet_ntoa(other)}
            again.end()
            return died

        killed_at_each(lambda at: here.warden(*parts, times=2, at=at), live, len(lines))
        assert opened == {True, False}
        guard = here.warden()
        stack.close()
        guard.end()


# --- the keeper ---------------------------------------------------------------------------------------


def test_what_a_keeper_was_killed_over_the_next_one_hands_out(tmp_path: Path) -> None:
    """Its doorbell outlives it, as systemd's socket does, and whoever asks does not notice."""
    with contextlib.ExitStack() as stack:
        doorbell = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        path = tmp_path / "keys.sock"
        doorbell.bind(str(path))
        doorbell.listen()
        text = f"{sealed_signers.line(sealed_signers.ED25519)} jo\n"
        keys = tmp_path / "authorized_keys"
        keys.write_text(text)
        keys.chmod(0o600)
        file = tmp_path / "gate.toml"
        file.write_text(f'[doors.ssh]\nports = ["tcp/22"]\n[keys.jo]\nssh = "{keys}"\ndoors = ["ssh"]\n')
        origin, found = Origin(str(file)), places.load(str(file))

        def keep(at: int = 0) -> Life:
            def serve() -> None:
                keeper.serve(origin, os.dup(doorbell.fileno()), None)

            return Life(tmp_path, serve, keeper._Keeper._hear, ("daemon", "config"), at=at)

        def read() -> str:
            with contextlib.closing(Kept(str(path), found)) as kept:
                return kept.read(found.keys[0])[0].decode()

        first = keep()
        assert read() == text
        lines = first.came_by()
        first.end()

        def live(life: Life, _: int) -> bool:
            with ThreadPoolExecutor(1) as pool:
                reading = pool.submit(read)
                until(lambda: life.ended() or reading.done(), "it is killed, or answers")
                died = life.dies()
                again = keep()
                assert reading.result() == text
            again.end()
            return died

        assert killed_at_each(keep, live, len(lines)) > 10
