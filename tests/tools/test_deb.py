"""The Debian package: what it asks of a host, and that one tree makes one package, byte for byte.

What becomes of a host on which it is installed is in tests/systemd/test_deb.py.
"""

from __future__ import annotations

import gzip
import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import cryptography
import pytest
from tests.conftest import REPO
from tools import deb

import knockgate

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb")

EPOCH = 1_700_000_000
SITE = Path(click.__file__).parents[1]
PINS = re.compile(r"^(\S+)==(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE)


def wheel(folder: Path, name: str, *tags: str) -> None:
    paper = folder / f"{name}-1.dist-info"
    paper.mkdir(parents=True)
    (paper / "WHEEL").write_text("".join(f"Tag: {tag}\n" for tag in tags))
    (paper / "METADATA").write_text(f"Name: {name}\n")
    (paper / "RECORD").write_text("made by pip, with its folder in it\n")


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    """As ``fetch`` leaves it, with the small one of them alone."""
    folder = tmp_path / "libraries"
    wheel(folder, "click", "py3-none-any")
    wheel(folder, "cryptography", "cp311-abi3-manylinux_2_34_x86_64")
    shutil.copytree(SITE / "click", folder / "click")
    (folder / "bin").mkdir()
    (folder / "bin" / "a-program").touch()
    (folder / ".stamp").touch()
    return folder


@pytest.mark.long
def test_one_tree_makes_one_package_whoever_builds_it(
    libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = deb.build(libraries, tmp_path / "one", "amd64", EPOCH)
    for each in libraries.rglob("*"):  # another day, other habits
        os.utime(each, (EPOCH + 5e6, EPOCH + 5e6))
        each.chmod(0o700 if each.is_dir() else 0o600)
    before = os.umask(0o077)
    try:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        other = deb.build(libraries, tmp_path / "other", "amd64", EPOCH)
    finally:
        os.umask(before)
    assert one.name == other.name == f"knockgate_{knockgate.__version__}_amd64.deb"
    assert one.read_bytes() == other.read_bytes()
    assert [each.name for each in one.parent.iterdir()] == [one.name]
    later = deb.build(libraries, tmp_path / "later", "amd64", EPOCH + 1)
    assert one.read_bytes() != later.read_bytes()  # control
    told = subprocess.run(["dpkg-deb", "-c", str(one)], check=True, capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=5) for line in told.splitlines()]
    assert {(row[0], row[1]) for row in rows} == {
        ("drwxr-xr-x", "root/root"),
        ("-rw-r--r--", "root/root"),
        ("-rwxr-xr-x", "root/root"),
    }
    programs = {row[5] for row in rows if row[0] == "-rwxr-xr-x"}
    assert programs == {"./usr/bin/knockgate", "./usr/share/python3/runtime.d/knockgate.rtupdate"}
    tree = tmp_path / "tree"
    subprocess.run(["dpkg-deb", "-R", str(one), str(tree)], check=True)
    subprocess.run(["md5sum", "--quiet", "-c", "DEBIAN/md5sums"], cwd=tree, check=True)


def test_what_is_in_it_lies_below_usr_and_is_ours(libraries: Path) -> None:
    files = deb.contents(libraries, EPOCH)
    assert all(name.startswith("/usr/") for name in files)  # so there is no file of configuration
    for part in ("__pycache__", "knockdemo", "RECORD", "a-program", ".stamp"):
        assert not [name for name in files if part in name], part
    for name in (
        "lib/sysusers.d/knockgate.conf",
        "lib/tmpfiles.d/knockgate.conf",
        "lib/knockgate/knockgate/units/knockgate-warden.service",
        "lib/knockgate/click-1.dist-info/METADATA",
        "share/man/man1/knockgate-knock.1.gz",
        "share/man/man5/gate.toml.5.gz",
        "share/doc/knockgate/copyright",
    ):
        assert f"/usr/{name}" in files
    unit = files["/usr/lib/systemd/system/knockgate-warden.service"].decode()
    assert "ExecStart=/usr/bin/python3 -I /usr/lib/knockgate/knockgate/daemon/start.py warden" in unit
    assert files["/usr/bin/knockgate"].startswith(b"#!/usr/bin/python3 -I\n")
    news = gzip.decompress(files["/usr/share/doc/knockgate/changelog.gz"]).decode()
    assert news.startswith(f"knockgate ({knockgate.__version__}) ") and "Tue, 14 Nov 2023" in news


def test_it_asks_for_what_its_wheels_were_made_for(libraries: Path) -> None:
    shutil.copytree(Path(cryptography.__file__).parent, libraries / "cryptography")
    text = deb.control(libraries, "amd64", 1)
    (line,) = re.findall("Depends: (.*)", text)
    depends = {name: bound for name, _, bound in (each.partition(" ") for each in line.split(", "))}
    assert depends["python3"] == "(>= 3.11)"
    assert depends["libc6"] == f"(>= {'.'.join(map(str, deb.oldest_glibc(SITE)))})" != "(>= 2.17)"
    assert {"nftables", "libnftables1", "systemd", "python3-cffi-backend"} <= depends.keys()
    assert not (re.search("<<", text) or "cffi," in text)
    wheel(libraries, "newer", "cp312-abi3-manylinux_2_34_x86_64", "cp313-abi3-manylinux_2_34_x86_64")
    assert "python3 (>= 3.12)" in deb.control(libraries, "amd64", 1)


@pytest.mark.parametrize(
    "tag", ["cp311-cp311-manylinux_2_34_x86_64", "pp311-pypy311_pp73-any", "py2-none-any"]
)
def test_a_wheel_for_one_python_alone_is_not_packed(libraries: Path, tag: str) -> None:
    wheel(libraries, "bound", tag)
    with pytest.raises(SystemExit, match="one version of Python"):
        deb.oldest_python(libraries)


def test_the_libraries_need_nothing_that_is_not_asked_for() -> None:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    found: set[str] = set()
    newest = (2, 0)
    for library in (SITE / "cryptography").rglob("*.so"):
        words = ["readelf", "--wide", "-d", "-V", str(library)]
        told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        found |= set(re.findall(r"NEEDED.*\[(.*)\]", told))
        newest = max([newest, *((2, int(minor)) for minor in re.findall(r"Name: GLIBC_2\.(\d+)", told))])
    assert found and not {each for each in found if not re.match(r"lib(c|m|dl|pthread|gcc_s)\.so|ld-", each)}
    assert deb.oldest_glibc(SITE / "cryptography") == newest


def test_a_version_that_comes_before_a_release_is_older(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = []
    for version in ("0.2.0.dev3", "0.2.0a1", "0.2.0rc1", "0.2.0", "0.2.0.1", "0.10"):
        monkeypatch.setattr(knockgate, "__version__", version)
        versions.append(deb.debian_version())
    for older, newer in itertools.pairwise(versions):
        if not (older.endswith("~dev3") and "~a" in newer):  # which of these comes first is no matter
            subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)


def test_what_is_packed_is_what_is_tested() -> None:
    packed, tested = (
        {
            name: (version, set(re.findall(r"sha256:\w{64}", hashes)))
            for name, version, hashes in PINS.findall((REPO / "requirements" / file).read_text())
        }
        for file in ("deb.txt", "dev.txt")
    )
    assert set(packed) == {"click", "cryptography", "segno"}
    assert packed == {name: tested[name] for name in packed}
    assert "://" not in (REPO / "requirements" / "deb.txt").read_text()


@pytest.mark.parametrize("script", [*deb.SCRIPTS, "rtupdate"])
def test_the_scripts_are_for_any_shell_and_refuse_what_they_do_not_know(script: str) -> None:
    path = REPO / "packaging" / "deb" / script
    subprocess.run(["sh", "-n", str(path)], check=True)
    done = subprocess.run(["sh", str(path), "unheard-of"], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if script == "rtupdate" else 1)  # Python has many words for that one
