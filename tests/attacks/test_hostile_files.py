"""Files that somebody else has written, or put something else in the place of: of keys, cards, captures.

Whoever reads them is a process with a time limit and little memory. What it says must be bounded, move no
terminal, and have nothing in it of a file that the one who wrote this one could not read.
"""

from __future__ import annotations

import base64
import os
import random
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.attacks.figures import figure
from tests.attacks.test_mistyped import GATE
from tests.knockgate.capture import files as captures
from tests.knockgate.cli.knocker import at_home
from tests.knockgate.cli.process import command, environment
from tests.knockgate.daemon import sealed_stage
from tests.knockgate.spa import sealed_signers as signers
from tests.knockgate.spa.sealed_messages import CARD
from tests.netns import isolated, until
from tests.packets import TCP, UDP, ipv4, tcp, udp

from knockgate.spa.sealed import KeyKind

_SECRET = "$6$rounds=1$of-somebody-else"  # noqa: S105 - nobody's
_SHADOW = f"root:{_SECRET}:19000:0:99999:7:::\n"
_ESCAPES = "\x1b[2J\x1b]0;mine\x07\x9b31m\u202e\r"
_LONGEST, _MEMORY = 60.0, 400 << 20
_SAID = 20_000  # characters; `check` has a line for each line of a file that is wrong
_CHECK_SAYS = 1_000_000
_GOOD = signers.line(signers.ED25519)


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    said: str
    seconds: float


