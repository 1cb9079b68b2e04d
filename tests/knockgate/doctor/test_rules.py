"""Rules of others, real ones: what gets in the guard's way, and beside each a rule that does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.knockgate.cli.gates import SSH, gate
from tests.knockgate.cli.process import knockgate
from tests.knockgate.doctor.looking import host, kinds, of
from tests.netns import isolated, own_mounts, run, up, veth, without_rights

from knockgate.doctor import rules, surroundings
from knockgate.doctor.finding import Kind
from knockgate.doctor.ruleset import Act, Chain, Rules


def there() -> set[Kind]:
    """What is found of the rules in the kernel, besides what this machine's files say."""
    return kinds(rules._in_the_kernel(host()))


def finds(text: str) -> set[Kind]:
    """With these rules, and nothing as soon as they are gone."""
    run("nft", text)
    found = there()
    run("nft", "flush ruleset")
    assert there() == set()
    return found


PREROUTING = "chain c {{ type {} hook prerouting priority {}; policy {}; {} }};"


def ip(rule: str, priority: str = "-300", kind: str = "filter", policy: str = "accept") -> str:
    return f"table ip other {{ {PREROUTING.format(kind, priority, policy, rule)} }}"


@isolated
def test_what_is_in_nobodys_way(tmp_path: Path) -> None:
    assert finds(ip("tcp dport 22 accept;")) == set()
    assert finds(ip("tcp dport 22 drop;", "0")) == set()
    assert finds(ip("", "0", policy="drop")) == set()  # after the guard: it drops more
    assert knockgate("up", gate(tmp_path, SSH)).returncode == 0
    assert there() == set()  # our own, with all that it writes into packets


@isolated
def test_packets_that_are_not_tracked() -> None:
    assert finds(ip("tcp dport 22 notrack;")) == {Kind.NOT_TRACKED}
    reply = "chain c { type filter hook output priority -300; tcp sport 22 notrack; };"
    assert finds(f"table inet other {{ {reply} }}") == {Kind.NOT_TRACKED}
    jump = "chain d { tcp dport 22 notrack; }; "
    twice = "chain e { tcp dport 22 notrack; }; chain d { jump e; }; "
    begins = PREROUTING.format("filter", -300, "accept", "jump d;")
    for chains in (jump, twice):
        assert finds(f"table ip other {{ {chains} {begins} }}") == {Kind.NOT_TRACKED}
    by_map = "tcp dport vmap { 22 : jump d };"
    assert finds(f"table ip other {{ {jump} {PREROUTING.format('filter', -300, 'accept', by_map)} }}") == {
        Kind.NOT_TRACKED
    }
    # Where nothing leads to it, it does nothing.
    assert finds(f"table ip other {{ {jump} {PREROUTING.format('filter', -300, 'accept', '')} }}") == set()


@isolated
def test_packets_that_are_not_tracked_because_iptables_says_so() -> None:
    for target in (["NOTRACK"], ["CT", "--notrack"]):
        run("iptables-nft", "-t", "raw", "-A", "PREROUTING", "-p", "tcp", "--dport", "22", "-j", *target)
        assert there() == {Kind.NOT_TRACKED}, target
        run("iptables-nft", "-t", "raw", "-F")
        assert there() == set()


@isolated
def test_packets_that_are_sent_on_or_changed_before_the_guard() -> None:
    veth("near", "far")
    chain = 'table netdev other {{ chain c {{ type filter hook ingress device "near" priority 0; {} }}; }}'
    assert finds(chain.format('fwd to "far";')) == {Kind.SENT_ON_BEFORE}
    assert finds(chain.format("ip daddr 10.0.0.1 accept;")) == set()
    assert finds(chain.format("tcp dport set 22;")) == {Kind.CHANGED_BEFORE}
    assert finds(chain.format("policy drop;")) == {Kind.DROPPED_BEFORE}
    assert finds(ip("tcp dport 7777 tcp dport set 22;")) == {Kind.CHANGED_BEFORE}
    assert finds(ip("tcp dport 7777 tcp dport set 22;", "-150")) == set()  # the guard has seen 7777
    assert finds(ip("ip ttl set 7;")) == set()
    assert finds(ip("", policy="drop")) == {Kind.DROPPED_BEFORE}


@isolated
def test_a_redirect_before_the_guard() -> None:
    redirect = "tcp dport 80 redirect to :8080;"
    assert finds(ip(redirect, "-195", kind="nat")) == {Kind.CHANGED_BEFORE}
    assert finds(ip(redirect, "-100", kind="nat")) == set()


@isolated
def test_ways_past_a_door() -> None:
    assert finds(ip("tcp dport 7777 redirect to :22;", "-100", "nat")) == {Kind.BACK_DOOR}
    assert finds(ip("tcp dport 7777 redirect to :23;", "-100", "nat")) == set()
    unread = "meta l4proto tcp redirect to :tcp dport map { 7777 : 22 };"
    assert finds(ip(unread, "-100", "nat")) == {Kind.RULE_NOT_READ}


