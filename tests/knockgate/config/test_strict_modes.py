"""Whose files are believed: ours and a real sshd's judgement, side by side."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.knockgate.spa.sshkeys.signers import made
from tests.netns import isolated, own_mounts, run, until

from knockgate.config.keyfiles import KeyFiles
from knockgate.config.keys import KeyFile, SshKeys

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
PORT = 2222
JO, AL = 1234, 1235
HOME, FOLDER = Path("/var/lib/home/jo"), Path("/var/lib/keys")
#: One in the home, one outside.
INSIDE, OUTSIDE = HOME / ".ssh" / "authorized_keys", FOLDER / "jo"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="sshd needs root to let somebody in"),
    pytest.mark.skipif(SSHD is None, reason="there is no sshd"),
]


def mode(path: Path, bits: int) -> Callable[[], None]:
    return lambda: path.chmod(bits)


def owner(path: Path, uid: int) -> Callable[[], None]:
    return lambda: os.chown(path, uid, 0)


def link(path: Path) -> Callable[[], None]:
    def change() -> None:
        path.rename(path.with_name("real"))
        path.symlink_to(path.with_name("real"))

    return change


def folder_link() -> None:
    """To one that anybody could have written."""
    elsewhere = HOME.parent / "elsewhere"
    INSIDE.parent.rename(elsewhere)
    INSIDE.parent.symlink_to(elsewhere)
    elsewhere.chmod(0o777)


CASES: dict[str, tuple[Path, Callable[[], None]]] = {
    "as it is": (INSIDE, lambda: None),
    "for its owner alone": (INSIDE, mode(INSIDE, 0o600)),
    "of root": (INSIDE, owner(INSIDE, 0)),
    "of another": (INSIDE, owner(INSIDE, AL)),
    "others may write it": (INSIDE, mode(INSIDE, 0o646)),
    "folder of root": (INSIDE, owner(INSIDE.parent, 0)),
    "folder of another": (INSIDE, owner(INSIDE.parent, AL)),
    "others may write the folder": (INSIDE, mode(INSIDE.parent, 0o757)),
    "the folder is sticky": (INSIDE, mode(INSIDE.parent, 0o1777)),
    "others may write the home": (INSIDE, mode(HOME, 0o757)),
    "home of another": (INSIDE, owner(HOME, AL)),
    "others may write above the home": (INSIDE, mode(HOME.parent, 0o777)),
    "above the home all is another's": (INSIDE, owner(HOME.parent, AL)),
    "a link": (INSIDE, link(INSIDE)),
    "the folder is a link": (INSIDE, folder_link),
    "gone": (INSIDE, INSIDE.unlink),
    "outside": (OUTSIDE, lambda: None),
    "outside, of root": (OUTSIDE, owner(OUTSIDE, 0)),
    "outside, of another": (OUTSIDE, owner(OUTSIDE, AL)),
    "outside, folder of the user": (OUTSIDE, owner(FOLDER, JO)),
    "outside, folder of another": (OUTSIDE, owner(FOLDER, AL)),
    "outside, others may write the folder": (OUTSIDE, mode(FOLDER, 0o777)),
    "outside, the folder above is another's": (OUTSIDE, owner(FOLDER.parent, AL)),
    "outside, others may write the one above": (OUTSIDE, mode(FOLDER.parent, 0o757)),
}
#: With these sshd lets in, and we do not.
STRICTER = {"a link"}


@isolated
def test_what_sshd_does_not_believe_we_do_not_believe(tmp_path: Path) -> None:
    own_mounts()
    passwd = tmp_path / "passwd"
    passwd.write_text(f"{Path('/etc/passwd').read_text()}jo:*:{JO}:{JO}::{HOME}:/bin/sh\n")
    run("mount", "--bind", str(passwd), "/etc/passwd")
    made(tmp_path, "-t", "ed25519")
    line = (tmp_path / "key.pub").read_text()
    theirs, ours = {}, {}
    with serving(tmp_path):
        for name, (path, change) in CASES.items():
            built(line, path)
            change()
            theirs[name], ours[name] = logs_in(tmp_path), believed(path)
    different = {name for name in CASES if theirs[name] != ours[name]}
    assert different == STRICTER, (theirs, ours)
    assert not any(ours[name] for name in STRICTER)
    assert 8 <= sum(theirs.values()) <= len(CASES) - 8


def built(line: str, path: Path) -> None:
    """The folders anew, with that one file in them."""
    for folder in (HOME.parent, FOLDER):
        shutil.rmtree(folder, ignore_errors=True)
    FOLDER.parent.chmod(0o755)
    os.chown(FOLDER.parent, 0, 0)
    for folder in (HOME.parent, HOME, INSIDE.parent, FOLDER):
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
    path.write_text(line)
    path.chmod(0o644)
    for mine in (HOME, INSIDE.parent, path):
        os.chown(mine, JO, JO)


def believed(path: Path) -> bool:
    place = KeyFile(str(path), "jo", JO, str(HOME))
    files = KeyFiles([SshKeys(name="jo", ssh=("/x",), doors=("ssh",), users=("jo",), files=(place,))])
    files.refresh()
    return files.total == 1


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[None]:
    Path("/run/sshd").mkdir()
    words = [
        f"Port={PORT}",
        "ListenAddress=127.0.0.1",
        f"HostKey={folder / 'key'}",
        f"AuthorizedKeysFile=.ssh/authorized_keys {FOLDER}/%u",
        "PidFile=none",
        "StrictModes=yes",
        "UsePAM=no",
        "PasswordAuthentication=no",
        "KbdInteractiveAuthentication=no",
        "ForceCommand=exit 0",
    ]
    options = [part for word in words for part in ("-o", word)]
    with subprocess.Popen([str(SSHD), "-D", "-f", "/dev/null", "-E", folder / "log", *options]) as process:
        try:
            until(lambda: f":{PORT} " in run("ss", "-Hltn"), f"sshd listens, see {folder / 'log'}")
            yield
        finally:
            process.send_signal(signal.SIGTERM)


def logs_in(folder: Path) -> bool:
    words = [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "KexAlgorithms=curve25519-sha256",  # the default takes far more of the processor
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        f"Port={PORT}",
    ]
    options = [part for word in words for part in ("-o", word)]
    done = subprocess.run(
        ["ssh", "-n", "-F", "none", *options, "-i", folder / "key", "jo@127.0.0.1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    refused = done.returncode == 255 and "Permission denied (publickey)" in done.stderr
    assert refused or done.returncode == 0, done.stderr
    return not refused
