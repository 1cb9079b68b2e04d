"""[keys.NAME] and the files with the secrets: what they come to, and what is wrong with them."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import ipaddress
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knockgate.config import doors, keys, secrets
from knockgate.config.keyadvice import advise_on_keys
from knockgate.config.keys import FwknopKey
from knockgate.errors import ConfigError
from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import Hash, Mode, Secret

KEY, HMAC_KEY = b"\x01" * 32, b"\x02" * 64
SECRETS = (
    f"KEY_BASE64: {base64.b64encode(KEY).decode()}\nHMAC_KEY_BASE64: {base64.b64encode(HMAC_KEY).decode()}\n"
)
DOORS = '[doors.ssh]\nports = ["tcp/22"]\n[doors.web]\nports = ["tcp/443"]\nlongest = "10m"\n'


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A good file of secrets."""
    return written(tmp_path / "alice", SECRETS)


def written(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def parsed(text: str) -> tuple[doors.Configuration, tuple[FwknopKey, ...]]:
    configuration = doors.parse(DOORS + text)
    return configuration, keys.parse(DOORS + text, configuration)


def alice(secret: Path, *lines: str) -> FwknopKey:
    """The one key of a file with these lines for it."""
    more = "\n".join(lines)
    mine = "" if "doors =" in more else 'doors = ["ssh"]\n'
    _, (key,) = parsed(f'[keys.alice]\nfwknop = "{secret}"\n{mine}{more}')
    return key


# --- what a key comes to ------------------------------------------------------------------------------


def test_a_key_with_nothing_more() -> None:
    fields = {field.name: field.default for field in FwknopKey.__dataclass_fields__.values()}
    assert fields["hmac"] is Hash.SHA256 and fields["mode"] is Mode.CBC
    assert fields["insecure"] is fields["observed"] is False


def test_every_key(secret: Path) -> None:
    key = alice(
        secret,
        'doors = ["web", "ssh", "web"]',
        'hmac = "sha3-512"',
        'mode = "CTR"',
        'sources = ["192.0.2.0/24", "2001:db8::7"]',
        'senders = ["198.51.100.9"]',
        "observed = true",
        'username = "alice"',
        'longest = "2m"',
        "expires = 2027-05-03",
    )
    assert key.secret == Secret(KEY, HMAC_KEY, Hash.SHA3_512, Mode.CTR)
    assert key.doors == ("web", "ssh")
    assert key.sources == (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::7/128"))
    assert key.senders == (ipaddress.ip_network("198.51.100.9/32"),)
    assert (key.observed, key.username, key.longest) == (True, "alice", 120)
    assert key.expires == dt.datetime(2027, 5, 4, tzinfo=dt.UTC)  # the third is the last day


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2027-05-03T18:00:00Z", dt.datetime(2027, 5, 3, 18, tzinfo=dt.UTC)),
        ("2027-05-03T18:00:00", dt.datetime(2027, 5, 3, 18, tzinfo=dt.UTC)),
        ("2027-05-03T18:00:00+02:00", dt.datetime(2027, 5, 3, 16, tzinfo=dt.UTC)),
    ],
)
def test_when_a_key_expires(secret: Path, value: str, expected: dt.datetime) -> None:
    assert alice(secret, f"expires = {value}").expires == expected


