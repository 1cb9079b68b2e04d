"""docs/backup.md, block by block, with knocks that somebody has recorded before the backup and after it.

Beside each replay that is refused a new knock that opens, and the same replay at a gate that was copied
without further ado, where it opens once more.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import REPO
from tests.interop.sealed import (
    SECOND,
    Gate,
    Person,
    environment,
    machine,
    now,
    public,
    recording,
    root,
    send,
    set_clocks,
)
from tests.interop.test_getting_started import commands, shape
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import CLIENT, leases
from tests.netns import DEADLINE, isolated, until

from knockgate.daemon import control

pytestmark = root

PAGE = (REPO / "docs" / "backup.md").read_text()
STATE = Path("/var/lib/knockgate")
FWKNOP = 62201


def blocks(section: str) -> list[str]:
    """What is typed in it at the host."""
    (text,) = re.findall(rf"(?ms)^## {re.escape(section)}$\n(.*?)(?=^## |\Z)", PAGE)
    return re.findall(r"(?ms)^```console\n(.*?)^```$", text)


class Site:
    """A gate for both kinds of packets, two people who knock, and somebody who records them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "root"
        self.home.mkdir()
        self.clock, theirs = set_clocks()
        self.clock.synchronised()
        self.jo = Person(folder / "jo", clocks=theirs)
        key = self.jo.key()
        self.gate = Gate(folder, public(key))
        self.jo.trusts(self.gate, key)
        self.secrets = self.gate.etc / "alice.secrets"
        self.types("knockgate key new --fwknop alice --door ssh -o /etc/knockgate/alice.secrets")
        self.gate.says(f'\n[keys.alice]\nfwknop = "{self.secrets}"\ndoors = ["ssh"]\n', gate='clock = "auto"')
        shutil.copy(self.secrets, self.jo.home / "alice.secrets")
        row = "0f" * 16
        self.types(f"knockgate device forget {row} --name stolen")
        self.gate.card.unlink()  # it is at the client, and the gate's files are what is to be kept
        self.gate.start()

    def reads(self, section: str, number: int) -> None:
        """Type a block of the page, and compare with what it shows."""
        for side, words, shown in commands(blocks(section)[number]):
            assert side == "#"
            said = self.types(words)
            assert not shown or shape(said) == shape(self._here(shown)), said

    def _here(self, text: str) -> str:
        """Root's home is this machine's, where nothing is to be left."""
        return text.replace("/root/", f"{self.home}/")

    def types(self, words: str) -> str:
        tool = self.folder / "bin" / "knockgate"
        if not tool.exists():
            tool.parent.mkdir()
            tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m knockgate "$@"\n')
            tool.chmod(0o755)
        own = environment(HOME="/root")
        own["PATH"] = f"{tool.parent}:{own['PATH']}"
        if words == "knockgate replay reset":  # at a terminal, where it asks, they say yes
            words += " --yes"
        done = subprocess.run(
            ["sh", "-euc", self._here(words)],
            env=own,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout

    def knocks(self, next_one: Callable[[], bytes], *, opens: bool = True) -> tuple[bytes, bytes]:
        """Both of them knock; what was recorded. They are let in, where somebody hears them."""
        self.jo.knock()
        first = next_one()
        if opens:
            self.opened()
        words = ["--fwknop", "--secrets", str(self.jo.home / "alice.secrets"), "-A", "22", "-a", CLIENT]
        self.jo.does("knock", "home.example", *words)
        second = next_one()
        if opens:
            self.opened()
        return first, second

    def opened(self) -> None:
        until(lambda: leases() == {("tcp/22", CLIENT, "packet")}, "the door is open")
        self.gate.close()

    def refuses(self, *recorded: tuple[bytes, bytes]) -> None:
        """All of these; and then both knock anew, and come in."""
        before = self.counts()
        for one, other in recorded:
            send(one)
            running.send(other, port=FWKNOP)
        wanted = (before[0] + len(recorded), before[1] + len(recorded))
        until(lambda: self.counts() == wanted, "all are refused")
        assert leases() == set()
        with recording() as next_one:
            self.knocks(next_one)

    def counts(self) -> tuple[int, int]:
        """Sealed knocks that were replayed, and packets of fwknop's that were stale."""
        told = control.ask("/run/knockgate")
        return told["sealed"]["refused"].get("replayed", 0), told["packets"]["refused"].get("stale", 0)

    def takes(self, recorded: tuple[bytes, bytes]) -> None:
        """They open once more: the control."""
        send(recorded[0])
        self.opened()
        running.send(recorded[1], port=FWKNOP)
        self.opened()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The gate, which starts when what is dated then is dated after what was done meanwhile."""
        self.gate.end()
        yield
        self.later()
        self.gate.start()

    @contextmanager
    def gone(self) -> Iterator[None]:
        """The gate has ended, and the machine is another one."""
        with self.stopped():
            self.types("knockgate down")
            for path in (self.gate.etc, STATE):
                shutil.rmtree(path, ignore_errors=True)
            yield

    def later(self) -> None:
        """What is dated from now on is dated after what was done."""
        passed = now() + SECOND
        until(lambda: now() > passed, "a second has passed")


@contextmanager
def recorded(folder: Path) -> Iterator[tuple[Site, Callable[[], bytes], tuple[bytes, bytes]]]:
    """A gate that runs, who records what comes, and knocks from before all else."""
    with machine(folder), recording() as next_one:
        site = Site(folder)
        yield site, next_one, site.knocks(next_one)


@pytest.mark.long
@isolated
def test_what_was_recorded_opens_nothing_at_the_new_machine(tmp_path: Path) -> None:
    with recorded(tmp_path) as (site, next_one, before):
        site.reads("Make a backup", 0)
        after = site.knocks(next_one)
        with site.stopped():
            held_back = site.knocks(next_one, opens=False)  # nobody has heard them
        with site.gone():
            site.later()
            site.reads("Restore it", 0)
        site.refuses(before, after, held_back)
        assert "stolen" in site.types("knockgate device list")


@pytest.mark.long
@isolated
def test_copied_by_hand_and_what_it_takes_when_that_is_forgotten(tmp_path: Path) -> None:
    """The copy is a second machine with the same keys, too: it has not heard what the other one has."""
    with recorded(tmp_path) as (site, next_one, before):
        with site.stopped():
            site.reads("By hand", 0)
        after = site.knocks(next_one)
        with site.gone():
            site.types(commands(blocks("By hand")[1])[0][1])
        site.takes(after)
        with site.gone():
            site.reads("By hand", 1)
        send(before[0])
        send(after[0])
        until(lambda: site.counts()[0] == 2, "both are refused")
        # The page says: no sooner than two minutes after the old one has stopped.
        running.send(after[1], port=FWKNOP)
        site.opened()
        site.clock.lead(125 * SECOND)
        running.send(before[1], port=FWKNOP)
        until(lambda: site.counts()[1] == 1, "it is too old")
        assert leases() == set()


@pytest.mark.long
@isolated
def test_after_a_snapshot_was_put_back(tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"

    def put_back() -> None:
        shutil.rmtree(STATE)
        shutil.copytree(snapshot, STATE, copy_function=shutil.copy2)

    with recorded(tmp_path) as (site, next_one, before):
        with site.stopped():
            shutil.copytree(STATE, snapshot, copy_function=shutil.copy2)
        first, second = site.knocks(next_one), site.knocks(next_one)
        with site.stopped():
            put_back()
        site.takes(first)
        with site.stopped():
            put_back()
            site.reads("After a snapshot was put back", 0)
        site.refuses(before, first, second)
        assert list(site.home.iterdir()) == []
