"""A gate whose clock is injected: the daemon's own grants, mechanisms and stores, a firewall in memory.

Packets are handed to what the listener hands them to. What is made up: what libc and /proc say of the time,
the ring (no kernel is in play), which addresses are ours, and the table, which the conformance suite holds
to the kernel (``tests/knockgate/firewall/conformance.py``).
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from tests.attacks.lanes import FWKNOP_PORT, SEALED_PORT, udp_ip
from tests.knockgate.daemon.running import HOST
from tests.knockgate.daemon.sealed_stage import make_gate
from tests.knockgate.spa import sealed_messages as messages
from tests.knockgate.spa.sshkeys.signers import Signer
from tests.packets import raw

from knockgate.client import sealed as client
from knockgate.client.device import Ticket
from knockgate.config.doors import Door
from knockgate.daemon.bearers import bearers_of, ssh_keys_of
from knockgate.daemon.log import NOTE, Record
from knockgate.daemon.origin import Origin
from knockgate.daemon.packets import PacketGrants
from knockgate.daemon.sealed import SealedGrants
from knockgate.errors import Unavailable
from knockgate.firewall.memory import MemoryFirewall
from knockgate.model import Observation, Source, address_text
from knockgate.spa.sealed import Card, SourceKind, Suite
from knockgate.spa.sealed.dates import Date, following

SECOND = 10**9
DAY = 86400.0


class Clock:
    """All that there is to say of the time at the gate."""

    def __init__(self, now: float, *, synchronised: bool = True) -> None:
        self.now, self.up, self.awake = now, 1000.0, 1000.0
        self.synchronised = synchronised
        self._boots = 1

    def wait(self, seconds: float) -> None:
        self.now, self.up, self.awake = self.now + seconds, self.up + seconds, self.awake + seconds

    def sleep(self, seconds: float) -> None:
        """Suspended, which the time since the boot counts."""
        self.now, self.up = self.now + seconds, self.up + seconds

    def reboot(self, now: float, *, synchronised: bool) -> None:
        self.now, self.up, self.awake, self.synchronised = now, 20.0, 20.0, synchronised
        self._boots += 1

    def clock_gettime(self, number: int) -> float:
        return {time.CLOCK_REALTIME: self.now, time.CLOCK_BOOTTIME: self.up}[number]

    def read_text(self) -> str:
        """Of the boot's identity."""
        return f"boot {self._boots}\n"


class _Ears:
    def __init__(self, *_: object) -> None:
        pass

    def opened(self, sender: Source) -> None:
        pass

    def next_wakeup(self) -> None:
        return None

    def tick(self) -> Sequence[bytes]:
        return ()


class _Own:
    def __contains__(self, address: bytes) -> bool:
        return address == raw(HOST)

    def close(self) -> None:
        pass


@contextlib.contextmanager
def injected(clock: Clock) -> Iterator[None]:
    """In here this is what time it is."""
    real = SimpleNamespace(
        clock_gettime=clock.clock_gettime,
        CLOCK_REALTIME=time.CLOCK_REALTIME,
        CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
    )
    since = SimpleNamespace(monotonic=lambda: clock.up)
    with contextlib.ExitStack() as stack:
        for name, value in (
            ("clock.time", real),
            ("clock.is_synchronised", lambda: clock.synchronised),
            ("clock._BOOT", clock),
            *((f"daemon.{each}.time", since) for each in ("sealed", "packets", "stories")),
            *((f"daemon.{each}.Ears", _Ears) for each in ("sealed", "packets")),
            *((f"daemon.{each}.OwnAddresses", _Own) for each in ("sealed", "packets")),
        ):
            stack.enter_context(mock.patch(f"knockgate.{name}", value))
        yield


