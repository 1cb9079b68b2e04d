"""Lines of authorized_keys, put before a real sshd: who logs in there is who is authorised here."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.knockgate.spa.sshkeys.signers import made, signer, text
from tests.netns import isolated, own_mounts, run, until, up

from knockgate.model import address_text
from knockgate.spa.sshkeys import Kind, read

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
PORT = 2222
FOUR, ALSO, SIX = "127.0.0.1", "127.1.2.3", "2001:db8::ab:1"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="sshd needs root to let somebody in"),
    pytest.mark.skipif(SSHD is None, reason="there is no sshd"),
]

#: KEY is each line's own. Where somebody comes from, and what is in front of his key.
LINES = [
    (FOUR, "KEY"),
    (FOUR, " \t KEY  a comment"),
    (FOUR, "# KEY"),
    (FOUR, "restrict,pty KEY"),
    (FOUR, "restrict, KEY"),
    (FOUR, ",,no-pty,,NO-USER-RC KEY"),
    (FOUR, "restrict,unknown KEY"),
    (FOUR, "restricted KEY"),
    (FOUR, "no-restrict KEY"),
    (FOUR, 'doors="ssh" KEY'),
    (FOUR, "cert-authority KEY"),
    (FOUR, 'principals="root" KEY'),
    (FOUR, 'command="echo \\"a, b\\" # \\\\x" KEY'),
    (FOUR, 'command="echo \\\\" KEY'),
    (FOUR, 'command="a",command="a" KEY'),
    (FOUR, 'command="a b KEY'),
    (FOUR, "command=a KEY"),
    (FOUR, 'command="a"KEY'),
    (FOUR, "no-touch-required,verify-required KEY"),
    (FOUR, 'permitopen="[::1]:22",permitopen="a/80",permitlisten="8080" KEY'),
    (FOUR, 'permitopen="22" KEY'),
    (FOUR, 'tunnel="tun0" KEY'),
    (FOUR, 'tunnel="2147483645" KEY'),
    (FOUR, 'environment="A-B=x" KEY'),
    (FOUR, 'from="127.0.0.1" KEY'),
    (FOUR, 'from="127.0.0.0/8,!127.0.0.1" KEY'),
    (ALSO, 'from="127.0.0.0/8,!127.0.0.1" KEY'),
    (ALSO, 'from="127.1.2.3/8" KEY'),
    (ALSO, 'from="!*.9,127.?.*.3,here.example" KEY'),
    (ALSO, 'from="" KEY'),
    (SIX, 'from="2001:DB8::AB:*" KEY'),
    (SIX, 'from="2001:db8::/64,!2001:DB8::ab:?" KEY'),
    (FOUR, 'expiry-time="PAST" KEY'),
    (FOUR, 'expiry-time="COMING" KEY'),
    (FOUR, 'expiry-time="PASTZ" KEY'),
    (FOUR, 'expiry-time="COMINGZ" KEY'),
    (FOUR, 'expiry-time="COMINGutc",expiry-time="PAST" KEY'),
    (FOUR, 'expiry-time="20400231Z" KEY'),
    (FOUR, 'expiry-time="20400132Z" KEY'),
    (FOUR, 'expiry-time="2040" KEY'),
]


@isolated
def test_who_logs_in_is_who_is_authorised(tmp_path: Path) -> None:
    own_mounts()
    up("lo", "2001:db8::1/64", f"{SIX}/64")
    os.environ["TZ"] = "XXX-5:30"  # sshd's, ssh's and ours
    time.tzset()
    file = tmp_path / "authorized_keys"
    file.write_bytes(b"\r\n".join(written(line, number) for number, (_, line) in enumerate(LINES)))
    with (
        serving(tmp_path, file),
        ThreadPoolExecutor(4) as pool,
    ):
        theirs = list(pool.map(lambda number: logs_in(tmp_path, number), range(len(LINES))))
    ours = [authorised(file.read_bytes(), number) for number in range(len(LINES))]
    assert dict(zip(LINES, ours, strict=True)) == dict(zip(LINES, theirs, strict=True))
    assert 15 < sum(theirs) < len(LINES) - 15


def written(line: str, number: int) -> bytes:
    """The line with its key, and times around now."""
    now = int(time.clock_gettime(time.CLOCK_REALTIME))
    for word, away in [("PAST", -3600), ("COMING", 3600)]:
        civil = time.gmtime if f"{word}Z" in line or f"{word}utc" in line else time.localtime
        line = line.replace(word, time.strftime("%Y%m%d%H%M%S", civil(now + away)))
    return line.encode().replace(b"KEY", text(signer(Kind.ED25519, number).public))


def authorised(octets: bytes, number: int) -> bool:
    """What our reading of the file says."""
    now = time.clock_gettime(time.CLOCK_REALTIME)
    came = socket.inet_pton(socket.AF_INET6 if ":" in LINES[number][0] else socket.AF_INET, LINES[number][0])
    assert address_text(came) == LINES[number][0]
    return any(
        (each.options.sources is None or each.options.sources.admit(came))
        and (each.options.expires is None or each.options.expires >= now)
        for each in read(octets, ours=False, local=time.mktime).keys
        if each.key == signer(Kind.ED25519, number).public
    )


@contextlib.contextmanager
def serving(folder: Path, file: Path) -> Iterator[None]:
    Path("/run/sshd").mkdir()
    made(folder, "-t", "ed25519")
    words = [
        f"Port={PORT}",
        f"HostKey={folder / 'key'}",
        f"AuthorizedKeysFile={file}",
        "PidFile=none",
        "StrictModes=no",
        "UsePAM=no",
        "PermitRootLogin=yes",
        "PasswordAuthentication=no",
        "KbdInteractiveAuthentication=no",
        "MaxStartups=100",
        "ForceCommand=exit 0",
    ]
    log = folder / "log"
    command: list[str | Path] = [
        str(SSHD),
        "-D",
        "-f",
        "/dev/null",
        "-E",
        log,
        *(part for word in words for part in ("-o", word)),
    ]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: f":{PORT} " in run("ss", "-Hltn"), f"sshd listens, see {log}")
            yield
        finally:
            process.send_signal(signal.SIGTERM)


def logs_in(folder: Path, number: int) -> bool:
    source = LINES[number][0]
    key = folder / f"key-{number}"
    key.touch(0o600)
    private = signer(Kind.ED25519, number).private
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    words = [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "KexAlgorithms=curve25519-sha256",  # the default takes far more of the processor
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        f"BindAddress={source}",
        f"Port={PORT}",
    ]
    options = [part for word in words for part in ("-o", word)]
    host = "2001:db8::1" if ":" in source else FOUR
    done = subprocess.run(
        ["ssh", "-n", "-F", "none", *options, "-i", key, f"root@{host}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    refused = done.returncode == 255 and "Permission denied (publickey)" in done.stderr
    assert refused or done.returncode == 0, (LINES[number], done.stderr)
    return not refused
