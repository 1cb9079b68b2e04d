"""Settings and versions of the kernel and of nft."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from tests.knockgate.doctor.looking import COMMANDS, host, kinds
from tests.netns import isolated, veth

from knockgate.doctor import kernel
from knockgate.doctor.finding import Finding, Kind, Severity
from knockgate.doctor.kernel import Settings

QUIET = Settings({}, {"all": 0}, {"all": 0, "near": 1}, {"all": 2, "near": 0})


def judged(
    *,
    needs_daemon: bool = True,
    single: dict[str, int | None] | None = None,
    **more: object,
) -> set[Kind]:
    has = QUIET._replace(single={**QUIET.single, **(single or {})})._replace(**more)  # type: ignore[arg-type]
    return {each.kind for each in kernel.judge_settings(has, needs_daemon=needs_daemon)}


@pytest.mark.parametrize(
    ("single", "finds"),
    [
        ({}, set()),
        ({"net.ipv4.ip_nonlocal_bind": 1}, {Kind.NONLOCAL_BIND}),
        ({"net.ipv6.ip_nonlocal_bind": 1}, {Kind.NONLOCAL_BIND}),
        ({"net.ipv4.ip_nonlocal_bind": 0}, set()),
        ({"net.ipv6.conf.all.accept_source_route": 1}, {Kind.SOURCE_ROUTE}),
        ({"net.ipv6.conf.all.accept_source_route": -1}, set()),
        ({"kernel.unprivileged_userns_clone": 1}, {Kind.USER_NAMESPACES}),
        ({"kernel.unprivileged_userns_clone": 0}, set()),
    ],
)
def test_settings(single: dict[str, int | None], finds: set[Kind]) -> None:
    assert judged(single=single) == finds


def test_settings_of_interfaces() -> None:
    assert judged(route_localnet={"all": 0, "near": 1}) == {Kind.ROUTE_LOCALNET}
    assert judged(route_localnet={"all": 0, "default": 1}) == set()
    assert judged(source_route={"all": 1, "near": 1}) == {Kind.SOURCE_ROUTE}
    assert judged(source_route={"all": 1, "near": 0, "default": 1}) == set()
    assert judged(source_route={"all": 0, "near": 1}) == set()
    assert judged(rp_filter={"all": 0, "near": 0}) == {Kind.NO_REVERSE_PATH}
    assert judged(rp_filter={"all": 0, "near": 1, "default": 0, "lo": 0}) == set()


def test_what_only_a_daemon_minds() -> None:
    has = QUIET._replace(single={"net.ipv4.ip_nonlocal_bind": 1})
    (found,) = kernel.judge_settings(has, needs_daemon=False)
    assert found.severity is Severity.NOTE


@isolated
def test_settings_of_a_real_network() -> None:
    veth("near", "far")

    def there() -> set[Kind]:
        return kinds(kernel.examine(host(COMMANDS)))

    def put(name: str, value: int) -> None:
        Path("/proc/sys/net", name).write_text(str(value))

    for each in ("near", "far"):
        put(f"ipv4/conf/{each}/accept_source_route", 0)
    put("ipv4/conf/all/rp_filter", 2)
    about = {Kind.NONLOCAL_BIND, Kind.ROUTE_LOCALNET, Kind.SOURCE_ROUTE, Kind.NO_REVERSE_PATH}
    assert not there() & about
    for name, kind in (
        ("ipv4/ip_nonlocal_bind", Kind.NONLOCAL_BIND),
        ("ipv6/ip_nonlocal_bind", Kind.NONLOCAL_BIND),
        ("ipv4/conf/near/route_localnet", Kind.ROUTE_LOCALNET),
    ):
        put(name, 1)
        assert there() & about == {kind}, name
        put(name, 0)
    put("ipv4/conf/all/rp_filter", 0)
    put("ipv4/conf/near/rp_filter", 0)
    assert there() & about == {Kind.NO_REVERSE_PATH}
    put("ipv4/conf/all/rp_filter", 1)
    put("ipv4/conf/all/accept_source_route", 1)
    put("ipv4/conf/near/accept_source_route", 1)
    assert there() & about == {Kind.SOURCE_ROUTE}


@pytest.mark.parametrize(
    ("release", "finds"),
    [
        ("4.19.0-27-amd64", {Kind.UNTRIED_KERNEL}),
        ("5.10.0-28-amd64", {Kind.OLD_KERNEL}),
        ("5.12.0", {Kind.OLD_KERNEL}),
        ("6.1.0-18-amd64", {Kind.OLD_KERNEL}),
        ("6.8.12", {Kind.OLD_KERNEL}),
        ("6.9.0", set()),
        ("6.18.44-fc-v595", set()),
        ("10.0", set()),
    ],
)
def test_versions_of_the_kernel(release: str, finds: set[Kind]) -> None:
    assert {each.kind for each in kernel.judge_kernel(release)} == finds


def test_versions_of_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(text: str) -> set[Kind]:
        return {each.kind for each in kernel.judge_nft(text)}

    assert judged("nftables v1.0.6 (Lester Gooch #5)\n") == set()
    assert judged("nftables v1.1.3 (Commodore Bullmoose #4)\n") == set()
    assert judged("nftables v0.9.8 (E.D.S.)\n") == {Kind.UNTRIED_NFT}
    assert judged("nftables v1.0.2 (Lester Gooch)\n") == {Kind.UNTRIED_NFT}

    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert judged("nftables v1.0.6 (Lester Gooch #5)\n") == {Kind.NO_NFT}


def test_connection_tracking() -> None:
    def judged(count: int | None, most: int | None, *, module: bool = True) -> list[Finding]:
        return list(kernel.judge_tracking(count, most, module=module))

    assert judged(100, 262_144) == judged(None, None) == []
    assert kinds(judged(250_000, 262_144)) == {Kind.TRACKING_FULL}
    assert kinds(judged(None, 262_144)) == {Kind.NOT_LOOKED_AT}
    assert kinds(judged(None, None, module=False)) == {Kind.TRACKING_MISSING}


@isolated
def test_programs_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def there() -> set[Kind]:
        return kinds(kernel.examine(host())) & {Kind.NO_NFT, Kind.NO_CONNTRACK_PROGRAM, Kind.UNTRIED_NFT}

    for name in ("conntrack", "nft"):
        (tmp_path / name).write_text("#!/bin/sh\necho nftables v1.0.6\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert there() == set()
    (tmp_path / "nft").write_text("#!/bin/sh\nexit 1\n")
    assert Kind.NOT_LOOKED_AT in kinds(kernel.examine(host()))
    for name in ("conntrack", "nft"):
        (tmp_path / name).unlink()
    monkeypatch.setattr("knockgate.doctor.host._FOLDERS", str(tmp_path))
    assert there() == {Kind.NO_NFT, Kind.NO_CONNTRACK_PROGRAM}


def test_this_kernel_is_looked_at() -> None:
    assert not kinds(kernel.examine(host())) & {Kind.UNTRIED_KERNEL, Kind.TRACKING_MISSING}
