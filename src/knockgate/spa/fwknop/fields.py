"""What a packet says: its fields, as values and as text.

The rules are ``Message``'s, for what is sent and for what has come: there is one place that knows them.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass

from knockgate.errors import Reason, Refused
from knockgate.model import Port, Protocol, address_text
from knockgate.spa.fwknop import text64

__all__ = ["LONGEST", "SHORTEST", "USERNAME", "Message", "MessageType", "decode", "encode"]


class MessageType(enum.IntEnum):
    """What is asked for, and so which fields there are."""

    COMMAND = 0
    ACCESS = 1
    NAT_ACCESS = 2
    CLIENT_TIMEOUT_ACCESS = 3
    CLIENT_TIMEOUT_NAT_ACCESS = 4
    LOCAL_NAT_ACCESS = 5
    CLIENT_TIMEOUT_LOCAL_NAT_ACCESS = 6

    @property
    def has_nat(self) -> bool:
        """Whether it names another host's port."""
        return self in (2, 4, 5, 6)

    @property
    def has_timeout(self) -> bool:
        """Whether it names a time."""
        return self in (3, 4, 6)


#: Characters of the fields at least and at most: nonce, user, seconds, version, type, message; then NAT,
#: server auth and timeout.
SHORTEST = len("NNNNNNNNNNNNNNNN:UU:0:3:0:") + text64.length(len("1::,x"))
LONGEST = sum((16, 1 + 64, 1 + 12, 1 + 8, 1 + 1, 1 + 256, 1 + text64.length(128), 1 + 64, 1 + 5))

