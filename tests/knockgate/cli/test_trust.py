"""``knockgate trust``: what is kept, what is told, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.knockgate.cli.process import command, environment, knockgate, process
from tests.knockgate.spa.sealed_messages import CARD

from knockgate.client import profiles
from knockgate.client.profiles import SealedProfile
from knockgate.client.trusting import read_card
from knockgate.spa.sealed import GateKey

OTHER = GateKey(xwing_seed=bytes(32), x25519_key=bytes(31) + b"\1").card(bytes(32))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / "card").write_text(CARD.text() + "\n")
    (tmp_path / "other").write_text(OTHER.text())
    return tmp_path


def _file(home: Path) -> Path:
    return home / ".config" / "knockgate" / "profiles.toml"


def _profile(home: Path, name: str = "home") -> SealedProfile:
    found = profiles.load(_file(home))[name]
    assert isinstance(found, SealedProfile)
    return found


def test_a_card_becomes_a_profile(home: Path) -> None:
    done = knockgate("trust", "home", "home.example", str(home / "card"))
    kept = home / ".config" / "knockgate" / "cards" / "home"
    assert done == (
        0,
        f"home is the gate {CARD.fingerprint}\nkept its card in {kept}, and a profile in {_file(home)}\n",
        "  hint: compare that with `knockgate card list` at the gate; then: knockgate knock home\n",
    )
    assert _file(home).read_text() == (
        '[profiles.home]\nhost = "home.example"\ncard = "~/.config/knockgate/cards/home"\ndoors = ["ssh"]\n'
    )
    assert read_card(kept) == CARD and _profile(home).card == kept
    for path, mode in (
        (kept, 0o600),
        (_file(home), 0o600),
        (kept.parent, 0o700),
        (_file(home).parent, 0o700),
    ):
        assert path.stat().st_mode & 0o777 == mode, path
    (home / "card").unlink()
    assert "knockgate knock home" in done.stderr
    assert knockgate("knock", "--list").stdout == "home: home.example, a sealed knock for ssh\n"


def test_all_that_can_be_said(home: Path) -> None:
    words = ["--door", "web", "--door", "ssh", "--wait", "22", "-p", "7000", "-i", str(home / "k"), "--small"]
    facts = json.loads(knockgate("trust", "a.b", "::1", str(home / "card"), *words, "--json").stdout)
    kept = home / ".config" / "knockgate" / "cards" / "a.b"
    assert facts == {
        "profile": "a.b",
        "gate": CARD.fingerprint,
        "before": None,
        "card": str(kept),
        "file": str(_file(home)),
    }
    found = _profile(home, "a.b")
    assert (found.host, found.doors, str(found.wait), str(found.port)) == (
        "::1",
        ("ssh", "web"),
        "tcp/22",
        "udp/7000",
    )
    assert (found.identity, found.small) == (home / "k", True)


def test_a_card_comes_by_standard_input(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.knockgate.cli.process.ENVIRONMENT", {"PYTHONPATH": "src"})
    done = process("trust", "home", "home.example", "-", text=f"\n{CARD.text()}\n")
    assert done.returncode == 0, done.stderr
    assert read_card(_profile(home).card) == CARD
    none = process("trust", "other", "home.example", "-")
    assert (none.returncode, none.stdout) == (2, "")
    assert none.stderr.startswith("knockgate: standard input: there is nothing in it")


def test_a_profile_that_is_there_is_changed_on_demand_alone(home: Path) -> None:
    assert knockgate("trust", "home", "home.example", str(home / "card"), "--door", "web").returncode == 0
    mine = _file(home).read_text() + 'lease = "1h" # mine\n'
    _file(home).write_text(mine)
    again = ["trust", "home", "there.example", str(home / "other")]
    refused = knockgate(*again)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "there is a profile 'home' already" in refused.stderr and "--replace" in refused.stderr
    assert (_file(home).read_text(), read_card(_profile(home).card)) == (mine, CARD)
    done = knockgate(*again, "--replace")
    assert done.returncode == 0
    assert f"home was the gate {CARD.fingerprint} until now" in done.stderr
    assert _file(home).read_text() == mine.replace("home.example", "there.example")
    assert read_card(_profile(home).card) == OTHER and _profile(home).doors == ("web",)
    same = knockgate(*again, "--replace", "--door", "ssh")
    assert "until now" not in same.stderr and _profile(home).doors == ("ssh",)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["..", "h", "card"], "'..' is no name for a profile", "letters, digits"),
        (["a/b", "h", "card"], "'a/b' is no name for a profile", "letters, digits"),
        (["home", " ", "card"], "HOST: the host is empty", "a name or an address"),
        (["home", "jo@h", "card"], "HOST: 'jo@h' names a user", "the host alone: h"),
        (["home", "h", ""], "the name of the card is empty", "--help"),
        (["home", "h", "/none"], "/none: no such file", "knockgate card show"),
        (["home", "h", "wrong"], "wrong: this is no card", "1,726 characters"),
        (["home", "h", "card", "--door", "SSH"], "--door: 'SSH' is no door", "from a to z"),
        (["home", "h", "card", "--door", "a" * 20, "--door", "b" * 20], "--door: ", "knock twice"),
        (["home", "h", "card", "--wait", "udp/53"], "--wait: cannot wait for udp/53", "TCP port"),
        (["home", "h", "card", "--wait", "ssh"], "--wait: 'ssh' is no port", "tcp/7000"),
        (["steps", "h", "card", "--replace"], "the profile 'steps' knocks in another way", "another name"),
        (["table", "h", "card", "--replace"], "'table' cannot be changed here", "by hand"),
        (["home", "h"], "missing argument 'CARD'", "--help"),
    ],
)
def test_what_is_refused_changes_nothing(
    home: Path, words: list[str], message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    (home / "wrong").write_text("s3cr3t")
    _file(home).parent.mkdir(parents=True)
    inline = '[profiles]\ntable = { host = "a", card = "/c", doors = ["ssh"] }\n'
    _file(home).write_text(inline if words[0] == "table" else '[profiles.steps]\nhost = "a"\nsteps = [1]\n')
    there = _file(home).read_text()
    done = knockgate("trust", *words)
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("knockgate: ") and message in first and "s3cr3t" not in done.stderr
    assert second.startswith("  hint: ") and hint in second
    assert _file(home).read_text() == there
    assert not (_file(home).parent / "cards").exists()
    assert knockgate("trust", "new", "h", "card").returncode == 0  # the control


def test_a_card_that_cannot_be_kept_has_no_profile(home: Path) -> None:
    cards = _file(home).parent / "cards"
    cards.parent.mkdir(parents=True)
    cards.write_text("")
    done = knockgate("trust", "home", "h", str(home / "card"))
    assert (done.returncode, done.stdout, _file(home).exists()) == (2, "", False)
    assert str(cards) in done.stderr and "nothing was changed" in done.stderr
    cards.unlink()
    assert knockgate("trust", "home", "h", str(home / "card")).returncode == 0


def test_a_file_that_cannot_be_read_is_not_replaced(home: Path) -> None:
    _file(home).parent.mkdir(parents=True)
    for octets, message in ((b"\xff", "is no text in UTF-8"), (b"[profiles", "not TOML")):
        _file(home).write_bytes(octets)
        done = knockgate("trust", "home", "h", str(home / "card"))
        assert (done.returncode, message in done.stderr) == (2, True)
        assert _file(home).read_bytes() == octets


def test_several_at_once_do_not_take_each_others_profile_away(home: Path) -> None:
    own = environment(XDG_CONFIG_HOME=str(home / ".config"))
    names = [f"gate{number}" for number in range(8)]
    words = [command("trust", name, "home.example", str(home / "card")) for name in names]
    running = [subprocess.Popen(each, env=own, stdout=subprocess.PIPE) for each in words]
    for each in running:
        assert each.communicate(timeout=60)[0].startswith(b"gate") and each.returncode == 0
    assert sorted(profiles.load(_file(home))) == names
    assert {kept.name for kept in _file(home).with_name("cards").iterdir()} == set(names)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root cannot write there anyway")
def test_root_writes_nothing_in_the_home_of_somebody_else(home: Path) -> None:
    """Whose links could lead anywhere, and who could not read the file afterwards."""
    words = ["trust", "home", "home.example", str(home / "card")]
    victim = home / "victim"
    victim.write_text("precious")
    link = _file(home).with_name("cards") / "home"
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    for folder in (_file(home).parent, link.parent):
        os.chown(folder, 4000, 4000)
    done = knockgate(*words)
    assert done.returncode == 2 and "belongs to" in done.stderr and "sudo -H" in done.stderr
    assert victim.read_text() == "precious" and not _file(home).exists()
    for folder in (_file(home).parent, link.parent):
        os.chown(folder, 0, 0)
    assert knockgate(*words).returncode == 0 and read_card(victim) == CARD  # one's own links are followed


def test_standard_input_without_a_card(home: Path) -> None:
    """A command before it that printed nothing, and one that was closed."""
    words = ["trust", "home", "home.example", "-"]
    done = process(*words)
    assert done.returncode == 2 and "standard input: there is nothing in it" in done.stderr
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", *command(*words)]
    closed = subprocess.run(shell, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert (closed.returncode, closed.stdout) == (2, "")
    assert closed.stderr.startswith("knockgate: standard input is closed\n")
    assert not _file(home).exists()


def test_what_is_in_a_file_does_not_move_the_terminal(home: Path) -> None:
    _file(home).parent.mkdir(parents=True)
    _file(home).write_text('[profiles."\\u001b[31mred\\n"]\nhost = "h"\ncard = "/\\u009b"\ndoors = ["ssh"]\n')
    named = knockgate("knock", "home").stderr
    assert named.endswith("  hint: there are: \\x1b[31mred\\n\n") and "\x1b" not in named
    _file(home).write_text('[profiles.home]\nhost = "h"\ncard = "/\\u009b"\ndoors = ["ssh"]\n')
    assert knockgate("knock", "home").stderr.startswith("knockgate: /\\x9b: no such file\n")
