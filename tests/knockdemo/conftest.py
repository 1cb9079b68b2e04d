"""A host to install on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with Debian's packages: their configuration is there and will have to make room."""
    tree = tmp_path / "host"
    (tree / "etc/fwknop").mkdir(parents=True)
    (tree / "etc/systemd/system").mkdir(parents=True)
    (tree / "var/lib").mkdir(parents=True)
    for name, mode in (("knockd.conf", 0o644), ("fwknop/access.conf", 0o600), ("fwknop/fwknopd.conf", 0o640)):
        file = tree / "etc" / name
        file.write_text(f"# the package's own {name}\n")
        file.chmod(mode)
        os.utime(file, ns=(10**18, 10**18))
    return tree
