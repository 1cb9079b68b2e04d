"""docs/knocking.md: its profiles can be used, and its tables have every key with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.conftest import REPO

from knockgate.client import profiles
from knockgate.client.profiles import PacketProfile, Profile, SealedProfile, SequenceProfile
from knockgate.config.toml import fields_of

PAGE = (REPO / "docs" / "knocking.md").read_text()


@pytest.mark.parametrize("kind", [Profile, SequenceProfile, PacketProfile, SealedProfile])
def test_the_tables_have_every_key(kind: type[Profile]) -> None:
    common = {field.name for field in fields_of(Profile)}
    expected = {field.name for field in fields_of(kind)} - (common if kind is not Profile else set())
    tables = re.findall(r"^\| key \| default \| \|\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = [dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE)) for table in tables]
    (table,) = (each for each in rows if each.keys() == expected)
    # What a table says in TOML's words is what the profile is without it.
    for field in fields_of(kind):
        if (spelled := re.fullmatch(r'`"(.*)"`', table.get(field.name, ""))) is not None:
            assert field.metadata["reader"].read(spelled[1]) == field.default, field.name


def test_the_profiles_can_be_used(tmp_path: Path) -> None:
    (block,) = (each for each in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL) if "steps" in each)
    file = tmp_path / "profiles.toml"
    file.write_text(block)
    kinds = [SealedProfile, SequenceProfile, PacketProfile]
    assert [type(each) for each in profiles.load(file).values()] == kinds
    printed = re.findall(r"^\[profiles\.alice\]\n(?:.+\n)+?(?=```)", PAGE, re.MULTILINE)
    file.write_text(printed[0])
    assert [type(each) for each in profiles.load(file).values()] == [PacketProfile]
