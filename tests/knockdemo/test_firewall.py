from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.netns import isolated, run, until, without_rights
from tests.packets import raw

from knockdemo import firewall
from knockdemo.config import Config
from knockgate.errors import Unavailable

CONFIG = Config()
CLIENT, CLIENT6, OTHER = raw("192.0.2.7"), raw("2001:db8::7"), raw("192.0.2.8")


def ruleset() -> str:
    """What is in force, without what runs down and with no handles."""
    return re.sub(r" expires \w+", "", run("nft", "-s", "list", "ruleset"))


def members(name: str, table: str = CONFIG.nft_table) -> dict[str, int]:
    """Address -> milliseconds left of the timeout."""
    listing = run("nft", "list", "set", "inet", table, name)
    pattern = r"([0-9a-f.:]+) timeout \w+ expires (?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?"
    found = {}
    for address, *parts in re.findall(pattern, listing):
        minutes, seconds, rest = (int(part or 0) for part in parts)
        found[address] = (minutes * 60 + seconds) * 1000 + rest
    assert len(found) == listing.count("expires"), listing
    return found


@isolated
def test_loading_twice_is_loading_once() -> None:
    """The ruleset after any number of loads is that after the first, which is one (control)."""
    assert ruleset() == ""
    firewall.load(CONFIG)
    first = ruleset()
    assert "dport 6500" in first
    for _ in range(3):
        firewall.load(CONFIG)
        assert ruleset() == first


@isolated
def test_touches_no_other_table() -> None:
    """Loading and removing leave other tables as they are, also those of that name in another family."""
    run("nft", "add table inet other; add chain inet other c { type filter hook input priority 0; }")
    run("nft", "add table ip knockdemo; add chain ip knockdemo c; add rule ip knockdemo c drop")
    before = ruleset()
    firewall.load(CONFIG)
    assert "table inet knockdemo" in ruleset()
    firewall.remove(CONFIG)
    firewall.remove(CONFIG)  # of what is not there
    assert ruleset() == before


@isolated
def test_a_table_that_is_not_ours_is_left_alone() -> None:
    """A name that somebody else's table has is refused, and a name that is free is not (control)."""
    run("nft", "add table inet filter; add chain inet filter c { type filter hook input priority 0; }")
    before = ruleset()
    with pytest.raises(Unavailable, match="table inet filter is there already") as caught:
        firewall.load(dataclasses.replace(CONFIG, nft_table="filter"))
    assert "another name" in str(caught.value.hint)
    assert ruleset() == before
    firewall.load(dataclasses.replace(CONFIG, nft_table="filter2"))
    assert "table inet filter2" in ruleset()


@isolated
def test_our_table_is_known_by_more_than_its_sets() -> None:
    """With other names for its sets in the configuration the old table is still ours."""
    firewall.load(CONFIG)
    firewall.load(dataclasses.replace(CONFIG, nft_set="other"))
    assert "set other" in ruleset()
    assert f"set {CONFIG.nft_set} " not in ruleset()


@isolated
def test_loading_shuts_everybody_out() -> None:
    """A fresh table has empty sets, whoever was in the old one's."""
    firewall.load(CONFIG)
    firewall.authorize(CLIENT, CONFIG)
    firewall.authorize(CLIENT6, CONFIG)
    assert members("knock_allow")
    assert members("knock_allow6")
    firewall.load(CONFIG)
    assert members("knock_allow") == members("knock_allow6") == {}


@isolated
def test_both_families_have_a_set() -> None:
    """An IPv4 source goes to one set and an IPv6 source to the other, each for the open window."""
    firewall.load(CONFIG)
    firewall.authorize(CLIENT, CONFIG)
    assert members("knock_allow").keys() == {"192.0.2.7"}
    assert members("knock_allow6") == {}
    firewall.authorize(CLIENT6, CONFIG)
    assert members("knock_allow").keys() == {"192.0.2.7"}
    assert members("knock_allow6").keys() == {"2001:db8::7"}
    for name in ("knock_allow", "knock_allow6"):
        (left,) = members(name).values()
        assert 10_000 < left <= 15_000
        assert "timeout 15s" in run("nft", "list", "set", "inet", "knockdemo", name)


def passed(name: str) -> bool:
    return max(members(name).values()) < 14_700


@isolated
def test_a_second_knock_gives_the_full_time_again() -> None:
    """authorize() renews an element's time; adding it again, without deleting it, does not (control)."""
    for source, other, name in (
        ("192.0.2.7", "192.0.2.8", "knock_allow"),
        ("2001:db8::7", "2001:db8::8", "knock_allow6"),
    ):
        add = f"add element inet knockdemo {name} {{ {other} timeout 15s }}"
        firewall.load(CONFIG)
        firewall.authorize(raw(source), CONFIG)
        run("nft", add)
        until(partial(passed, name), "some time has passed")
        firewall.authorize(raw(source), CONFIG)
        run("nft", add)
        left = members(name)
        assert left[source] > left[other] + 200
        assert left[other] < 14_700


