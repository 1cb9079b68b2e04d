"""profiles.toml, and the spellings of a step."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.spa.sealed_messages import head

from knockgate.client import allow, profiles, spellings
from knockgate.client.allow import Whoever
from knockgate.client.profiles import PacketProfile, SealedProfile, SequenceProfile
from knockgate.config.toml import Wrong
from knockgate.errors import ConfigError
from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import Hash, Mode


@pytest.mark.parametrize(
    ("word", "port"),
    [
        ("7000", Port(Protocol.TCP, 7000)),
        (7000, Port(Protocol.TCP, 7000)),
        ("tcp/7000", Port(Protocol.TCP, 7000)),
        ("7000/tcp", Port(Protocol.TCP, 7000)),
        ("7000:tcp", Port(Protocol.TCP, 7000)),
        ("udp/8000", Port(Protocol.UDP, 8000)),
        ("8000/udp", Port(Protocol.UDP, 8000)),
        (" 8000:UDP ", Port(Protocol.UDP, 8000)),
    ],
)
def test_a_step_is_read_in_every_spelling(word: object, port: Port) -> None:
    assert spellings.step.read(word) == port
    assert spellings.step.read(str(port)) == port


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("", "'' is no step", "write 7000"),
        ("0", "'0': a port is a number from 1 to 65535", None),
        ("65536", "'65536': a port is a number from 1 to 65535", None),
        ("200000", "'200000': a port is a number from 1 to 65535", None),
        ("7" * 5000, "... is no step", "write 7000"),
        ("-5", "'-5' is no step", "write 7000"),
        ("sctp/7000", "'sctp/7000' is no step", "write 7000"),
        ("tcp/7000/tcp", "'tcp/7000/tcp' is no step", "write 7000"),
        ("7000,8000", "'7000,8000' is no step", "separate words: 7000 8000"),
        ("7000\n", None, None),
        ("\u0667000", "'\u0667000' is no step", "write 7000"),
        (True, "true is no step", "write 7000"),
        (70.5, "70.5 is no step", "write 7000"),
    ],
)
def test_what_is_no_step_is_refused(word: object, message: str | None, hint: str | None) -> None:
    if message is None:
        assert spellings.step.read(word) == Port(Protocol.TCP, 7000)
        return
    with pytest.raises(Wrong) as caught:
        spellings.step.read(word)
    assert caught.value.message.endswith(message)
    assert (hint or "") in (caught.value.hint or "")


def test_a_profile_is_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "profiles.toml"
    file.write_text(
        """
        [profiles.home]
        host = "home.example"
        steps = [7000, "udp/8000", "9000:tcp"]
        wait = 22
        timeout = "2s"
        delay = "100ms"
        family = 6
        source = "2001:db8::7"
        [profiles."the office"]
        host = "192.0.2.7"
        steps = ["tcp/1"]
        """
    )
    found = profiles.load(file)
    assert list(found) == ["home", "the office"]
    home, office = found.values()
    assert isinstance(home, SequenceProfile) and isinstance(office, SequenceProfile)
    assert [str(step) for step in home.steps] == ["tcp/7000", "udp/8000", "tcp/9000"]
    assert (str(home.wait), home.timeout, home.delay) == ("tcp/22", 2.0, 0.1)
    assert (home.family, home.source) == (socket.AF_INET6, "2001:db8::7")
    assert (office.wait, office.family, office.source, office.delay) == (None, 0, None, 0.05)


def test_a_profile_with_secrets_knocks_with_a_packet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jo")
    file = tmp_path / "profiles.toml"
    file.write_text(
        """
        [profiles.all]
        host = "home.example"
        fwknop = "~/home.secrets"
        access = ["tcp/22", "udp/53", 443]
        allow = "https://ip.example/"
        port = 7000
        lease = "1h"
        hmac = "SHA512"
        digest = "sha3_256"
        mode = "legacy"
        username = "jo"
        offset = "-90s"
        wait = "22"
        [profiles.least]
        host = "home.example"
        fwknop = ""
        access = ["tcp/22"]
        """
    )
    full, least = profiles.load(file).values()
    assert isinstance(full, PacketProfile) and isinstance(least, PacketProfile)
    assert full.fwknop == Path("/home/jo/home.secrets")
    assert [str(port) for port in (*full.access, full.port)] == ["tcp/22", "udp/53", "tcp/443", "udp/7000"]
    assert (full.allow, full.lease, full.offset) == ("https://ip.example/", 3600, -90)
    assert (full.hmac, full.digest, full.mode) == (Hash.SHA512, Hash.SHA3_256, Mode.LEGACY)
    assert (full.username, str(full.wait)) == ("jo", "tcp/22")
    assert (least.fwknop, str(least.port), least.lease) == (None, "udp/62201", None)
    assert (least.allow, least.hmac, least.mode) == (Whoever.ROUTE, Hash.SHA256, Mode.CBC)


@pytest.mark.parametrize(
    ("word", "allowed"),
    [
        ("route", Whoever.ROUTE),
        ("observed", Whoever.OBSERVED),
        ("0.0.0.0", Whoever.OBSERVED),
        ("::", Whoever.OBSERVED),
        ("192.0.2.7", bytes([192, 0, 2, 7])),
        ("[2001:db8::7]", bytes.fromhex("20010db8000000000000000000000007")),
        ("::ffff:192.0.2.7", bytes([192, 0, 2, 7])),
        ("https://ip.example", "https://ip.example"),
        ("http://[::1]:80/x?y", "http://[::1]:80/x?y"),
    ],
)
def test_who_is_let_in_is_an_address_or_the_way_to_one(word: str, allowed: object) -> None:
    assert allow.allowed.read(word) == allowed


@pytest.mark.parametrize(
    ("line", "place", "message", "hint"),
    [
        ('steps = ["1"]', ".fwknop", "there are steps too", "one or the other"),
        ("delay = 1", ".delay", "unknown key", "known here"),
        ('fwknop = "home.secrets"', ".fwknop", "'home.secrets' is no path from / or ~/", "~/.config"),
        ("fwknop = 3", ".fwknop", "must be a text", "The file with the secrets"),
        ("access = []", ".access", "must be a list of ports", "for example"),
        ('access = ["icmp/1"]', ".access", "'icmp/1' is no port", "write"),
        ('allow = "somebody"', ".allow", "'somebody' is nobody to be let in", "an address"),
        ('allow = "ftp://a/"', ".allow", "is no URL of the web", "https://"),
        ('allow = "https://a b/"', ".allow", "the URL has a blank", "https://"),
        ('allow = "https://a:b/"', ".allow", "is no URL", "https://"),
        ('allow = "http://ip.example/"', ".allow", "a URL without TLS", "resolve_http = true"),
        ('allow = "Http://ip.example/"', ".allow", "a URL without TLS", "resolve_http = true"),
        ('port = "tcp/62201"', ".port", "tcp/62201 is no UDP port", "UDP alone"),
        ('lease = "500ms"', ".lease", "is not between 1s and 65536s", "lease: Ask for this long"),
        ('lease = "1500ms"', ".lease", "no time in whole seconds", "no room"),
        ('username = "jo:"', ".username", "'jo:' is no user name", "at most 48"),
        ('offset = "--5s"', ".offset", "'-5s' is no time", "write"),
        ('mode = "gpg"', ".mode", "'gpg' is none of these", "legacy"),
    ],
)
def test_a_mistake_about_a_packet_is_told_with_its_line_and_key(
    tmp_path: Path, line: str, place: str, message: str, hint: str
) -> None:
    right = ['host = "home.example"', 'fwknop = ""', 'access = ["tcp/22"]']
    is_told(tmp_path / "profiles.toml", right, line, (place, message, hint))


def is_told(file: Path, right: list[str], line: str, what: tuple[str, str, str]) -> None:
    """``line`` in a profile that is ``right`` without it, or instead of that key's line."""
    place, message, hint = what
    by_key = {each.split(maxsplit=1)[0]: each for each in [*right, line]}
    file.write_text("\n".join(["[profiles.home]", *by_key.values()]))
    with pytest.raises(ConfigError) as caught:
        profiles.load(file)
    assert caught.value.key == f"profiles.home{place}"
    assert caught.value.line is not None
    assert file.read_text().splitlines()[caught.value.line - 1].startswith(place[1:])
    assert message in caught.value.message and hint in (caught.value.hint or "")
    file.write_text("\n".join(["[profiles.home]", *right]))
    assert list(profiles.load(file)) == ["home"]


