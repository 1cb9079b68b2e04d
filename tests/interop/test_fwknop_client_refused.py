"""What Debian's fwknop client made is refused unless it is as it must be; each beside a knock that opens."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.interop.fwknop import Client, Stage, stage, until_open
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, OTHER, leases
from tests.knockgate.daemon.test_packets import PORT, message
from tests.netns import isolated, own_mounts, until

from knockgate.spa.fwknop import Hash, Mode, Secret, seal

pytestmark = pytest.mark.skipif(not shutil.which("fwknop"), reason="needs Debian's fwknop-client")

ALICE = Secret(b"a" * 32, b"A" * 64)
SSH = ["-A", "tcp/22"]
KEYS = {"alice": (ALICE, 'doors = ["ssh"]')}
OPENED = ("tcp/22", CLIENT)
#: Datagrams sent at once; the socket that hears them has room for many more.
_BATCH = 200


def send(payloads: Sequence[bytes], source: str = CLIENT) -> None:
    running.send(*payloads, port=PORT, source=source)


@isolated
def test_wrong_keys(tmp_path: Path) -> None:
    wrong = {
        "another-key": Secret(b"b" * 32, ALICE.hmac_key),
        "another-hmac-key": Secret(ALICE.key, b"B" * 64),
        "another-hmac": Secret(ALICE.key, ALICE.hmac_key, Hash.SHA3_256),  # of the same length
        "no-hmac": Secret(ALICE.key, None),
        "another-mode": Secret(ALICE.key, ALICE.hmac_key, mode=Mode.CTR),
    }
    client = Client(tmp_path, {**wrong, "alice": ALICE})
    with stage(tmp_path, KEYS) as gate:
        for times, name in enumerate(("another-hmac-key", "another-hmac", "no-hmac"), 1):
            client.knock(name, *SSH)
            gate.until_refused("not-ours", times)
        for times, name in enumerate(("another-key", "another-mode"), 1):
            client.knock(name, *SSH)
            gate.until_refused("not-sealed", times)
        assert leases() == set()
        client.knock("alice", *SSH)
        until_open(OPENED)
        assert gate.refused() == {"not-ours": 3, "not-sealed": 2}


@isolated
def test_wrong_clocks(tmp_path: Path) -> None:
    """120 s to either side are allowed."""
    client = Client(tmp_path, {"alice": ALICE})
    with stage(tmp_path, KEYS) as gate:
        for times, offset in enumerate(("125s", "1h", "366d"), 1):
            client.knock("alice", *SSH, "--time-offset-minus", offset)
            gate.until_refused("stale", times)
            client.knock("alice", *SSH, "--time-offset-plus", offset)
            gate.until_refused("ahead", times)
        assert leases() == set()
        client.knock("alice", *SSH, "--time-offset-minus", "110s")
        until_open(OPENED)
        client.knock("alice", *SSH, "--time-offset-plus", "110s", source=OTHER)
        until_open(OPENED, ("tcp/22", OTHER))


@isolated
def test_a_packet_of_the_future_is_not_spent(tmp_path: Path) -> None:
    client = Client(tmp_path, {"alice": ALICE})
    with stage(tmp_path, KEYS) as gate:
        early = client.made("alice", *SSH, "--time-offset-plus", "123s")
        send([early])
        gate.until_refused("ahead")
        assert leases() == set()

        def opened() -> bool:
            send([early])
            return bool(leases())

        until(opened, "it is not ahead any more")
        until_open(OPENED)


@isolated
def test_replays(tmp_path: Path) -> None:
    """At once, from another address, after kill -9 of the listener, after a restart, and after both."""
    own_mounts()
    client = Client(tmp_path, {"alice": ALICE})
    keys = {"alice": (ALICE, 'doors = ["ssh"]\nobserved = true')}
    with stage(tmp_path, keys) as gate:
        packets = [client.made("alice", *SSH), client.made("alice", *SSH, "-s", source="")]
        send(packets)
        until(lambda: gate.gate.status()["packets"]["opened"] == 2, "both have opened")
        until_open(OPENED)
        with gate.gate.warden() as warden:
            warden.close(gate.gate.configuration(), None)

        def refused(times: int) -> None:
            send(packets)
            send(packets, source=OTHER)
            gate.until_refused("replayed", times)
            assert leases() == set()

        refused(4)
        before = gate.gate.halves()
        os.kill(before["listener"], signal.SIGKILL)
        gate.gate.until_replaced(before, "listener")
        refused(4)
        assert gate.gate.end() == 0
        gate.gate.start()
        refused(4)
        gate.gate.end(signal.SIGKILL)
        until(lambda: not gate.gate.answers(), "all halves are gone")
        gate.gate.start()
        refused(4)
        client.knock("alice", *SSH, "-s", source="")  # the control
        until_open(OPENED)


def changed(payload: bytes) -> list[bytes]:
    """Cut off at each byte, longer by some, with each bit flipped, and spelled in other ways."""
    longer = [payload + (payload * 2)[:more] for more in range(1, 21)]
    flipped = [
        payload[:at] + bytes([payload[at] ^ 1 << bit]) + payload[at + 1 :]
        for at in range(len(payload))
        for bit in range(8)
    ]
    spelled = [payload + b"=", payload + b"==", b"U2FsdGVkX1" + payload, payload + b"\n", payload + b"\0"]
    return [payload[:length] for length in range(len(payload))] + longer + flipped + spelled


def other_spellings(payload: bytes, at: int) -> list[bytes]:
    """The character there in all others, among which are those that only differ in bits which say nothing."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    others = (bytes([other]) for other in alphabet if other != payload[at])
    return [payload[:at] + other + payload[at + 1 :] for other in others]


