""".fwknoprc -> profiles.toml, and the files with the secrets. Nothing is written here.

``[default]`` is inherited by all stanzas; it is a profile itself where it names a host and ports. A stanza
that cannot be used does not lose the others: it stands in the text as a comment, and in the refusals with the
reason.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from knockgate.config.fwknop import lines
from knockgate.config.fwknop.findings import Findings, Place
from knockgate.config.fwknop.lines import Option
from knockgate.config.fwknop.rc_options import VARIABLES, Draft
from knockgate.config.fwknop.translate import Translation, secrets_text
from knockgate.config.toml import Wrong
from knockgate.config.writing import comment, listed, quoted, table
from knockgate.errors import ConfigError
from knockgate.spa.fwknop import Hash, Mode, Secret

__all__ = ["profiles"]

_DEFAULT = "default"
_URL = "https://www.cipherdyne.org/cgi-bin/myip"  # whom fwknop asks
_PORT = 62201


def profiles(file: Path, folder: Path) -> Translation:
    """Read a .fwknoprc; ``folder`` is where the secrets will lie, absolute.

    There is text where any stanza can be used. Raises ConfigError where the file cannot be read.
    """
    found = Findings()
    stanzas = _stanzas(file, found)
    inherited = stanzas.get(_DEFAULT, [])
    written: list[str] = comment(f"The same as {file}, by `knockgate import fwknoprc`.")
    secrets: dict[Path, str] = {}
    usable = 0
    for name, options in stanzas.items():
        if name == _DEFAULT and len(stanzas) > 1 and not {"SPA_SERVER", "ACCESS"} <= _set(options):
            continue
        place = Place(str(file), 0, f"[{name}]")
        path = _fresh(folder / (re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:50].lstrip(".-") or "key"), secrets)
        own = Findings()
        all_of_it = options if name == _DEFAULT else [*inherited, *options]
        draft = _draft(all_of_it, own)
        secret = _checked(draft, own, place)
        if not own.refusals:
            found.notes += [note for note in own.notes if note not in found.notes]
        found.refusals += [each for each in own.refusals if str(each) not in map(str, found.refusals)]
        written.append("")
        if own.refusals:
            written += comment(f"[{name}] is REFUSED: " + "; ".join(map(_reason, own.refusals)))
            continue
        usable += 1
        if secret:
            secrets[path] = secrets_text(secret)
        written += _profile(name, draft, path if secret else None)
    if not stanzas and not found.refusals:
        found.refuse(Place(str(file)), "has no stanza", "a stanza begins with a [NAME] of its own")
    text = "\n".join(written) + "\n" if usable else ""
    notes = sorted(found.notes, key=lambda note: (not note.is_warning, note.line))
    return Translation(text, secrets, tuple(notes), tuple(found.refusals))


def _set(options: list[Option]) -> set[str]:
    return {option.name for option in options}


def _reason(error: ConfigError) -> str:
    return ": ".join(part for part in (error.key, error.message) if part)


def _fresh(path: Path, taken: Mapping[Path, str]) -> Path:
    number, free = 1, path
    while free in taken:
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _stanzas(file: Path, found: Findings) -> dict[str, list[Option]]:
    """The options of each stanza; fwknop does not mind the case of a name, and adds up what has the same."""
    stanzas: dict[str, list[Option]] = {}
    spelled: dict[str, str] = {_DEFAULT: _DEFAULT}
    current: list[Option] | None = None
    for line in lines.lines(lines.read(file), str(file), found):
        if heading := re.match(r"\[([^]]*)\]", line.text):
            name = heading[1].encode("utf-8", "backslashreplace").decode()
            current = stanzas.setdefault(spelled.setdefault(name.lower(), name), [])
        elif option := lines.option(line, found, one_word=True):
            if current is None:
                found.note(option.place, "stands before the first stanza and is passed over, as by fwknop")
            else:
                current.append(option)
    return stanzas


def _draft(options: list[Option], found: Findings) -> Draft:
    draft = Draft()
    for option in options:
        with found.refusing(option.place) as remark:
            reader = VARIABLES.get(option.name)
            if reader is None:
                near = difflib.get_close_matches(option.name.upper(), VARIABLES, n=1)
                hint = f"did you mean {near[0]}?" if near else "take the line away"
                raise Wrong("is no variable of fwknop's, which ends at it", hint)
            reader(draft, option.value, remark)
    return draft


# --- the whole of a stanza ----------------------------------------------------------------------------


def _checked(draft: Draft, found: Findings, place: Place) -> Secret | None:
    """The secrets; None where they are to be asked for, or there are refusals."""
    secret = None
    with found.refusing(place):
        if not draft.host:
            raise Wrong("has no SPA_SERVER", "a profile names its host")
        if not draft.access:
            raise Wrong("has no ACCESS", "a profile names the ports that it opens, as -A does")
        if draft.asks and not draft.allow:
            _ask(draft, found, place)
        elif not draft.allow:
            message = "has no ALLOW_IP: this machine's address on the way to the host is let in"
            found.note(place, message, "fwknop wants -a, -s or -R each time; `allow` has the same")
        secret = _secret(draft)
        if secret is None:
            found.note(place, "has no KEY: it is asked for, as by fwknop")
        elif not secret.hmac_key:
            message = "has no HMAC_KEY: its packets can be tampered with"
            found.warn(place, message, "make a new pair: knockgate key new --fwknop NAME")
    return secret


def _ask(draft: Draft, found: Findings, place: Place) -> None:
    """Whom to ask for the address, as a URL."""
    if not draft.url:
        draft.url = _URL
        found.note(place, f"asks {_URL} who is to be let in, as fwknop does", 'allow = "route" asks nobody')
    scheme, _, rest = draft.url.rpartition("://")
    if scheme not in ("", "http", "https") or not re.fullmatch(r"[A-Za-z0-9][!-?A-~]*", rest):
        raise Wrong("asks a RESOLVE_URL that is none of the web", "such as https://ip.example/")
    draft.allow = f"{'http' if draft.asks_without_tls else 'https'}://{rest}"
    if scheme and not draft.allow.startswith(f"{scheme}:"):
        message = f"asks {draft.allow}, as fwknop does"
        found.note(
            place, message, "RESOLVE_HTTP_ONLY says whether TLS is used, whatever RESOLVE_URL begins with"
        )


def _secret(draft: Draft) -> Secret | None:
    key, hmac_key = draft.secret("KEY"), draft.secret("HMAC_KEY")
    if draft.key_file and not key:
        key = _key_of(draft.key_file, draft.host)
    if not key:
        if hmac_key:
            raise Wrong("has HMAC_KEY without KEY", "both or neither: put the key behind KEY_BASE64")
        return None
    if draft.wants_hmac and not hmac_key:
        raise Wrong("has USE_HMAC and KEY without HMAC_KEY", "put the key behind HMAC_KEY_BASE64")
    if draft.mode is Mode.LEGACY:
        if hmac_key:
            raise Wrong(
                "has an HMAC in legacy mode, with which fwknop sends nothing", "take ENCRYPTION_MODE away"
            )
        key = key[:16]
    try:
        if not hmac_key:
            return Secret(key, mode=draft.mode)
        return Secret(key, hmac_key, draft.hmac or Hash.SHA256, draft.mode)
    except ValueError as error:
        raise Wrong(str(error), "the host does not take that either; make a new pair") from None


def _key_of(file: str, host: str) -> bytes:
    """The last line ``HOST: passphrase`` of a KEY_FILE."""
    try:
        content = lines.read(Path(file))
    except ConfigError as error:
        raise Wrong(f"has a KEY_FILE that {error.message}", error.hint) from None
    start = re.compile(rb"[ \t=]*" + re.escape(host.encode()) + rb":[ \t=]*(.+)")
    keys = [found[1] for line in content.split(b"\n") if (found := start.fullmatch(line))]
    if not keys:
        raise Wrong("has a KEY_FILE without a line for the host", "HOST: PASSPHRASE")
    return keys[-1]


def _profile(name: str, draft: Draft, path: Path | None) -> Iterator[str]:
    yield table("profiles", name)
    yield f"host = {quoted(draft.host)}"
    yield f"fwknop = {quoted(str(path or ''))}"
    yield f"access = {listed(draft.access)}"
    yield f"allow = {quoted(draft.allow or 'route')}"
    if draft.allow.startswith("http:"):
        yield "resolve_http = true"
    if draft.port != _PORT:
        yield f"port = {quoted(f'udp/{draft.port}')}"
    if draft.lease:
        yield f"lease = {quoted(f'{draft.lease}s')}"
    if draft.hmac and draft.hmac is not Hash.SHA256:
        yield f"hmac = {quoted(draft.hmac.value)}"
    if draft.digest is not Hash.SHA256:
        yield f"digest = {quoted(draft.digest.value)}"
    if draft.mode is not Mode.CBC:
        yield f"mode = {quoted(draft.mode.value)}"
    if draft.username:
        yield f"username = {quoted(draft.username)}"
    if draft.offset:
        yield f"offset = {quoted(f'{draft.offset}s')}"
    if draft.is_ipv4:
        yield "family = 4"
