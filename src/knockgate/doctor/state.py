"""Whether what the gate has to remember outlives a reboot: where its state directory lies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from knockgate.doctor.finding import Finding, Kind, Severity, Topic, blind, fine, found
from knockgate.doctor.host import Host

__all__ = ["Mount", "Room", "examine", "judge", "mount_of", "read_mounts"]

_VOLATILE = {"tmpfs", "ramfs", "devtmpfs", "rootfs", "hugetlbfs", "zram"}
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "lustre", "ocfs2", "gfs2"}
_LAYERED = {"overlay", "aufs", "unionfs", "fuse.fuse-overlayfs"}
_NOT_FLUSHED = {"nobarrier", "barrier=0", "data=writeback", "eatmydata"}
_LITTLE_ROOM, _FEW_FILES = 32 << 20, 64


class Mount(NamedTuple):
    """What a folder lies on."""

    point: str
    kind: str
    options: frozenset[str]


class Room(NamedTuple):
    """What is free there; ``files`` is None where they are not counted."""

    octets: int
    files: int | None


def examine(host: Host) -> Iterator[Finding]:
    """The state directory; nothing where nothing is kept there."""
    if not host.configuration:
        return
    folder = host.configuration.gate.state_directory
    if not host.keeps_state:
        yield fine(Topic.STATE, "nothing has to be kept: the kernel follows all sequences")
        return
    try:
        if not Path(folder).is_dir():
            fix = f"mkdir -m 700 {folder}; with sealed knocks: knockgate init"
            yield found(Kind.STATE_MISSING, f"{folder} is not there", fix)
            return
        mount = mount_of(os.path.realpath(folder), read_mounts(Path("/proc/self/mountinfo").read_text()))
        free = os.statvfs(folder)
    except OSError as error:
        yield blind(Topic.STATE, f"{folder}: {error.strerror}", "run it as root")
        return
    room = Room(free.f_bavail * free.f_frsize, free.f_favail if free.f_files else None)
    yield from judge(folder, mount, room, read_only=bool(free.f_flag & os.ST_RDONLY))


def read_mounts(text: str) -> list[Mount]:
    """What is in /proc/self/mountinfo (proc_pid_mountinfo(5)), in its order."""
    found_ = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, behind = before.split(), after.split()
        if len(fields) >= 6 and len(behind) >= 3:
            options = frozenset(fields[5].split(",")) | frozenset(behind[2].split(","))
            found_.append(Mount(_plain(fields[4]), behind[0], options))
    return found_


def _plain(escaped: str) -> str:
    for digits, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        escaped = escaped.replace(f"\\{digits}", character)
    return escaped


def mount_of(path: str, mounts: Sequence[Mount]) -> Mount:
    """What that path, without links in it, lies on. Of several on one point the last one is seen."""
    seen = Mount("/", "", frozenset())
    for mount in mounts:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and len(mount.point) >= len(seen.point):
            seen = mount
    return seen


def judge(folder: str, mount: Mount, room: Room, *, read_only: bool) -> Iterator[Finding]:
    """What that place is good for."""
    there = f"{folder} is on {mount.point} ({mount.kind})"
    move = "state_directory in [gate] of gate.toml: a folder on the disk of this machine"
    bad = []
    if mount.kind in _VOLATILE:
        bad.append(found(Kind.STATE_VOLATILE, f"{there}, which is memory", move))
    elif mount.kind in _REMOTE or mount.kind.startswith("fuse.ssh"):
        bad.append(found(Kind.STATE_REMOTE, f"{there}, on another machine", move))
    elif mount.kind in _LAYERED:
        fix = f"in a container, a volume for {folder}; else {move}"
        bad.append(found(Kind.STATE_LAYERED, f"{there}: layers", fix))
    if read_only or "ro" in mount.options:
        fix = f"mount -o remount,rw {mount.point}; where the disk went read-only by itself, see dmesg"
        bad.append(found(Kind.STATE_READ_ONLY, f"{there}, read-only", fix))
    if lazy := sorted(mount.options & _NOT_FLUSHED):
        fix = f"take {', '.join(lazy)} out of /etc/fstab"
        bad.append(found(Kind.STATE_NOT_FLUSHED, f"{there}, with {', '.join(lazy)}", fix))
    if room.octets < _LITTLE_ROOM:
        seen = f"{there}, with {room.octets >> 20} MiB free"
        bad.append(found(Kind.STATE_FULL, seen, f"make room on {mount.point}: 32 MiB or more"))
    if room.files is not None and room.files < _FEW_FILES:
        seen = f"{there}, with room for {room.files} more files"
        bad.append(found(Kind.STATE_FULL, seen, f"delete files on {mount.point}"))
    yield from bad
    if all(each.severity is Severity.OK for each in bad):
        yield fine(Topic.STATE, f"{there}, with {room.octets >> 20} MiB free")
