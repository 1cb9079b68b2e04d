from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from tests.netns import DEADLINE, isolated, run, until

from knockgate.errors import Unavailable
from knockgate.model import Port, Protocol
from knockgate.store import onetime
from knockgate.store.onetime import MAX_BYTES, MAX_STEPS, OneTimeFile, OneTimeLine, parse

TCP, UDP = Protocol.TCP, Protocol.UDP


def tcp(*numbers: int) -> tuple[Port, ...]:
    return tuple(Port(TCP, number) for number in numbers)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sequences"
    path.write_text("# three\n 1,2\n\n 3,4\n 5,6\n")
    return path


# --- reading ------------------------------------------------------------------------------------------

# A line, and the steps it stands for.
GOOD: dict[str, tuple[Port, ...]] = {
    "7000": tcp(7000),
    " 7000,8000,9000": tcp(7000, 8000, 9000),
    "7000:tcp,8000:udp": (Port(TCP, 7000), Port(UDP, 8000)),
    "\t7000 , 8000 : UDP ,9000:Tcp  \r": (Port(TCP, 7000), Port(UDP, 8000), Port(TCP, 9000)),
    "1,65535": tcp(1, 65535),
    "07000": tcp(7000),
    "7000 # for the train": tcp(7000),
    ",".join(["7"] * MAX_STEPS): tcp(*[7] * MAX_STEPS),
}
PASSED_OVER = ["", " ", "\r", "# 7000", "  # 7000", "#7000,8000"]
# A line, and what is said about it.
BAD = {
    "7000,": "a step is missing",
    ",7000": "a step is missing",
    "7000,,8000": "a step is missing",
    "7000,abc": "'abc' is no step",
    "0": "'0' is no step",
    "65536": "'65536' is no step",
    "123456": "'123456' is no step",
    "-1": "'-1' is no step",
    "7000:icmp": "'7000:icmp' is no step",
    "7000:": "'7000:' is no step",
    "7000:udp:udp": "'7000:udp:udp' is no step",
    "7000 8000": "'7000 8000' is no step",
    "7000,8000 # one, two": "'8000 # one' is no step",
    "7000 # one:udp": "'7000 # one:udp' is no step",
    "7\0": r"'7\x00' is no step",
    "7000\N{ARABIC-INDIC DIGIT ONE}": r"is no step",
    ",".join(["7"] * (MAX_STEPS + 1)): f"has {MAX_STEPS + 1} steps; {MAX_STEPS} are possible",
}


@pytest.mark.parametrize("line", GOOD)
def test_reads_a_sequence(line: str) -> None:
    found = parse(f"#\n{line}\n".encode(), "f")
    assert found.unused == {2: OneTimeLine(2, GOOD[line])}
    assert found.mistakes == []


@pytest.mark.parametrize("line", PASSED_OVER)
def test_passes_over_what_is_blank_or_used(line: str) -> None:
    found = parse(f"{line}\n7\n".encode(), "f")
    assert found.unused == {2: OneTimeLine(2, tcp(7))}
    assert found.mistakes == []


@pytest.mark.parametrize("line", BAD)
def test_a_line_that_cannot_be_used_is_named_and_passed_over(line: str) -> None:
    """The rest of the file counts all the same."""
    found = parse(f"7\n{line}\n8\n".encode(), "f")
    assert found.unused == {1: OneTimeLine(1, tcp(7)), 3: OneTimeLine(3, tcp(8))}
    (mistake,) = found.mistakes
    assert (mistake.file, mistake.line) == ("f", 2)
    assert BAD[line] in mistake.message
    assert "7000,8000:udp,9000" in str(mistake.hint)


PORTS = st.builds(Port, st.sampled_from([TCP, UDP]), st.integers(1, 65535))
SEQUENCE = st.lists(PORTS, min_size=1, max_size=5).map(tuple)


def written(steps: tuple[Port, ...]) -> bytes:
    return b" " + ",".join(f"{step.number}:{step.protocol.name.lower()}" for step in steps).encode()


@given(st.lists(SEQUENCE | st.sampled_from(PASSED_OVER).map(str.encode), max_size=8), st.booleans())
def test_reads_what_was_written(lines: list[bytes | tuple[Port, ...]], ended: bool) -> None:
    """Each sequence is found on its line, in order, and where that begins."""
    content = b"\n".join(line if isinstance(line, bytes) else written(line) for line in lines)
    found = parse(content + b"\n" * ended, "f")
    assert found.mistakes == []
    expected = [OneTimeLine(n, line) for n, line in enumerate(lines, 1) if not isinstance(line, bytes)]
    assert list(found.unused.values()) == expected
    for number in found.unused:
        assert content[: found.offsets[number - 1]].count(b"\n") == number - 1
        assert content[found.offsets[number - 1]] == ord(" ")