@isolated
def test_proxies_and_what_drops_behind() -> None:
    assert finds(ip("tcp dport 80 tproxy to :8080;", "-150")) == {Kind.PROXIED}
    chain = "table inet other {{ chain c {{ type filter hook input priority 0; policy {}; }}; }}"
    assert finds(chain.format("drop")) == {Kind.DROPPED_BEHIND}
    assert finds(chain.format("accept")) == set()


@isolated
def test_flow_tables() -> None:
    veth("near", "far")
    table = "table inet other { flowtable f { hook ingress priority 0; devices = { near, far }; }; }"
    if "No such file" in subprocess.run(["nft", table], capture_output=True, text=True, check=False).stderr:
        pytest.skip("this kernel has no flow tables (CONFIG_NF_FLOW_TABLE_INET)")
    assert there() == {Kind.OFFLOADED}
    run("nft", "flush ruleset")
    assert there() == set()


@pytest.mark.parametrize(("hook", "finds"), [(0, {Kind.SENT_ON_BEFORE}), (1, set())])
def test_what_is_sent_on_counts_where_packets_come_in(hook: int, finds: set[Kind]) -> None:
    """In a table of the family netdev, 0 is the hook ingress, and 1 egress."""
    act = Act("fwd", Chain(5, "other", "c", hook, 0, "filter", drops=False))
    assert {each.kind for each in rules.judge(Rules([], [act], [], [], []), guarded=True)} == finds


def test_a_flow_table_is_told() -> None:
    empty = Rules([], [], [], [], [])
    assert list(rules.judge(empty, guarded=True)) == []
    assert kinds(rules.judge(empty._replace(flowtables=["inet other f"]), guarded=True)) == {Kind.OFFLOADED}


@isolated
def test_rules_of_iptables_legacy() -> None:
    up("lo", "10.9.9.1/32")
    if not Path("/proc/net/ip_tables_names").exists() or run("iptables-legacy", "-S", check=False) == "":
        pytest.skip("this kernel has no iptables-legacy")
    assert kinds([*rules._legacy(), *rules._in_the_kernel(host())]) == set()
    run("iptables-legacy", "-A", "INPUT", "-p", "tcp", "--dport", "25", "-j", "DROP")
    assert kinds(rules._legacy()) == {Kind.LEGACY_RULES}
    run(
        "iptables-legacy",
        "-t",
        "nat",
        "-A",
        "PREROUTING",
        *["-p", "tcp", "--dport", "7777", "-j", "REDIRECT", "--to-ports", "22"],
    )
    assert Kind.LEGACY_BACK_DOOR in kinds(rules._legacy())


@pytest.mark.parametrize(
    ("line", "leads"),
    [
        ("-A PREROUTING -p tcp -m tcp --dport 7777 -j REDIRECT --to-ports 22", True),
        ("-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1:80", True),
        ("-A PREROUTING -p tcp -m tcp --dport 22 -j CT --notrack", True),
        ("-A PREROUTING -p tcp -m tcp --dport 22 -j CT --helper ftp", False),
        ("-A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE", False),
    ],
)
def test_what_of_iptables_legacy_leads_past_a_door(line: str, leads: bool) -> None:
    found = kinds(
        rules.judge_legacy("iptables", ["nat"], f"*nat\n:PREROUTING ACCEPT [0:0]\n{line}\nCOMMIT\n")
    )
    assert found == {Kind.LEGACY_RULES} | ({Kind.LEGACY_BACK_DOOR} if leads else set())


FLUSHES = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n}\n"


@pytest.mark.parametrize(
    ("text", "enabled", "finds"),
    [
        (FLUSHES, True, {Kind.FLUSHED_AT_BOOT}),
        (FLUSHES, False, set()),
        (FLUSHES.replace("flush", "# flush"), True, set()),
        (FLUSHES + 'include "/etc/knockgate/rules.nft"\n', True, set()),
        (FLUSHES + "add table inet knockgate\n", True, set()),
        ('include "/etc/knockgate/rules.nft"\n' + FLUSHES, True, {Kind.FLUSHED_AT_BOOT}),
    ],
)
def test_a_file_that_flushes_at_boot(text: str, enabled: bool, finds: set[Kind]) -> None:
    found = list(rules.judge_boot_file("/etc/nftables.conf", text, enabled=enabled))
    assert {each.kind for each in found} == finds


@isolated
def test_a_copy_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, copy = gate(tmp_path, SSH), tmp_path / "nftables.conf"
    monkeypatch.setattr(rules, "BOOT_FILES", (str(copy),))
    copy.write_text(knockgate("rules", file).stdout)
    control = kinds(rules.examine(host()))
    assert Kind.COPY_DOES_NOT_LOAD not in control
    assert knockgate("up", file).returncode == 0
    copy.write_text(run("nft", "list", "ruleset"))
    assert surroundings.is_copy(copy.read_text())
    assert kinds(rules.examine(host())) == control | {Kind.COPY_DOES_NOT_LOAD}


@isolated
def test_without_rights_nothing_is_said_to_be_fine() -> None:
    own_mounts()

    def look() -> None:
        found = of(rules._in_the_kernel(host()), Kind.NOT_LOOKED_AT)
        assert "no right to read the rules" in found.seen and "root" in found.fix

    without_rights(look)
    assert there() == set()
