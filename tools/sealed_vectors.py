"""Writes vectors/spa-v1/, sealed packets for whoever reads them: ``python -m tools.sealed_vectors``.

They are sealed by the second writer that the tests have, since the library draws its own random numbers, and
with one encapsulation: ML-KEM's ciphertext lies beside them, because nothing here makes it out of a seed. So
every file is the same each time. vectors/spa-v1/README.md says what is in a file.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.knockgate.spa import sealed_oracle as oracle
from tests.knockgate.spa import sealed_signers as signers

from tools.vector_files import write

__all__ = ["CLIENT_SECRET", "ENCAPSULATIONS", "FOLDER", "GATE", "MACHINE", "vectors"]

FOLDER = Path(__file__).resolve().parent.parent / "vectors" / "spa-v1"

GATE = oracle.Gate(bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96)))
_OTHER = oracle.Gate(bytes(range(32)), bytes(range(33, 65)), bytes(range(64, 96)))
_SHARE = X25519PrivateKey.from_private_bytes(bytes(range(96, 128))).public_key().public_bytes_raw()
_CIPHERTEXT = bytes.fromhex((FOLDER / "ml-kem-768.hex").read_text())
ENCAPSULATIONS = {oracle.XWING: _CIPHERTEXT + _SHARE, oracle.X25519: _SHARE}
_NAMES = {oracle.XWING: "x-wing", oracle.X25519: "x25519"}
_N = oracle.P256
#: What the device is made of.
CLIENT_SECRET, MACHINE = b"\x11" * 32, b"0123456789abcdef0123456789abcdef"
_DEVICE = oracle.device(CLIENT_SECRET, GATE.gate, MACHINE)


class Vector(NamedTuple):
    """One file."""

    name: str
    what: str
    datagram: bytes
    kem: int = oracle.X25519
    line: str | None = None  #: the public key whose signature is good, if one is


def vectors() -> Iterator[tuple[str, str]]:
    """Name and content of each file."""
    for vector in _all():
        reason = next(
            (each for each in ("not-ours", "not-sealed", "malformed") if vector.name.startswith(each)), None
        )
        content = {
            "what": vector.what,
            "suite": _NAMES[vector.kem],
            "xwing_seed": GATE.xwing_seed.hex(),
            "x25519_key": GATE.x25519_key.hex(),
            "card_secret": GATE.secret.hex(),
            "datagram": vector.datagram.hex(),
            "reason": reason,
            "message": oracle.read(vector.datagram, GATE) if reason is None else None,
            "public_key": vector.line,
        }
        yield f"{vector.name}.json", json.dumps(content, indent=1) + "\n"


def _all() -> Iterator[Vector]:
    yield from _right()
    yield from _not_ours()
    yield from _not_sealed()
    yield from _malformed()


# --- messages -----------------------------------------------------------------------------------------


def _message(**changes: bytes | int) -> bytes:
    """181 bytes, each of the fields by its name, and the signature made for them."""
    kind = changes.get("kind", 1)
    signer = kind if isinstance(kind, int) and kind in {1, 2, 3, 4} else 1
    fields: dict[str, bytes | int] = {
        "kind": 1,
        "source": 4,
        "era": 0,
        "lease": 0,
        "issued": 1_795_332_591_000_000_000,
        "device": _DEVICE,
        "address": bytes([198, 51, 100, 7]),
        "doors": b"ssh",
        "fingerprint": signers.fingerprint(signer),
        "flags": 5 if signer > 2 else 0,
        "counter": 7 if signer > 2 else 0,
    }
    fields |= changes
    sizes = dict(zip(_FIELDS, _SIZES, strict=True))
    head = b"".join(_octets(fields[name], sizes[name]) for name in _FIELDS[:9])
    flags, counter = _octets(fields["flags"], 1), _octets(fields["counter"], 4)
    if "signature" not in fields:
        counted = int.from_bytes(counter, "big")
        fields["signature"] = signers.sign(signer, GATE.gate + head, flags[0], counted)
    return head + _octets(fields["signature"], 64) + flags + counter


_FIELDS = (
    "kind",
    "source",
    "era",
    "lease",
    "issued",
    "device",
    "address",
    "doors",
    "fingerprint",
    "flags",
    "counter",
)
_SIZES = (1, 1, 2, 4, 8, 16, 16, 32, 32, 1, 4)


def _octets(value: bytes | int, size: int) -> bytes:
    return value.to_bytes(size, "big") if isinstance(value, int) else value.ljust(size, b"\0")


def _sealed(message: bytes, kem: int = oracle.X25519) -> bytes:
    return oracle.write(GATE, kem, ENCAPSULATIONS[kem], message)


def _address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


# --- right --------------------------------------------------------------------------------------------


def _right() -> Iterator[Vector]:
    for kind, name in enumerate(("ed25519", "ecdsa-p256", "sk-ed25519", "sk-ecdsa-p256"), 1):
        for kem, suite in _NAMES.items():
            datagram = _sealed(_message(kind=kind), kem)
            yield Vector(f"right-{name}-{suite}", "signed and sealed", datagram, kem, signers.line(kind))
    low, high = signers.line(1), bytes(31) + b"\1" + (_N - 1).to_bytes(32, "big")
    changes: list[tuple[str, str, dict[str, bytes | int]]] = [
        ("observed", "for whoever sends it", {"source": 0, "address": b""}),
        ("v4-0", "0.0.0.1: of its network 0.0.0.0 alone is no address", {"address": _address("0.0.0.1")}),
        ("v4-240", "240.0.0.1, which is reserved and no more", {"address": _address("240.0.0.1")}),
        ("v6", "one address of IPv6", {"source": 6, "address": _address("2001:db8::7")}),
        ("v6-network", "a /64", {"source": 7, "address": _address("2001:db8:0:7::")}),
        ("v6-site", "fec0::1, just behind what is link-local", {"source": 6, "address": _address("fec0::1")}),
        ("era", "the last era", {"era": 65535}),
        ("lease", "the longest lease", {"lease": 2**32 - 1}),
        ("issued-first", "a nanosecond after 1970 began", {"issued": 1}),
        ("issued-last", "the last nanosecond", {"issued": 2**63 - 1}),
        ("doors-short", "one letter", {"doors": b"a"}),
        ("doors-full", "32 characters, no zero behind them", {"doors": b"a-1,b,door-of-twenty-six-letters"}),
        ("doors-prefix", "ssh is before ssh-2, though - is before the comma", {"doors": b"ssh,ssh-2,sshd"}),
    ]
    for name, what, change in changes:
        yield Vector(f"right-{name}", what, _sealed(_message(**change)), line=low)
    token = _message(kind=3, flags=255, counter=2**32 - 1)
    yield Vector(
        "right-token", "all flags of a token, and its last counter", _sealed(token), line=signers.line(3)
    )
    token = _message(kind=3, flags=0, counter=0)
    yield Vector("right-token-untouched", "a token without touch", _sealed(token), line=signers.line(3))
    edge = _message(kind=2, signature=high)
    yield Vector("right-ecdsa-range", "r is 1, s is n - 1: spelled right, signed by nobody", _sealed(edge))
    nobody = _message(signature=b"\xff" * 64)
    yield Vector("right-ed25519-range", "Ed25519 has no range here: signed by nobody", _sealed(nobody))
    nobody = _message(fingerprint=bytes(32))
    yield Vector("right-fingerprint", "a key that nobody has", _sealed(nobody))


# --- wrong around the message -------------------------------------------------------------------------


def _not_ours() -> Iterator[Vector]:
    for kem, suite in _NAMES.items():
        right = _sealed(_message(), kem)
        end = len(right) - 197
        changes = [
            ("less", "the last byte is missing", right[:-1]),
            ("more", "a byte too many", right + b"\0"),
            ("tag", "a bit of the tag was changed", _flipped(right, 0)),
            ("encapsulation", "a bit of the encapsulation was changed", _flipped(right, 16)),
            ("message", "a bit of the sealed message was changed", _flipped(right, end)),
            ("last", "the last bit was changed", _flipped(right, len(right) - 1)),
            (
                "begun",
                "a tag of the first 32 bytes behind it alone",
                oracle.tag(GATE, right[16:48]) + right[16:],
            ),
            ("untagged", "the tag is zeros", bytes(16) + right[16:]),
        ]
        for name, what, datagram in changes:
            yield Vector(f"not-ours-{name}-{suite}", what, datagram, kem)
    right = _sealed(_message())
    other = oracle.Gate(GATE.xwing_seed, GATE.x25519_key, bytes(range(65, 97)))
    elsewhere = oracle.write(other, oracle.X25519, _SHARE, _message())
    yield Vector("not-ours-nothing", "nothing", b"")
    yield Vector("not-ours-card", "another card of the same gate", elsewhere)
    longer = right[16:] + b"\0"
    yield Vector("not-ours-length", "a byte too many, and a tag for it", oracle.tag(GATE, longer) + longer)
    unkeyed = hashlib.blake2s(right[16:], person=b"kg1-tag\0", digest_size=16).digest()
    yield Vector("not-ours-unkeyed", "a tag without key", unkeyed + right[16:])
    anonymous = hashlib.blake2s(right[16:], key=GATE.tag_key, digest_size=16).digest()
    yield Vector("not-ours-person", "a tag without person", anonymous + right[16:])
    direct = hashlib.blake2s(right[16:], key=GATE.secret, person=b"kg1-tag\0", digest_size=16).digest()
    yield Vector("not-ours-key", "a tag with the card's secret for a key", direct + right[16:])


def _flipped(octets: bytes, at: int) -> bytes:
    return octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]


def _not_sealed() -> Iterator[Vector]:
    for kem, suite in _NAMES.items():
        enc, secret, info = ENCAPSULATIONS[kem], oracle.shared(GATE, kem, ENCAPSULATIONS[kem]), GATE.info(kem)
        right = oracle.sealed(kem, secret, info, _message())
        unmasked = enc + right
        other = oracle.X25519 if kem == oracle.XWING else oracle.XWING
        texts = [
            (
                "aead",
                "the last bit was changed, and the tag is for that",
                enc,
                _flipped(right, len(right) - 1),
            ),
            ("encapsulation", "a bit of the encapsulation, and the tag is for that", _flipped(enc, 0), right),
            ("top-bit", "the bit that X25519 ignores", enc[:-1] + bytes([enc[-1] ^ 0x80]), right),
            (
                "info-version",
                "info says v2",
                enc,
                oracle.sealed(kem, secret, info.replace(b"v1", b"v2"), _message()),
            ),
            (
                "info-gate",
                "info names another gate",
                enc,
                oracle.sealed(kem, secret, _OTHER.info(kem), _message()),
            ),
            (
                "info-suite",
                "info names the other suite",
                enc,
                oracle.sealed(kem, secret, GATE.info(other), _message()),
            ),
            ("info-none", "info is empty", enc, oracle.sealed(kem, secret, b"", _message())),
            (
                "aad",
                "the gate's id is additional data",
                enc,
                oracle.sealed(kem, secret, info, _message(), GATE.gate),
            ),
            ("plain", "not sealed at all", enc, _message() + bytes(16)),
        ]
        for name, what, encapsulation, text in texts:
            yield Vector(f"not-sealed-{name}-{suite}", what, oracle.wrap(GATE, encapsulation, text), kem)
        yield Vector(f"not-sealed-unmasked-{suite}", "no mask", oracle.tag(GATE, unmasked) + unmasked, kem)
        yield Vector(f"not-sealed-zeros-{suite}", "an X25519 share of zeros", _of_zeros(kem), kem)
    passed = oracle.write(_OTHER, oracle.X25519, _SHARE, _message())
    yield Vector("not-sealed-gate", "for another gate, whose card has the same secret", passed)


def _of_zeros(kem: int) -> bytes:
    """Sealed by somebody who does not refuse what X25519 makes of zeros, which needs no secret."""
    share, zeros = bytes(32), bytes(32)
    public, alone = GATE.public
    secret = oracle.dhkem(zeros, share, alone)
    if kem == oracle.XWING:
        secret = oracle.xwing(GATE.private[0].decapsulate(_CIPHERTEXT), zeros, share, public[1184:])
    enc = ENCAPSULATIONS[kem][:-32] + share
    return oracle.wrap(GATE, enc, oracle.sealed(kem, secret, GATE.info(kem), _message()))


# --- wrong in the message -----------------------------------------------------------------------------


def _malformed() -> Iterator[Vector]:
    for name, what, message in _wrong_fields():
        yield Vector(f"malformed-{name}", what, _sealed(message))
    wrong = _sealed(_message(issued=0), oracle.XWING)
    yield Vector("malformed-issued-x-wing", "no time, in the other suite", wrong, oracle.XWING)


def _wrong_fields() -> Iterator[tuple[str, str, bytes]]:
    for kind in (0, 5, 255):
        yield f"kind-{kind}", f"there is no key of kind {kind}", _message(kind=kind)
    for source in (1, 2, 3, 5, 8, 255):
        yield f"source-{source}", f"there is no source of kind {source}", _message(source=source, address=b"")
    yield "issued-0", "no time", _message(issued=0)
    yield "issued-2-63", "a time that a signed number does not hold", _message(issued=2**63)
    yield "issued-most", "the last time of 64 bits", _message(issued=2**64 - 1)
    yield "device-zero", "no device", _message(device=b"")
    yield from _wrong_addresses()
    yield from _wrong_doors()
    good = bytes(31) + b"\1"
    order, above = _N.to_bytes(32, "big"), (_N + 1).to_bytes(32, "big")
    for kind in (2, 4):
        for name, what, number in (("0", "0", bytes(32)), ("n", "n", order), ("above", "n + 1", above)):
            yield f"r-{name}-{kind}", f"r is {what}", _message(kind=kind, signature=number + good)
            yield f"s-{name}-{kind}", f"s is {what}", _message(kind=kind, signature=good + number)
    for kind in (1, 2):
        yield f"flags-{kind}", "a flag without token", _message(kind=kind, flags=1)
        yield f"counter-{kind}", "a counter without token", _message(kind=kind, counter=1)


def _wrong_addresses() -> Iterator[tuple[str, str, bytes]]:
    for name, text in (
        ("v4-any", str(ipaddress.IPv4Address(0))), ("v4-loopback", "127.0.0.1"),
        ("v4-loopback-last", "127.255.255.255"),
        ("v4-link", "169.254.0.1"), ("v4-multicast", "224.0.0.1"), ("v4-multicast-last", "239.255.255.255"),
        ("v4-broadcast", "255.255.255.255"),
    ):  # fmt: skip
        yield name, text, _message(address=_address(text))
    for name, text in (
        ("v6-any", "::"), ("v6-loopback", "::1"), ("v6-link", "fe80::1"), ("v6-link-last", "febf::1"),
        ("v6-multicast", "ff02::1"), ("v6-mapped", "::ffff:198.51.100.7"),
        ("v6-mapped-any", "::ffff:0.0.0.0"),
    ):  # fmt: skip
        yield name, text, _message(source=6, address=_address(text))
    for name, text in (
        ("v6-network-any", "::"), ("v6-network-link", "fe80::"), ("v6-network-multicast", "ff02::"),
        ("v6-network-host", "2001:db8:0:7::1"), ("v6-network-72", "2001:db8:0:7:100::"),
    ):  # fmt: skip
        yield name, f"{text} as a /64", _message(source=7, address=_address(text))
    one, other = _address("198.51.100.7"), _address("2001:db8::7")
    yield "observed-address", "an address, and whoever sends it", _message(source=0, address=one)
    yield "observed-last", "the last byte, where no address is", _message(source=0, address=bytes(15) + b"\1")
    yield "v4-more", "a byte behind an address of IPv4", _message(address=one + b"\1")
    yield "v4-last", "the last byte behind an address of IPv4", _message(address=one + bytes(11) + b"\1")
    yield "v4-as-v6", "an address of IPv6 as one of IPv4", _message(source=4, address=other)


def _wrong_doors() -> Iterator[tuple[str, str, bytes]]:
    for name, what, doors in (
        ("none", "no door", b""), ("upper", "capitals", b"SSH"), ("digit", "a digit first", b"2fa"),
        ("hyphen", "a hyphen first", b"-ssh"), ("underscore", "an underscore", b"my_door"),
        ("dot", "a dot", b"a.b"),
        ("space", "a space behind the comma", b"ssh, web"), ("space-last", "a space at the end", b"ssh "),
        ("newline", "a newline at the end", b"ssh\n"), ("comma-first", "a comma first", b",ssh"),
        ("comma-last", "a comma at the end", b"ssh,"), ("comma-twice", "two commas", b"ssh,,web"),
        ("comma", "a comma alone", b","), ("unsorted", "not sorted", b"web,ssh"),
        ("prefix", "a longer name before its beginning", b"ssh-2,ssh"),
        ("repeated", "one of them twice", b"ssh,ssh"),
        ("zero-within", "a zero and more", b"ssh\0web"), ("zero-first", "a zero first", b"\0ssh"),
        ("after", "something in the last byte", b"ssh".ljust(31, b"\0") + b"x"),
        ("cut", "a comma in the last byte", b"a".ljust(31, b"a") + b","),
        ("high", "a byte above 127", b"ss\xe8"), ("utf-8", "a letter with an accent", "sésame".encode()),
    ):  # fmt: skip
        yield f"doors-{name}", what, _message(doors=doors)


if __name__ == "__main__":
    write(FOLDER, vectors())