CHARACTERS = st.sampled_from(list(b"0123456789,:#\n\r \ttcpud\0\xff-"))


@given(st.lists(CHARACTERS, max_size=80).map(bytes) | st.binary(max_size=80))
def test_no_content_is_an_error(content: bytes) -> None:
    """Whatever stands in the file is read; using up each line in turn leaves the others as they were."""
    found = parse(content, "f")
    event(f"{len(found.unused)} sequences, {bool(found.mistakes)}")
    assert len(found.offsets) == content.count(b"\n") + 1
    for line in found.unused.values():
        at = found.offsets[line.number - 1]
        content = content[:at] + b"#" + content[at + 1 :]
        rest = parse(content, "f")
        assert list(rest.unused) == [number for number in found.unused if number > line.number]
        assert all(rest.unused[number] == found.unused[number] for number in rest.unused)


def test_no_more_mistakes_are_told_than_fit_a_screen() -> None:
    found = parse(b"x\n" * 1000 + b"7\n", "f")
    assert len(found.mistakes) == 20
    assert list(found.unused) == [1001]


# --- claiming -----------------------------------------------------------------------------------------


def test_lines_are_used_in_order_and_nothing_else_changes(file: Path) -> None:
    sequences = OneTimeFile(str(file))
    inode = file.stat().st_ino
    for number, steps, content in (
        (2, tcp(1, 2), "# three\n#1,2\n\n 3,4\n 5,6\n"),
        (4, tcp(3, 4), "# three\n#1,2\n\n#3,4\n 5,6\n"),
        (5, tcp(5, 6), "# three\n#1,2\n\n#3,4\n#5,6\n"),
    ):
        line = sequences.current()
        assert line == OneTimeLine(number, steps)
        assert sequences.claim(line)
        assert not sequences.claim(line)
        assert file.read_text() == content
    assert sequences.current() is None
    assert file.stat().st_ino == inode


def test_the_mistakes_are_those_of_the_last_look(file: Path) -> None:
    sequences = OneTimeFile(str(file))
    file.write_text("x\n7\n")
    assert sequences.current() == OneTimeLine(2, tcp(7))
    assert [str(mistake) for mistake in sequences.mistakes] == [f"{file}:1: 'x' is no step"]
    file.write_text("7\n")
    sequences.current()
    assert sequences.mistakes == []


@pytest.mark.parametrize(
    "content",
    [
        "# three\n 1,2,3\n",  # longer
        "# three\n 1\n",  # shorter
        "# three\n 1,3\n",  # other in the second half only
        "# three\n 1,2:udp\n",
        "# three\n\n 1,2\n",  # on the next line
        "# three\n#1,2\n",  # used by somebody else
        "",
    ],
)
@pytest.mark.parametrize("by", ["writing", "renaming"])
def test_a_line_that_changed_meanwhile_is_not_claimed(file: Path, content: str, by: str) -> None:
    """Compared are all steps; the file stays as it was changed. What did not change is claimed (control)."""
    sequences = OneTimeFile(str(file))
    line = sequences.current()
    assert line
    for text, claimed in ((content, False), (" #\n 1,2\n 8\n", True)):
        new = file.with_name("new") if by == "renaming" else file
        new.write_text(text)
        new.rename(file)
        assert sequences.claim(line) is claimed
        assert file.read_text() == (text if not claimed else " #\n#1,2\n 8\n")


