"""The address that the world sees of this machine, asked of a URL.

The answer decides who is let in, so little is believed: one request, over the address family of the knock,
through no proxy and after no redirection; TLS's certificate is checked; what comes back is one address.
All of it takes a few seconds at most, however slowly names are looked up or single bytes come in.
"""

from __future__ import annotations

import http.client
import ipaddress
import queue
import ssl
import threading
import urllib.parse

from knockgate.client.send import Family
from knockgate.errors import Unavailable
from knockgate.model import Source

__all__ = ["ask"]

_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_TIMEOUT = 5.0  # seconds, for the whole of it
_GIVE = "give the address itself: -a ADDRESS"
_LONGEST = 128  # bytes; an address has 45, and some services put a line's end behind it


def ask(url: str, family: Family, source: str | None = None) -> Source:
    """What ``url`` answers, an address of ``family``; raises Unavailable. ``source`` is where to ask from."""
    outcomes: queue.SimpleQueue[Source | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcomes.put(_asked(url, family, source))
        except BaseException as error:  # noqa: BLE001 - it is raised over there
            outcomes.put(error)

    # A timeout of the socket counts anew from each byte, and there is none for the look-up of a name. A
    # thread that is late is left behind: it ends with the program, which has little more to do.
    threading.Thread(target=work, daemon=True).start()
    try:
        outcome = outcomes.get(timeout=_TIMEOUT)
    except queue.Empty:
        message = f"{url} does not answer: not within {_TIMEOUT:g} seconds"
        raise Unavailable(message, hint=_GIVE) from None
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _asked(url: str, family: Family, source: str | None) -> Source:
    parts = urllib.parse.urlsplit(url)
    # A source of the family keeps the request to it, and so to the address that the host will see.
    anywhere = "::" if family == Family.AF_INET6 else "0.0.0.0"  # noqa: S104 - to send from, not to listen at
    here = (source or anywhere, 0)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            host, port, timeout=_TIMEOUT, source_address=here, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT, source_address=here)
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    try:
        connection.request("GET", path, headers={"User-Agent": "knockgate", "Accept": "text/plain"})
        with connection.getresponse() as response:
            content = response.read(_LONGEST + 1)
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last: no name of a host
        raise Unavailable(f"{url} does not answer: {_reason(error)}", hint=_GIVE) from None
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise Unavailable(f"{url} answers with status {response.status}", hint=_moved(response))
    return _address(url, content, family)


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
        return "it does not speak HTTP"  # the error has what it said instead, which may be anything
    reason = getattr(error, "verify_message", "") or getattr(error, "strerror", None) or str(error)
    return f"{reason[:1].lower()}{reason[1:]}"


def _moved(response: http.client.HTTPResponse) -> str:
    where = response.headers.get("Location")
    return f"name the place it leads to: {where[:100]!r}" if where else "take another URL"


def _address(url: str, content: bytes, family: Family) -> Source:
    hint = "name one that answers with the address and nothing else"
    if len(content) > _LONGEST:
        raise Unavailable(f"{url} answers with more than an address", hint=hint)
    try:
        found = ipaddress.ip_address(content.decode("ascii").strip())
    except ValueError:
        raise Unavailable(f"{url} does not answer with an address", hint=hint) from None
    # 0.0.0.0 would let in whoever sends the packet.
    if found.is_unspecified or found.is_multicast or found == _BROADCAST or "%" in str(found):
        raise Unavailable(f"{url} answers with the address of no host", hint=_GIVE)
    if found.version != (6 if family == Family.AF_INET6 else 4):
        raise Unavailable(
            f"{url} answers with {found}, but the host is knocked at over IPv{10 - found.version}",
            hint=f"-{found.version} knocks over IPv{found.version}; or give the address: -a ADDRESS",
        )
    return found.packed
