from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from functools import partial
from pathlib import Path

import pytest
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import (
    CLIENT,
    CLIENT6,
    DAEMON,
    HOST6,
    KERNEL,
    OTHER,
    SSH_KNOCKS,
    WEB_KNOCKS,
    Gate,
    all_leases,
    connects,
    knock,
    leases,
    network,
)
from tests.netns import isolated, own_mounts, run, until, without_rights

from knockgate.daemon.control import Facts

SSH = ("tcp/22", CLIENT, "kernel sequence")
WEB = ("tcp/80", CLIENT, "daemon sequence")
WEB_UDP = ("udp/80", CLIENT, "daemon sequence")
BY_HAND = ("tcp/22", OTHER, "hand")


@isolated
def test_doors_of_kernel_and_daemon_open_and_are_told(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with network(), socket.create_server(("", 22)), socket.create_server(("", 80)):
        assert connects(22) and connects(80)  # control: nothing guards them yet
        gate.start()
        assert not connects(22) and not connects(80)
        knock(*SSH_KNOCKS)
        assert connects(22)  # the kernel's own doing
        gate.until_said(f"open ssh for {CLIENT} (kernel sequence)")
        knock(*WEB_KNOCKS)
        gate.until_said(f"open web for {CLIENT} (daemon sequence)")
        assert connects(80) and not connects(80, OTHER)
        knock(*SSH_KNOCKS, source=CLIENT6, host=HOST6)
        gate.until_said(f"open ssh for {CLIENT6} (kernel sequence)")
        assert leases() == {SSH, WEB, WEB_UDP, ("tcp/22", CLIENT6, "kernel sequence")}
        status = gate.status()
        assert {name: door["opened"] for name, door in status["doors"].items()} == {"ssh": 2, "web": 1}
        assert status["doors"]["web"]["last"]["source"] == CLIENT
        assert [(each["door"], each["source"], each["by"]) for each in status["recent"]] == [
            ("ssh", CLIENT6, "kernel sequence"),
            ("web", CLIENT, "daemon sequence"),
            ("ssh", CLIENT, "kernel sequence"),
        ]
        assert status["bounds"] == {"crowded": 0, "paced": 0, "leases_full": 0}
        assert status["heard"]["opened"] == 1 and status["warden"] == {"owned": True, "restored": 0}
        assert gate.end() == 0
        assert gate.log().count("open ssh for") == 2 and gate.log().count("open web for") == 1
        assert connects(22) and not connects(22, OTHER)  # the table stays, and so do the leases


@pytest.mark.parametrize("own", [True, False])
@isolated
def test_whatever_removes_the_table_is_undone(tmp_path: Path, *, own: bool) -> None:
    gate = Gate(tmp_path, own=own)
    with network(), socket.create_server(("", 22)):
        gate.start()
        knock(*SSH_KNOCKS)
        knock(*WEB_KNOCKS)
        gate.until_said(f"open web for {CLIENT}")
        opened = time.monotonic()
        with gate.warden() as warden:
            configuration = gate.configuration()
            warden.open(configuration, configuration.doors[0], socket.inet_aton(OTHER), 1000)
            assert warden.ping() == Facts(owned=own, restored=0)
        assert leases() == {SSH, WEB, WEB_UDP, BY_HAND}
        # A door that the kernel opens is known to the warden when it looks, once a second.
        until(lambda: own or time.monotonic() > opened + 1.5, "the leases are copied")
        for times, removal in enumerate([["flush", "ruleset"], ["delete", "table", "inet", "knockgate"]], 1):
            run("nft", *removal, check=False)
            if not own:
                gate.until_said("the table was removed (nft, process", times)
                gate.until_said("it is back, with 4 leases", times)
                until(partial(restored, gate, times), "the status tells it")
            assert leases() == {SSH, WEB, WEB_UDP, BY_HAND}
            assert connects(22) and not connects(22, CLIENT6, HOST6)
        assert all(3500 < lease.left <= 3600 or 900 < lease.left <= 1000 for lease in all_leases())
        assert ("removed" in gate.log()) != own
        knock(*WEB_KNOCKS, source=OTHER)
        gate.until_said(f"open web for {OTHER}")


@isolated
def test_a_half_that_is_killed_comes_back_and_leases_do_not_notice(tmp_path: Path) -> None:
    own_mounts()
    ran = tmp_path / "ran"
    commands = f'[doors.web.commands]\nopen = ["/bin/sh", "-c", "echo %IP% >>{ran}"]\n'
    gate = Gate(tmp_path, KERNEL + DAEMON + commands)
    with network(), socket.create_server(("", 22)):
        gate.start()
        knock(*SSH_KNOCKS)
        knock(*WEB_KNOCKS)
        gate.until_said(f"open web for {CLIENT}")
        before = leases()
        assert before == {SSH, WEB, WEB_UDP}
        sources = ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
        for source, (name, others) in zip(
            sources,
            {"listener": ["runner"], "runner": ["listener"], "warden": ["listener", "runner"]}.items(),
            strict=True,
        ):
            halves = gate.halves()
            assert halves.keys() == {"warden", "listener", "runner"}
            os.kill(halves[name], signal.SIGKILL)
            assert leases() >= before and connects(22)
            gate.until_replaced(halves, name, *others)
            assert (gate.halves()["warden"] == halves["warden"]) == (name != "warden")
            assert f"the {name} was killed by SIGKILL; starting it again" in gate.log()
            knock_anew(gate, source)
            assert leases() >= before and ("tcp/80", source, "daemon sequence") in leases()
            until(partial(is_line, source, ran), "the commands are run")
        assert gate.end() == 0


def restored(gate: Gate, times: int) -> bool:
    return bool(gate.status()["warden"]["restored"] == times)


def is_line(text: str, file: Path) -> bool:
    return text in file.read_text().splitlines()


def knock_anew(gate: Gate, source: str) -> None:
    """At the daemon's door and at the kernel's, with an address that nobody had before."""
    with running.client:
        run("ip", "address", "add", f"{source}/24", "dev", "far")
    knock(*WEB_KNOCKS, source=source)
    gate.until_said(f"open web for {source} (daemon sequence)")
    knock(*SSH_KNOCKS, source=source)
    gate.until_said(f"open ssh for {source} (kernel sequence)")


@isolated
def test_without_its_supervisor_nothing_runs_and_everything_is_guarded(tmp_path: Path) -> None:
    own_mounts()
    commands = '[doors.web.commands]\nopen = ["/bin/true"]\n'
    gate = Gate(tmp_path, KERNEL + DAEMON + commands)
    with network(), socket.create_server(("", 22)):
        gate.start()
        knock(*SSH_KNOCKS)
        halves = gate.halves()
        assert len(halves) == 3
        gate.end(signal.SIGKILL)
        for process in halves.values():
            os.waitpid(process, 0)  # they are ours now, since we are process 1 here
        assert connects(22) and not connects(22, OTHER)
        knock(*SSH_KNOCKS, source=OTHER)
        assert connects(22, OTHER)
        gate.start()  # takes the table over, with its leases
        gate.until_said("nobody else can change the table", 2)
        assert leases() == {SSH, ("tcp/22", OTHER, "kernel sequence")}


@isolated
def test_reload(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with network(), socket.create_server(("", 22)), socket.create_server(("", 2200)):
        gate.start()
        knock(*SSH_KNOCKS)
        assert connects(22) and connects(2200)
        good = gate.file.read_text()
        gate.file.write_text(good.replace("runs_in", "runs"))
        gate.send(signal.SIGHUP)
        gate.until_said("not reloaded, all stays as it is")
        gate.until_said("doors.web.sequence.runs: unknown key")
        assert leases() == {SSH} and not connects(22, OTHER)
        # A port more, other knocks in the kernel, a longer sequence in the daemon.
        gate.file.write_text(
            good.replace('["tcp/22"]', '["tcp/22", "tcp/2200"]')
            .replace("tcp/7000", "tcp/7100")
            .replace('"udp/8001"]', '"udp/8001", "tcp/8002"]')
        )
        gate.send(signal.SIGHUP)
        gate.until_said("reloaded: guarding 2 doors")
        gate.until_said("listening for the knocks of 1 door", 2)
        assert leases() == {SSH} and connects(22) and not connects(2200)
        knock("tcp/7100", "udp/7001")
        assert connects(2200)
        knock(*WEB_KNOCKS, "tcp/8002")
        gate.until_said(f"open web for {CLIENT}")
        assert "starting it again" not in gate.log()
        # Changed but not reloaded when a half has to be started: then there is no other way than to reload.
        gate.file.write_text(good)
        os.kill(gate.status()["pid"], signal.SIGKILL)
        gate.until_said("reloaded: guarding 2 doors", 2)
        gate.until_said("listening for the knocks of 1 door", 3)
        knock(*WEB_KNOCKS, source=OTHER)
        gate.until_said(f"open web for {OTHER}")
        # Wrong when a half has to be started: the warden guards, and waits for somebody to put it right.
        gate.file.write_text("")
        os.kill(gate.status()["pid"], signal.SIGKILL)
        gate.until_said("nothing is listened for until the configuration is put right")
        with gate.warden() as warden:
            assert warden.ping().owned
        gate.file.write_text(good)
        gate.until_said("listening for the knocks of 1 door", 4)
        assert gate.end() == 0


@isolated
def test_one_gate_for_a_run_directory(tmp_path: Path) -> None:
    gate = Gate(tmp_path, KERNEL)
    gate.start()
    second = Gate(tmp_path, KERNEL)
    status, said = second.cannot_start()
    assert (status, said) == (1, f"refused: knockgate is running already, with {gate.run_directory}")
    assert gate.status()["format"] == 1  # control: it did the first no harm
    gate.end()
    second.start()
    assert second.end() == 0


@isolated
@pytest.mark.parametrize("own", [True, False])
def test_one_gate_for_a_network(tmp_path: Path, *, own: bool) -> None:
    """Where nobody can own the table two would put it back against each other, each time without a door."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    gate, second = (Gate(folder, KERNEL, own=own) for folder in folders)
    gate.start()
    second.cannot_start()
    assert "another gate guards this host" in second.log()
    assert gate.status()["warden"] == {"owned": own, "restored": 0}
    assert gate.end() == 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.bind("\0knockgate/warden")
        os.seteuid(65534)
        stranger.listen()
        os.seteuid(0)
        second.start()  # whoever takes the name keeps nobody out
        assert second.end() == 0


@isolated
def test_reasons_not_to_start(tmp_path: Path) -> None:
    gate = Gate(tmp_path, KERNEL)
    without_rights(lambda: cannot_start(gate, "the warden cannot start", "no right to change the firewall"))
    folder = Path(gate.run_directory)
    folder.chmod(0o777)
    cannot_start(gate, f"{folder} is not a folder that we alone may write to")
    folder.chmod(0o700)
    gate.write('[doors.ssh]\nport = ["tcp/22"]\n')
    cannot_start(gate, "unknown key")
    gate.write(KERNEL)
    gate.start()  # control
    assert gate.end() == 0
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    cannot_start(Gate(deep, KERNEL), f"cannot make the socket {deep}")
    Path(gate.run_directory, "lock").unlink()
    Path(gate.run_directory, "lock").mkdir()
    cannot_start(gate, f"cannot write {gate.run_directory}/lock: Is a directory")


def cannot_start(gate: Gate, why: str, first: str = "") -> None:
    status, said = gate.cannot_start()
    assert status == 1 and why in said and first in gate.log()


def another(gate: Gate, name: str, killed: list[int]) -> int:
    """The process of this half, when the gate is whole; 0 until then."""
    process = gate.halves().get(name, 0)
    return 0 if process in killed or not gate.answers() else process


@isolated
def test_gives_up_where_the_warden_keeps_ending(tmp_path: Path) -> None:
    """And not where the listener does, however often: the warden guards, and hears who opens by hand."""
    own_mounts()
    gate = Gate(tmp_path, KERNEL)
    gate.start()
    for name, times in (("listener", 6), ("warden", 5)):
        killed: list[int] = []
        for _ in range(times):
            killed.append(until(partial(another, gate, name, killed), f"another {name}"))
            os.kill(killed[-1], signal.SIGKILL)
        if name == "listener":
            gate.until_said("the listener was killed by SIGKILL; starting it again in 1.6 s")
            with gate.warden() as warden:
                assert warden.ping().owned
    assert gate.wait() == 1
    assert gate.log().splitlines()[-1] == (
        "knockgate: the warden was killed by SIGKILL, again and again; giving up, the table stays"
    )
    run("nft", "list", "table", "inet", "knockgate")


#: A listener that can never begin is gone before a slow warden is ready.
_GONE_FIRST = """
from knockgate.daemon import halves
plain = halves._command
first = {"warden": "import time; time.sleep(0.5); ", "listener": "raise SystemExit(1); "}
def gone_first(name, needs, waiting):
    *words, code = plain(name, needs, waiting)
    return [*words, first[name] + code]
halves._command = gone_first
"""


@isolated
def test_a_half_that_ends_while_another_is_waited_for_is_missed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_START", _GONE_FIRST + running._START)
    status, last = Gate(tmp_path, KERNEL).cannot_start()  # in less than the minute that a half may take
    assert status == 1
    assert last == (
        "knockgate: the listener ended with status 1, again and again; giving up, the table stays"
    )


@isolated
def test_what_is_short_for_a_while_does_not_end_the_gate(tmp_path: Path) -> None:
    """No room for a socket in the run directory: starting is tried again, until there is."""
    own_mounts()
    gate = Gate(tmp_path, KERNEL)
    folder = Path(gate.run_directory)
    folder.mkdir(mode=0o700)
    run("mount", "-t", "tmpfs", "-o", "mode=700,nr_inodes=20", "none", str(folder))
    gate.start()
    taken = 0
    with contextlib.suppress(OSError):
        for taken in range(30):
            (folder / str(taken)).touch()
    assert 0 < taken < 29
    os.kill(gate.halves()["listener"], signal.SIGKILL)
    gate.until_said("listener.notify: No space left on device; trying again", 3)
    with gate.warden() as warden:
        assert warden.ping().owned
    for each in range(taken):
        (folder / str(each)).unlink()
    until(gate.answers, "the listener is there again")
    assert gate.end() == 0


@isolated
def test_a_warden_that_ends_waits_for_the_file_to_be_right(tmp_path: Path) -> None:
    """The kernel guards meanwhile."""
    own_mounts()
    gate = Gate(tmp_path, KERNEL)
    with network(), socket.create_server(("", 22)):
        gate.start()
        halves, good = gate.halves(), gate.file.read_text()
        gate.file.write_text("[doors")
        os.kill(halves["warden"], signal.SIGKILL)
        gate.until_said("nothing is listened for until the configuration is put right")
        assert gate.halves() == {} and not connects(22)
        knock(*SSH_KNOCKS)
        assert connects(22)
        gate.file.write_text(good)
        gate.until_replaced(halves, "warden", "listener")
        assert leases() == {SSH} and gate.log().count("giving up") == 0
        assert gate.end() == 0


KNOCKD = """
[options]
    Interface = near
[shell]
    sequence = 7000,8001:udp,9000
    seq_timeout = 5
    tcpflags = syn
    start_command = /bin/echo %IP% >>{ran}
"""


@isolated
def test_a_knockd_conf_runs_as_it_is(tmp_path: Path) -> None:
    own_mounts()
    ran = tmp_path / "ran"
    gate = Gate(tmp_path)
    gate.write_knockd(KNOCKD.format(ran=ran))
    with network():
        gate.start()
        knock("tcp/7000", "udp/8001", "tcp/9000")
        until(lambda: ran.exists() and ran.read_text() == f"{CLIENT}\n", "the command is run")
        gate.until_said(f"open shell for {CLIENT} (daemon sequence)")
        assert gate.end() == 0
