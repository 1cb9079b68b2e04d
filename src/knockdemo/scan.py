"""What a scanner sees: nmap, run and read. nmap's own words for states are kept.

The SERVICE column that nmap prints is a look-up of the port number in a table and says nothing about
the host, so it is not read. What counts for ``learned`` is what ``-sV`` got out of the port itself.
"""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from knockgate.errors import Unavailable

__all__ = ["PortSeen", "Runner", "scan", "scan_command", "seen_in"]

#: Runs a command at the place the scan is made from; returns what subprocess.run returns, with text.
Runner = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True, slots=True)
class PortSeen:
    """One port in nmap's eyes: ``open``, ``closed`` or ``filtered``; ``learned`` is -sV's finding."""

    state: str
    learned: str | None = None


def scan_command(
    address: str,
    ports: Sequence[int] | str,
    *,
    version: bool = False,
    source: str | None = None,
    interface: str | None = None,
    ascending: bool = False,
    patient: bool = False,
) -> list[str]:
    """The nmap command. ``ports``: numbers, or nmap's own notation such as ``7000-9000``.

    On the lab's wires an answer comes within a millisecond, so 200 ms of silence, twice, is silence.
    ``patient`` leaves nmap its own, adaptive times, as a real network needs them.
    """
    wanted = ports if isinstance(ports, str) else ",".join(map(str, ports))
    command = ["nmap", "-n", "-Pn", "-oX", "-", "-p", wanted]
    if not patient:
        command += ["--max-retries", "1", "--initial-rtt-timeout", "100ms", "--max-rtt-timeout", "200ms"]
    if version:
        # Only the probe that listens: it gets the banner, and the other probes would get it again.
        command += ["-sV", "--version-intensity", "0"]
    if ascending:
        command.append("-r")
    if source:
        command += ["-S", source]
    if interface:
        command += ["-e", interface]
    if ":" in address:
        command.append("-6")
    return [*command, address]


def scan(run: Runner, command: Sequence[str]) -> dict[int, PortSeen]:
    """Run a scan and read it; raises Unavailable when nmap says less than what was asked."""
    done = run(command)
    if done.returncode:
        message = (done.stderr or done.stdout).strip().splitlines()
        raise Unavailable(f"nmap failed: {message[-1] if message else done.returncode}")
    return seen_in(done.stdout)


def seen_in(xml: str) -> dict[int, PortSeen]:
    """Read nmap's XML: port number -> what was seen. Ports that nmap lumps together are left out."""
    try:
        root = ET.fromstring(xml)  # noqa: S314 - written by the nmap we ran; it escapes what it was told
    except ET.ParseError as error:
        raise Unavailable(f"nmap's answer cannot be read: {error}") from None
    finished = root.find("runstats/finished")
    if finished is None or finished.get("exit") != "success":
        raise Unavailable("nmap did not finish its scan")
    seen: dict[int, PortSeen] = {}
    for port in root.iterfind("host/ports/port"):
        state, service = port.find("state"), port.find("service")
        if state is None:
            raise Unavailable("nmap names a port without its state")
        learned = None
        if service is not None:
            learned = service.get("product") or service.get("servicefp")
        seen[int(port.get("portid", "0"))] = PortSeen(state.get("state", ""), learned)
    return seen
