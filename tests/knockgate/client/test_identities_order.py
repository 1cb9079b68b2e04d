"""In which order keys are tried: what the real ssh says that it will attempt is the measure."""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.knockgate.client import agents
from tests.knockgate.client.homes import Home
from tests.knockgate.spa.sshkeys.signers import keygen
from tests.netns import DEADLINE, isolated, own_mounts

from knockgate.client.identities import Identities


def attempted(home: Home, agent: Path | None) -> list[str]:
    """Fingerprints of what the real ssh will attempt, in its order, at an sshd that lets nobody in."""
    folder = home.folder / "sshd"
    folder.mkdir(exist_ok=True)
    if not (folder / "host").exists():
        keygen("-q", "-t", "ed25519", "-N", "", "-f", folder / "host")
    (folder / "config").write_text(
        f"HostKey {folder}/host\nPidFile none\nAuthorizedKeysFile none\nMaxAuthTries 20\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = shlex.join(["/usr/sbin/sshd", "-i", "-f", str(folder / "config")])
    options = ["-v", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", f"ProxyCommand={server}"]
    options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null"]
    environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    if agent:
        environment["SSH_AUTH_SOCK"] = str(agent)
    done = subprocess.run(
        [*home.command, *options, "root@host.example", "true"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    found = re.findall(r"Will attempt key: .* (SHA256:\S+)", done.stderr)
    assert found and "Permission denied" in done.stderr, done.stderr
    return found


def fingerprints(found: Identities) -> list[str]:
    return [
        "SHA256:" + base64.b64encode(each.key.fingerprint).decode().rstrip("=") for each in found.candidates
    ]


CONFIGS = [
    "",
    "IdentitiesOnly yes\n",
    "IdentityAgent none\n",
    "Match host host.example\n IdentityFile {0}/d\n IdentityFile {0}/a\n",
    "IdentitiesOnly yes\nIdentityFile {0}/%n-d\nIdentityFile {0}/b.pub\nIdentityFile {0}/c\n",
    "IdentityFile {0}/locked\nIdentityFile {0}/id_ed25519\nIdentityFile {0}/a\nIdentityFile {0}/c\n",
]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="sshd becomes another user before it lets anybody in")
@isolated
def test_the_order_is_sshs(tmp_path: Path) -> None:
    if not Path("/usr/sbin/sshd").exists():
        pytest.skip("there is no sshd")
    own_mounts()
    home = Home(tmp_path)
    for name in ("a", "b", "c", "d", "locked", "id_ed25519"):
        home.key(name, passphrase="secret" if name == "locked" else "")
    home.key("id_ecdsa", "-t", "ecdsa", "-b", "256")
    shutil.copy(home.ssh / "d", home.ssh / "host.example-d")
    seen = set()
    with agents.real(tmp_path / "agent") as agent:
        for name in ("b", "c", "a", "id_ecdsa"):
            agents.add(agent, home.ssh / name)
        (home.ssh / "b").unlink()
        for text in CONFIGS:
            # ssh takes the usual files from the home in the list of users: they are named here.
            usual = "".join(f"IdentityFile {home.ssh}/{name}\n" for name in ("id_ecdsa", "id_ed25519"))
            home.config(text.format(home.ssh) + ("" if "IdentityFile" in text else usual))
            for path in (agent, None):
                ours, theirs = fingerprints(home.find(path)), attempted(home, path)
                # A public half is attempted by ssh in any case: perhaps the server does not want it.
                halves = set() if path and "none" not in text else {_fingerprint(home.ssh / "b.pub")}
                assert ours == [each for each in theirs if each not in halves], text
                seen.add(tuple(ours))
    assert len(seen) > len(CONFIGS), "they differ"


def _fingerprint(file: Path) -> str:
    return keygen("-l", "-f", file).split()[1]
