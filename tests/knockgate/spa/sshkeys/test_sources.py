"""``from=``: beside the C library's readers, and beside the real sshd, asked by ``Match address``."""

from __future__ import annotations

import ipaddress
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.knockgate.spa.sshkeys.signers import made
from tests.netns import isolated, own_mounts

from knockgate.spa.sshkeys import Sources
from knockgate.spa.sshkeys.sources import _address, _like, _spelled

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
needs_sshd = pytest.mark.skipif(SSHD is None, reason="there is no sshd")


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


ADDRESSES = [
    "10.0.0.1",
    "10.0.1.0",
    "10.255.255.255",
    "192.168.1.1",
    "0.0.0.10",
    "8.8.8.8",
    "2001:db8::1",
    "2001:db8::ab:10",
    "2001:db8:0:1::1",
    "2001:db8:1::",
    "::10.0.0.1",
]

PATTERNS = [
    *ADDRESSES,
    "10.0.0.0/8",
    "10.0/16",
    "10.0.0/24",
    "10.0.0.1/32",
    "0/0",
    "0.0.0.0/0",
    "10.1",
    "012.0.0.1",
    "0xa.0.0.1",
    "167772161",
    "0x0a000001",
    "256.0.0.1",
    "10.0.0.1.",
    "10..1",
    "*",
    "?*",
    "10.*",
    "1?.0.0.1",
    "*.1",
    "*1*0*",
    "10.0.0.?",
    "10.0.0.??",
    "**.*.**.1",
    "!10.0.0.1",
    "*,!10.0.0.1",
    "!10.0.0.1,*",
    "!10.0.0.1,10.0.0.0/8",
    "10.0.0.0/8,!10.0.1.0/24",
    "10.0.0.0/8,!*.1",
    "!*,10.0.0.1",
    "2001:db8::/32",
    "2001:db8::/64",
    "2001:DB8::1",
    "2001:db8:0:0:0:0:0:1",
    "2001:db8::*",
    "2001:db8:*:1",
    "::/0",
    "::10.*",
    "::ffff:10.0.0.1",
    "2001:db8::1%1",
    "10.0.0.0/x",
    "10.0.0.0/",
    "10.0.0.0/08",
    "a.example,10.0.0.1",
    "*.example",
    "10.0.0.1 ",
    "8.8.8.8,10.0.0.1,8.8.4.4",
]

#: sshd denies everybody because of them.
WRONG = [
    "10.0.0.1/8",
    "10/8",
    "10/33",
    "10.0.0.0/129",
    "10.0.0.1,",
    ",10.0.0.1",
    "10.0.0.1,,8.8.8.8",
    "!",
    "10.0.0.1,!",
    "2001:db8::1/64",
    "192.168/16",
    "::/129",
    "10.0.0.0/+8",
    "10.0.0.0/ 8",
]

#: Networks for one sshd, texts that nothing fits for an older one, and wrong for yet another.
LET_PASS = ["10.0.0.0/129", "::/129", "10.0.0.0/+8", "10.0.0.0/ 8"]


def admitted(pattern: str, address: str) -> bool:
    try:
        return Sources(pattern.encode()).admit(packed(address))
    except ValueError:
        return False