_NUMBER = re.compile(rb"0|[1-9][0-9]{0,11}")
_PORT = re.compile(rb"(tcp|udp)/([1-9][0-9]{0,4})")
_NONCE = re.compile(r"[0-9]{16}")
_VERSION = re.compile(r"[0-9.]{1,8}")
#: What a packet can bear for a user's name.
USERNAME = re.compile(r"[ !#$%&'()\-.0-9@A-Z^_`a-z{}~]{1,48}")
_HOST = re.compile(r"[0-9A-Za-z._-]+")
_MAPPED = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One packet's fields. ValueError with a text for people where fwknop has no way to say it.

    IPv6 is our extension: fwknopd refuses it.
    """

    nonce: str  #: 16 decimal digits
    username: str  #: 1 to 48 ASCII characters, without those that fwknop leaves out
    issued: int  #: seconds since 1970
    type: MessageType
    address: bytes  #: 4 or 16 bytes; 0.0.0.0: who sent it
    ports: tuple[Port, ...] = ()  #: for every type but COMMAND
    command: bytes = b""  #: for COMMAND
    nat: tuple[str, int] | None = None  #: host and port, where the type has them
    server_auth: bytes | None = None  #: 1 to 48 bytes; nobody uses them
    timeout: int | None = None  #: seconds asked for, where the type has them; 0 asks for none in particular
    version: str = "3.0.0"

    def __post_init__(self) -> None:
        if not _NONCE.fullmatch(self.nonce):
            raise ValueError("the nonce must be 16 digits")
        if not USERNAME.fullmatch(self.username):
            raise ValueError(
                f"{self.username!r} cannot be sent as a user name: 1 to 48 ASCII characters, "
                'and none of " / \\ [ ] : ; | = , + * ? < >'
            )
        if not 0 <= self.issued < 10**12:
            raise ValueError("the time must be between 1970 and the year 33658")
        if not _VERSION.fullmatch(self.version):
            raise ValueError("the version must be 1 to 8 digits and dots")
        self._check_address()
        self._check_request()
        self._check_nat()
        if self.server_auth is not None and not 1 <= len(self.server_auth) <= 48:
            raise ValueError("what authenticates to the server must have 1 to 48 bytes")
        if (self.timeout is not None) != self.type.has_timeout:
            raise ValueError("a time stands in the types that have one, and in no other")
        if self.timeout is not None and not 0 <= self.timeout <= 65536:
            raise ValueError(f"{self.timeout} seconds cannot be asked for: at most 65536")

    def _check_address(self) -> None:
        if len(self.address) not in (4, 16):
            raise ValueError("an address has 4 or 16 bytes")
        if len(self.address) == 16 and (not any(self.address) or self.address.startswith(_MAPPED)):
            raise ValueError(f"{address_text(self.address)} is no address of IPv6 to let in")

    def _check_request(self) -> None:
        if self.type == MessageType.COMMAND:
            if not self.command or b"\0" in self.command or self.ports:
                raise ValueError("a command must have at least one byte, none of them zero, and no ports")
        elif not self.ports or self.command:
            raise ValueError("at least one port must be asked for, and no command")
        if len(_request(self)) > 192:
            raise ValueError("too much is asked for: fwknop's packet has room for 192 characters")

    def _check_nat(self) -> None:
        if (self.nat is not None) != self.type.has_nat:
            raise ValueError("a NAT target stands in the types that have one, and in no other")
        if self.nat is None:
            return
        host, port = self.nat
        if not _HOST.fullmatch(host) or not 1 <= port <= 65535 or len(_nat(host, port)) > 128:
            raise ValueError(f"{host!r}, port {port} cannot be sent as a NAT target")


def encode(message: Message) -> bytes:
    """The fields with colons between them, without the hash at the end."""
    fields = [
        message.nonce.encode(),
        text64.encode(message.username.encode()),
        b"%d" % message.issued,
        message.version.encode(),
        b"%d" % message.type,
        text64.encode(_request(message)),
    ]
    if message.nat is not None:
        fields.append(text64.encode(_nat(*message.nat)))
    if message.server_auth is not None:
        fields.append(text64.encode(message.server_auth))
    if message.timeout is not None:
        fields.append(b"%d" % message.timeout)
    return b":".join(fields)


def decode(text: bytes) -> Message:
    """What ``encode`` made into ``text``; raises Refused."""
    try:
        return _decode(text)
    except ValueError:
        raise Refused(Reason.MALFORMED) from None


def _decode(text: bytes) -> Message:
    nonce, username, issued, version, number, request, *more = text.split(b":")
    kind = MessageType(_number(number))
    address, ports, command = _read_request(text64.decode(request), kind)
    nat = _read_nat(text64.decode(more.pop(0))) if more and kind.has_nat else None
    timeout = _number(more.pop()) if more and kind.has_timeout else None
    server_auth = text64.decode(more.pop()) if more else None
    if more:
        raise ValueError("more fields than this type has")
    return Message(
        nonce=nonce.decode("ascii"),
        username=text64.decode(username).decode("ascii"),
        issued=_number(issued),
        type=kind,
        address=address,
        ports=ports,
        command=command,
        nat=nat,
        server_auth=server_auth,
        timeout=timeout,
        version=version.decode("ascii"),
    )


def _number(text: bytes) -> int:
    """Decimal, without sign, junk or leading zeros; ValueError."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("no number")
    return int(text)


def _request(message: Message) -> bytes:
    address = address_text(message.address).encode()
    if message.type == MessageType.COMMAND:
        return address + b"," + message.command
    return b",".join([address, *(str(port).encode() for port in message.ports)])


def _read_request(text: bytes, kind: MessageType) -> tuple[bytes, tuple[Port, ...], bytes]:
    address, comma, rest = text.partition(b",")
    if not comma:
        raise ValueError("nothing asked for")
    if kind == MessageType.COMMAND:
        return _read_address(address), (), rest
    return _read_address(address), tuple(_read_port(port) for port in rest.split(b",")), b""


def _read_address(text: bytes) -> bytes:
    address = ipaddress.ip_address(text.decode("ascii")).packed
    if address_text(address).encode() != text:
        raise ValueError("not in the canonical form")
    return address


def _read_port(text: bytes) -> Port:
    match = _PORT.fullmatch(text)
    if not match:
        raise ValueError("no port")
    return Port(Protocol.TCP if match[1] == b"tcp" else Protocol.UDP, int(match[2]))


def _nat(host: str, port: int) -> bytes:
    return f"{host},{port}".encode()


def _read_nat(text: bytes) -> tuple[str, int]:
    host, _, port = text.partition(b",")
    return host.decode("ascii"), _number(port)
