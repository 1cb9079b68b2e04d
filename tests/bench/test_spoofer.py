from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from bench.packets import _checksum
from bench.spoofer import BATCH, flood, frames


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_every_frame_of_a_flood_is_another_and_its_checksums_hold(host: str) -> None:
    text, size = frames(5000, bytes(6), bytes(6), host, 7000)
    each = [bytes(text[at : at + size]) for at in range(0, len(text), size)]
    sources = {frame[22:38] if ":" in host else frame[26:30] for frame in each}
    assert len(sources) == len(each) == 5000
    for frame in each:
        if ":" in host:
            assert _checksum(frame[22:54] + b"\0\0\0\x14\0\0\0\6" + frame[54:]) == 0
        else:
            assert _checksum(frame[14:34]) == 0
            assert _checksum(frame[26:34] + b"\0\6\0\x14" + frame[34:]) == 0


def test_all_frames_are_sent_as_often_as_it_was_said() -> None:
    text, size = frames(2 * BATCH, bytes(6), bytes(6), "192.0.2.1", 7000)
    each = [bytes(text[at : at + size]) for at in range(0, len(text), size)]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, ThreadPoolExecutor(1) as reader:
        theirs.settimeout(10)
        heard = reader.submit(lambda: [theirs.recv(size + 1) for _ in range(3 * len(each))])
        assert flood(ours, text, size, 1_000_000, times=3) == 3 * len(each)
        assert heard.result() == 3 * each
