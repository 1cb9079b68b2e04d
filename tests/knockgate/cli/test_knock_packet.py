"""``knockgate knock`` with a packet: what is in it, whom it lets in, and what is told."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from tests.knockgate.cli.packets import (
    HMAC_KEY,
    KEY,
    SECRET,
    asking,
    file_of_secrets,
    now,
    sent_by,
)
from tests.knockgate.cli.process import knockgate
from tests.knockgate.client.wire import wire
from tests.netns import isolated, run, up, veth

from knockgate.model import address_text
from knockgate.spa.fwknop import Hash, Message, MessageType, Mode, Secret, unseal


@pytest.fixture
def secrets(tmp_path: Path) -> str:
    return file_of_secrets(tmp_path)


# --- what is in it ------------------------------------------------------------------------------------


@isolated
def test_a_packet_has_what_was_asked_for(secrets: str) -> None:
    before = int(now())
    plain = sent_by(*asking(secrets, "-U", "jo"))
    assert (str(plain.step), plain.source, plain.target) == ("udp/62201", "127.0.0.1", "127.0.0.1")
    message = unseal(plain.payload, SECRET).message
    assert before <= message.issued <= now()
    expected = Message(
        nonce=message.nonce,
        username="jo",
        issued=message.issued,
        type=MessageType.ACCESS,
        address=bytes([127, 0, 0, 1]),
        ports=message.ports,
    )
    assert message == expected and [str(port) for port in message.ports] == ["tcp/22"]
    again = unseal(sent_by(*asking(secrets, "-U", "jo")).payload, SECRET).message
    assert again.nonce != message.nonce  # the same question twice is not the same packet

    words = ["-A", "tcp/22,udp/53,443", "-a", "192.0.2.7", "-f", "1h", "-p", "7000", "-m", "SHA3_512"]
    much = sent_by(*asking(secrets, *words, "--hmac-digest-type", "sha512", "-M", "ctr", "-P", "udp"))
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
        sent = sent_by(*asking(secrets, *words, host=host))
        assert address_text(unseal(sent.payload, SECRET).message.address) == address, words
        assert sent.target == host


@isolated
def test_the_hosts_clock_may_be_wrong(secrets: str) -> None:
    for word, ahead in (("--time-offset-minus", -3600), ("--time-offset-plus", 3600)):
        before = int(now())
        issued = unseal(sent_by(*asking(secrets, word, "1h")).payload, SECRET).message.issued
        assert before + ahead <= issued <= now() + ahead


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
        before = int(now())
        issued = unseal(sent_by("knock", "late", *words).payload, SECRET).message.issued
        assert before + ahead <= issued <= now() + ahead


@isolated
def test_a_dry_run_sends_and_asks_nothing(secrets: str) -> None:
    words = asking(secrets, "-f", "90", "-U", "jo")
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
        doubted = knockgate(*asking(secrets, "--dry-run", host=host))
        assert doubted.returncode == 0
        assert doubted.stderr.splitlines() == [
            f"knockgate: {inner} is an inner address: {host} will hardly see it",
            "  hint: behind NAT: -R URL asks for the outer address, -s lets in whoever sends the packet",
        ]
        for words in (["-s"], ["-a", inner]):  # somebody has thought of it
            assert knockgate(*asking(secrets, "--dry-run", *words, host=host)).stderr == ""
    for host in ("10.1.1.1", "fd01::1"):  # inside, that is the address that the host sees
        assert knockgate(*asking(secrets, "--dry-run", host=host)).stderr == ""


@isolated
def test_without_a_route_nobody_is_let_in(secrets: str) -> None:
    lost = knockgate(*asking(secrets, host="203.0.113.9"))
    assert (lost.returncode, lost.stdout) == (2, "")
    assert "this machine has no way to 203.0.113.9" in lost.stderr
    dry = knockgate(*asking(secrets, "--dry-run", host="203.0.113.9"))
    assert "but there is no route: tcp/22 for nobody" in dry.stdout


# --- waiting ------------------------------------------------------------------------------------------


@isolated
def test_a_door_that_stays_shut_is_explained(secrets: str) -> None:
    run("nft", "table inet test { chain door { type filter hook input priority 0; tcp dport 22 drop; }; }")
    words = asking(secrets, "--wait", "22", "--timeout", "0.2")
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
    assert abs(time.mktime(time.strptime(shown[1], "%Y-%m-%d %H:%M:%S")) - time.timezone - now()) < 60
    assert asked == (
        "knockgate: asked for tcp/22 for 127.0.0.1, this machine's address on the way to the host; "
        f"secrets from {secrets}"
    )
    assert hint == "  hint: the host's log has the reason, if the packet came to its udp/62201"
    six = knockgate(*asking(secrets, "--wait", "22", "--timeout", "0.1", host="::1"))
    assert six.stderr.endswith("fwknopd knows no IPv6: -4 or -a ADDRESS\n")
    run("nft", "delete table inet test")
    refused = knockgate(*words)
    assert refused.returncode == 1
    assert refused.stderr.startswith("  hint: the host refuses")
