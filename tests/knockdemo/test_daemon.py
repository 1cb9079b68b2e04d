from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.netns import DEADLINE, Network, isolated, run, stay_on_one_core, until, up, veth, without_rights

from knockdemo import daemon
from knockgate.mechanisms.sequence import KnockTracker

SRC = Path(__file__).resolve().parents[2] / "src"
HOST, HOST6 = "10.0.0.1", "fd00::1"
CLIENT, BYSTANDER, CLIENT6 = "10.0.0.2", "10.0.0.3", "fd00::2"
PORT, KNOCK = 6500, (7000, 8000, 9000)
WINDOW = 2
SHORT = f"open_window_seconds = {WINDOW}\n"


class Daemon:
    """The daemon as a process of its own, ready; what it says goes to a file."""

    def __init__(self, folder: Path, text: str = SHORT) -> None:
        self._config = folder / "knockdemo.toml"
        self._config.write_text(text, encoding="utf-8")
        self._log = folder / "log"
        self._log.write_text("", encoding="utf-8")
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(command(self._config), stderr=log, env=environment())
        starts = self.log().count("is shut; listening for") + 1
        until(lambda: self.log().count("is shut; listening for") == starts or self.exited(), "ready")
        assert self._process.returncode is None, self.log()

    def exited(self) -> bool:
        return self._process.poll() is not None

    def end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        return self._process.wait(DEADLINE)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def opened_to(self, source: str) -> int:
        """How often it said that it let this source in."""
        return len(re.findall(rf"open to {re.escape(source)} for", self.log()))

    def knocked_by_another(self) -> None:
        """Wait until it has dealt with all knocks so far: a sound one of the bystander's comes last."""
        times = self.opened_to(BYSTANDER)
        knock(*KNOCK, source=BYSTANDER)
        until(lambda: self.opened_to(BYSTANDER) == times + 1, "the last knock is seen")


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "knockdemo.daemon", "--config", str(config)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(SRC)}


