"""A second decoder, slow and obvious, written from the description of the format and not from our code.

It does what a person would do with the page of fwknop's format, a pencil and AES for one block.
"""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
_BLOCKS = {"md5": 64, "sha1": 64, "sha256": 64, "sha384": 128, "sha512": 128, "sha3_256": 136, "sha3_512": 72}
_CHARACTERS = {
    "md5": 22,
    "sha1": 27,
    "sha256": 43,
    "sha384": 64,
    "sha512": 86,
    "sha3_256": 43,
    "sha3_512": 86,
}
_NO_USERNAME = '"/\\[]:;|=,+*?<>'


class No(Exception):
    """It is refused, for the reason in ``args[0]``."""


@dataclass
class Pair:
    key: bytes
    hmac_key: bytes | None
    hmac: str
    mode: str


def read(payload: bytes, pair: Pair) -> dict[str, object]:
    """The fields by their names, as text and numbers; raises No."""
    tag = _CHARACTERS[pair.hmac] if pair.hmac_key is not None else 0
    length = len(payload) - tag
    sizes = {_characters(16 * blocks) - 10: 16 * blocks for blocks in range(5, 47)}
    if len(payload) < 140 or length not in sizes:
        raise No("bad-length")
    wire = payload.decode("latin-1")
    if wire[0] not in "89+/" or any(character not in _ALPHABET for character in wire):
        raise No("not-base64")
    sealed, tag_text = "U2FsdGVkX1" + wire[:length], wire[length:]
    container = _octets(sealed, "not-base64")
    authentic = _octets(tag_text, "not-base64")
    if pair.hmac_key is not None and _hmac(pair.hmac_key, sealed.encode(), pair.hmac) != authentic:
        raise No("not-ours")
    plain = _decrypt(container, pair)
    colon = plain.rfind(":")
    _check_digest(plain[:colon] if colon >= 0 else plain, plain[colon + 1 :] if colon >= 0 else "")
    return _fields(plain[:colon].split(":"))


def _characters(size: int) -> int:
    """Of the base64 text of so many bytes: three make four, one more makes two, two more make three."""
    return size // 3 * 4 + (0, 2, 3)[size % 3]


def _octets(text: str, reason: str) -> bytes:
    bits = "".join(f"{_ALPHABET.index(character):06b}" for character in text if character in _ALPHABET)
    spare = len(bits) % 8
    if (
        any(character not in _ALPHABET for character in text)
        or spare == 6
        or "1" in bits[len(bits) - spare :]
    ):
        raise No(reason)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - spare, 8))


def _hmac(key: bytes, message: bytes, kind: str) -> bytes:
    """RFC 2104: H(K xor opad, H(K xor ipad, text))."""
    block = _BLOCKS[kind]
    if len(key) > block:
        key = hashlib.new(kind, key).digest()
    key += bytes(block - len(key))
    inner = hashlib.new(kind, bytes(octet ^ 0x36 for octet in key) + message).digest()
    return hashlib.new(kind, bytes(octet ^ 0x5C for octet in key) + inner).digest()


def _decrypt(container: bytes, pair: Pair) -> str:
    salt, rest = container[8:16], container[16:]
    key = pair.key
    if pair.mode == "legacy":
        key = (key + b"0" * 16)[:16]
    material = b""
    while len(material) < 48:
        material += hashlib.md5(material[-16:] + key + salt).digest()  # noqa: S324 - it is fwknop's
    aes = Cipher(algorithms.AES(material[:32]), modes.ECB())  # noqa: S305 - one block at a time
    last, text = material[32:], b""
    for at in range(0, len(rest), 16):
        block = rest[at : at + 16]
        out = aes.encryptor().update(last)
        match pair.mode:
            case "cbc" | "legacy":
                text += _xor(aes.decryptor().update(block), last)
                last = block
            case "ecb":
                text += aes.decryptor().update(block)
            case "cfb":
                text += _xor(block, out)
                last = block
            case "ofb":
                text += _xor(block, out)
                last = out
            case "ctr":
                text += _xor(block, out)
                last = ((int.from_bytes(last, "big") + 1) % (1 << 128)).to_bytes(16, "big")
    pad = text[-1]
    if pad < 1 or pad > 16 or any(octet != pad for octet in text[len(text) - pad :]):
        raise No("not-sealed")
    plain = text.decode("latin-1")
    if any(character not in string.digits for character in plain[:16]) or plain[16] != ":":
        raise No("not-sealed")
    return plain[: len(plain) - pad]


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _check_digest(text: str, digest: str) -> None:
    octets = _octets(digest, "bad-digest")
    kinds = [kind for kind, characters in _CHARACTERS.items() if characters == len(digest)]
    if all(hashlib.new(kind, text.encode("latin-1")).digest() != octets for kind in kinds):
        raise No("bad-digest")


