"""fwknop's packet: known ones, there and back again, and each length that there is."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.spa.libfko import needs_libfko, read
from tests.knockgate.spa.messages import (
    ALICE,
    REQUEST,
    SALT,
    messages,
    of_type,
    request,
    seal_fields,
    secrets,
)

from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import (
    Hash,
    Keyring,
    Message,
    MessageType,
    Mode,
    Secret,
    fields,
    seal,
    text64,
    unseal,
)
from knockgate.spa.fwknop.layout import layouts
from knockgate.spa.fwknop.secret import derived

# Built by hand from fwknop's documentation, and taken by the real libfko.
VECTOR = (
    b"8BAgMEBQYHCCS9gyDLUSX7RXY0evGXDgxXpXSTU8VSPHi3NIrLatcP91Tu4H1eGVPW32A3Lax9kdTex3a4Jkww8sF/F+/7LMOX"
    b"mrco+s5Q+YuSVSZ06G9d/d58JviygHGZlI7CinsIsNlmsH9ks7/8i/Nneh6obc0fjmAkBPolMmRyApwL9x33cxTrPY7DVB/0"
    b"q9I99R6ohY"
)


def test_the_known_packet_both_ways() -> None:
    assert seal(REQUEST, ALICE, salt=SALT) == VECTOR
    unsealed = unseal(VECTOR, ALICE)
    assert unsealed.message == REQUEST
    text = b"1234567890123456:YWxpY2U:1795332591:3.0.0:1:MTAuMC4wLjUsdGNwLzIy"
    assert unsealed.digest == hashlib.sha256(text).digest()


def test_the_known_key() -> None:
    passphrase = base64.b64decode("Sz80RjpXOlhH2olGuKBUamHKcqyMBsS9BTgLaMugUsg=")
    key, iv = derived(Secret(passphrase), bytes(8))
    assert key.hex() == "5089c30675083fc7e25d4ecde7eef150d9a195a43c6681af513552178932ec25"
    assert iv.hex() == "38fb2f9a3c60546ac0a3a1d83bcaa6cb"


@given(messages(), secrets, st.binary(min_size=8, max_size=8), st.sampled_from(Hash))
def test_there_and_back_again(message: Message, secret: Secret, salt: bytes, digest: Hash) -> None:
    try:
        wire = seal(message, secret, salt=salt, digest=digest)
    except ValueError:
        wire = seal_fields(fields.encode(message), secret, digest)
        assert not 140 <= len(wire) < 390  # it is for fwknopd that it is too long or too short
        if len(wire) < 140:
            return
    assert unseal(wire, secret).message == message
    assert list(Keyring([Secret(b"other", b"hmac"), secret]).candidates(wire)) == [1]


@given(messages())
def test_what_was_read_is_written_the_same_way(message: Message) -> None:
    text = fields.encode(message)
    assert fields.encode(fields.decode(text)) == text


@pytest.mark.parametrize("hmac", [None, *Hash])
@pytest.mark.parametrize("mode", Mode)
def test_each_type_digest_hmac_and_mode(hmac: Hash | None, mode: Mode) -> None:
    secret = Secret(b"k" * 32, b"h" * 136 if hmac else None, hmac or Hash.SHA256, mode)
    for kind, digest in itertools.product(MessageType, Hash):
        message = of_type(kind)
        assert unseal(seal(message, secret, salt=SALT, digest=digest), secret).message == message


@pytest.mark.parametrize("issued", [0, 2**31 - 1, 2**31, 2**32 + 1, 2**33, 10**12 - 1])
def test_there_is_a_time_after_2038(issued: int) -> None:
    assert unseal(seal(request(issued=issued), ALICE, salt=SALT), ALICE).message.issued == issued


def test_a_token_is_made_of_the_fields_alone() -> None:
    """The same request sealed anew is a replay, with whatever salt or hash."""
    again = seal(REQUEST, ALICE, salt=bytes(8), digest=Hash.MD5)
    assert unseal(again, ALICE).digest == unseal(VECTOR, ALICE).digest
    later = seal(request(issued=REQUEST.issued + 1), ALICE, salt=SALT)
    assert unseal(later, ALICE).digest != unseal(VECTOR, ALICE).digest


@pytest.mark.parametrize("hmac", [None, *Hash])
def test_there_is_a_message_for_each_length(hmac: Hash | None) -> None:
    """From the shortest that fwknopd reads to the longest that the fields can make."""
    secret = Secret(b"key", b"hmac" if hmac else None, hmac or Hash.SHA256)
    lengths = set(layouts(secret))
    reached: set[int] = set()
    for digest in (Hash.MD5, Hash.SHA512):
        for message in _growing():
            wire = seal_fields(fields.encode(message), secret, digest)
            if len(wire) >= 140:
                assert unseal(wire, secret).message == message
                reached.add(len(wire))
    assert reached == lengths


def _growing() -> Iterator[Message]:
    """From the smallest message to the largest, in steps shorter than a block."""
    least = request(
        username="a", issued=0, version="3", type=MessageType.COMMAND, ports=(), command=b"x",
        address=b"\0\1" + bytes(14),
    )  # fmt: skip
    for size in range(1, 189):
        yield dataclasses.replace(least, command=b"x" * size)
    ports = (*[Port(Protocol.TCP, 10000)] * 18, Port(Protocol.TCP, 1000))  # 192 characters, with the address
    forward = dataclasses.replace(
        least, type=MessageType.CLIENT_TIMEOUT_NAT_ACCESS, command=b"", ports=ports, nat=("h", 1), timeout=0
    )
    for size in range(1, 127):
        yield dataclasses.replace(forward, nat=("h" * size, 1))
    forward = dataclasses.replace(forward, nat=("h" * 126, 1), timeout=65536)
    for size in range(1, 49):
        yield dataclasses.replace(forward, username="a" * size, server_auth=b"x" * size)
    yield dataclasses.replace(
        forward, username="a" * 48, server_auth=b"x" * 48, issued=10**12 - 1, version="3.0.0.10"
    )


@needs_libfko
@given(messages(), secrets, st.sampled_from(Hash))
def test_fwknop_reads_what_we_seal(message: Message, secret: Secret, digest: Hash) -> None:
    """All but what only a gate of ours understands; the longest and the shortest are refused by ``seal``."""
    narrow = dataclasses.replace(
        message,
        address=message.address[:4],
        issued=message.issued % 2**31,
    )
    try:
        wire = seal(narrow, secret, salt=SALT, digest=digest)
    except ValueError:
        return
    found = read(wire, secret)
    assert found is not None
    request = fields.encode(narrow).split(b":")[5]
    assert found == {
        "rand_value": message.nonce.encode(),
        "username": message.username.encode(),
        "timestamp": narrow.issued,
        "version": message.version.encode(),
        "spa_message_type": message.type,
        "spa_message": text64.decode(request),
        "spa_nat_access": None if message.nat is None else "{},{}".format(*message.nat).encode(),
        "spa_server_auth": None if message.server_auth is None else message.server_auth.split(b"\0")[0],
        "spa_client_timeout": message.timeout or 0,
    }


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.LEGACY])
def test_openssl_opens_what_we_seal(mode: Mode, tmp_path: Path) -> None:
    secret = Secret(b"testkeyone", None, mode=mode)
    wire = b"U2FsdGVkX1" + seal(REQUEST, secret, salt=SALT)
    (tmp_path / "key").write_bytes(secret.key + b"\n")
    words = ["-md", "md5", "-a", "-A"]
    opened = subprocess.run(
        ["openssl", "enc", "-d", f"-aes-256-{mode.value}", *words, "-pass", f"file:{tmp_path}/key"],
        input=wire + b"=" * (-len(wire) % 4),
        capture_output=True,
        check=True,
    ).stdout  # fmt: skip
    digest = base64.b64encode(hashlib.sha256(fields.encode(REQUEST)).digest()).rstrip(b"=")
    padding = b"" if mode in {Mode.CBC, Mode.ECB} else opened[-1:] * opened[-1]  # openssl pads no streams
    assert opened == fields.encode(REQUEST) + b":" + digest + padding
