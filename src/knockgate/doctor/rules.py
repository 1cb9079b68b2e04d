"""Other tables that would defeat the guard, or see packets before it.

The guard hangs on prerouting at -190: after connection tracking, before DNAT. What hangs there later, or
elsewhere, can shut a door more tightly, and never open it, but for what leads past it: a redirect.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Sequence

from knockgate.doctor.finding import Finding, Kind, Topic, blind, fine, found
from knockgate.doctor.host import Host, output_of, read_text
from knockgate.doctor.ruleset import FAMILIES, Act, Chain, Rules
from knockgate.doctor.surroundings import BOOT_FILES, is_copy, on_redirects
from knockgate.errors import Unavailable
from knockgate.firewall.names import TABLE
from knockgate.firewall.ruleset import GUARD_PRIORITY

__all__ = ["examine", "judge", "judge_boot_file", "judge_legacy"]

_PREROUTING, _INPUT, _OUTPUT, _INET_INGRESS = 0, 1, 3, 5
_INET, _NETDEV, _BRIDGE = 1, 5, 7
_OF_IP = (1, 2, 10)
_TRACKING = -200  # NF_IP_PRI_CONNTRACK
_LEGACY = ("/proc/net/ip_tables_names", "/proc/net/ip6_tables_names")
_LEGACY_RULE = re.compile(r"^-A .* -j (?:DNAT|REDIRECT|TPROXY|NOTRACK|CT .*--notrack).*$", re.MULTILINE)
_ENABLED = "/etc/systemd/system/*.wants/nftables.service"


def examine(host: Host) -> Iterator[Finding]:
    """Rules in the kernel, those of iptables-legacy, and the file that is loaded at boot."""
    yield from _in_the_kernel(host)
    yield from _legacy()
    enabled = bool(glob.glob(_ENABLED))  # noqa: PTH207 - an absolute pattern
    for path in BOOT_FILES:
        try:
            text = read_text(path)
        except OSError as error:
            yield blind(Topic.RULES, f"{path}: {error.strerror}", "run it as root")
            continue
        if text is not None:
            yield from judge_boot_file(path, text, enabled=enabled)


def _in_the_kernel(host: Host) -> Iterator[Finding]:
    try:
        rules = host.rules
    except Unavailable as error:
        yield blind(Topic.RULES, f"the rules of other tables: {error}", error.hint or "run it as root")
        return
    before = list(judge(rules, guarded=bool(host.guarded)))
    if host.configuration:
        before += [
            found(Kind.BACK_DOOR, str(each), each.hint)
            for each in on_redirects(host.configuration, rules.redirects)
        ]
        fix = "look whether it leads to the port of a door"
        before += [found(Kind.RULE_NOT_READ, each, fix) for each in rules.unread]
    yield from before
    if not before:
        tables = sorted({(each.family, each.table) for each in rules.chains})
        names = ", ".join(f"{FAMILIES.get(family, family)} {table}" for family, table in tables)
        yield fine(Topic.RULES, f"no table of others is in the way: {names or 'there is none'}")


def judge(rules: Rules, *, guarded: bool) -> Iterator[Finding]:
    """What the rules of others do before the guard, or to its sessions. ``guarded``: doors have ports."""
    yield from _on_acts(rules.acts)
    for chain in rules.chains:
        fix = f"look at it: nft list chain {FAMILIES.get(chain.family)} {chain.table} {chain.name}"
        if chain.drops and _is_before(chain):
            yield found(Kind.DROPPED_BEFORE, f"{chain} drops what no rule of it accepts", fix)
        if chain.drops and guarded and (chain.family in _OF_IP and chain.hook == _INPUT):
            fix = "let it accept the ports of the doors as well; the gate keeps strangers out of those"
            yield found(Kind.DROPPED_BEHIND, f"{chain} drops what no rule of it accepts", fix)
    for each in rules.flowtables:
        yield found(
            Kind.OFFLOADED, f"there is a flow table: {each}", "conntrack -D ends a session that is in it"
        )


def _on_acts(acts: Iterable[Act]) -> Iterator[Finding]:
    for verb, chain in acts:
        look = f"look at it: nft list chain {FAMILIES.get(chain.family)} {chain.table} {chain.name}"
        match verb:
            case "notrack" if chain.hook in (_PREROUTING, _OUTPUT):
                fix = f"take the doors' ports out of it; {look}"
                yield found(Kind.NOT_TRACKED, f"{chain} keeps packets from being tracked", fix)
            case "fwd" if _is_before(chain):
                yield found(Kind.SENT_ON_BEFORE, f"{chain} sends packets out of another interface", look)
            case "rewrite" if _is_before(chain):
                yield found(Kind.CHANGED_BEFORE, f"{chain} changes addresses or ports", look)
            case "nat" if chain.hook == _PREROUTING and _TRACKING < chain.priority < GUARD_PRIORITY:
                fix = f"give it the usual priority, dstnat (-100); {look}"
                yield found(Kind.CHANGED_BEFORE, f"{chain} redirects before the gate looks", fix)
            case "tproxy":
                yield found(Kind.PROXIED, f"{chain} hands packets to a proxy", look)


def _is_before(chain: Chain) -> bool:
    if chain.family in (_NETDEV, _BRIDGE):
        return chain.hook == _PREROUTING  # of both it has the number 0 where packets come in
    return _is_ingress(chain) or (
        chain.family in _OF_IP and chain.hook == _PREROUTING and chain.priority < GUARD_PRIORITY
    )


def _is_ingress(chain: Chain) -> bool:
    return chain.family == _INET and chain.hook == _INET_INGRESS


# --- iptables-legacy ----------------------------------------------------------------------------------


def _legacy() -> Iterator[Finding]:
    for path in _LEGACY:
        family = "iptables" if path == _LEGACY[0] else "ip6tables"
        try:
            tables = (read_text(path) or "").split()
        except OSError as error:
            yield blind(Topic.RULES, f"the tables of {family}-legacy: {error.strerror}", "run it as root")
            continue
        if not tables:
            continue
        try:
            texts = [output_of(f"{family}-legacy-save", "-t", table) for table in tables]
        except Unavailable as error:
            yield blind(
                Topic.RULES, f"the rules of {family}-legacy: {error}", f"{family}-legacy-save, as root"
            )
            continue
        yield from judge_legacy(family, tables, "".join(texts))


def judge_legacy(family: str, tables: Sequence[str], text: str) -> Iterator[Finding]:
    """``text`` is what ``iptables-legacy-save`` prints of the tables."""
    for line in _LEGACY_RULE.findall(text):
        fix = f"see that it does not lead to a door; {family}-legacy-save"
        yield found(Kind.LEGACY_BACK_DOOR, f"{family}-legacy has: {line}", fix)
    number = len(re.findall(r"^-A ", text, re.MULTILINE))
    if number:
        seen = f"{family}-legacy has {number} rules in {', '.join(tables)}"
        yield found(Kind.LEGACY_RULES, seen, f"move them: {family}-legacy-save | {family}-restore-translate")


# --- at boot ------------------------------------------------------------------------------------------


def judge_boot_file(path: str, text: str, *, enabled: bool) -> Iterator[Finding]:
    """A file such as /etc/nftables.conf; ``enabled``: it is loaded at boot."""
    if is_copy(text):
        seen = f"{path} has a copy of the table made with `nft list`"
        yield found(Kind.COPY_DOES_NOT_LOAD, seen, "put what `knockgate rules` prints in its place")
    lines = [line.strip() for line in text.splitlines() if not line.strip().startswith("#")]
    at = next((number for number, line in enumerate(lines) if line.startswith("flush ruleset")), None)
    if at is None or not enabled:
        return
    after = "\n".join(lines[at:])
    if f"inet {TABLE}" not in after and not re.search(r"include .*knockgate", after):
        fix = f'delete the line; or put the rules behind it: include "/etc/knockgate/rules.nft" in {path}'
        yield found(
            Kind.FLUSHED_AT_BOOT, f"nftables.service loads {path}, which begins with `flush ruleset`", fix
        )
