"""Writes the worked example into docs/spec/spa-v1.md: ``python -m tools.sealed_example``.

Each value is made by the second writer of the tests, one step after the other; the datagrams are those of the
vectors.
"""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from tests.knockgate.spa import sealed_oracle as oracle
from tests.knockgate.spa import sealed_signers as signers

from tools.sealed_vectors import CLIENT_SECRET, ENCAPSULATIONS, FOLDER, GATE, MACHINE

__all__ = ["PAGE", "example"]

PAGE = Path(__file__).resolve().parent.parent / "docs" / "spec" / "spa-v1.md"
_BEGIN, _END = "<!-- begin: python -m tools.sealed_example -->\n", "<!-- end -->\n"


def example() -> str:
    """The blocks of it, with their fences."""
    parts = [("The gate", _gate()), ("The message", _message())]
    parts += [("Sealed with X25519", _sealed(oracle.X25519)), ("Sealed with X-Wing", _sealed(oracle.XWING))]
    return "\n".join(f"**{title}.**\n\n```text\n{_block(values)}```\n" for title, values in parts)


def _block(values: Iterator[tuple[str, bytes | str]]) -> str:
    lines = []
    for name, value in values:
        text = value if isinstance(value, str) else value.hex()
        rows = textwrap.wrap(text, 64, break_on_hyphens=False) or [""]
        lines += [f"{name if at == 0 else '':<24}{row}".rstrip() for at, row in enumerate(rows)]
    return "".join(f"{line}\n" for line in lines)


def _digest(name: str, octets: bytes) -> tuple[str, bytes]:
    return f"SHA-256({name})", hashlib.sha256(octets).digest()


def _gate() -> Iterator[tuple[str, bytes | str]]:
    public, alone = GATE.public
    expanded = hashlib.shake_256(GATE.xwing_seed).digest(96)
    yield "xwing seed", GATE.xwing_seed
    yield from zip(("d", "z", "sk_X"), (expanded[:32], expanded[32:64], expanded[64:]), strict=True)
    yield _digest("pk_xwing", public)
    yield "x25519 key", GATE.x25519_key
    yield "pk_x", alone
    yield "G", GATE.gate
    yield "C", GATE.secret
    yield "tag key", GATE.tag_key
    yield "mask key", GATE.mask_key
    yield _digest("card's line", GATE.card().encode())


def _message() -> Iterator[tuple[str, bytes | str]]:
    message = _right(oracle.X25519)[1]
    head = message[:112]
    yield "client secret", CLIENT_SECRET
    yield "machine-id", MACHINE.decode()
    yield "device", oracle.device(CLIENT_SECRET, GATE.gate, MACHINE)
    yield "SSH key", signers.line(signers.ED25519)
    yield "fingerprint", signers.fingerprint(signers.ED25519)
    yield "head", head
    yield "SHA-512(G || head)", hashlib.sha512(GATE.gate + head).digest()
    yield "given to the key", signers.to_sign(signers.ED25519, GATE.gate + head)
    yield "signature", message[112:176]
    yield "message", message


def _sealed(kem: int) -> Iterator[tuple[str, bytes | str]]:
    datagram, message = _right(kem)
    enc, info = ENCAPSULATIONS[kem], GATE.info(kem)
    yield "ephemeral key", bytes(range(96, 128))
    yield "X25519 share", enc[-32:]
    mlkem, half, alone = GATE.private
    share = X25519PublicKey.from_public_bytes(enc[-32:])
    if kem == oracle.XWING:
        yield _digest("ct_M", enc[:1088])
        yield "ss_M", mlkem.decapsulate(enc[:1088])
        yield "ss_X", half.exchange(share)
    else:
        yield "dh", alone.exchange(share)
    secret = oracle.shared(GATE, kem, enc)
    key, nonce = oracle.key_schedule(kem, secret, info)
    text = oracle.sealed(kem, secret, info, message)
    yield "shared secret", secret
    yield "info", info
    yield "key", key
    yield "nonce", nonce
    yield "sealed", text
    mask = hashlib.shake_256(GATE.mask_key + text).digest(len(enc))
    if kem == oracle.XWING:
        yield _digest("mask", mask)
    else:
        yield "mask", mask
        yield "enc XOR mask", datagram[16:48]
    yield "tag", datagram[:16]
    yield ("datagram", datagram) if kem == oracle.X25519 else _digest("datagram", datagram)


def _right(kem: int) -> tuple[bytes, bytes]:
    """Datagram and message of the vector."""
    name = {oracle.X25519: "right-ed25519-x25519", oracle.XWING: "right-ed25519-x-wing"}[kem]
    datagram = bytes.fromhex(json.loads((FOLDER / f"{name}.json").read_text())["datagram"])
    return datagram, oracle.opened(datagram, GATE)


def written(page: str) -> str:
    """The page with the example in its place."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{example()}\n{_END}{after}"


def main() -> None:
    """Write it anew."""
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
