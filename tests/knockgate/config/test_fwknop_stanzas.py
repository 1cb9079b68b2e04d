"""access.conf with several stanzas, and with others included."""

from __future__ import annotations

from pathlib import Path

from tests.knockgate.config.fwknop_files import (
    KEYS,
    PLAIN,
    gate,
    notes,
    refusals,
    the_key,
    translated,
    written,
)

from knockgate.config.fwknop import translate

# --- several stanzas ----------------------------------------------------------------------------------


def test_stanzas_that_share_a_port_share_a_door(tmp_path: Path) -> None:
    text = (
        "SOURCE 10.0.0.0/8\nOPEN_PORTS tcp/22, tcp/80\nKEY one\nHMAC_KEY 1\n"
        "MAX_FW_TIMEOUT 60\nREQUIRE_USERNAME a b\n"
        "SOURCE ANY\nOPEN_PORTS tcp/22\nKEY two\nHMAC_KEY 2\nFW_ACCESS_TIMEOUT 45\nREQUIRE_USERNAME a&b\n"
    )
    found = translated(tmp_path, text)
    configuration, (one, two) = gate(found)
    assert [(door.name, door.lease, door.most) for door in configuration.doors] == [
        ("tcp-22", 30.0, 300.0),
        ("tcp-80", 30.0, 60.0),
    ]
    assert (one.name, one.doors, one.longest) == ("a_b", ("tcp-22", "tcp-80"), 60.0)
    assert (two.name, two.doors, two.longest) == ("a_b-2", ("tcp-22",), None)
    assert "stanza 2: gives 45s to packets that ask for none; here they get 30s" in notes(found)


def test_no_key_gets_more_of_a_shared_door_than_its_stanza_gives(tmp_path: Path) -> None:
    """One key, two stanzas, and a door that others may hold open for longer."""
    text = (
        f"SOURCE ANY\nOPEN_PORTS tcp/22\n{KEYS}MAX_FW_TIMEOUT 60\n"
        f"SOURCE ANY\nOPEN_PORTS tcp/80\n{KEYS}MAX_FW_TIMEOUT 900\n"
        "SOURCE ANY\nOPEN_PORTS tcp/22\nKEY other\nHMAC_KEY o\n"
    )
    found = translated(tmp_path, text)
    configuration, (both, other) = gate(found)
    assert {door.name: door.most for door in configuration.doors} == {"tcp-22": 300.0, "tcp-80": 900.0}
    assert (both.doors, both.longest, other.longest) == (("tcp-22", "tcp-80"), 60.0, None)
    assert "gives at most 15m of tcp/80; here 1m" in notes(found)


def test_stanzas_with_one_pair_of_keys_are_one_key(tmp_path: Path) -> None:
    text = f"{PLAIN}SOURCE ANY\nOPEN_PORTS tcp/80\n{KEYS}"
    found = translated(tmp_path, text)
    assert the_key(found).doors == ("tcp-22", "tcp-80")
    assert "has the keys of stanza 1: they are one key" in notes(found)
    for policy in ("REQUIRE_USERNAME bob", "REQUIRE_SOURCE_ADDRESS Y", "ACCESS_EXPIRE 01/01/2030"):
        said = refusals(translated(tmp_path, f"{text}{policy}\n"))
        assert f"has the keys of stanza 1 and another {policy.split()[0]}" in said
    elsewhere = text.replace("SOURCE ANY\nOPEN_PORTS tcp/80", "SOURCE 10.0.0.1\nOPEN_PORTS tcp/80")
    assert "another SOURCE" in refusals(translated(tmp_path, elsewhere))
    assert len(gate(translated(tmp_path, f"{text}HMAC_KEY another\n"))[1]) == 2


def test_a_stanza_that_opens_any_port_wants_to_know_which(tmp_path: Path) -> None:
    text = f"SOURCE ANY\n{KEYS}RESTRICT_PORTS tcp/23\n"
    assert "--open tcp/22,tcp/443" in refusals(translated(tmp_path, text))
    found = translated(tmp_path, text, opened="tcp/22 tcp/23 udp/53")
    assert the_key(found).doors == ("tcp-22", "udp-53")
    assert "may open tcp/22, tcp/23, udp/53, in fwknopd any port" in notes(found)


# --- includes -----------------------------------------------------------------------------------------


def test_includes(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    written(tmp_path / "more", "SOURCE ANY\nOPEN_PORTS tcp/3\nKEY three\nHMAC_KEY c\n", "b.conf")
    written(tmp_path / "more", "SOURCE ANY\nOPEN_PORTS tcp/2\nKEY two\nHMAC_KEY b\n", "a.conf")
    written(tmp_path / "more", "SOURCE ANY\nnonsense\n", "readme")
    secrets = written(tmp_path, f"{KEYS}", "secrets")
    text = f"SOURCE ANY\n%include_folder {tmp_path / 'more'}/\nOPEN_PORTS tcp/1\n%include_keys {secrets}\n"
    configuration, found = gate(translated(tmp_path, text))
    assert {key.name: key.doors for key in found} == {
        "stanza-1": ("tcp-1",),
        "stanza-2": ("tcp-2",),
        "stanza-3": ("tcp-3",),
    }  # the stanza goes on after what it includes
    assert len(configuration.doors) == 3
    assert "tcp/1" not in translate(tmp_path / "more", None, tmp_path / "keys").text
    assert len(translate(tmp_path / "more", None, tmp_path / "keys").secrets) == 2
    written(tmp_path, f"{KEYS}OPEN_PORTS tcp/9\n", "secrets")
    assert "passed over by fwknopd here" in refusals(translated(tmp_path, text))


def test_includes_go_three_levels_deep(tmp_path: Path) -> None:
    for level in (2, 3, 4):
        written(tmp_path, f"%include {tmp_path / str(level + 1)}\n", str(level))
    written(tmp_path, PLAIN, "3")
    assert the_key(translated(tmp_path, f"%include {tmp_path / '2'}\n")).doors == ("tcp-22",)
    written(tmp_path, f"%include {tmp_path / '4'}\n", "3")
    written(tmp_path, PLAIN, "4")
    found = translated(tmp_path, f"%include {tmp_path / '2'}\n")
    assert "more than 3 files within each other" in refusals(found)
    assert found.refusals[0].file == str(tmp_path / "3")
    assert "more than 3" in refusals(translated(tmp_path, f"%include {tmp_path / 'access.conf'}\n"))