def _fields(texts: list[str]) -> dict[str, object]:
    if len(texts) < 6:
        raise No("malformed")
    nonce, username, issued, version, kind, request, *more = texts
    if kind not in {"0", "1", "2", "3", "4", "5", "6"}:
        raise No("malformed")
    names = ["nat"] if kind in {"2", "4", "5", "6"} else []
    with_auth = [*names, "server_auth"]
    if kind in {"3", "4", "6"}:
        names, with_auth = [*names, "timeout"], [*with_auth, "timeout"]
    if len(more) not in {len(names), len(with_auth)}:
        raise No("malformed")
    found: dict[str, object] = dict.fromkeys(["nat", "server_auth", "timeout"])
    found |= dict(zip(names if len(more) == len(names) else with_auth, more, strict=True))
    found |= {
        "nonce": nonce,
        "username": _username(username),
        "issued": _number(issued, 10**12 - 1),
        "version": version,
        "type": int(kind),
    }
    if not 1 <= len(version) <= 8 or any(character not in string.digits + "." for character in version):
        raise No("malformed")
    found |= _request(_octets(request, "malformed").decode("latin-1"), kind)
    if found["nat"] is not None:
        found["nat"] = _nat(_octets(str(found["nat"]), "malformed").decode("latin-1"))
    if found["server_auth"] is not None:
        found["server_auth"] = _octets(str(found["server_auth"]), "malformed")
        if not found["server_auth"] or len(found["server_auth"]) > 48:  # type: ignore[arg-type]
            raise No("malformed")
    if found["timeout"] is not None:
        found["timeout"] = _number(str(found["timeout"]), 65536)
    return found


def _number(text: str, most: int) -> int:
    if (
        not text
        or any(character not in string.digits for character in text)
        or (text[0] == "0" and text != "0")
    ):
        raise No("malformed")
    if len(text) > 12 or int(text) > most:
        raise No("malformed")
    return int(text)


def _username(text: str) -> str:
    name = _octets(text, "malformed").decode("latin-1")
    if not 1 <= len(name) <= 48 or any(not " " <= each <= "~" or each in _NO_USERNAME for each in name):
        raise No("malformed")
    return name


def _request(text: str, kind: str) -> dict[str, object]:
    address, comma, rest = text.partition(",")
    if len(text) > 192 or not comma or not rest:
        raise No("malformed")
    found: dict[str, object] = {"address": _address(address)}
    if kind == "0":
        if "\0" in rest:
            raise No("malformed")
        return found | {"command": rest.encode("latin-1"), "ports": []}
    return found | {"command": b"", "ports": [_port(port) for port in rest.split(",")]}


def _port(text: str) -> str:
    protocol, _, number = text.partition("/")
    if protocol not in {"tcp", "udp"} or _number(number, 65535) == 0:
        raise No("malformed")
    return text


def _nat(text: str) -> tuple[str, int]:
    host, _, number = text.partition(",")
    allowed = string.ascii_letters + string.digits + "._-"
    port = _number(number, 65535)
    if not host or any(character not in allowed for character in host) or port == 0 or len(text) > 128:
        raise No("malformed")
    return host, port


def _address(text: str) -> bytes:
    if ":" in text:
        return _six(text)
    parts = [_number(part, 255) for part in text.split(".")]
    if len(parts) != 4:
        raise No("malformed")
    return bytes(parts)


def _six(text: str) -> bytes:
    """RFC 5952 by trial: of all spellings of an address, only one is made by its rules."""
    before, gap, after = text.partition("::")
    head = before.split(":") if before else []
    tail = after.split(":") if after else []
    if any(not 1 <= len(g) <= 4 or any(c not in "0123456789abcdef" for c in g) for g in head + tail):
        raise No("malformed")
    zeros = 8 - len(head) - len(tail)
    if (zeros < 1) if gap else zeros:
        raise No("malformed")
    groups = [int(group, 16) for group in [*head, *["0"] * zeros, *tail]]
    if _written(groups) != text or not any(groups) or groups[:6] == [0, 0, 0, 0, 0, 0xFFFF]:
        raise No("malformed")
    return b"".join(group.to_bytes(2, "big") for group in groups)


def _written(groups: list[int]) -> str:
    """Section 4: the longest run of zeros, the first of several, is left out, if it is more than one."""
    runs = [
        (length, -at) for at in range(8) for length in range(2, 9 - at) if not any(groups[at : at + length])
    ]
    if not runs:
        return ":".join(f"{group:x}" for group in groups)
    length, at = max(runs)
    left, right = groups[:-at], groups[-at + length :]
    return ":".join(f"{g:x}" for g in left) + "::" + ":".join(f"{g:x}" for g in right)
