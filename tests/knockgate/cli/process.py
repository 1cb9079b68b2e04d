"""The command as people start it: a process of its own, in whatever network the test is in."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from tests.netns import DEADLINE

#: Warnings are a test's business, not a user's; and a user's profiles are none of a test's.
ENVIRONMENT = {"PYTHONPATH": "src", "XDG_CONFIG_HOME": "/nonexistent"}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "knockgate", *words]


def environment(**others: str) -> dict[str, str]:
    return os.environ | ENVIRONMENT | others


def knockgate(*words: str, text: str | None = None, **others: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end; ``others`` are variables of its environment."""
    return subprocess.run(
        command(*words),
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=environment(**others),
    )


def started(*words: str, **popen: Any) -> subprocess.Popen[str]:  # noqa: ANN401
    """Start it and let it run."""
    return subprocess.Popen(command(*words), text=True, env=environment(), **popen)
