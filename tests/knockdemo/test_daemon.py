"""The demo's daemon over a real cable: which knocks open, for whom, and for how long."""

from __future__ import annotations

import contextlib
import signal
import socket
from pathlib import Path

from tests.knockdemo.guarding import (
    BYSTANDER,
    CLIENT,
    CLIENT6,
    HOST6,
    KNOCK,
    PORT,
    SHORT,
    WINDOW,
    Daemon,
    is_open,
    knock,
    members,
    milliseconds_left,
    network,
)
from tests.netns import isolated, until


@isolated
def test_a_knock_opens_for_its_source_and_the_kernel_closes(tmp_path: Path) -> None:
    """Shut, then open for who knocked and nobody else, then shut again when the window is over."""
    with network():
        gate = Daemon(tmp_path)
        assert not is_open(CLIENT)
        knock(*KNOCK)
        until(lambda: members() == {CLIENT}, "the client is let in")
        assert is_open(CLIENT)
        assert not is_open(BYSTANDER)
        assert not is_open(CLIENT6, HOST6)
        assert milliseconds_left(CLIENT) <= WINDOW * 1000
        until(lambda: members() == set(), "the kernel has closed")
        assert not is_open(CLIENT)
        assert gate.opened_to(CLIENT) == 1


@isolated
def test_an_ipv6_knock_opens_for_its_source(tmp_path: Path) -> None:
    """A knock over IPv6 opens over IPv6, for that address."""
    with network():
        gate = Daemon(tmp_path)
        assert not is_open(CLIENT6, HOST6)
        knock(*KNOCK, source=CLIENT6, host=HOST6)
        until(lambda: members() == {CLIENT6}, "the client is let in")
        assert is_open(CLIENT6, HOST6)
        assert not is_open(CLIENT)
        until(lambda: members() == set(), "the kernel has closed")
        assert not is_open(CLIENT6, HOST6)
        assert gate.opened_to(CLIENT6) == 1


@isolated
def test_what_is_no_knock_opens_nothing(tmp_path: Path) -> None:
    """A stray port, the wrong order, a part and a sweep open nothing; doubled knocks do open (control)."""
    with network():
        gate = Daemon(tmp_path)
        for ports, times in (
            ((7000, 8000, 7500, 9000), 0),
            ((7000, 8000, PORT, 9000), 0),
            ((9000, 8000, 7000), 0),
            ((8000, 9000), 0),
            (range(7000, 9001, 50), 0),
            ((7000, 7000, 8000, 8000, 9000), 1),
            ((7000, 8000, 1, 7000, 8000, 9000), 2),
        ):
            knock(1, *ports)  # a stray first, so that nothing of before belongs to it
            gate.knocked_by_another()
            assert (ports, gate.opened_to(CLIENT)) == (ports, times)


@isolated
def test_too_slow_a_knock_opens_nothing(tmp_path: Path) -> None:
    """The window of the sequence is the configuration's; the same knock in time opens (control)."""
    with network() as client:
        gate = Daemon(tmp_path, f"{SHORT}sequence_window_seconds = 1\n")
        knock(7000, 8000)
        with client, contextlib.suppress(TimeoutError), socket.socket() as sock:
            sock.settimeout(1.1)
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            sock.accept()  # of nobody: a second passes
        knock(9000)
        gate.knocked_by_another()
        assert gate.opened_to(CLIENT) == 0
        knock(*KNOCK)
        until(lambda: gate.opened_to(CLIENT) == 1, "the client is let in")


@isolated
def test_a_fresh_knock_inside_the_window_gives_the_full_time_again(tmp_path: Path) -> None:
    """Whoever knocks again while the door is open has it open for the whole window from then on."""
    with network():
        gate = Daemon(tmp_path, "open_window_seconds = 15\n")
        knock(*KNOCK)
        until(lambda: gate.opened_to(CLIENT) == 1, "the client is let in")
        until(lambda: milliseconds_left(CLIENT) < 14_500, "some time has passed")
        gate.knocked_by_another()  # control: somebody else's knock renews nothing
        before = milliseconds_left(CLIENT)
        assert before < 14_500
        knock(*KNOCK)
        until(lambda: gate.opened_to(CLIENT) == 2, "the client is let in again")
        assert milliseconds_left(CLIENT) > before


@isolated
def test_a_knock_over_loopback_counts_once(tmp_path: Path) -> None:
    """On lo a packet passes twice, and yet one SYN is one knock: twice the same port needs two."""
    with network():
        gate = Daemon(tmp_path, f"{SHORT}sequence = [7000, 7000, 9000]\n")
        knock(7000, 9000, source="127.0.0.1", host="127.0.0.1")
        knock(7000, 7000, 9000, source="::1", host="::1")
        until(lambda: gate.opened_to("::1") == 1, "the second knock is seen")
        knock(7000, 9000, source="127.0.0.1", host="127.0.0.1")
        knock(7000, 7000, 9000, source="127.0.0.2", host="127.0.0.1")
        until(lambda: gate.opened_to("127.0.0.2") == 1, "the last knock is seen")
        assert gate.opened_to("127.0.0.1") == 0
        assert is_open("127.0.0.2", "127.0.0.1")
        assert not is_open("127.0.0.1", "127.0.0.1")


@isolated
def test_listens_where_the_configuration_says(tmp_path: Path) -> None:
    """With an interface named, a knock on another one does not open; without, it does (control)."""
    with network():
        for text, times in (('interface = "near"\n', 0), ("", 1)):
            gate = Daemon(tmp_path, SHORT + text)
            knock(*KNOCK, source="127.0.0.1", host="127.0.0.1")
            gate.knocked_by_another()
            assert gate.opened_to("127.0.0.1") == times
            assert gate.end(signal.SIGTERM) == 0
