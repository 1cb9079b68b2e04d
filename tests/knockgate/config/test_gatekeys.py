"""``gate.keys``: what is written is read again, what is wrong is told without a secret, whose it may be."""

from __future__ import annotations

import base64
import datetime as dt
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.killing import killed_everywhere
from tests.knockgate.spa.sealed_messages import MESSAGE
from tests.netns import isolated, own_mounts, run

from knockgate.config import gatekeys
from knockgate.config.gatekeys import CardEntry, GateKeys, KeyEntry
from knockgate.errors import ConfigError, Unavailable
from knockgate.spa.sealed import CardKeys, seal, unseal

NOW = dt.datetime(2026, 11, 22, 10, 0, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
INCARNATION = bytes(range(16))
XWING, X25519, SECRET = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32


def made(*names: str) -> GateKeys:
    secrets = {name: bytes([150, number]) * 16 for number, name in enumerate(names or ("everybody",))}
    return gatekeys.fresh(INCARNATION, xwing=XWING, x25519=X25519, secrets=secrets, now=NOW)


def rekeyed(
    keys: GateKeys, *, now: dt.datetime = NOW, overlap: dt.timedelta = 30 * DAY, by: int = 1
) -> GateKeys:
    names = keys.names(now.timestamp())
    secrets = {name: bytes([200 + by, number]) * 16 for number, name in enumerate(names)}
    seeds = {"xwing": bytes([60 + by]) * 32, "x25519": bytes([80 + by]) * 32}
    return gatekeys.rekeyed(keys, **seeds, secrets=secrets, now=now, overlap=overlap)


def pairs(keys: GateKeys, at: dt.datetime | None = NOW) -> list[tuple[str, str]]:
    return [(one.name, card.name) for one, card in keys.live(None if at is None else at.timestamp())]


# --- reading and writing ------------------------------------------------------------------------------

_NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", fullmatch=True)
_INSTANTS = st.timedeltas(0 * DAY, 90_000 * DAY).map(
    lambda since: dt.datetime.fromtimestamp(0, dt.UTC) + since
)
_ENDS = st.none() | _INSTANTS


@st.composite
def _gate_keys(draw: st.DrawFn) -> GateKeys:
    octets = st.binary(min_size=32, max_size=32)
    secrets = iter(draw(st.lists(octets, min_size=14, max_size=14, unique=True)))

    def card(name: str) -> CardEntry:
        return CardEntry(name=name, made=draw(_INSTANTS), ends=draw(_ENDS), secret=next(secrets))

    keys = tuple(
        KeyEntry(
            name=name,
            made=draw(_INSTANTS),
            ends=draw(_ENDS),
            xwing=next(secrets),
            x25519=next(secrets),
            cards=tuple(map(card, draw(st.lists(_NAMES, max_size=5, unique=True)))),
        )
        for name in draw(st.lists(_NAMES, min_size=1, max_size=2, unique=True))
    )
    return GateKeys(incarnation=draw(st.binary(min_size=16, max_size=16)), keys=keys)


@given(_gate_keys())
def test_what_is_written_is_read_again(keys: GateKeys) -> None:
    assert gatekeys.parse(gatekeys.text_of(keys)) == keys


def test_a_file_is_for_its_owner_alone_and_has_no_secret_in_its_repr(tmp_path: Path) -> None:
    file = tmp_path / "gate.keys"
    mask = os.umask(0)
    try:
        gatekeys.save(file, made("one", "two"))
        gatekeys.save(file, made())
    finally:
        os.umask(mask)
    assert file.stat().st_mode & 0o777 == 0o600
    assert gatekeys.load(file) == made()
    assert list(tmp_path.iterdir()) == [file]
    for secret in (XWING, X25519, bytes([150, 0]) * 16):
        assert base64.b64encode(secret).decode() in file.read_text()
        assert repr(secret) not in repr(made()) and base64.b64encode(secret).decode() not in repr(made())


def test_the_key_opens_what_its_card_seals() -> None:
    ((one, card),) = made().live(None)
    key = one.gate_key()
    datagram = seal(MESSAGE, key.card(card.secret))
    assert unseal(datagram, CardKeys(card.secret), key) == MESSAGE


def test_killed_at_any_point_it_is_the_old_file_or_the_new(tmp_path: Path) -> None:
    number = 0

    def prepared() -> Path:
        nonlocal number
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        gatekeys.save(folder / "gate.keys", made("old"))
        return folder

    found = []
    for point, folder in killed_everywhere(
        lambda: gatekeys.save(Path("gate.keys").absolute(), made("new")), prepared
    ):
        found.append((point.split(" /")[0], gatekeys.load(folder / "gate.keys").names(None)[0]))
        gatekeys.save(folder / "gate.keys", made("next"))
        assert [each.name for each in folder.iterdir()] == ["gate.keys"], "what was left over is gone"
    assert [name for _, name in found] == sorted((name for _, name in found), reverse=True)
    turn = [name for _, name in found].index("new")
    assert found[turn - 1][0] == "before rename" and found[turn][0] == "after rename"
    assert len([point for point, _ in found[:turn] if point == "after fsync" or "fsync" in point]) == 2
    assert found[-1] == ("done", "new")


@isolated
def test_a_full_disk_leaves_the_old_file() -> None:
    own_mounts()
    folder = Path("/var/lib/small")
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder))
    file, spent = folder / "gate.keys", folder / "spent"
    gatekeys.save(file, made())
    run("dd", "if=/dev/zero", f"of={spent}", check=False)
    with pytest.raises(Unavailable, match="No space left on device"):
        gatekeys.save(file, made("new"))
    assert gatekeys.load(file) == made()
    assert {each.name for each in folder.iterdir()} == {"gate.keys", "spent"}
    spent.unlink()
    gatekeys.save(file, made("new"))
    assert gatekeys.load(file) == made("new")


