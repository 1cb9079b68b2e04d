"""The file that a backup is: what is put in comes out, and nothing else is taken for one."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knockgate.cli.archive import Archived, Backup, pack, unpack
from knockgate.errors import ConfigError

CONFIG = "/etc/knockgate/gate.toml"
BACKUP = Backup(
    made=1_790_000_000,
    host="old",
    config=CONFIG,
    salt=bytes(range(32)),
    files={
        CONFIG: Archived(b"[doors.ssh]\n", 0o640, "root", "knockgate"),
        "/var/lib/knockgate/gate.keys": Archived(b"\xff\x00 any", 0o600, "knockgate-listener", "root"),
    },
)

names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=200)
paths = st.lists(names, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
files = st.builds(Archived, st.binary(max_size=2000), st.integers(0, 0o777), names, names)


@given(others=st.dictionaries(paths, files, max_size=5), salt=st.none() | st.binary(min_size=32, max_size=32))
def test_what_is_put_in_comes_out(others: dict[str, Archived], salt: bytes | None) -> None:
    wanted = Backup(made=0, host="hö\n", config=CONFIG, salt=salt, files={**BACKUP.files, **others})
    assert unpack(pack(wanted), "file") == wanted


@given(st.binary(max_size=3000) | st.tuples(st.integers(0, 6000), st.binary(min_size=1, max_size=40)))
def test_whatever_it_is_it_is_refused_or_whole(spoilt: bytes | tuple[int, bytes]) -> None:
    content = pack(BACKUP)
    if isinstance(spoilt, tuple):
        place, octets = spoilt
        content = content[:place] + octets + content[place + len(octets) :]
    else:
        content = spoilt
    try:
        found = unpack(content, "file")
    except ConfigError:
        return
    assert CONFIG in found.files and all(path.startswith("/") for path in found.files)


def with_members(*members: tarfile.TarInfo) -> bytes:
    """The backup, with more in it."""
    stream = io.BytesIO(pack(BACKUP))
    with tarfile.open(fileobj=stream, mode="a") as tar:
        for each in members:
            tar.addfile(each)
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


@pytest.mark.parametrize(
    "strange",
    [
        member("../etc/passwd"),
        member("/etc/passwd"),
        member("etc//passwd"),
        member("etc/knockgate/../passwd"),
        member("etc/knockgate/gate.toml"),
        member("etc/link", tarfile.SYMTYPE, "/etc/passwd"),
        member("etc/link", tarfile.LNKTYPE, "etc/knockgate/gate.toml"),
        member("etc/folder", tarfile.DIRTYPE),
        member("dev/disk", tarfile.BLKTYPE),
        member("etc/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda each: f"{each.name} {each.type.decode()}",
)
def test_only_plain_files_each_once(strange: tarfile.TarInfo) -> None:
    assert set(unpack(with_members(member("etc/plain")), "file").files) == {*BACKUP.files, "/etc/plain"}
    with pytest.raises(ConfigError, match="no backup of a gate, or is damaged"):
        unpack(with_members(strange), "file")


def test_one_that_was_cut_off_between_two_files_is_damaged() -> None:
    content = with_members(member("etc/plain"))
    assert "/etc/plain" in unpack(content, "file").files
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        ends = [each.offset for each in tar][1:]
    assert len(ends) == 3
    for end in ends:
        with pytest.raises(ConfigError, match="no backup of a gate, or is damaged"):
            unpack(content[:end], "file")


def test_a_list_without_a_bottom_is_damaged() -> None:
    deep, stream = b"[" * 100_000, io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = member("knockgate-backup.json")
        info.size = len(deep)
        tar.addfile(info, io.BytesIO(deep))
    with pytest.raises(ConfigError, match="is no backup"):
        unpack(stream.getvalue(), "file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "made by a newer knockgate"),
        ({"format": 0}, "is no backup"),
        ({"format": "1"}, "is no backup"),
        ({"made": "today"}, "is no backup"),
        ({"made": -1}, "is no backup"),
        ({"host": None}, "is no backup"),
        ({"config": "/etc/other"}, "is no backup"),
        ({"config": ["/etc"]}, "is no backup"),
        ({"salt": "00"}, "is no backup"),
        ({"salt": 7}, "is no backup"),
    ],
)
def test_what_its_list_says_makes_sense(change: dict[str, object], message: str) -> None:
    content = pack(BACKUP)
    assert unpack(content, "file") == BACKUP
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        listed = tar.extractfile("knockgate-backup.json")
        assert listed
        head = json.loads(listed.read())
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        text = json.dumps(head | change).encode()
        for name, octets in [("knockgate-backup.json", text), (CONFIG[1:], b"")]:
            info = member(name)
            info.size = len(octets)
            tar.addfile(info, io.BytesIO(octets))
    with pytest.raises(ConfigError, match=message):
        unpack(stream.getvalue(), "file")
