"""``knockgate knock`` with a card: what is sealed, what is kept, and which words say it."""

from __future__ import annotations

import ipaddress
import json
import socket
import time
from pathlib import Path

import pytest
from tests.knockgate.cli.knocker import addresses, at_home, named, new_key, words_for
from tests.knockgate.cli.process import knockgate
from tests.knockgate.client.sealed_gate import HERE, HERE6, gate, public
from tests.knockgate.client.wire import wire
from tests.knockgate.spa.sealed_messages import CARD
from tests.knockgate.spa.sshkeys.signers import keygen
from tests.netns import isolated, run, up, veth

from knockgate.cli import main
from knockgate.spa.sealed import KeyKind, SourceKind

GATE = CARD.fingerprint


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return at_home(tmp_path, monkeypatch)


# --- what is in it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(("-t", "ed25519"), KeyKind.ED25519), (("-t", "ecdsa", "-b", "256"), KeyKind.ECDSA_P256)],
    ids=["ed25519", "ecdsa"],
)
@isolated
def test_a_knock_says_what_was_asked_for(home: Path, arguments: tuple[str, ...], kind: KeyKind) -> None:
    addresses()
    key = new_key(home, "k", *arguments)
    words = words_for(home, "-i", str(key))
    before = time.time_ns()
    with gate(public(key)) as there:
        assert knockgate(*words).stdout == (
            f"sent a sealed knock to {HERE}, udp/62202, from {HERE}: ssh for {HERE}\n"
            f"  signed with {named(public(key))} ({key})\n"
        )
        much = ["--door", "web", "--door", "ssh", "--lease", "20h", "--small"]
        assert knockgate(*words, *much).returncode == 0
        plain, other = there.number(2)
    assert (plain.size, other.size) == (1333, 245)
    assert (plain.head.kind, plain.head.era, plain.head.lease) == (kind, 0, 0)
    assert (plain.head.source, plain.head.address) == (SourceKind.V4, socket.inet_aton(HERE))
    assert plain.head.doors == ("ssh",)
    assert before <= plain.head.issued < other.head.issued <= time.time_ns()
    assert (other.head.doors, other.head.lease) == (("ssh", "web"), 72000)
    assert plain.head.device == other.head.device
    kept = home / "state" / "knockgate" / "device.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert json.loads(kept.read_text())["gates"][CARD.gate.hex()]["last"] == other.head.issued


@isolated
def test_whom_it_lets_in(home: Path) -> None:
    addresses()
    key = new_key(home, "k")
    cases: list[tuple[list[str], str, SourceKind, str]] = [
        ([], HERE, SourceKind.V4, HERE),
        ([], HERE6, SourceKind.V6, HERE6),
        (["--source", "198.51.100.9"], HERE, SourceKind.V4, "198.51.100.9"),
        (["-a", "192.0.2.7"], HERE6, SourceKind.V4, "192.0.2.7"),
        (["--allow", "2001:db8:1:2::/64"], HERE, SourceKind.V6_NETWORK, "2001:db8:1:2::"),
        (["-a", "route"], HERE, SourceKind.V4, HERE),
    ]
    with gate(public(key), port=7000) as there:
        for number, (words, host, source, address) in enumerate(cases, 1):
            done = knockgate(*words_for(home, "-i", str(key), "-p", "7000", *words, host=host))
            assert done.returncode == 0, done.stderr
            head = there.number(number)[-1].head
            assert (head.source, head.address) == (source, ipaddress.ip_address(address).packed), words
        for words in (["-s"], ["-a", "observed"], ["-a", "0.0.0.0"]):
            there.knocks.clear()
            told = knockgate(*words_for(home, "-i", str(key), "-p", "7000", *words, host="127.0.0.1"))
            assert "ssh for whoever sends it\n" in told.stdout
            assert (there.number(1)[0].head.source, there.knocks[0].head.address) == (
                SourceKind.OBSERVED,
                b"",
            )


@isolated
def test_an_address_that_no_host_is_seen_with_is_refused_before_a_date_is_spent(home: Path) -> None:
    addresses()
    key = new_key(home, "k")
    for words, host in (
        ([], "127.0.0.1"),
        ([], "::1"),
        (["-a", "169.254.0.1"], HERE),
        (["-a", "fe80::/64"], HERE),
    ):
        done = knockgate(*words_for(home, "-i", str(key), *words, host=host))
        first, hint = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (2, "")
        assert "is no address to let in" in first and "-a ADDRESS" in hint and "-s" in hint
        assert knockgate(*words_for(home, "-i", str(key), *words, "--dry-run", host=host)) == done
        assert not (home / "state").exists()
    with gate(public(key)) as there:
        assert knockgate(*words_for(home, "-i", str(key), "-a", "8.8.8.8", host="127.0.0.1")).returncode == 0
        there.number(1)
    assert (home / "state").exists()


