"""What Debian's fwknop client makes: all of it, in each digest, HMAC and mode that it can."""

from __future__ import annotations

import base64
import itertools
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import Hash, Keyring, Message, MessageType, Mode, Secret, unseal

pytestmark = pytest.mark.skipif(not shutil.which("fwknop"), reason="needs Debian's fwknop-client")

TCP, UDP = Protocol.TCP, Protocol.UDP
SHORT = Secret(b"testkeyone", b"testhmackey")

#: The client makes no HMAC in legacy mode.
COMBINATIONS = [
    (hmac, mode)
    for hmac, mode in itertools.product([None, *Hash], Mode)
    if not hmac or mode is not Mode.LEGACY
]


def made(folder: Path, secret: Secret, *options: str, digest: Hash = Hash.SHA256) -> bytes:
    """The payload that the client would send; it sends nothing."""
    lines = {
        "SPA_SERVER": "192.0.2.1",
        "ALLOW_IP": "10.0.0.5",
        "KEY_BASE64": base64.b64encode(secret.key).decode(),
        "DIGEST_TYPE": digest.value,
        "ENCRYPTION_MODE": secret.mode.value,
    }
    if secret.hmac_key is not None:
        hmac_key = base64.b64encode(secret.hmac_key).decode()
        lines |= {"USE_HMAC": "Y", "HMAC_KEY_BASE64": hmac_key, "HMAC_DIGEST_TYPE": secret.hmac.value}
    settings, packet = folder / "rc", folder / "packet"
    settings.write_text("[default]\n[test]\n" + "".join(f"{name} {value}\n" for name, value in lines.items()))
    settings.chmod(0o600)
    command = ["fwknop", "--rc-file", str(settings), "-n", "test", "--no-save-args", "-T", "-B", str(packet)]
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "TZ": "UTC"}
    # Its status is no help: it fails after it has made a packet that is too long for fwknopd.
    subprocess.run([*command, *options], env=environment, check=False, capture_output=True, timeout=30)
    payload = packet.read_bytes().strip()
    packet.unlink()
    return payload


def now() -> int:
    """The seconds as time(2) has them, whose clock moves a little later than the exact one."""
    return int(time.clock_gettime(time.CLOCK_REALTIME) - 0.1)


def opened(folder: Path, *options: str) -> Message:
    return unseal(made(folder, SHORT, *options), SHORT).message


@pytest.mark.parametrize(("hmac", "mode"), COMBINATIONS)
def test_each_digest_hmac_and_mode(hmac: Hash | None, mode: Mode, tmp_path: Path) -> None:
    secret = Secret(b"k" * 32, b"h" * 100 if hmac else None, hmac or Hash.SHA256, mode)
    ring = Keyring([SHORT, secret])
    for digest in Hash:
        before = now()
        payload = made(tmp_path, secret, "-A", "tcp/22", digest=digest)
        message = unseal(payload, secret).message
        assert before <= message.issued <= before + 5
        assert (message.type, message.address) == (MessageType.ACCESS, bytes([10, 0, 0, 5]))
        assert message.ports == (Port(TCP, 22),)
        assert list(ring.candidates(payload)) == [1]


@pytest.mark.parametrize("length", [1, 15, 16, 17, 31, 32])
@pytest.mark.parametrize("mode", [Mode.CBC, Mode.LEGACY])
def test_keys_of_each_length(length: int, mode: Mode, tmp_path: Path) -> None:
    secret = Secret(bytes(range(1, length + 1)), None, mode=mode)
    assert unseal(made(tmp_path, secret, "-A", "tcp/22"), secret).message.ports == (Port(TCP, 22),)


@pytest.mark.parametrize(("hmac", "length"), [*itertools.product(Hash, [1, 64, 65, 72, 73, 128])])
def test_hmac_keys_around_the_block_sizes(hmac: Hash, length: int, tmp_path: Path) -> None:
    secret = Secret(b"k", b"h" * length, hmac)
    payload = made(tmp_path, secret, "-A", "tcp/22")
    assert unseal(payload, secret).message.ports == (Port(TCP, 22),)
    assert list(Keyring([secret]).candidates(payload)) == [0]


def test_each_type(tmp_path: Path) -> None:
    access = ["-A", "tcp/22,udp/1194"]
    inside = ["-N", "10.0.0.9:80"]
    local = ["-N", "10.0.0.9:80", "--nat-local"]
    ports = (Port(TCP, 22), Port(UDP, 1194))
    for options, kind in [
        (access, MessageType.ACCESS),
        ([*access, "-f", "60"], MessageType.CLIENT_TIMEOUT_ACCESS),
        ([*access, *inside], MessageType.NAT_ACCESS),
        ([*access, *inside, "-f", "60"], MessageType.CLIENT_TIMEOUT_NAT_ACCESS),
        ([*access, *local], MessageType.LOCAL_NAT_ACCESS),
        ([*access, *local, "-f", "60"], MessageType.CLIENT_TIMEOUT_LOCAL_NAT_ACCESS),
    ]:
        message = opened(tmp_path, *options)
        assert (message.type, message.ports[0], message.ports[-1]) == (kind, ports[0], ports[1])
        assert message.timeout == (60 if kind.has_timeout else None)
        assert message.nat == (("10.0.0.9", 80) if kind.has_nat else None)


def test_a_command(tmp_path: Path) -> None:
    message = opened(tmp_path, "-C", "systemctl restart nginx, please")
    assert (message.type, message.command) == (MessageType.COMMAND, b"systemctl restart nginx, please")


def test_who_and_when_and_for_whom(tmp_path: Path) -> None:
    names = ["u0_a56", "alice@example.org", "O'Neil (jr.)", "a" * 29]  # it cuts longer ones off
    for name in names:
        assert opened(tmp_path, "-A", "tcp/22", "-U", name).username == name
    assert opened(tmp_path, "-A", "tcp/22", "-s").address == bytes(4)
    before = now()
    assert opened(tmp_path, "-A", "tcp/22", "--time-offset-minus", "1h").issued - before in range(
        -3600, -3590
    )


def test_more_ports_than_fwknopd_takes(tmp_path: Path) -> None:
    """The client sends what its own server then takes for a packet of GPG's, and drops."""
    ports = [Port(TCP, 40000 + number) for number in range(17)]
    payload = made(tmp_path, SHORT, "-A", ",".join(map(str, ports)))
    assert len(payload) > 400
    assert unseal(payload, SHORT).message.ports == tuple(ports)


def test_it_is_the_key_that_opens(tmp_path: Path) -> None:
    """The control of all of the above."""
    payload = made(tmp_path, SHORT, "-A", "tcp/22")
    assert list(Keyring([Secret(b"testkeyone", b"testhmackex")]).candidates(payload)) == []
    assert list(Keyring([SHORT]).candidates(payload)) == [0]
