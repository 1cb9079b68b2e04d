"""``knockgate test``: a gate that works, and each way in which one does not; over real cables and tables."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
from pathlib import Path
from typing import Any

import pytest
from tests.knockgate.cli.gates import Host, gate, status
from tests.knockgate.cli.process import Done, command, knockgate, profiles_in, started_at_home
from tests.knockgate.client.wire import wire
from tests.netns import DEADLINE, isolated, run, until

DOOR = """
[doors.ssh]
ports = ["tcp/22"]
lease = "2s"
[doors.ssh.sequence]
steps = ["tcp/7000", "udp/8000"]
"""
PROFILES = """
[profiles.home]
host = "10.9.9.1"
steps = ["7000", "udp/8000"]
wait = "tcp/22"
timeout = "1s"
[profiles.rejected]
host = "10.9.9.1"
steps = ["7000"]
wait = "tcp/22"
[profiles.portless]
host = "10.9.9.1"
steps = ["7000"]
[profiles.lost]
host = "203.0.113.9"
steps = ["7000"]
wait = "tcp/22"
[profiles.homeless]
host = "nowhere.invalid"
steps = ["7000"]
wait = "tcp/22"
"""
REJECTING = """
table inet test {
    set in { type ipv4_addr; flags dynamic,timeout; timeout 2s; }
    chain door {
        type filter hook input priority 0;
        tcp dport 7000 add @in { ip saddr }
        ip saddr != @in tcp dport 22 reject with tcp reset
    }
}
"""
SHUT = "table inet test { chain door { type filter hook input priority 0; tcp dport 22 %s; }; }"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles_in(tmp_path, PROFILES, monkeypatch)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """In our own process, over a cable, a probe without an answer need not be waited for as on far ways."""
    monkeypatch.setattr("knockgate.cli.test._PATIENCE", 0.2)


def trial(host: Host, *words: str) -> Done:
    with host.client:
        return knockgate("test", *words)


def guarded(folder: Path, door: str = DOOR) -> tuple[Host, str]:
    host, file = Host(), gate(folder, door)
    assert knockgate("up", file).returncode == 0
    return host, file


def figures(line: str) -> dict[str, float]:
    """What stands behind the |, as a monitoring system reads it."""
    _, mark, behind = line.partition(" | ")
    found = [re.fullmatch(r"(\w+)=([0-9.]+)s", each) for each in behind.split()]
    assert bool(mark) is bool(found) and all(found), line
    return {each[1]: float(each[2]) for each in found if each}


# --- as it should be ----------------------------------------------------------------------------------


@isolated
def test_a_gate_that_works(tmp_path: Path) -> None:
    host, _ = guarded(tmp_path)
    done = trial(host, "home")
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert not rest
    assert re.fullmatch(
        r"OK - home: tcp/22 of 10\.9\.9\.1 was hidden, opened [0-9.]+ ms after the last knock, "
        r"was hidden again after [0-9.]+ s \| .+",
        first,
    )
    found = figures(first)
    assert 0 < found["opened"] < 1
    assert 1.9 <= found["hidden_again"] < 5  # the lease, and less than a look or two
    assert host.seen() == "filtered"


@pytest.mark.usefixtures("impatient")
@isolated
def test_what_programs_are_told(tmp_path: Path) -> None:
    host, _ = guarded(tmp_path)
    done = trial(host, "home", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert (facts["profile"], facts["result"], facts["error"]) == ("home", "ok", None)
    assert (facts["host"], facts["address"], facts["port"]) == ("10.9.9.1", "10.9.9.1", "tcp/22")
    assert (facts["before"]["state"], facts["before"]["good"]) == ("filtered", True)
    assert facts["knock"]["good"] and facts["knock"]["sent"] and facts["knock"]["wait"]["open"]
    assert facts["knock"]["wait"]["before"] == "filtered"
    assert facts["knock"]["steps"] == ["tcp/7000", "udp/8000"]
    assert (facts["after"]["state"], facts["after"]["good"]) == ("filtered", True)
    assert 1.9 <= facts["after"]["seconds"] < 5


@pytest.mark.usefixtures("impatient")
@isolated
def test_the_end_of_the_lease_need_not_be_waited_for(tmp_path: Path) -> None:
    host, _ = guarded(tmp_path, DOOR.replace("2s", "1h"))
    done = trial(host, "home", "--no-close-wait")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.partition(" | ")[0].endswith(", and the end of the lease was not waited for")
    assert figures(done.stdout.strip()).keys() == {"opened"}
    assert host.seen() == "open"


# --- as it should not be ------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
@isolated
def test_a_port_that_nothing_guards_is_not_knocked_for() -> None:
    host = Host()
    with host.client, wire("far") as seen:
        done = knockgate("test", "home")
        assert set(seen.steps()) == {"tcp/22"}
    assert done.returncode == 1
    assert done.stdout == (
        "FAILED - home: tcp/22 of 10.9.9.1 is open without a knock, and was not knocked for\n"
    )
    assert "nothing guards that port, or a lease has not ended: an earlier one of ours" in done.stderr
    assert "hint: --wait-hidden" in done.stderr
    waited = trial(host, "home", "--wait-hidden", "--within", "1s", "--json")
    facts = json.loads(waited.stdout)
    assert (waited.returncode, facts["result"], facts["knock"], facts["after"]) == (1, "failed", None, None)
    assert (facts["before"]["state"], facts["before"]["good"]) == ("open", False)
    assert facts["before"]["seconds"] >= 1


@pytest.mark.usefixtures("impatient")
@isolated
def test_one_lost_packet_makes_no_port_hidden() -> None:
    host = Host()
    run("nft", SHUT % "numgen inc mod 2 0 drop")
    assert host.seen() == "filtered" and host.seen() == "open"  # the first of two is lost
    done = trial(host, "home")
    assert done.returncode == 1
    assert "is open without a knock" in done.stdout


@pytest.mark.usefixtures("impatient")
@isolated
def test_an_earlier_lease_is_waited_for_if_told_so(tmp_path: Path) -> None:
    host, file = guarded(tmp_path)
    assert knockgate("open", "ssh", "10.9.9.2", "--for", "3s", "--config", file).returncode == 0
    open_before = trial(host, "home")
    assert open_before.returncode == 1
    assert "is open without a knock, and was not knocked for" in open_before.stdout
    assert "a lease has not ended" in open_before.stderr
    assert host.seen() == "open"
    done = trial(host, "home", "--wait-hidden")
    assert done.returncode == 0, done
    assert done.stdout.startswith("OK - home: tcp/22 of 10.9.9.1 was hidden, opened ")


@pytest.mark.usefixtures("impatient")
@isolated
def test_a_gate_that_is_gone_is_as_silent_as_a_host_that_is_away() -> None:
    """The port is shut by somebody else's rule, and nobody hears the knock."""
    host = Host()
    run("nft", SHUT % "drop")
    with host.client, wire("far") as seen:
        done = knockgate("test", "home")
        assert [step for step in seen.steps() if step != "tcp/22"] == ["tcp/7000", "udp/8000"]
    assert done.returncode == 1
    found = "tcp/22 of 10.9.9.1 was hidden, but is still filtered 1.0 s after the last knock"
    assert done.stdout == f"FAILED - home: {found}\n"
    assert "a port that is hidden looks like that of a host that is away" in done.stderr
    assert "hint: wrong steps" in done.stderr
    facts = json.loads(trial(host, "home", "--json").stdout)
    assert facts["before"]["good"] and not facts["knock"]["good"] and facts["after"] is None


