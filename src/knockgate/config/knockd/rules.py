"""Which ports a firewall command opens, or shuts again, for ``%IP%``: what the kernel could do alone.

Known are plain lines of iptables, ip6tables, nft, ufw and of the script that comes with knockd. Anything
that is not understood to the last word is not recognised at all: a port that is only half of what a
command does must not be offered as all of it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath
from typing import NamedTuple

from knockgate.model import Port, Protocol

__all__ = ["Opening", "opening_of"]

_IP = "%IP%"


class Opening(NamedTuple):
    """Ports that a command opens for the source or, where ``shuts``, shuts again."""

    ports: tuple[Port, ...]
    shuts: bool


def opening_of(command: str) -> Opening | None:
    """What a line for the shell does; None where it is not one of the commands known here, or does more."""
    if re.search(r"[;&|<>$`\\\n]", command):
        return None
    try:
        program, *words = shlex.split(command, comments=True)
    except ValueError:  # an open quote, or nothing at all
        return None
    name = PurePosixPath(program).name
    if name == "sudo" and words:
        name, *words = PurePosixPath(words[0]).name, *words[1:]
    if re.fullmatch(r"ip6?tables(-nft|-legacy)?", name):
        return _iptables(words)
    if name == "nft":
        return _nft(" ".join(words))
    if name == "ufw":
        return _ufw(" ".join(words))
    if name in ("knock_add", "knock_helper_ipt.sh"):
        return _knock_helper(words)
    return None


def _ports(protocol: str, numbers: str) -> tuple[Port, ...] | None:
    """``tcp`` and ``22,80`` or ``{ 22, 80 }`` -> the ports; None for a range, a service name or nonsense."""
    words = [word.strip() for word in numbers.strip("{} ").split(",")]
    if protocol not in ("tcp", "udp") or not all(re.fullmatch(r"[0-9]{1,5}", word) for word in words):
        return None
    found = tuple(dict.fromkeys(int(word) for word in words))
    if not all(1 <= number <= 65535 for number in found):
        return None
    return tuple(Port(Protocol[protocol.upper()], number) for number in found)


_CHAIN = {"-A": False, "--append": False, "-I": False, "--insert": False, "-D": True, "--delete": True}
#: Options of iptables with a value that do not matter here: a match that holds for whoever knocks.
_PASSED_OVER = {"-i", "--in-interface", "-m", "--match", "--comment"}


def _iptables(words: list[str]) -> Opening | None:
    """``-A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT`` and its like."""
    shuts: bool | None = None
    given: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-w", "--wait"):
            rest = rest[1:] if rest and rest[0].isdigit() else rest
        elif word == "--syn":
            continue
        elif not rest:
            return None
        elif word in _CHAIN and shuts is None:
            shuts = _CHAIN[word]
            if rest.pop(0).upper() in ("FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"):
                return None
            rest = rest[1:] if rest and rest[0].isdigit() else rest
        elif word in _PASSED_OVER or (word in ("--state", "--ctstate") and "NEW" in rest[0].split(",")):
            rest.pop(0)
        else:
            given[word.lstrip("-")] = rest.pop(0)
    ip = given.pop("s", "") or given.pop("source", "") or given.pop("src", "")
    target = given.pop("j", "") or given.pop("jump", "")
    protocol = given.pop("p", "") or given.pop("protocol", "") or "tcp"  # as in an example of knockd's manual
    numbers = given.pop("dport", "") or given.pop("dports", "") or given.pop("destination-port", "")
    ports = _ports(protocol, numbers)
    if shuts is None or given.pop("t", "filter") != "filter" or given or not ports:
        return None
    if ip not in (_IP, f"{_IP}/32", f"{_IP}/128") or target != "ACCEPT":
        return None
    return Opening(ports, shuts)


_NFT_RULE = re.compile(
    r"(?:add|insert) rule (?:(?:inet|ip|ip6) )?[\w.-]+ (?P<chain>[\w.-]+) (?:(?:index|position|handle) \d+ )?"
    r"(?:iif(?:name)? \S+ )?ip6? saddr %IP% (?:(?:ip6? )?(?:protocol|nexthdr) \w+ )?"
    r"(?P<protocol>tcp|udp) dport (?P<numbers>\d+|\{[\d, ]+\}) "
    r"(?:ct state (?:new|\{[a-z, ]+\}) )?(?:counter )?accept(?: comment .*)?"
)


def _nft(text: str) -> Opening | None:
    """``add rule inet filter input ip saddr %IP% tcp dport 22 accept``; rules are deleted by a number."""
    found = _NFT_RULE.fullmatch(" ".join(text.split()))
    if not found or found["chain"].lower() in ("forward", "output", "prerouting", "postrouting"):
        return None
    ports = _ports(found["protocol"], found["numbers"])
    return Opening(ports, shuts=False) if ports else None


_UFW_RULE = re.compile(
    r"(?:--force )?(?P<delete>delete )?(?:insert \d+ |prepend )?allow (?:in )?(?:proto (?P<before>tcp|udp) )?"
    r"from %IP% to any port (?P<numbers>[\d,]+)(?: proto (?P<after>tcp|udp))?(?: comment .*)?"
)


def _ufw(text: str) -> Opening | None:
    """``allow from %IP% to any port 22 proto tcp``; without a protocol it is both."""
    found = _UFW_RULE.fullmatch(text)
    if not found:
        return None
    protocol = found["before"] or found["after"]
    ports: tuple[Port, ...] = ()
    for each in (protocol,) if protocol else ("tcp", "udp"):
        ports += _ports(each, found["numbers"]) or ()
    return Opening(ports, bool(found["delete"])) if ports else None


def _knock_helper(words: list[str]) -> Opening | None:
    """``-i -c INPUT -p tcp -d 443 -f %IP%``: knock_helper_ipt.sh, which some install as knock_add."""
    actions = [word for word in words if word in ("-a", "-i", "-x")]
    rest = [word for word in words if word not in actions]
    given = dict(zip(rest[::2], rest[1::2], strict=False))
    ports = _ports(given.pop("-p", "tcp"), given.pop("-d", ""))
    if len(actions) != 1 or len(rest) % 2 or not ports or given.pop("-f", "") != _IP:
        return None
    if given.pop("-c", "INPUT") in ("FORWARD", "OUTPUT") or given:
        return None
    return Opening(ports, shuts=actions == ["-x"])
