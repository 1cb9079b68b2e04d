"""What becomes of profiles.toml when a profile is added to it or changed: nothing else in it moves."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.spa.sealed_messages import CARD
from tests.netns import isolated, own_mounts, run

from knockgate.client import profiles, trusting
from knockgate.client.profiles import SealedProfile
from knockgate.config.writing import quoted
from knockgate.errors import ConfigError, Unavailable

VALUES: dict[str, tuple[object, str]] = {
    "host": ("b.example", '"b.example"'),
    "card": ("/cards/b", '"/cards/b"'),
    "doors": (["ssh", "web"], '["ssh", "web"]'),
}
TABLE = '[profiles.home]\nhost = "a.example"\ncard = "/cards/a"\ndoors = ["ssh"]\n'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "# mine\n",
        "# mine, without an end",
        '# mine\n[profiles.home]\nhost = "a" # there\nsteps = [1, 2]\n\n# the last word',
        '[profiles]\nhome = { host = "a", steps = [1] }\n',
        '\n[profiles.home]\r\nhost = "a"\r\nsteps = [1]\r\n',
    ],
)
def test_a_new_profile_goes_to_the_end(content: str) -> None:
    made = trusting.changed(content, "f", "other", VALUES)
    assert made.startswith(content)
    assert tomllib.loads(made)["profiles"] == tomllib.loads(content).get("profiles", {}) | {
        "other": {key: value for key, (value, _) in VALUES.items()}
    }
    found = profiles.parse(made, "f")["other"]
    assert isinstance(found, SealedProfile) and found.doors == ("ssh", "web")


def test_where_a_new_profile_cannot_go_it_is_said() -> None:
    with pytest.raises(ConfigError, match="cannot be changed here") as caught:
        trusting.changed('profiles = { home = { host = "a", steps = [1] } }', "f", "other", VALUES)
    assert 'card = "/cards/b"' in (caught.value.hint or "")
    with pytest.raises(ConfigError, match="not TOML"):
        trusting.changed("[profiles", "f", "other", VALUES)
    with pytest.raises(ConfigError, match="unknown key"):
        trusting.changed("[profile.a]", "f", "other", VALUES)


def test_of_a_profile_that_is_there_only_the_values_change() -> None:
    content = (
        '# all of them\n[profiles.first]\nhost = "a.example"\nsteps = [1]\n# home\n[profiles.home]  # sweet\n'
        'host = "a.example"   # old\u2028er\n   card= \'/cards/a\'\n# a door\n"doors" = [ "ssh", ] # one\n'
        'lease = "1h"\n\n# the end\n[profiles.last]\nhost = "a.example"\ncard = "/cards/a"\ndoors = ["ssh"]\n'
    )
    made = trusting.changed(content, "f", "home", VALUES | {"wait": ("tcp/22", '"tcp/22"')})
    assert made == (
        '# all of them\n[profiles.first]\nhost = "a.example"\nsteps = [1]\n# home\n[profiles.home]  # sweet\n'
        'wait = "tcp/22"\n'
        'host = "b.example"   # old\u2028er\n   card= "/cards/b"\n# a door\n"doors" = ["ssh", "web"] # one\n'
        'lease = "1h"\n\n# the end\n[profiles.last]\nhost = "a.example"\ncard = "/cards/a"\ndoors = ["ssh"]\n'
    )


@pytest.mark.parametrize(
    "content",
    [
        TABLE.replace('["ssh"]', '[\n  "ssh",\n]'),
        TABLE.replace('"a.example"', '"""a.example"""'),
        '[profiles]\nhome = { host = "a.example", card = "/cards/a", doors = ["ssh"] }\n',
        '[profiles]\nhome.host = "a.example"\nhome.card = "/cards/a"\nhome.doors = ["ssh"]\n',
        TABLE.replace('card = "/cards/a"\ndoors = ["ssh"]', "steps = [1]"),
    ],
    ids=["lines", "quotes", "inline", "dotted", "another-kind"],
)
def test_what_cannot_be_changed_line_by_line_is_left_to_its_owner(content: str) -> None:
    with pytest.raises(ConfigError, match="'home' cannot be changed here") as caught:
        trusting.changed(content, "f", "home", VALUES)
    assert caught.value.line is not None
    assert 'host = "b.example", card = "/cards/b"' in (caught.value.hint or "")
    assert trusting.changed(TABLE, "f", "home", VALUES) != TABLE  # the control


def test_what_came_out_is_compared_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    right = trusting.changed(TABLE, "f", "home", VALUES)
    other = TABLE.replace("home", "other")
    for wrong in (right + other, right.replace("b.example", "c.example"), "", "["):
        monkeypatch.setattr(trusting, "_edited", lambda *_, wrong=wrong: wrong)
        with pytest.raises(ConfigError, match="cannot be changed here"):
            trusting.changed(TABLE, "f", "home", VALUES)
    monkeypatch.setattr(trusting, "_edited", lambda *_: right)
    assert trusting.changed(TABLE, "f", "home", VALUES) == right


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_COMMENTS = st.sampled_from(["", "  # said \"'[ = \\", "#"])


@given(st.lists(st.tuples(_TEXTS, _TEXTS, _COMMENTS), max_size=4, unique_by=lambda row: row[0]), st.data())
def test_whatever_is_in_the_file_stays(rows: list[tuple[str, str, str]], data: st.DataObject) -> None:
    """Or nothing is changed at all, and that is said."""
    lines = []
    for name, source, comment in rows:
        lines += [
            f"[profiles.{quoted(name)}]{comment}",
            f'host = "a"{comment}',
            f"source={quoted(source)}{comment}",
        ]
        lines += [f"card = '/c'{comment}", f'doors = ["ssh"]{comment}', comment]
    content = "\n".join(lines)
    names = [name for name, _, _ in rows]
    name = data.draw(st.sampled_from([*names, "another"]))
    made = trusting.changed(content, "f", name, VALUES)
    before, after = tomllib.loads(content).get("profiles", {}), tomllib.loads(made)["profiles"]
    assert {each: after[each] for each in names if each != name} == {
        each: before[each] for each in names if each != name
    }
    assert after[name] == before.get(name, {}) | {key: value for key, (value, _) in VALUES.items()}
    assert made.count("# said") == content.count("# said")


def test_a_file_is_for_its_owner_alone_and_a_link_stays_one(tmp_path: Path) -> None:
    file = tmp_path / "below" / "deeper" / "profiles.toml"
    trusting.write_private(file, "one")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("one", 0o600)
    assert file.parent.stat().st_mode & 0o777 == 0o700
    link = tmp_path / "profiles.toml"
    link.symlink_to(file)
    trusting.write_private(link, "two")
    assert (link.is_symlink(), file.read_text()) == (True, "two")
    assert list(file.parent.iterdir()) == [file]
    (tmp_path / "taken").write_text("")
    with pytest.raises(Unavailable, match=r"Not a directory|File exists") as caught:
        trusting.write_private(tmp_path / "taken" / "profiles.toml", "three")
    assert "nothing was changed" in (caught.value.hint or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
@isolated
def test_a_hint_is_about_what_went_wrong() -> None:
    own_mounts()
    small = Path("/var/lib/small")
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=16k,mode=755", "tmpfs", str(small))
    (small / "spent").write_bytes(bytes(16384 - 4096))
    file = small / "profiles.toml"
    with pytest.raises(Unavailable, match="No space left") as caught:
        trusting.write_private(file, "one" * 4096)
    assert caught.value.hint == "nothing was changed; make room there"
    (small / "spent").unlink()
    trusting.write_private(file, "one")
    os.seteuid(65534)
    with pytest.raises(Unavailable, match="Permission denied") as caught:
        trusting.write_private(file, "two")
    assert caught.value.hint == "nothing was changed; is this your own home?"
    os.seteuid(0)
    assert file.read_text() == "one"


def test_a_card_is_read_and_what_is_none_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "card"
    file.write_text(f"\n {CARD.text()}\r\n")
    assert trusting.read_card(file) == CARD
    for octets, message in (
        (b"secret", "this is no card"),
        (CARD.text().encode()[:-30], "damaged"),
        (CARD.text().replace("A", "\u00e9", 1).encode(), "damaged"),
        (b"\xff" * 20000, "longer than one"),
    ):
        file.write_bytes(octets)
        with pytest.raises(ConfigError, match=message) as caught:
            trusting.read_card(file)
        assert "secret" not in str(caught.value) and CARD.text()[100:130] not in str(caught.value)
        assert "copy the line once more" in (caught.value.hint or "")
    file.write_text(CARD.text().replace("v1", "v2"))
    with pytest.raises(ConfigError, match="of version 2") as caught:
        trusting.read_card(file)
    assert "this knockgate is too old" in (caught.value.hint or "")
    with pytest.raises(ConfigError, match="no such file") as caught:
        trusting.read_card(tmp_path / "none")
    assert "card show" in (caught.value.hint or "")
    for odd in (tmp_path, Path("a\0b")):
        with pytest.raises(ConfigError, match="cannot be read"):
            trusting.read_card(odd)