def test_a_file_that_is_replaced_while_it_is_opened(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking another one takes its name: that one counts, the old one is left alone."""
    sequences = OneTimeFile(str(file))
    line = sequences.current()
    assert line
    old = file.open()
    lock = fcntl.flock

    def replace_first(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        file.with_name("new").write_text("\n 1,2\n")
        file.with_name("new").rename(file)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", replace_first)
    with old:
        assert sequences.claim(line)
        assert old.read() == "# three\n 1,2\n\n 3,4\n 5,6\n"
    assert file.read_text() == "\n#1,2\n"


WORKER = """
import sys, time
from knockgate.store.onetime import OneTimeFile
sequences = OneTimeFile(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while line := sequences.current():
    if sequences.claim(line):
        print(line.number, flush=True)
        time.sleep(0.002)  # it is the others' turn
"""


def test_of_several_processes_one_gets_each_line(tmp_path: Path) -> None:
    """Four processes take lines from one file as fast as they can; each line goes to one of them."""
    path = tmp_path / "sequences"
    path.write_text("".join(f" {number},{number + 1}\n" for number in range(1, 101)))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    got = []
    try:
        for worker in workers:
            assert worker.stdout and worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("\n")
            worker.stdin.flush()
        for worker in workers:
            got.append([int(number) for number in worker.communicate(timeout=DEADLINE)[0].split()])
            assert worker.returncode == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert sorted(number for each in got for number in each) == list(range(1, 101))
    assert len([each for each in got if each]) > 1  # they did meet
    assert path.read_text() == "".join(f"#{number},{number + 1}\n" for number in range(1, 101))


def test_a_claim_that_may_not_be_on_the_disk_is_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses, the line is spent and nobody has it; the next one can be claimed (control)."""

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    sequences = OneTimeFile(str(file))
    line = sequences.current()
    assert line
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(Unavailable, match="Input/output error"):
            sequences.claim(line)
    assert not sequences.claim(line)
    following = sequences.current()
    assert following and sequences.claim(following)


def test_whoever_locks_the_file_for_ever_does_not_stop_us(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a moment it is said that the file is in use; when the lock is gone the claim goes through."""
    monkeypatch.setattr(onetime, "_PATIENCE", 0.05)
    sequences = OneTimeFile(str(file))
    line = sequences.current()
    assert line
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        start = time.monotonic()
        with pytest.raises(Unavailable, match="in use"):
            sequences.claim(line)
        assert time.monotonic() - start < 1
    assert sequences.claim(line)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A missing file, a folder, a pipe that nobody writes to, too large a file, a name that is none."""
    os.mkfifo(tmp_path / "pipe")
    large = tmp_path / "large"
    large.write_bytes(b"7\n".ljust(MAX_BYTES, b"\n"))
    assert OneTimeFile(str(large)).current() == OneTimeLine(1, tcp(7))  # control
    large.write_bytes(b"7\n".ljust(MAX_BYTES + 1, b"\n"))
    for name, said in (
        ("missing", "No such file"),
        (".", "Is a directory"),
        ("pipe", "is no file"),
        ("large", "larger than"),
        ("\0", "null byte"),
    ):
        with pytest.raises(Unavailable, match=said) as caught:
            OneTimeFile(f"{tmp_path}/{name}").current()
        assert caught.value.hint


# --- knockd as a control ------------------------------------------------------------------------------


class Knockd:
    """The real one, on lo, with a door that uses the file."""

    def __init__(self, folder: Path, file: Path) -> None:
        conf, self._log = folder / "knockd.conf", folder / "log"
        conf.write_text(f"[door]\none_time_sequences = {file}\ntcpflags = syn\ncommand = :\n")
        with self._log.open("w") as log:
            command = ["stdbuf", "-oL", "knockd", "-D", "-v", "-i", "lo", "-c", str(conf)]
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.until_says("listening")

    def until_says(self, what: str) -> str:
        return until(lambda: self._log.read_text() if what in self._log.read_text() else "", what)

    def knock(self, *ports: int) -> None:
        run("knock", "-d", "20", "127.0.0.1", *map(str, ports))

    def status_after(self, *ports: int) -> int | None:
        self.knock(*ports)
        return self._process.poll()

    def end(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE)


@isolated
def test_shares_the_file_with_knockd(tmp_path: Path) -> None:
    """What knockd has used is used for us, and what we have used is used for knockd."""
    file = tmp_path / "sequences"
    file.write_text(" 7001,7002\n# x\n 7003, 7004:UDP\n 7005\n")
    sequences = OneTimeFile(str(file))
    assert sequences.current() == OneTimeLine(1, tcp(7001, 7002))
    knockd = Knockd(tmp_path, file)
    knockd.knock(7001, 7002)
    until(lambda: file.read_text().startswith("#"), "knockd uses the first line")
    knockd.end()
    line = sequences.current()
    assert line == OneTimeLine(3, (Port(TCP, 7003), Port(UDP, 7004)))
    assert sequences.claim(line)
    knockd = Knockd(tmp_path, file)
    assert "new sequence for door door: 7005:tcp" in knockd.until_says("new sequence")
    knockd.end()


@isolated
def test_knockd_ends_with_its_last_sequence_and_spends_the_wrong_line(tmp_path: Path) -> None:
    """knockd looks for half of the used sequence and dies when all are used; here neither is so."""
    file = tmp_path / "sequences"
    file.write_text(" 7001,7002\n")
    sequences = OneTimeFile(str(file))
    used = sequences.current()
    knockd = Knockd(tmp_path, file)
    file.write_text(" 7001,7009\n 7001,7002\n")  # the admin puts a line in front
    knockd.knock(7001, 7002)
    until(lambda: "#" in file.read_text(), "knockd uses a line")
    assert file.read_text() == "#7001,7009\n 7001,7002\n"  # the one that was knocked can be used again
    assert until(lambda: knockd.status_after(7001, 7002), "knockd ends by itself") == -signal.SIGABRT
    assert file.read_text() == "#7001,7009\n#7001,7002\n"

    file.write_text(" 7001,7009\n 7001,7002\n")
    assert used and not sequences.claim(used)
    assert sequences.claim(OneTimeLine(2, tcp(7001, 7002)))
    assert file.read_text() == " 7001,7009\n#7001,7002\n"
