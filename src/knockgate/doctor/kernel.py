"""Settings of the kernel, its version, nft's, and connection tracking."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from knockgate.config.toml import several
from knockgate.doctor.finding import Finding, Kind, Severity, Topic, blind, fine, found
from knockgate.doctor.host import Host, Missing, output_of, program, setting
from knockgate.errors import Unavailable

__all__ = ["Settings", "examine", "judge_kernel", "judge_nft", "judge_settings", "judge_tracking"]

_CONF = Path("/proc/sys/net/ipv4/conf")
#: What the rules are made of is all there from here on: concatenated keys in sets that packets add to,
#: with a time of their own each, verdict maps, and named counters (design.md).
_OLDEST = (5, 10)
_OWNED, _PERSISTS = (5, 12), (6, 9)
_OLDEST_NFT = (1, 0, 6)  #: with which every construct was tried (firewall/ruleset.py)
_FULL = 0.8
_SOME_SESSIONS = 16_384


class Settings(NamedTuple):
    """Values by name; None where the kernel has none. Of interfaces by ``all``, and by their names."""

    single: Mapping[str, int | None]
    route_localnet: Mapping[str, int]
    source_route: Mapping[str, int]
    rp_filter: Mapping[str, int]


_SINGLE = (
    "net.ipv4.ip_nonlocal_bind",
    "net.ipv6.ip_nonlocal_bind",
    "net.ipv6.conf.all.accept_source_route",
    "kernel.unprivileged_userns_clone",
)


def examine(host: Host) -> Iterator[Finding]:
    """All of these."""
    bad = list(judge_settings(_settings(), needs_daemon=host.needs_daemon))
    bad += judge_kernel(os.uname().release)
    try:
        bad += judge_nft(output_of("nft", "--version"))
    except Missing as error:
        bad.append(_no_nft(str(error)))
    except Unavailable as error:
        bad.append(blind(Topic.KERNEL, f"the version of nft: {error}", "nft --version"))
    count = setting("net.netfilter.nf_conntrack_count")
    most = setting("net.netfilter.nf_conntrack_max") or setting("net.nf_conntrack_max")
    bad += judge_tracking(count, most, module=_has_module("nf_conntrack"))
    if program("conntrack") is None:
        seen = "the program conntrack is not there"
        bad.append(found(Kind.NO_CONNTRACK_PROGRAM, seen, "apt install conntrack"))
    yield from bad
    if all(each.severity <= Severity.NOTE for each in bad):
        yield fine(Topic.KERNEL, f"Linux {os.uname().release} has what the rules need")


def _settings() -> Settings:
    names = sorted(each.name for each in _CONF.iterdir()) if _CONF.is_dir() else []

    def of(name: str) -> dict[str, int]:
        return {each: setting(f"net.ipv4.conf/{each}/{name}") or 0 for each in names}

    single = {name: setting(name) for name in _SINGLE}
    return Settings(single, of("route_localnet"), of("accept_source_route"), of("rp_filter"))


def judge_settings(has: Settings, *, needs_daemon: bool) -> Iterator[Finding]:
    """What of them works against the gate."""
    for version in ("ipv4", "ipv6"):
        name = f"net.{version}.ip_nonlocal_bind"
        if has.single.get(name):
            most = Severity.WARNING if needs_daemon else Severity.NOTE
            yield found(Kind.NONLOCAL_BIND, f"{name} is 1", f"sysctl -w {name}=0", most=most)
    if names := _set(has.route_localnet):
        fix = "; ".join(f"sysctl -w net.ipv4.conf.{each}.route_localnet=0" for each in names)
        yield found(Kind.ROUTE_LOCALNET, f"route_localnet is 1 for {', '.join(names)}", fix)
    # Of IPv4 both must be set, that of all interfaces and that of the one where a packet arrives.
    routed = [each for each in _set(has.source_route) if each not in ("all", "default", "lo")]
    if has.source_route.get("all") and routed:
        fix = "sysctl -w net.ipv4.conf.all.accept_source_route=0"
        yield found(Kind.SOURCE_ROUTE, f"packets with a source route are taken from {several(routed)}", fix)
    if (has.single.get("net.ipv6.conf.all.accept_source_route") or 0) > 0:
        fix = "sysctl -w net.ipv6.conf.all.accept_source_route=0"
        yield found(Kind.SOURCE_ROUTE, "IPv6 packets with a routing header are taken", fix)
    # The larger of the two counts.
    open_ = [
        each
        for each, value in has.rp_filter.items()
        if each not in ("all", "default", "lo") and not max(value, has.rp_filter.get("all", 0))
    ]
    if open_:
        fix = "sysctl -w net.ipv4.conf.all.rp_filter=2 (loose), or 1 where there is one way to each network"
        yield found(Kind.NO_REVERSE_PATH, f"rp_filter is 0 for {several(open_)}", fix)
    if has.single.get("kernel.unprivileged_userns_clone"):
        fix = "sysctl -w kernel.unprivileged_userns_clone=0, where no browser or container needs it"
        yield found(Kind.USER_NAMESPACES, "kernel.unprivileged_userns_clone is 1", fix)


def _set(values: Mapping[str, int]) -> list[str]:
    return [name for name, value in values.items() if value and name != "default"]


def judge_kernel(release: str) -> Iterator[Finding]:
    """``release`` as uname(2) has it, such as ``6.1.0-18-amd64``."""
    version = _version(release)
    if version < _OLDEST:
        yield found(Kind.UNTRIED_KERNEL, f"Linux {release} is older than 5.10", "install a newer kernel")
    elif version < _OWNED:
        seen = f"Linux {release}: tables have no owner (from 5.12 on), and do not persist (from 6.9 on)"
        yield found(Kind.OLD_KERNEL, seen, "nothing, as long as the daemon runs; else a newer kernel")
    elif version < _PERSISTS:
        seen = f"Linux {release}: tables that have an owner do not persist (from 6.9 on), so ours has none"
        yield found(Kind.OLD_KERNEL, seen, "nothing, as long as the daemon runs; else a newer kernel")


def judge_nft(text: str) -> Iterator[Finding]:
    """``text`` is what ``nft --version`` prints; the library is looked for as well."""
    if _version(text) < _OLDEST_NFT:
        seen = f"{' '.join(text.split())} is older than 1.0.6, the oldest that was tried"
        yield found(Kind.UNTRIED_NFT, seen, "apt install nftables, from backports if need be")
    try:
        ctypes.CDLL("libnftables.so.1")
    except OSError:
        yield _no_nft("libnftables.so.1 is not there")


def _no_nft(seen: str) -> Finding:
    return found(Kind.NO_NFT, seen, "apt install nftables")


def judge_tracking(count: int | None, most: int | None, *, module: bool) -> Iterator[Finding]:
    """Sessions that are tracked, and how many can be. ``module``: it can be loaded when it is needed."""
    if most is None:
        if not module:
            fix = "modprobe nf_conntrack; or a kernel that has it (CONFIG_NF_CONNTRACK)"
            yield found(Kind.TRACKING_MISSING, "the kernel has no connection tracking", fix)
        return
    if count is None:
        yield blind(Topic.KERNEL, "how full connection tracking is", "run it on the host itself")
    elif count > _FULL * most:
        fix = f"sysctl -w net.netfilter.nf_conntrack_max={max(4 * most, 4 * _SOME_SESSIONS)}"
        yield found(Kind.TRACKING_FULL, f"{count} of {most} sessions are tracked", fix)


def _has_module(name: str) -> bool:
    folder = Path("/lib/modules", os.uname().release)
    lists = (folder / "modules.builtin", folder / "modules.dep")
    return Path("/sys/module", name).exists() or any(
        each.is_file() and f"/{name}.ko" in each.read_text(errors="replace") for each in lists
    )


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else (0,)
