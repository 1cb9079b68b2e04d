"""Writes vectors/sshkeys/, lines and signatures for whoever reads them: ``python -m tools.sshkeys_vectors``.

vectors/sshkeys/README.md says what is in a file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

from tests.knockgate.spa.sshkeys.signers import Signer, signer, text

from knockgate.spa.sshkeys import Flaw, Kind, PublicKey, Signature
from knockgate.spa.sshkeys.encoding import string
from tools.vector_files import write

__all__ = ["FOLDER", "MESSAGE", "vectors"]

FOLDER = Path(__file__).resolve().parent.parent / "vectors" / "sshkeys"

MESSAGE = bytes(range(144))
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_KEY = text(signer(Kind.ED25519).public)
_CHANGED = base64.b64encode(string(b"ssh-ed25519") + string(b"\2" + bytes(31)))


def _lines() -> Iterator[tuple[str, str, bytes, Flaw | None]]:
    """Name, what is special, the line (KEY stands for one that is right), and what is wrong with it."""
    for kind in Kind:
        yield f"kind-{kind.value}", f"a key of kind {kind.value}", text(signer(kind).public), None
    yield "comment", "a comment of any characters", b'KEY \xff "a" #', None
    yield "blanks", "blanks and the end of a line of Windows", b" \t restrict \t KEY\r", None
    yield "options-empty", "empty options", b",,pty, KEY", None
    yield "options-capitals", "capitals in an option", b"No-Touch-Required KEY", None
    yield "options-last", "the last of two flags holds", b"no-touch-required,touch-required KEY", None
    yield "options-marks", "quotation marks within a value", b'command="a \\"b\\" , # \\\\\\"" KEY', None
    yield "verify", "a token must know who touches it", b"verify-required KEY", None
    yield "from", "patterns, one negated", b'from="10.0.0.0/8,2001:db8::*,!10.1.*" KEY', None
    yield "expiry-day", "a day", b'expiry-time="20300102Z" KEY', None
    yield "expiry-minute", "a minute, with UTC in small letters", b'expiry-time="203001020304utc" KEY', None
    yield (
        "expiry-two",
        "the earlier of two times holds",
        b'expiry-time="20310102Z",expiry-time="20300102Z" KEY',
        None,
    )
    yield "expiry-overflow", "30 February is 2 March", b'expiry-time="20300230Z" KEY', None
    yield "rsa", "RSA", b"ssh-rsa AAAA", Flaw.RSA
    yield "certificate", "a certificate", b"ssh-ed25519-cert-v01@openssh.com AAAA", Flaw.CERTIFICATE
    yield "other-curve", "another curve", b"ecdsa-sha2-nistp384 AAAA", Flaw.OTHER_KIND
    yield "base64-cut", "base64 without its last character", _KEY[:-1], Flaw.NOT_BASE64
    yield "key-cut", "a key without its last octets", _KEY[:-4], Flaw.NOT_A_KEY
    yield (
        "kind-differs",
        "another kind before it than in it",
        _KEY.replace(b"ssh-", b"sk-ssh-", 1).replace(b"ssh-ed25519 ", b"ssh-ed25519@openssh.com ", 1),
        Flaw.NOT_A_KEY,
    )
    yield "no-point", "y = 2, which no point has", b"ssh-ed25519 " + _CHANGED, Flaw.NO_POINT
    small = base64.b64encode(string(b"ssh-ed25519") + string(b"\1" + bytes(31)))
    yield "small-order", "the point of order 1", b"ssh-ed25519 " + small, Flaw.SMALL_ORDER
    yield "no-key", "an option and no key", b"restrict", Flaw.NO_KEY
    yield "zero-byte", "a zero byte in the comment", b"KEY \0", Flaw.ZERO_BYTE
    yield "marks-open", "a quotation mark that is not closed", b'command="a KEY', Flaw.QUOTES
    yield "marks-escaped", "a mark that a backslash makes a character", b'command="a\\" KEY', Flaw.QUOTES
    yield "unknown", "an unknown option", b"restrict,unknown KEY", Flaw.UNKNOWN_OPTION
    yield "longer", "an option with letters behind it", b"restricted KEY", Flaw.UNKNOWN_OPTION
    yield "negated", "an option that has no opposite", b"no-restrict KEY", Flaw.UNKNOWN_OPTION
    yield "twice", "two from", b'from="10.0.0.1",from="10.0.0.1" KEY', Flaw.TWICE
    yield "from-bits", "a network with bits behind its length", b'from="10.0.0.1/8" KEY', Flaw.BAD_OPTION
    yield "from-empty", "an empty pattern", b'from="10.0.0.1," KEY', Flaw.BAD_OPTION
    yield "expiry-short", "a time that is too short", b'expiry-time="203001" KEY', Flaw.BAD_OPTION
    yield "expiry-hour", "an hour that no day has", b'expiry-time="203001022400Z" KEY', Flaw.BAD_OPTION
    yield "permitopen", "permitopen without a host", b'permitopen="22" KEY', Flaw.BAD_OPTION
    yield "principals", "principals without an authority", b'principals="a" KEY', Flaw.PRINCIPALS
    yield "many", "1,025 options", b"," * 1024 + b" KEY", Flaw.TOO_MANY
    yield "doors", "an option of ours in a file of sshd's", b'doors="ssh" KEY', Flaw.OURS
    yield (
        "ours-both",
        "both options of ours, in a file of the gate's",
        b'doors="web,ssh",max-lease="1h30m" KEY',
        None,
    )
    yield "ours-doors", "a door that cannot be", b'doors="Ssh" KEY', Flaw.BAD_OPTION
    yield "ours-lease", "a lease of no time", b'max-lease="0s" KEY', Flaw.BAD_OPTION


def _signatures() -> Iterator[tuple[str, str, PublicKey, Signature, bool]]:
    """Name, what is special, key, signature, whether it is good."""
    for kind in Kind:
        one = signer(kind)
        right = _sign(one)
        yield f"{kind.value}", "right", one.public, right, True
        yield f"{kind.value}-bit", "one bit flipped", one.public, _flipped(right), False
        yield f"{kind.value}-key", "another key's", signer(kind, 2).public, right, False
        if kind.on_token:
            other = PublicKey(kind, one.public.point, b"ssh:other")
            yield f"{kind.value}-application", "made for another application", other, right, False
            yield f"{kind.value}-untouched", "right, and not touched", one.public, _sign(one, flags=0), True
            yield f"{kind.value}-flags", "other flags", one.public, right._replace(flags=5), False
            yield f"{kind.value}-counter", "another counter", one.public, right._replace(counter=8), False
        else:
            yield f"{kind.value}-flags", "flags, without a token", one.public, right._replace(flags=1), False
        r, s = (int.from_bytes(half) for half in (right.octets[:32], right.octets[32:]))
        if not kind.edwards:
            for name, pair in {"r": (0, s), "s": (r, 0), "order": (_ORDER, s)}.items():
                octets = b"".join(number.to_bytes(32) for number in pair)
                wrong = right._replace(octets=octets)
                yield f"{kind.value}-{name}", "a number out of bounds", one.public, wrong, False


def _sign(one: Signer, *, flags: int = 1) -> Signature:
    return one.sign(MESSAGE, flags=flags, counter=7)


def _flipped(signature: Signature) -> Signature:
    return signature._replace(octets=bytes([signature.octets[0] ^ 1]) + signature.octets[1:])


def vectors() -> Iterator[tuple[str, str]]:
    """Name and content of each file."""
    for name, what, line, flaw in _lines():
        yield (
            f"line-{name}.json",
            _written(
                what=what,
                ours=name.startswith("ours-"),
                line=line.replace(b"KEY", _KEY).decode("latin-1"),
                reason=flaw and flaw.name.lower().replace("_", "-"),
            ),
        )
    for name, what, key, signature, good in _signatures():
        yield (
            f"signature-{name}.json",
            _written(
                what=what,
                key=text(key).decode(),
                message=MESSAGE.hex(),
                signature=signature.octets.hex(),
                flags=signature.flags,
                counter=signature.counter,
                good=good,
            ),
        )


def _written(**values: object) -> str:
    return json.dumps(values, indent=2) + "\n"


if __name__ == "__main__":
    write(FOLDER, vectors())