def test_a_date_without_a_zone_is_meant_in_utc(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        found = alice(secret, "expires = 2027-05-03T18:00:00").expires
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == dt.datetime(2027, 5, 3, 18, tzinfo=dt.UTC)


def test_what_the_half_with_rights_knows_of_keys(secret: Path) -> None:
    configuration, _ = parsed(f'[keys.alice]\nfwknop = "{secret}"\ndoors = ["web"]')
    assert {door.name: door.keyed for door in configuration.doors} == {"ssh": False, "web": True}
    assert configuration.fwknop and configuration.fwknop.port == Port(Protocol.UDP, 62201)
    assert {door.name: door.most for door in configuration.doors} == {"ssh": 15, "web": 600}
    assert doors.parse(DOORS).fwknop is None
    without = doors.parse(DOORS)
    assert configuration.checksum != without.checksum
    other = doors.parse(f'{DOORS}[keys.bob]\nfwknop = "/nowhere"\ndoors = ["web"]')
    assert other.checksum == configuration.checksum  # whose key it is, is none of its business


@pytest.mark.parametrize(
    ("lines", "most"),
    [
        ("", 15),
        ('lease = "1m"', 60),
        ('lease = "1m"\nlongest = "10m"', 600),
        ('lease = "1m"\nlongest = "10s"', 60),  # who asks for nothing gets the lease, so all may have it
    ],
)
def test_a_lease_that_is_asked_for_may_be_as_long_as_the_doors_own(lines: str, most: float) -> None:
    (door,) = doors.parse(f'[doors.ssh]\nports = ["tcp/22"]\n{lines}').doors
    assert door.most == most


# --- what is wrong with it ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('doors = ["ssh", "sh"]', "there is no door 'sh'"),
        ("doors = []", "must be a list of doors"),
        ('doors = "ssh"', "must be a list of doors"),
        ('hmac = "sha224"', "'sha224' is none of these"),
        ('mode = "gcm"', "'gcm' is none of these"),
        ('sources = ["192.0.2.7/24"]', "is an address within a network"),
        ('sources = ["fe80::1%eth0"]', "names an interface"),
        ('senders = ["localhost"]', "is no network"),
        ('senders = "192.0.2.7"', "must be a list of networks"),
        ('expires = "2027-05-03"', "must be a date without quotes"),
        ('longest = "500ms"', "is not between"),
        ('username = "a:b"', "is no user name for a packet"),
        ('username = "Jöe"', "is no user name for a packet"),
        ("port = 62201", "unknown key"),
    ],
)
def test_wrong_keys(secret: Path, lines: str, message: str) -> None:
    alice(secret)
    with pytest.raises(ConfigError) as wrong:
        alice(secret, lines)
    assert message in str(wrong.value) and wrong.value.hint
    # The three lines of DOORS above it, its heading and the line with the file.
    assert wrong.value.line == DOORS.count("\n") + (3 if "doors" in lines else 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[fwknop]\nport = "tcp/62201"', "is no UDP port"),
        ('[fwknop]\nport = "udp/53"\n[doors.dns]\nports = ["udp/53"]', "udp/53 is what door dns guards"),
        (
            '[fwknop]\nport = "udp/7000"\n[doors.x]\nports = ["tcp/1"]\nsequence.steps = ["udp/7000"]',
            "udp/7000 is where packets come to",
        ),
        ('[fwknop]\nfreshness = "0s"', "is not between"),
        (
            '[doors.x]\ncommands.open = ["/bin/true"]\n[keys.bob]\nfwknop = "/x"\ndoors = ["x"]',
            "door x has no ports",
        ),
        ("[keys]\nalice = 1", "must be a table"),
        ('[keys."a b"]\nfwknop = "/x"\ndoors = ["ssh"]', "is no name for a key"),
        ('[keys.bob]\ndoors = ["ssh"]', "fwknop or ssh is missing"),
        ('[gate]\nclock = "ntp"', "is none of these"),
    ],
)
def test_wrong_files(secret: Path, text: str, message: str) -> None:
    good = f'\n[keys.carol]\nfwknop = "{secret}"\ndoors = ["ssh"]\n'
    if "[keys]" not in text:
        text += good
    parsed(good)
    with pytest.raises(ConfigError, match=message):
        parsed(text)


def test_two_keys_have_secrets_of_their_own(tmp_path: Path, secret: Path) -> None:
    other = written(tmp_path / "bob", SECRETS.replace("AQEB", "AgIC"))
    text = '[keys.alice]\nfwknop = "{}"\ndoors = ["ssh"]\n[keys.bob]\nfwknop = "{}"\ndoors = ["web"]\n'
    assert [key.name for key in parsed(text.format(secret, other))[1]] == ["alice", "bob"]
    with pytest.raises(ConfigError, match="the same secrets as key alice"):
        parsed(text.format(secret, secret))