def refused(config: Path, **variables: str) -> list[str]:
    """The lines of a daemon that could not start."""
    done = subprocess.run(
        command(config),
        capture_output=True,
        text=True,
        env=environment() | variables,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.splitlines()


client: Network


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A host with a service, and a client with three addresses at the other end of a cable."""
    global client  # noqa: PLW0603 - each test has a process of its own
    stay_on_one_core()
    client = Network()
    veth("near", "far", client)
    up("near", f"{HOST}/24", f"{HOST6}/64")
    with client:
        up("far", f"{CLIENT}/24", f"{BYSTANDER}/24", f"{CLIENT6}/64")
    with socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True):
        # The kernel gets a cable going, and its ends acquainted, a while after both are up.
        until(lambda: is_open(CLIENT, HOST) and is_open(CLIENT6, HOST6), "the service answers")
        yield


def knock(*ports: int, source: str = CLIENT, host: str = HOST) -> None:
    """One SYN to each port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with client if host in (HOST, HOST6) else contextlib.nullcontext():
        for port in ports:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                sock.bind((source, 0))
                sock.connect_ex((host, port))


def is_open(source: str = CLIENT, host: str = HOST) -> bool:
    """Does the service take a connection? A door that is shut does not answer, so this asks for a moment."""
    with client if host in (HOST, HOST6) else contextlib.nullcontext():
        try:
            socket.create_connection((host, PORT), timeout=0.3, source_address=(source, 0)).close()
        except TimeoutError:
            return False
        return True


def members() -> set[str]:
    """Who is in the sets."""
    return set(re.findall(r"([0-9a-f.:]+) timeout", run("nft", "list", "table", "inet", "knockdemo")))


def milliseconds_left(source: str) -> int:
    (left,) = re.findall(
        rf"{source} timeout \w+ expires (\w+)", run("nft", "list", "table", "inet", "knockdemo")
    )
    parts = re.fullmatch(r"(?:(\d+)s)?(?:(\d+)ms)?", left)
    assert parts
    return int(parts[1] or 0) * 1000 + int(parts[2] or 0)


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
    with network():
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


@isolated
def test_says_that_its_interface_is_down_and_listens_when_it_is_up(tmp_path: Path) -> None:
    """The one interface may go down and come back: both are told, and a knock opens afterwards."""
    with network():
        gate = Daemon(tmp_path, f'{SHORT}interface = "near"\n')
        run("ip", "link", "set", "near", "down")
        until(lambda: "near is down" in gate.log(), "down")
        run("ip", "link", "set", "near", "up")
        until(lambda: "near is up again" in gate.log(), "up")

        def knocked() -> bool:  # the cable carries again a while later
            knock(*KNOCK)
            return gate.opened_to(CLIENT) > 0

        until(knocked, "the client is let in")


@isolated
def test_a_restart_resets_the_table(tmp_path: Path) -> None:
    """Whoever was let in before is shut out by a restart, and only by that: the end changes nothing."""
    with network():
        gate = Daemon(tmp_path, "open_window_seconds = 60\n")
        knock(*KNOCK)
        until(lambda: members() == {CLIENT}, "the client is let in")
        assert gate.end(signal.SIGTERM) == 0
        assert members() == {CLIENT}
        assert is_open(CLIENT)
        gate.start()
        assert members() == set()
        assert not is_open(CLIENT)
        knock(*KNOCK)
        until(lambda: members() == {CLIENT}, "the client is let in")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@isolated
def test_ends_well_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end it with status 0 and one line of what strangers did; the port stays shut."""
    with network():
        gate = Daemon(tmp_path)
        knock(7000, 8000, 1, 2)
        gate.knocked_by_another()
        assert gate.end(number) == 0
        last = gate.log().splitlines()[-1]
        assert last == (
            "knock-demo: 7 openings heard (0 more lost for want of room), "
            "2 sequences begun, 1 completed, 1 reset, 0 forgotten"
        )
        assert "Traceback" not in gate.log()
        assert not is_open(CLIENT)


@isolated
def test_a_dead_daemon_leaves_nothing_open(tmp_path: Path) -> None:
    """After kill -9 the open door is still closed by the kernel and the port stays shut."""
    with network():
        gate = Daemon(tmp_path)
        knock(*KNOCK)
        until(lambda: members() == {CLIENT}, "the client is let in")
        assert gate.end(signal.SIGKILL) == -signal.SIGKILL
        assert members() == {CLIENT}
        assert is_open(CLIENT)
        assert not is_open(BYSTANDER)
        until(lambda: members() == set(), "the kernel has closed")
        assert not is_open(CLIENT)
        knock(*KNOCK)
        assert not is_open(CLIENT)


@isolated
def test_puts_its_table_back(tmp_path: Path) -> None:
    """After somebody's flush the next knock brings the guard back, says so, and opens for the knocker."""
    with network():
        gate = Daemon(tmp_path)
        before = run("nft", "list", "table", "inet", "knockdemo")
        run("nft", "flush", "ruleset")
        assert run("nft", "list", "ruleset") == ""
        knock(*KNOCK)
        until(lambda: "tcp/6500 open to 10.0.0.2" in gate.log(), "the client is let in")
        assert members() == {CLIENT}
        assert "tcp/6500 without a guard" in gate.log()
        after = run("nft", "list", "table", "inet", "knockdemo")
        assert [line for line in after.splitlines() if "elements" not in line] == before.splitlines()


@isolated
def test_lives_on_when_nobody_reads_its_log() -> None:
    """A full disk behind standard error costs lines and nothing else."""
    with network():
        command = [sys.executable, "-m", "knockdemo.daemon"]
        with Path("/dev/full").open("w") as full, subprocess.Popen(command, stderr=full) as process:
            until(lambda: "knockdemo" in run("nft", "list", "tables"), "the table is loaded")
            knock(*KNOCK)
            until(lambda: members() == {CLIENT}, "the client is let in")
            process.terminate()
            assert process.wait(10) == 0


@isolated
def test_goes_on_when_the_firewall_refuses(tmp_path: Path) -> None:
    """With another table in the place of its own it says so, and goes on when its own is back."""
    with network():
        gate = Daemon(tmp_path)
        table = run("nft", "list", "table", "inet", "knockdemo")
        run("nft", "delete table inet knockdemo; add table inet knockdemo")
        knock(*KNOCK)
        until(lambda: "10.0.0.2 knocked and could not be let in: nft refused" in gate.log(), "told")
        assert gate.opened_to(CLIENT) == 0
        run("nft", "delete", "table", "inet", "knockdemo")
        run("nft", table)
        knock(*KNOCK)
        until(lambda: members() == {CLIENT}, "the client is let in")


@isolated
def test_tells_systemd_when_it_is_ready(tmp_path: Path) -> None:
    """READY=1 is sent when the port is shut and knocks are heard, and not before."""
    with network(), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = str(tmp_path / "notify")
        manager.bind(path)
        manager.settimeout(DEADLINE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NOTIFY_SOCKET", path)
            Daemon(tmp_path)
        assert manager.recv(1000).split(b"\n")[0] == b"READY=1"
        assert not is_open(CLIENT)
        knock(*KNOCK)
        until(lambda: members() == {CLIENT}, "the client is let in")


@isolated
def test_cannot_start_without_what_it_needs(tmp_path: Path) -> None:
    """Wrong file, interface, program or right: a line, a hint, status 2, and no rule is left behind."""
    config = tmp_path / "knockdemo.toml"
    config.write_text('interface = "eth7"', encoding="utf-8")
    assert refused(config) == ["knock-demo: no interface eth7", "  hint: there are: lo"]
    config.write_text("\nservice_port = 0", encoding="utf-8")
    message, hint = refused(config)
    assert message == f"knock-demo: {config}:2: service_port: 0 is not between 1 and 65535"
    assert "6500" in hint
    absent = tmp_path / "absent.toml"
    assert refused(absent)[0] == f"knock-demo: {absent}: no such file"
    config.write_text("", encoding="utf-8")
    assert refused(config, PATH=str(tmp_path)) == [
        "knock-demo: nft is not installed",
        "  hint: apt install nftables",
    ]
    without_rights(lambda: no_right(config))
    assert run("nft", "list", "ruleset") == ""
    Daemon(tmp_path, "")  # control
    assert "table inet knockdemo" in run("nft", "list", "ruleset")


def no_right(config: Path) -> None:
    message, hint = refused(config)
    assert message == "knock-demo: no right to listen to packets"
    assert "CAP_NET_RAW" in hint


class Deaf:
    """Stands for a capture of which only the count matters."""

    def drops(self) -> tuple[int, int]:
        return 10, 3


def test_the_summary_counts_each_opening_once(capsys: pytest.CaptureFixture[str]) -> None:
    """What was lost is not counted as heard."""
    daemon.summarize(KnockTracker([]), Deaf())  # type: ignore[arg-type]
    assert "7 openings heard (3 more lost" in capsys.readouterr().err
