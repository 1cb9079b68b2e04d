"""The lab's users and their SSH keys, made by ssh-keygen: who knocks, whom the host lets log in.

::

    on the client    root     ~/.ssh/id_ed25519, known_hosts, and a config that has ssh knock
    on the host      guest    ~/.ssh/authorized_keys, which sshd and the gate read

ssh takes the home out of the list of users, whatever HOME says. So the lab has a list of its own, in its own
mounts, and this machine's settings of ssh's client are hidden in there: they are for other hosts.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from knockdemo.install import File
from knockdemo.lab.hosts import Actor
from knockdemo.lanes.e import SHELL, SSH_PORT
from knockgate.errors import Unavailable

__all__ = ["AUTHORIZED_KEYS", "GUEST", "own_users", "ssh_files", "write_ssh_config"]

#: Name and number of the user who logs in. The number is whose files are the lab's, in sshd's eyes.
GUEST, GUEST_UID = "guest", 1000
AUTHORIZED_KEYS = f"/home/{GUEST}/.ssh/authorized_keys"
HOST_KEY = "/etc/knockdemo/ssh_host_ed25519_key"


def own_users(stage: Path, environment: Mapping[str, str]) -> None:
    """Put a list of users of our own in the place of this machine's. Raises Unavailable."""
    users = stage / "passwd"
    users.write_text(
        f"root:*:0:0::{stage / 'home'}:/bin/sh\n"
        f"{GUEST}:*:{GUEST_UID}:{GUEST_UID}::{stage / 'root/home' / GUEST}:/bin/sh\n"
        "nobody:*:65534:65534::/nonexistent:/usr/sbin/nologin\n"
    )
    nothing = stage / "nothing"
    nothing.touch()
    for ours, place in ((users, Path("/etc/passwd")), (nothing, Path("/etc/ssh/ssh_config"))):
        if place.exists():
            _do(["mount", "--bind", str(ours), str(place)], environment)


def ssh_files(client: Actor, host: Actor, stage: Path) -> dict[str, File]:
    """Make a key for the client, which keeps it, and one for the host; what belongs on the host."""
    folder = stage / "home/.ssh"
    folder.mkdir(mode=0o700)
    mine, theirs = folder / "id_ed25519", stage / "tmp/host_key"
    for actor, path in ((client, mine), (host, theirs)):
        actor.do(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", actor.name, "-f", str(path)])
    public = theirs.with_suffix(".pub").read_text()
    (folder / "known_hosts").write_text(f"{SHELL} {public}")
    files = {
        HOST_KEY: File(0o600, theirs.read_bytes()),
        AUTHORIZED_KEYS: File(0o600, mine.with_suffix(".pub").read_bytes()),
    }
    theirs.unlink()
    return files


def write_ssh_config(stage: Path, knockgate: Path) -> None:
    """Have the client's ssh knock at the second door: ``ssh shell`` is all there is to type then."""
    (stage / "home/.ssh/config").write_text(
        f"Host {SHELL}\n"
        f"    ProxyCommand {knockgate} connect %h %p\n"
        f"    Port {SSH_PORT}\n"
        f"    HostKeyAlias {SHELL}\n"
        f"    User {GUEST}\n"
        "    BatchMode yes\n"
    )


def _do(argv: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, env=dict(environment), check=False)
    if done.returncode:
        raise Unavailable(f"{' '.join(argv)}: {done.stderr.strip()}", hint="use sudo")
