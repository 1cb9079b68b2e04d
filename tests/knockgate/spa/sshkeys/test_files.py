"""Lines of authorized_keys: what is taken, what is refused and why, and that nothing else comes out."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.knockgate.spa.sshkeys.signers import signer, text

from knockgate.errors import ConfigError
from knockgate.spa.sshkeys import Authorized, BadKey, Flaw, Kind, Options, Sources, read

ONE = text(signer(Kind.ED25519).public)
RSA = b"ssh-rsa " + base64.b64encode(b"\0\0\0\7ssh-rsa" + b"\0\0\0\1\3" + b"\0\0\0\1\5")


def only(line: bytes, *, ours: bool = False) -> Authorized:
    """The one key of the line."""
    listing = read(line, ours=ours, local=time.mktime)
    assert not listing.flaws, listing.flaws
    (found,) = listing.keys
    return found


def flaw(line: bytes, *, ours: bool = False) -> BadKey:
    """What is wrong with it; a right line before and behind it is taken."""
    listing = read(ONE + b"\n" + line + b"\n" + ONE, ours=ours, local=time.mktime)
    assert [each.line for each in listing.keys] == [1, 3]
    (found,) = listing.flaws
    assert found.line == 2
    assert found.hint
    return found


@pytest.mark.parametrize("kind", Kind)
def test_a_line_of_each_kind(kind: Kind) -> None:
    key = signer(kind).public
    assert only(text(key) + b" who@where  else ") == Authorized(key, Options(), "who@where  else", 1)


def test_what_is_between_the_lines() -> None:
    octets = b"\n".join(
        [b"# a comment", b"", b" \t", b"\t # another", ONE + b" a", b"\r", b"  " + ONE + b"\tb\r", b""]
    )
    listing = read(octets, ours=False, local=time.mktime)
    assert [(each.line, each.comment) for each in listing.keys] == [(5, "a"), (7, "b")]
    assert listing.flaws == ()


def test_a_comment_may_be_anything() -> None:
    assert only(ONE + b" \xff\x1b[31m " + "ü".encode()).comment == "\\xff\x1b[31m ü"
    assert only(ONE + b' "').comment == '"'
    assert only(ONE).comment == ""


@pytest.mark.parametrize(
    ("written", "options"),
    [
        ("restrict,pty", Options()),
        ("No-Touch-Required", Options(touch=False)),
        ("no-touch-required,touch-required", Options()),
        ("verify-required", Options(verification=True)),
        ("verify-required,no-verify-required", Options()),
        (",,no-pty,", Options()),
        ('command="echo \\"a b\\" # \\\\\\" \\x"', Options()),
        ('FROM="10.*,!10.1.*"', Options(sources=Sources(b"10.*,!10.1.*"))),
        ('expiry-time="20300102Z"', Options(expires=1893542400)),
        ('expiry-time="203001020304utc"', Options(expires=1893553440)),
        ('expiry-time="20300102030405Z"', Options(expires=1893553445)),
        ('expiry-time="20300102030461Z"', Options(expires=1893553501)),  # leap seconds
        ('expiry-time="20300231Z"', Options(expires=1898726400)),  # 3 March
        ('expiry-time="20310102Z",expiry-time="20300102Z"', Options(expires=1893542400)),
        ('expiry-time="20300102Z",expiry-time="20310102Z"', Options(expires=1893542400)),
        ('environment="A_1=b c",environment="A_1=d"', Options()),
        ('permitopen="[::1]:22",permitopen="a.b:*",permitopen="a/80"', Options()),
        ('permitlisten="8080",permitlisten="localhost:+0080",permitlisten="*"', Options()),
        (f'permitopen="{"a" * 1024}:1"', Options()),
        ('tunnel="0",tunnel="ANY"', Options()),
    ],
)
def test_options(written: str, options: Options) -> None:
    assert only(written.encode() + b" \t" + ONE + b" x") == Authorized(
        signer(Kind.ED25519).public, options, "x", 1
    )


@pytest.mark.parametrize(
    ("written", "reason", "name"),
    [
        ("unknown", Flaw.UNKNOWN_OPTION, "unknown"),
        ("restricted", Flaw.UNKNOWN_OPTION, "restricted"),
        ("no-restrict", Flaw.UNKNOWN_OPTION, "no-restrict"),
        ("no-cert-authority", Flaw.UNKNOWN_OPTION, "no-cert-authority"),
        ("no-pty;pty", Flaw.UNKNOWN_OPTION, ";pty"),
        ('unknown="x"', Flaw.UNKNOWN_OPTION, "unknown"),
        ('pty="x"', Flaw.UNKNOWN_OPTION, "pty"),
        ('command="x"pty', Flaw.UNKNOWN_OPTION, "pty"),
        ("command", Flaw.UNKNOWN_OPTION, "command"),
        ("command=x", Flaw.BAD_OPTION, "command"),
        ('command="a",command="a"', Flaw.TWICE, "command"),
        ('from="10.0.0.1",from="10.0.0.1"', Flaw.TWICE, "from"),
        ('from="10.0.0.1/8"', Flaw.BAD_OPTION, "from"),
        ('from=""', Flaw.BAD_OPTION, "from"),
        ('principals="a"', Flaw.PRINCIPALS, None),
        *((f'expiry-time="{each}"', Flaw.BAD_OPTION, "expiry-time") for each in (
            "", "2030", "2030010", "203001020", "20301301Z", "20300132Z", "20300100Z", "2030010224",
            "203001022400Z", "203001020060Z", "20300102030462Z",
            "19691231Z", "00000101Z", "00000101", "19700101Z", "20300102 Z", "20300102ZZ", "٢٠٣٠٠١٠٢",
            "Z", "UTC",
        )),
        ('environment="=x"', Flaw.BAD_OPTION, "environment"),
        ('environment="A"', Flaw.BAD_OPTION, "environment"),
        ('environment="A-B=x"', Flaw.BAD_OPTION, "environment"),
        *((f'permitopen="{each}"', Flaw.BAD_OPTION, "permitopen") for each in (
            "", "80", "a:", "a:0", "a:65536", "a:-1", "[::1:22", "[::1]22", "a:80:90", "a:ssh",
            "a" * 1025 + ":1",
        )),
        *((f'permitlisten="{each}"', Flaw.BAD_OPTION, "permitlisten") for each in ("", "0", "a:", "ssh")),
        *((f'tunnel="{each}"', Flaw.BAD_OPTION, "tunnel") for each in (
            "", "-1", "2147483646", "0:1", "tun0",
        )),
    ],
)  # fmt: skip
def test_options_that_sshd_refuses(written: str, reason: Flaw, name: str | None) -> None:
    found = flaw(written.encode() + b" " + ONE)
    assert (found.flaw, found.key) == (reason, name)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (RSA, Flaw.RSA),
        (b"ssh-dss AAAA", Flaw.OTHER_KIND),
        (b"ssh-ed25519-cert-v01@openssh.com AAAA", Flaw.CERTIFICATE),
        (b"restrict " + RSA, Flaw.RSA),
        (b"ssh-ed25519", Flaw.NOT_A_KEY),
        (b"ssh-ed25519 AAAA?", Flaw.NOT_BASE64),
        (b"ssh-ed25519 AAAA", Flaw.NOT_A_KEY),
        (ONE[:-4], Flaw.NOT_A_KEY),
        (ONE.replace(b" ", b"", 1), Flaw.NO_KEY),
        (b"restrict", Flaw.NO_KEY),
        (b"restrict  ", Flaw.NO_KEY),
        (b"some words of mine", Flaw.NO_KEY),
        (b"\r" + ONE, Flaw.NO_KEY),
        (b'command="a b ' + ONE, Flaw.QUOTES),
        (b'command="a\\" ' + ONE, Flaw.QUOTES),
        (b'" ' + ONE, Flaw.QUOTES),
        (b'a\\" ' + ONE, Flaw.UNKNOWN_OPTION),
        (ONE + b" \0", Flaw.ZERO_BYTE),
        (b"," * 1024 + b" " + ONE, Flaw.TOO_MANY),
    ],
)
def test_lines_that_have_no_key_for_a_knock(line: bytes, reason: Flaw) -> None:
    assert flaw(line).flaw is reason
    only(b"," * 1023 + b" " + ONE)


def test_an_option_in_the_message_is_short_and_printable() -> None:
    found = flaw(b"\x1b[31m" + b"x" * 500 + b" " + ONE)
    assert found.key is not None and found.key.isprintable() and len(found.key) < 60


def test_authorities_are_passed_over() -> None:
    octets = b'cert-authority,principals="a" ' + ONE + b"\ncert-authority " + RSA + b"\n" + ONE
    listing = read(octets, ours=False, local=time.mktime)
    assert [each.line for each in listing.keys] == [3]
    assert (listing.authorities, listing.flaws) == (2, ())
    assert flaw(b"cert-authority,unknown " + ONE).flaw is Flaw.UNKNOWN_OPTION


@pytest.mark.parametrize(
    ("written", "options"),
    [
        ('doors="ssh"', Options(doors=("ssh",))),
        ('doors="web,ssh,web-2",no-pty', Options(doors=("ssh", "web", "web-2"))),
        ('max-lease="10m"', Options(longest=600)),
        ('max-lease="1h30m5s"', Options(longest=5405)),
        ('max-lease="90"', Options(longest=90)),
    ],
)
def test_options_of_ours(written: str, options: Options) -> None:
    line = written.encode() + b" " + ONE
    assert only(line, ours=True).options == options
    found = flaw(line)
    assert found.flaw is Flaw.OURS
    assert "nobody logs in with it" in (found.hint or "")


@pytest.mark.parametrize(
    "written",
    [
        *(f'doors="{each}"' for each in ("", "Ssh", "1", "ssh,", ",ssh", "ssh, web", "ssh,,web", "-")),
        *(
            f'max-lease="{each}"'
            for each in ("", "0", "0s", "-1", "1d", "1.5h", "s", "10m ", "30m1h", "99999999")
        ),
    ],
)
def test_options_of_ours_that_are_wrong(written: str) -> None:
    assert flaw(written.encode() + b" " + ONE, ours=True).flaw is Flaw.BAD_OPTION


def test_ours_may_stand_there_once() -> None:
    assert flaw(b'doors="a",doors="b" ' + ONE, ours=True).flaw is Flaw.TWICE


def test_a_time_without_z_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """And without summer time, as in sshd."""
    line = b'expiry-time="20300702" ' + ONE
    try:
        for zone, east in [("UTC", 0), ("XXX-5", 5), ("EST5EDT,M3.2.0,M11.1.0", -5)]:
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert only(line).options.expires == 1909180800 - east * 3600
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_machine_that_cannot_tell_the_time() -> None:
    def never(_: object) -> float:
        raise OverflowError

    assert read(b'expiry-time="20300702" ' + ONE, ours=False, local=never).flaws[0].flaw is Flaw.BAD_OPTION
    assert read(b'expiry-time="20300702Z" ' + ONE, ours=False, local=never).flaws == ()


def test_a_key_may_be_there_twice() -> None:
    octets = b'from="10.0.0.1" ' + ONE + b"\n" + ONE
    assert [each.line for each in read(octets, ours=False, local=time.mktime).keys] == [1, 2]


def test_files_have_bounds() -> None:
    def lines(octets: bytes) -> int:
        return len(read(octets, ours=False, local=time.mktime).keys)

    assert lines(b"\n" * 4095 + ONE + b"\n") == 1
    with pytest.raises(ConfigError, match="4096 lines"):
        lines(b"\n" * 4096 + ONE)
    fill = b"#" * (256 * 1024 - len(ONE) - 1)
    assert lines(fill + b"\n" + ONE) == 1
    with pytest.raises(ConfigError, match="256 KiB"):
        lines(fill + b"\n" + ONE + b"\n")


def test_a_full_file_takes_no_time() -> None:
    """What a hostile user can make somebody with rights read."""
    worst = [
        (b'command="' + b'\\"' * 31 + b" \n") * 3000,
        b'a="' * 87000,
        b'\\"' * 131000,
        b'"" ' * 87000,
        b'from="' + b"*1" * 500 + b'" ' + ONE,
        b"," * 262000,
    ]
    began = time.process_time()
    for octets in worst:
        read(octets, ours=False, local=time.mktime)
    assert time.process_time() - began < 2


PIECES = [
    b" ", b"\t", b"\n", b"\r", b'"', b"\\", b"\\\"", b",", b"=", b"#", b"\0", b"!", b"/", b"\xff",
    b"restrict", b"no-", b"pty", b"touch-required", b"cert-authority", b"command=", b"from=", b"expiry-time=",
    b"doors=", b"max-lease=", b"permitopen=", b"permitlisten=", b"tunnel=", b"environment=", b"principals=",
    b"20300101", b"Z", b"10.0.0.0/8", b"*", b"ssh", b"10m", b"A=b", b"ssh-ed25519", ONE, RSA,
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=12), st.booleans())
def test_any_file_is_keys_and_flaws(pieces: list[bytes], ours: bool) -> None:
    octets = b"".join(pieces)
    listing = read(octets, ours=ours, local=time.mktime)
    lines = [each.line for each in listing.keys] + [each.line for each in listing.flaws]
    assert len(lines) == len(set(lines)) and set(lines) <= set(range(1, octets.count(b"\n") + 2))
    for each in listing.keys:
        assert each.key == signer(Kind.ED25519).public
        assert ours or (each.options.doors, each.options.longest) == (None, None)


@given(st.integers(0, len(ONE) - 1), st.integers(0, 255))
@example(37, 70)
def test_one_byte_of_a_line_changed_is_no_other_key(at: int, byte: int) -> None:
    """Unless what was changed is the point: of each two numbers one is a point's."""
    line = ONE[:at] + bytes([byte]) + ONE[at + 1 :]
    for each in read(line, ours=False, local=time.mktime).keys:
        # The 38th character has the last two bits of the point's length, and the first four of the point.
        assert at >= 37 or (byte == ONE[at] or byte in b" \t\r\v\f#")
        assert text(each.key)[:37] == ONE[:37]
