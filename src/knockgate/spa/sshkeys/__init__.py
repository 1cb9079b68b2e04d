"""SSH keys as credentials: who may knock, and whose signature that is.

::

    encoding.py   SSH's own data types, read within bounds        RFC 4251, section 5
    keys.py       public keys of four kinds; the others are told from junk, and why not is said
    files.py      authorized_keys(5), read as sshd reads it
    options.py    the options in front of a key
    sources.py    ``from=``: patterns that addresses are held against
    sshsig.py     SSHSIG: what is signed, and the 64 octets of it that travel

A line that sshd refuses is refused here. Where we are stricter, a line that lets somebody log in does not let
him knock; the reverse must not be:

* Ed25519 keys of small order, or whose point is none: for those anybody can make signatures;
* ports by name in ``permitopen`` and ``permitlisten``, since what they mean is in a file of the machine's;
* a line with a zero byte or more than 1,024 options, a ``from`` pattern of more than 1,022 characters, a time
  with blanks in it;
* host names in ``from``: nobody is asked for the name of an address, as with sshd's ``UseDNS no``.

Nothing here reads a file, a clock or an agent. What is wrong with a text is a ``ConfigError``.
"""

from __future__ import annotations

from knockgate.spa.sshkeys.files import Authorized, Listing, read
from knockgate.spa.sshkeys.flaws import BadKey, Flaw
from knockgate.spa.sshkeys.keys import Kind, PublicKey, fingerprint_text, is_kind
from knockgate.spa.sshkeys.options import Options
from knockgate.spa.sshkeys.sources import Sources
from knockgate.spa.sshkeys.sshsig import NAMESPACE, Signature, verify

__all__ = [
    "NAMESPACE",
    "Authorized",
    "BadKey",
    "Flaw",
    "Kind",
    "Listing",
    "Options",
    "PublicKey",
    "Signature",
    "Sources",
    "fingerprint_text",
    "is_kind",
    "read",
    "verify",
]
