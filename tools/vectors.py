"""Writes vectors/fwknop/, packets for whoever reads or makes fwknop's: ``python -m tools.vectors``.

vectors/fwknop/README.md says what is in a file.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from knockgate.errors import Reason
from knockgate.model import Port, Protocol, address_text
from knockgate.spa.fwknop import Hash, Message, MessageType, Mode, Secret, fields, seal, text64
from knockgate.spa.fwknop.sealing import seal_octets, seal_text
from knockgate.spa.fwknop.secret import hashed
from tools.vector_files import write

__all__ = ["FOLDER", "vectors"]

FOLDER = Path(__file__).resolve().parent.parent / "vectors" / "fwknop"

_SALT = bytes(range(1, 9))
_SECRET = Secret(b"testkeyone", b"testhmackey")
_BARE = Secret(b"testkeyone")
_MESSAGE = Message(
    nonce="1234567890123456",
    username="alice",
    issued=1795332591,
    type=MessageType.ACCESS,
    address=bytes([10, 0, 0, 5]),
    ports=(Port(Protocol.TCP, 22),),
)
_RIGHT = seal(_MESSAGE, _SECRET, salt=_SALT)
_TEXT = fields.encode(_MESSAGE)
_REQUEST = text64.encode(b"10.0.0.5,tcp/22")
_NAT = text64.encode(b"10.0.0.9,22")

Vector = tuple[str, str, bytes, Secret, Reason | None]


def vectors() -> Iterator[tuple[str, str]]:
    """Name and content of each file."""
    for name, what, payload, secret, reason, message in _all():
        said = None if message is None else _shown(message)
        hmac_key = None if secret.hmac_key is None else base64.b64encode(secret.hmac_key).decode()
        vector = {
            "what": what,
            "key": base64.b64encode(secret.key).decode(),
            "hmac_key": hmac_key,
            "hmac": secret.hmac.value,
            "mode": secret.mode.value,
            "payload": payload.decode("latin-1"),
            "reason": None if reason is None else reason.value,
            "message": said,
        }
        yield f"{name}.json", json.dumps(vector, indent=1) + "\n"


def _all() -> Iterator[tuple[str, str, bytes, Secret, Reason | None, Message | None]]:
    for name, what, message, secret in _right():
        text = fields.encode(message)
        yield name, what, _sealed(text, secret), secret, None, message
    for name, what, payload in _wrong_outside():
        yield name, what, payload, _SECRET, _REASONS[name.split("-")[0]], None
    for name, what, payload, secret in _wrong_seal():
        yield name, what, payload, secret, _REASONS[name.split("-")[0]], None
    for name, what, text in _wrong_digest():
        yield f"digest-{name}", what, seal_text(text, _SECRET, salt=_SALT), _SECRET, Reason.BAD_DIGEST, None
    for name, what, text in _wrong_fields():
        yield f"field-{name}", what, _sealed(text, _SECRET), _SECRET, Reason.MALFORMED, None


def _sealed(text: bytes, secret: Secret) -> bytes:
    """The payload of any fields, with the right hash."""
    return seal_text(text + b":" + text64.encode(hashed(text, Hash.SHA256)), secret, salt=_SALT)


#: By the first word of the name.
_REASONS = {
    "length": Reason.BAD_LENGTH,
    "base64": Reason.NOT_BASE64,
    "hmac": Reason.NOT_OURS,
    "seal": Reason.NOT_SEALED,
    "digest": Reason.BAD_DIGEST,
}


def _right() -> Iterator[tuple[str, str, Message, Secret]]:
    for kind in MessageType:
        ports = () if kind is MessageType.COMMAND else _MESSAGE.ports
        message = dataclasses.replace(
            _MESSAGE,
            type=kind,
            ports=ports,
            command=b"" if ports else b"uptime\n",
            nat=("10.0.0.9", 22) if kind.has_nat else None,
            timeout=60 if kind.has_timeout else None,
        )
        yield f"right-type-{kind.value}", kind.name.lower().replace("_", " "), message, _SECRET
    timed = dataclasses.replace(_MESSAGE, type=MessageType.CLIENT_TIMEOUT_ACCESS, timeout=0)
    many = tuple(Port(Protocol.UDP, number) for number in (1, 65535, 1))
    for name, what, message in (
        ("after-2038", "2**31 seconds", dataclasses.replace(_MESSAGE, issued=1 << 31)),
        ("after-2106", "2**32 + 1 seconds", dataclasses.replace(_MESSAGE, issued=(1 << 32) + 1)),
        ("ipv6", "an address that fwknop has no room for", dataclasses.replace(_MESSAGE, address=_IPV6)),
        ("sender", "0.0.0.0: who sent it", dataclasses.replace(_MESSAGE, address=bytes(4))),
        ("broadcast", "255.255.255.255", dataclasses.replace(_MESSAGE, address=b"\xff" * 4)),
        ("ports", "three ports, one of them twice", dataclasses.replace(_MESSAGE, ports=many)),
        (
            "user",
            "all that a name can have",
            dataclasses.replace(_MESSAGE, username=" !#$%&'()-.09@AZ^_`az{}~"),
        ),
        ("version", "an older client", dataclasses.replace(_MESSAGE, version="2.0.1")),
        ("server-auth", "the field that nobody uses", dataclasses.replace(_MESSAGE, server_auth=b"auth")),
        ("timeout-0", "no time in particular", timed),
        ("timeout-most", "the longest time", dataclasses.replace(timed, timeout=65536)),
    ):
        yield f"right-{name}", what, message, _SECRET
    many = tuple(Port(Protocol.TCP, number) for number in range(101, 119))
    yield "right-long", "more ports than fwknopd takes", dataclasses.replace(_MESSAGE, ports=many), _SECRET
    for mode in Mode:
        yield f"right-mode-{mode.value}", "without HMAC", _MESSAGE, Secret(b"testkeyone", mode=mode)
    for hmac in Hash:
        secret = Secret(b"testkeyone", b"testhmackey", hmac)
        yield f"right-hmac-{hmac.value}", "authenticated with another hash", _MESSAGE, secret


_IPV6 = bytes.fromhex("20010db8000000000000000000000005")


def _wrong_outside() -> Iterator[tuple[str, str, bytes]]:
    tag, sealed = _RIGHT[-43:], _RIGHT[:-43]
    yield "length-0", "nothing", b""
    yield "length-less", "a character is missing", _RIGHT[:-1]
    yield "length-more", "a character too many", _RIGHT + b"A"
    yield "length-newline", "a newline at the end", _RIGHT + b"\n"
    yield "length-prefix", "with the characters that are not sent", b"U2FsdGVkX1" + _RIGHT
    yield (
        "length-http",
        "fwknop's form over HTTP",
        b"GET /" + _RIGHT + b" HTTP/1.1\r\nUser-Agent: Fwknop/2.6\r\n",
    )
    yield "hmac-none", "the HMAC is missing", sealed
    yield "base64-padding", "= in the place of the last character", _RIGHT[:-1] + b"="
    yield "base64-spare-bits-hmac", "spare bits set at the end of the HMAC", _RIGHT[:-1] + b"Z"
    yield "base64-url", "the other alphabet, as fwknop has it over HTTP", b"8" + b"-_" + _RIGHT[3:]
    yield "base64-space", "a space within", _RIGHT[:50] + b" " + _RIGHT[51:]
    yield "base64-high", "a byte above 127", _RIGHT[:50] + b"\xe9" + _RIGHT[51:]
    yield "base64-first", "a first character that nothing sealed has", b"7" + _RIGHT[1:]
    yield "hmac-sealed", "a bit of what is sealed was changed", sealed[:50] + b"V" + _RIGHT[51:]
    yield "hmac-tag", "a bit of the HMAC was changed", sealed + b"e" + tag[1:]
    yield "hmac-key", "another HMAC key", seal(_MESSAGE, Secret(b"testkeyone", b"another"), salt=_SALT)
    other = Secret(b"testkeyone", b"testhmackey", Hash.SHA3_256)
    yield "hmac-hash", "another hash with an HMAC of that length", seal(_MESSAGE, other, salt=_SALT)


def _wrong_seal() -> Iterator[tuple[str, str, bytes, Secret]]:
    # What no HMAC protects can be said in many ways, if one lets it.
    bare = seal(_MESSAGE, dataclasses.replace(_BARE, key=b"testkeyone"), salt=_SALT)
    grown = dataclasses.replace(_MESSAGE, ports=_MESSAGE.ports * 4)
    loose = seal(grown, _BARE, salt=_SALT)
    yield (
        "base64-spare-bits",
        "spare bits set at the end of what is sealed",
        loose[:-1] + _next(loose[-1:]),
        _BARE,
    )
    yield (
        "digest-no-hmac",
        "a bit of it was changed, and there is no HMAC",
        bare[:60] + _next(bare[60:61]) + bare[61:],
        _BARE,
    )
    wrong = Secret(b"another", b"testhmackey")
    yield "seal-key", "sealed with another key", seal(_MESSAGE, wrong, salt=_SALT), _SECRET
    wrong = dataclasses.replace(_SECRET, mode=Mode.CFB)
    yield "seal-mode", "sealed in another mode", seal(_MESSAGE, wrong, salt=_SALT), _SECRET
    digest = b":" + text64.encode(hashed(_TEXT, Hash.SHA256))
    for name, what, end in (
        ("zero", "padded with zeros", bytes(4)),
        ("uneven", "padded with different bytes", b"\4\3\4\4"),
        ("long", "padded with more than a block", b"\x11" * 4),
        ("none", "not padded", b""),
    ):
        plain = (_TEXT + digest + end).ljust(112 - len(end), b"x") if end else _TEXT + digest + b":abc"
        yield f"seal-padding-{name}", what, seal_octets(plain, _SECRET, salt=_SALT), _SECRET
    for name, what, text in (
        ("short", "a nonce of 15 digits", _TEXT[1:]),
        ("long", "a nonce of 17 digits", b"1" + _TEXT),
        ("letter", "a nonce with a letter", b"a" + _TEXT[1:]),
    ):
        yield f"seal-nonce-{name}", what, _sealed(text, _SECRET), _SECRET


def _next(character: bytes) -> bytes:
    """The character whose bits are one more."""
    at = text64.ALPHABET.index(character) + 1
    return text64.ALPHABET[at : at + 1]


def _wrong_digest() -> Iterator[tuple[str, str, bytes]]:
    right = hashed(_TEXT, Hash.SHA256)
    digest = text64.encode(right)
    yield "other", "of something else", _TEXT + b":" + text64.encode(hashed(_TEXT + b"x", Hash.SHA256))
    yield "none", "there is none", _TEXT
    yield "empty", "it is empty", _TEXT + b":"
    yield "hex", "in hex", _TEXT + b":" + right.hex().encode()
    yield "padding", "with = at the end", _TEXT + b":" + digest + b"="
    yield "spare-bits", "with spare bits set", _TEXT + b":" + digest[:-1] + _next(digest[-1:])
    yield (
        "colon",
        "of the fields with the colon behind them",
        _TEXT + b":" + text64.encode(hashed(_TEXT + b":", Hash.SHA256)),
    )


def _wrong_fields() -> Iterator[tuple[str, str, bytes]]:
    def text(**changes: bytes) -> bytes:
        values = {
            "nonce": b"1234567890123456",
            "user": b"YWxpY2U",
            "issued": b"1795332591",
            "version": b"3.0.0",
            "kind": b"1",
            "request": _REQUEST,
        }
        return b":".join((values | changes).values())

    def asks(request: str, kind: bytes = b"1") -> bytes:
        return text(kind=kind, request=text64.encode(request.encode("latin-1")))

    yield "type-junk", "type 1x", text(kind=b"1x")
    yield "type-space", "type 1 after a space", text(kind=b" 1")
    yield "type-zero", "type 01", text(kind=b"01")
    yield "type-letter", "type x", text(kind=b"x")
    yield "type-7", "there is no type 7", text(kind=b"7")
    yield "type-negative", "type -1", text(kind=b"-1")
    yield "type-empty", "no type", text(kind=b"")
    yield "time-junk", "a letter after the time", text(issued=b"179533259x")
    yield "time-letter", "a letter for the time", text(issued=b"x")
    yield "time-zero", "the time begins with 0", text(issued=b"01795332591")
    yield "time-plus", "the time has a sign", text(issued=b"+1795332591")
    yield "time-long", "a time of 13 digits", text(issued=b"1795332591000")
    yield "version-empty", "no version", text(version=b"")
    yield "version-long", "a version of 9 characters", text(version=b"3.0.0.0.0")
    yield "version-letters", "a version of letters", text(version=b"abc")
    yield "fields-few", "type 1 without its message", text().rpartition(b":")[0]
    yield "fields-empty", "type 1 and an empty field", text(more=b"")
    yield "fields-many", "type 1 and two more fields", text(more=b"YXV0aA", most=b"YXV0aA")
    yield "timeout-none", "type 3 without its time", text(kind=b"3")
    yield "timeout-most", "65537 seconds", text(kind=b"3", timeout=b"65537")
    yield "timeout-zero", "a time that begins with 0", text(kind=b"3", timeout=b"060")
    yield "timeout-junk", "a letter after the time", text(kind=b"3", timeout=b"60x")
    yield "nat-none", "type 2 without its target", text(kind=b"2")
    yield "nat-port", "a target with port 0", text(kind=b"2", nat=text64.encode(b"10.0.0.9,0"))
    yield "nat-host", "a target that is no host name", text(kind=b"2", nat=text64.encode(b"a$b,22"))
    yield "nat-commas", "a target with two commas", text(kind=b"2", nat=text64.encode(b"a,b,22"))
    yield "nat-long", "a target of 129 characters", text(kind=b"2", nat=text64.encode(b"h" * 126 + b",22"))
    yield "nat-and-timeout", "type 4 without its time", text(kind=b"4", nat=_NAT)
    yield "auth-long", "49 bytes of server auth", text(auth=text64.encode(b"x" * 49))
    for name, what, user in (
        ("empty", "no user", b""),
        ("long", "a user of 49 characters", text64.encode(b"a" * 49)),
        ("slash", "a user with a slash", text64.encode(b"a/b")),
        ("zero", "a user with a zero byte", text64.encode(b"alice\0x")),
        ("letter", "a user with a letter that is not ASCII", text64.encode("é".encode("latin-1"))),
        ("padding", "a user in base64 with =", b"YWxpY2U="),
        ("spare-bits", "a user in base64 with spare bits set", b"YWxpY2V"),
        ("single", "a user in base64 with one character too many", b"YWxpY2Vh" + b"A"),
    ):
        yield f"user-{name}", what, text(user=user)
    for name, what, request in (
        ("port-0", "port 0", "10.0.0.5,tcp/0"),
        ("port-65536", "port 65536", "10.0.0.5,tcp/65536"),
        ("port-zero", "a port that begins with 0", "10.0.0.5,tcp/00022"),
        ("port-upper", "a protocol in capitals", "10.0.0.5,TCP/22"),
        ("port-protocol", "no protocol", "10.0.0.5,tcpx/22"),
        ("port-icmp", "a protocol without ports", "10.0.0.5,icmp/8"),
        ("port-space", "a space before the protocol", "10.0.0.5, tcp/22"),
        ("port-comma", "a comma at the end", "10.0.0.5,tcp/22,"),
        ("port-none", "an address alone", "10.0.0.5"),
        ("address-zero", "numbers of an address that begin with 0", "010.00.0.05,tcp/22"),
        ("address-256", "an address with 256", "10.0.0.256,tcp/22"),
        ("address-three", "an address of three numbers", "10.0.5,tcp/22"),
        ("address-name", "a host name", "localhost,tcp/22"),
        ("ipv6-any", "IPv6's way to name nobody", "::,tcp/22"),
        ("ipv6-upper", "IPv6 in capitals", "2001:DB8::5,tcp/22"),
        ("ipv6-long", "IPv6 with zeros", "2001:db8:0:0::5,tcp/22"),
        ("ipv6-mapped", "IPv4 as IPv6", "::ffff:10.0.0.5,tcp/22"),
        ("ipv6-mapped-hex", "IPv4 as IPv6, in hex", "::ffff:a00:5,tcp/22"),
        ("ipv6-scope", "IPv6 with a scope", "fe80::5%eth0,tcp/22"),
        ("request-long", "193 characters", "10.0.0.5,tcp/22222," + ",".join(["tcp/22"] * 25)),
    ):
        yield name, what, asks(request)
    yield "command-empty", "a command of no length", asks("10.0.0.5,", b"0")
    yield "command-zero", "a command with a zero byte", asks("10.0.0.5,up\0time", b"0")
    yield (
        "request-padding",
        "a message in base64 with =",
        text(request=text64.encode(b"10.0.0.15,tcp/22") + b"=="),
    )


def _shown(message: Message) -> dict[str, object]:
    return {
        "nonce": message.nonce,
        "username": message.username,
        "issued": message.issued,
        "version": message.version,
        "type": message.type.value,
        "address": address_text(message.address),
        "ports": [str(port) for port in message.ports],
        "command": message.command.decode("latin-1"),
        "nat": None if message.nat is None else list(message.nat),
        "server_auth": None if message.server_auth is None else message.server_auth.decode("latin-1"),
        "timeout": message.timeout,
    }


if __name__ == "__main__":
    write(FOLDER, vectors())