def test_a_url_without_tls_has_to_be_wanted_and_a_profile_needs_something_to_knock_with(
    tmp_path: Path,
) -> None:
    file = tmp_path / "profiles.toml"
    lines = (
        '[profiles.home]\nhost = "a"\nfwknop = ""\naccess = [22]\nallow = "http://a/"\nresolve_http = true\n'
    )
    file.write_text(lines)
    found = profiles.load(file)["home"]
    assert isinstance(found, PacketProfile) and found.allow == "http://a/"
    file.write_text(lines.replace('fwknop = ""\n', ""))
    with pytest.raises(ConfigError, match="there is nothing to knock with") as caught:
        profiles.load(file)
    assert (caught.value.key, caught.value.line) == ("profiles.home", 1)
    file.write_text(lines.replace("fwknop =", "fwknp ="))
    with pytest.raises(ConfigError, match="unknown key") as caught:
        profiles.load(file)
    assert caught.value.hint == "did you mean fwknop?"


@pytest.mark.parametrize(
    ("line", "place", "message", "hint"),
    [
        ('stepps = ["1"]', "profiles.home.stepps", "unknown key", "did you mean steps?"),
        ("steps = []", "profiles.home.steps", "must be a list of steps", "for example"),
        ('steps = ["x"]', "profiles.home.steps", "'x' is no step", "write 7000"),
        ('wait = "udp/53"', "profiles.home.wait", "cannot wait for udp/53", "TCP port of the same door"),
        ("family = 5", "profiles.home.family", "5 is no address family", "4 or 6"),
        ("family = [4]", "profiles.home.family", "[4] is no address family", "4 or 6"),
        ('host = " "', "profiles.home.host", "the host is empty", "a name or an address"),
        ('delay = "soon"', "profiles.home.delay", "'soon' is no time", "write"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_key(
    tmp_path: Path, line: str, place: str, message: str, hint: str
) -> None:
    file = tmp_path / "profiles.toml"
    needed = {"host": 'host = "home.example"', "steps": "steps = [7000]"} | {line.split(maxsplit=1)[0]: line}
    file.write_text("\n".join(["# mine", "[profiles.home]", line, *(set(needed.values()) - {line})]))
    with pytest.raises(ConfigError) as caught:
        profiles.load(file)
    assert (caught.value.file, caught.value.line, caught.value.key) == (str(file), 3, place)
    assert message in caught.value.message and hint in (caught.value.hint or "")


def test_a_file_that_is_not_there_has_no_profiles_and_one_that_cannot_be_read_is_an_error(
    tmp_path: Path,
) -> None:
    assert profiles.load(tmp_path / "none" / "profiles.toml") == {}
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        profiles.load(tmp_path)
    assert "--config" not in (caught.value.hint or "--config")  # no option of `knock`
    (tmp_path / "profiles.toml").write_text("profiles = 3")
    with pytest.raises(ConfigError, match="must be a table"):
        profiles.load(tmp_path / "profiles.toml")


def test_the_file_is_where_the_home_or_xdg_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jo")
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    assert str(profiles.default_path()) == "/home/jo/.config/knockgate/profiles.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert str(profiles.default_path()) == "/home/jo/.config/knockgate/profiles.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/elsewhere")
    assert str(profiles.default_path()) == "/elsewhere/knockgate/profiles.toml"


# --- sealed knocks ------------------------------------------------------------------------------------


def test_a_profile_with_a_card_knocks_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jo")
    file = tmp_path / "profiles.toml"
    file.write_text(
        """
        [profiles.all]
        host = "cabin.example"
        card = "~/.config/knockgate/cards/cabin"
        doors = ["web", "ssh", "ssh"]
        port = 7000
        allow = "2001:db8:1:2::/64"
        lease = "20h"
        identity = "~/.ssh/id_ed25519"
        small = true
        wait = 22
        family = 6
        [profiles.least]
        host = "cabin.example"
        card = "/card"
        doors = ["ssh"]
        """
    )
    full, least = profiles.load(file).values()
    assert isinstance(full, SealedProfile) and isinstance(least, SealedProfile)
    assert (full.card, full.identity) == (
        Path("/home/jo/.config/knockgate/cards/cabin"),
        Path("/home/jo/.ssh/id_ed25519"),
    )
    assert (full.doors, str(full.port), str(full.wait)) == (("ssh", "web"), "udp/7000", "tcp/22")
    assert full.allow == ipaddress.ip_network("2001:db8:1:2::/64")
    assert (full.lease, full.small, full.family) == (72000, True, socket.AF_INET6)
    assert (least.card, str(least.port), least.allow) == (Path("/card"), "udp/62202", Whoever.ROUTE)
    assert (least.lease, least.identity, least.small, least.wait) == (None, None, False, None)


@pytest.mark.parametrize(
    ("line", "place", "message", "hint"),
    [
        ('steps = ["1"]', ".card", "there are steps too", "one or the other"),
        ('fwknop = ""', ".card", "there is fwknop too", "one or the other"),
        ('access = ["tcp/22"]', ".access", "unknown key", "known here"),
        ('card = "home"', ".card", "'home' is no path from / or ~/", "cards/home"),
        ("doors = []", ".doors", "must be a list of doors", "for example"),
        ('doors = "ssh"', ".doors", "must be a list of doors", "for example"),
        ('doors = ["SSH"]', ".doors", "'SSH' is no door that a sealed knock can ask for", "from a to z"),
        ('doors = ["ssh,web"]', ".doors", "'ssh,web' is no door", "from a to z"),
        (f'doors = ["{"s" * 33}"]', ".doors", "is no door", "at most 32"),
        (f'doors = ["{"s" * 16}", "{"t" * 16}"]', ".doors", "does not fit into a knock", "32 characters"),
        ('allow = "2001:db8::/32"', ".allow", "'2001:db8::/32' is no /64 of IPv6", "/64"),
        (
            'allow = "192.0.2.0/24"',
            ".allow",
            "'192.0.2.0/24' is a network of IPv4, and a knock",
            "one address",
        ),
        ('allow = "2001:db8::1/64"', ".allow", "is nobody to be let in", "a /64"),
        ('allow = "http://ip.example/"', ".allow", "a URL without TLS", "resolve_http = true"),
        ('port = "tcp/62202"', ".port", "is no UDP port", "UDP alone"),
        ('lease = "1500ms"', ".lease", "no time in whole seconds", "no room"),
        ('identity = "id_ed25519"', ".identity", "is no path from / or ~/", "~/.ssh/id_ed25519"),
        ('small = "yes"', ".small", "must be true or false", "without quotes"),
        ('smal = "yes"', ".smal", "unknown key", "did you mean small?"),
    ],
)
def test_a_mistake_about_a_sealed_knock_is_told_with_its_line_and_key(
    tmp_path: Path, line: str, place: str, message: str, hint: str
) -> None:
    right = ['host = "home.example"', 'card = "/card"', 'doors = ["ssh"]']
    is_told(tmp_path / "profiles.toml", right, line, (place, message, hint))


@given(
    st.lists(st.text("az09-,A\u00e9\n", max_size=18) | st.text("ab", min_size=14, max_size=34), max_size=3)
)
def test_doors_are_read_as_the_knock_takes_them(names: list[str]) -> None:
    """The reader has the rule once more, because the codec's own loads a library."""
    try:
        found = spellings.sealed_doors.read(names)
    except Wrong:
        stripped = sorted({name.strip() for name in names})
        if all(re.fullmatch("[^,]+", name) for name in stripped):
            with pytest.raises(ValueError, match=r"asked for|sorted"):
                head(doors=tuple(stripped))
        return
    assert head(doors=found).doors == found
