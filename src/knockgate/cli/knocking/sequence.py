"""A knock that is a sequence of steps."""

from __future__ import annotations

from knockgate.cli.knocking.attempt import Attempt
from knockgate.client import send
from knockgate.client.profiles import SequenceProfile
from knockgate.config.toml import spell

__all__ = ["SequenceAttempt"]


class SequenceAttempt(Attempt):
    """One packet for each step."""

    what = "the last knock"

    def __init__(self, profile: SequenceProfile) -> None:
        super().__init__(profile)
        self._plan = profile

    def ready(self) -> None:
        """Nothing is needed."""

    def send(self) -> float:
        """Knock."""
        plan = self._plan
        return send.knock(self.address, plan.steps, delay=plan.delay, source=plan.source)

    def asked(self) -> dict[str, object]:
        """The steps."""
        return {"steps": [str(step) for step in self._plan.steps]}

    def line(self, where: str) -> str:
        """The same in words."""
        steps = " ".join(map(str, self._plan.steps))
        if self.sent:
            return f"knocked at {where} from {self.source}: {steps}"
        origin = f"from {self.source}" if self.source else "but there is no route"
        return f"would knock at {where}, {origin}: {steps}, {spell(self._plan.delay)} apart"
