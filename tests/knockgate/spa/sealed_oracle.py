"""A second reader and writer of sealed packets, slow and obvious, out of docs/spec/spa-v1.md alone.

HPKE (RFC 9180) and X-Wing are put together here from hashes, X25519, ML-KEM-768 and ChaCha20-Poly1305, so
that those of the library are checked too. Unlike the library this can seal with keys that are given.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
import string
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

XWING, X25519 = 0x647A, 0x0020
_ENCAPSULATIONS = {XWING: 1120, X25519: 32}
_NO_HOSTS = [
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/32", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
        *("::/128", "::1/128", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
    )
]
P256 = int("115792089210356248762697446949407573529996955224135760342422259061068512044369")


class No(Exception):
    """It is refused, for the reason in ``args[0]``."""


@dataclass(frozen=True)
class Gate:
    """What a gate keeps: its two seeds and the secret of one card."""

    xwing_seed: bytes
    x25519_key: bytes
    secret: bytes

    @functools.cached_property
    def private(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey, X25519PrivateKey]:
        expanded = hashlib.shake_256(self.xwing_seed).digest(96)
        return (
            MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
            X25519PrivateKey.from_private_bytes(expanded[64:]),
            X25519PrivateKey.from_private_bytes(self.x25519_key),
        )

    @functools.cached_property
    def public(self) -> tuple[bytes, bytes]:
        """X-Wing's public key, 1216 bytes, and the other one, 32."""
        mlkem, half, alone = (key.public_key().public_bytes_raw() for key in self.private)
        return mlkem + half, alone

    @functools.cached_property
    def gate(self) -> bytes:
        return hashlib.sha256(b"knockgate gate v1" + b"\x00" + b"".join(self.public)).digest()

    @property
    def tag_key(self) -> bytes:
        return hashlib.blake2s(b"", key=self.secret, person=b"kg1-tagk", digest_size=32).digest()

    @property
    def mask_key(self) -> bytes:
        return hashlib.blake2s(b"", key=self.secret, person=b"kg1-mskk", digest_size=32).digest()

    def info(self, kem: int) -> bytes:
        return b"knockgate spa v1" + b"\x00" + _two(kem) + _two(1) + _two(3) + self.gate

    def card(self) -> str:
        """Base64 with a pencil."""
        octets = b"".join(self.public) + self.secret
        alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
        bits = "".join(f"{octet:08b}" for octet in octets) + "00"
        letters = "".join(alphabet[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))
        return "knockgate-card-v1 " + letters + "="


def device(client_secret: bytes, gate: bytes, machine: bytes) -> bytes:
    return hashlib.blake2s(gate + machine, key=client_secret, person=b"kg1-dev\x00", digest_size=16).digest()


# --- X-Wing and HPKE ----------------------------------------------------------------------------------


def shared(gate: Gate, kem: int, enc: bytes) -> bytes:
    """What HPKE's Decap returns; ValueError where X25519 gives zeros."""
    mlkem, half, alone = gate.private
    if kem == XWING:
        share = X25519PublicKey.from_public_bytes(enc[1088:])
        return xwing(mlkem.decapsulate(enc[:1088]), half.exchange(share), enc[1088:], gate.public[0][1184:])
    share = X25519PublicKey.from_public_bytes(enc)
    return dhkem(alone.exchange(share), enc, gate.public[1])


def xwing(of_mlkem: bytes, of_x25519: bytes, share: bytes, public: bytes) -> bytes:
    """draft-connolly-cfrg-xwing-kem, section 5.3."""
    return hashlib.sha3_256(of_mlkem + of_x25519 + share + public + b"\\.//^\\").digest()


def dhkem(dh: bytes, enc: bytes, public: bytes) -> bytes:
    """RFC 9180, section 4.1: ExtractAndExpand."""
    suite = b"KEM" + _two(X25519)
    return _expand(_extract(b"", b"eae_prk", dh, suite), b"shared_secret", enc + public, 32, suite)


