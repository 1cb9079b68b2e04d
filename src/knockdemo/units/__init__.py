"""What stands on the host: unit files and configuration, rendered from the templates beside this file.

Pure but for reading those templates. Whoever starts a daemon without systemd takes its command line
from here too (``exec_start``), so that there is one place that says how a daemon is started.

A template names its values in double braces; systemd's ``%`` and the shell's ``$`` stay what they are.
"""

from __future__ import annotations

import base64
import re
import secrets
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from knockgate.config.doors import parse
from knockgate.errors import ConfigError
from knockgate.firewall.ruleset import compile_ruleset

__all__ = [
    "GATE_PROGRAM",
    "GUARDS",
    "INSTANCES",
    "SSHD",
    "WINDOW",
    "File",
    "Plan",
    "exec_start",
    "fresh_plan",
    "keys_in",
    "render",
    "render_gate",
]

SYSTEM = "/etc/systemd/system"
SCRIPT = "/usr/lib/knockdemo/demo-firewall-base.sh"
CLIENT_PROGRAM = "/usr/lib/knockdemo/knock-client.py"
CLIENT_KEYS = "/etc/knockdemo/client.fwknoprc"
GATE = "/etc/knockdemo/gate.toml"
GATE_RULES = "/etc/knockdemo/gate.nft"
GATE_PROGRAM = "/usr/bin/knockgate"
#: The unit of the sshd behind lane E's second door.
SSHD = "knockdemo-sshd.service"

#: The units that guard and knock, and the instances of the service behind them, in starting order.
GUARDS = ("knock-demo", "demo-firewall-base", "knockd", "fwknopd")
INSTANCES = ("secret-service@6500", "secret-service@6501", "secret-service@6502")

#: Seconds that a door stays open unless the user says otherwise.
WINDOW = 15
_WINDOWS = range(3, 86401)
SPA_KEY_BYTES = 32
HMAC_KEY_BYTES = 64

#: Template, target, mode. Whatever holds or opens with a key is for its owner alone.
_LAYOUT = (
    ("secret-service@.service", f"{SYSTEM}/secret-service@.service", 0o644),
    ("secret-service-nftables.conf", f"{SYSTEM}/secret-service@6500.service.d/knockdemo.conf", 0o644),
    ("secret-service-iptables.conf", f"{SYSTEM}/secret-service@6501.service.d/knockdemo.conf", 0o644),
    ("secret-service-iptables.conf", f"{SYSTEM}/secret-service@6502.service.d/knockdemo.conf", 0o644),
    ("knock-demo.service", f"{SYSTEM}/knock-demo.service", 0o644),
    ("demo-firewall-base.service", f"{SYSTEM}/demo-firewall-base.service", 0o644),
    ("knockd-dropin.conf", f"{SYSTEM}/knockd.service.d/knockdemo.conf", 0o644),
    ("fwknopd.service", f"{SYSTEM}/fwknopd.service", 0o644),
    ("demo-firewall-base.sh", SCRIPT, 0o755),
    ("knockdemo.toml", "/etc/knockdemo/knockdemo.toml", 0o644),
    ("knockd.conf", "/etc/knockd.conf", 0o644),
    ("fwknopd.conf", "/etc/fwknop/fwknopd.conf", 0o600),
    ("access.conf", "/etc/fwknop/access.conf", 0o600),
    ("client.fwknoprc", CLIENT_KEYS, 0o600),
)

#: Those of lanes D, E and F, for the lab alone: installing stays with the three lanes of the tutorial.
_GATE_LAYOUT = (
    ("knockdemo-gate.service", f"{SYSTEM}/knockdemo-gate.service", 0o644),
    ("secret-service-gate.conf", f"{SYSTEM}/secret-service@6503.service.d/knockdemo.conf", 0o644),
    ("knockdemo-gate-daemon.service", f"{SYSTEM}/knockdemo-gate-daemon.service", 0o644),
    (
        "secret-service-gate-daemon.conf",
        f"{SYSTEM}/secret-service@6505.service.d/knockdemo.conf",
        0o644,
    ),
    (
        "secret-service-gate-daemon.conf",
        f"{SYSTEM}/secret-service@6504.service.d/knockdemo.conf",
        0o644,
    ),
    ("knockdemo-gate-init.service", f"{SYSTEM}/knockdemo-gate-init.service", 0o644),
    ("knockdemo-sshd.service", f"{SYSTEM}/{SSHD}", 0o644),
    ("sshd_config", "/etc/knockdemo/sshd_config", 0o644),
    ("gate.toml", GATE, 0o644),
    ("client.secrets", "/etc/knockdemo/client.secrets", 0o600),
    ("gate.fwknoprc", "/etc/knockdemo/gate.fwknoprc", 0o600),
)

