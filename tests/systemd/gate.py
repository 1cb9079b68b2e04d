"""The gate on a throw-away machine, as a package lays it down, and a way into its halves' processes.

What is injected runs in the main thread of the unit's own process, with the rights it has then: its signal
handler executes a file in its run directory. All else about the unit is as installed.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import click
from tests.netns import until
from tests.systemd.machine import ADDRESS, Host, Machine

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = "/usr/lib/knockgate"
CONFIG = "/etc/knockgate/gate.toml"
WARDEN, LISTENER, KEEPER = "knockgate-warden", "knockgate-listener", "knockgate-keeper"
HALVES = (WARDEN, LISTENER)
#: A door for each way of knocking, and one that only a hand opens.
GATE = """
[gate]
clock = "trusted"
[doors.kernel]
ports = ["tcp/22"]
lease = "1h"
[doors.kernel.sequence]
steps = ["tcp/7000", "udp/7001"]
[doors.daemon]
ports = ["tcp/80"]
lease = "1h"
[doors.daemon.sequence]
steps = ["tcp/8000", "udp/8001"]
runs_in = "daemon"
[doors.packet]
ports = ["tcp/81"]
lease = "5m"
[doors.sealed]
ports = ["tcp/82"]
lease = "5m"
longest = "10m"
[keys.alice]
fwknop = "/etc/knockgate/alice.secrets"
doors = ["packet"]
[keys.people]
ssh = "%h/.ssh/authorized_keys"
users = ["jo"]
doors = ["sealed"]
"""
PORTS = {"kernel": 22, "daemon": 80, "packet": 81, "sealed": 82}
CONTROL = 6510
#: What answers on the doors' ports and on one without a door.
SERVICE = f"""
import selectors, socket
selector = selectors.DefaultSelector()
for port in {sorted([*PORTS.values(), CONTROL])}:
    sock = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    selector.register(sock, selectors.EVENT_READ, sock)
while True:
    for key, _ in selector.select():
        key.data.accept()[0].sendall(b"hello")
"""


def bundle(folder: Path) -> Path:
    """Our package beside what it needs, as a Debian package has it: Debian's own cryptography is too old."""
    folder.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "tests")
    shutil.copytree(REPOSITORY / "src" / "knockgate", folder / "knockgate", ignore=ignore)
    site = Path(click.__file__).parents[1]
    for name in ("click", "cryptography", "cffi"):
        shutil.copytree(site / name, folder / name, ignore=ignore)
    for library in site.glob("_cffi_backend*"):
        shutil.copy(library, folder)
    return folder


def prepare(packages: Path, secrets: str, key: str, *, rest: str = "") -> str:
    """A script that lays a gate's files down, before the machine's first process; nothing is installed.

    ``secrets``: of a key of fwknop's. ``key``: the public SSH key of jo.
    """
    launcher = f'#!/bin/sh\nPYTHONPATH={PACKAGES} exec /usr/bin/python3 -m knockgate "$@"\n'
    return f"""
        cp -r {packages} {PACKAGES}
        chmod -R a+rX {PACKAGES}
        printf %s {shlex.quote(launcher)} > /usr/local/bin/knockgate
        chmod 755 /usr/local/bin/knockgate
        export PYTHONDONTWRITEBYTECODE=1
        useradd -m jo || :
        mkdir -p /etc/knockgate /home/jo/.ssh
        printf %s {shlex.quote(GATE)} > {CONFIG}
        (umask 077; printf %s {shlex.quote(secrets)} > /etc/knockgate/alice.secrets
         printf '%s\\n' {shlex.quote(key)} > /home/jo/.ssh/authorized_keys)
        chmod 700 /home/jo /home/jo/.ssh
        chown -R jo: /home/jo
        printf %s {shlex.quote(SERVICE)} > /usr/local/lib/service.py
        {rest}
    """


def offline(units: Sequence[str] = HALVES) -> str:
    """What goes on with ``prepare``: the units are installed and enabled without a systemd that runs."""
    return f"""
        knockgate init --bare -o /root/gate.card > /dev/null
        mkdir -p /tmp/tree
        knockgate install --root /tmp/tree --packages {PACKAGES} > /dev/null
        cp -r /tmp/tree/etc/. /etc/
        systemd-sysusers
        systemctl enable {" ".join(units)} 2> /dev/null
    """


