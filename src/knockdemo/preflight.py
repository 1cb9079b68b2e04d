"""What must be true of this host before anything is laid down on it, and what is found out on the way.

Reads only. Each question raises Unavailable or ConfigError with a hint as soon as the answer is no.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from knockgate.errors import ConfigError, Unavailable

__all__ = [
    "address_of",
    "default_interface",
    "nft_tables",
    "refuse_strangers",
    "require_free_ports",
    "require_interface",
    "require_programs",
    "require_root",
    "unit_state",
]

#: Where Debian's packages put them; the unit files and configuration name these very paths.
PROGRAMS = {
    "/usr/bin/python3": "python3",
    "/usr/sbin/knockd": "knockd",
    "/usr/sbin/fwknopd": "fwknop-server",
    "/usr/sbin/iptables": "iptables",
    "/usr/sbin/ip6tables": "iptables",
    "/usr/sbin/nft": "nftables",
}
_OLDEST_PYTHON = (3, 11)
_SERVICE_PORTS = (6500, 6501, 6502)
_SPA_PORT = 62201
_SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin"
#: The state column of /proc/net/tcp for a listening socket.
_LISTEN = "0A"


def require_root() -> None:
    """Unavailable unless this process may write anywhere and change the firewall."""
    if os.geteuid() != 0:
        raise Unavailable("installing needs root", hint="run it again with sudo, or look at --dry-run")


def require_programs() -> None:
    """Unavailable if a program is missing, with the packages to install."""
    missing = {path: package for path, package in PROGRAMS.items() if not os.access(path, os.X_OK)}
    if missing:
        raise Unavailable(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            hint=f"apt install {' '.join(sorted(set(missing.values())))}",
        )
    found = _output(["/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:2])"])
    version = tuple(map(int, found.split()))
    if version < _OLDEST_PYTHON:
        raise Unavailable(
            f"/usr/bin/python3 is Python {'.'.join(map(str, version))}, too old for the units",
            hint=f"Python {'.'.join(map(str, _OLDEST_PYTHON))} or newer: Debian 12, Ubuntu 24.04",
        )


def default_interface() -> str:
    """The interface of the default route, IPv4's before IPv6's, the lowest metric first."""
    for family in ("-4", "-6"):
        routes = [route for route in _ip(family, "route", "show", "default") if "dev" in route]
        if routes:
            return str(min(routes, key=lambda route: route.get("metric", 0))["dev"])
    raise Unavailable(
        "there is no default route to take the interface from", hint=f"--interface IF, one of {_interfaces()}"
    )


def require_interface(name: str) -> None:
    """ConfigError if there is no such interface."""
    if name not in (known for _, known in socket.if_nameindex()):
        hint = f"there are {_interfaces()}"
        raise ConfigError(f"there is no interface {name}", key="--interface", hint=hint)


def address_of(interface: str) -> str | None:
    """The address to knock at: the first global IPv4 one, else IPv6; None if it has neither."""
    known = [entry for link in _ip("addr", "show", "dev", interface) for entry in link.get("addr_info", [])]
    for family in ("inet", "inet6"):
        for entry in known:
            if entry["family"] == family and entry["scope"] in ("global", "host"):
                return str(entry["local"])
    return None


def require_free_ports() -> None:
    """Unavailable if somebody else's socket sits on a port of the demonstration."""
    for protocol, ports in (("tcp", _SERVICE_PORTS), ("udp", (_SPA_PORT,))):
        for port, inode in _bound(protocol):
            if port not in ports:
                continue
            pid, name, ours = _owner(inode)
            if not ours:
                who = f"{name} (process {pid})" if pid else "another process"
                raise Unavailable(
                    f"{protocol} port {port} is in use by {who}", hint="stop it, or move it away"
                )


def refuse_strangers() -> None:
    """Unavailable if a mechanism runs here that this project did not set up, or lane A's table is there."""
    for pid, name in _processes():
        if name in ("knockd", "fwknopd") and _shares_network(pid):
            unit = "knockd" if name == "knockd" else "fwknop-server"
            raise Unavailable(
                f"{name} (process {pid}) is running with a configuration of its own",
                hint=f"to let the demonstration take its place: systemctl disable --now {unit}",
            )
    if "inet knockdemo" in nft_tables():
        raise Unavailable(
            "there is an nft table inet knockdemo that this installer did not make",
            hint="end what uses it, then: nft delete table inet knockdemo",
        )


def nft_tables() -> list[str]:
    """The tables in this network namespace, as ``family name``."""
    listed = json.loads(_output(["nft", "-j", "list", "tables"]))["nftables"]
    return [f"{item['table']['family']} {item['table']['name']}" for item in listed if "table" in item]


def unit_state(unit: str) -> str:
    """What ``systemctl is-enabled`` says; empty without systemctl or without such a unit."""
    if not shutil.which("systemctl", path=_SEARCH):
        return ""
    done = subprocess.run(["systemctl", "is-enabled", unit], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _interfaces() -> str:
    return ", ".join(name for _, name in socket.if_nameindex())


def _ip(*arguments: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(_output(["ip", "-j", *arguments]) or "[]")
    return listed


def _output(command: list[str]) -> str:
    program = shutil.which(command[0], path=_SEARCH)
    if not program:
        package = {"ip": "iproute2", "nft": "nftables"}.get(command[0], command[0])
        raise Unavailable(f"{command[0]} is not installed", hint=f"apt install {package}")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    if done.returncode:
        message = done.stderr.strip().splitlines()
        raise Unavailable(f"{' '.join(command)} failed: {message[0] if message else done.returncode}")
    return done.stdout


def _bound(protocol: str) -> Iterator[tuple[int, str]]:
    """Port and inode of every listening (TCP) or bound (UDP) socket of this network namespace."""
    for table in (protocol, f"{protocol}6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for line in lines:
            columns = line.split()
            if protocol == "udp" or columns[3] == _LISTEN:
                yield int(columns[1].rpartition(":")[2], 16), columns[9]


def _owner(inode: str) -> tuple[int, str, bool]:
    """Process, name, and whether it is our service, for a socket's inode; (0, "", False) if unknown."""
    for pid, name in _processes():
        try:
            files = Path(f"/proc/{pid}/fd").iterdir()
            if any(str(file.readlink()) == f"socket:[{inode}]" for file in files):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                # fwknopd binds its port where it is built without pcap (Debian 13, Ubuntu 24.04). One that
                # is not ours is refuse_strangers' business, which knows what to advise.
                return pid, name, b"knockdemo.secret_service" in command or name == "fwknopd"
        except OSError:  # it ended, or is not ours to look into
            continue
    return 0, "", False


def _processes() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "comm").read_text().strip()
            except OSError:
                continue


def _shares_network(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()
    except OSError:
        return False
