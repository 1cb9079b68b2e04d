"""nmap's commands and answers, and the errors that must not become results."""

from __future__ import annotations

import subprocess

import pytest

from knockdemo.scan import PortSeen, scan, scan_command, seen_in
from knockgate.errors import Unavailable

DONE = '<runstats><finished exit="success"/></runstats>'


def xml(ports: str, end: str = DONE) -> str:
    return f"<nmaprun><host><ports>{ports}</ports></host>{end}</nmaprun>"


def test_states_and_what_was_learned() -> None:
    """The name that nmap looks up for a port number is not something it learned."""
    found = seen_in(
        xml(
            '<port portid="6500"><state state="filtered"/><service name="boks" method="table"/></port>'
            '<port portid="6501"><state state="open"/><service name="boks_servc" servicefp="SF-Port"/></port>'
            '<port portid="22"><state state="open"/><service name="ssh" product="OpenSSH"/></port>'
            '<port portid="6503"><state state="closed"/></port>'
        )
    )
    assert found == {
        6500: PortSeen("filtered", None),
        6501: PortSeen("open", "SF-Port"),
        22: PortSeen("open", "OpenSSH"),
        6503: PortSeen("closed", None),
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nmap: command not understood",
        xml("", ""),
        xml("", '<runstats><finished exit="error"/></runstats>'),
        xml('<port portid="6500"><service name="boks"/></port>'),
    ],
)
def test_answer_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(Unavailable):
        seen_in(text)


def test_failing_nmap_is_an_error_with_its_words() -> None:
    def run(_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(
            ["nmap"], 1, "", "setup_target: failed to determine route\nQUITTING!\n"
        )

    with pytest.raises(Unavailable, match="QUITTING"):
        scan(run, ["nmap"])


def test_commands() -> None:
    plain = scan_command("192.0.2.1", [6500, 6501])
    assert plain[plain.index("-p") + 1] == "6500,6501"
    assert plain[-1] == "192.0.2.1" and "-6" not in plain and "-sV" not in plain and "-r" not in plain
    assert "--max-rtt-timeout" in plain
    assert "--max-rtt-timeout" not in scan_command("192.0.2.1", "1-9", patient=True)
    sweep = scan_command("2001:db8::1", "7000-9000", ascending=True, source="2001:db8::5", interface="br0")
    assert {"-6", "-r", "-S", "2001:db8::5", "-e", "br0", "7000-9000"} <= set(sweep)
    assert "-sV" in scan_command("192.0.2.1", [6500], version=True)
