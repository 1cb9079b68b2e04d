"""``knockgate init``: all that a gate needs, or nothing; what it makes is what check, gate, client take."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.knockgate.cli.process import knockgate, process
from tests.knockgate.cli.sealed_gates import LINE, SealedGate, all_below, has_secret, initialised
from tests.knockgate.config.fwknop_files import PLAIN
from tests.knockgate.config.fwknop_files import written as access_conf
from tests.knockgate.killing import killed_everywhere
from tests.netns import isolated, own_mounts, run

from knockgate.cli import main
from knockgate.config import doors, keys
from knockgate.errors import Unavailable
from knockgate.spa.sealed import Card
from knockgate.store.marks import SqliteMarks


def words(folder: Path, *more: str) -> list[str]:
    """Of an init that asks nothing, into this folder."""
    (folder / "people").write_text(LINE + "\n")
    places = ["--config", str(folder / "etc" / "gate.toml"), "--state", str(folder / "state")]
    return ["init", "--keys", str(folder / "people"), *places, "-o", str(folder / "first.card"), *more]


def test_all_of_it_is_made(tmp_path: Path) -> None:
    argv = words(tmp_path)
    mask = os.umask(0)
    try:
        done = knockgate(*argv)
    finally:
        os.umask(mask)
    assert done.returncode == 0, done.stderr
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in all_below(tmp_path)}
    del modes["people"]
    assert modes == {
        "etc": 0o755,
        "etc/gate.toml": 0o644,
        "state": 0o700,
        "state/gate.keys": 0o600,
        "state/marks.sqlite": 0o600,
        "first.card": 0o600,
    }
    config = tmp_path / "etc" / "gate.toml"
    gate = doors.load(config)
    (door,) = gate.doors
    assert (door.name, [str(port) for port in door.ports], door.lease) == ("ssh", ["tcp/22"], 15.0)
    (group,) = keys.load_ssh(config, gate)
    assert [each.path for each in group.files] == [str(tmp_path / "people")]
    assert group.ours and group.doors == ("ssh",)
    checked = knockgate("check", "--strict", str(config))
    assert checked.returncode == 0, checked.stderr
    card = Card.parse((tmp_path / "first.card").read_text())
    found = SealedGate(tmp_path).keys()
    ((key, entry),) = found.live(None)
    assert (entry.name, entry.secret, key.gate_key().gate) == ("everybody", card.secret, card.gate)
    SqliteMarks(tmp_path / "state" / "marks.sqlite", incarnation=found.incarnation, devices=1).close()
    assert not has_secret(done.stdout + done.stderr)
    lines = done.stdout.splitlines()
    assert lines[0] == f"made {config}: tcp/22 opens to 1 SSH key, for 15s"
    assert card.fingerprint in lines[1] and str(tmp_path / "first.card") in lines[2]
    steps = [line.strip() for line in lines[lines.index("next:") + 1 :]]
    assert steps[0] == f"knockgate check {config}"
    assert f"sudo knockgate card show everybody --config {config} | knockgate trust " in steps[1]
    assert steps[2:] == [f"knockgate up --confirm 60s {config}", f"knockgate run {config}"]


def importing(folder: Path) -> list[str]:
    """Of an import, which makes a gate.toml too."""
    return ["import", "fwknop", str(access_conf(folder, PLAIN)), "-o", str(folder / "etc" / "gate.toml")]


@pytest.mark.parametrize(("argv", "secret"), [(words, "first.card"), (importing, "etc/keys/stanza-1")])
@isolated
def test_where_the_units_are_they_can_read_what_it_makes_whatever_the_umask(
    tmp_path: Path, argv: Callable[[Path], list[str]], secret: str
) -> None:
    own_mounts()
    group = tmp_path / "group"
    group.write_text(Path("/etc/group").read_text() + "knockgate:x:64123:\n")
    run("mount", "--bind", str(group), "/etc/group")
    for name, gid in (("ours", 64123), ("others", 64124), ("roots", 0)):
        folder = tmp_path / name
        (folder / "etc").mkdir(parents=True)
        os.chown(folder / "etc", 0, gid)
        mask = os.umask(0o077)
        try:
            done = knockgate(*argv(folder))
        finally:
            os.umask(mask)
        assert done.returncode == 0, done.stderr
        found = (folder / "etc/gate.toml").stat()
        wanted = (0o640, 64123) if name == "ours" else (0o600, 0)
        assert (found.st_mode & 0o777, found.st_gid) == wanted, name
        assert (folder / secret).stat().st_mode & 0o777 == 0o600


def test_two_gates_have_nothing_in_common(tmp_path: Path) -> None:
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        found.append(initialised(tmp_path / name).keys())
    one, other = found
    assert one.incarnation != other.incarnation
    secrets = [{each.xwing, each.x25519, each.cards[0].secret} for each in (one.keys[0], other.keys[0])]
    assert len(secrets[0] | secrets[1]) == 6


def test_the_card_can_go_through_a_pipe(tmp_path: Path) -> None:
    done = process(*words(tmp_path), "-o", "-", "--card", "phones")
    assert done.returncode == 0, done.stderr
    assert Card.parse(done.stdout).secret == SealedGate(tmp_path).keys().keys[0].cards[0].secret
    assert "next:" in done.stderr and not has_secret(done.stderr)
    assert "first.card" not in set(all_below(tmp_path))


def test_a_program_is_told_what_was_made(tmp_path: Path) -> None:
    told = json.loads(knockgate(*words(tmp_path, "--json")).stdout)
    assert told == {
        "config": str(tmp_path / "etc" / "gate.toml"),
        "keys": str(tmp_path / "state" / "gate.keys"),
        "marks": str(tmp_path / "state" / "marks.sqlite"),
        "gate": Card.parse((tmp_path / "first.card").read_text()).fingerprint,
        "name": "everybody",
        "file": str(tmp_path / "first.card"),
        "card": None,
    }


def test_the_options_are_what_the_file_says(tmp_path: Path) -> None:
    done = knockgate(*words(tmp_path, "--port", "443", "--door", "web", "--lease", "1h30m"))
    assert done.returncode == 0, done.stderr
    (door,) = doors.load(tmp_path / "etc" / "gate.toml").doors
    assert (door.name, [str(port) for port in door.ports], door.lease) == ("web", ["tcp/443"], 5400.0)
    assert "- --door web" in done.stdout


@pytest.mark.parametrize("name", ["etc/gate.toml", "state/gate.keys", "state/marks.sqlite", "first.card"])
def test_nothing_is_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    argv = words(tmp_path)
    before = set(all_below(tmp_path))
    done = knockgate(*argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path / name} is there already" in done.stderr
    assert (tmp_path / name).read_text() == "mine"
    assert set(all_below(tmp_path)) == before


@pytest.mark.parametrize(
    ("more", "message", "hint"),
    [
        (["-o", "{here}/etc/gate.toml"], "--output: one file cannot be two", "name another"),
        (["-o", "{here}/state/../state/marks.sqlite"], "--output: one file cannot be two", "name another"),
        (["--port", "ssh"], "--port: 'ssh' is no port", 'write "tcp/22"'),
        (["--port", "udp/62202"], "udp/62202 is what door", "another port"),
        (["--lease", "soon"], "'soon' is no time", 'write "15s"'),
        (["--lease", "0"], "not between 1s and 30d", ""),
        (["--door", "a door"], "'a door' is no name for a door", "letters"),
        (["--door", "SSH"], "no sealed packet can ask for SSH", "small letters"),
        (["--card", "a/b"], "--card: 'a/b' is no name for a card", "letters"),
        (["--user", "jo"], "either --user or --keys", "--help"),
        (["--bare"], "with --bare gate.toml says all that", "--help"),
        (["--config", ""], "the name of a file is empty", ""),
        (["-o", ""], "the name of the file is empty", ""),
        (["-o", "/proc/none/card"], "cannot be written", ""),
        (["--state", "/proc/none"], "/proc", ""),
    ],
)
def test_a_mistake_makes_nothing(more: list[str], message: str, hint: str, tmp_path: Path) -> None:
    argv = words(tmp_path, *(each.replace("{here}", str(tmp_path)) for each in more))
    before = set(all_below(tmp_path))
    done = knockgate(*argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr and hint in done.stderr
    assert "Traceback" not in done.stderr
    assert set(all_below(tmp_path)) == before


def test_without_a_terminal_it_says_what_to_say(tmp_path: Path) -> None:
    places = ["--config", str(tmp_path / "gate.toml"), "--state", str(tmp_path / "state")]
    for more, message in (([], "there is no terminal to ask on"), (["--port", "22"], "who may knock")):
        done = process("init", *places, *more)
        assert done.returncode == 2 and message in done.stderr
        assert all(option in done.stderr for option in ("--user", "--keys", "--port", "--lease", "--door"))
    assert list(tmp_path.iterdir()) == []


def test_beside_a_gate_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "gate.toml"
    text = f'[gate]\nstate_directory = "{tmp_path}/state"\n[doors.ssh]\nports = ["tcp/22"]\n'
    config.write_text(text)
    monkeypatch.chdir(tmp_path)
    refused = knockgate("init", "--user", "root", "--config", str(config))
    assert refused.returncode == 2 and "knockgate init --bare" in refused.stderr
    done = knockgate("init", "--bare", "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert config.read_text() == text
    assert set(all_below(tmp_path)) == {
        "gate.toml",
        "state",
        "state/gate.keys",
        "state/marks.sqlite",
        "everybody.card",
    }
    assert "[keys.people]" in done.stdout and 'doors = ["ssh"]' in done.stdout


# --- broken off ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_at_any_point_no_gate_starts_that_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "people").write_text(LINE)
    number = 0

    def prepared() -> Path:
        nonlocal number
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        return folder

    places = ["--config", "etc/gate.toml", "--state", "state", "-o", "first.card"]
    whole = {"etc/gate.toml", "state/gate.keys", "state/marks.sqlite", "first.card"}
    seen = []
    for point, folder in killed_everywhere(
        lambda: _ends_well("init", "--keys", str(tmp_path / "people"), *places), prepared
    ):
        names = {name for name in all_below(folder) if "/." not in f"/{name}"} - {"etc", "state"}
        assert names <= whole
        if names == whole:
            SqliteMarks(
                folder / "state" / "marks.sqlite",
                incarnation=SealedGate(folder).keys().incarnation,
                devices=1,
            ).close()
        elif "state/gate.keys" in names:
            with pytest.raises(Unavailable):
                SqliteMarks(folder / "state" / "marks.sqlite", incarnation=bytes(16), devices=1)
        assert "state/marks.sqlite" not in names or names == whole, point
        seen.append(len(names))
    assert seen == sorted(seen) and seen[-1] == 4


def _ends_well(*argv: str) -> None:
    assert main(argv) == 0


@isolated
def test_a_full_disk_has_nothing_half_made() -> None:
    own_mounts()
    folder = Path("/var/lib/small")
    folder.mkdir()
    (folder / "people").write_text(LINE)
    for room in (0, 4096, 8192, 16384, 24576, 32768):
        run("mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", str(folder))
        argv = words(folder)
        run("dd", "if=/dev/zero", f"of={folder / 'spent'}", check=False)
        os.truncate(folder / "spent", (folder / "spent").stat().st_size - room)
        done = knockgate(*argv)
        assert done.returncode == 2, room
        assert "Traceback" not in done.stderr
        assert set(all_below(folder)) == {"people", "spent"}, room
        (folder / "spent").unlink()
        assert knockgate(*argv).returncode == 0, "the control: it was the disk"
        run("umount", str(folder))