class Lived:
    """The gate; it is to be made and used within ``injected``. It is its grants' hands."""

    def __init__(self, folder: Path, clock: Clock, text: str) -> None:
        """``text``: doors and keys. Files of ssh keys are written by who needs them, beforehand."""
        self.folder, self.clock = folder, clock
        self.file = folder / "gate.toml"
        self.opened = 0
        self.said: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self.write(text)
        make_gate(folder)
        self.table = self._new_table()
        self.start()

    def write(self, text: str, *, gate: str = "") -> None:
        """Another gate.toml."""
        head = f'[gate]\nclock = "auto"\nstate_directory = "{self.folder}/state"\n{gate}'
        self.file.write_text(head + text)

    def start(self) -> None:
        """The listener."""
        origin = Origin(str(self.file))
        self.configuration = origin.load()
        bearers = bearers_of(origin, self.configuration)
        self.packets = PacketGrants(self.configuration, bearers, self) if bearers else None
        self.sealed = SealedGrants(self.configuration, ssh_keys_of(origin, self.configuration), self)

    def end(self, *, suddenly: bool = False) -> None:
        """``suddenly``: what is in memory only is lost."""
        self._refused = self.refused
        if suddenly:
            self.sealed._store.close()
        else:
            self.sealed.close()
        if self.packets:
            self.packets.close()

    def restart(self, *, suddenly: bool = False) -> None:
        self.end(suddenly=suddenly)
        self.start()

    def reboot(self, now: float, *, synchronised: bool = False) -> None:
        """Leases are gone, and it knows no time."""
        self.end(suddenly=True)
        self.clock.reboot(now, synchronised=synchronised)
        self.table = self._new_table()
        self.start()

    def _new_table(self) -> MemoryFirewall:
        table = MemoryFirewall(Origin(str(self.file)).load(), lambda: self.clock.awake)
        table.load("")
        return table

    def wait(self, seconds: float) -> None:
        """And what the daemon does by itself then."""
        self.clock.wait(seconds)
        self.look()

    def look(self) -> None:
        """Where it is time to, at the clock and for keys that are gone."""
        if self.clock.up >= self.sealed.next_wakeup():
            self.sealed.tick()

    def hears(self, packet: bytes) -> bool:
        """Whether it has opened something to this IP packet."""
        before = self.opened
        if int.from_bytes(packet[22:24]) == SEALED_PORT:
            self.sealed._look_at([packet])
        elif self.packets and int.from_bytes(packet[22:24]) == FWKNOP_PORT:
            self.packets._look_at([packet])
        return self.opened != before

    def lets_in(self, port: int, source: str) -> bool:
        """Whether a connection that begins now would come through the table."""
        seen = Observation(raw(source), raw(HOST), socket.IPPROTO_TCP, 40000, port, 2, 40)
        return self.table.judge(seen).verdict.name == "PASSED"

    @property
    def refused(self) -> Counter[str]:
        """Of packets of all kinds, by reason, in all its lives."""
        documents: list[Any] = [each.document() for each in (self.packets, self.sealed) if each]
        return self._refused + sum((Counter(each["refused"]) for each in documents), Counter[str]())

    def bytes_on_disk(self) -> int:
        return sum(each.stat().st_size for each in (self.folder / "state").iterdir())

    # --- PacketHands ---

    def open_for_key(self, door: Door, source: Source, seconds: float, record: Record) -> bool:
        """Let it in."""
        assert record.key and not record.reason
        try:
            self.table.open(door.ports, source, seconds, "packet")
        except Unavailable:
            return False
        self.opened += 1
        return True

    def run_commands(self, door: Door, source: Source, seconds: float | None = None) -> None:
        """There are none."""
        raise AssertionError((door, address_text(source), seconds))

    def complain(self, line: str, kind: str = "", record: Record = NOTE) -> None:
        """Count it."""
        assert line and not record.seconds
        self.said[kind.rpartition(" ")[2] or line.partition(":")[0]] += 1


class Device:
    """Somebody's, with a clock of its own, which is ``lead`` seconds before what is right."""

    def __init__(self, signer: Signer, number: int, *, card: Card = messages.CARD, lead: float = 0.0) -> None:
        self.signer, self.card, self.lead = signer, card, lead
        self._device = number.to_bytes(16)
        self._last: Date | None = None

    def makes(self, right: float, source: str, *, doors: Sequence[str] = ("ssh",), lease: int = 0) -> bytes:
        """A knock for ``source``, made at that time; "": for whoever sends it."""
        date = following(self._last, round((right + self.lead) * SECOND))
        assert date is not None
        self._last = date
        return client.make(
            self.card,
            self.signer.public,
            self.signer.sign,
            doors=doors,
            source=SourceKind.V4 if source else SourceKind.OBSERVED,
            address=raw(source) if source else b"",
            lease=lease,
            ticket=Ticket(self._device, date, is_new=False),
            suite=Suite.X25519,
        )

    def packet(self, right: float, source: str, **asked: Any) -> bytes:  # noqa: ANN401 - as of ``makes``
        return udp_ip(SEALED_PORT, source, self.makes(right, source, **asked))
