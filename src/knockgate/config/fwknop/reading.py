"""A stanza of access.conf -> what its key may, every option of it honoured or refused.

What is refused is what would make the gate open more than fwknopd does, or leave a client of this stanza
without what it is for. An option that fwknopd does not know is refused too: it may be a mistyped
restriction, of which fwknopd says a line in its log and nothing else.
"""

from __future__ import annotations

import difflib

from knockgate.config.fwknop.access import Section
from knockgate.config.fwknop.findings import Findings, Remark
from knockgate.config.fwknop.lines import Option
from knockgate.config.fwknop.options import OPTIONS
from knockgate.config.fwknop.stanza import Stanza
from knockgate.config.toml import Wrong
from knockgate.spa.fwknop import Mode

__all__ = ["read"]


def read(section: Section, found: Findings) -> Stanza:
    """The stanza; where it cannot be used, there is a refusal among ``found``."""
    stanza = Stanza(section.number, section.place)
    given: dict[str, str] = {}
    for option in (section.source, *section.options):
        with found.refusing(option.place) as remark:
            _take(stanza, option, remark, given)
    with found.refusing(section.place):
        _check(stanza, found, given)
    return stanza


def _take(stanza: Stanza, option: Option, remark: Remark, given: dict[str, str]) -> None:
    name = option.name
    reader = OPTIONS.get(name)
    if reader is None:
        near = difflib.get_close_matches(name.upper(), OPTIONS, n=1)
        hint = f"did you mean {near[0]}?" if near else "take the line away"
        raise Wrong("is no option: fwknopd passes it over, with a line in its log", hint)
    same = _SAME.get(name, name)
    if same in given and not name.startswith("GPG_"):
        before = "" if given[same] == name else f", as is {given[same]}, which means the same"
        remark(f"is given more than once{before}; the last one counts, as in fwknopd")
    given[same] = name
    if option.had_blanks and name in ("KEY", "HMAC_KEY"):
        hint = "fwknopd 2.6.10 takes them for a part of it and 2.6.11 does not; take them away, or use BASE64"
        raise Wrong("has blanks at its end", hint)
    reader(stanza, option.value, remark)


#: Options that set the same thing.
_SAME = {
    "KEY_BASE64": "KEY",
    "HMAC_KEY_BASE64": "HMAC_KEY",
    "ACCESS_EXPIRE_EPOCH": "ACCESS_EXPIRE",
    "REQUIRE_SOURCE": "REQUIRE_SOURCE_ADDRESS",
}


# --- the whole of it ----------------------------------------------------------------------------------


def _check(stanza: Stanza, found: Findings, given: dict[str, str]) -> None:
    place = stanza.place
    if stanza.uses_gpg:
        raise Wrong("is for GnuPG, which this gate does not speak", _PAIR)
    if not stanza.key:
        raise Wrong("has no KEY", "fwknopd does not start with such a stanza")
    if "GPG" in {name[:3] for name in given}:
        found.note(place, "GPG options have no effect without GPG_DECRYPT_PW, and are left out")
    if stanza.mode is Mode.LEGACY and len(stanza.key) > 16:
        found.note(place, "of the key the first 16 bytes count in legacy mode, as in fwknopd")
        stanza.key = stanza.key[:16]
    try:
        stanza.secret  # noqa: B018 - whether there is one
    except ValueError as error:
        raise Wrong(str(error), _PAIR) from None
    if not stanza.hmac_key:
        message = "has no HMAC_KEY: its packets can be tampered with, and each costs a decryption"
        found.warn(place, message, f"insecure = true takes them nevertheless; better: {_PAIR}")
        if stanza.hmac:
            found.note(place, "HMAC_DIGEST_TYPE has no effect without HMAC_KEY")
    if stanza.observed:
        message = "takes packets that name no address: whoever intercepts one can be let in with it"
        found.note(place, message, "observed = false, once your clients use -a or -R instead of -s")
    _check_times(stanza, found)
    _check_cycle(stanza, found)


_PAIR = "make a pair of keys: knockgate key new --fwknop NAME"


def _check_times(stanza: Stanza, found: Findings) -> None:
    if stanza.lease > stanza.most and not stanza.cmd_open:
        message = (
            f"gives {stanza.lease} seconds to packets that ask for none, and here to those that ask for it"
        )
        found.note(stanza.place, message, f"in fwknopd these get at most MAX_FW_TIMEOUT, {stanza.most}")
        stanza.most = stanza.lease


def _check_cycle(stanza: Stanza, found: Findings) -> None:
    if bool(stanza.cmd_open) != bool(stanza.cmd_close):
        one, other = ("OPEN", "CLOSE") if stanza.cmd_open else ("CLOSE", "OPEN")
        raise Wrong(f"has CMD_CYCLE_{one} without CMD_CYCLE_{other}", "fwknopd does not start with that")
    cycle = stanza.cycle
    if cycle is None:
        if stanza.cmd_timer:
            found.note(stanza.place, "CMD_CYCLE_TIMER has no effect without CMD_CYCLE_OPEN")
        return
    if cycle.close and not stanza.cmd_timer:
        raise Wrong("has no CMD_CYCLE_TIMER", "fwknopd does not start with that")
    stanza.lease = stanza.cmd_timer or stanza.lease
    stanza.most = max(stanza.lease, stanza.most)
    message = (
        f"runs commands, in fwknopd for any port and any time; here for its ports and {stanza.most} seconds"
    )
    found.note(
        stanza.place, message, "the gate shuts these ports itself too, and opens them with the command"
    )