@isolated
def test_without_a_route_nobody_is_let_in(home: Path) -> None:
    words = words_for(home, "-i", str(new_key(home, "k")), host="203.0.113.9")
    lost = knockgate(*words)
    assert (lost.returncode, lost.stdout) == (2, "")
    assert "this machine has no way to 203.0.113.9" in lost.stderr
    assert not (home / "state").exists()
    assert "but there is no route: ssh for nobody\n" in knockgate(*words, "--dry-run").stdout


@isolated
def test_a_packet_that_does_not_fit_is_not_sent_and_not_made_smaller(home: Path) -> None:
    key = new_key(home, "k")
    veth("near", "far")
    up("near", "198.51.100.1/24")
    run("ip", "link", "set", "near", "mtu", "1280")
    words = words_for(home, "-i", str(key), host="198.51.100.2")
    run("ip", "neighbour", "add", "198.51.100.2", "lladdr", "02:00:00:00:00:01", "dev", "near")
    with wire("near") as seen:
        done = knockgate(*words)
        assert (done.returncode, done.stdout) == (2, "")
        first, hint = done.stderr.splitlines()
        assert "1333 bytes does not fit" in first and "MTU 1280" in first and "--small" in hint
        assert seen.openings() == []
        assert knockgate(*words, "--small").returncode == 0
        assert [len(each.payload) for each in seen.openings()] == [245]


@isolated
def test_a_dry_run_signs_nothing_and_keeps_nothing(home: Path) -> None:
    addresses()
    key = new_key(home, "k")
    locked = new_key(home, "l")
    keygen("-q", "-p", "-a", "1", "-P", "", "-N", "open sesame", "-f", locked)
    words = words_for(home, "-i", str(key), "--lease", "90")
    with gate(public(key)) as there, wire() as seen:
        assert knockgate(*words, "--dry-run").stdout == (
            f"would send a sealed knock to {HERE}, udp/62202, from {HERE}: ssh for {HERE}, for 90s\n"
            f"  1,333 bytes (x-wing) for the gate {GATE}, at which this device has not knocked before\n"
            f"  signed with {named(public(key))} ({key})\n"
        )
        facts = json.loads(knockgate(*words, "--dry-run", "--json").stdout)
        asks = knockgate(*words_for(home, "-i", str(locked), "--dry-run", "--small")).stdout
        assert f"  245 bytes (x25519) for the gate {GATE}" in asks
        assert asks.endswith(f"({locked}), which needs a passphrase\n")
        assert not (home / "state").exists()
        assert seen.openings() == []
        assert knockgate(*words).returncode == 0  # the control
        there.number(1)
        assert "at which this device has knocked before" in knockgate(*words, "--dry-run").stdout
    assert facts == {
        "host": HERE,
        "address": HERE,
        "source": HERE,
        "sealed": {
            "gate": GATE,
            "port": "udp/62202",
            "doors": ["ssh"],
            "allow": HERE,
            "allow_from": "route",
            "lease": 90.0,
            "suite": "x-wing",
            "bytes": 1333,
            "device": "new",
            "keys": [
                {
                    "fingerprint": named(public(key)),
                    "kind": "ssh-ed25519",
                    "name": str(key),
                    "where": "file",
                    "needs": [],
                }
            ],
            "skipped": [],
        },
        "sent": False,
        "wait": None,
    }


# --- profiles and words -------------------------------------------------------------------------------


@pytest.fixture
def profiles(home: Path) -> Path:
    key = new_key(home, "p")
    file = home / "config" / "knockgate" / "profiles.toml"
    file.parent.mkdir(parents=True)
    sealed = f'host = "{HERE}"\ncard = "{home / "card"}"\nidentity = "{key}"\n'
    file.write_text(
        f'[profiles.home]\n{sealed}doors = ["ssh"]\n[profiles.office]\n{sealed}doors = ["web"]\n'
        'lease = "1h"\nallow = "192.0.2.7"\n[profiles.gone]\nhost = "gone.invalid"\nsteps = [1]\n'
        '[profiles.old]\nhost = "h"\nfwknop = ""\naccess = [22]\n'
    )
    return key


@isolated
def test_a_profile_is_knocked_at_by_name_and_options_come_before_it(profiles: Path) -> None:
    addresses()
    with gate(public(profiles)) as there:
        assert knockgate("knock", "office").returncode == 0
        assert knockgate("knock", "office", "--door", "ssh", "-f", "60", "-s", "--small").returncode == 0
        first, second = there.number(2)
    assert (first.head.doors, first.head.lease) == (("web",), 3600)
    assert first.head.address == socket.inet_aton("192.0.2.7")
    assert (second.head.doors, second.head.lease, second.size) == (("ssh",), 60, 245)
    assert second.head.source is SourceKind.OBSERVED
    listed = knockgate("knock", "--list").stdout.splitlines()
    assert listed[:2] == [f"home: {HERE}, a sealed knock for ssh", f"office: {HERE}, a sealed knock for web"]
    assert json.loads(knockgate("knock", "--list", "--json").stdout)["home"]["kind"] == "sealed"


