"""Public keys of the four kinds that can knock: from the octets that ssh calls a blob.

::

    ssh-ed25519                         name, point (32)                        RFC 8709
    ecdsa-sha2-nistp256                 name, "nistp256", point (65)            RFC 5656
    sk-ssh-ed25519@openssh.com          name, point (32), application           OpenSSH, PROTOCOL.u2f
    sk-ecdsa-sha2-nistp256@openssh.com  name, "nistp256", point (65), application

The last two live on a token. Each has one encoding, so the fingerprint, a hash of it, names the key.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from knockgate.spa.sshkeys.encoding import Reader, base64_decoded, string
from knockgate.spa.sshkeys.flaws import BadKey, Flaw

__all__ = ["Kind", "PublicKey", "fingerprint_text", "is_kind"]


class Kind(enum.IntEnum):
    """The numbers are those in the packet."""

    ED25519 = 1
    ECDSA_P256 = 2
    SK_ED25519 = 3
    SK_ECDSA_P256 = 4

    @property
    def ssh(self) -> str:
        """What ssh calls it."""
        return _NAMES[self]

    @property
    def on_token(self) -> bool:
        """Whether a token signs: then there are flags and a counter."""
        return self >= Kind.SK_ED25519

    @property
    def edwards(self) -> bool:
        """Whether it is Ed25519; else it is P-256."""
        return self in (Kind.ED25519, Kind.SK_ED25519)


_NAMES = {
    Kind.ED25519: "ssh-ed25519",
    Kind.ECDSA_P256: "ecdsa-sha2-nistp256",
    Kind.SK_ED25519: "sk-ssh-ed25519@openssh.com",
    Kind.SK_ECDSA_P256: "sk-ecdsa-sha2-nistp256@openssh.com",
}
_KINDS = {name.encode(): kind for kind, name in _NAMES.items()}
_CURVE = b"nistp256"
_RSA = {b"ssh-rsa", b"rsa-sha2-256", b"rsa-sha2-512"}
_OTHERS = {b"ssh-dss", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521", b"ssh-xmss@openssh.com"}
_CERTIFICATE = b"-cert-v01@openssh.com"

# Ed25519: -x^2 + y^2 = 1 + d x^2 y^2 modulo p (RFC 8032, section 5.1).
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
# y of the points whose order divides 8; for those of order 8 it solves d y^4 + 2 y^2 = 1.
_Y8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL = {0, 1, _P - 1, _Y8, _P - _Y8}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that can knock; made by ``of_blob`` or ``of_text``, which look at it first."""

    kind: Kind
    point: bytes  #: 32 octets of Ed25519, or 65 of P-256
    application: bytes = b""  #: which a token's key was made for: mostly ``ssh:``

    @classmethod
    def of_blob(cls, blob: bytes) -> PublicKey:
        """Raises BadKey."""
        try:
            name = Reader(blob).string()
        except ValueError:
            raise BadKey(Flaw.NOT_A_KEY) from None
        kind = _kind(name)
        try:
            point, application = _parts(blob, kind)
        except ValueError:
            raise BadKey(Flaw.NOT_A_KEY) from None
        if kind.edwards:
            _check_edwards(point)
        else:
            _check_p256(point)
        return cls(kind, point, application)

    @classmethod
    def of_text(cls, name: bytes, text: bytes) -> PublicKey:
        """As on a line: the name of the kind, and the blob in base64. Raises BadKey."""
        _kind(name)
        try:
            # sshd's decoder passes over white space; what is not a blank can be inside of the word.
            blob = base64_decoded(text.translate(None, b"\r\v\f"))
        except ValueError:
            raise BadKey(Flaw.NOT_BASE64) from None
        if not blob.startswith(string(name)):
            raise BadKey(Flaw.NOT_A_KEY)
        return cls.of_blob(blob)

    @property
    def blob(self) -> bytes:
        """The octets that ``of_blob`` reads."""
        curve = b"" if self.kind.edwards else string(_CURVE)
        application = string(self.application) if self.kind.on_token else b""
        return string(self.kind.ssh.encode()) + curve + string(self.point) + application

    @property
    def fingerprint(self) -> bytes:
        """32 octets; see ``fingerprint_text``."""
        return hashlib.sha256(self.blob).digest()

    @property
    def verifying(self) -> Ed25519PublicKey | EllipticCurvePublicKey:
        """What checks signatures."""
        if self.kind.edwards:
            return Ed25519PublicKey.from_public_bytes(self.point)
        return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), self.point)


def fingerprint_text(fingerprint: bytes) -> str:
    """As ``ssh-keygen -l`` shows it."""
    return f"SHA256:{base64.b64encode(fingerprint).decode().rstrip('=')}"


def is_kind(name: bytes) -> bool:
    """Whether sshd knows a kind of key by that name, be it one that can knock or not."""
    return name in _KINDS or name in _RSA or name in _OTHERS or name.endswith(_CERTIFICATE)


def _kind(name: bytes) -> Kind:
    if name in _KINDS:
        return _KINDS[name]
    if name in _RSA:
        raise BadKey(Flaw.RSA)
    if name.endswith(_CERTIFICATE):
        raise BadKey(Flaw.CERTIFICATE)
    raise BadKey(Flaw.OTHER_KIND)


def _parts(blob: bytes, kind: Kind) -> tuple[bytes, bytes]:
    """Point and application; ValueError."""
    reader = Reader(blob)
    reader.string()
    if not kind.edwards and reader.string() != _CURVE:
        raise ValueError("another curve")
    point = reader.string()
    application = reader.string() if kind.on_token else b""
    reader.end()
    if len(point) != (32 if kind.edwards else 65):
        raise ValueError("no point")
    return point, application


def _check_edwards(point: bytes) -> None:
    """That it is a point, in its one encoding, and not one for which signatures can be made up.

    OpenSSL looks at the point when it verifies, and takes those of small order.
    """
    y = int.from_bytes(point, "little") & ~(1 << 255)
    if y % _P in _SMALL:
        raise BadKey(Flaw.SMALL_ORDER)
    # x^2 is a quotient; it is a square where the product of both its parts is one.
    if y >= _P or _jacobi((y * y - 1) * (_D * y * y + 1) % _P, _P) != 1:
        raise BadKey(Flaw.NO_POINT)


def _jacobi(number: int, modulus: int) -> int:
    """The Jacobi symbol: 1, -1 or 0. Modulo a prime it is 1 where ``number`` is a square, and not 0.

    ``modulus`` is odd and positive, ``number`` not negative. A gate may read 100,000 keys when it starts, and
    Euler's criterion takes five times as long. How long this takes depends on the number: it is for public
    ones. Cohen, A Course in Computational Algebraic Number Theory, algorithm 1.4.10.
    """
    sign = 1
    while number:
        twos = (number & -number).bit_length() - 1
        number >>= twos
        if twos & 1 and modulus & 7 in (3, 5):
            sign = -sign
        if number & modulus & 2:  # both are 3 modulo 4: the law of reciprocity
            sign = -sign
        number, modulus = modulus % number, number
    return sign if modulus == 1 else 0


def _check_p256(point: bytes) -> None:
    try:
        EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)  # of this length none is compressed
    except ValueError:
        raise BadKey(Flaw.NO_POINT) from None