def ends(*words: str) -> Ended:
    """``knockgate`` with these words, with little memory."""

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))

    own = environment(XDG_CONFIG_HOME=os.environ.get("XDG_CONFIG_HOME", "/nonexistent"))
    began = time.monotonic()
    done = subprocess.run(
        command(*words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=_LONGEST,
        check=False,
        env=own,
        preexec_fn=little,
    )
    return Ended(done.returncode, done.stdout + done.stderr, time.monotonic() - began)


def is_harmless(name: str, ended: Ended, most: int = _SAID) -> None:
    """What all of them have to be."""
    assert ended.status in (0, 1, 2) and "Traceback" not in ended.said, (name, ended)
    assert all(each.isprintable() or each == "\n" for each in ended.said), (name, ended)
    assert _SECRET not in ended.said and len(ended.said) < most, (name, len(ended.said), ended.said[:500])


def _text(octets: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(octets)
        path.chmod(0o600)

    return make


def _many(path: Path) -> None:
    with path.open("w") as stream:
        for _ in range(100):
            stream.write(f"{_GOOD}\n" * 10_000)
    path.chmod(0o600)


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o020600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def _link(path: Path) -> None:
    path.symlink_to(path.with_name("shadow"))


def _hard_link(path: Path) -> None:
    path.hardlink_to(path.with_name("shadow"))


def _to_itself(path: Path) -> None:
    path.symlink_to(path)


#: What somebody puts in the place of a file.
PLACES: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a device": _device,
    "a socket": _socket,
    "a folder": Path.mkdir,
    "a link to another's": _link,
    "another's by a second name": _hard_link,
    "a link to itself": _to_itself,
    "a million keys": _many,
    "one huge line": _text(b"ssh-ed25519 " + b"A" * (8 << 20)),
    "one long comment": _text(f"{_GOOD} {'x' * 200_000}\n".encode()),
    "NUL": _text(bytes(100_000) + _GOOD.encode() + b"\0\n"),
    "octets": _text(random.Random(1).randbytes(200_000)),
    "escapes": _text(
        f'{_GOOD} {_ESCAPES}\nfrom="{_ESCAPES}" {_GOOD}\n{_ESCAPES}\ndoors="{_ESCAPES}" x\n'.encode()
    ),
    "quotes that do not end": _text((b'from="' * 1000 + b"\n") * 20),
    "patterns": _text(b"".join(b'from="%s" %s\n' % (b"*?" * 2000, _GOOD.encode()) for _ in range(40))),
}


def _place(folder: Path, name: str) -> Path:
    folder.mkdir()
    (folder / "shadow").write_text(_SHADOW)
    (folder / "shadow").chmod(0o600)
    PLACES[name](folder / "keys")
    return folder / "keys"


SOME = ["a FIFO", "a link to another's", "escapes"]


def some_or_all(some: list[str], every: Iterable[str]) -> pytest.MarkDecorator:
    """Each takes a process or two."""
    return pytest.mark.parametrize(
        "names", [some, pytest.param([*every], marks=pytest.mark.long)], ids=["some", "all"]
    )


@some_or_all(SOME, PLACES)
@isolated
def test_files_of_keys_at_a_gate(names: list[str], tmp_path: Path) -> None:
    """A gate that reads one such beside a good one opens for the good one, at once; `check` ends."""
    with sealed_stage.stage(tmp_path) as gate:
        bad = tmp_path / "bad"
        bad.write_text("")
        bad.chmod(0o600)
        gate.gate.end()
        text = gate.text.replace(f'"{gate.keys}"', f'["{bad}", "{gate.keys}"]')
        gate.gate.write(text + "[sealed]\nbudget = 1000\n", gate='clock = "trusted"\n')
        gate.gate.start()
        for number, name in enumerate(names):
            made = _place(tmp_path / str(number), name)
            bad.unlink(missing_ok=True)
            (tmp_path / "shadow").unlink(missing_ok=True)
            (tmp_path / str(number) / "shadow").rename(tmp_path / "shadow")
            made.rename(bad) if name != "a link to itself" else bad.symlink_to(bad)
            began = time.monotonic()
            _opens(gate)
            opened = time.monotonic() - began
            checked = ends("check", str(gate.gate.file))
            is_harmless(name, checked, _CHECK_SAYS)
            bad.rmdir() if name == "a folder" else bad.unlink()
            assert opened < 2 + 1.5 * _PACE, name
            figure(
                f"files.in the place of a file of keys: {name}",
                tries=1,
                wrongly=0,
                rightly=1,
                control="a key of another file opens meanwhile",
                opens_within_s=round(opened, 3),
                check_took_s=round(checked.seconds, 2),
            )
        log = gate.gate.log()
        assert _SECRET not in log and len(log) < 20_000
        assert all(each.isprintable() or each == "\n" for each in log)
        said = str(gate.explained())
        assert _SECRET not in said and said.isprintable()


_PACE = 1.0  # seconds that a key that knocks without end waits for the next


def _opens(gate: sealed_stage.Stage) -> None:
    def opens() -> bool:
        before, done = gate.opened(), sum(gate.refused().values())
        gate.knock()
        until(lambda: gate.opened() > before or sum(gate.refused().values()) > done, "it is answered")
        return gate.opened() > before

    until(opens, "the good key opens")


@isolated
def test_a_file_of_keys_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """By rename, by writing over it, cut short: what opens is what one of its states says."""
    other = "".join(f"{signers.line(signers.ECDSA)} {each}\n" for each in range(1000))
    with sealed_stage.stage(tmp_path) as gate:
        good = (gate.keys).read_text()
        script = (
            "import os, sys\npath, good, other = sys.argv[1], *map(open, sys.argv[2:])\n"
            "good, other = good.read(), other.read()\nprint('began', flush=True)\n"
            "while True:\n"
            "    for text in (good + other, other[:50000] + chr(10) + good, good):\n"
            "        with open(path, 'r+') as stream:\n"
            "            stream.write(text); stream.truncate()\n"
        )
        for name, text in (("good", good), ("other", other)):
            (tmp_path / name).write_text(text)
        words = [
            "python3",
            "-I",
            "-c",
            script,
            str(gate.keys),
            str(tmp_path / "good"),
            str(tmp_path / "other"),
        ]
        began = time.monotonic()
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"began\n"
            try:
                for _ in range(4):
                    _opens(gate)
            finally:
                process.kill()
        gate.write_keys(good.strip())
        gate.knock(KeyKind.ECDSA_P256)
        until(lambda: "unknown-key" in gate.refused(), "the other key is unknown")
        figure(
            "files.of keys, written while they are read",
            tries=4,
            wrongly=0,
            rightly=4,
            control="the key that is in all states of the file opens",
            took_s=round(time.monotonic() - began, 2),
        )


# --- the client's -------------------------------------------------------------------------------------

_PROFILE = '[profiles.home]\nhost = "127.0.0.1"\ncard = "{card}"\ndoors = ["ssh"]\n'
PROFILES: dict[str, bytes] = {
    "deep": b"a = " + b"[" * 100_000,
    "deep tables": b"[" + b".".join([b"a"] * 5_000) + b"]\n",
    "a million profiles": b"".join(b'[profiles.p%d]\nhost = "h"\n' % each for each in range(20_000)),
    "a long host": b'[profiles.home]\nhost = "' + b"h" * 1_000_000 + b'"\nsteps = ["7000"]\n',
    "escapes": b'[profiles.home]\nhost = "\\u001b[2J\\u009b"\n"\\u001b]0;x" = 1\nsteps = ["\\u202e"]\n',
    "raw escapes": f'[profiles.home]\nhost = "{_ESCAPES}"\n'.encode(),
    "NUL": bytes(10_000),
    "numbers": b'[profiles.home]\nhost = "127.0.0.1"\nsteps = ["7000"]\ndelay = ' + b"9" * 4000 + b"\n",
    "huge": b"# " + b"x" * (20 << 20),
}


@some_or_all(["raw escapes"], PROFILES)
def test_profiles(names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent to anybody; a profile's name is not there, or the file is wrong."""
    home = at_home(tmp_path, monkeypatch)
    file = home / "config" / "knockgate" / "profiles.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[profiles.home]\nhost = "127.0.0.1"\nsteps = ["7000"]\n')
    file.chmod(0o600)
    control = ends("knock", "home", "--dry-run")
    assert control.status == 0, control
    for name in names:
        file.write_bytes(PROFILES[name])
        file.chmod(0o600)
        ended = ends("knock", "home", "--dry-run")
        is_harmless(name, ended)
        assert ended.status == 2, (name, ended)
        figure(
            f"files.of profiles: {name}",
            tries=1,
            wrongly=0,
            rightly=1,
            control="a profile that is right is read, and would be sent",
            took_s=round(ended.seconds, 2),
            memory_at_most_kb=_MEMORY >> 10,
        )


_CARD = CARD.text().strip()
CARDS = {
    "cut": _CARD[:-9],
    "another's": _SHADOW,
    "long": _CARD + "A" * (4 << 20),
    "moves the terminal": f"{_ESCAPES}{_CARD}{_ESCAPES}",
    "of zeros": "knockgate-card-v1 " + base64.b64encode(bytes(1280)).decode(),
}
# A pipe is as good as a file to whoever types its name, and waits for who writes.
_AS_CARDS = [name for name in PLACES if name != "a FIFO"]


@some_or_all(["moves the terminal"], [*_AS_CARDS, *CARDS])
def test_cards(names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that a profile names is anything; and one that somebody has sent."""
    home = at_home(tmp_path, monkeypatch)
    file = home / "config" / "knockgate" / "profiles.toml"
    file.parent.mkdir(parents=True)
    control = ends("trust", "good", "host.example", str(home / "card"))
    assert control.status == 0, control
    for number, name in enumerate(names):
        folder = tmp_path / f"card{number}"
        if name in PLACES:
            path = _place(folder, name)
        else:
            folder.mkdir()
            path = folder / "keys"
            _text(CARDS[name].encode())(path)
        file.write_text(_PROFILE.format(card=path))
        file.chmod(0o600)
        for words in (["knock", "home", "--dry-run"], ["trust", f"new{number}", "host.example", str(path)]):
            ended = ends(*words)
            is_harmless(f"{name} {words[0]}", ended)
            assert ended.status == 2, (name, ended)
            figure(
                f"files.in the place of a card: {name}, {words[0]}",
                tries=1,
                wrongly=0,
                rightly=1,
                control="a card that is right is taken",
                took_s=round(ended.seconds, 2),
                memory_at_most_kb=_MEMORY >> 10,
            )


# --- captures -----------------------------------------------------------------------------------------


def _flipped(octets: bytes, dice: random.Random) -> bytes:
    found = bytearray(octets)
    for _ in range(3):
        found[dice.randrange(len(found))] ^= 1 << dice.randrange(8)
    return bytes(found)


_START = captures.section() + captures.interface()
_FRAME = captures.simple(captures.ethernet(b"\x45" + bytes(39)))
_dice = random.Random(3)
CAPTURES: dict[str, bytes] = {
    "nothing": b"",
    "NUL": bytes(1 << 20),
    "octets": _dice.randbytes(1 << 20),
    "a huge block": _START + b"\x03\0\0\0\xfc\xff\xff\xff" + bytes(1000),
    "blocks of nothing": _START + b"\x03\0\0\0\0\0\0\0" * 1000,
    "many interfaces": captures.section() + captures.interface() * 50_000,
    "cut": (_START + _FRAME * 3)[:-7],
    "another's": _SHADOW.encode(),
    "escapes": captures.section() + captures.block(10, _ESCAPES.encode() * 10) + captures.interface(),
    **{f"flipped {each}": _flipped(_START + _FRAME * 20, _dice) for each in range(8)},
}


@some_or_all(["a huge block"], CAPTURES)
def test_captures(names: list[str], tmp_path: Path) -> None:
    """`simulate` reads what somebody says is a capture."""
    gate = tmp_path / "gate.toml"
    gate.write_text(GATE)
    steps = [ipv4(tcp(7000), TCP, source="10.0.0.2"), ipv4(udp(7001, payload=b"\0"), UDP, source="10.0.0.2")]
    frames = [(number * 10**8, captures.ethernet(each)) for number, each in enumerate(steps)]
    (tmp_path / "capture").write_bytes(captures.pcap(frames))
    control = ends("simulate", "--config", str(gate), str(tmp_path / "capture"))
    assert control.status == 0, control
    for name in names:
        (tmp_path / "capture").write_bytes(CAPTURES[name])
        ended = ends("simulate", "--config", str(gate), str(tmp_path / "capture"))
        is_harmless(name, ended)
        figure(
            f"files.of captures: {name}",
            tries=1,
            wrongly=0,
            rightly=1,
            control="with a capture of a knock it says that the door opens",
            took_s=round(ended.seconds, 2),
            memory_at_most_kb=_MEMORY >> 10,
        )
