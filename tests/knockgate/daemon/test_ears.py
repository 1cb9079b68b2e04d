"""A running gate knows the networks out of which it was opened, and hears them first."""

from __future__ import annotations

import secrets
import signal
import stat
import time
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, CLIENT6, OTHER, leases
from tests.knockgate.daemon.test_packets import ALICE, OPENED, PORT, key, message, stage, until_open
from tests.netns import Sender, isolated, mac, until
from tests.packets import UDP, ipv4, raw, udp

from knockgate.config.doors import Gate
from knockgate.daemon import ears
from knockgate.daemon.ears import Ears, Sounds
from knockgate.spa.fwknop import Secret, seal

OPENED_OTHER = ("tcp/22", OTHER, "packet")


def known(folder: Path) -> list[str]:
    path = folder / "state" / "known-networks"
    return path.read_text().splitlines() if path.exists() else []


def rings() -> set[str]:
    """The packet sockets that hear something, by their number."""
    lines = Path("/proc/net/packet").read_text().splitlines()[1:]
    return {fields[-1] for line in lines if (fields := line.split())[3] != "0000"}


@isolated
def test_who_has_opened_is_known_from_then_on(tmp_path: Path) -> None:
    with stage(tmp_path, alice="observed = true") as gate:
        before = rings()
        assert known(tmp_path) == [] and len(before) == 4
        gate.knock(message(), Secret(b"c" * 32, b"C" * 64))
        gate.until_refused("not-ours")
        assert known(tmp_path) == [] and rings() == before
        gate.knock(message())
        until_open(OPENED)
        until(lambda: known(tmp_path) == ["10.0.0.0/16"], "its network is known")
        assert stat.S_IMODE((tmp_path / "state" / "known-networks").stat().st_mode) == 0o600
        until(lambda: not rings() & before, "the rings are others")
        assert len(rings()) == 4
        again = rings()
        gate.knock(message(CLIENT6), source=CLIENT6)
        until(lambda: known(tmp_path) == ["fd00::/32", "10.0.0.0/16"], "the other network")
        until(lambda: not rings() & again, "the rings are others")
        # Nothing was heard twice, and all is heard that comes by either of the new rings.
        again = rings()
        gate.knock(message(OTHER))
        until_open(OPENED_OTHER, ("tcp/22", CLIENT6, "packet"))
        status = gate.gate.status()["packets"]
        assert status["opened"] == 3 and status["refused"] == {"not-ours": 1}
        gate.gate.send(signal.SIGHUP)
        gate.gate.until_said("reloaded")
        until(gate.gate.answers, "the listener answers")
        until(lambda: rings() and not rings() & again, "a new listener")
        until(gate.gate.answers, "it answers")  # a moment after it hears
        again = rings()
        gate.knock(message())
        until(lambda: gate.gate.status()["packets"]["opened"] == 1, "it is heard")
        assert known(tmp_path) == ["fd00::/32", "10.0.0.0/16"] and rings() == again  # it was known


@isolated
def test_a_key_that_names_its_senders_makes_them_known(tmp_path: Path) -> None:
    with stage(tmp_path, alice=f'senders = ["{CLIENT}/32"]') as gate:
        before = rings()
        gate.knock(message())
        until_open(OPENED)
        gate.knock(message(OTHER), source=OTHER)
        gate.until_refused("sender-denied")
        assert known(tmp_path) == [] and rings() == before


@isolated
def test_a_broken_list_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "known-networks").write_text("10.0.0.0/99\n")
    (tmp_path / "state" / "known-networks").chmod(0o600)
    with stage(tmp_path) as gate:
        gate.gate.until_said("nobody is known any more")
        gate.knock(message())
        until_open(OPENED)
        until(lambda: known(tmp_path) == ["10.0.0.0/16"], "it is written anew")