def begin_service(machine: Machine) -> None:
    machine.tell("systemd-run", "--unit=service", "python3", "-I", "/usr/local/lib/service.py")
    until(lambda: answers(machine.client, CONTROL), "the service answers")


def answers(client: Host, port: int) -> bool:
    """Whether the port answers the client at once."""
    code = (
        "import socket, sys\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.4)\n"
        "s.settimeout(2); print(s.recv(5).decode())"
    )
    return client.run([sys.executable, "-I", "-c", code, ADDRESS, str(port)]).stdout == "hello\n"


def process_of(machine: Machine, unit: str) -> int:
    return int(machine.property_of(unit, "MainPID"))


def until_active(machine: Machine, *units: str) -> None:
    until(lambda: machine.is_active(*units) == ["active"] * len(units), f"{units} are active", 30.0)


# --- injecting ----------------------------------------------------------------------------------------

_HOOK = """
import runpy, signal, sys
def enter(*_):
    try:
        exec(open({folder!r} + "/inject.py").read(), {{"FOLDER": {folder!r}}})
    except BaseException as error:
        open({folder!r} + "/result", "w").write(repr(error))
signal.signal(signal.SIGUSR1, enter)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
#: What is injected ends with this: ``found`` has a word for each attempt, "" where it worked.
_ANSWER = """
import json, os
with open(FOLDER + "/.result", "w") as stream:
    json.dump(found, stream)
os.rename(FOLDER + "/.result", FOLDER + "/result")
"""
_ATTEMPT = """
found = {}
def attempt(name, body):
    try:
        body()
        found[name] = ""
    except BaseException as error:
        found[name] = f"{type(error).__name__}: {error}"
"""


def open_to_injection(machine: Machine) -> None:
    """Have the units' processes take code; from the next start on."""
    for unit in (WARDEN, LISTENER, KEEPER):
        half = unit.removeprefix("knockgate-")
        folder = f"/run/knockgate/{half}"
        text = machine.tell("systemctl", "cat", unit)
        (start,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
        python, isolated, rest = start.removeprefix("ExecStart=").split(" ", 2)
        machine.tell("sh", "-c", f"cat > /usr/lib/hook-{half}.py <<'EOF'\n{_HOOK.format(folder=folder)}EOF")
        lines = f"[Service]\nExecStart=\nExecStart={python} {isolated} /usr/lib/hook-{half}.py {rest}\n"
        if unit == KEEPER:  # it has no folder of its own
            lines += "RuntimeDirectory=knockgate/keeper\n"
        machine.tell("mkdir", "-p", f"/etc/systemd/system/{unit}.service.d")
        path = f"/etc/systemd/system/{unit}.service.d/hook.conf"
        machine.tell("sh", "-c", f"printf %s '{lines}' > {path}")
    machine.tell("systemctl", "daemon-reload")
    machine.tell("systemctl", "restart", KEEPER, *HALVES)
    until_active(machine, KEEPER, *HALVES)


def inject(machine: Machine, unit: str, code: str) -> dict[str, object]:
    """What ``found`` is after the code has run in the unit's process; ``attempt(name, body)`` fills it."""
    folder = f"/run/knockgate/{unit.removeprefix('knockgate-')}"
    program = f"FOLDER = {folder!r}\n{_ATTEMPT}{textwrap.dedent(code)}{_ANSWER}"
    machine.tell("sh", "-c", f"rm -f {folder}/result; cat > {folder}/inject.py <<'EOF'\n{program}EOF")
    machine.tell("chmod", "644", f"{folder}/inject.py")
    machine.tell("kill", "-USR1", str(process_of(machine, unit)))
    text = until(lambda: machine.run(["cat", f"{folder}/result"]).stdout, "the code has run", 30.0)
    assert text.startswith("{"), text
    found: dict[str, object] = json.loads(text)
    return found


def outside(machine: Machine, code: str) -> dict[str, object]:
    """The same by root, in no unit: the control."""
    first = f"import sys; sys.path.insert(0, {PACKAGES!r})\nFOLDER = '/tmp'\n"
    program = f"{first}{_ATTEMPT}{textwrap.dedent(code)}{_ANSWER}"
    machine.tell("python3", "-I", "-c", program)
    found: dict[str, object] = json.loads(machine.tell("cat", "/tmp/result"))
    return found
