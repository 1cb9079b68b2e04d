"""What profiles are made of: text that the kernel, Python and py-spy tell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench import watched
from bench.processes import memory, memory_by_kind, name_of

SMAPS = """\
00400000-00420000 r--p 00000000 fe:01 123    /usr/bin/python3.11
Rss:                 100 kB
Pss:                  40 kB
00a00000-00b00000 rw-p 00000000 00:00 0      [heap]
Pss:                 300 kB
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
Pss:                 200 kB
7f0000200000-7f0000300000 r-xp 00000000 fe:01 124    /x/site-packages/cryptography/_rust.abi3.so
Pss:                  50 kB
7f0000400000-7f0000500000 r-xp 00000000 fe:01 125    /usr/lib/x86_64-linux-gnu/libnftables.so.1.1.0
Pss:                  60 kB
7f0000600000-7f0000700000 rw-s 00000000 00:09 126    socket:[4711]
Pss:                  70 kB
7f0000800000-7f0000900000 r-xp 00000000 fe:01 127    /opt/unheard-of.so
Pss:                   9 kB
"""
IMPORTS = """\
-I -c from knockgate.daemon.warden import main; main()
import time: self [us] | cumulative | imported package
import time:       500 |        500 |   _io
import time:      1500 |       2000 |     collections.abc
import time:      3000 |       9000 | knockgate.daemon.warden
import time:       700 |        700 | apport_python_hook
knockgate-warden: guarding 1 door
"""


def test_memory_by_what_it_is_of() -> None:
    assert memory_by_kind(SMAPS) == {
        "objects and code": 500 * 1024,
        "packets that wait": 70 * 1024,
        "libnftables": 60 * 1024,
        "cryptography": 50 * 1024,
        "interpreter": 40 * 1024,
        "others": 9 * 1024,
    }


def test_all_memory_of_a_process_is_of_something() -> None:
    _, shared = memory([os.getpid()])
    kinds = memory_by_kind(Path("/proc/self/smaps").read_text())
    assert sum(kinds.values()) == pytest.approx(shared, rel=0.1)
    assert kinds["objects and code"] > kinds["interpreter"] > 0


def test_a_process_that_is_no_half_supervises() -> None:
    assert name_of(os.getpid()) == "supervisor"


def test_what_is_started_instead_of_python_tells_its_imports_wherever_that_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a b; $HOME"
    folder.mkdir()
    python = folder / "python"
    python.symlink_to(sys.executable)
    monkeypatch.setattr(watched, "FILES", tmp_path)
    monkeypatch.setattr(watched, "_IMPORTS", tmp_path / "imports")
    monkeypatch.setattr(sys, "executable", str(python))
    done = subprocess.run([watched.wrapper(), "-I", "-c", "print(7)"], capture_output=True, check=True)
    assert done.stdout == b"7\n"
    assert watched.import_times()["supervisor"]["standard library"] > 0


def test_imports_are_added_up_by_package() -> None:
    assert watched.imports(IMPORTS) == {"knockgate": 3.0, "standard library": 2.0, "others": 0.7}


def test_functions_have_their_share_of_the_time_in_which_nobody_waited() -> None:
    stacks = [
        "<module> (<string>:1);serve (knockgate/listener.py:100);EpollSelector.select (selectors.py:9) 500",
        "<module> (<string>:1);serve (knockgate/listener.py:100);take (knockgate/capture/ring.py:9) 30",
        "<module> (<string>:1);take (knockgate/capture/ring.py:9) 30",
        "<module> (<string>:1);hear (knockgate/daemon/ears.py:1) 40",
    ]
    assert watched.shares(stacks) == {"take, capture/ring.py": 60.0, "hear, daemon/ears.py": 40.0}


def test_functions_of_little_weight_are_told_in_one() -> None:
    found = watched.shares(f"f{number} (a.py:1) {number + 1}" for number in range(20))
    assert [*found][:1] == ["f19, a.py"] and [*found][-1] == "others" and len(found) == 10
    assert sum(found.values()) == pytest.approx(100, abs=0.2)


def test_nothing_was_watched() -> None:
    assert watched.shares([]) == {}