B64 = base64.b64encode(SECRET).decode()
TEXT = f"""\
incarnation = "{INCARNATION.hex()}"
[keys.new]
made = 2026-11-22T10:00:00Z
xwing = "{base64.b64encode(XWING).decode()}"
x25519 = "{base64.b64encode(X25519).decode()}"
[keys.new.cards.everybody]
made = 2026-11-22T10:00:00Z
secret = "{B64}"
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "message"),
    [
        ("incarnation =", "incarnatoin =", 1, "incarnatoin", "unknown key"),
        (INCARNATION.hex(), INCARNATION.hex()[2:], 1, "incarnation", "32 hex digits"),
        (f'"{INCARNATION.hex()}"', "7", 1, "incarnation", "32 hex digits"),
        (f'"{B64}"', f'"{B64[:-1]}"', 8, "keys.new.cards.everybody.secret", "no base64"),
        (f'"{B64}"', f'"{B64[4:]}"', 8, "keys.new.cards.everybody.secret", "has 29 bytes and not 32"),
        (f'"{B64}"', f'["{B64}"]', 8, "keys.new.cards.everybody.secret", "a text in quotes"),
        (f'"{B64}"', f"{B64}", 8, None, "not TOML"),
        (f'secret = "{B64}"', "", 6, "keys.new.cards.everybody", "secret is missing"),
        ("cards.everybody", "cards.'every body'", 6, 'keys.new.cards."every body"', "is no name"),
        ("[keys.new]\nmade = 2026-11-22T10:00:00Z", "[keys.new]\nmade = 3", 3, "keys.new.made", "a date"),
        ("made = 2026-11-22T10:00:00Z", "made = 9999-12-31", 3, "keys.new.made", "the last day there is"),
        (
            base64.b64encode(XWING).decode(),
            base64.b64encode(X25519).decode(),
            5,
            "keys.new.x25519",
            "is the same",
        ),
        (
            base64.b64encode(XWING).decode(),
            B64,
            8,
            "keys.new.cards.everybody.secret",
            "same as keys.new.xwing",
        ),
        ("[keys.new.cards.everybody]", "[keys.new.cards]\neverybody = 1\n[x]", 8, "x", "unknown key"),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_without_a_secret(
    old: str, new: str, line: int, key: str | None, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "gate.keys"
    file.touch(0o600)
    file.write_text(TEXT)
    assert [card.secret for _, card in gatekeys.load(file).live(None)] == [SECRET]
    assert old in TEXT
    file.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(ConfigError, match=re.escape(message)) as wrong:
        gatekeys.load(file)
    error = wrong.value
    assert (error.file, error.line, error.key) == (str(file), line, key)
    assert error.hint
    for secret in (B64, B64[:-1], B64[4:], base64.b64encode(X25519).decode()):
        assert secret not in f"{error} {error.hint}"


def test_no_keys_no_text_and_too_much(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no key"):
        gatekeys.parse(TEXT.splitlines()[0])
    with pytest.raises(ConfigError, match="65 cards") as wrong:
        gatekeys.parse(
            "\n".join(TEXT.splitlines()[:5])
            + "".join(f"\n[keys.new.cards.c{number}]" for number in range(65))
        )
    assert wrong.value.hint == "64 are possible"
    file = tmp_path / "gate.keys"
    file.touch(0o600)
    for content, message in ((b"\xff\xfe", "UTF-8"), (b"#" * (1 << 17), "too long")):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            gatekeys.load(file)


def test_the_largest_file_is_not_too_long(tmp_path: Path) -> None:
    names = [f"{number:02}{'n' * 61}" for number in range(64)]
    keys = rekeyed(made(*names))
    gatekeys.save(tmp_path / "gate.keys", keys)
    assert gatekeys.load(tmp_path / "gate.keys") == keys


def test_whose_file_it_is(tmp_path: Path) -> None:
    file = tmp_path / "gate.keys"
    with pytest.raises(ConfigError, match="No such file") as wrong:
        gatekeys.load(file)
    assert wrong.value.hint == "knockgate init makes a gate's keys"
    gatekeys.save(file, made())
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="can be read by others"):
        gatekeys.load(file)
    file.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(ConfigError, match="is a link"):
        gatekeys.load(link)
    with pytest.raises(ConfigError, match="is no file"):
        gatekeys.load(tmp_path)
    assert gatekeys.load(file) == made()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    file = tmp_path / "gate.keys"
    gatekeys.save(file, made())
    os.chown(file, 65534, -1)
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        gatekeys.load(file)


# --- what is done with them ---------------------------------------------------------------------------


def test_cards_come_and_go() -> None:
    keys = gatekeys.with_card(made(), "phones", SECRET, NOW + DAY, ends=NOW + 3 * DAY)
    assert pairs(keys) == [("2026-11-22", "everybody"), ("2026-11-22", "phones")]
    assert pairs(keys, NOW + 3 * DAY) == [("2026-11-22", "everybody")]
    assert pairs(keys, NOW + 3 * DAY - dt.timedelta(seconds=1)) == pairs(keys)
    assert pairs(keys, None) == pairs(keys), "who does not know the time lets nothing end"
    assert pairs(gatekeys.revoked(keys, "everybody")) == [("2026-11-22", "phones")]
    assert pairs(made()) == [("2026-11-22", "everybody")], "the old value is as it was"
    with pytest.raises(ConfigError, match="there is no card 'phoens'") as wrong:
        gatekeys.revoked(keys, "phoens")
    assert wrong.value.hint == "did you mean phones?"
    with pytest.raises(ConfigError, match="there is a card phones already"):
        gatekeys.with_card(keys, "phones", bytes(32), NOW + DAY)
    again = gatekeys.with_card(keys, "phones", bytes(32), NOW + 4 * DAY)
    assert [card.secret for _, card in again.live(None) if card.name == "phones"] == [bytes(32)]
    with pytest.raises(ConfigError, match="is no name for a card"):
        gatekeys.with_card(keys, "../phones", bytes(32), NOW)


def test_there_is_room_for_so_many_cards() -> None:
    keys = made(*(f"c{number}" for number in range(63)))
    keys = gatekeys.with_card(keys, "last", SECRET, NOW, ends=NOW + DAY)
    with pytest.raises(ConfigError, match="64 cards, which is the most"):
        gatekeys.with_card(keys, "more", bytes(32), NOW)
    assert len(pairs(gatekeys.with_card(gatekeys.revoked(keys, "c7"), "more", bytes(32), NOW))) == 64


def test_two_keys_run_beside_each_other_for_a_while() -> None:
    keys = gatekeys.with_card(made(), "phones", SECRET, NOW, ends=NOW + 400 * DAY)
    two = rekeyed(keys, now=NOW + DAY)
    assert pairs(two, NOW + DAY) == [
        ("2026-11-23", "everybody"),
        ("2026-11-23", "phones"),
        ("2026-11-22", "everybody"),
        ("2026-11-22", "phones"),
    ]
    assert two.incarnation == keys.incarnation, "the marks go on counting"
    assert two.keys[1].cards == keys.keys[0].cards and two.keys[1].ends == NOW + 31 * DAY
    assert [card.ends for card in two.keys[0].cards] == [None, NOW + 400 * DAY]
    assert two.names(None) == ["everybody", "phones"]
    assert pairs(two, NOW + 31 * DAY) == [("2026-11-23", "everybody"), ("2026-11-23", "phones")]
    assert pairs(gatekeys.revoked(two, "phones")) == [
        ("2026-11-23", "everybody"),
        ("2026-11-22", "everybody"),
    ]
    more = gatekeys.with_card(two, "guests", bytes(32), NOW + DAY)
    assert pairs(more, NOW + 40 * DAY)[-1] == ("2026-11-23", "guests")
    with pytest.raises(ConfigError, match="there are two keys already") as wrong:
        rekeyed(two, now=NOW + 30 * DAY, by=2)
    assert "2026-12-23 10:00 UTC" in (wrong.value.hint or "")
    three = rekeyed(two, now=NOW + 31 * DAY, by=2)
    assert [one.name for one in three.keys] == ["2026-12-23", "2026-11-23"]


def test_a_second_key_of_the_same_day_has_another_name() -> None:
    two = rekeyed(made(), overlap=dt.timedelta(hours=1))
    assert [one.name for one in two.keys] == ["2026-11-22-2", "2026-11-22"]
    later = NOW + dt.timedelta(hours=2)
    assert [one.name for one in rekeyed(two, now=later, by=2).keys] == ["2026-11-22", "2026-11-22-2"]


def test_an_end_that_was_near_is_not_put_off() -> None:
    text = gatekeys.text_of(made()).replace("[keys.2026-11-22]", "[keys.2026-11-22]\nends = 2026-11-25")
    keys = gatekeys.parse(text)
    assert rekeyed(keys).keys[1].ends == keys.keys[0].ends == dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
    assert gatekeys.cleared(keys, NOW + 4 * DAY).keys == ()
    assert gatekeys.cleared(keys, NOW + 3 * DAY) == keys
