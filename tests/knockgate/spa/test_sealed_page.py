"""docs/spec/spa-v1.md: its example is what the tools make, and what the packet's own code makes of it."""

from __future__ import annotations

import re

from tests.knockgate.spa.sealed_messages import CARD_KEYS, KEY, is_signed
from tools import sealed_example

from knockgate.errors import Reason
from knockgate.spa.sealed import Suite, device_id, unseal

TEXT = sealed_example.PAGE.read_text()


def values(title: str) -> dict[str, str]:
    """Of a block: what stands behind a name, with the lines that follow it."""
    block = TEXT.split(f"**{title}.**\n\n```text\n")[1].split("```")[0]
    found: dict[str, str] = {}
    name = ""
    for line in block.splitlines():
        name = line[:24].strip() or name
        found[name] = found.get(name, "") + line[24:]
    return found


def test_the_example_is_what_is_made() -> None:
    """``python -m tools.sealed_example`` writes it."""
    assert sealed_example.written(TEXT) == TEXT
    assert "SHA-256(datagram)" in TEXT


def test_the_example_opens() -> None:
    gate, said, small = values("The gate"), values("The message"), values("Sealed with X25519")
    assert KEY.gate.hex() == gate["G"]
    device = device_id(bytes.fromhex(said["client secret"]), KEY.gate, said["machine-id"].encode())
    assert device.hex() == said["device"]
    message = unseal(bytes.fromhex(small["datagram"]), CARD_KEYS, KEY)
    assert message.encode().hex() == said["message"]
    assert (message.head.encode().hex(), message.head.device) == (said["head"], device)
    assert is_signed(message, KEY.gate)
    for suite, title in ((Suite.X25519, "Sealed with X25519"), (Suite.XWING, "Sealed with X-Wing")):
        assert suite.info(KEY.gate).hex() == values(title)["info"]


def test_the_steps_have_our_reasons() -> None:
    """Up to the signature in the order of ``errors.Reason``, too."""
    steps = re.findall(r"^\| (\d+) \|.*?\| ((?:`[a-z-]+`(?:, )?)+)[^|]*\|[^|]*\|$", TEXT, re.MULTILINE)
    assert [int(step) for step, _ in steps] == [*range(1, 16)]
    reasons = [Reason(name) for _, names in steps for name in re.findall(r"`([a-z-]+)`", names)]
    before = [each for each in Reason if each in reasons[:7]]
    assert reasons[:7] == before


def test_the_table_has_the_lengths() -> None:
    assert re.findall(r"^\| X.*\| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE) == [
        (str(suite.encapsulation), str(suite.length)) for suite in Suite
    ]