def key_schedule(kem: int, secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """RFC 9180, section 5.1, mode base: the key and the nonce of the first message."""
    suite = b"HPKE" + _two(kem) + _two(1) + _two(3)
    context = b"\x00" + _extract(b"", b"psk_id_hash", b"", suite) + _extract(b"", b"info_hash", info, suite)
    prk = _extract(secret, b"secret", b"", suite)
    return _expand(prk, b"key", context, 32, suite), _expand(prk, b"base_nonce", context, 12, suite)


def _extract(salt: bytes, label: bytes, ikm: bytes, suite: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def _expand(prk: bytes, label: bytes, info: bytes, length: int, suite: bytes) -> bytes:
    """For up to 32 bytes, which are one block."""
    return hmac.digest(prk, _two(length) + b"HPKE-v1" + suite + label + info + b"\x01", "sha256")[:length]


def _two(number: int) -> bytes:
    return bytes([number // 256, number % 256])


# --- the datagram -------------------------------------------------------------------------------------


def write(gate: Gate, kem: int, enc: bytes, message: bytes) -> bytes:
    """A datagram with any message at all, sealed with an encapsulation that is given."""
    return wrap(gate, enc, sealed(kem, shared(gate, kem, enc), gate.info(kem), message))


def sealed(kem: int, secret: bytes, info: bytes, message: bytes, aad: bytes = b"") -> bytes:
    """What HPKE's Seal returns, with any flaw."""
    key, nonce = key_schedule(kem, secret, info)
    return ChaCha20Poly1305(key).encrypt(nonce, message, aad)


def wrap(gate: Gate, enc: bytes, text: bytes) -> bytes:
    """Mask and tag."""
    mask = hashlib.shake_256(gate.mask_key + text).digest(len(enc))
    rest = bytes(a ^ b for a, b in zip(enc, mask, strict=True)) + text
    return tag(gate, rest) + rest


def tag(gate: Gate, rest: bytes) -> bytes:
    return hashlib.blake2s(rest, key=gate.tag_key, person=b"kg1-tag\x00", digest_size=16).digest()


def read(datagram: bytes, gate: Gate, enabled: tuple[int, ...] = (XWING, X25519)) -> dict[str, object]:
    """The fields by their names; raises No."""
    return parse(opened(datagram, gate, enabled))


def opened(datagram: bytes, gate: Gate, enabled: tuple[int, ...] = (XWING, X25519)) -> bytes:
    """The 181 bytes within; raises No."""
    kem = {1333: XWING, 245: X25519}.get(len(datagram))
    if kem not in enabled or tag(gate, datagram[16:]) != datagram[:16]:
        raise No("not-ours")
    end = 16 + _ENCAPSULATIONS[kem]
    mask = hashlib.shake_256(gate.mask_key + datagram[end:]).digest(end - 16)
    enc = bytes(a ^ b for a, b in zip(datagram[16:end], mask, strict=True))
    try:
        key, nonce = key_schedule(kem, shared(gate, kem, enc), gate.info(kem))
        return ChaCha20Poly1305(key).decrypt(nonce, datagram[end:], b"")
    except (ValueError, InvalidTag):
        raise No("not-sealed") from None


# --- the message --------------------------------------------------------------------------------------


def parse(message: bytes) -> dict[str, object]:
    """The rows of the specification's table, one after the other; raises No."""
    kind, source = message[0], message[1]
    issued = int.from_bytes(message[8:16], "big")
    signature = message[112:176]
    _must(kind in {1, 2, 3, 4})
    _must(source in {0, 4, 6, 7})
    _must(0 < issued < 2**63)
    _must(message[16:32] != bytes(16))
    if kind in {2, 4}:
        _must(0 < int.from_bytes(signature[:32], "big") < P256)
        _must(0 < int.from_bytes(signature[32:], "big") < P256)
    if kind in {1, 2}:
        _must(message[176:181] == bytes(5))
    return {
        "kind": kind,
        "source": source,
        "era": int.from_bytes(message[2:4], "big"),
        "lease": int.from_bytes(message[4:8], "big"),
        "issued": issued,
        "device": message[16:32].hex(),
        "address": _address(source, message[32:48]),
        "doors": _doors(message[48:80]),
        "fingerprint": message[80:112].hex(),
        "signature": signature.hex(),
        "flags": message[176],
        "counter": int.from_bytes(message[177:181], "big"),
    }


def _must(claim: bool) -> None:
    if not claim:
        raise No("malformed")


def _address(source: int, field: bytes) -> str | None:
    size = {0: 0, 4: 4, 6: 16, 7: 8}[source]
    _must(all(octet == 0 for octet in field[size:]))
    if source == 0:
        return None
    address = ipaddress.ip_address(field[:4] if source == 4 else field)
    _must(not any(address in network for network in _NO_HOSTS))
    return str(address)


def _doors(field: bytes) -> list[str]:
    text = field.decode("latin-1")
    if "\0" in text:
        names, rest = text[: text.index("\0")], text[text.index("\0") :]
        _must(set(rest) == {"\0"})
    else:
        names = text
    doors = names.split(",")
    for door in doors:
        _must(door != "" and door[0] in string.ascii_lowercase)
        _must(set(door) <= set(string.ascii_lowercase + string.digits + "-"))
    _must(doors == sorted(set(doors)))
    return doors
