"""What one stanza of access.conf says."""

from __future__ import annotations

from dataclasses import dataclass, field

from knockgate.config.fwknop.commands import Cycle
from knockgate.config.fwknop.findings import Place
from knockgate.config.readers import Network
from knockgate.model import Port
from knockgate.spa.fwknop import Hash, Mode, Secret

__all__ = ["LEASE", "MOST", "Stanza"]

#: What fwknopd takes where none is given, seconds.
LEASE, MOST = 30, 300


@dataclass(slots=True)
class Stanza:
    """What one stanza says. Times in seconds; ``lease`` is for packets that ask for none."""

    number: int
    place: Place
    senders: tuple[Network, ...] = ()
    open_ports: tuple[Port, ...] | None = None  #: None: any
    restricted: tuple[Port, ...] = ()
    key: bytes = field(default=b"", repr=False)
    hmac_key: bytes = field(default=b"", repr=False)
    hmac: Hash | None = None
    mode: Mode = Mode.CBC
    lease: int = LEASE
    most: int = MOST
    expires: int = 0  #: seconds since 1970; 0: never
    username: str = ""
    observed: bool = True
    cmd_open: str = ""
    cmd_close: str = ""
    cmd_timer: int = 0
    uses_gpg: bool = False

    @property
    def cycle(self) -> Cycle | None:
        """The commands that it runs instead of opening ports."""
        close = "" if self.cmd_close.startswith("NONE") else self.cmd_close
        return Cycle(self.cmd_open, close) if self.cmd_open else None

    @property
    def secret(self) -> Secret:
        """Raises ValueError with a text for people where a length is wrong."""
        if not self.hmac_key:
            return Secret(self.key, mode=self.mode)
        return Secret(self.key, self.hmac_key, self.hmac or Hash.SHA256, self.mode)
