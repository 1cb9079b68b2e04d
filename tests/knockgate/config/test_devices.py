from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.netns import isolated, own_mounts, run

from knockgate.config.devices import (
    MAX_BYTES,
    Devices,
    barred,
    enrolled,
    forgotten,
    keep,
    load,
    parse,
    read,
    save,
)
from knockgate.errors import ConfigError, Unavailable

LAPTOP, PHONE, TABLET = bytes(range(16)), b"p" * 16, b"t" * 16
TEXT = f"""\
# of people
known {LAPTOP.hex()} jo's laptop

  barred\t{PHONE.hex().upper()}   stolen  in May\t
\t# and so on
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "devices"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


def test_what_it_says(file: Path) -> None:
    assert load(file) == Devices(frozenset({LAPTOP}), frozenset({PHONE}))
    assert read(file) == TEXT
    file.write_text(TEXT.replace("\n", "\r\n"))
    assert load(file) == Devices(frozenset({LAPTOP}), frozenset({PHONE}))
    file.write_text(TEXT.rstrip() + f"\nknown {TABLET.hex()}")  # without an end of the last line
    assert load(file).known == {LAPTOP, TABLET}


def test_without_a_file_nobody_is_known_or_barred(tmp_path: Path) -> None:
    assert load(tmp_path / "devices") == Devices()
    assert read(tmp_path / "devices") == ""


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """Whoever was barred in it would come in again. Of one that never was nobody was barred."""
    path = tmp_path / "devices"
    keep(path)
    assert load(path) == Devices()  # control: there is none to be kept
    save(path, barred("", PHONE))
    assert load(path).barred == {PHONE}
    path.unlink()
    for reads in (load, read):
        with pytest.raises(ConfigError, match="is gone: devices that were barred") as caught:
            reads(path)
        assert caught.value.hint and str(path) in caught.value.hint
    path.touch(0o600)
    assert load(path) == Devices()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_for_one_that_is_gone_the_hint_makes_one_that_is_read(file: Path) -> None:
    """In the folder of another user it is theirs: the listener, who reads it, has no rights but its own."""
    os.chown(file.parent, 65534, -1)
    keep(file)
    file.unlink()
    with pytest.raises(ConfigError, match="is gone") as caught:
        load(file)
    command = str(caught.value.hint).split("`")[1]
    subprocess.run(command.split(), check=True)
    assert file.stat().st_uid == 65534
    assert load(file) == Devices()


def test_one_that_was_written_by_hand_is_kept_too(file: Path) -> None:
    keep(file)
    keep(file)
    file.unlink()
    with pytest.raises(ConfigError, match="is gone"):
        load(file)


@pytest.mark.parametrize(
    "line",
    [
        "known",
        "barred jo",
        f"known{LAPTOP.hex()}",
        f"Known {TABLET.hex()}",
        f"allowed {TABLET.hex()}",
        f"known {TABLET.hex()[:-1]}",
        f"known {TABLET.hex()}0",
        f"known {TABLET.hex()[:-1]}g",
        f"known {TABLET.hex()}#comment",
        f"{TABLET.hex()}",
        f"known {LAPTOP.hex()} a second time",
        f"barred {LAPTOP.hex().upper()}",
    ],
)
def test_a_bad_line_is_told_with_its_place(line: str, file: Path) -> None:
    file.write_text(f"{TEXT}{line}\n# end\n")
    with pytest.raises(ConfigError) as wrong:
        load(file)
    assert (wrong.value.file, wrong.value.line) == (str(file), 6) and wrong.value.hint
    file.write_text(f"{TEXT}# {line}\nknown {TABLET.hex()} {line}\n")  # control
    assert load(file).known == {LAPTOP, TABLET}


def test_it_says_what_the_same_device_is_already() -> None:
    with pytest.raises(ConfigError, match="is known in line 2 already"):
        parse(f"{TEXT}barred {LAPTOP.hex()}", "devices")


def test_octets_that_are_no_text(file: Path) -> None:
    file.write_bytes(TEXT.encode() + b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="UTF-8") as wrong:
        load(file)
    assert (wrong.value.line, bool(wrong.value.hint)) == (6, True)
    file.write_text(f"{TEXT}# café\n")
    assert load(file).known == {LAPTOP}


def test_at_most_a_mebibyte(file: Path) -> None:
    room = MAX_BYTES - len(TEXT)
    save(file, TEXT + "#" * room)
    assert load(file).known == {LAPTOP}
    with pytest.raises(ConfigError, match="longer") as wrong:
        save(file, TEXT + "#" * (room + 1))
    assert wrong.value.hint and file.stat().st_size == MAX_BYTES
    with file.open("a") as stream:
        stream.write("#")
    with pytest.raises(ConfigError, match="too long"):
        load(file)


def test_whose_it_may_be(file: Path) -> None:
    for mode in (0o640, 0o604, 0o620):
        file.chmod(mode)
        with pytest.raises(ConfigError, match="read by others") as wrong:
            load(file)
        assert wrong.value.hint == f"chmod 600 {file}"
    file.chmod(0o600)
    assert load(file).known == {LAPTOP}
    link = file.with_name("link")
    link.symlink_to(file)
    with pytest.raises(ConfigError, match="is a link"):
        load(link)
    with pytest.raises(ConfigError, match="is no file"):
        load(file.parent)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    os.chown(file, 65534, -1)
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        load(file)
    os.chown(file, 0, -1)
    assert load(file).known == {LAPTOP}


def test_a_folder_that_is_no_folder_is_not_taken_for_a_missing_file(file: Path) -> None:
    """Else those who are barred would come in."""
    with pytest.raises(ConfigError, match="Not a directory"):
        load(file / "devices")
    assert load(file.with_name("missing")) == Devices()


# --- edits --------------------------------------------------------------------------------------------


def test_a_line_is_changed_in_its_place_and_keeps_its_comment() -> None:
    edited = barred(TEXT, LAPTOP)
    assert edited == TEXT.replace("known 00", "barred 00")
    assert enrolled(edited, LAPTOP) == TEXT
    assert enrolled(TEXT, PHONE, " found\nagain\x1b ").splitlines()[3] == f"known {PHONE.hex()} found again"
    assert enrolled(TEXT, LAPTOP, "") == TEXT


def test_a_new_one_comes_last() -> None:
    new = f"known {TABLET.hex()} tablet\n"
    assert enrolled(TEXT, TABLET, "tablet") == TEXT + new
    assert enrolled(TEXT.removesuffix("\n"), TABLET, "tablet") == TEXT + new
    assert barred(TEXT, TABLET) == f"{TEXT}barred {TABLET.hex()}\n"


def test_the_first_one_comes_with_an_explanation() -> None:
    text = enrolled("", TABLET)
    assert text.startswith("# ") and text.endswith(f"known {TABLET.hex()}\n")
    assert parse(text, "devices") == Devices(frozenset({TABLET}))


def test_what_is_forgotten_is_no_longer_spoken_of() -> None:
    assert forgotten(TEXT, LAPTOP) == TEXT.replace(f"known {LAPTOP.hex()} jo's laptop\n", "")
    assert forgotten(TEXT, TABLET) == TEXT


def test_bad_lines_stay_and_second_ones_of_a_device_do_not() -> None:
    """An edit can thus be the repair."""
    text = f"{TEXT}nonsense\nbarred {LAPTOP.hex()} no more\n"
    edited = enrolled(text, LAPTOP, "again")
    assert edited == TEXT.replace("jo's laptop", "again") + "nonsense\n"


LINES = st.lists(
    st.one_of(
        st.builds(
            "{} {} {}".format,
            st.sampled_from(["known", "barred", " barred "]),
            st.sampled_from([LAPTOP.hex(), PHONE.hex().upper(), TABLET.hex()]),
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=8),
        ),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=8).map(
            "#{}".format
        ),
        st.just(""),
    ),
    max_size=6,
)


@given(lines=LINES, row=st.sampled_from([LAPTOP, PHONE, TABLET]), comment=st.text(max_size=8))
def test_any_edit(lines: list[str], row: bytes, comment: str) -> None:
    """It says of the device what is asked, and of others what was said; every other line is as it was."""
    text = "\n".join(lines)

    def others(text: str) -> list[str]:
        return [line for line in text.split("\n") if row.hex() not in line.lower() and line]

    for edit, expected in ((enrolled, "known"), (barred, "barred")):
        edited = edit(text, row, comment)
        assert others(edited)[-len(others(text)) or len(others(edited)) :] == others(text)
        found = [
            line for line in edited.split("\n") if re.match(rf"\s*\w+\s+{row.hex()}", line, re.IGNORECASE)
        ]
        assert len(found) == 1 and found[0].split()[0] == expected
        assert edit(edited, row) == edited
    assert others(forgotten(text, row)) == others(text)


# --- on the disk --------------------------------------------------------------------------------------


def test_it_is_written_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "devices"
    before = os.umask(0)
    try:
        for text in (TEXT, "", enrolled("", LAPTOP, "café")):
            save(file, text)
            assert read(file) == text and file.stat().st_mode & 0o7777 == 0o600
    finally:
        os.umask(before)
    assert sorted(tmp_path.iterdir()) == [file, tmp_path / "devices.kept"]


@isolated
def test_a_disk_that_is_not_to_be_written() -> None:
    own_mounts()
    file = Path("/run/devices")
    kept = file.with_name("devices.kept")
    save(file, TEXT)  # control
    run("mount", "-o", "remount,ro", "/run")
    with pytest.raises(Unavailable, match="Read-only"):
        save(file, "")
    assert read(file) == TEXT and sorted(file.parent.glob("*devices*")) == [file, kept]
