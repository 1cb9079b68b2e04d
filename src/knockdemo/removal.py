"""Ends what runs on this host and takes the rules away; the counterpart of the tutorial's last steps.

Everything here may be repeated, and none of it minds that there is nothing to do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Collection
from pathlib import Path

from knockdemo.units import GUARDS, INSTANCES, SYSTEM
from knockgate.errors import Unavailable

__all__ = [
    "disable",
    "enable",
    "reload_units",
    "remove_replay_cache",
    "remove_rules",
    "stop_units",
    "systemd_runs",
]

_SEARCH = "/usr/sbin:/usr/bin:/sbin:/bin"
#: systemctl would also turn the links of /etc/rc?.d around, which nobody could turn back exactly.
_ENVIRONMENT = {
    **os.environ,
    "PATH": _SEARCH,
    "SYSTEMCTL_SKIP_SYSV": "1",
    "_SKIP_SYSTEMD_NATIVE": "1",
    "LC_ALL": "C",
}
_KNOCKD_ACCEPT = re.compile(r"-A (INPUT -s \S+ -p tcp -m tcp --dport 6501 -j ACCEPT)")
_FWKNOP_JUMP = re.compile(r"-A (INPUT -j FWKNOP_INPUT)")
#: It keeps them over a restart, and our unit lets it; the directory is the package's.
_FWKNOPD_LEAVES = ("/run/fwknop/digest.cache", "/run/fwknop/fwknopd.pid")
#: What iptables makes the kernel create; it never deletes them again.
_IPTABLES = ("filter", "nat", "mangle", "raw", "security")
_IPTABLES_TABLES = [f"{family} {table}" for family in ("ip", "ip6") for table in _IPTABLES]


def systemd_runs() -> bool:
    """Whether systemd is the first process here (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def disable(unit: str) -> None:
    """Do not start ``unit`` at boot any more; Unavailable with systemctl's words."""
    _systemctl("disable", unit)


def enable(unit: str) -> None:
    """Start ``unit`` at boot; Unavailable with systemctl's words."""
    _systemctl("enable", unit)


def sysv_off(name: str) -> bool:
    """Whether /etc/rc?.d says that ``name`` is not started; False where it says nothing."""
    links = [path.name for path in Path("/etc").glob(f"rc[2345S].d/[SK]??{name}")]
    return bool(links) and not any(link.startswith("S") for link in links)


def sysv_disable(name: str) -> None:
    """Turn the links of /etc/rc?.d off again, which ``systemctl enable`` has turned on."""
    if not sysv_off(name):
        _run("update-rc.d", name, "disable")


def stop_units(keep_enabled: Collection[str] = ()) -> None:
    """Stop and disable every unit of the demonstration, the services before their guards.

    ``keep_enabled`` names units (``x.service``) to be stopped only. Unavailable if one will not stop.
    """
    instances = {*INSTANCES, *_instances()}
    for unit in [f"{name}.service" for name in (*sorted(instances), *GUARDS)]:
        if systemd_runs():
            _run("systemctl", "stop", unit)
            _run("systemctl", "reset-failed", unit)
            state = _run("systemctl", "is-active", unit).stdout.strip()
            if state not in ("inactive", "failed", "unknown", ""):
                raise Unavailable(f"{unit} does not stop, it is {state}", hint=f"systemctl status {unit}")
        if unit not in keep_enabled:
            _run("systemctl", "disable", unit)


def reload_units() -> None:
    """Let systemd see that unit files have come or gone."""
    if systemd_runs():
        _systemctl("daemon-reload")


def remove_rules(script: Path, tables_before: Collection[str]) -> None:
    """Take away the base rules (by ``script``), what daemons left behind, lane A's table.

    ``tables_before`` names the nft tables that stood before the first iptables rule did: an emptied
    one that is not among them goes too.
    """
    done = _run("/bin/sh", str(script), "remove")
    if done.returncode:
        raise Unavailable(f"the base rules cannot be removed: {_last_line(done)}")
    for rule in _rules("INPUT"):
        match = _KNOCKD_ACCEPT.fullmatch(rule) or _FWKNOP_JUMP.fullmatch(rule)
        if match:
            _run("iptables", "-w", "-D", *match[1].split())
    for verb in ("-F", "-X"):
        _run("iptables", "-w", verb, "FWKNOP_INPUT")
    _run("nft", "delete", "table", "inet", "knockdemo")
    for table in _IPTABLES_TABLES:
        if table not in tables_before and _is_bare(table):
            _run("nft", "delete", "table", *table.split())


def remove_replay_cache() -> None:
    """Forget which packets fwknopd has seen; its next run starts anew."""
    for name in _FWKNOPD_LEAVES:
        Path(name).unlink(missing_ok=True)


def _rules(chain: str) -> list[str]:
    return _run("iptables", "-w", "-S", chain).stdout.splitlines()


def _is_bare(table: str) -> bool:
    """Whether a table holds nothing but hooks that accept: what iptables leaves of itself."""
    done = _run("nft", "-j", "list", "table", *table.split())
    if done.returncode:
        return False
    listed = [item for item in json.loads(done.stdout)["nftables"] if not item.keys() & {"metainfo", "table"}]
    return all(item.get("chain", {}).get("policy") == "accept" for item in listed)


def _instances() -> set[str]:
    """Instances of the service that the user made, loaded or enabled."""
    listed = _run("systemctl", "list-units", "--all", "--plain", "--no-legend", "secret-service@*").stdout
    names = [line.split()[0] for line in listed.splitlines() if line.split()]
    names += [link.name for link in Path(SYSTEM).glob("*.wants/secret-service@*.service")]
    return {name.removesuffix(".service") for name in names if name.endswith(".service")}


def _systemctl(verb: str, *units: str) -> None:
    done = _run("systemctl", verb, *units)
    if done.returncode:
        raise Unavailable(f"systemctl {' '.join([verb, *units])} failed: {_last_line(done)}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    """A program that is not there is a program that did nothing: status 127, as a shell has it."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=_ENVIRONMENT)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]} is not installed")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"
