"""``knockgate knock`` with a card: what is sealed, who signs it, what is kept, and what is told."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import os
import pty
import re
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.knockgate.cli.process import Done, command, environment, knockgate, started
from tests.knockgate.client import agents
from tests.knockgate.client.sealed_gate import HERE, HERE6, gate, public
from tests.knockgate.client.wire import wire
from tests.knockgate.spa.sealed_messages import CARD
from tests.knockgate.spa.sshkeys.signers import Signer, keygen, made, signer
from tests.netns import Network, heard, isolated, packet_socket, run, until, up, veth

from knockgate.cli import main
from knockgate.spa.sealed import KeyKind, SourceKind
from knockgate.spa.sshkeys import Kind, PublicKey
from knockgate.spa.sshkeys.encoding import string, uint32

GATE = CARD.fingerprint


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody who has a card and no key yet; the keys of whoever runs the tests are none of ours."""
    for name, folder in (("HOME", ""), ("XDG_CONFIG_HOME", "config"), ("XDG_STATE_HOME", "state")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    for name in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("knockgate.client.identities.home_of_user", lambda: tmp_path)
    (tmp_path / "card").write_text(CARD.text())
    (tmp_path / ".ssh").mkdir(mode=0o700)
    return tmp_path


def _key(folder: Path, name: str, *arguments: str) -> Path:
    (folder / name).mkdir()
    return made(folder / name, *(arguments or ("-t", "ed25519")))


def _knocking(home: Path, *words: str, host: str = HERE) -> list[str]:
    return ["knock", host, "--card", str(home / "card"), *words]


def _shown(key: PublicKey) -> str:
    return f"SHA256:{base64.b64encode(key.fingerprint).decode().rstrip('=')}"


def _network() -> None:
    up("lo", f"{HERE}/32", "198.51.100.9/32", f"{HERE6}/128")


# --- what is in it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(("-t", "ed25519"), KeyKind.ED25519), (("-t", "ecdsa", "-b", "256"), KeyKind.ECDSA_P256)],
    ids=["ed25519", "ecdsa"],
)
@isolated
def test_a_knock_says_what_was_asked_for(home: Path, arguments: tuple[str, ...], kind: KeyKind) -> None:
    _network()
    key = _key(home, "k", *arguments)
    words = _knocking(home, "-i", str(key))
    before = time.time_ns()
    with gate(public(key)) as there:
        assert knockgate(*words).stdout == (
            f"sent a sealed knock to {HERE}, udp/62202, from {HERE}: ssh for {HERE}\n"
            f"  signed with {_shown(public(key))} ({key})\n"
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
    _network()
    key = _key(home, "k")
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
            done = knockgate(*_knocking(home, "-i", str(key), "-p", "7000", *words, host=host))
            assert done.returncode == 0, done.stderr
            head = there.number(number)[-1].head
            assert (head.source, head.address) == (source, ipaddress.ip_address(address).packed), words
        for words in (["-s"], ["-a", "observed"], ["-a", "0.0.0.0"]):
            there.knocks.clear()
            told = knockgate(*_knocking(home, "-i", str(key), "-p", "7000", *words, host="127.0.0.1"))
            assert "ssh for whoever sends it\n" in told.stdout
            assert (there.number(1)[0].head.source, there.knocks[0].head.address) == (
                SourceKind.OBSERVED,
                b"",
            )


@isolated
def test_an_address_that_no_host_is_seen_with_is_refused_before_a_date_is_spent(home: Path) -> None:
    _network()
    key = _key(home, "k")
    for words, host in (
        ([], "127.0.0.1"),
        ([], "::1"),
        (["-a", "169.254.0.1"], HERE),
        (["-a", "fe80::/64"], HERE),
    ):
        done = knockgate(*_knocking(home, "-i", str(key), *words, host=host))
        first, hint = done.stderr.splitlines()
        assert (done.returncode, done.stdout) == (2, "")
        assert "is no address to let in" in first and "-a ADDRESS" in hint and "-s" in hint
        assert knockgate(*_knocking(home, "-i", str(key), *words, "--dry-run", host=host)) == done
        assert not (home / "state").exists()
    with gate(public(key)) as there:
        assert knockgate(*_knocking(home, "-i", str(key), "-a", "8.8.8.8", host="127.0.0.1")).returncode == 0
        there.number(1)
    assert (home / "state").exists()


@isolated
def test_without_a_route_nobody_is_let_in(home: Path) -> None:
    words = _knocking(home, "-i", str(_key(home, "k")), host="203.0.113.9")
    lost = knockgate(*words)
    assert (lost.returncode, lost.stdout) == (2, "")
    assert "this machine has no way to 203.0.113.9" in lost.stderr
    assert not (home / "state").exists()
    assert "but there is no route: ssh for nobody\n" in knockgate(*words, "--dry-run").stdout


@isolated
def test_a_packet_that_does_not_fit_is_not_sent_and_not_made_smaller(home: Path) -> None:
    key = _key(home, "k")
    veth("near", "far")
    up("near", "198.51.100.1/24")
    run("ip", "link", "set", "near", "mtu", "1280")
    words = _knocking(home, "-i", str(key), host="198.51.100.2")
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
    _network()
    key = _key(home, "k")
    locked = _key(home, "l")
    keygen("-q", "-p", "-a", "1", "-P", "", "-N", "open sesame", "-f", locked)
    words = _knocking(home, "-i", str(key), "--lease", "90")
    with gate(public(key)) as there, wire() as seen:
        assert knockgate(*words, "--dry-run").stdout == (
            f"would send a sealed knock to {HERE}, udp/62202, from {HERE}: ssh for {HERE}, for 90s\n"
            f"  1,333 bytes (x-wing) for the gate {GATE}, at which this device has not knocked before\n"
            f"  signed with {_shown(public(key))} ({key})\n"
        )
        facts = json.loads(knockgate(*words, "--dry-run", "--json").stdout)
        asks = knockgate(*_knocking(home, "-i", str(locked), "--dry-run", "--small")).stdout
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
                    "fingerprint": _shown(public(key)),
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


# --- which key ----------------------------------------------------------------------------------------


@isolated
def test_the_key_that_opens_is_found_and_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _network()
    keys = [_key(home, name) for name in "abc"]
    with agents.real(home / "agent") as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        for key in keys:
            agents.add(agent, key)
        known = [public(key) for key in keys]
        with gate(*known, opens_for=known[1]) as there:
            done = knockgate(*_knocking(home, "--wait", "22"))
            assert done.returncode == 0, done.stderr
            assert [each.key for each in there.number(2)] == known[:2]
            signed = f"  signed with {_shown(known[1])} (somebody, by the agent), after 1 other key\n"
            assert re.search(
                re.escape(signed) + r"tcp/22 is open, [0-9.]+ ms after the packet\n$", done.stdout
            )
        with gate(*known, opens_for=known[0]) as there:  # the control: the first one is enough
            facts = json.loads(knockgate(*_knocking(home, "--wait", "22", "--json")).stdout)
            there.number(1)
        assert [each["fingerprint"] for each in facts["sealed"]["keys"]] == [_shown(known[0])]
        assert facts["wait"]["open"] is True and "diagnosis" not in facts
        with gate(*known) as there:  # nobody knows whether it opened, so nobody tries another one
            assert knockgate(*_knocking(home)).returncode == 0
            there.number(1)


@isolated
def test_no_more_than_six_keys_are_tried(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _network()
    keys = [_key(home, f"k{number}") for number in range(8)]
    known = [public(key) for key in keys]
    with agents.real(home / "agent") as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        agents.add(agent, *keys)
        with gate(*known, opens_for=known[7]) as there:
            done = knockgate(*_knocking(home, "--wait", "22", "--timeout", "0.6", "--json"))
            assert done.returncode == 1
            assert [each.key for each in there.number(6)] == known[:6]
            facts = json.loads(done.stdout)
            assert len(facts["sealed"]["skipped"]) == 2
            assert all("6 others come before it" in each["why"] for each in facts["sealed"]["skipped"])
            monkeypatch.setattr("knockgate.cli.knocking.signing._somebody_is_there", lambda: True)
            preview = json.loads(knockgate(*_knocking(home, "--json", "--dry-run")).stdout)
            assert len(preview["sealed"]["keys"]) == 6
            alone = knockgate(*_knocking(home, "--wait", "22", "-i", str(keys[7])))  # the control
            assert alone.returncode == 0, alone.stderr


@pytest.mark.parametrize(("timeout", "shares"), [("9", [1, 1, 7]), ("0.9", [0.3, 0.3, 0.3])])
@isolated
def test_the_keys_share_the_time(
    home: Path, timeout: str, shares: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    _network()
    keys = [signer(Kind.ED25519, number) for number in (1, 2, 3)]
    waited: list[float] = []

    def watch(_: object, __: float, seconds: float) -> bool:
        waited.append(seconds)
        return False

    monkeypatch.setattr("knockgate.cli.knocking.sealed.SealedAttempt.watch", watch)
    with agents.acting(home / "agent", agents.tokens(keys)) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        with gate(*(each.public for each in keys)) as there:
            knockgate(*_knocking(home, "--wait", "22", "--timeout", timeout))
            there.number(3)
    assert waited == pytest.approx(shares)


@isolated
def test_a_key_that_does_not_sign_is_passed_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was added for certain hosts alone (ssh-add -h), of which the agent has said nothing."""
    _network()
    refused = signer(Kind.ED25519)
    good = _key(home, "g")
    (home / ".ssh" / "id_ed25519").write_bytes(good.read_bytes())
    (home / ".ssh" / "id_ed25519").chmod(0o600)
    with agents.acting(home / "agent", _refusing(refused)) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        with gate(public(good), refused.public) as there:
            done = knockgate(*_knocking(home, "--json"))
            assert done.returncode == 0, done.stderr
            (knock,) = there.number(1)
            assert knock.key == public(good)
        ((skipped),) = json.loads(done.stdout)["sealed"]["skipped"]
        assert (skipped["name"], skipped["why"]) == ("a token", "the ssh agent refuses to sign")
        (home / ".ssh" / "id_ed25519").unlink()
        alone = knockgate(*_knocking(home))
    assert (alone.returncode, alone.stdout) == (2, "")
    assert alone.stderr.splitlines()[0] == "knockgate: the ssh agent refuses to sign"
    assert "ssh-add -h" in alone.stderr


def _refusing(one: Signer) -> agents.Answer:
    def answer(sock: socket.socket) -> None:
        request = sock.recv(4096)
        if request[4] == 11:
            sock.sendall(string(b"\x0c" + uint32(1) + string(one.public.blob) + string(b"a token")))
        else:
            sock.sendall(string(b"\x05"))

    return answer


@isolated
def test_without_a_key_it_says_what_there_was(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _network()
    none = knockgate(*_knocking(home))
    assert (none.returncode, none.stdout) == (2, "")
    assert none.stderr.splitlines() == [
        f"knockgate: there is no SSH key for {HERE}",
        "  hint: make one, and give its .pub to the gate's admin: ssh-keygen -t ed25519; or -i FILE",
    ]
    rsa = _key(home, "r", "-t", "rsa", "-b", "2048")
    told = knockgate(*_knocking(home, "-i", str(rsa))).stderr
    assert told.startswith(f"knockgate: no SSH key can knock: {rsa}: an RSA key cannot knock\n  hint: ")
    assert "no such file" in knockgate(*_knocking(home, "-i", str(home / "none"))).stderr
    assert not (home / "state").exists()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "nobody"))
    assert "no ssh agent answers" in knockgate(*_knocking(home)).stderr


@isolated
def test_a_passphrase_is_asked_for_at_the_terminal_alone(home: Path) -> None:
    _network()
    key = _key(home, "k")
    open_key = public(key)
    keygen("-q", "-p", "-a", "1", "-P", "", "-N", "open sesame", "-f", key)
    words = _knocking(home, "-i", str(key), "--wait", "22")
    with gate(open_key, opens_for=open_key) as there:
        nobody = _without_terminal(*words)
        assert (nobody.returncode, there.knocks) == (2, [])
        assert f"ssh-keygen does not sign with {key}" in nobody.stderr and "ssh-add" in nobody.stderr
        shown = _at_a_terminal(command(*words), "open sesame")
        there.number(1)
    assert "tcp/22 is open" in shown and "open sesame" not in shown


@isolated
def test_keys_that_ask_come_last(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _network()
    quiet, token = signer(Kind.ED25519), signer(Kind.SK_ED25519)
    words = _knocking(home, "--wait", "22", "--timeout", "3")
    with agents.acting(home / "agent", agents.tokens([token, quiet])) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        with gate(quiet.public, token.public, opens_for=token.public) as there:
            nobody = _without_terminal(*words, "--timeout", "0.5")
            assert nobody.returncode == 1
            assert [each.key for each in there.number(1)] == [quiet.public]
            assert "not used: a token: needs a touch, and there is no terminal to ask at" in nobody.stderr
            there.knocks.clear()
            shown = _at_a_terminal(command(*words))
            assert [(each.key, each.touched) for each in there.number(2)] == [
                (quiet.public, False),
                (token.public, True),
            ]
    assert "knockgate: touch the token of a token" in shown and "tcp/22 is open" in shown


def _without_terminal(*words: str) -> Done:
    """A process that has none, whoever runs the tests."""
    done = subprocess.run(
        command(*words),
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        start_new_session=True,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _at_a_terminal(words: list[str], *lines: str) -> str:
    """What somebody sees who types each line when asked."""
    child, near = pty.fork()
    if child == 0:
        os.execve(words[0], words, _environment())  # noqa: S606 - what the parent of a terminal does
    shown, waiting = "", list(lines)
    try:
        with contextlib.suppress(OSError):  # it has ended
            while True:
                shown += os.read(near, 4096).decode()
                if waiting and re.search(r"passphrase[^:]*: ?$", shown):
                    os.write(near, f"{waiting.pop(0)}\n".encode())
    finally:
        os.close(near)
        os.waitpid(child, 0)
    return shown


def _environment() -> dict[str, str]:
    return environment(XDG_CONFIG_HOME=os.environ["XDG_CONFIG_HOME"])


# --- what is told -------------------------------------------------------------------------------------


@isolated
def test_a_door_that_stays_shut_is_explained(home: Path) -> None:
    _network()
    key = _key(home, "k")
    words = _knocking(home, "-i", str(key), "--wait", "22", "--timeout", "0.2")
    with gate(public(key)) as there:
        shut = knockgate(*words)
        facts = json.loads(knockgate(*words, "--json", "-s", "--small").stdout)
        there.number(2)
    assert shut.returncode == 1
    assert re.search(r"\ntcp/22 is still filtered, 0\.[2-9] s after the packet\n$", shut.stdout)
    clock, asked, signed, size, device, hint = shut.stderr.splitlines()
    shown = re.fullmatch(
        r"knockgate: our clock says ([0-9-]+ [0-9:]+) UTC(, and nothing keeps it right)?; "
        "a gate with a clock wants the same to a minute",
        clock,
    )
    assert shown
    assert (
        abs(time.mktime(time.strptime(shown[1], "%Y-%m-%d %H:%M:%S")) - time.timezone - time.time_ns() / 1e9)
        < 60
    )
    assert asked == f"knockgate: asked for ssh for {HERE}, this machine's address on the way to the host"
    assert signed == f"knockgate: signed with {_shown(public(key))} ({key})"
    assert size == "knockgate: the packet has 1,333 bytes (x-wing); the way there carries 65,507 (MTU 65535)"
    assert device.startswith("knockgate: this device is new to the gate")
    assert hint == (
        f"  hint: at {HERE}: sudo knockgate explain --last 5 has the reason, under {_shown(public(key))} if "
        "the gate knows that key; if it has none, perhaps the packet was too large for the way: --small"
    )
    found = facts["diagnosis"]
    assert (found["mtu"], found["room"], found["ahead"], found["era"]) == (65535, 65507, 0, 0)
    assert found["look_for"] == [_shown(public(key))]
    assert found["explain"] == "sudo knockgate explain --last 5"
    assert (facts["sealed"]["allow"], facts["sealed"]["allow_from"]) == (None, "observed")
    refused = knockgate(*words)
    assert refused.returncode == 1
    assert "this device is new" not in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("  hint: the port answers, but refuses")


@isolated
def test_what_a_router_says_while_the_door_is_waited_for_is_told(home: Path) -> None:
    """It is some milliseconds away, so the socket of the knock has to be there still."""
    key, router = _key(home, "k"), Network()
    veth("near", "far", router)
    up("near", f"{HERE}/24")
    run("ip", "neighbour", "add", "198.51.100.1", "lladdr", "02:00:00:00:00:01", "dev", "near")
    run("ip", "route", "add", "default", "via", "198.51.100.1")
    words = _knocking(home, "-i", str(key), "--wait", "22", "--timeout", "1", host="203.0.113.9")
    before = knockgate(*words).stderr.splitlines()
    assert "the way there carries 1,472 (MTU 1500)" in before[3]
    assert "sudo knockgate explain" in before[-1]
    seen: list[bytes] = []
    with (
        packet_socket("near") as ear,
        started(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as knocking,
    ):
        until(lambda: _waits_for_the_door(ear, seen), "the knock, and a probe behind it")
        _say_too_large(router, next(each for each in seen if each[9] == socket.IPPROTO_UDP), 1280)
        _, told = knocking.communicate(timeout=30)
    assert "the way there carries 1,252 (MTU 1280)" in told
    assert told.splitlines()[-1] == "  hint: the packet was too large for the way: --small"


def _waits_for_the_door(ear: socket.socket, seen: list[bytes]) -> bool:
    seen.extend(each.packet for each in heard(ear) if each.packet[0] >> 4 == 4)
    protocols = [each[9] for each in seen]
    if socket.IPPROTO_UDP not in protocols:
        return False
    return socket.IPPROTO_TCP in protocols[protocols.index(socket.IPPROTO_UDP) :]


def _say_too_large(router: Network, packet: bytes, mtu: int) -> None:
    """What a router answers to a packet that it may not cut in pieces (RFC 1191, section 4)."""
    head = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + packet[:28]
    total = sum(struct.unpack(f"!{len(head) // 2}H", head))
    total = (total & 0xFFFF) + (total >> 16)
    with router:
        up("far", "198.51.100.1/24")
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
            sock.sendto(
                head[:2] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + head[4:],
                (HERE, 0),
            )


@isolated
def test_a_knock_that_took_long_to_sign_is_told_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _network()
    key = _key(home, "k")
    with gate(public(key)) as there:
        assert knockgate(*_knocking(home, "-i", str(key))).stderr == ""
        monkeypatch.setattr("knockgate.cli.knocking.sealed._SLOW", 0.0)
        slow = knockgate(*_knocking(home, "-i", str(key)))
        there.number(2)
    assert (slow.returncode, "s to sign the knock: a gate with a clock" in slow.stderr) == (0, True)


@isolated
def test_the_address_may_be_asked_for(home: Path) -> None:
    _network()
    key = _key(home, "k")
    words = _knocking(home, "-i", str(key), "--wait", "22", "--timeout", "0.1")
    with gate(public(key)) as there, socket.create_server((HERE, 80)) as web:
        serving = threading.Thread(target=_answer_once, args=(web, b"192.0.2.9\n"))
        serving.start()
        done = knockgate(*words, "-R", f"http://{HERE}/", "--resolve-http")
        serving.join(30)
        (knock,) = there.number(1)
        serving = threading.Thread(target=_answer_once, args=(web, b"127.0.0.1"))
        serving.start()
        spent = (home / "state" / "knockgate" / "device.json").read_text()
        wrong = knockgate(*words, "-R", f"http://{HERE}/", "--resolve-http")
        serving.join(30)
    assert (wrong.returncode, "127.0.0.1 is no address to let in" in wrong.stderr) == (2, True)
    assert (home / "state" / "knockgate" / "device.json").read_text() == spent
    assert knock.head.address == socket.inet_aton("192.0.2.9")
    assert f"asked for ssh for 192.0.2.9, which http://{HERE}/ answered with" in done.stderr
    assert f"ssh for the address that http://{HERE}/ answers with" in (
        knockgate(*words, "-R", f"http://{HERE}/", "--resolve-http", "--dry-run").stdout
    )


def _answer_once(web: socket.socket, text: bytes) -> None:
    connection, _ = web.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + text)


@isolated
def test_a_date_that_is_not_the_clocks_is_told(home: Path) -> None:
    _network()
    key = _key(home, "k")
    words = _knocking(home, "-i", str(key), "--wait", "22", "--timeout", "0.1")
    kept = home / "state" / "knockgate" / "device.json"
    with gate(public(key)) as there:
        assert knockgate(*words).returncode == 1
        for ahead, told, era in ((30 * 10**9, "dated 30 s later", 0), (10**15, "it was set back by more", 1)):
            text = json.loads(kept.read_text())
            text["gates"][CARD.gate.hex()]["last"] = time.time_ns() + ahead
            kept.write_text(json.dumps(text))
            assert told in knockgate(*words).stderr.splitlines()[0]
            assert there.knocks[-1].head.era == era


@isolated
def test_what_cannot_be_kept_is_not_sent(home: Path) -> None:
    _network()
    key = _key(home, "k")
    (home / "state").mkdir()
    (home / "state" / "knockgate").write_text("")
    with gate(public(key)) as there:
        done = knockgate(*_knocking(home, "-i", str(key)))
        assert (done.returncode, done.stdout) == (2, "")
        assert "nothing was sent" in done.stderr
        (home / "state" / "knockgate").unlink()
        assert knockgate(*_knocking(home, "-i", str(key))).returncode == 0
        there.number(1)


@isolated
def test_sshs_own_question_for_a_knock_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Match exec "knockgate knock home"`, while a knock asks ssh for its keys."""
    _network()
    key = _key(home, "k")
    with gate(public(key)) as there:
        monkeypatch.setenv("KNOCKGATE_KNOCKING", "1")
        assert knockgate(*_knocking(home, "-i", str(key))) == (0, "", "")
        monkeypatch.delenv("KNOCKGATE_KNOCKING")
        assert there.knocks == []
        assert knockgate(*_knocking(home, "-i", str(key))).returncode == 0
        there.number(1)


# --- profiles and words -------------------------------------------------------------------------------


@pytest.fixture
def profiles(home: Path) -> Path:
    key = _key(home, "p")
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
    _network()
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
def test_several_profiles_are_knocked_at_one_after_the_other(profiles: Path) -> None:
    _network()
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
        (["home", "ofice"], "STEP: 'ofice' is no step", "write 7000"),
        (["home", "office", "hme"], "no profile 'hme'", "there are: home, office"),
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
    assert main(_knocking(home)) == 2
    told = capsys.readouterr().err
    assert "damaged" in told and CARD.text()[200:230] not in told
