"""How knockd 0.8 stops, reloads and lives with its interface: the real one shows it, and ours beside it.

As in test_knockd_controls, both hear the same packets with the same knockd.conf.
"""

from __future__ import annotations

import signal

import pytest
from tests.knockgate.config.gates import ADDRESS, ADDRESS6, CLIENT, CLIENT6, Tunnel, Wire, both, door
from tests.netns import isolated, run, until, until_carries, up

GATE, GATE6 = f"{ADDRESS}/24", f"{ADDRESS6}/64"

# --- stopping -----------------------------------------------------------------------------------------

LEASED = door("ssh", "7010,7020", "cmd_timeout = 1", shuts=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@isolated
def test_a_door_stays_open_for_ever_when_all_of_it_is_stopped(number: int) -> None:
    wire = Wire(GATE)
    with both(LEASED) as (knockd, ours):
        wire.knock("7010 7020")
        knockd.until_noted("open ssh")
        ours.until_noted("open ssh")
        for gate in (knockd, ours):
            gate.signal_all(number)
            gate.status()
        ours.launch()
        knockd.start()
        ours.until_it_listens()
        ours.until_noted("open ssh", "shut ssh")
        wire.knock("7010 7020")
        ours.until_noted(*["open ssh", "shut ssh"] * 2)
        knockd.until_noted("open ssh", "open ssh", "shut ssh")


@isolated
def test_sigterm_waits_for_commands_and_is_reported_as_a_failure() -> None:
    wire = Wire(GATE)
    with both(LEASED.replace("= 1", "= 3")) as (knockd, ours):
        wire.knock("7010 7020")
        knockd.until_noted("open ssh")
        ours.until_noted("open ssh")
        knockd.process.terminate()
        ours.process.terminate()
        assert ours.status() == 0, ours
        assert knockd.process.poll() is None
        assert knockd.status() == signal.SIGTERM
        knockd.until_noted("open ssh", "shut ssh")


@isolated
def test_a_mistake_at_reload_ends_knockd() -> None:
    wire = Wire(GATE)
    with both(door("ssh", "7010,7020")) as (knockd, ours):
        for gate in (knockd, ours):
            gate.configure(door("web", "7030,7040"))
            gate.process.send_signal(signal.SIGHUP)
        until(lambda: "re-opening" in knockd.said.read_text(), "knockd has reloaded")

        def reloaded() -> bool:
            wire.knock("7030 7040")
            return "open web" in ours.notes

        until(reloaded, "ours has reloaded")
        until(lambda: "open web" in knockd.notes, "knockd's new door")
        for gate in (knockd, ours):
            gate.configure("[web]\nsequence = 7030,7040\nmistake\n")
            gate.process.send_signal(signal.SIGHUP)
        assert knockd.status() == 1
        until(lambda: "knockd.conf:3" in ours.said.read_text(), "ours names the line")
        before = len(ours.notes)
        wire.knock("7030 7040")
        until(lambda: len(ours.notes) > before, "ours goes on")
        assert ours.process.poll() is None


@isolated
def test_one_process_sleeps_for_every_open_door() -> None:
    wire = Wire(GATE)
    with both(LEASED.replace("= 1", "= 20")) as (knockd, ours):
        alone = len(ours.family())
        for number in range(10, 20):
            wire.knock("7010 7020", f"10.9.0.{number}")
        knockd.until_noted(*["open ssh"] * 10)
        ours.until_noted(*["open ssh"] * 10)
        until(lambda: len(ours.family()) == alone, "the commands of ours have ended")
        assert len(knockd.family()) == 1 + 10


@isolated
def test_a_knock_while_the_door_is_open_opens_it_again() -> None:
    wire = Wire(GATE)
    with both(LEASED + door("wake", "7030")) as (knockd, ours):
        for _ in range(3):
            wire.knock("7010 7020 7030")
        wakes = ["open wake"] * 3  # a door that nothing shuts is opened by every knock, by both
        knockd.until_noted(*wakes, *["open ssh", "shut ssh"] * 3)
        ours.until_noted(*wakes, "open ssh", "shut ssh")


@isolated
def test_commands_are_run_as_knockd_runs_them() -> None:
    commands = {
        "both": ["start_command = echo + %IP%.%IP%", "stop_command = echo - %IP%"],
        "each": [
            "command = echo 4 %IP%",
            "command_6 = echo 6 %IP%",
            "stop_command = echo 4",
            "stop_command_6 =",
        ],
        "fail": ["start_command = false", "stop_command = echo -"],
        "four": ["start_command = echo 4 %IP%", "start_command_6 =", "stop_command = echo - 4"],
        "lost": ["stop_command = echo never"],
        "line": ["start_command = x='a  b'; false || echo \"$x\" | tr a-z A-Z", "stop_command = echo -"],
    }
    text = "[options]\nlogfile = /nowhere/log\n"
    for number, (name, lines) in enumerate(commands.items()):
        text += f"[{name}]\nsequence = {7010 + number}:udp\ncmd_timeout = {number % 2}\n"
        text += "".join(f"{line} >> HERE/notes\n" if line[-1] != "=" else f"{line}\n" for line in lines)
    wire = Wire(GATE, GATE6)
    with both(text) as (knockd, ours):
        for source in (CLIENT, CLIENT6):
            wire.knock("u7010 u7011 u7012 u7013 u7014 u7015", source)
        expected = ["+ 10.9.0.2.10.9.0.2", "- 10.9.0.2", "+ fd09::2.fd09::2", "- fd09::2", "4 10.9.0.2", "4"]
        expected += ["6 fd09::2", "4 10.9.0.2", "- 4", *["A  B", "-", "-"] * 2]
        knockd.until_noted(*expected)
        ours.until_noted(*expected)
        assert "knockd.conf:2: options.LogFile: is not used" in ours.said.read_text()


# --- the interface ------------------------------------------------------------------------------------


@isolated
def test_an_address_that_comes_later_is_deaf_even_after_a_reload() -> None:
    wire = Wire(GATE)
    with both(door("ssh", "7010,7020")) as (knockd, ours):
        up("gate0", "10.9.0.9/24")
        wire.knock("7010 7020", destination="10.9.0.9")
        ours.until_noted("open ssh")
        knockd.process.send_signal(signal.SIGHUP)
        until(lambda: "re-opening" in knockd.said.read_text(), "knockd has reloaded")
        wire.knock("7010 7020", destination="10.9.0.9")
        ours.until_noted("open ssh", "open ssh")
        wire.knock("7010 7020")
        knockd.until_noted("open ssh")


@isolated
def test_an_interface_without_address_is_deaf() -> None:
    wire = Wire()
    with both(door("ssh", "7010,7020")) as (knockd, ours):
        up("gate0", GATE)
        wire.knock("7010 7020")
        ours.until_noted("open ssh")
        knockd.process.terminate()
        assert knockd.status() == signal.SIGTERM
        knockd.start()
        wire.knock("7010 7020")
        knockd.until_noted("open ssh")


@isolated
def test_an_interface_that_disappears_ends_knockd_with_success() -> None:
    wire = Wire(GATE)
    with both(door("ssh", "7010,7020")) as (knockd, ours):
        run("ip", "link", "set", "gate0", "down")  # this both live through
        run("ip", "link", "set", "gate0", "up")
        until_carries(wire.sender, "gate0")
        wire.knock("7010 7020")
        knockd.until_noted("open ssh")
        ours.until_noted("open ssh")
        run("ip", "link", "delete", "gate0")
        assert knockd.status() == 0
        wire = Wire(GATE)

        def heard() -> bool:
            wire.knock("7010 7020")
            return len(ours.notes) > 1

        until(heard, "ours hears the new one")


@isolated
def test_any_is_no_interface_for_knockd() -> None:
    wire = Wire(GATE)
    with both(door("ssh", "7010,7020"), interface="any") as (knockd, ours):
        wire.knock("7010 7020")
        ours.until_noted("open ssh")
        knockd.interface = "gate0"
        knockd.process.terminate()
        knockd.status()
        knockd.start()
        wire.knock("7010 7020")
        knockd.until_noted("open ssh")


@isolated
def test_a_link_without_ethernet_has_no_ipv6_for_knockd() -> None:
    tunnel = Tunnel(GATE, GATE6)
    with both(door("ssh", "7010,7020"), interface=tunnel.interface) as (knockd, ours):
        tunnel.knock("7010 7020", CLIENT6)
        ours.until_noted("open ssh")
        tunnel.knock("7010 7020")
        ours.until_noted("open ssh", "open ssh")
        knockd.until_noted("open ssh")


# --- one-time sequences -------------------------------------------------------------------------------

ONE_TIME = door("once", "1").replace("sequence = 1", "one_time_sequences = HERE/once")


@isolated
def test_the_last_one_time_sequence_takes_all_doors_along() -> None:
    wire = Wire(GATE)
    with both(ONE_TIME + door("ssh", "7030,7040"), once=" 7010,7020\n") as (knockd, ours):
        wire.knock("7030 7040 7010 7020")
        ours.until_noted("open ssh", "open once")
        knockd.until_noted("open ssh", "open once")
        assert knockd.status() == -signal.SIGABRT
        assert "disabling the door" in knockd.said.read_text()
        wire.knock("7010 7020 7030 7040")
        ours.until_noted("open ssh", "open once", "open ssh")
        assert (ours.folder / "once").read_text() == "#7010,7020\n"


@isolated
def test_one_time_sequences_do_not_go_on_over_ipv6() -> None:
    wire = Wire(GATE, GATE6)
    with both(ONE_TIME, once=" 7010,7020\n 7030,7040\n 7050,7060\n") as (knockd, ours):
        wire.knock("7010 7020", CLIENT6)
        knockd.until_noted("open once")
        ours.until_noted("open once")
        wire.knock("7030 7040", CLIENT6)
        ours.until_noted("open once", "open once")
        assert (ours.folder / "once").read_text() == "#7010,7020\n#7030,7040\n 7050,7060\n"
        wire.knock("7030 7040")
        knockd.until_noted("open once", "open once")
