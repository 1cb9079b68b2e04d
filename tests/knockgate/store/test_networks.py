from __future__ import annotations

import ipaddress
import os
import stat
from pathlib import Path

import pytest

from knockgate.errors import Unavailable
from knockgate.store.networks import MOST, KnownNetworks, network_of


def known(path: Path) -> list[str]:
    return [str(network) for network in KnownNetworks(path).networks]


def opened(networks: KnownNetworks, address: str) -> bool:
    is_new = networks.opened(network_of(ipaddress.ip_address(address).packed))
    networks.save()
    return is_new


def test_remembers_the_last_in_front(tmp_path: Path) -> None:
    path = tmp_path / "known-networks"
    networks = KnownNetworks(path)
    assert networks.networks == [] and networks.mistake is None
    assert opened(networks, "192.0.2.7")
    assert opened(networks, "2001:db8:1::7")
    assert not opened(networks, "192.0.99.99")
    assert [str(each) for each in networks.networks] == ["192.0.0.0/16", "2001:db8::/32"]
    assert opened(networks, "198.51.100.7")
    assert path.read_text() == "198.51.0.0/16\n192.0.0.0/16\n2001:db8::/32\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert known(path) == ["198.51.0.0/16", "192.0.0.0/16", "2001:db8::/32"]
    assert list(tmp_path.iterdir()) == [path]


def test_forgets_who_has_not_opened_for_longest(tmp_path: Path) -> None:
    networks = KnownNetworks(tmp_path / "known-networks")
    for number in range(MOST + 1):
        assert opened(networks, f"10.{number}.0.1")
    assert len(networks.networks) == MOST
    assert not opened(networks, "10.1.0.1")
    assert opened(networks, "10.0.0.1")
    assert known(tmp_path / "known-networks")[:3] == ["10.0.0.0/16", "10.1.0.0/16", f"10.{MOST}.0.0/16"]


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (b"10.0.0.0/16\nfoo\n", "does not appear to be an IPv4 or IPv6 network"),
        (b"10.0.0.0/8\n", "10.0.0.0/8 is no network that is remembered"),
        (b"10.0.0.1/16\n", "has host bits set"),
        (b"\xff\n", "ascii"),
        (b"10.0.0.0/16\n" * 5000, "is too long"),
    ],
)
def test_a_broken_file_is_told_and_then_replaced(tmp_path: Path, content: bytes, mistake: str) -> None:
    path = tmp_path / "known-networks"
    path.write_bytes(content)
    path.chmod(0o600)
    networks = KnownNetworks(path)
    assert networks.networks == []
    assert mistake in (networks.mistake or "")
    assert opened(networks, "10.2.0.1")
    assert known(path) == ["10.2.0.0/16"]  # the control: this one is read


def test_a_file_of_others_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "known-networks"
    path.write_text("10.0.0.0/16\n")
    path.chmod(0o644)
    assert "mode 0600" in (KnownNetworks(path).mistake or "")
    path.chmod(0o600)
    assert known(path) == ["10.0.0.0/16"]
    link = tmp_path / "link"
    link.symlink_to(path)
    assert KnownNetworks(link).mistake
    assert KnownNetworks(tmp_path).mistake
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "must be a file" in (KnownNetworks(tmp_path / "pipe").mistake or "")


def test_a_disk_that_refuses_is_told(tmp_path: Path) -> None:
    networks = KnownNetworks(tmp_path / "missing" / "known-networks")
    assert networks.opened(network_of(b"\x0a\0\0\1"))
    with pytest.raises(Unavailable, match="fewer networks are known"):
        networks.save()
    assert len(networks.networks) == 1
    (tmp_path / "missing").mkdir()
    networks.save()
    assert known(tmp_path / "missing" / "known-networks") == ["10.0.0.0/16"]