@isolated
def test_a_lease_that_does_not_end(tmp_path: Path) -> None:
    """The admin lets us in by hand while the lease lasts."""
    host, file = guarded(tmp_path)
    with host.client:
        testing = started_at_home(command("test", "home", "--within", "4s"), text=True)
    until(lambda: status("--config", file)["leases"], "the knock has opened the door")
    assert knockgate("open", "ssh", "10.9.9.2", "--for", "1h", "--config", file).returncode == 0
    out, err = testing.communicate(timeout=DEADLINE)
    assert testing.returncode == 1, err
    assert re.search(r", opened [0-9.]+ ms after the last knock, but is open after 4\.\d s \| opened=", out)
    assert "the lease was to end within 4s: it is longer, or was opened by hand" in err
    assert "--within TIME" in err


@pytest.mark.usefixtures("impatient")
@isolated
def test_a_service_that_is_away_is_not_taken_for_a_gate_that_works(tmp_path: Path) -> None:
    host, _ = guarded(tmp_path)
    host.services[0].close()  # whom the gate lets in is refused by the system
    done = trial(host, "home")
    assert done.returncode == 1
    assert "was hidden, but is still closed" in done.stdout
    assert "nothing listens there" in done.stderr


@pytest.mark.usefixtures("impatient")
@isolated
def test_a_firewall_that_rejects_shows_that_there_is_something() -> None:
    """The knock works all the same, and that is told as well."""
    host = Host()
    run("nft", REJECTING)
    done = trial(host, "rejected")
    assert done.returncode == 1
    assert re.fullmatch(
        r"FAILED - rejected: tcp/22 of 10\.9\.9\.1 is closed without a knock, "
        r"opened [0-9.]+ ms after the last knock, but is closed after [0-9.]+ s \| opened=[0-9.]+s\n",
        done.stdout,
    )
    assert "without a knock the host refuses where it should be silent" in done.stderr
    facts = json.loads(trial(host, "rejected", "--json").stdout)
    assert (facts["before"]["state"], facts["before"]["good"]) == ("closed", False)
    assert facts["knock"]["good"]
    assert (facts["after"]["state"], facts["after"]["good"]) == ("closed", False)
    assert 1.9 <= facts["after"]["seconds"] < 5  # that is not waited for as if it could change


