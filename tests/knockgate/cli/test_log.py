"""``log`` on files, on pipes, and on a journal that is a file; tests/systemd has a real one."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import REPO
from tests.knockgate.cli.journals import FileJournal, Site, conforms, objects
from tests.knockgate.cli.process import Done, command, environment, knockgate
from tests.netns import DEADLINE, until

from knockgate.cli.loglines import Wanted, of_line
from knockgate.cli.logsources import UNITS
from knockgate.daemon.log import Event, Record, as_json

KEY = "people/jo@laptop SHA256:AbCdEfGhIj"
NAMES = ("event", "message", "MESSAGE", "time", "door", "source", "__REALTIME_TIMESTAMP")
NOON = 1893499200.0  # 2030-01-01 12:00 UTC
LISTENER = "knockgate-listener"


def opened(door: str = "ssh", source: str = "192.0.2.7", key: str | None = KEY) -> str:
    record = Record(
        event=Event.OPENED, door=door, source=source, sender=source, by="sealed", key=key, seconds=30.0
    )
    return as_json(LISTENER, f"open {door} for {source} (packet of {key}, 30s)", record)


def refused(sender: str = "198.51.100.9") -> str:
    record = Record(event=Event.REFUSED, by="sealed", key=KEY, reason="stale", sender=sender)
    return as_json(LISTENER, f"a knock of {KEY} is refused: it is too old", record)


def note(text: str) -> str:
    return as_json(LISTENER, text, Record())


TEXT = "knockgate-warden: guarding ssh\nknockgate-listener: open ssh for 192.0.2.7 (packet of jo, 30s)\n"


def logged(folder: Path, *lines: str) -> str:
    file = folder / "log"
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


def shows(*words: str) -> list[str]:
    done = knockgate("log", *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


# --- files --------------------------------------------------------------------------------------------


def test_records_are_aligned_and_chosen_by_their_fields(tmp_path: Path) -> None:
    lines = [note("listening"), opened(), refused(), opened("web", "2001:db8:1:2::/64", None)]
    file = logged(tmp_path, *lines)
    heading, *rows = shows("--file", file)
    places = [heading.index(each) for each in ("EVENT", "DOOR", "SOURCE", "KEY", "MESSAGE")]
    cells = [[row[a:b].strip() for a, b in zip(places, [*places[1:], None], strict=True)] for row in rows]
    assert cells == [
        ["note", "", "", "", "listening"],
        ["opened", "ssh", "192.0.2.7", KEY, f"open ssh for 192.0.2.7 (packet of {KEY}, 30s)"],
        ["refused", "", "198.51.100.9", KEY, f"a knock of {KEY} is refused: it is too old"],
        ["opened", "web", "2001:db8:1:2::/64", "", "open web for 2001:db8:1:2::/64 (packet of None, 30s)"],
    ]

    def numbers(*words: str) -> list[int]:
        found = [
            json.dumps({k: v for k, v in each.items() if k != "time"})
            for each in objects("\n".join(shows("--json", "--file", file, *words)))
        ]
        return [lines.index(each) for each in found]

    assert numbers() == [0, 1, 2, 3]
    assert numbers("--event", "opened") == [1, 3]
    assert numbers("--event", "opened", "--event", "refused") == [1, 2, 3]
    assert numbers("--door", "web") == [3]
    assert numbers("--key", "JO@") == [1, 2]
    assert numbers("--source", "192.0.2.7") == [1]
    assert numbers("--source", "::ffff:192.0.2.7") == [1]
    assert numbers("--source", "198.51.100.0/24") == [2]  # who sent it
    assert numbers("--source", "2001:db8:1:2:3::4") == [3]  # is in that network
    assert numbers("--last", "2", "--key", "jo") == [1, 2]


def test_of_a_line_of_text_nobody_can_tell_and_it_is_said(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text(TEXT)
    assert shows("--file", str(file)) == ["MESSAGE", *TEXT.splitlines()]
    for words in (["--event", "opened"], ["--door", "web"], ["--key", "jo"], ["--source", "192.0.2.7"]):
        done = knockgate("log", "--file", str(file), *words)
        assert done.returncode == 0
        assert done.stdout.splitlines()[1:] == TEXT.splitlines()
        said, hint = done.stderr.splitlines()
        assert said.startswith("knockgate: 2 lines: nobody can tell what they are about, so they are shown")
        assert hint == '  hint: with log = "json" in [gate] each line says it'
    done = knockgate("log", "--file", str(file), "--since", "1h", "--json")
    assert objects(done.stdout) == [{"time": None, "message": line} for line in TEXT.splitlines()]
    assert "when they were written" in done.stderr and "hint" not in done.stderr
    # Beside them a line that says it is judged: the control.
    file.write_text(f"{TEXT}{opened()}\n")
    done = knockgate("log", "--file", str(file), "--door", "web")
    assert done.stdout.splitlines()[1:] == TEXT.splitlines()


def test_what_others_have_put_a_time_before(tmp_path: Path) -> None:
    """syslog, journalctl in both its forms, and what we have printed ourselves."""
    noon = {"__REALTIME_TIMESTAMP": str(round(NOON * 1e6)), "MESSAGE": opened("c"), "__CURSOR": "s=1"}
    lines = [
        f"2030-01-01T11:59:58.000000+00:00 gate python3[471]: {opened('a')}",
        f"2030-01-01T13:59:59+0200 gate python3[471]: {opened('b')}",
        json.dumps(noon),
        json.dumps({"time": NOON + 1, **json.loads(opened("d"))}),
        f"Jan  1 12:00:02 gate python3[471]: {opened('e')}",
    ]
    file = logged(tmp_path, *lines)
    found = objects("\n".join(shows("--json", "--file", file)))
    assert [(each["time"], each["door"]) for each in found] == [
        (NOON - 2, "a"),
        (NOON - 1, "b"),
        (NOON, "c"),
        (NOON + 1, "d"),
        (None, "e"),
    ]
    rows = shows("--file", file)
    assert rows[1].startswith("2030-01-01 11:59:58  opened")
    assert rows[5].startswith("Jan  1 12:00:02      opened")
    done = knockgate(
        "log", "--file", file, "--json", "--since", "2030-01-01T12:00:00Z", "--until", "2030-01-01 12:00"
    )
    assert [each["door"] for each in objects(done.stdout)] == ["c", "e"]
    assert "1 line: nobody can tell when they were written" in done.stderr
    for words, doors in ((["--until", "2030-01-01"], "abcde"), (["--since", "2030-01-02"], "e")):
        done = knockgate("log", "--file", file, "--json", *words)
        assert "".join(each["door"] for each in objects(done.stdout)) == doors


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "{}",
        "[1]",
        '{"event": 1, "message": 2}',
        '{"event": "opened"}',
        '{"MESSAGE": null}',
        "[" * 9999,
        '{"MESSAGE": [1, "a", [300]]}',
        '{"event": "opened", "message": "m", "door": 7, "time": true}',
        '{"event": "opened", "message": "m", "source": "somewhere"}',
        "\x1b[2J",
        "x" * 3000000,
        "",
        '{"MESSAGE": "m", "__REALTIME_TIMESTAMP": "-1"}',
        '{"event":"note","message":"m","time":1e308}',
    ],
    ids=lambda line: line[:12],
)
def test_no_line_is_too_strange(line: str, tmp_path: Path) -> None:
    file = logged(tmp_path, line, opened())
    for words in ([], ["--door", "ssh"], ["--source", "192.0.2.7", "--since", "1h"], ["--json"]):
        done = knockgate("log", "--file", file, *words)
        assert done.returncode == 0
        assert "open ssh for 192.0.2.7" in done.stdout.splitlines()[-1]
        assert "\x1b" not in done.stdout or "--json" in words


@given(
    line=st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner),
        ).map(json.dumps),
    )
)
def test_any_line_is_read_as_something(line: str) -> None:
    entry = of_line(line)
    assert isinstance(entry.message, str)
    assert entry.time is None or 0 <= entry.time < 253402300800
    json.dumps(entry.facts())
    wanted = Wanted(frozenset(["opened"]), "ssh", "jo", ipaddress.ip_network("10.0.0.0/8"), 1.0, 2.0)
    assert wanted.takes(entry) in (True, False, None)
    assert Wanted().takes(entry) is True


@given(
    st.builds(Record, event=st.sampled_from(Event), door=st.text(max_size=99), seconds=st.floats(0, 1e6)),
    st.text(),
)
def test_what_is_logged_is_read_again(record: Record, text: str) -> None:
    line = as_json(LISTENER, text, record)
    entry = of_line(line)
    assert entry.fields == json.loads(line)
    assert Wanted(frozenset([record.event.value])).takes(entry) is True
    others = frozenset(each.value for each in Event) - {record.event.value}
    assert Wanted(others).takes(entry) is False


def test_all_units_are_read() -> None:
    units = {each.stem for each in (REPO / "src" / "knockgate" / "units").glob("*.service")}
    assert set(UNITS) == units


def test_a_mistake_is_told(tmp_path: Path) -> None:
    file = logged(tmp_path, opened())
    for words, message, hint in (
        (["--event", "opend"], "'opend' is not one of 'opened', 'not-opened', 'refused',", ""),
        (["--since", "soon"], "--since: 'soon' is no time", "ten minutes ago"),
        (["--until", "2030-13-01"], "--until: '2030-13-01' is no time", "UTC"),
        (["--since", "10 minutes"], "--since: '10 minutes' is no time", ""),
        (["--source", "jo"], "--source: 'jo' is no address", "192.0.2.0/24"),
        (["--last", "-1"], "-1 is not in the range", ""),
        (["--follow", "--until", "1h"], "--until has an end", ""),
        (["--file", str(tmp_path / "none")], "none: No such file or directory", ""),
        (["--file", str(tmp_path)], "Is a directory", ""),
        (["--file", "-", "--follow", "--last", "1"], "--last counts from the end", ""),
    ):
        done = knockgate("log", "--file", file, *words) if "--file" not in words else knockgate("log", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr and hint in done.stderr and len(done.stderr.splitlines()) <= 2
    every = knockgate("log", "--event", "x").stderr
    assert all(f"'{each.value}'" in every for each in Event)
    page = " ".join(knockgate("log", "--help").stdout.split())
    assert f"EVENT is one of: {', '.join(each.value for each in Event)}." in page


def test_an_empty_log_is_said(tmp_path: Path) -> None:
    done = knockgate("log", "--file", logged(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "knockgate: the log is empty\n")
    done = knockgate("log", "--file", logged(tmp_path, opened()), "--door", "web")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "knockgate: the log has no such line\n")


# --- what comes ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def following(folder: Path, *words: str, **environ: str) -> Iterator[Callable[[], str]]:
    said = folder / "said"
    with said.open("wb") as stream:
        running = subprocess.Popen(
            command("log", "--follow", *words),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.PIPE,
            env=environment(**environ),
        )
    try:
        yield said.read_text
        assert running.poll() is None
        running.send_signal(2)
        _, err = running.communicate(timeout=DEADLINE)
        assert (running.returncode, err) == (0, b"")
    finally:
        running.kill()
        running.wait()


def test_a_file_is_followed_by_its_name(tmp_path: Path) -> None:
    file = Path(logged(tmp_path, opened("a"), opened("b"), note("x")))
    with following(tmp_path, "--file", str(file), "--event", "opened", "--last", "1", "--json") as said:

        def doors() -> str:
            return "".join(each["door"] for each in objects(said()))

        until(lambda: doors() == "b", "the last one")
        with file.open("a") as stream:
            stream.write(f"{note('y')}\n{opened('c')}\n")
        until(lambda: doors() == "bc", "what is added")
        file.rename(tmp_path / "log.1")  # as logrotate does
        file.write_text(f"{opened('d')}\n")
        until(lambda: doors() == "bcd", "what is in the new one")


def test_what_is_piped_is_shown_at_once() -> None:
    pipe = subprocess.PIPE
    words = command("log", "--follow", "--file", "-", "--door", "ssh")
    with subprocess.Popen(
        words, stdin=pipe, stdout=pipe, stderr=pipe, env=environment(), text=True
    ) as running:
        assert running.stdin and running.stdout and running.stderr
        for line in (opened("web"), opened(), "text"):
            running.stdin.write(f"{line}\n")
            running.stdin.flush()
            if line == opened():
                assert running.stdout.readline().split()[0] == "TIME"
                assert running.stdout.readline().split()[:3] == ["opened", "ssh", "192.0.2.7"]
        assert running.stdout.readline().strip() == "text"
        assert running.stderr.readline().startswith("knockgate: lines like the next: nobody can tell")
        running.stdin.close()
        assert running.wait(DEADLINE) == 0


def test_it_ends_when_its_reader_leaves(tmp_path: Path) -> None:
    """Also where nothing more comes."""
    file, pipe = logged(tmp_path, opened()), subprocess.PIPE
    for words in (["--file", file, "--follow"], ["--file", logged(tmp_path, *[opened()] * 9999)]):
        with subprocess.Popen(command("log", *words), stdout=pipe, stderr=pipe, env=environment()) as running:
            assert running.stdout and running.stderr
            assert b"EVENT" in running.stdout.readline()
            running.stdout.close()
            assert running.wait(DEADLINE) == 141
            assert running.stderr.read() == b""


# --- journals -----------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileJournal:
    found = FileJournal(tmp_path)
    monkeypatch.setenv("PATH", f"{found.programs}:{os.environ['PATH']}")
    return found


def test_a_journal_that_is_a_file_conforms(journal: FileJournal, tmp_path: Path) -> None:
    unit = f"{LISTENER}.service"
    now = time.clock_gettime(time.CLOCK_REALTIME) - 100
    journal.add("ssh.service", opened("not-ours"), now)
    journal.add(
        unit, "Started knockgate-listener.service - knockgate: hears knocks.", now + 1, by_systemd=True
    )
    journal.add(unit, note("listening"), now + 2)
    journal.add("knockgate-keeper.service", "knockgate-keeper: begun", now + 2)
    journal.add(unit, opened(), now + 3.5)
    journal.add(unit, list(refused().encode()), now + 4)
    journal.add("ssh.service", "Accepted", now + 5)
    site = Site(
        log=lambda *words: knockgate("log", *words),
        following=lambda *words: following(tmp_path, *words),
        knock=lambda: journal.add(unit, opened(), now + 6),
        door="ssh",
        source="192.0.2.7",
        key=KEY,
    )
    conforms(site)
    assert knockgate("log", "--door", "not-ours").stderr.startswith("knockgate: 1 line: nobody can tell")


def test_more_than_a_screenful_is_said_to_be_more(journal: FileJournal) -> None:
    for number in range(101):
        journal.add(f"{LISTENER}.service", note(f"line {number}"), NOON + number)
    done = knockgate("log")
    assert done.stderr.splitlines() == [
        "knockgate: these are the last 100 lines, and there are more",
        "  hint: --last N shows so many, --since TIME all from then on",
    ]
    assert len(done.stdout.splitlines()) == 101 and "line 0" not in done.stdout.split()
    for words in (["--last", "101"], ["--since", "2000-01-01"]):
        done = knockgate("log", *words)
        assert (len(done.stdout.splitlines()), done.stderr) == (102, "")


def test_a_journal_that_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(path: str) -> Done:
        monkeypatch.setenv("PATH", path)
        done = knockgate("log")
        assert (done.returncode, done.stdout) == (2, "")
        assert "hint: --file FILE reads what `knockgate run` has said" in done.stderr
        return done

    assert "there is no journalctl on this host" in without("/nonexistent").stderr
    broken = FileJournal(tmp_path)
    monkeypatch.setattr("knockgate.cli.logsources._JOURNALS", (str(tmp_path / "none"),))
    assert "there is no journal on this host" in without(f"{broken.programs}:/usr/bin:/bin").stderr
    # There is one, and the gate has said nothing so far.
    files = tmp_path / "journals" / "0123"
    files.mkdir(parents=True)
    (files / "system.journal").touch()
    monkeypatch.setattr("knockgate.cli.logsources._JOURNALS", (str(files.parent),))
    done = knockgate("log")
    assert (done.returncode, done.stderr) == (0, "knockgate: the log is empty\n")
    (broken.programs / "journalctl").write_text("#!/bin/sh\necho it is broken >&2\nexit 1\n")
    done = knockgate("log")
    assert (done.returncode, done.stderr) == (2, "knockgate: journalctl fails: it is broken\n")
