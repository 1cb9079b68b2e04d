"""``knockgate card``: who has which card, and that nothing of it is said that was not asked for."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import segno
from tests.knockgate.cli.process import environment, knockgate
from tests.knockgate.cli.sealed_gates import SealedGate, has_secret, initialised
from tests.knockgate.daemon.running import leases
from tests.knockgate.daemon.sealed_stage import OPENED, message, stage
from tests.netns import isolated, until

from knockgate.cli.cardfiles import fingerprint_of
from knockgate.config import gatekeys
from knockgate.spa.sealed import Card, seal


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SealedGate:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return initialised(tmp_path)


def card_in(file: Path) -> Card:
    return Card.parse(file.read_text())


def test_a_card_goes_into_a_file_and_says_what_it_is(gate: SealedGate, tmp_path: Path) -> None:
    done = gate.does("card", "new", "phones", "--ends", "2999-05-03")
    file = tmp_path / "here" / "phones.card"
    assert file.stat().st_mode & 0o777 == 0o600
    assert done.stdout.startswith(f"made {file}, a card of the gate ")
    assert f"knockgate card show phones --config {gate.config} | knockgate trust " in done.stdout
    assert "no gate runs here" in done.stderr
    assert not has_secret(done.stdout + done.stderr)
    found, first = card_in(file), card_in(tmp_path / "everybody.card")
    assert (found.gate, found.fingerprint) == (first.gate, first.fingerprint)
    assert found.fingerprint in done.stdout
    assert found.secret != first.secret
    assert gate.does("card", "show", "phones").stdout == file.read_text()
    assert gate.does("card", "show", "everybody").stdout == (tmp_path / "everybody.card").read_text()
    (one,) = gate.keys().keys
    assert [(card.name, card.ends and card.ends.isoformat()) for card in one.cards] == [
        ("everybody", None),
        ("phones", "2999-05-04T00:00:00+00:00"),
    ]


def test_a_card_can_go_through_a_pipe(gate: SealedGate, tmp_path: Path) -> None:
    done = gate.does("card", "new", "guests", "-o", "-")
    assert Card.parse(done.stdout).secret == gate.keys().keys[0].cards[1].secret
    assert not has_secret(done.stderr)
    told = json.loads(gate.does("card", "new", "others", "-o", "-", "--json").stdout)
    assert (told["name"], told["file"], told["ends"]) == ("others", None, None)
    assert Card.parse(told["card"]).fingerprint == told["gate"]
    quiet = json.loads(gate.does("card", "new", "quiet", "--json").stdout)
    assert (quiet["file"], quiet["card"]) == (str(tmp_path / "here" / "quiet.card"), None)


def test_the_list_has_all_and_no_secret(gate: SealedGate) -> None:
    gate.does("card", "new", "phones", "--ends", "2999-05-03T10:00:00Z")
    shown = gate.does("card", "list")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["CARD", "everybody", "phones"]
    assert "2999-05-03 10:00" in shown.stdout and "never" in shown.stdout
    listed = gate.does("card", "list", "--json")
    told = json.loads(listed.stdout)
    assert told["file"] == str(gate.keys_file)
    assert [(each["name"], each["ends"], each["live"]) for each in told["cards"]] == [
        ("everybody", None, True),
        ("phones", "2999-05-03T10:00:00+00:00", True),
    ]
    assert not has_secret(shown.stdout + listed.stdout)
    assert has_secret(gate.keys_file.read_text()), "the control"


def test_what_has_ended_is_told_apart(gate: SealedGate) -> None:
    text = gatekeys.text_of(gate.keys()).replace("secret =", "ends = 2020-01-01\nsecret =")
    gate.keys_file.write_text(text)
    shown = gate.does("card", "list", status=1)
    assert "ended 2020-01-02 00:00" in shown.stdout
    assert "nobody can knock" in shown.stderr
    assert json.loads(gate.does("card", "list", "--json", status=1).stdout)["cards"][0]["live"] is False
    assert "there is no card" in gate.does("card", "show", status=2).stderr
    gate.does("card", "new", "everybody")
    assert gate.does("card", "list").returncode == 0


def test_a_card_is_revoked(gate: SealedGate) -> None:
    gate.does("card", "new", "phones")
    done = gate.does("card", "revoke", "everybody")
    assert done.stdout == "knocks with the card everybody are refused from now on\n"
    assert gate.keys().names(None) == ["phones"]
    assert "is no card" in gate.does("card", "revoke", "everybody", status=2).stderr
    assert "nobody can knock" in gate.does("card", "revoke", "phones").stderr


def test_what_is_done_as_json(gate: SealedGate) -> None:
    gate.does("card", "new", "phones", "--ends", "2999-01-02")
    (one,) = gate.keys().keys
    shown = json.loads(gate.does("card", "show", "phones", "--json").stdout)
    assert shown == {
        "name": "phones",
        "key": one.name,
        "gate": fingerprint_of(one),
        "card": gate.does("card", "show", "phones").stdout.strip(),
        "ends": "2999-01-03T00:00:00+00:00",
    }
    assert "--json" in gate.does("card", "show", "phones", "--qr", "--json", status=2).stderr
    done = gate.does("card", "revoke", "phones", "--json")
    assert json.loads(done.stdout) == {"name": "phones", "left": ["everybody"]}
    assert "there is no card" in gate.does("card", "revoke", "phones", "--json", status=2).stderr
    assert json.loads(gate.does("card", "revoke", "everybody", "--json").stdout)["left"] == []


def test_which_card_is_meant(gate: SealedGate) -> None:
    assert gate.does("card", "show").stdout == gate.does("card", "show", "everybody").stdout
    gate.does("card", "new", "phones")
    done = gate.does("card", "show", status=2)
    assert (done.stdout, done.stderr) == (
        "",
        "knockgate: say which card\n  hint: there are: everybody, phones\n",
    )
    assert "there is no card 'phoens'" in gate.does("card", "show", "phoens", status=2).stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["everybody"], "there is a card everybody already"),
        (["a/b"], "is no name for a card"),
        (["phones", "--ends", "soon"], "--ends: 'soon' is no date"),
        (["phones", "--ends", "2020-01-01"], "--ends: '2020-01-01' is over"),
        (["phones", "-o", ""], "the name of the file is empty"),
        (["phones", "-o", "/proc/none/card"], "cannot be written"),
    ],
)
def test_a_mistake_makes_no_card(words: list[str], message: str, gate: SealedGate, tmp_path: Path) -> None:
    before = gate.keys_file.read_bytes()
    done = gate.does("card", "new", *words, status=2)
    assert message in done.stderr and done.stdout == ""
    assert gate.keys_file.read_bytes() == before
    assert list((tmp_path / "here").iterdir()) == []


def test_no_file_is_overwritten_and_then_there_is_no_card(gate: SealedGate, tmp_path: Path) -> None:
    (tmp_path / "here" / "phones.card").write_text("mine")
    done = gate.does("card", "new", "phones", status=2)
    assert "phones.card is there already" in done.stderr
    assert (tmp_path / "here" / "phones.card").read_text() == "mine"
    assert gate.keys().names(None) == ["everybody"]


def test_one_command_at_a_time(gate: SealedGate) -> None:
    folder = os.open(gate.keys_file.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert "another knockgate changes the gate's files" in gate.does("card", "new", "phones", status=2).stderr
    os.close(folder)
    gate.does("card", "new", "phones")


def test_before_init_there_is_nothing(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(f'[gate]\nstate_directory = "{tmp_path}/state"\n[doors.ssh]\nports = ["tcp/22"]\n')
    for words in (["new", "phones"], ["revoke", "phones"]):
        done = knockgate("card", *words, "--config", str(file))
        assert done.returncode == 2 and "knockgate init makes a gate's keys" in done.stderr
    done = knockgate("card", "list", "--config", str(file))
    assert done.returncode == 2 and "knockgate init makes a gate's keys" in done.stderr


@contextlib.contextmanager
def seen_by_all() -> Iterator[Path]:
    """A folder that everybody may look into; those of the tests are for us alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_who_is_not_root_is_told_so() -> None:
    code = (
        "import os, sys, knockgate.daemon.sealed, knockgate.store.marks; from knockgate.cli import main; "
        "os.setgid(65534); os.setuid(65534); sys.exit(main())"
    )
    row = "68db60c5175962a7cc6c3e8ee7018b1d"
    with seen_by_all() as folder:
        gate = initialised(folder)
        for words in (
            ["card", "list"],
            ["card", "show"],
            ["card", "new", "x"],
            ["card", "revoke", "everybody"],
            ["rekey"],
            ["rekey", "--now", "--yes"],
            ["replay", "reset", "--clock-right", "--yes"],
            ["device", "list"],
            ["device", "enrol", row],
            ["device", "forget", row],
            ["init", "--bare"],
        ):
            done = subprocess.run(
                [sys.executable, "-c", code, *words, "--config", gate.config],
                env=environment(PYTHONPATH=str(Path(__file__).parents[3] / "src")),
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 2, done.stderr
            assert "run it as root" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_code_is_what_a_camera_reads(
    gate: SealedGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = segno.make

    def noting(content: str, **options: object) -> segno.QRCode:
        made.append(content)
        return make(content, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(segno, "make", noting)
    shown = gate.does("card", "show", "everybody", "--qr")
    assert made == [(tmp_path / "everybody.card").read_text().strip()]
    assert not has_secret(shown.stdout) and len(shown.stdout.splitlines()) > 60
    assert "whoever sees this code has the card" in shown.stderr
    assert "▀" in gate.does("card", "new", "phones", "--qr").stdout


def test_a_shell_completes_cards(gate: SealedGate) -> None:
    gate.does("card", "new", "phones")
    asked = environment(
        _KNOCKGATE_COMPLETE="bash_complete",
        COMP_WORDS=f"knockgate card revoke --config {gate.config} p",
        COMP_CWORD="5",
        PYTHONPATH=str(Path(__file__).parents[3] / "src"),
    )
    code = "import sys; from knockgate.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == ["plain,phones"]


# --- beside a gate that runs --------------------------------------------------------------------------


@isolated
def test_a_gate_that_runs_takes_up_what_is_changed(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        config = here.gate.file
        made = knockgate("card", "new", "phones", "-o", "-", "--config", str(config))
        assert made.returncode == 0, made.stderr
        assert "the gate that runs has read its files again" in made.stderr
        phones = Card.parse(made.stdout)
        here.send(seal(message(), phones))
        here.until_opened(1)
        assert OPENED in leases()
        done = knockgate("card", "revoke", "phones", "--config", str(config))
        assert done.returncode == 0, done.stderr
        here.send(seal(message(), phones))
        here.until_refused("not-ours")
        here.knock()
        here.until_opened(1)  # the control: the other card is good


@isolated
def test_a_gate_that_does_not_take_it_up_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stage(tmp_path) as here:
        words = ["--config", str(here.gate.file)]
        text, said = here.gate.file.read_text(), tmp_path / "state" / "devices"
        made = knockgate("card", "new", "phones", "-o", "-", *words)
        assert made.returncode == 0, made.stderr
        phones, pid = Card.parse(made.stdout), here.gate.status()["pid"]
        here.gate.file.write_text(text.replace("[doors.web]", "[doors.wbe]"))
        done = knockgate("card", "revoke", "phones", *words)
        assert done.returncode == 2 and "refused from now on" not in done.stdout
        assert "the card phones is revoked, but the gate that runs goes on with what it had: " in done.stderr
        assert "there is no door 'web'" in done.stderr
        assert here.gate.status()["pid"] == pid
        here.send(seal(message(), phones))
        here.until_opened(1)  # as was said
        here.gate.file.write_text(text)
        said.touch(0o600)
        said.write_text("no such line")
        assert f"{said}:1: " in knockgate("card", "new", "more", "-o", "-", *words).stderr
        assert here.gate.status()["pid"] == pid
        said.unlink()
        # What nobody can see beforehand: the listener begins anew, and cannot.
        monkeypatch.setattr("knockgate.cli.gatefiles._PATIENCE", 0.5)
        (tmp_path / "state" / "marks.sqlite").rename(tmp_path / "marks")
        done = knockgate("card", "new", "others", "-o", "-", *words)
        assert done.returncode == 2
        assert "the card others is made, but the gate that runs does not listen any more" in done.stderr
        (tmp_path / "marks").rename(tmp_path / "state" / "marks.sqlite")
        until(here.gate.answers, "the control: it listens again")
        here.send(seal(message(), phones))
        here.until_refused("not-ours")
