"""``status``, and the commands beside a daemon that runs."""

from __future__ import annotations

from pathlib import Path

from tests.knockgate.cli.gates import SSH, WEB, Host, gate, running, status
from tests.knockgate.cli.process import knockgate
from tests.netns import isolated, run, until, veth

DAEMON = '[doors.web.sequence]\nruns_in = "daemon"\nsteps = ["tcp/7301", "tcp/7305", "tcp/7303"]\n'


@isolated
def test_it_does_not_say_shut_where_nothing_is(tmp_path: Path) -> None:
    """A file that is not in force, and a table that somebody emptied: the answer is no."""
    file = gate(tmp_path, SSH)
    assert knockgate("up", file).returncode == 0
    assert status(file)["in_force"] and knockgate("status", file).returncode == 0  # the control
    gate(tmp_path, SSH, WEB)
    done = knockgate("status", file)
    assert done.returncode == 1
    assert "ANOTHER CONFIGURATION is in force" in done.stdout and "UNKNOWN" in done.stdout
    assert knockgate("up", file).returncode == 0
    assert status(file)["in_force"]
    run("nft", "flush", "table", "inet", "knockgate")
    assert not status(file)["in_force"]


@isolated
def test_without_a_table_it_says_that_nothing_is_guarded(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH)
    done = knockgate("status", file)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "NOT LOADED: nothing is guarded. `knockgate up` loads the table",
        "",
        "DOOR  PORTS   STATE      OPENED BY",
        "ssh   tcp/22  UNGUARDED  kernel sequence",
    ]
    found = status(file)
    assert (found["guard"], found["doors"][0]["state"]) == ("none", "unguarded")


@isolated
def test_a_knock_in_the_kernel_is_seen_without_a_daemon(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, SSH, WEB)
    assert knockgate("up", file).returncode == 0
    with host.client:
        done = knockgate("knock", "10.9.9.1", "7000", "udp/8000", "9000", "--wait", "22")
    assert done.returncode == 0, done.stdout
    assert knockgate("open", "web", "fd00::7", "--config", file).returncode == 0
    told = knockgate("status", file).stdout.splitlines()
    assert told[0] == "guarded by the kernel alone; no daemon runs"
    assert "ssh   tcp/22            open for 1 source  kernel sequence" in told
    found = status(file)
    assert found["daemon"] is None and found["guard"] == "kernel"
    states = {door["name"]: (door["state"], door["sources"]) for door in found["doors"]}
    assert states == {"ssh": ("open", 1), "web": ("open", 1)}
    first, *others = found["leases"]
    assert (first["door"], first["source"], first["by"]) == ("ssh", "10.9.9.2", "kernel sequence")
    assert 0 < first["left"] <= 15 == first["lasts"]
    assert [(each["door"], each["by"]) for each in others] == [("web", "hand")] * 2


@isolated
def test_beside_the_daemon_all_goes_through_it(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, SSH, WEB + DAEMON)
    with_file = ["--config", file]
    with running(file, directory=tmp_path):
        found = status(file)
        assert found["guard"] in ("owned", "watched")
        assert not any(door["needs_daemon"] for door in found["doors"])
        assert host.seen() == "filtered"
        assert knockgate("open", "ssh", "10.9.9.2", *with_file).returncode == 0
        assert host.seen() == "open"
        assert knockgate("extend", "ssh", "10.9.9.2", "1h", *with_file).returncode == 0
        assert 7000 < status(file)["leases"][0]["left"] <= 7200
        assert "1 lease ended" in knockgate("close", "ssh", "--all", *with_file).stdout
        assert host.seen() == "filtered"
        with host.client:
            done = knockgate("knock", "10.9.9.1", "7301", "7305", "7303", "--wait", "443")
        assert done.returncode == 0, done.stdout
        until(lambda: status(file)["daemon"]["recent"], "it is told of")
        told = knockgate("status", file).stdout
        assert "DOOR  FOR       BY" in told and "web   10.9.9.2  daemon sequence" in told
        assert [lease["by"] for lease in status(file)["leases"]] == ["daemon sequence"] * 2
        down = knockgate("down", file)
        assert down.returncode == 2
        assert "knockgate: the daemon runs and guards the table\n  hint: stop it first" in down.stderr
        trial = knockgate("up", "--confirm", "5s", file)
        assert trial.returncode == 2 and "cannot be rolled back" in trial.stderr
        assert host.seen() == "filtered"
    assert status(file)["guard"] == "kernel"  # it is still loaded
    assert knockgate("down", file).returncode == 0


@isolated
def test_without_its_listener_the_daemon_does_not_hear(tmp_path: Path) -> None:
    """The warden alone: what it guards is shut, and knocks for it open nothing."""
    file = gate(tmp_path, SSH, WEB + DAEMON)
    with running(file, directory=tmp_path):
        (tmp_path / "run" / "listener" / "status.sock").unlink()
        found = status(file)
        assert found["guard"] in ("owned", "watched") and found["daemon"] is None
        assert [door["needs_daemon"] for door in found["doors"]] == [False, True]
        assert "its listener does not answer" in knockgate("status", file).stdout.splitlines()[0]


@isolated
def test_up_has_the_daemon_read_its_file_again(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, SSH)
    with running(file, directory=tmp_path):
        assert host.seen(443) == "open"
        gate(tmp_path, SSH, WEB)
        done = knockgate("open", "ssh", "10.9.9.2", "--config", file)
        assert done.returncode == 2
        assert "runs another configuration than this file" in done.stderr
        done = knockgate("up", file)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("the daemon has read it again: tcp/22, tcp/443, udp/443: shut")
        assert host.seen(443) == "filtered"
        gate(tmp_path, "[doors.ssh]\nports = 22\n")
        done = knockgate("up", file)
        assert done.returncode == 2 and "doors.ssh.ports" in done.stderr
        other = tmp_path / "other"
        other.mkdir()
        elsewhere = gate(other, WEB)
        same_run = Path(elsewhere).read_text().replace(str(other), str(tmp_path))
        Path(elsewhere).write_text(same_run)
        gate(tmp_path, SSH, WEB)
        done = knockgate("up", elsewhere)
        assert done.returncode == 2  # it read its own file, which is not this one
        assert "runs another configuration than this file" in done.stderr
        assert host.seen() == "filtered"


@isolated
def test_a_knockd_conf_is_named_the_same_way_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "knockd.conf"
    file.write_text(
        "[options]\n interface = near\n[openSSH]\n sequence = 7000,9000,8000\n"
        " start_command = /sbin/iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT\n"
    )
    done = knockgate("check", "--knockd", str(file), "-i", "far")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("openSSH: ")
    imported = knockgate("import", "knockd", str(file))
    assert (imported.returncode, imported.stderr) == (0, "")
    (tmp_path / "gate.toml").write_text(imported.stdout)
    again = knockgate("check", str(tmp_path / "gate.toml"))
    assert again.returncode == 0, again.stderr
    assert "openSSH: " in again.stdout
    veth("near", "far")
    listed = knockgate("status", "--knockd", str(file), "--json")
    assert '"name": "openSSH"' in listed.stdout
