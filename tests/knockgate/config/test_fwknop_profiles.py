""".fwknoprc as profiles; the real fwknop client is asked what it makes of the same file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from tests.knockgate.config.fwknop_files import HMAC, KEY, KEYS, notes, refusals, written
from tests.netns import DEADLINE

from knockgate.client import allow
from knockgate.client.profiles import PacketProfile, load
from knockgate.config import secrets
from knockgate.config.fwknop import Translation, profiles
from knockgate.config.fwknop.rc_options import VARIABLES
from knockgate.model import address_text
from knockgate.spa.fwknop import Hash, Message, MessageType, Secret, unseal

HOME = f"[home]\nSPA_SERVER 192.0.2.1\nACCESS tcp/22\nALLOW_IP 192.0.2.9\n{KEYS}"
NO_KEYS = HOME.replace(KEYS, "")


def imported(folder: Path, text: str) -> Translation:
    return profiles(written(folder, text, ".fwknoprc"), folder / "keys")


def loaded(found: Translation, folder: Path) -> dict[str, PacketProfile]:
    """What our client reads of it, once the files with the secrets are there."""
    for path, text in found.secrets.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
    read = load(written(folder, found.text, "profiles.toml"))
    assert all(isinstance(each, PacketProfile) for each in read.values())
    return read  # type: ignore[return-value] # the line before


def the_profile(folder: Path, text: str) -> PacketProfile:
    found = imported(folder, text)
    assert not found.refusals, refusals(found)
    (profile,) = loaded(found, folder).values()
    return profile


def secret_of(profile: PacketProfile) -> Secret:
    assert profile.fwknop
    return secrets.load(profile.fwknop, profile.hmac, profile.mode)


def asked_of_fwknop(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """``fwknop --test``, which prints the packet that it would send for [home]."""
    if not shutil.which("fwknop"):
        pytest.skip("fwknop is not installed")
    rc = written(folder, text, ".fwknoprc")
    return subprocess.run(
        ["fwknop", "--rc-file", str(rc), "-n", "home", "--test", "-v", "--no-save-args"],
        env={"HOME": str(folder), "PATH": os.environ["PATH"], "LOGNAME": "somebody"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def made_by_fwknop(printed: str, secret: Secret) -> Message:
    """The fields of the packet that fwknop makes, opened with the secrets that we imported."""
    found = re.search(r"Final SPA Data: (\S+)", printed)
    assert found, printed
    return unseal(found[1].encode(), secret).message


DEFAULTS = (
    "[default]\nDIGEST_TYPE SHA512\nFW_TIMEOUT 60\nALLOW_IP 192.0.2.7\nSPOOF_USER nobody\nHMAC_KEY old\n"
)
STANZAS = {
    "plain": HOME,
    "inherits": f"{DEFAULTS}[home]\nSPA_SERVER 192.0.2.1\nACCESS tcp/22,udp/53\nKEY_BASE64 YW5vdGhlcg==\n",
    "overrides": f"{DEFAULTS}{HOME}SPOOF_USER bob\nFW_TIMEOUT 0\nDIGEST_TYPE md5\nHMAC_DIGEST_TYPE sha384\n",
    "words": "[home]\nSPA_SERVER: x.example ; the host\nACCESS: tcp/22# ssh\nALLOW_IP: source\n"
    "KEY: some words\nHMAC_KEY d;e\n",
    "twice": f"[home]\nALLOW_IP 192.0.2.1\n[other]\nSPA_SERVER y\n{HOME.replace('home', 'HOME')}",
    "ahead": f"{HOME}TIME_OFFSET 2h\n",
    "behind": f"{HOME}TIME_OFFSET -3MINUTES\n",
    "ctr": f"{HOME}ENCRYPTION_MODE CTR\nHMAC_DIGEST_TYPE MD5\n",
    "legacy": f"{NO_KEYS}KEY 0123456789abcdefXYZ\nENCRYPTION_MODE legacy\n",
    "without HMAC": f"{NO_KEYS}KEY word\nUSE_HMAC N\n",
}


@pytest.mark.parametrize("case", STANZAS)
def test_fwknop_makes_the_packet_that_the_profile_says(tmp_path: Path, case: str) -> None:
    text = STANZAS[case]
    found = imported(tmp_path, text)
    profile = loaded(found, tmp_path)["home"]
    now = time.time()  # noqa: TID251 - what stands in the packet
    printed = asked_of_fwknop(tmp_path, text).stdout
    message = made_by_fwknop(printed, secret_of(profile))
    assert message.ports == profile.access
    address = b"\0\0\0\0" if profile.allow is allow.Whoever.OBSERVED else profile.allow
    assert message.address == address
    assert message.timeout == (int(profile.lease) if profile.lease else None)
    assert message.type is (MessageType.CLIENT_TIMEOUT_ACCESS if profile.lease else MessageType.ACCESS)
    assert message.username == (profile.username or "somebody")
    assert abs(message.issued - now - profile.offset) < 10
    assert f"Digest Type: {list(Hash).index(profile.digest) + 1} " in printed
    assert f"IP/host: {profile.host}\n" in printed


def test_what_is_not_of_the_packet(tmp_path: Path) -> None:
    text = (
        f"{HOME}SPA_SERVER_PORT 4000\nSPA_SERVER_PROTO udpraw\nSERVER_RESOLVE_IPV4 Y\nVERBOSE 1\nWGET_CMD x\n"
    )
    found = imported(tmp_path, text)
    profile = the_profile(tmp_path, text)
    assert (str(profile.port), profile.family.name) == ("udp/4000", "AF_INET")
    assert secret_of(profile) == Secret(KEY, HMAC)
    for key in ("SPA_SERVER_PROTO", "VERBOSE", "WGET_CMD"):
        assert f"{key}: is " in notes(found)
    plain = text.replace("udpraw", "udp").replace("SERVER_RESOLVE_IPV4 Y\n", "")
    assert "destination port: 4000" in asked_of_fwknop(tmp_path, plain).stdout


@pytest.mark.parametrize(
    ("lines", "url"),
    [
        ("ALLOW_IP resolve\n", "https://www.cipherdyne.org/cgi-bin/myip"),
        ("ALLOW_IP resolve\nRESOLVE_HTTP_ONLY Y\n", "http://www.cipherdyne.org/cgi-bin/myip"),
        ("ALLOW_IP resolve\nRESOLVE_URL https://ip.example/x\n", "https://ip.example/x"),
        ("ALLOW_IP resolve\nRESOLVE_URL ip.example\nRESOLVE_HTTP_ONLY Y\n", "http://ip.example"),
    ],
)
def test_whom_fwknop_asks_for_the_address(tmp_path: Path, lines: str, url: str) -> None:
    profile = the_profile(tmp_path, HOME + lines)
    assert profile.allow == url
    assert profile.resolve_http is url.startswith("http:")


def test_an_address_that_is_not_asked_for(tmp_path: Path) -> None:
    assert the_profile(tmp_path, f"{HOME}RESOLVE_IP_HTTPS Y\n").allow == bytes([192, 0, 2, 9])
    nobody = HOME.replace("ALLOW_IP 192.0.2.9\n", "")
    assert the_profile(tmp_path, nobody).allow is allow.Whoever.ROUTE
    assert "this machine's address" in notes(imported(tmp_path, nobody))
    assert address_text(bytes([192, 0, 2, 9])) in imported(tmp_path, HOME).text


def test_secrets_that_are_asked_for(tmp_path: Path) -> None:
    text = NO_KEYS
    assert the_profile(tmp_path, text).fwknop is None
    assert "it is asked for" in notes(imported(tmp_path, text))
    warned = imported(tmp_path, f"{text}KEY word\n")
    assert warned.notes[0].is_warning and "no HMAC_KEY" in warned.notes[0].message


def test_a_key_file(tmp_path: Path) -> None:
    keys = written(tmp_path, "# x\n192.0.2.10: wrong\n = 192.0.2.1: right one\n192.0.2.1:  last one\n", "k")
    text = HOME.replace(KEYS, f"KEY_FILE {keys}\nHMAC_KEY d\n")
    profile = the_profile(tmp_path, text)
    assert secret_of(profile).key == b"last one"
    assert made_by_fwknop(asked_of_fwknop(tmp_path, text).stdout, secret_of(profile)).ports == profile.access
    written(tmp_path, "192.0.2.10: wrong\n", "k")
    assert "without a line for the host" in refusals(imported(tmp_path, text))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("SPA_SERVER_PROTO tcp", "over UDP alone"),
        ("SPA_SERVER_PROTO http", "over UDP alone"),
        ("SPA_SOURCE_PORT 53", "the kernel chooses"),
        ("RAND_PORT Y", "to one port"),
        ("SPOOF_SOURCE_IP 10.0.0.1", "own addresses"),
        ("NAT_ACCESS 10.0.0.1,22", "NAT"),
        ("NAT_LOCAL Y", "NAT"),
        ("NAT_PORT 22", "NAT"),
        ("NAT_RAND_PORT Y", "NAT"),
        ("USE_GPG Y", "GnuPG"),
        ("GPG_SIGNING_PW word", "GnuPG"),
        ("HMAC_KEY_FILE /etc/k", "taken for KEY_FILE"),
        ("ENCRYPTION_MODE legacy", "with which fwknop sends nothing"),
        ("KEY __CHANGEME__", "no value yet"),
        ("ACCESS tcp22", "is no port"),
        ("ALLOW_IP myself", "no IPv4 address"),
        ("FW_TIMEOUT 65537", "not between"),
        ("TIME_OFFSET soon", "is no time"),
        ("SPOOF_USER a/b", "no user name"),
        ("RESOLVE_URL ftp://x\nALLOW_IP resolve", "none of the web"),
        ("SPA_SERVR x", "did you mean SPA_SERVER"),
        ("KEY same\nHMAC_KEY same", "the same"),
    ],
)
def test_what_cannot_be_done_is_refused_and_the_others_are_not(tmp_path: Path, line: str, said: str) -> None:
    other = HOME.replace("[home]", "[the other]")
    assert not imported(tmp_path, HOME + other).refusals  # the control
    found = imported(tmp_path, f"{HOME}{line}\n{other}")
    assert said in refusals(found)
    assert list(loaded(found, tmp_path)) == ["the other"]
    assert "# [home] is REFUSED: " in found.text


def test_a_stanza_that_lacks_something(tmp_path: Path) -> None:
    for lacking in ("SPA_SERVER", "ACCESS"):
        text = "".join(line for line in HOME.splitlines(keepends=True) if not line.startswith(lacking + " "))
        assert f"has no {lacking}" in refusals(imported(tmp_path, text))
        assert not imported(tmp_path, text).text
    hmac_alone = HOME.replace(KEYS, "HMAC_KEY a\n")
    assert "HMAC_KEY without KEY" in refusals(imported(tmp_path, hmac_alone))
    no_hmac = HOME.replace(KEYS, "KEY a\nUSE_HMAC Y\n")
    assert "USE_HMAC and KEY without" in refusals(imported(tmp_path, no_hmac))
    assert "has no stanza" in refusals(imported(tmp_path, "SPA_SERVER x\n"))


def test_the_default_is_a_profile_where_it_names_host_and_ports(tmp_path: Path) -> None:
    text = HOME.replace("[home]", "[default]")
    without = text.replace("ACCESS tcp/22\n", "")
    assert "[default]: has no ACCESS" in refusals(imported(tmp_path, without))
    assert list(loaded(imported(tmp_path, f"{without}[a]\nACCESS tcp/1\n"), tmp_path)) == ["a"]
    assert list(loaded(imported(tmp_path, text), tmp_path)) == ["default"]
    assert list(
        loaded(imported(tmp_path, f"{text}[a b]\nSPA_SERVER z\n[a/b]\nFW_TIMEOUT 3\n"), tmp_path)
    ) == [
        "default",
        "a b",
        "a/b",
    ]
    assert sorted(path.name for path in imported(tmp_path, f"{text}[a b]\n[a/b]\n").secrets) == [
        "a_b",
        "a_b-2",
        "default",
    ]


def test_no_secret_leaves_its_file(tmp_path: Path) -> None:
    text = f"{HOME}KEY mickey mouse\nHMAC_KEY donald;duck\n[b]\nKEY_BASE64 dewey!\nlouie louie\n"
    found = imported(tmp_path, text)
    assert "is no base64" in refusals(found) and "passed over" in notes(found)
    for said in (found.text, refusals(found), notes(found), repr(found)):
        for secret in ("mickey", "mouse", "donald", "duck", "dewey", "louie"):
            assert secret not in said


def test_fwknop_knows_every_variable(tmp_path: Path) -> None:
    """A parameter that it does not know ends it; so does a wrong value, of which it tells the same."""
    values = {"ALLOW_IP": "192.0.2.9", "ACCESS": "tcp/22", "DIGEST_TYPE": "md5", "HMAC_DIGEST_TYPE": "md5"}
    values |= {"SPA_SERVER_PROTO": "udp", "ENCRYPTION_MODE": "cbc", "SPOOF_SOURCE_IP": "192.0.2.1"}
    unknown = []
    for name in (*VARIABLES, "NO_VARIABLE"):
        done = asked_of_fwknop(tmp_path, f"{HOME}{name} {values.get(name, '1')}\n")
        if f"var={name}" in done.stdout + done.stderr:
            unknown.append(name)
    assert unknown == ["NO_VARIABLE"]