#: Narrower than the kernel's rule: these names go into unit files and two other grammars unquoted.
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,14}")


@dataclass(frozen=True)
class File:
    """A file as it should stand: permission bits and bytes."""

    mode: int
    content: bytes


@dataclass(frozen=True)
class Plan:
    """Everything that differs from one host to the next; ConfigError if it cannot be written down."""

    interface: str
    window: int = WINDOW
    """Seconds that a door stays open, whole, at least 3: knockd counts in whole seconds."""

    spa_key: bytes = field(default=b"", repr=False)
    hmac_key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if not _INTERFACE.fullmatch(self.interface):
            raise ConfigError(
                f"{self.interface!r} cannot be used as the name of an interface",
                key="--interface",
                hint="letters, digits and _ . : - only, at most 15 of them",
            )
        if type(self.window) is not int or self.window not in _WINDOWS:
            raise ConfigError(
                f"{self.window!r} is not a whole number of seconds from {_WINDOWS[0]} to {_WINDOWS[-1]}",
                key="--window",
            )
        if (len(self.spa_key), len(self.hmac_key)) != (SPA_KEY_BYTES, HMAC_KEY_BYTES):
            raise ConfigError(f"fwknop's keys must be of {SPA_KEY_BYTES} and {HMAC_KEY_BYTES} bytes")


def fresh_plan(interface: str, window: int = WINDOW) -> Plan:
    """A plan with keys that nobody has seen before."""
    return Plan(interface, window, secrets.token_bytes(SPA_KEY_BYTES), secrets.token_bytes(HMAC_KEY_BYTES))


def render(plan: Plan) -> dict[str, File]:
    """Every file but the two Python packages, by the absolute path where it belongs."""
    files = _filled(_LAYOUT, plan)
    files[CLIENT_PROGRAM] = File(0o755, (Path(__file__).parents[1] / "client.py").read_bytes())
    return files


def render_gate(plan: Plan, root: str = "") -> dict[str, File]:
    """What lanes D, E and F have besides, in the same form; the rules are what their gate.toml compiles to.

    ``plan`` has other keys than lane C's. The files will find each other below ``root``.
    """
    files = _filled(_GATE_LAYOUT, plan, root)
    rules = compile_ruleset(parse(files[GATE].content.decode(), GATE))
    return {**files, GATE_RULES: File(0o644, rules.encode())}


def _filled(layout: Iterable[tuple[str, str, int]], plan: Plan, root: str = "") -> dict[str, File]:
    values = {
        "root": root,
        "interface": plan.interface,
        "window": str(plan.window),
        "longer_than_window": str(plan.window + 10),
        "spa_key": base64.b64encode(plan.spa_key).decode(),
        "hmac_key": base64.b64encode(plan.hmac_key).decode(),
    }
    here = Path(__file__).parent
    files = {}
    for template, target, mode in layout:
        text = (here / template).read_text(encoding="utf-8")
        text = re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], text)
        files[target] = File(mode, text.encode())
    return files


def keys_in(client_keys: str) -> tuple[bytes, bytes] | None:
    """The two keys that a rendered ``client.fwknoprc`` holds; None if they are not both there, whole."""
    found = []
    for name, size in (("KEY_BASE64", SPA_KEY_BYTES), ("HMAC_KEY_BASE64", HMAC_KEY_BYTES)):
        line = re.search(rf"^{name}[ \t]+(\S+)[ \t]*$", client_keys, re.MULTILINE)
        try:
            key = base64.b64decode(line[1], validate=True) if line else b""
        except ValueError:
            return None
        if len(key) != size:
            return None
        found.append(key)
    return found[0], found[1]


def exec_start(unit_text: str, instance: str = "") -> list[str]:
    """The argument vector that systemd would start for this unit, ``%i`` being ``instance``.

    Reads what our units use: one command, an empty ``ExecStart=`` that takes back an earlier one,
    prefixes, quotes, continued lines. ValueError if that does not leave exactly one command.
    """
    commands: list[str] = []
    for line in re.sub(r"\\\n", " ", unit_text).splitlines():
        name, equals, value = line.partition("=")
        if not equals or name.strip() != "ExecStart":
            continue
        commands = [*commands, value.strip()] if value.strip() else []
    if len(commands) != 1:
        raise ValueError(f"{len(commands)} commands in ExecStart, wanted one")
    specifiers = {"%i": instance, "%%": "%"}
    unknown = {found for found in re.findall(r"%.?", commands[0]) if found not in specifiers}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} in ExecStart, which only systemd knows")
    return [
        re.sub(r"%.", lambda match: specifiers[match[0]], argument)
        for argument in shlex.split(commands[0].lstrip("@-:+!"))
    ]
