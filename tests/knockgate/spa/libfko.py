"""fwknop's own library, of Debian's fwknop-client: what does it make of a packet?"""

from __future__ import annotations

import contextlib
import ctypes

import pytest

from knockgate.spa.fwknop import Hash, Mode, Secret

_LIBRARY: ctypes.CDLL | None = None
with contextlib.suppress(OSError):
    _LIBRARY = ctypes.CDLL("libfko.so.3")

needs_libfko = pytest.mark.skipif(_LIBRARY is None, reason="needs Debian's libfko3")

# Their numbers in the library's interface.
_MODES = {Mode.ECB: 1, Mode.CBC: 2, Mode.CFB: 3, Mode.OFB: 5, Mode.CTR: 6, Mode.LEGACY: 8}
_HASHES = {kind: number for number, kind in enumerate(Hash, 1)}


def read(payload: bytes, secret: Secret) -> dict[str, object] | None:
    """The fields as the library reads them, texts as bytes; None where it refuses the packet."""
    assert _LIBRARY is not None
    context = ctypes.c_void_p()
    hmac_key = secret.hmac_key
    key = secret.key[:16] if secret.mode is Mode.LEGACY else secret.key  # as its client and server do
    status = _LIBRARY.fko_new_with_data(
        ctypes.byref(context),
        payload,
        key,
        len(key),
        _MODES[secret.mode],
        hmac_key,
        0 if hmac_key is None else len(hmac_key),
        _HASHES[secret.hmac],
    )
    if status:
        return None
    kinds: dict[str, type[ctypes.c_char_p | ctypes.c_long | ctypes.c_short | ctypes.c_int]] = {
        "rand_value": ctypes.c_char_p,
        "username": ctypes.c_char_p,
        "timestamp": ctypes.c_long,
        "version": ctypes.c_char_p,
        "spa_message_type": ctypes.c_short,
        "spa_message": ctypes.c_char_p,
        "spa_nat_access": ctypes.c_char_p,
        "spa_server_auth": ctypes.c_char_p,
        "spa_client_timeout": ctypes.c_int,
    }
    found: dict[str, object] = {}
    for name, kind in kinds.items():
        value = kind()
        assert getattr(_LIBRARY, f"fko_get_{name}")(context, ctypes.byref(value)) == 0
        found[name] = value.value
    _LIBRARY.fko_destroy(context)
    return found