@isolated
def test_a_card_or_profile_that_others_may_write_is_not_believed(home: Path, profiles: Path) -> None:
    """Whoever writes them chooses where one knocks. A card that others read is half a secret less."""
    addresses()
    card, file = home / "card", home / "config" / "knockgate" / "profiles.toml"
    closed = [(card, 0o600), (file, 0o644), (home, 0o700), (file.parent, 0o755)]
    with gate(public(profiles)) as there:
        done = knockgate("knock", "home")  # the control
        assert (done.returncode, done.stderr) == (0, "")
        for mode in (0o602, 0o646, 0o666):
            for path in (card, file):
                path.chmod(mode)
                done = knockgate("knock", "home")
                assert (done.returncode, done.stdout) == (2, "")
                assert done.stderr.splitlines() == [
                    f"knockgate: {path}: others than its owner may write it",
                    f"  hint: look at what is in it; then: chmod go-w {path}",
                ]
                path.chmod(dict(closed)[path])
        for folder, name in ((home, "card"), (file.parent, "profiles.toml")):
            folder.chmod(0o777)
            done = knockgate("knock", "home")
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith(f"knockgate: {folder}: others may write in this folder\n")
            assert f"look at what is in {name}; then: chmod go-w {folder}\n" in done.stderr
            folder.chmod(0o1777)  # where nobody takes another's file away
            assert knockgate("knock", "home").returncode == 0
            folder.chmod(dict(closed)[folder])
        there.number(3)
        card.chmod(0o644)
        told = knockgate("knock", "home")
        assert told.returncode == 0 and told.stderr.splitlines() == [
            f"knockgate: {card} can be read by others, and a card is half a secret",
            f"  hint: chmod 600 {card}",
        ]
        there.number(4)


@isolated
def test_several_profiles_are_knocked_at_one_after_the_other(profiles: Path) -> None:
    addresses()
    with gate(public(profiles)) as there:
        both = knockgate("knock", "home", "office")
        assert both.returncode == 0
        assert both.stdout.count("sent a sealed knock") == 2
        assert [each.head.doors for each in there.number(2)] == [("ssh",), ("web",)]
        there.knocks.clear()
        some = knockgate("knock", "home", "gone", "office", "--json")
        assert some.returncode == 2
        assert "unknown host 'gone.invalid'" in some.stderr
        told = json.loads(some.stdout)["knocks"]
        assert [each["sent"] for each in told] == [True, False, True]
        assert "unknown host" in told[1]["error"]
        there.number(2)


@pytest.mark.usefixtures("profiles")
@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["home", "ofice"], "no profile 'ofice'", "did you mean office?"),
        (["home", "7000,8000"], "STEP: '7000,8000' is no step", "separate words"),
        (["home", "office", "cabin"], "no profile 'cabin'", "there are: home, office"),
        (
            ["h", "--card", "c", "--fwknop", "-A", "22"],
            "there is --fwknop, and a card: a knock is one",
            "--help",
        ),
        (["h", "7000", "--card", "c"], "there are steps, and a card: a knock is one or the other", "--help"),
        (["h", "--card", ""], "the name of the card is empty", "--help"),
        (["home", "-i", ""], "the name of the SSH key is empty", "--help"),
        (["h", "--card", "/none"], "/none: no such file", "knockgate card show"),
        (["h", "--small"], "no profile 'h'", "--card FILE"),
        (["h", "home"], "STEP: 'home' is no step", "write 7000"),
        (["h", "--card", "c", "-A", "22"], "-A: is about fwknop's packets, and this knock is a", "leave it"),
        (
            ["home", "-A", "22"],
            "-A: is about fwknop's packets, and this knock is a sealed one",
            "leave it away",
        ),
        (["home", "--delay", "1"], "--delay: is from step to step, and this knock is a packet", "leave"),
        (["h", "7000", "--small"], "--small: goes with", "leave it away"),
        (["old", "--small"], "--small: is about sealed knocks, and this one is a packet", "leave it away"),
        (["home", "--door", "SSH"], "--door: 'SSH' is no door that a sealed knock can ask for", "a to z"),
        (["home", "--door", "a" * 20, "--door", "b" * 20], "--door: ", "knock twice"),
        (["home", "-a", "2001:db8::/48"], "-a: '2001:db8::/48' is no /64 of IPv6", "/64"),
        (["home", "-R", "http://ip.example/"], "-R: is a URL without TLS", "--resolve-http"),
        (["home", "-a", "192.0.2.1", "-s"], "-a and -s each say whom to let in", "--help"),
    ],
)
def test_a_mistake_is_one_line_and_a_hint(
    words: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["knock", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    first, second = told.err.splitlines()
    assert first.startswith("knockgate: ") and message in first
    assert second.startswith("  hint: ") and hint in second


def test_a_damaged_card_is_not_shown(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "card").write_text(CARD.text()[:-40])
    assert main(words_for(home)) == 2
    told = capsys.readouterr().err
    assert "damaged" in told and CARD.text()[200:230] not in told