@isolated
def test_one_source_renews_no_other() -> None:
    """Letting one in changes nothing for another who is in."""
    firewall.load(CONFIG)
    firewall.authorize(OTHER, CONFIG)
    until(lambda: members("knock_allow")["192.0.2.8"] < 14_700, "some time has passed")
    firewall.authorize(CLIENT, CONFIG)
    left = members("knock_allow")
    assert left["192.0.2.8"] < 14_700
    assert left["192.0.2.7"] > left["192.0.2.8"] + 200


@isolated
def test_the_kernel_lets_a_member_go() -> None:
    """An element is gone when its time is up, with nobody doing anything about it."""
    config = dataclasses.replace(CONFIG, open_window_seconds=1)
    firewall.load(config)
    firewall.authorize(CLIENT, config)
    assert members("knock_allow")
    until(lambda: not members("knock_allow"), "the element is gone")


@isolated
def test_names_and_ports_are_the_configurations() -> None:
    """Every name and number in the rules comes from the configuration."""
    config = Config(
        service_port=22, nft_table="mine", nft_set="four", nft_set6="six", open_window_seconds=3600
    )
    firewall.load(config)
    firewall.authorize(CLIENT, config)
    rules = ruleset().replace('comment "knockdemo lane A"', "")
    for expected in (
        "table inet mine",
        "tcp dport 22 ip saddr @four accept",
        "tcp dport 22 ip6 saddr @six accept",
    ):
        assert expected in rules
    assert "tcp dport 22 drop" in rules
    assert "knock" not in rules
    assert "6500" not in rules
    assert "192.0.2.7 timeout 1h expires" in run("nft", "list", "set", "inet", "mine", "four")


@isolated
def test_says_when_nft_is_missing(tmp_path: Path) -> None:
    """Without an nft that can be run, all is Unavailable and the hint says what to install."""
    firewall.load(CONFIG)  # control
    before = ruleset()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        for work in (firewall.load, firewall.remove, lambda config: firewall.authorize(CLIENT, config)):
            with pytest.raises(Unavailable) as caught:
                work(CONFIG)
            assert caught.value.message == "nft is not installed"
            assert caught.value.hint == "apt install nftables"
        (tmp_path / "nft").write_text("", encoding="utf-8")
        with pytest.raises(Unavailable) as caught:
            firewall.load(CONFIG)
        assert caught.value.message == "nft cannot be run: Permission denied"
        assert caught.value.hint == "apt install nftables"
    assert ruleset() == before


@isolated
def test_says_when_the_right_is_missing() -> None:
    """Without CAP_NET_ADMIN loading and letting in are Unavailable, and the hint says how to get it."""
    firewall.load(CONFIG)  # control

    def refused() -> None:
        for work in (firewall.load, firewall.remove, lambda config: firewall.authorize(CLIENT, config)):
            with pytest.raises(Unavailable) as caught:
                work(CONFIG)
            assert caught.value.message.startswith("nft refused the rules")
            assert len(caught.value.message.splitlines()) == 1
            assert caught.value.hint == "run it as root"

    without_rights(refused)
    assert "table inet knockdemo" in ruleset()


@isolated
def test_a_refused_authorization_is_told() -> None:
    """Where the table is gone nobody is let in silently, and nothing of the transaction is left."""
    before = ruleset()
    with pytest.raises(Unavailable, match="nft refused the rules"):
        firewall.authorize(CLIENT, CONFIG)
    assert ruleset() == before == ""
    firewall.load(CONFIG)  # control
    firewall.authorize(CLIENT, CONFIG)
    assert members("knock_allow")


@isolated
def test_waits_for_nft_only_so_long(tmp_path: Path) -> None:
    """An nft that hangs is Unavailable after the time limit, not a daemon that hangs."""
    program = tmp_path / "nft"
    program.write_text("#!/bin/sh\nexec sleep 1000\n", encoding="utf-8")
    program.chmod(0o755)
    plain_run = subprocess.run

    def impatient(*command: Any, timeout: float, **options: Any) -> Any:  # noqa: ANN401
        assert timeout == 10
        return plain_run(*command, timeout=0.2, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        patch.setattr(subprocess, "run", impatient)
        with pytest.raises(Unavailable, match="nft did not answer within 10 seconds"):
            firewall.load(CONFIG)
