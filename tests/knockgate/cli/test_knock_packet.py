"""``knockgate knock`` with a packet: what is in it, where its secrets come from, what is told."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import subprocess
import time
from pathlib import Path

import pytest
from tests.knockgate.cli.process import command, environment, knockgate, process
from tests.knockgate.client.wire import Opening, wire
from tests.netns import isolated, run, up, veth

from knockgate.cli import main
from knockgate.model import address_text
from knockgate.spa.fwknop import Hash, Message, MessageType, Mode, Secret, unseal

KEY, HMAC_KEY = bytes(range(32)), bytes(range(64))
SECRET = Secret(KEY, HMAC_KEY)
KEY64, HMAC64 = (base64.b64encode(each).decode() for each in (KEY, HMAC_KEY))
LINES = f"KEY_BASE64: {KEY64}\nHMAC_KEY_BASE64: {HMAC64}\n"


@pytest.fixture
def secrets(tmp_path: Path) -> str:
    file = tmp_path / "home.secrets"
    file.write_text(LINES)
    file.chmod(0o600)
    return str(file)


def _asking(secrets: str, *words: str, host: str = "127.0.0.1") -> list[str]:
    return ["knock", host, "--fwknop", "--secrets", secrets, "-A", "tcp/22", *words]


def _sent(*words: str, interface: str = "lo") -> Opening:
    """The one packet that a command puts on the wire."""
    with wire(interface) as seen:
        done = knockgate(*words)
        assert done.returncode == 0, done.stderr
        (opening,) = seen.openings()
    return opening


def _now() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)


# --- what is in it ------------------------------------------------------------------------------------


@isolated
def test_a_packet_has_what_was_asked_for(secrets: str) -> None:
    before = int(_now())
    plain = _sent(*_asking(secrets, "-U", "jo"))
    assert (str(plain.step), plain.source, plain.target) == ("udp/62201", "127.0.0.1", "127.0.0.1")
    message = unseal(plain.payload, SECRET).message
    assert before <= message.issued <= _now()
    expected = Message(
        nonce=message.nonce,
        username="jo",
        issued=message.issued,
        type=MessageType.ACCESS,
        address=bytes([127, 0, 0, 1]),
        ports=message.ports,
    )
    assert message == expected and [str(port) for port in message.ports] == ["tcp/22"]
    again = unseal(_sent(*_asking(secrets, "-U", "jo")).payload, SECRET).message
    assert again.nonce != message.nonce  # the same question twice is not the same packet

    words = ["-A", "tcp/22,udp/53,443", "-a", "192.0.2.7", "-f", "1h", "-p", "7000", "-m", "SHA3_512"]
    much = _sent(*_asking(secrets, *words, "--hmac-digest-type", "sha512", "-M", "ctr", "-P", "udp"))
    assert str(much.step) == "udp/7000"
    message = unseal(much.payload, Secret(KEY, HMAC_KEY, Hash.SHA512, Mode.CTR)).message
    assert (message.type, message.timeout) == (MessageType.CLIENT_TIMEOUT_ACCESS, 3600)
    assert [str(port) for port in message.ports] == ["tcp/22", "udp/53", "tcp/443"]
    assert address_text(message.address) == "192.0.2.7"


@isolated
def test_whom_it_lets_in(secrets: str) -> None:
    up("lo", "127.0.0.9/8", "fd09::1/128")
    for words, host, address in (
        ([], "127.0.0.1", "127.0.0.1"),
        ([], "fd09::1", "fd09::1"),
        (["--source", "127.0.0.9"], "127.0.0.1", "127.0.0.9"),
        (["-s"], "127.0.0.1", "0.0.0.0"),
        (["-s"], "fd09::1", "0.0.0.0"),
        (["-a", "0.0.0.0"], "127.0.0.1", "0.0.0.0"),
        (["-a", "2001:db8::7"], "127.0.0.1", "2001:db8::7"),
        (["-a", "::ffff:192.0.2.7"], "127.0.0.1", "192.0.2.7"),
        (["-a", "route"], "127.0.0.1", "127.0.0.1"),
    ):
        sent = _sent(*_asking(secrets, *words, host=host))
        assert address_text(unseal(sent.payload, SECRET).message.address) == address, words
        assert sent.target == host


@isolated
def test_the_hosts_clock_may_be_wrong(secrets: str) -> None:
    for word, ahead in (("--time-offset-minus", -3600), ("--time-offset-plus", 3600)):
        before = int(_now())
        issued = unseal(_sent(*_asking(secrets, word, "1h")).payload, SECRET).message.issued
        assert before + ahead <= issued <= _now() + ahead


@isolated
def test_no_offset_comes_before_that_of_a_profile(
    secrets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "knockgate").mkdir()
    (tmp_path / "knockgate" / "profiles.toml").write_text(
        f'[profiles.late]\nhost = "127.0.0.1"\nfwknop = "{secrets}"\naccess = [22]\noffset = "-1h"\n'
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for words, ahead in (([], -3600), (["--time-offset-plus", "0"], 0)):
        before = int(_now())
        issued = unseal(_sent("knock", "late", *words).payload, SECRET).message.issued
        assert before + ahead <= issued <= _now() + ahead


@isolated
def test_a_dry_run_sends_and_asks_nothing(secrets: str) -> None:
    words = _asking(secrets, "-f", "90", "-U", "jo")
    with wire() as seen:
        dry = knockgate(*words, "--dry-run", "-R", "https://ip.invalid/")
        facts = json.loads(knockgate(*words, "--dry-run", "--json").stdout)
        assert seen.openings() == []
        assert knockgate(*words).returncode == 0
        assert len(seen.openings()) == 1
    assert dry.stdout == (
        "would send a packet to 127.0.0.1, udp/62201, from 127.0.0.1: "
        "tcp/22 for the address that https://ip.invalid/ answers with, for 90s\n"
        f"  as user jo, with digest sha256, HMAC sha256 and mode cbc; secrets from {secrets}\n"
    )
    assert facts == {
        "host": "127.0.0.1",
        "address": "127.0.0.1",
        "source": "127.0.0.1",
        "packet": {
            "port": "udp/62201",
            "access": ["tcp/22"],
            "allow": "127.0.0.1",
            "allow_from": "route",
            "lease": 90.0,
            "digest": "sha256",
            "hmac": "sha256",
            "mode": "cbc",
            "username": "jo",
        },
        "sent": False,
        "wait": None,
    }


@isolated
def test_an_inner_address_is_doubted_where_the_host_is_outside(secrets: str) -> None:
    veth("near", "far")
    up("near", "10.1.1.2/24", "fd01::2/64")
    for family, gateway in (("-4", "10.1.1.1"), ("-6", "fd01::1")):
        run("ip", family, "route", "add", "default", "via", gateway)
    for host, inner in (("8.8.8.8", "10.1.1.2"), ("2001:4860:4860::8888", "fd01::2")):
        doubted = knockgate(*_asking(secrets, "--dry-run", host=host))
        assert doubted.returncode == 0
        assert doubted.stderr.splitlines() == [
            f"knockgate: {inner} is an inner address: {host} will hardly see it",
            "  hint: behind NAT: -R URL asks for the outer address, -s lets in whoever sends the packet",
        ]
        for words in (["-s"], ["-a", inner]):  # somebody has thought of it
            assert knockgate(*_asking(secrets, "--dry-run", *words, host=host)).stderr == ""
    for host in ("10.1.1.1", "fd01::1"):  # inside, that is the address that the host sees
        assert knockgate(*_asking(secrets, "--dry-run", host=host)).stderr == ""


@isolated
def test_without_a_route_nobody_is_let_in(secrets: str) -> None:
    lost = knockgate(*_asking(secrets, host="203.0.113.9"))
    assert (lost.returncode, lost.stdout) == (2, "")
    assert "this machine has no way to 203.0.113.9" in lost.stderr
    dry = knockgate(*_asking(secrets, "--dry-run", host="203.0.113.9"))
    assert "but there is no route: tcp/22 for nobody" in dry.stdout


# --- where the secrets come from ----------------------------------------------------------------------


@isolated
def test_secrets_come_from_the_file_else_from_the_environment(
    secrets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["knock", "127.0.0.1", "--fwknop", "-A", "tcp/22"]
    other = Secret(b"a passphrase", b"another one")
    monkeypatch.setenv("KNOCKGATE_KEY", other.key.decode())
    monkeypatch.setenv("KNOCKGATE_HMAC_KEY", "another one")
    unseal(_sent(*words).payload, other)
    unseal(_sent(*words, "--secrets", secrets).payload, SECRET)
    monkeypatch.delenv("KNOCKGATE_KEY")
    monkeypatch.delenv("KNOCKGATE_HMAC_KEY")
    monkeypatch.setenv("KNOCKGATE_KEY_BASE64", KEY64)
    monkeypatch.setenv("KNOCKGATE_HMAC_KEY_BASE64", HMAC64)
    unseal(_sent(*words).payload, SECRET)


@isolated
def test_secrets_that_are_typed_are_not_shown() -> None:
    words = command("knock", "127.0.0.1", "--fwknop", "-A", "tcp/22", "-U", "jo")
    for typed, secret in (
        ([f"KEY_BASE64: {KEY64}", f"HMAC_KEY_BASE64: {HMAC64}"], SECRET),
        (["a passphrase", "another one"], Secret(b"a passphrase", b"another one")),
        (["a passphrase", ""], Secret(b"a passphrase")),
    ):
        with wire() as seen:
            shown = _typed_at_a_terminal(words, typed)
            (opening,) = seen.openings()
        assert unseal(opening.payload, secret).message.username == "jo"
        assert "key: " in shown and "HMAC key (empty: none): " in shown
        assert not any(line and line in shown for line in (KEY64, HMAC64, *typed)), shown
        assert ("there is no HMAC key" in shown) is (secret.hmac_key is None)


def _typed_at_a_terminal(words: list[str], lines: list[str]) -> str:
    """What somebody sees who starts a command and types the lines, each when he is asked."""
    child, near = pty.fork()
    if child == 0:
        os.execve(words[0], words, environment())  # noqa: S606 - what the parent of a terminal does
    shown = ""
    try:
        for line in [*lines, None]:
            while line is None or shown.count("key") <= lines.index(line):
                try:
                    shown += os.read(near, 4096).decode()
                except OSError:  # the command has ended
                    return shown
                if line is not None and re.search(r"key[^:]*: $", shown):
                    break
            if line is not None:
                os.write(near, f"{line}\n".encode())
    finally:
        os.close(near)
        os.waitpid(child, 0)
    return shown


def test_a_dry_run_says_where_the_secrets_would_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["knock", "127.0.0.1", "--fwknop", "-A", "tcp/22", "--dry-run"]
    assert knockgate(*words).stdout.endswith("; secrets from this terminal\n")
    monkeypatch.setenv("KNOCKGATE_KEY", "a passphrase")
    assert knockgate(*words).stdout.endswith("; secrets from the environment\n")


def test_without_secrets_and_terminal_it_says_where_they_go() -> None:
    words = ["knock", "127.0.0.1", "--fwknop", "-A", "tcp/22"]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command(*words)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    for done in (process(*words), closed):
        assert (done.returncode, done.stdout) == (2, "")
        first, hint = done.stderr.splitlines()
        assert first == "knockgate: there are no secrets, and no terminal to ask for them"
        assert hint.startswith(
            "  hint: --secrets FILE, or KNOCKGATE_KEY_BASE64 and KNOCKGATE_HMAC_KEY_BASE64"
        )


def test_no_secret_is_in_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "broken"
    words = ["knock", "127.0.0.1", "--fwknop", "-A", "tcp/22"]
    for line, message in (
        ("KEY_BASE64: s3cr3t!", "is no base64"),
        ("s3cr3t", "is no line of a file of secrets"),
        (f"KEY: s3cr3t{'x' * 40}", "it must have 1 to 32"),
    ):
        file.write_text(line)
        file.chmod(0o600)
        done = knockgate(*words, "--secrets", str(file))
        assert done.returncode == 2
        assert message in done.stderr and "s3cr3t" not in done.stderr
    monkeypatch.setenv("KNOCKGATE_KEY_BASE64", "s3cr3t!")
    done = knockgate(*words)
    assert done.stderr.splitlines()[0] == "knockgate: KNOCKGATE_KEY_BASE64: is no base64"
    file.write_text(LINES)
    file.chmod(0o640)
    assert "can be read by others" in knockgate(*words, "--secrets", str(file)).stderr


# --- waiting ------------------------------------------------------------------------------------------


@isolated
def test_a_door_that_stays_shut_is_explained(secrets: str) -> None:
    run("nft", "table inet test { chain door { type filter hook input priority 0; tcp dport 22 drop; }; }")
    words = _asking(secrets, "--wait", "22", "--timeout", "0.2")
    shut = knockgate(*words)
    assert shut.returncode == 1
    assert re.search(r"\ntcp/22 is still filtered, 0\.[2-9] s after the packet\n", shut.stdout)
    clock, asked, hint = shut.stderr.splitlines()
    shown = re.fullmatch(
        r"knockgate: our clock says ([0-9-]+ [0-9:]+) UTC(, and nothing keeps it right)?; "
        "the host wants the same to within two minutes",
        clock,
    )
    assert shown
    assert abs(time.mktime(time.strptime(shown[1], "%Y-%m-%d %H:%M:%S")) - time.timezone - _now()) < 60
    assert asked == (
        "knockgate: asked for tcp/22 for 127.0.0.1, this machine's address on the way to the host; "
        f"secrets from {secrets}"
    )
    assert hint == "  hint: the host's log has the reason, if the packet came to its udp/62201"
    six = knockgate(*_asking(secrets, "--wait", "22", "--timeout", "0.1", host="::1"))
    assert six.stderr.endswith("fwknopd knows no IPv6: -4 or -a ADDRESS\n")
    run("nft", "delete table inet test")
    refused = knockgate(*words)
    assert refused.returncode == 1
    assert refused.stderr.startswith("  hint: the host refuses")


# --- profiles and words -------------------------------------------------------------------------------


@pytest.fixture
def office(secrets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "knockgate" / "profiles.toml"
    file.parent.mkdir()
    file.write_text(
        f'[profiles.office]\nhost = "127.0.0.1"\nfwknop = "{secrets}"\naccess = ["tcp/22"]\n'
        'allow = "192.0.2.7"\nport = "udp/7000"\nlease = "10m"\nusername = "jo"\n'
        '[profiles.home]\nhost = "::1"\nsteps = [20001]\n'
    )


@pytest.mark.usefixtures("office")
@isolated
def test_a_profile_is_knocked_at_by_name_and_options_come_before_it() -> None:
    sent = _sent("knock", "office")
    message = unseal(sent.payload, SECRET).message
    assert str(sent.step) == "udp/7000"
    assert (message.username, message.timeout) == ("jo", 600)
    assert address_text(message.address) == "192.0.2.7"
    other = unseal(_sent("knock", "office", "-s", "-f", "60", "-A", "udp/53").payload, SECRET).message
    assert (other.address, other.timeout) == (bytes(4), 60)
    assert [str(port) for port in other.ports] == ["udp/53"]
    listed = knockgate("knock", "--list")
    assert listed.stdout == "office: 127.0.0.1, a packet\nhome: ::1, 1 step\n"
    assert json.loads(knockgate("knock", "--list", "--json").stdout)["office"]["kind"] == "packet"


@pytest.mark.usefixtures("office")
@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["h", "--fwknop"], "--fwknop: no port is asked for", "-A tcp/22"),
        (["h", "7000", "--fwknop", "-A", "22"], "a knock is one or the other", "--help"),
        (["h", "7000", "-A", "22"], "-A: goes with --fwknop, and there are steps", "leave it away"),
        (["h", "-s"], "no profile 'h'", "--fwknop"),
        (["home", "-s"], "-s: is about packets, and the profile has steps", "leave it away"),
        (["office", "--delay", "1"], "--delay: is from step to step", "leave it away"),
        (["office", "-s", "-a", "192.0.2.1"], "-a and -s each say whom to let in", "--help"),
        (["office", "-a", "192.0.2.0/24"], "-a: '192.0.2.0/24' is a network of IPv4", "one address"),
        (["office", "-a", "2001:db8::/64"], "-a: a packet of fwknop's lets in no network", "a sealed knock"),
        (["office", "-a", "fe80::1%lo"], "-a: 'fe80::1%lo' names an interface", "without %lo"),
        (["office", "-a", "255.255.255.255"], "-a: '255.255.255.255' is the address of no host", "nothing"),
        (["office", "-a", "::ffff:224.0.0.1"], "-a: '::ffff:224.0.0.1' is the address of no host", "nothing"),
        (["office", "-R", "http://ip.example/"], "-R: is a URL without TLS", "--resolve-http"),
        (["office", "-R", "HTTP://ip.example/"], "-R: is a URL without TLS", "--resolve-http"),
        (["office", "-R", "ip.example"], "-R: 'ip.example' is no URL of the web", "https://"),
        (["office", "-R", "https://jo@ip.example"], "-R: the URL has a blank, or a name", "https://"),
        (["office", "--secrets", ""], "the name of the secrets is empty", "--help"),
        (["office", "-f", "0"], "-f: 0.0 is not between 1s and 36500d", None),
        (["office", "-f", "65537"], "-f: 65537.0 is not between 1s and 65536s", None),
        (["office", "--door", "ssh"], "--door: is about sealed knocks, and this one is a packet", "leave it"),
        (["home", "--small"], "--small: is about sealed knocks, and the profile has steps", "leave it away"),
        (["h", "--fwknop", "-A", "22", "-i", "x"], "-i: is about sealed knocks, and this one is a", "leave"),
        (["office", "-f", "1.5"], "-f: 1.5 is no time in whole seconds", "no room for a fraction"),
        (["office", "-p", "tcp/62201"], "-p: tcp/62201 is no UDP port", "UDP alone"),
        (["office", "-m", "sha2"], "-m: 'sha2' is none of these", "sha3_256"),
        (["office", "-M", "asymmetric"], "-M: 'asymmetric' is none of these", "legacy"),
        (["office", "-U", "a:b"], "-U: 'a:b' is no user name for a packet", "at most 48"),
        (["office", "-A", ",".join(["tcp/22"] * 40)], "192 characters", "ask for less at once"),
        (["office", "-C", "id"], "-C: a packet asks for ports here, never for a command", "the gate's"),
        (["h", "--fwknop", "-A", "22", "--delay", "1"], "--delay: is from step to step", "leave it away"),
        (["office", "-N", "10.0.0.1:22"], "-N: a packet asks for the host's own ports here", "own client"),
        (["office", "-P", "tcp"], "-P: a packet travels in one UDP datagram", "UDP"),
        (["office", "--gpg-home-dir", "x"], "--gpg-home-dir: packets are sealed with a key", "key new"),
        (["office", "--key-rijndael", "s3cr3t"], "--key-rijndael: secrets on a command line", "--secrets"),
        (["office", "--key-base64-hmac=s3cr3t"], "--key-base64-hmac: secrets on a command", "--secrets"),
        (["office", "-n", "x"], "-n: what fwknop keeps in .fwknoprc is a profile here", "import fwknoprc"),
        (["office", "--acess", "22"], "no such option", "did you mean --access?"),
    ],
)
def test_a_mistake_is_one_line_and_a_hint(
    words: list[str], message: str, hint: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["knock", *words]) == 2
    told = capsys.readouterr()
    assert told.out == "" and "s3cr3t" not in told.err
    first, *rest = told.err.splitlines()
    assert first.startswith("knockgate: ") and message in first
    assert [line.startswith("  hint: ") and (hint or "") in line for line in rest] == [True] * bool(hint)


def test_names_are_completed_and_the_options_of_a_packet_stand_by_themselves() -> None:
    def completed(*words: str) -> list[str]:
        told = subprocess.run(
            command(),
            env=environment(
                _KNOCKGATE_COMPLETE="bash_complete",
                COMP_WORDS=" ".join(words),
                COMP_CWORD=str(len(words) - 1),
            ),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return [line.split(",")[1] for line in told.stdout.splitlines()]

    assert completed("knockgate", "knock", "h", "-m", "sha3_") == ["sha3_256", "sha3_512"]
    assert completed("knockgate", "knock", "h", "-M", "c") == ["cbc", "ctr", "cfb"]
    assert "--access" in completed("knockgate", "knock", "h", "--")
    page = knockgate("knock", "--help").stdout
    ours, sealed = page.split("\nOptions:\n")[1].split("\nOf a sealed knock:\n")
    sealed, both = sealed.split("\nOf a sealed knock, and of a packet of fwknop's:\n")
    both, theirs = both.split("\nOf a packet, as fwknop calls them:\n")
    assert "--wait PORT" in ours and "--access" not in ours + sealed + both
    assert "--card FILE" in sealed and "-a, --allow-ip" in both
    assert "-A, --access PORTS" in theirs and "--wait" not in theirs