def told(folder: Path, patterns: list[str], address: str) -> set[str] | None:
    """Those that sshd finds the address in; None where it does not take them at all."""
    key = folder / "key"
    if not key.exists():
        made(folder, "-t", "ed25519")
    Path("/run/sshd").mkdir(exist_ok=True)
    file = folder / "sshd_config"
    blocks = [f'Match address "{pattern}"\n  AcceptEnv P{at}' for at, pattern in enumerate(patterns)]
    file.write_text("\n".join(["UsePAM no", *blocks, ""]))
    command: list[str | Path] = [
        str(SSHD),
        "-T",
        "-f",
        file,
        "-h",
        key,
        "-C",
        f"user=root,host={address},addr={address}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if "Invalid Match address argument" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    return {patterns[int(at)] for at in re.findall(r"^acceptenv P(\d+)$", done.stdout, re.MULTILINE)}


@needs_sshd
@isolated
def test_the_same_addresses_as_with_sshd(tmp_path: Path) -> None:
    own_mounts()
    for address in ADDRESSES:
        theirs = told(tmp_path, PATTERNS, address)
        assert theirs and 5 < len(theirs) < len(PATTERNS) - 5
        assert {each for each in PATTERNS if admitted(each, address)} == theirs, address


@needs_sshd
@isolated
def test_what_is_wrong_for_sshd_is_wrong_here(tmp_path: Path) -> None:
    own_mounts()
    for pattern in WRONG:
        with pytest.raises(ValueError, match=r"entry|network"):
            Sources(pattern.encode())
        if pattern not in LET_PASS:
            assert told(tmp_path, [pattern], "10.0.0.1") is None, pattern
    assert told(tmp_path, ["10.0.0.0/8"], "10.0.0.1") == {"10.0.0.0/8"}


@pytest.mark.parametrize(
    ("pattern", "network", "whole"),
    [
        ("2001:db8::/32", "2001:db8:0:1::/64", True),
        ("2001:db8:0:1::/64", "2001:db8:0:1::/64", True),
        ("2001:db8:0:1::/65", "2001:db8:0:1::/64", False),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64", False),
        ("2001:db8:0:1:*", "2001:db8:0:1::/64", False),
        ("*", "2001:db8:0:1::/64", True),
        ("*,!2001:db8:0:1::1", "2001:db8:0:1::/64", False),
        ("*,!2001:db8:0:2::/64", "2001:db8:0:1::/64", True),
        ("*,!2001:db8:*", "2001:db8:0:1::/64", False),
        ("10.0.0.0/8", "2001:db8:0:1::/64", False),
        ("*,!10.0.0.0/8", "2001:db8:0:1::/64", True),
    ],
)
def test_a_network_is_let_in_whole_or_not_at_all(pattern: str, network: str, *, whole: bool) -> None:
    known = ipaddress.ip_network(network)
    assert Sources(pattern.encode()).admit_all(known.network_address.packed, known.prefixlen) == whole


@given(st.integers(0, 2**128 - 1), st.sampled_from(PATTERNS))
def test_what_is_let_in_whole_is_let_in_each(number: int, pattern: str) -> None:
    sources = Sources(pattern.encode())
    address = number.to_bytes(16, "big")
    for base in (address, packed("2001:db8::")[:8] + address[8:]):
        if sources.admit_all(base[:8] + bytes(8), 64):
            assert sources.admit(base)


def test_capitals_are_the_same_as_small_letters() -> None:
    """In ``from``; ``Match address``, which is asked above, tells them apart."""
    assert admitted("2001:DB8::AB:*", "2001:db8::ab:10")
    assert not admitted("*,!2001:DB8::AB:*", "2001:db8::ab:10")
    assert not admitted("2001:DB8::AC:*", "2001:db8::ab:10")


def test_a_long_word_is_no_network() -> None:
    """sshd reads 63 characters; more are a text."""
    assert admitted("10.0.0.0/" + "0" * 53 + "8", "10.0.0.1")
    assert not admitted("10.0.0.0/" + "0" * 54 + "8", "10.0.0.1")
    assert admitted("10.0.0.0/" + "0" * 54 + "8,10.*", "10.0.0.1")


def test_a_pattern_that_sshd_has_no_room_for() -> None:
    assert admitted("10.0.0.1," + "x" * 1022, "10.0.0.1")
    assert not admitted("10.0.0.1," + "x" * 1023, "10.0.0.1")


def test_many_stars_take_no_time() -> None:
    assert not _like(b"1" * 40, b"*1" * 500 + b"2")
    assert _like(b"1" * 40, b"*1" * 40)


@given(st.text("12.*?", max_size=12), st.text("12.", max_size=8))
def test_stars(pattern: str, text: str) -> None:
    form = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    assert _like(text.encode(), pattern.encode()) == bool(re.fullmatch(form, text))


@given(st.text("0123789xXafF.:", max_size=16))
@example("1.2.65535")
@example("1.2.65536")
@example("0x7f.1")
@example("4294967296")
@example("0X1")
@example("08")
@example("0x")
def test_numbers_are_read_as_the_c_library_does(text: str) -> None:
    assert _address(text.encode()) == _of_the_library(text)


@given(st.ip_addresses(), st.booleans())
def test_addresses_are_read_and_spelled_as_the_c_library_does(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, low: bool
) -> None:
    octets = address.packed
    if low and len(octets) == 16:
        octets = bytes(12) + octets[12:]
    assume(address.version == 4 or not address.ipv4_mapped)  # sshd, and a knock, have IPv4 for those
    family = socket.AF_INET if len(octets) == 4 else socket.AF_INET6
    spelled = socket.inet_ntop(family, octets)
    assert _spelled(octets).decode() == spelled
    assert _address(spelled.encode()) == octets


def _of_the_library(text: str) -> bytes | None:
    if not text:
        return None
    try:
        ((family, *_, place), *_) = socket.getaddrinfo(
            text.encode(), None, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        return None
    return socket.inet_pton(family, str(place[0]))
