from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netns import isolated, run
from tests.packets import raw

from knockgate.firewall import nfmessages
from knockgate.firewall.channel import NETLINK_NETFILTER, Channel
from knockgate.firewall.netlink import (
    Message,
    Verb,
    attribute,
    batch,
    failure_of,
    fields,
    items,
    message,
    messages,
    nest,
    number,
    number32,
    string,
    text,
)
from knockgate.model import Port, Protocol

SSH = Port(Protocol.TCP, 22)
KEY = nfmessages.key_of(SSH, raw("192.0.2.7"))


def answer(body: bytes, verb: int = Verb.NEW_ELEMENT, flags: int = 0) -> Message:
    return Message(verb, flags, sequence=1, portid=0, family=1, body=body)


# --- attributes and messages --------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=20))))
def test_attributes_are_read_as_they_were_made(pairs: list[tuple[int, bytes]]) -> None:
    content = b"".join(attribute(kind, payload) for kind, payload in pairs)
    assert len(content) % 4 == 0
    assert items(content) == [payload for _, payload in pairs]
    assert fields(content) == dict(pairs)
    assert fields(nest(1, content)) == {1: content}


def test_attributes_as_the_kernel_has_them() -> None:
    """linux/netlink.h: length with the header but without padding, native; numbers of nf_tables big."""
    assert string(1, "ab") == struct.pack("=HH", 7, 1) + b"ab\0\0"
    assert number32(2, 6) == struct.pack("=HH", 8, 2) + b"\0\0\0\6"
    assert nest(3, b"")[:4] == struct.pack("=HH", 4, 0x8003)
    assert text(b"ab\0cd") == "ab" and text(b"\xff") == "�" and text(None) == ""
    assert number(b"\1\0") == 256 and number(None) == 0


@given(st.binary(max_size=80), st.integers(0, 200))
def test_reading_never_fails(garbage: bytes, cut: int) -> None:
    """Garbage, and whole messages that are cut off: what is whole is read, the rest is not there."""
    for each in messages(garbage):
        read_everything(each)
    for verb in (Verb.NEW_ELEMENT, Verb.DONE, 2):
        for flags in (0, 0x100, 0x200, 0x300):
            read_everything(answer(garbage, verb, flags))
    whole = batch(nfmessages.add_elements("knockgate", "leases4", [KEY], 1000, "hand"))
    found = list(messages(whole[:cut]))
    assert found == list(messages(whole))[: len(found)]
    assert sum(16 + 4 + len(each.body) for each in found if each.verb >> 8) <= cut


def read_everything(each: Message) -> None:
    for read in (
        failure_of,
        nfmessages.table_of,
        nfmessages.chain_of,
        nfmessages.rule_of,
        nfmessages.process_of,
    ):
        read(each)
    for element in nfmessages.elements_of(each):
        for length in (4, 8, 16):
            nfmessages.lease_of(element.key, length)
    list(nfmessages.bounds_of(each))


def test_a_batch_is_framed_and_numbered() -> None:
    """Begin, changes, end, in a row of numbers; the last change is the one to be confirmed."""
    requests = [nfmessages.add_table("a", 6), nfmessages.delete_table("b"), nfmessages.delete_table("c")]
    found = list(messages(batch(requests)))
    assert [each.verb for each in found] == [0x10, *(request.verb for request in requests), 0x11]
    assert [each.sequence for each in found] == [0, 1, 2, 3, 4]
    assert [bool(each.flags & 4) for each in found] == [False, False, False, True, False]
    assert all(each.flags & 1 for each in found)
    assert [each.body for each in found[1:4]] == [request.body for request in requests]
    assert {each.family for each in found[1:4]} == {1}


def test_a_failure_is_told_in_several_ways() -> None:
    """linux/netlink.h: the request is given back whole or capped, and a text may stand behind it."""
    request = message(nfmessages.get_table("knockgate"))
    refused = struct.pack("=i", -errno.EPERM)
    said = string(1, "not for you")
    assert failure_of(answer(refused + request, 2)) == (errno.EPERM, "")
    assert failure_of(answer(refused + request + said, 2, 0x200)) == (errno.EPERM, "not for you")
    assert failure_of(answer(refused + request[:16] + said, 2, 0x300)) == (errno.EPERM, "not for you")
    assert failure_of(answer(struct.pack("=i", 0) + request, 2)) == (0, "")
    assert failure_of(answer(struct.pack("=i", -errno.EINTR), Verb.DONE)) == (errno.EINTR, "")
    assert failure_of(answer(refused)) == (0, "")  # of another verb it means something else


# --- elements -----------------------------------------------------------------------------------------


