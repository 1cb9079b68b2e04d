"""CMD_CYCLE_OPEN and CMD_CYCLE_CLOSE -> commands of a door.

fwknopd splits the line at blanks and runs it without a shell, so ours is a list of words. It replaces
``$IP`` and the like wherever they stand in it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from knockgate.config.doors import Commands
from knockgate.config.fwknop.words import plain
from knockgate.config.toml import Wrong
from knockgate.model import Port

__all__ = ["Cycle", "command_line", "commands_of"]

_LONGEST = 255
_TIME_LIMIT = 3600.0
"""fwknopd waits for a command for ever; this is the longest that ``Commands`` allows, seconds."""
#: In fwknopd's order: it takes the first that what follows the $ begins with.
_VARIABLES = ("IP", "SRC", "PKT_SRC", "DST", "PORT", "PROTO", "TIMEOUT", "CLIENT_TIMEOUT")
_MISSING = {
    "PKT_SRC": "who sent the packet is not told to commands; $IP is whom it lets in",
    "DST": "where the packet was sent is not told to commands; write the address",
    "TIMEOUT": "when the door closes is not told to commands: they are run when it does",
    "CLIENT_TIMEOUT": "how long the door stays open is not told to commands: they are run when it closes",
}


class Cycle(NamedTuple):
    """What a stanza runs, as lines of fwknop's; ``close`` is empty for NONE."""

    open: str
    close: str

    @property
    def names_a_port(self) -> bool:
        """Whether it is another command for each port."""
        return any(name in ("PORT", "PROTO") for line in self for name in _names(line))


def command_line(value: str) -> str:
    """The value if it can be run here; raises Wrong."""
    plain(value)
    if len(value.encode()) > _LONGEST:
        raise Wrong(f"is longer than {_LONGEST} bytes", "fwknopd refuses it; put it into a script")
    if re.match(r"-|[^/\s]*=", value):
        raise Wrong("does not begin with the name of a program", "such as /usr/sbin/ipset")
    if "%IP%" in value:
        raise Wrong("has %IP%, which would be replaced here", "give it another name")
    for name in _names(value):
        if name in _MISSING:
            raise Wrong(f"has ${name}", _MISSING[name])
        if name not in _VARIABLES:
            hint = f"of a $ before anything but {', '.join(_VARIABLES)} fwknopd leaves nothing"
            raise Wrong("has a $ that means nothing", hint)
    return value


def commands_of(cycle: Cycle, port: Port) -> Commands:
    """The commands of a door for ``port``, or for any port where it does not name one.

    They are run for IPv4 alone, as by fwknopd, which knows nothing else.
    """
    start, stop = (_words(line, port) for line in cycle)
    return Commands(open=start, close=stop, open6=(), time_limit=_TIME_LIMIT)


def _names(line: str) -> list[str]:
    """What each $ stands before: the variable that fwknopd sees in it, or empty."""
    after = [line[found.end() :] for found in re.finditer(r"\$", line)]
    return [next((name for name in _VARIABLES if rest.startswith(name)), "") for rest in after]


def _words(line: str, port: Port) -> tuple[str, ...]:
    values = {"IP": "%IP%", "SRC": "%IP%", "PORT": str(port.number), "PROTO": str(int(port.protocol))}
    replaced = re.sub(r"\$(IP|SRC|PORT|PROTO)", lambda found: values[found[1]], line)
    words = tuple(re.findall(r"[^ \t\n\v\f\r]+", replaced))
    if words and not words[0].startswith("/"):
        return ("/usr/bin/env", *words)  # which looks where execvp(3) does
    return words
