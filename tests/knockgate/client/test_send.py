"""Sending a knock, on a real wire: one packet a step, in order, to one address, never repeated."""

from __future__ import annotations

import errno
import socket
import time

import pytest
from tests.knockgate.client.wire import wire
from tests.netns import Network, isolated, run, until, up, veth

from knockgate.client import send
from knockgate.errors import Unavailable
from knockgate.model import Port, Protocol

STEPS = [Port(Protocol.TCP, 7000), Port(Protocol.UDP, 8000), Port(Protocol.TCP, 9000)]
NAMES = ["tcp/7000", "udp/8000", "tcp/9000"]


def nft(rules: str) -> None:
    run("nft", f"table inet test {{ {rules}; }}")


def silent(*ports: int) -> None:
    """A firewall that says nothing about TCP to these ports."""
    nft(
        "chain silent { type filter hook input priority 0; "
        f"tcp dport {{ {', '.join(map(str, ports))} }} drop; }}"
    )


@pytest.mark.parametrize("is_silent", [False, True])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@isolated
def test_a_step_is_one_packet_and_they_keep_their_order(address: str, is_silent: bool) -> None:
    if is_silent:
        silent(7000, 9000)
    with wire() as lo:
        send.knock(address, [*STEPS, STEPS[0]], delay=0.01)
        seen = lo.openings()
    assert [str(each.step) for each in seen] == [*NAMES, "tcp/7000"]
    assert [each.payload for each in seen] == [b"", b"\0", b"", b""]
    assert {(each.source, each.target) for each in seen} == {(address, address)}


@isolated
def test_a_datagram_is_one_packet_and_one_that_cannot_leave_is_an_error() -> None:
    with wire() as lo:
        began = time.monotonic()
        left_at = send.datagram("127.0.0.1", Port(Protocol.UDP, 62201), b"a packet", source="127.0.0.9")
        assert began <= left_at <= time.monotonic()
        (seen,) = lo.openings()
    assert (str(seen.step), seen.source, seen.payload) == ("udp/62201", "127.0.0.9", b"a packet")
    with pytest.raises(Unavailable, match=r"the packet could not be sent to 203\.0\.113\.9"):
        send.datagram("203.0.113.9", Port(Protocol.UDP, 62201), b"a packet")


@isolated
def test_no_syn_is_repeated_beside_one_that_is() -> None:
    silent(7000, 9000, 9999)
    with wire() as lo, socket.socket() as control:
        send.knock("127.0.0.1", STEPS, delay=0.01)
        control.setblocking(False)
        assert control.connect_ex(("127.0.0.1", 9999)) == errno.EINPROGRESS
        seen: list[str] = []

        def control_came_twice() -> bool:
            seen.extend(lo.steps())
            return seen.count("tcp/9999") == 2

        # Sent after the knock, so by now a repetition of a knock would have come as well.
        until(control_came_twice, "the control's SYN is repeated")
    assert seen == [*NAMES, "tcp/9999", "tcp/9999"]


@isolated
def test_the_delay_is_kept_and_the_last_step_cannot_be_overtaken() -> None:
    silent(9000)
    sent: list[float] = []

    def note(number: int, step: Port) -> None:
        assert step == STEPS[number - 1]
        sent.append(time.monotonic())

    begin = time.monotonic()
    left_at = send.knock("127.0.0.1", STEPS, delay=0.1, on_step=note)
    ended_at = time.monotonic()
    # Each is noted some time after it left, so only the beginning is a place to count from.
    assert all(at >= begin + number * 0.1 for number, at in enumerate(sent))
    assert sent[1] < left_at <= sent[2]
    assert ended_at - left_at >= 0.1  # nobody answers
    run("nft", "delete", "table", "inet", "test")
    begin = time.monotonic()
    send.knock("127.0.0.1", STEPS[2:], delay=10)
    assert time.monotonic() - begin < 5  # the refusal is an answer: no need to wait


@pytest.mark.parametrize(("address", "source"), [("127.0.0.1", "127.0.0.7"), ("fd00::1", "fd00::2")])
@isolated
def test_every_packet_comes_from_the_source(address: str, source: str) -> None:
    up("lo", "fd00::1/128", "fd00::2/128")
    with wire() as lo:
        send.knock(address, STEPS, delay=0.001, source=source)
        assert {each.source for each in lo.openings()} == {source}
        send.knock(address, STEPS, delay=0.001)
        assert {each.source for each in lo.openings()} == {address}
    assert send.local_address(address, source) == source
    assert send.local_address(address) == address