@given(
    st.sampled_from(Protocol),
    st.integers(1, 65535),
    st.sampled_from([4, 8, 16]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
)
def test_a_key_is_read_as_it_was_made(protocol: Protocol, port: int, source: bytes) -> None:
    """By the set that it lies in: a network looks like its first address, and like no other one."""
    key = nfmessages.key_of(Port(protocol, port), source)
    assert len(key) == (12 if len(source) == 4 else 24)
    assert nfmessages.lease_of(key, len(source)) == (Port(protocol, port), source)
    alike = len(source) != 4 and not any(source[8:])
    for length in {4, 8, 16} - {len(source)}:
        first = source.ljust(16, b"\0")[:length] if alike and length != 4 else None
        assert nfmessages.lease_of(key, length) == (first and (Port(protocol, port), first))


def test_a_key_as_the_kernel_has_it() -> None:
    """Each field of a concatenation fills whole words: 6, and 22 in network order."""
    assert KEY.hex(" ", 4) == "c0000207 06000000 00160000"


@pytest.mark.parametrize(
    "key",
    [b"", KEY[:-1], KEY[:4] + b"\x84" + KEY[5:], KEY[:8] + bytes(4), KEY + KEY[:4]],
    ids=["empty", "short", "sctp", "port 0", "long"],
)
def test_a_key_that_is_no_lease(key: bytes) -> None:
    assert nfmessages.lease_of(KEY, 4)  # the control
    assert nfmessages.lease_of(key, 4) is None


def test_something_behind_a_network_is_no_lease() -> None:
    key = nfmessages.key_of(SSH, raw("2001:db8:1:2::")[:8])
    assert nfmessages.lease_of(key, 8) == (SSH, raw("2001:db8:1:2::")[:8])  # the control
    assert nfmessages.lease_of(key[:15] + b"\1" + key[16:], 8) is None


@given(st.sampled_from([0, 1, 250, 251, 700]), st.text(max_size=200))
def test_elements_are_read_as_they_were_made(count: int, comment: str) -> None:
    """Whatever their number and comment; of a long comment what fits, and none has an attribute too long."""
    keys = [nfmessages.key_of(SSH, index.to_bytes(4, "big")) for index in range(count)]
    requests = nfmessages.add_elements("knockgate", "leases4", keys, 90_000, comment)
    found = [each for request in requests for each in nfmessages.elements_of(answer(request.body))]
    assert [each.key for each in found] == keys
    said = text(comment.encode()[:127])
    assert {each[1:] for each in found} <= {(90_000, 90_000, said, 0)}
    assert all(len(request.body) < 65536 for request in requests)


@pytest.mark.parametrize(
    ("userdata", "comment"),
    [
        (b"\0\5hand\0", "hand"),
        (b"\1\4abcd\0\5hand\0", "hand"),  # behind something of another kind
        (b"\1\4abcd", ""),
        (b"\0", ""),
        (b"\0\xffhand", "hand"),  # says that it is longer than it is
        (b"", ""),
    ],
)
def test_comments_that_others_wrote(userdata: bytes, comment: str) -> None:
    element = nest(1, nest(1, attribute(1, KEY)) + attribute(6, userdata))
    (found,) = nfmessages.elements_of(answer(nest(3, element)))
    assert found == nfmessages.Element(KEY, None, None, comment)


# --- the channel --------------------------------------------------------------------------------------


class Interfering:
    """A socket over which, after each answer, something happens."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._then = then

    def recv(self, size: int, flags: int) -> bytes:
        answer = self._socket.recv(size, flags)
        self._then()
        return answer

    def __getattr__(self, name: str) -> object:
        return getattr(self._socket, name)


SETS = """
add table inet knockgate
add set inet knockgate leases4 { type ipv4_addr . inet_proto . inet_service; flags dynamic,timeout; }
"""


@isolated
def test_a_listing_is_of_one_moment() -> None:
    """Where the rules change meanwhile it is begun again; if that never ends, it says so.

    The kernel goes on at the number of elements that it has told, so one that is deleted hides another.
    """
    run("nft", SETS)
    keys = [nfmessages.key_of(SSH, index.to_bytes(4, "big")) for index in range(1, 1001)]
    undisturbed = Channel(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
    undisturbed.change(nfmessages.add_elements("knockgate", "leases4", keys, 60_000, ""))
    request = nfmessages.elements("knockgate", "leases4")
    assert len(undisturbed.list(request)) > 2
    disturbances = 20

    def disturb() -> None:
        nonlocal disturbances
        if disturbances:
            disturbances -= 1
            undisturbed.change(nfmessages.delete_elements("knockgate", "leases4", [keys.pop()]))

    disturbed = Channel(Interfering(disturb))  # type: ignore[arg-type]
    found = [each.key for part in disturbed.list(request) for each in nfmessages.elements_of(part)]
    assert len(found) == 980
    assert sorted(found) == keys
    to_and_fro = [nfmessages.add_table("other", 0), nfmessages.delete_table("other")]
    ever_disturbed = Channel(Interfering(lambda: undisturbed.change(to_and_fro)))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="change faster") as caught:
        ever_disturbed.list(request)
    assert caught.value.errno == errno.EINTR


@isolated
def test_a_batch_is_made_whole_or_not_at_all() -> None:
    """The failure is that of the first message that failed, and what was before it is undone."""
    run("nft", SETS)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        channel = Channel(sock)
        add = nfmessages.add_elements("knockgate", "leases4", [KEY], 60_000, "")
        for requests, number in (
            ([*add, nfmessages.delete_table("nowhere"), *add], errno.ENOENT),
            ([*add, *nfmessages.add_elements("knockgate", "leases4", [b"x"], 1, ""), *add], errno.EINVAL),
        ):
            with pytest.raises(OSError, match=r".") as caught:
                channel.change(requests)
            assert caught.value.errno == number
            with pytest.raises(FileNotFoundError):
                channel.ask(nfmessages.get_element("knockgate", "leases4", KEY))
        channel.change(add)
        (found,) = nfmessages.elements_of(channel.ask(nfmessages.get_element("knockgate", "leases4", KEY)))
        assert (found.key, found.timeout) == (KEY, 60_000)


@isolated
def test_answers_that_nobody_took_are_passed_over() -> None:
    """libnftables may leave some on the socket that we share with it, even too many for its queue."""
    run("nft", SETS)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        channel = Channel(sock)
        assert channel.portid
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for count in (2, 100):
            for _ in range(count):
                sock.send(message(nfmessages.get_table("nowhere")))
            lost = select.poll()
            lost.register(sock, 0)
            assert bool(lost.poll(0)) == (count == 100)
            assert nfmessages.table_of(channel.ask(nfmessages.get_table("knockgate"))).name == "knockgate"
