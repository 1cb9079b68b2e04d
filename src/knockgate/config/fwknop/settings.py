"""fwknopd.conf -> where packets are heard and how old they may be; every option honoured or refused."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from knockgate.config import readers
from knockgate.config.fwknop import lines, words
from knockgate.config.fwknop.findings import Findings, Place
from knockgate.config.fwknop.lines import Option
from knockgate.config.toml import Wrong, shown
from knockgate.errors import ConfigError
from knockgate.model import Port, Protocol

__all__ = ["Settings", "read"]

_PORT = Port(Protocol.UDP, 62201)
_LONGEST_AGE = 86400


@dataclass(slots=True)
class Settings:
    """What fwknopd.conf says to us."""

    place: Place  #: of what says the port
    interface: str = ""  #: empty: all
    port: Port = _PORT
    freshness: int = 120  #: seconds


def read(path: Path, access: Path, found: Findings) -> Settings:
    """The settings of a file; ``access`` is the access.conf that is read with it."""
    try:
        content = lines.read(path)
    except ConfigError as error:
        found.refuse(Place(str(path)), error.message, error.hint)
        return Settings(Place(str(path)))
    given: dict[str, Option] = {}
    for line in lines.lines(content, str(path), found):
        option = lines.option(line, found, has_colons=False)
        if not option:
            continue
        with found.refusing(option.place) as remark:
            _known(option.name)
            if option.name in given:
                remark("is given more than once; the last one counts, as in fwknopd")
            given[option.name] = option._replace(value=_expanded(option.value, given))
    return _settings(given, access, found, Place(str(path)))


def _known(name: str) -> None:
    if name not in _ALL:
        near = difflib.get_close_matches(name.upper(), _ALL, n=1)
        hint = f"did you mean {near[0]}?" if near else "take the line away"
        raise Wrong("is no option: fwknopd passes it over, with a line in its log", hint)


def _expanded(value: str, given: dict[str, Option]) -> str:
    """``$VARIABLE`` counts at the beginning of a value alone."""
    found = re.match(r"\$([A-Z_]+)", value)
    if not found:
        return value
    if found[1] not in given:
        raise Wrong(f"${found[1]} has no value yet", "fwknopd takes what stands above in the file")
    return given[found[1]].value + value[found.end() :]


def _settings(given: dict[str, Option], access: Path, found: Findings, file: Place) -> Settings:
    settings = Settings(file)
    _refuse(given, found)
    _note(given, access, found)
    by_server, by_queue = (_is_on(given, name, found) for name in ("ENABLE_UDP_SERVER", "ENABLE_NFQ_CAPTURE"))
    if by_server:
        heard = "UDPSERV_PORT"
    else:
        heard = "NFQ_PORT" if by_queue else "PCAP_FILTER"
    if option := given.get(heard):
        settings.place = option.place
        with found.refusing(option.place) as remark:
            number = (
                _filtered(option.value)
                if heard == "PCAP_FILTER"
                else words.whole(option.value, 1, 65535, remark)
            )
            settings.port = Port(Protocol.UDP, number)
    for name in {"UDPSERV_PORT", "NFQ_PORT", "PCAP_FILTER"} & set(given) - {heard}:
        found.note(given[name].place, f"does not count: {heard} does")
    if option := given.get("NFQ_INTERFACE" if by_queue else "PCAP_INTF"):
        _interface(option, by_server, settings, found)
    if option := given.get("MAX_SPA_PACKET_AGE"):
        with found.refusing(option.place) as remark:
            settings.freshness = words.whole(option.value, 1, _LONGEST_AGE, remark)
    return settings


def _is_on(given: dict[str, Option], name: str, found: Findings) -> bool:
    answer = False
    if option := given.get(name):
        with found.refusing(option.place):
            answer = words.is_yes(option.value)
    return answer


def _filtered(value: str) -> int:
    plain = re.fullmatch(r"udp(?: and)?(?: dst)? port ([0-9]{1,5})", " ".join(value.lower().split()))
    if not plain or not 1 <= int(plain[1]) <= 65535:
        hint = "packets come to one UDP port here, as with `udp port 62201`"
        raise Wrong(f"{shown(words.plain(value))} is more than one port, or not UDP", hint)
    return int(plain[1])


def _interface(option: Option, by_server: bool, settings: Settings, found: Findings) -> None:  # noqa: FBT001 - one caller
    if by_server:
        found.note(option.place, "does not count with ENABLE_UDP_SERVER: all interfaces are listened on")
        return
    with found.refusing(option.place):
        if option.value == "any":
            return
        settings.interface = readers.interface.read(words.plain(option.value))
        message = f"on {settings.interface} alone is listened, and on it alone are the doors guarded"
        found.note(
            option.place, message, "another firewall must shut them elsewhere; -i '' is all interfaces"
        )


# --- the rest -----------------------------------------------------------------------------------------


def _refuse(given: dict[str, Option], found: Findings) -> None:
    """What would open more than fwknopd does, or leave packets unheard that it hears."""
    for name, (wanted, reason, hint) in _REFUSED.items():
        option = given.get(name)
        if not option:
            continue
        with found.refusing(option.place) as remark:
            if wanted is None or words.is_yes(option.value) is wanted:
                raise Wrong(reason, hint)
            remark("is the same without it")


def _note(given: dict[str, Option], access: Path, found: Findings) -> None:
    for name, option in given.items():
        if name in _NOTED and _is_on(given, name, found):
            found.note(option.place, *_NOTED[name])
        elif name in _UNUSED:
            found.note(option.place, "is not needed here")
        elif name in _UNKNOWN_THERE:
            found.note(option.place, "is passed over, as by fwknopd")
    if (folder := given.get("ACCESS_FOLDER")) and Path(folder.value) != access:
        hint = f"import that: knockgate import fwknop {folder.value}"
        found.refuse(folder.place, "has fwknopd read that folder, and no access.conf", hint)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_HTTP = "SPA over HTTP is not heard"
_REFUSED: dict[str, tuple[bool | None, str, str]] = {
    "PCAP_FILE": (None, "the gate listens to a network", "knockgate simulate reads a capture"),
    "ENABLE_PCAP_ANY_DIRECTION": (
        True,
        "packets that go out are not heard",
        "run the gate where they are sent to",
    ),
    "ENABLE_SPA_PACKET_AGING": (
        False,
        "a packet's age always counts",
        'MAX_SPA_PACKET_AGE up to 86400; clock = "unknown" in [gate] is for machines without a clock',
    ),
    "ENABLE_DIGEST_PERSISTENCE": (
        False,
        "packets are always remembered: none is taken twice",
        "take it away",
    ),
    "ENABLE_SPA_OVER_HTTP": (True, _HTTP, "send them over UDP"),
    "ENABLE_TCP_SERVER": (True, "packets over TCP are not heard", "send them over UDP"),
    "ENABLE_DESTINATION_RULE": (
        True,
        "a lease is for all addresses of this host",
        "interface in [gate] narrows the gate to one interface; else take the line away",
    ),
}
"""Option -> the value that is refused (None: any), the reason, and a hint."""

_NAT = "the gate translates no addresses: a packet that asks for it is refused"
_NOTED: dict[str, tuple[str, str]] = {
    "ENABLE_PCAP_PROMISC": (
        "packets for other machines are not heard",
        "run the gate where they are sent to",
    ),
    "ENABLE_IPT_FORWARDING": (_NAT, "open a port of the host itself"),
    "ENABLE_IPT_LOCAL_NAT": (_NAT, "let clients ask for the port itself"),
    "ENABLE_IPT_SNAT": (_NAT, "open a port of the host itself"),
    "ENABLE_FIREWD_FORWARDING": (_NAT, "open a port of the host itself"),
    "ENABLE_FIREWD_LOCAL_NAT": (_NAT, "let clients ask for the port itself"),
    "ENABLE_FIREWD_SNAT": (_NAT, "open a port of the host itself"),
    "ENABLE_IPT_OUTPUT": ("only what comes in is guarded", "let your firewall pass established connections"),
    "ENABLE_FIREWD_OUTPUT": (
        "only what comes in is guarded",
        "let your firewall pass established connections",
    ),
}
_USED = _names(
    "PCAP_INTF PCAP_FILTER MAX_SPA_PACKET_AGE ENABLE_UDP_SERVER UDPSERV_PORT ENABLE_NFQ_CAPTURE NFQ_PORT "
    "NFQ_INTERFACE ACCESS_FOLDER"
)
#: How fwknopd does its work, which is done otherwise here.
_UNUSED = _names(
    "ACCESS_FILE AFL_PKT_FILE ALLOW_ANY_USER_AGENT CMD_EXEC_TIMEOUT CONFIG_FILE DIGEST_DB_FILE DIGEST_FILE "
    "ENABLE_FIREWD_COMMENT_CHECK ENABLE_IPT_COMMENT_CHECK ENABLE_NAT_DNS ENABLE_RULE_PREPEND "
    "ENABLE_X_FORWARDED_FOR EXIT_AT_INTF_DOWN FAULT_INJECTION_TAG FIREWALL_EXE FIREWD_DNAT_ACCESS "
    "FIREWD_FORWARD_ACCESS FIREWD_INPUT_ACCESS FIREWD_MASQUERADE_ACCESS FIREWD_OUTPUT_ACCESS "
    "FIREWD_SNAT_ACCESS FLUSH_FIREWD_AT_EXIT FLUSH_FIREWD_AT_INIT FLUSH_IPFW_AT_EXIT FLUSH_IPFW_AT_INIT "
    "FLUSH_IPT_AT_EXIT FLUSH_IPT_AT_INIT FWKNOP_CONF_DIR FWKNOP_PID_FILE FWKNOP_RUN_DIR GPG_EXE GPG_HOME_DIR "
    "IPFW_ACTIVE_SET_NUM IPFW_ADD_CHECK_STATE IPFW_EXPIRE_PURGE_INTERVAL IPFW_EXPIRE_SET_NUM IPFW_MAX_RULES "
    "IPFW_START_RULE_NUM IPT_DNAT_ACCESS IPT_FORWARD_ACCESS IPT_INPUT_ACCESS IPT_MASQUERADE_ACCESS "
    "IPT_OUTPUT_ACCESS IPT_SNAT_ACCESS LOCALE MAX_SNIFF_BYTES NFQ_CHAIN NFQ_LOOP_SLEEP NFQ_QUEUE_NUMBER "
    "NFQ_TABLE OVERRIDE_CONFIG PCAP_DISPATCH_COUNT PCAP_LOOP_SLEEP PF_ANCHOR_NAME PF_EXPIRE_INTERVAL "
    "RULES_CHECK_THRESHOLD SNAT_TRANSLATE_IP SUDO_EXE SYSLOG_FACILITY SYSLOG_IDENTITY TCPSERV_PORT "
    "UDPSERV_SELECT_TIMEOUT VERBOSE"
)
#: In its example file, but not in its program.
_UNKNOWN_THERE = _names(
    "BLACKLIST ENABLE_EXTERNAL_CMDS ENABLE_EXT_CMD_PREFIX EXTERNAL_CMD_ALARM EXTERNAL_CMD_CLOSE "
    "EXTERNAL_CMD_OPEN EXT_CMD_PREFIX FIREWALL_TYPE IPT_EXEC_TRIES"
)
_ALL = frozenset(_REFUSED) | frozenset(_NOTED) | _USED | _UNUSED | _UNKNOWN_THERE
