"""Whether somebody else can have written what one knocks by, or can read what is for its owner alone.

Whoever writes a card or profiles.toml chooses where one knocks, and what is told there. As with ssh's own
config, a group is let pass where it is its owner's own and has nobody else in it, as many systems make them:
there, files that are made by hand can be written by their group.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from knockgate.errors import ConfigError

__all__ = ["check", "others_read"]


def check(path: Path) -> None:
    """ConfigError where others may write the file, or put another one in its place; a link is followed.

    What cannot be looked at is passed over: reading it says why.
    """
    try:
        target = path.resolve()
        found = target.stat()
        folders = {each: each.stat() for each in (path.absolute().parent, target.parent)}
    except (OSError, RuntimeError, ValueError):  # a loop of links, a zero byte
        return
    if _others_write(found):
        hint = f"look at what is in it; then: chmod go-w {target}"
        raise ConfigError("others than its owner may write it", file=str(path), hint=hint)
    for folder, state in folders.items():
        if _others_write(state) and not state.st_mode & stat.S_ISVTX:  # of /tmp nobody takes another's away
            hint = f"look at what is in {path.name}; then: chmod go-w {folder}"
            raise ConfigError("others may write in this folder", file=str(folder), hint=hint)


def others_read(path: Path) -> bool:
    """Whether others than the owner may read it, as far as its own mode goes."""
    try:
        return bool(path.stat().st_mode & 0o044)
    except (OSError, ValueError):
        return False


def _others_write(found: os.stat_result) -> bool:
    if found.st_mode & 0o002:
        return True
    return bool(found.st_mode & 0o020) and not _is_own_group(found)


def _is_own_group(found: os.stat_result) -> bool:
    """Whether the group is that of the file's owner, and of nobody else as far as the lists of users say."""
    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    alone = set(group.gr_mem) <= {owner.pw_name}
    return alone and owner.pw_gid == found.st_gid and owner.pw_name == group.gr_name