def test_a_key_without_hmac_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "old", SECRETS.splitlines()[0])
    with pytest.raises(ConfigError, match="packets are not authentic"):
        alice(path)
    assert alice(path, "insecure = true").secret == Secret(KEY)


# --- the file of secrets ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (SECRETS, Secret(KEY, HMAC_KEY)),
        (SECRETS.replace(": ", "\t"), Secret(KEY, HMAC_KEY)),
        ("# a comment\n\nKEY: open sesame\n  HMAC_KEY hm:ac\r\n", Secret(b"open sesame", b"hm:ac")),
    ],
)
def test_reads_secrets(content: str, expected: Secret) -> None:
    assert secrets.parse(content, "x", Hash.SHA256, Mode.CBC) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "KEY_BASE64 is missing"),
        ("HMAC_KEY: abc", "KEY_BASE64 is missing"),
        ("KEY_BASE64: !!!!", "is no base64"),
        ("KEY_BASE64: AQEB\nKEY: x", "a second one of its kind"),
        ("KEY: __CHANGEME__", "has no value"),
        ("KEY:", "has no value"),
        ("SOURCE: ANY\nKEY: x", "is no line of a file of secrets"),
        ("KEY: " + "s3cret" * 6, "32"),
        ("KEY: s3cret\nHMAC_KEY: s3cret", "differ|same"),
    ],
)
def test_wrong_secrets_are_never_told(content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as wrong:
        secrets.parse(content, "alice", Hash.SHA256, Mode.CBC)
    assert "s3cret" not in f"{wrong.value} {wrong.value.hint}" and wrong.value.file == "alice"


@given(st.text(max_size=200))
def test_any_text_is_secrets_or_an_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        secrets.parse(text, "x", Hash.SHA256, Mode.CBC)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path, secret: Path) -> None:
    alice(secret)
    for mode in (0o640, 0o604, 0o660):
        secret.chmod(mode)
        with pytest.raises(ConfigError, match="can be read by others"):
            alice(secret)
    secret.chmod(0o400)
    alice(secret)
    link = tmp_path / "link"
    link.symlink_to(secret)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (link, tmp_path / "pipe", tmp_path, tmp_path / "nothing"):
        with pytest.raises(ConfigError, match=str(path)) as wrong:
            alice(path)
        assert wrong.value.file == "gate.toml" and wrong.value.key == "keys.alice.fwknop"
    for path, message, hint in (
        (link, "is a link", "the file that it leads to"),
        (tmp_path / "nothing", "cannot be read: No such file", "knockgate key new"),
    ):
        with pytest.raises(ConfigError, match=f"{path} {message}") as wrong:
            secrets.load(path, Hash.SHA256, Mode.CBC)
        assert hint in (wrong.value.hint or "")


# --- advice -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "lines", "message"),
    [
        (SECRETS, (), None),
        (SECRETS, ("insecure = true",), "marked insecure"),
        (SECRETS.splitlines()[0], ("insecure = true",), "has no HMAC"),
        (SECRETS, ('mode = "ecb"',), "equal blocks"),
        (SECRETS, ('mode = "legacy"',), "filled up with zeros"),
        ("KEY: sesame\nHMAC_KEY: open sesame", (), "KEY and HMAC_KEY of fewer than 16 bytes"),
        (SECRETS, ("observed = true",), "who intercepts one"),
        (SECRETS, ("expires = 2026-05-03",), "has expired, on 2026-05-04 at 00:00:00Z"),
        (SECRETS, ("expires = 2026-05-05",), None),
    ],
)
def test_advice(tmp_path: Path, content: str, lines: tuple[str, ...], message: str | None) -> None:
    now = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC).timestamp()
    advice = advise_on_keys([alice(written(tmp_path / "alice", content), *lines)], now)
    assert [message in each.message for each in advice] == [True] if message else advice == ()
