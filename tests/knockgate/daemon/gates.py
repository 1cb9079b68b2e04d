"""A door whose commands keep a rule in a folder in place of a firewall, and a runner that is stepped."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.netns import until

from knockgate.config.doors import Commands, Door
from knockgate.daemon.command import end_all
from knockgate.daemon.commands import Runner, boottime
from knockgate.daemon.errands import Errand
from knockgate.model import Port, Protocol
from knockgate.store.pending import Pending, PendingStore

CLIENT, OTHER, CLIENT6 = bytes([192, 0, 2, 7]), bytes([192, 0, 2, 8]), bytes.fromhex("20010db8" + "00" * 12)
BOOT = "a boot"


@dataclasses.dataclass
class Gate:
    """What a test sees of the world: ``log`` has a line for each event that the commands went through."""

    folder: Path
    said: list[str] = dataclasses.field(default_factory=list)
    made: list[tuple[Runner, PendingStore]] = dataclasses.field(default_factory=list)

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def rules(self) -> list[str]:
        """The rules that stand: one for each opening that no closing has taken away."""
        path = self.folder / "rules"
        return path.read_text().splitlines() if path.exists() else []

    def door(
        self,
        name: str = "ssh",
        *,
        lease: float = 60,
        wait: float = 0,
        **commands: tuple[str, ...] | bool | float,
    ) -> Door:
        """Opening adds a rule, after ``wait`` seconds; closing takes one away. As knockd's shell lines."""
        to = f"{self.folder}/log"
        rules = f"{self.folder}/rules"
        Path(rules).touch()  # or closing what was never opened fails
        alone = f"flock {self.folder}/lock"  # sed puts a new file in the old one's place
        add = f"{alone} sh -c 'echo %IP% >>{rules}'"
        given: dict[str, Any] = {
            "open": (f"echo open %IP% >>{to}; sleep {wait}; {add}; echo opened %IP% >>{to}",),
            "close": (f"{alone} sed -i '0,/^%IP%$/{{//d}}' {rules} && echo closed %IP% >>{to}",),
            "shell": True,
        }
        return Door(
            name=name,
            ports=(Port(Protocol.TCP, 22),),
            lease=lease,
            commands=Commands(**{**given, **commands}),
        )

    def runner(self, *doors: Door, boot: str = BOOT, now: Callable[[], float] = boottime) -> Runner:
        store = PendingStore(self.folder / "pending", boot)
        self.made.append((Runner(doors, store, self.said.append, now), store))
        return self.made[-1][0]

    def rows(self) -> list[Pending]:
        """What the last runner has on the disk."""
        return self.made[-1][1].rows()

    def leave(self) -> None:
        """Let go of the disk, as the last runner does when it ends."""
        self.made[-1][1].close()

    def end(self) -> None:
        """End what a test that failed left running."""
        for runner, store in self.made:
            for job in runner._jobs:
                end_all(job.command.process, signal.SIGKILL)
            runner.stop()
            step_until(runner, lambda each=runner: each.is_idle, "no command is left")  # type: ignore[misc]
            store.close()


def step_until(runner: Runner, condition: Callable[[], object], what: str) -> None:
    """Step until it is so."""

    def so() -> bool:
        runner.step(0.01)
        return bool(condition())

    until(so, what)


def knock(runner: Runner, source: bytes = CLIENT, door: str = "ssh") -> None:
    runner.run(Errand(door, source, date=runner._now()))