def send_all(gate: Stage, payloads: Sequence[bytes], secret: Secret) -> None:
    """A batch at a time. The kernel turns some of it away; behind each batch comes what is counted."""
    for times, start in enumerate(range(0, len(payloads), _BATCH), 1):
        late = message(issued=message().issued - 3600)
        send([*payloads[start : start + _BATCH], seal(late, secret, salt=os.urandom(8))])
        gate.until_refused("stale", times)


@pytest.mark.parametrize(
    "secret",
    [
        ALICE,
        Secret(ALICE.key, ALICE.hmac_key, Hash.SHA512, Mode.CTR),
        Secret(ALICE.key, None),
        Secret(ALICE.key, None, mode=Mode.CTR),
    ],
    ids=["sha256-cbc", "sha512-ctr", "none-cbc", "none-ctr"],
)
@isolated
def test_whatever_is_changed_in_a_packet_it_opens_nothing(secret: Secret, tmp_path: Path) -> None:
    """The packet itself comes last, and is the control: it opens, and it is the first that does."""
    client = Client(tmp_path, {"alice": secret})
    packet = client.made("alice", *SSH)
    tag = {Hash.SHA256: 43, Hash.SHA512: 86}[secret.hmac] if secret.hmac_key else 0
    junk = changed(packet) + other_spellings(packet, len(packet) - 1)
    if tag:
        junk += other_spellings(packet, len(packet) - tag - 1)
    with stage(tmp_path, {"alice": (secret, 'doors = ["ssh"]')}) as gate:
        send_all(gate, junk, secret)
        assert leases() == set()
        late = gate.refused()["stale"]
        send([packet])
        until_open(OPENED)
        packets = gate.gate.status()["packets"]
        assert (packets["opened"], packets["remembered"]) == (1, late + 1)
        # The kernel looks at the length, and at the beginning and at the end of each part.
        assert sum(packets["refused"].values()) - late > 8 * (len(packet) - 3)


@isolated
def test_there_is_a_time_after_2038(tmp_path: Path) -> None:
    """fwknopd takes no packet of that time. Where the clock is not known we do, once, beside the client's."""
    client = Client(tmp_path, {"alice": ALICE})
    with stage(tmp_path, KEYS, clock="unknown") as gate:
        for number, issued in enumerate((2**31 - 1, 2**31, 2**32 + 1, 10**12 - 1), 20):
            source = f"10.0.0.{number}"
            packet = seal(message(source, issued=issued), ALICE, salt=os.urandom(8))
            send([packet])
            until(lambda: ("tcp/22", source, "packet") in leases(), f"{issued} opens")  # noqa: B023
            send([packet])
            gate.until_refused("replayed", number - 19)
        client.knock("alice", *SSH)
        until(lambda: (*OPENED, "packet") in leases(), "the client's opens")
