"""vectors/fwknop/: each file is what it says, and the page says the same."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from pathlib import Path

import pytest
from tests.conftest import REPO
from tests.knockgate.spa.libfko import needs_libfko, read
from tests.knockgate.spa.messages import OUTSIDE, refusal
from tools import vectors

from knockgate.errors import Reason
from knockgate.model import address_text
from knockgate.spa.fwknop import Hash, Keyring, Mode, Secret, unseal

FILES = sorted(vectors.FOLDER.glob("*.json"))
PAGE = REPO / "docs" / "reference" / "fwknop-packet.md"


def opened(file: Path) -> tuple[bytes, Secret]:
    vector = json.loads(file.read_text())
    hmac_key = None if vector["hmac_key"] is None else base64.b64decode(vector["hmac_key"])
    secret = Secret(base64.b64decode(vector["key"]), hmac_key, Hash(vector["hmac"]), Mode(vector["mode"]))
    return vector["payload"].encode("latin-1"), secret


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_it_is_what_it_says(file: Path) -> None:
    vector = json.loads(file.read_text())
    payload, secret = opened(file)
    candidates = list(Keyring([secret]).candidates(payload))
    if vector["reason"] is None:
        assert shown(unseal(payload, secret).message) == vector["message"]
        assert candidates == [0]
        return
    assert refusal(payload, secret) is Reason(vector["reason"])
    assert candidates == ([] if Reason(vector["reason"]) in OUTSIDE else [0])


def shown(message: object) -> dict[str, object]:
    values = {each.name: getattr(message, each.name) for each in dataclasses.fields(message)}  # type: ignore[arg-type]
    values["ports"] = [str(port) for port in values["ports"]]
    values["nat"] = values["nat"] and list(values["nat"])
    values["address"] = address_text(values["address"])
    for name in ("command", "server_auth"):
        values[name] = None if values[name] is None else values[name].decode("latin-1")
    return values


def test_the_files_are_those_that_are_made() -> None:
    """``python -m tools.vectors`` writes them."""
    made = list(vectors.vectors())
    assert {path.name: path.read_text() for path in FILES} == dict(made)
    assert len(made) == len(dict(made))


def test_each_step_of_the_codec_refuses_one() -> None:
    steps = [Reason.BAD_LENGTH, Reason.NOT_BASE64, Reason.NOT_OURS]
    steps += [Reason.NOT_SEALED, Reason.BAD_DIGEST, Reason.MALFORMED]
    assert {json.loads(path.read_text())["reason"] for path in FILES} == {
        None,
        *(each.value for each in steps),
    }


def rows() -> list[tuple[str, str, str]]:
    """Of the page's tables: whether fwknop takes it, what becomes of it here, and the vector."""
    link = r"\[([a-z0-9-]+)\]\(../../vectors/fwknop/\3.json\)"
    return re.findall(
        rf"^\|.*\| (takes|refuses) [^|]*\| (taken|[a-z0-9-]+) \| {link} \|$", PAGE.read_text(), re.MULTILINE
    )


def test_the_page_says_what_becomes_of_them_here() -> None:
    reasons = {path.stem: json.loads(path.read_text())["reason"] or "taken" for path in FILES}
    assert len(rows()) == PAGE.read_text().count("](../../vectors/fwknop/") > 70
    assert [reasons[name] for _, _, name in rows()] == [said for _, said, _ in rows()]


@needs_libfko
def test_the_page_says_what_fwknop_makes_of_them() -> None:
    """And it has all that fwknop takes and we do not."""
    taken = {path.stem: read(*opened(path)) is not None for path in FILES}
    assert [taken[name] for _, _, name in rows()] == [said == "takes" for said, _, _ in rows()]
    stricter = {path.stem for path in FILES if taken[path.stem] and json.loads(path.read_text())["reason"]}
    assert stricter == {name for said, here, name in rows() if said == "takes" and here != "taken"}
