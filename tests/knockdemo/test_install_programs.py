"""What was laid down, as the real programs take it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.knockdemo.installing import (
    SCRIPT,
    lay_down,
    needs_programs,
)
from tests.netns import isolated, run

from knockdemo import preflight, removal


def test_systemd_accepts_every_unit(root: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("not installed: systemd-analyze")
    needs_programs()
    lay_down(root)
    directory = root / "etc/systemd/system"
    base = directory / "demo-firewall-base.service"
    base.write_text(base.read_text().replace("/usr/lib/knockdemo", f"{root}/usr/lib/knockdemo"))
    shutil.copy("/lib/systemd/system/knockd.service", directory)
    checked = sorted(directory.glob("*.service"))
    assert [path.name for path in checked] == [
        "demo-firewall-base.service",
        "fwknopd.service",
        "knock-demo.service",
        "knockd.service",
        "secret-service@.service",
    ]
    for unit in checked:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), unit.name


def drops(program: str) -> list[str]:
    return [line for line in run(program, "-S", "INPUT").splitlines() if line.endswith("-j DROP")]


@isolated
def test_the_script_twice_is_the_script_once() -> None:
    needs_programs()
    closed = [f"-A INPUT -p tcp -m tcp --dport {port} -j DROP" for port in (6501, 6502)]
    for _ in range(2):
        run("sh", str(SCRIPT))
        assert drops("iptables") == closed
        assert drops("ip6tables") == closed
    run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "6501", "-j", "DROP")
    for _ in range(2):
        run("sh", str(SCRIPT), "remove")
        assert drops("iptables") == drops("ip6tables") == []


@isolated
def test_the_script_knows_two_verbs() -> None:
    needs_programs()
    done = subprocess.run(["sh", str(SCRIPT), "open"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
    assert drops("iptables") == []


@isolated
def test_all_rules_go_and_no_others() -> None:
    """What killed daemons leave behind, beside rules of somebody else's."""
    needs_programs()
    run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
    tables, rules = preflight.nft_tables(), run("nft", "list", "ruleset")
    run("sh", str(SCRIPT))
    run(*["iptables", "-I", "INPUT", "1", "-s", "10.9.0.7", "-p", "tcp", "--dport", "6501", "-j", "ACCEPT"])
    run("iptables", "-N", "FWKNOP_INPUT")
    run("iptables", "-I", "INPUT", "1", "-j", "FWKNOP_INPUT")
    run(*["iptables", "-A", "FWKNOP_INPUT", "-s", "10.9.0.8", "-p", "tcp", "--dport", "6502", "-j", "ACCEPT"])
    run("nft", "add", "table", "inet", "knockdemo")
    for _ in range(2):
        removal.remove_rules(SCRIPT, tables)
        assert run("nft", "list", "ruleset") == rules


@isolated
def test_a_table_made_by_iptables_goes_when_it_is_bare() -> None:
    needs_programs()
    before = run("nft", "list", "ruleset")
    run("sh", str(SCRIPT))
    removal.remove_rules(SCRIPT, [])
    assert run("nft", "list", "ruleset") == before == ""
    run("sh", str(SCRIPT))
    run("iptables", "-P", "INPUT", "DROP")
    removal.remove_rules(SCRIPT, [])
    assert "policy drop" in run("nft", "list", "ruleset"), "somebody has come to use it since"