# --- what cannot be tried -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["portless"], "--wait: the profile portless says no port to look at", "--wait PORT"),
        (["hmoe"], "no profile 'hmoe'", "did you mean home?"),
        (["lost"], "203.0.113.9", None),
        (["homeless"], "nowhere.invalid", None),
    ],
)
@isolated
def test_what_could_not_be_tried_is_unknown(words: list[str], message: str, hint: str | None) -> None:
    done = knockgate("test", *words)
    assert done.returncode == 2
    assert done.stdout.startswith(f"UNKNOWN - {words[0]}: ") and done.stdout.count("\n") == 1
    assert message in done.stdout and message in done.stderr
    assert hint is None or f"hint: {hint}" in done.stderr
    facts: dict[str, Any] = json.loads(knockgate("test", *words, "--json").stdout)
    assert facts["result"] == "unknown" and message in facts["error"]
    assert facts.get("knock") is None


@pytest.mark.usefixtures("impatient")
@isolated
def test_a_port_can_be_named(tmp_path: Path) -> None:
    host, _ = guarded(tmp_path)
    done = trial(host, "portless", "--wait", "22", "--timeout", "0.5")  # one step is no knock here
    assert done.returncode == 1
    assert "was hidden, but is still filtered" in done.stdout


def test_two_families_are_none() -> None:
    done = knockgate("test", "home", "-4", "-6")
    assert (done.returncode, done.stdout) == (2, "")
    assert "-4 and -6 leave no address" in done.stderr


@isolated
def test_who_looks_at_a_terminal_sees_what_is_waited_for(tmp_path: Path) -> None:
    host, _ = guarded(tmp_path)
    near, far = pty.openpty()
    with host.client:
        testing = started_at_home(command("test", "home"), stderr=far)
    os.close(far)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
        while more := os.read(near, 4096):
            shown += more
    out, _ = testing.communicate(timeout=DEADLINE)
    assert testing.returncode == 0
    assert out.startswith(b"OK - home")
    assert b"\rwaiting for the lease to end, 10m at most ... 1." in shown
    assert shown.endswith(b" \r")  # and it is wiped away