@pytest.mark.parametrize(
    ("address", "steps", "what", "hint"),
    [
        ("203.0.113.9", STEPS, "step 1 of 3 (tcp/7000)", "no way to 203.0.113.9"),
        ("2001:db8::9", STEPS[1:2], "step 1 of 1 (udp/8000)", "no way to 2001:db8::9"),
        ("198.51.100.9", STEPS, "step 1 of 3 (tcp/7000)", "policy"),
        ("127.0.0.1", STEPS, "step 2 of 3 (udp/8000)", "firewall"),
    ],
)
@isolated
def test_a_packet_that_cannot_leave_is_named(address: str, steps: list[Port], what: str, hint: str) -> None:
    run("ip", "route", "add", "prohibit", "198.51.100.0/24")
    send.knock("127.0.0.1", STEPS, delay=0)  # the control: nothing is in the way yet
    nft("chain out { type filter hook output priority 0; udp dport 8000 drop; }")
    with pytest.raises(Unavailable) as caught:
        send.knock(address, steps, delay=0)
    assert caught.value.message.startswith(f"{what} could not be sent to {address}: ")
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("address", "source", "message"),
    [
        ("127.0.0.1", "192.0.2.1", "'192.0.2.1' is not an address of this machine"),
        ("127.0.0.1", "moon", "'moon' is not an address of this machine"),
        ("127.0.0.1", "::1", "::1 cannot send to 127.0.0.1: one is IPv4 and the other is IPv6"),
    ],
)
@isolated
def test_a_source_that_is_not_ours_is_refused_before_anything_leaves(
    address: str, source: str, message: str
) -> None:
    with wire() as lo:
        for act in (
            lambda: send.local_address(address, source),
            lambda: send.knock(address, STEPS, source=source),
        ):
            with pytest.raises(Unavailable) as caught:
                act()
            assert caught.value.message == message
        assert lo.openings() == []


@isolated
def test_the_first_knock_arrives_where_the_neighbour_is_not_yet_known() -> None:
    """Closing at once must not lose a SYN that waits for ARP, and the order is kept."""
    far = Network()
    veth("near", "far", far)
    up("near", "10.9.9.1/24")
    with far:
        up("far", "10.9.9.2/24")
        hears = wire("near")
    with hears as near:
        assert "10.9.9.2" not in run("ip", "neighbour")
        send.knock("10.9.9.2", STEPS, delay=0)
        seen: list[str] = []

        def all_left() -> bool:
            seen.extend(near.steps())
            return len(seen) >= 3

        until(all_left, "all steps leave")
    assert seen == NAMES


@pytest.mark.parametrize(
    ("host", "family", "address"),
    [
        ("127.0.0.1", socket.AF_UNSPEC, "127.0.0.1"),
        ("[::1]", socket.AF_UNSPEC, "::1"),
        ("fe80::1%lo", socket.AF_UNSPEC, "fe80::1%lo"),
        ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
    ],
)
def test_an_address_is_itself(host: str, family: send.Family, address: str) -> None:
    assert send.resolve(host, family) == address


def test_a_name_is_asked_for_in_the_wanted_family_and_the_first_answer_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {
        socket.AF_UNSPEC: ["2001:db8::1", "192.0.2.1"],
        socket.AF_INET: ["192.0.2.1", "192.0.2.2"],
    }

    def getaddrinfo(name: str, port: None, family: send.Family, kind: int) -> list[object]:
        assert (name, port, kind) == ("gate.example", None, socket.SOCK_STREAM)
        return [(family, kind, 6, "", (address, 0)) for address in answers[family]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert send.resolve("gate.example") == "2001:db8::1"
    assert send.resolve("gate.example", socket.AF_INET) == "192.0.2.1"


@pytest.mark.parametrize(
    ("host", "family", "hint"),
    [
        ("", socket.AF_UNSPEC, "check the spelling"),
        ("..", socket.AF_UNSPEC, "check the spelling"),
        ("127.0.0.1", socket.AF_INET6, "it is an IPv4 address"),
        ("[::1]", socket.AF_INET, "it is an IPv6 address"),
        ("127.0.0.1:7000", socket.AF_UNSPEC, "words of their own"),
        ("fe80::1%moon0", socket.AF_UNSPEC, "the interface after the %"),
        ("fe80::1", socket.AF_UNSPEC, "add the interface, as in fe80::1%eth0"),
    ],
)
def test_a_host_that_means_nothing_is_refused_with_a_hint(host: str, family: send.Family, hint: str) -> None:
    with pytest.raises(Unavailable) as caught:
        send.resolve(host, family)
    assert hint in (caught.value.hint or "")
