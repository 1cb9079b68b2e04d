"""A gate.toml of somebody who mistypes."""

from __future__ import annotations

import random
import time

import pytest
from tests.attacks.figures import figure

from knockgate.config import doors
from knockgate.errors import ConfigError

GATE = """
[gate]
clock = "auto"
log = "text"
[doors.ssh]
ports = ["tcp/22"]
lease = "30s"
[doors.ssh.sequence]
steps = ["tcp/7000", "udp/7001"]
within = "10s"
[doors.web]
ports = ["tcp/80", "udp/443"]
allow = ["192.0.2.0/24"]
"""


@pytest.mark.parametrize("number", [150, pytest.param(5000, marks=pytest.mark.long)])
def test_a_gate_toml_with_slips(number: int) -> None:
    """Letters that are missing, doubled, swapped or wrong, lines that are: an error, or none."""
    dice, wrong, slowest = random.Random(7), 0, 0.0
    said: list[str] = []
    for _ in range(number):
        text = GATE
        for _ in range(dice.randrange(1, 4)):
            text = _slip(text, dice) if len(text) > 2 else GATE
        began = time.monotonic()
        try:
            doors.parse(text)
        except ConfigError as error:
            wrong += 1
            said.append(str(error))
        slowest = max(slowest, time.monotonic() - began)
    assert all(0 < len(each) < 1000 for each in said)
    assert number // 3 < wrong < number and slowest < 2
    figure(
        "files.gate.toml with slips",
        tries=number,
        wrongly=0,
        rightly=number - wrong,
        control="what is no mistake is read",
        refused=wrong,
        slowest_ms=round(1000 * slowest, 1),
        longest_message_bytes=max(map(len, said)),
    )


def _slip(text: str, dice: random.Random) -> str:
    at, lines = dice.randrange(len(text) - 1), text.splitlines(keepends=True)
    match dice.randrange(7):
        case 0:
            return text[:at] + text[at + 1 :]
        case 1:
            return text[:at] + text[at] + text[at:]
        case 2:
            return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        case 3:
            return text[:at] + dice.choice("aZ09\"'[]{}=#.,/\\\x00\x1b\né") + text[at + 1 :]
        case 4:
            lines.pop(dice.randrange(len(lines)))
        case 5:
            lines.insert(dice.randrange(len(lines)), dice.choice(lines))
        case _:
            return text[:at]
    return "".join(lines)
