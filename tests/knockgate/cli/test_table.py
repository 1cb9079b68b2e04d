"""``up`` and ``down``: the doors are shut and open again, and nothing else is touched."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.knockgate.cli.gates import SSH, WEB, Host, gate, status, table
from tests.knockgate.cli.process import command, environment, knockgate
from tests.netns import isolated, run, without_rights

OTHER = "table inet other { chain some { type filter hook input priority 0; }; }"


@isolated
def test_up_shuts_the_doors_and_down_opens_them(tmp_path: Path) -> None:
    run("nft", OTHER)
    others = run("nft", "list", "ruleset")
    host = Host()
    file = gate(tmp_path, SSH, WEB)
    assert host.seen() == "open"
    done = knockgate("up", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "tcp/22, tcp/443, udp/443: shut until somebody knocks\n"
    assert host.seen() == "filtered" and host.seen(443) == "filtered"
    assert host.seen(444) == "closed"  # no port of ours
    done = knockgate("down", "--config", file)
    assert (done.returncode, done.stdout) == (0, "nothing is guarded any more\n")
    assert host.seen() == "open"
    assert run("nft", "list", "ruleset") == others
    assert knockgate("down", file).stdout == "there was no table\n"


@isolated
def test_up_again_keeps_leases_and_changes_what_is_different(tmp_path: Path) -> None:
    host = Host()
    file = gate(tmp_path, SSH)
    for words in (["up", file], ["open", "ssh", "10.9.9.2", "--config", file], ["up", file]):
        assert knockgate(*words).returncode == 0
    assert host.seen() == "open" and host.seen(443) == "open"
    assert len(status(file)["leases"]) == 1
    chains = {line for line in table().splitlines() if line.startswith("\tchain")}
    assert knockgate("up", gate(tmp_path, WEB)).returncode == 0
    assert host.seen(443) == "filtered"
    assert host.seen() == "open"  # the lease would go on, and the port is no door any more
    fewer = {line for line in table().splitlines() if line.startswith("\tchain")}
    assert fewer < chains  # what only the sequence needed is gone
    assert knockgate("close", "web", "--all", "--config", file).returncode == 0
    assert knockgate("up", gate(tmp_path, SSH)).returncode == 0
    assert host.seen() == "open"  # and it did go on
    assert knockgate("close", "ssh", "--all", "--config", file).returncode == 0
    assert host.seen() == "filtered"


@isolated
def test_a_session_from_before_goes_on(tmp_path: Path) -> None:
    """Nothing here looks at connections before, so the kernel does not know the session."""
    host = Host()
    session, served = host.session()
    assert knockgate("up", gate(tmp_path, SSH)).returncode == 0
    session.sendall(b"typed")
    assert served.recv(5) == b"typed"
    assert host.seen() == "filtered"  # and a new one does not come through
    # The control: without the grace such a session hangs.
    assert knockgate("down", gate(tmp_path, SSH)).returncode == 0
    other, another = host.session()
    rules = [
        line for line in knockgate("rules", gate(tmp_path, SSH)).stdout.splitlines() if "grace {" not in line
    ]
    (tmp_path / "rules.nft").write_text("\n".join(line for line in rules if "@grace" not in line))
    run("nft", "-f", str(tmp_path / "rules.nft"))
    other.sendall(b"typed")
    another.settimeout(0.5)
    try:
        heard = another.recv(5)
    except TimeoutError:
        heard = b""
    assert heard == b""


@isolated
def test_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH)
    assert knockgate("up", file).returncode == 0
    before = table()
    done = knockgate("up", gate(tmp_path, SSH, '[doors.x]\nports = ["tcp/22"]\n'))
    assert done.returncode == 2
    assert "tcp/22 is taken" in done.stderr and file in done.stderr
    assert table() == before
    done = knockgate("up", str(tmp_path / "none.toml"))
    assert done.returncode == 2
    assert f"{tmp_path}/none.toml: no such file" in done.stderr


@isolated
def test_what_was_done_is_done_also_where_nobody_takes_the_message(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH)

    def status_of(*words: str) -> tuple[int, str]:
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                command(*words),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
                check=False,
                timeout=60,
            )
        return done.returncode, done.stderr

    said = "knockgate: it is done, but the output cannot be written: No space left on device\n"
    assert status_of("up", file) == (0, said)
    assert status(file)["loaded"]
    assert status_of("open", "ssh", "10.9.9.2", "--config", file) == (0, said)
    assert len(status(file)["leases"]) == 1
    assert status_of("down", file) == (0, said)
    assert not status(file)["loaded"]


@isolated
def test_without_rights_it_says_so(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH)
    assert knockgate("up", file).returncode == 0

    def body() -> None:
        for words in (["up"], ["down"], ["status"], ["up", "--confirm", "5s"]):
            done = knockgate(*words, file)
            assert done.returncode == 2, words
            assert "no right" in done.stderr and "as root" in done.stderr, done.stderr
            assert "Traceback" not in done.stderr
        assert knockgate("check", file).returncode == 0

    without_rights(body)
    assert status(file)["loaded"]


@isolated
def test_doors_of_the_daemon_are_told_of_where_none_runs(tmp_path: Path) -> None:
    file = gate(
        tmp_path, SSH, WEB + '[doors.web.sequence]\nruns_in = "daemon"\nsteps = ["tcp/7001", "tcp/7005"]\n'
    )
    done = knockgate("up", file)
    assert done.returncode == 0
    assert done.stderr.startswith("knockgate: without the daemon nobody opens web\n  hint: knockgate run")
    needs = {door["name"]: door["needs_daemon"] for door in status(file)["doors"]}
    assert needs == {"ssh": False, "web": True}


@isolated
def test_the_text_of_rules_is_what_up_loads(tmp_path: Path) -> None:
    file = gate(tmp_path, SSH, WEB)
    done = knockgate("rules", file)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "rules.nft").write_text(done.stdout)
    run("nft", "-f", str(tmp_path / "rules.nft"))
    by_hand = run("nft", "-s", "list", "table", "inet", "knockgate")
    run("nft", "delete", "table", "inet", "knockgate")
    assert knockgate("up", file).returncode == 0

    def rules(listing: str) -> list[str]:
        """Less the table's own flags, and the grace of a first load."""
        lines = [line.strip() for line in listing.splitlines()]
        return [line for line in lines if line not in ("", "flags") and not line.startswith(grace)]

    grace = "elements = { tcp timeout 1m"
    assert grace in table()
    assert rules(table()) == rules(by_hand)


@isolated
def test_an_interface_that_is_not_there_is_told_by_whoever_is_asked(tmp_path: Path) -> None:
    """It may come later, so it is no mistake; the control names one that is there."""
    for name, said in (("eht0", "no interface eht0 is there, so no door is guarded"), ("lo", "")):
        file = gate(tmp_path, SSH)
        text = Path(file).read_text().replace("[gate]", f'[gate]\ninterface = "{name}"')
        Path(file).write_text(text)
        for verb in ("check", "up", "status"):
            done = knockgate(verb, file)
            assert done.returncode == 0
            told = done.stdout + done.stderr
            assert (said in told) if said else ("no interface" not in told)
