"""A running gate for sealed knocks, and a client whose clock, device and key are whatever a test wants."""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, Gate, leases, network
from tests.knockgate.spa import sealed_messages as messages
from tests.knockgate.spa import sealed_signers as signers
from tests.netns import until

from knockgate.config import gatekeys
from knockgate.daemon import control
from knockgate.spa.sealed import KeyKind, Message, SourceKind, Suite, seal
from knockgate.store.marks import SqliteMarks

PORT = 62202
DOORS = """
[doors.ssh]
ports = ["tcp/22"]
lease = "30s"
longest = "10m"
[doors.web]
ports = ["tcp/80"]
lease = "1h"
"""
PEOPLE = '[keys.people]\nssh = "{file}"\ndoors = ["ssh", "web"]\n'
OPENED = ("tcp/22", CLIENT, "packet")
DEVICE = bytes(range(1, 17))
INCARNATION = bytes(range(100, 116))


def now() -> int:
    """Nanoseconds since 1970."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


def make_gate(folder: Path, *, low: int = 0) -> None:
    """What `knockgate init` makes: the keys of ``sealed_messages``, one card, an empty store."""
    state = folder / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    made = dt.datetime.fromtimestamp(now() // 10**9, dt.UTC)
    keys = gatekeys.fresh(
        INCARNATION,
        xwing=messages.SEED,
        x25519=messages.X25519_KEY,
        secrets={"everybody": messages.SECRET},
        now=made,
    )
    gatekeys.save(state / "gate.keys", keys)
    SqliteMarks.create(state / "marks.sqlite", INCARNATION, low=low)


class Stage(running.Counted):
    """``lines`` of authorized_keys; ``people`` and ``rest`` of gate.toml."""

    kind = "sealed"

    def __init__(
        self,
        folder: Path,
        *lines: str,
        people: str = "",
        doors: str = DOORS,
        clock: str = "trusted",
        rest: str = "",
    ) -> None:
        self.keys = folder / "authorized_keys"
        self.state = folder / "state"
        self.write_keys(*(lines or (signers.line(signers.ED25519) + " jo@laptop",)))
        make_gate(folder)
        self.text = doors + PEOPLE.format(file=self.keys) + people + rest
        self.gate = Gate(folder)
        self.gate.write(self.text, gate=f'clock = "{clock}"\n')

    def write_keys(self, *lines: str) -> None:
        """Another file by rename, as editors do."""
        new = self.keys.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.chmod(0o600)
        new.rename(self.keys)

    def send(self, payload: bytes, *, source: str = CLIENT, port: int = PORT) -> None:
        running.send(payload, port=port, source=source)

    def knock(
        self,
        kind: KeyKind = KeyKind.ED25519,
        *,
        suite: Suite = Suite.XWING,
        source: str = CLIENT,
        **changes: object,
    ) -> bytes:
        """Returns what was sent."""
        payload = seal(message(kind, **changes), messages.CARD, suite)
        self.send(payload, source=source)
        return payload

    def opened(self) -> int:
        found: int = self.gate.status()["sealed"]["opened"]
        return found

    def until_opened(self, times: int) -> None:
        until(lambda: self.opened() >= times, f"{times} were opened")

    def explained(self) -> dict[str, object]:
        return control.explain(self.gate.run_directory)


def message(kind: KeyKind = KeyKind.ED25519, **changes: object) -> Message:
    """Jo's knock at ssh, now, for the client's address."""
    usual: dict[str, Any] = {
        "issued": now(),
        "device": DEVICE,
        "source": SourceKind.V4,
        "address": socket.inet_aton(CLIENT),
        "doors": ("ssh",),
    }
    return messages.signed(kind, **(usual | changes))


def device() -> bytes:
    """One that was never seen."""
    return secrets.token_bytes(16)


@contextlib.contextmanager
def stage(folder: Path, *lines: str, **options: str) -> Iterator[Stage]:
    """Ends the gate, which must end well."""
    with network():
        found = Stage(folder, *lines, **options)
        found.gate.start()
        yield found
        assert found.gate.end() == 0, found.gate.log()


def until_open(*expected: tuple[str, str, str]) -> None:
    until(lambda: leases() >= set(expected), f"{expected} are open")