@isolated
def test_who_is_known_gets_in_while_junk_is_lost(tmp_path: Path) -> None:
    """So much junk that looks genuine that with these keys most of it finds no room."""
    with stage(tmp_path) as gate:
        more = "".join(
            key(
                tmp_path,
                f"key{number}",
                Secret(secrets.token_bytes(32), secrets.token_bytes(64)),
                'doors = ["web"]',
            )
            for number in range(400)
        )
        gate.knock(message())
        until_open(OPENED)
        until(lambda: known(tmp_path) == ["10.0.0.0/16"], "its network is known")
        gate.gate.write(gate.text + more, gate='clock = "trusted"\n')
        gate.gate.send(signal.SIGHUP)
        gate.gate.until_said("listening for the packets of 402 keys")
        template = seal(message(OTHER), ALICE, salt=b"12345678")
        junk = [
            ipv4(
                udp(PORT, payload=template[:-20] + b"%019dA" % number),
                UDP,
                source=f"11.{number % 251}.3.{number % 250 + 1}",
                destination=running.HOST,
            )
            for number in range(5000)
        ]
        near = mac("near")
        with running.client, Sender("far", near) as wire:
            for packet in junk[:4000]:
                wire.send(packet)
        gate.knock(message(OTHER))
        with running.client, Sender("far", near) as wire:
            for packet in junk[4000:]:
                wire.send(packet)
        until_open(OPENED_OTHER)
        status = gate.gate.status()
        assert status["heard"]["lost"] > 1000
        assert status["packets"]["opened"] == 1
        assert leases() >= {OPENED, OPENED_OTHER}


def test_whom_a_key_names_is_known_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the rings are not opened anew for them. Of IPv6 all that is remembered of an address is meant."""
    monkeypatch.setattr(ears, "KnownFirst", lambda *_, **__: None)
    monkeypatch.setattr(Ears, "_opened", lambda _: (None, None))
    named = [ip_network(each) for each in ("192.0.2.7", "2001:db8:1::/48", "2001:db8:2::/48", "fd00::/16")]
    it = Ears(Gate(state_directory=str(tmp_path)), Sounds(PORT, (), 1.0, "known", named), _complains)
    assert [str(each) for each in it._named] == ["192.0.2.7/32", "2001:db8::/32", "fd00::/16"]
    for address in ("192.0.2.7", "2001:db8:3::1", "fd00:1::1"):
        it.opened(raw(address))
        assert it.next_wakeup() is None
    for address in ("192.0.2.8", "2001:db9::1"):
        it.opened(raw(address))
        assert it.next_wakeup() is not None
    assert [str(each) for each in it._known.networks] == ["2001:db9::/32", "192.0.0.0/16"]


def _complains(line: str, kind: str) -> None:
    raise AssertionError((line, kind))


def test_what_waited_in_rings_that_are_replaced_is_given_out_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nothing else has its turn until thousands are looked at; in their order, and each once."""
    waited = [number.to_bytes(2) for number in range(1000)]
    fake = SimpleNamespace(take=lambda: (), replace=lambda *_: waited)
    monkeypatch.setattr("knockgate.daemon.ears.KnownFirst", lambda *_, **__: fake)
    monkeypatch.setattr(Ears, "_opened", lambda _: (None, None))
    hearing = Ears(Gate(state_directory=str(tmp_path)), Sounds(1, (), 1e-4, "networks"), lambda *_: None)
    assert hearing.next_wakeup() is None and hearing.tick() == ()  # the control
    hearing.opened(bytes([10, 0, 0, 1]))
    monkeypatch.setattr(
        "knockgate.daemon.ears.time", SimpleNamespace(monotonic=lambda: time.monotonic() + 60)
    )
    found: list[bytes] = []
    most = 0
    while (wakeup := hearing.next_wakeup()) is not None:
        assert wakeup <= time.monotonic() + 60
        some = hearing.tick() if len(found) % 2 else hearing.take() or hearing.tick()
        found += some
        most = max(most, len(some))
    assert found == waited and most <= 64
