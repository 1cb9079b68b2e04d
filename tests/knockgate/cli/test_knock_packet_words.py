"""``knockgate knock`` with a packet: profiles, the words that it takes, and those that it does not."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.knockgate.cli.packets import (
    SECRET,
    file_of_secrets,
    sent_by,
)
from tests.knockgate.cli.process import command, environment, knockgate
from tests.netns import isolated

from knockgate.cli import main
from knockgate.model import address_text
from knockgate.spa.fwknop import unseal


@pytest.fixture
def secrets(tmp_path: Path) -> str:
    return file_of_secrets(tmp_path)


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
    sent = sent_by("knock", "office")
    message = unseal(sent.payload, SECRET).message
    assert str(sent.step) == "udp/7000"
    assert (message.username, message.timeout) == ("jo", 600)
    assert address_text(message.address) == "192.0.2.7"
    other = unseal(sent_by("knock", "office", "-s", "-f", "60", "-A", "udp/53").payload, SECRET).message
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
