"""Where the state directory lies: real mounts, and beside each a place that is as it should be."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from tests.knockgate.doctor.looking import COMMANDS, SSH, kinds, written
from tests.netns import isolated, own_mounts, run

from knockgate.doctor import state
from knockgate.doctor.finding import Kind
from knockgate.doctor.state import Mount, Room

PLENTY = Room(1 << 30, 1 << 20)


def there(folder: Path) -> set[Kind]:
    return kinds(state.examine(written(folder, COMMANDS)))


def on_disk(folder: Path) -> bool:
    mounts = state.read_mounts(Path("/proc/self/mountinfo").read_text())
    return state.mount_of(os.path.realpath(folder), mounts).kind not in ("tmpfs", "overlay")


def test_a_folder_on_a_disk() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # tmp_path may be in memory
        folder = Path(name)
        if not on_disk(folder):
            pytest.skip("/var/tmp is not on a disk here")
        assert there(folder) == set()


@isolated
def test_memory_and_what_is_read_only(tmp_path: Path) -> None:
    own_mounts()
    folder = tmp_path / "state"
    folder.mkdir()
    control = there(tmp_path)
    run("mount", "-t", "tmpfs", "tmpfs", str(folder))
    assert there(tmp_path) == {Kind.STATE_VOLATILE}
    run("umount", str(folder))
    assert there(tmp_path) == control
    run("mount", "--bind", str(folder), str(folder))
    run("mount", "-o", "remount,bind,ro", str(folder))
    assert there(tmp_path) == {Kind.STATE_READ_ONLY} | control
    run("umount", str(folder))
    assert there(tmp_path) == control


@isolated
def test_layers(tmp_path: Path) -> None:
    own_mounts()
    for name in ("lower", "upper", "work", "state"):
        (tmp_path / "state" if name == "state" else Path("/run", name)).mkdir()
    control = there(tmp_path)
    options = "lowerdir=/run/lower,upperdir=/run/upper,workdir=/run/work"
    run("mount", "-t", "overlay", "overlay", "-o", options, str(tmp_path / "state"))
    assert there(tmp_path) == {Kind.STATE_LAYERED}
    run("umount", str(tmp_path / "state"))
    assert there(tmp_path) == control


@isolated
def test_a_full_disk(tmp_path: Path) -> None:
    own_mounts()
    folder = tmp_path / "state"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder))
    assert there(tmp_path) == {Kind.STATE_VOLATILE, Kind.STATE_FULL}
    run("umount", str(folder))
    run("mount", "-t", "tmpfs", "-o", "nr_inodes=10", "tmpfs", str(folder))
    assert there(tmp_path) == {Kind.STATE_VOLATILE, Kind.STATE_FULL}
    run("umount", str(folder))
    run("mount", "-t", "tmpfs", "-o", "nr_inodes=0,size=64m", "tmpfs", str(folder))
    assert there(tmp_path) == {Kind.STATE_VOLATILE}  # files are not counted there


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    host = written(tmp_path, COMMANDS)
    (tmp_path / "state").rmdir()
    assert kinds(state.examine(host)) == {Kind.STATE_MISSING}


def test_where_nothing_is_kept_nothing_is_asked_for(tmp_path: Path) -> None:
    host = written(tmp_path, SSH)
    (tmp_path / "state").rmdir()
    assert kinds(state.examine(host)) == set()


@pytest.mark.parametrize(
    ("kind", "options", "finds"),
    [
        ("ext4", {"rw", "relatime"}, set()),
        ("ext4", {"rw", "nobarrier"}, {Kind.STATE_NOT_FLUSHED}),
        ("ext4", {"rw", "data=writeback"}, {Kind.STATE_NOT_FLUSHED}),
        ("ext4", {"ro"}, {Kind.STATE_READ_ONLY}),
        ("nfs4", {"rw"}, {Kind.STATE_REMOTE}),
        ("cifs", {"rw"}, {Kind.STATE_REMOTE}),
        ("fuse.sshfs", {"rw"}, {Kind.STATE_REMOTE}),
        ("ramfs", {"rw"}, {Kind.STATE_VOLATILE}),
        ("btrfs", {"rw"}, set()),
        ("zfs", {"rw"}, set()),
    ],
)
def test_what_a_place_is_good_for(kind: str, options: set[str], finds: set[Kind]) -> None:
    mount = Mount("/var", kind, frozenset(options))
    assert kinds(state.judge("/var/lib/knockgate", mount, PLENTY, read_only=False)) == finds


def test_mounts_are_read_as_the_kernel_writes_them() -> None:
    lines = (
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n"
        "30 22 0:25 / /var/lib\\040of\\134it rw - tmpfs tmpfs rw,size=4k\n"
        "31 22 0:26 / /var rw master:1 shared:2 - xfs /dev/vdb rw\n"
        "32 22 0:27 / /var ro - nfs4 server:/ rw\n"
        "nonsense\n"
    )
    mounts = state.read_mounts(lines)
    assert [each.kind for each in mounts] == ["ext4", "tmpfs", "xfs", "nfs4"]

    def kind(path: str) -> str:
        return state.mount_of(path, mounts).kind

    assert kind("/var/lib of\\it/x") == "tmpfs"
    assert kind("/var/lib") == "nfs4"  # the later one lies over the other
    assert kind("/various") == "ext4"
