"""What is told of a sealed knock that came to nothing, and of one that could not be sent."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.knockgate.cli.knocker import addresses, at_home, named, new_key, words_for
from tests.knockgate.cli.process import knockgate, started
from tests.knockgate.client.sealed_gate import HERE, HERE6, gate, public
from tests.knockgate.spa.sealed_messages import CARD
from tests.netns import Network, heard, isolated, packet_socket, run, until, up, veth

from knockgate.spa.sealed.dates import LAST_ERA


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return at_home(tmp_path, monkeypatch)


@isolated
def test_a_door_that_stays_shut_is_explained(home: Path) -> None:
    addresses()
    key = new_key(home, "k")
    words = words_for(home, "-i", str(key), "--wait", "22", "--timeout", "0.2")
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
    assert signed == f"knockgate: signed with {named(public(key))} ({key})"
    assert size == "knockgate: the packet has 1,333 bytes (x-wing); the way there carries 65,507 (MTU 65535)"
    assert device.startswith("knockgate: this device is new to the gate")
    assert hint == (
        f"  hint: at {HERE}: sudo knockgate explain --last 5 has the reason, under {named(public(key))} if "
        "the gate knows that key; if it has none, perhaps the packet was too large for the way: --small"
    )
    found = facts["diagnosis"]
    assert (found["mtu"], found["room"], found["ahead"], found["era"]) == (65535, 65507, 0, 0)
    assert found["look_for"] == [named(public(key))]
    assert found["explain"] == "sudo knockgate explain --last 5"
    assert (facts["sealed"]["allow"], facts["sealed"]["allow_from"]) == (None, "observed")
    refused = knockgate(*words)
    assert refused.returncode == 1
    assert "this device is new" not in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("  hint: the port answers, but refuses")


@isolated
def test_what_a_router_says_while_the_door_is_waited_for_is_told(home: Path) -> None:
    """It is some milliseconds away, so the socket of the knock has to be there still."""
    key, router = new_key(home, "k"), Network()
    veth("near", "far", router)
    up("near", f"{HERE}/24")
    run("ip", "neighbour", "add", "198.51.100.1", "lladdr", "02:00:00:00:00:01", "dev", "near")
    run("ip", "route", "add", "default", "via", "198.51.100.1")
    words = words_for(home, "-i", str(key), "--wait", "22", "--timeout", "1", host="203.0.113.9")
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
    addresses()
    key = new_key(home, "k")
    with gate(public(key)) as there:
        assert knockgate(*words_for(home, "-i", str(key))).stderr == ""
        monkeypatch.setattr("knockgate.cli.knocking.sealed._SLOW", 0.0)
        slow = knockgate(*words_for(home, "-i", str(key)))
        there.number(2)
    assert (slow.returncode, "s to sign the knock: a gate with a clock" in slow.stderr) == (0, True)


@isolated
def test_the_address_may_be_asked_for(home: Path) -> None:
    addresses()
    key = new_key(home, "k")
    words = words_for(home, "-i", str(key), "--wait", "22", "--timeout", "0.1")
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
    addresses()
    key = new_key(home, "k")
    words = words_for(home, "-i", str(key), "--wait", "22", "--timeout", "0.1")
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
    addresses()
    key = new_key(home, "k")
    (home / "state").mkdir()
    (home / "state" / "knockgate").write_text("")
    with gate(public(key)) as there:
        done = knockgate(*words_for(home, "-i", str(key)))
        assert (done.returncode, done.stdout) == (2, "")
        assert "nothing was sent" in done.stderr
        (home / "state" / "knockgate").unlink()
        assert knockgate(*words_for(home, "-i", str(key))).returncode == 0
        there.number(1)


@isolated
def test_a_device_whose_eras_are_used_up_is_another_one_and_says_so(home: Path) -> None:
    addresses()
    key = new_key(home, "k")
    words = words_for(home, "-i", str(key))
    file = home / "state" / "knockgate" / "device.json"
    with gate(public(key)) as there:
        assert knockgate(*words).returncode == 0
        kept = json.loads(file.read_text())
        (date,) = kept["gates"].values()
        date["last"] += 3600 * 10**9  # the clock was set back by an hour since
        for era, said in ((LAST_ERA - 1, False), (LAST_ERA, True)):
            date["era"] = era
            file.write_text(json.dumps(kept))
            done = knockgate(*words)
            assert done.returncode == 0
            assert ("this is a new device now\n  hint: to every gate" in done.stderr) is said
        assert "new device" not in knockgate(*words).stderr
        first, last_era, other, again = (each.head for each in there.number(4))
    assert first.device == last_era.device != other.device == again.device
    assert (last_era.era, other.era) == (LAST_ERA, 0)


@isolated
def test_sshs_own_question_for_a_knock_is_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Match exec "knockgate knock home"`, while a knock asks ssh for its keys."""
    addresses()
    key = new_key(home, "k")
    with gate(public(key)) as there:
        monkeypatch.setenv("KNOCKGATE_KNOCKING", "1")
        assert knockgate(*words_for(home, "-i", str(key))) == (0, "", "")
        monkeypatch.delenv("KNOCKGATE_KNOCKING")
        assert there.knocks == []
        assert knockgate(*words_for(home, "-i", str(key))).returncode == 0
        there.number(1)


@isolated
def test_an_address_of_the_other_family_lets_in_nobody_who_waits(home: Path) -> None:
    addresses()
    words = ("-i", str(new_key(home, "k")), "--wait", "22", "--timeout", "0.1")
    for host, other, said in ((HERE6, HERE, "IPv6: -4"), (HERE, HERE6, "IPv4: -6")):
        for allow in (other, host):
            done = knockgate(*words_for(home, *words, "-a", allow, host=host))
            (line,) = [each for each in done.stderr.splitlines() if "asked for" in each]
            more = f", and the door was tried over {said}" if allow == other else ""
            assert line == f"knockgate: asked for ssh for {allow}{more}"
