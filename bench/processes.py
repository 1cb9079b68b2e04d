"""What there is to know of processes: their memory, by what it is of, and which half of the gate one is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

__all__ = ["MAPPINGS", "memory", "memory_by_kind", "name_of"]

_HALVES = re.compile(r"\b(warden|listener|runner|keeper)\b")
#: Of a mapping (proc(5), maps): what its file is called, and what it is of. The first that fits.
MAPPINGS = (
    (re.compile(r"cryptography|_cffi_backend|lib(crypto|ssl)|_hashlib|_ssl"), "cryptography"),
    (re.compile(r"lib(nftables|nftnl|mnl|jansson|gmp|xtables|edit|bsd|md|tinfo)\b"), "libnftables"),
    (re.compile(r"sqlite"), "SQLite"),
    (re.compile(r"^(socket:|/dev/zero)"), "packets that wait"),
    (
        re.compile(r"/(bin/python|lib/python|libc\b|libc\.|libm\.|ld-|libz|libexpat|libffi|locale)"),
        "interpreter",
    ),
    (re.compile(r"^(\[heap\]|\[anon|\[stack\]|)$"), "objects and code"),
)


def name_of(process: int) -> str:
    """``warden``, ``listener``, ``runner``, ``keeper``, or ``supervisor``."""
    command = Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
    for word in command[1:5]:
        if "knockgate" in word or word in ("warden", "listener", "runner", "keeper"):
            found = _HALVES.search(word)
            if found:
                return found.group(1)
    return "supervisor"


def memory(processes: Iterable[int]) -> tuple[int, int]:
    """Bytes resident, and the same with what is shared shared out (proc(5), smaps_rollup)."""
    resident = shared = 0
    for process in processes:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        found = dict(re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.MULTILINE))
        resident += int(found["Rss"]) * 1024
        shared += int(found["Pss"]) * 1024
    return resident, shared


def memory_by_kind(smaps: str) -> dict[str, int]:
    """Bytes, what is shared shared out (PSS), by what they are of; out of /proc/PID/smaps."""
    found: Counter[str] = Counter()
    kind = ""
    for line in smaps.splitlines():
        heading = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$", line)
        if heading:
            place = heading.group(1)
            kind = next((each for pattern, each in MAPPINGS if pattern.search(place)), "others")
        elif line.startswith("Pss:"):
            found[kind] += int(line.split()[1]) * 1024
    return {each: size for each, size in found.most_common() if size}
