"""``knockgate key new``: what it makes is what the gate, our client and fwknop's own take."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import segno
from tests.knockgate.cli.gates import SSH, gate
from tests.knockgate.cli.process import command, environment, knockgate

from knockgate.client import profiles
from knockgate.client.profiles import PacketProfile
from knockgate.config import doors, keys, secrets
from knockgate.spa.fwknop import Hash, Mode, unseal

_SIZES = {"md5": 16, "sha1": 20, "sha256": 64, "sha384": 128, "sha512": 128, "sha3_256": 64, "sha3_512": 64}


def _lines(file: Path) -> list[str]:
    """The secrets themselves."""
    return [line.split()[1] for line in file.read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("hmac", Hash)
def test_gate_and_client_take_what_is_printed(
    hmac: Hash, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new folder" / "alice's"
    monkeypatch.setenv("HOME", str(tmp_path))
    mask = os.umask(0)
    try:
        made = knockgate("key", "new", "--fwknop", "alice", "--hmac", hmac.value, "-o", str(file), "--json")
    finally:
        os.umask(mask)
    assert made.returncode == 0, made.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    told = json.loads(made.stdout)
    (key,) = keys.parse(SSH + told["gate_toml"], doors.parse(SSH + told["gate_toml"]))
    assert (key.name, key.doors, key.hmac) == ("alice", ("ssh",), hmac)
    assert key.secret.hmac_key is not None
    assert (len(key.secret.key), len(key.secret.hmac_key)) == (32, _SIZES[hmac.value])
    (tmp_path / "profiles.toml").write_text(told["profile"])
    profile = profiles.load(tmp_path / "profiles.toml")["alice"]
    assert isinstance(profile, PacketProfile) and profile.fwknop is not None
    assert (profile.hmac, [str(port) for port in profile.access]) == (hmac, ["tcp/22"])
    profile.fwknop.parent.mkdir(parents=True, exist_ok=True)
    file.rename(profile.fwknop)
    assert secrets.load(profile.fwknop, hmac, Mode.CBC) == key.secret


def test_no_two_pairs_are_alike_and_none_is_overwritten(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for file in (one, other):
        assert knockgate("key", "new", "--fwknop", "alice", "-o", str(file)).returncode == 0
    assert len({*_lines(one), *_lines(other)}) == 4
    before = one.read_bytes()
    again = knockgate("key", "new", "--fwknop", "alice", "-o", str(one))
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith(f"knockgate: {one} is there already\n  hint: ")
    assert one.read_bytes() == before


def test_secrets_are_printed_where_that_is_asked_for_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quiet = knockgate("key", "new", "--fwknop", "quiet")
    assert not any(secret in quiet.stdout + quiet.stderr for secret in _lines(tmp_path / "quiet.secrets"))
    assert f"made {tmp_path}/quiet.secrets" in quiet.stdout
    loud = knockgate("key", "new", "--fwknop", "loud", "--fwknoprc")
    assert all(secret in loud.stdout for secret in _lines(tmp_path / "loud.secrets"))


def test_the_doors_are_looked_up_in_the_configuration(tmp_path: Path) -> None:
    web = '[doors.web]\nports = ["tcp/443", "udp/443"]\n'
    where = ["--config", gate(tmp_path, SSH, web), "-o", str(tmp_path / "alice")]
    words = ["key", "new", "--fwknop", "alice", "--json", *where]
    wrong = knockgate(*words, "--door", "wbe")
    assert wrong.returncode == 2
    assert "there is no door 'wbe'" in wrong.stderr and "did you mean web?" in wrong.stderr
    assert not (tmp_path / "alice").exists()
    right = knockgate(*words, "--door", "web", "--door", "ssh")
    assert right.returncode == 0, right.stderr
    assert 'access = ["tcp/443", "udp/443", "tcp/22"]' in json.loads(right.stdout)["profile"]
    assert 'doors = ["web", "ssh"]' in json.loads(right.stdout)["gate_toml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing option '--fwknop'"),
        (["--fwknop", "a/b"], "'a/b' is no name for a key"),
        (["--fwknop", "alice", "--hmac", "sha2"], "--hmac: 'sha2' is none of these"),
        (["--fwknop", "alice", "-o", "/proc/none/alice"], "cannot be written"),
        (["--fwknop", "alice", "-o", ""], "the name of the file is empty"),
        (["--fwknop", "alice", "--door", "a door"], "--door: 'a door' is no name for a door"),
    ],
)
def test_a_mistake_makes_nothing(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = knockgate("key", "new", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_fwknops_own_client_takes_the_stanza(tmp_path: Path) -> None:
    file, rc, packet = tmp_path / "alice", tmp_path / "fwknoprc", tmp_path / "packet"
    made = knockgate(
        "key", "new", "--fwknop", "alice", "--hmac", "sha512", "--json", "--fwknoprc", "-o", str(file)
    )
    rc.write_text(json.loads(made.stdout)["fwknoprc"].replace("HOST", "127.0.0.1"))
    rc.chmod(0o600)
    words = ["fwknop", "--rc-file", str(rc), "-n", "alice", "-a", "192.0.2.7", "--no-save-args"]
    subprocess.run(
        [*words, "--test", "--save-packet", str(packet)],
        env=os.environ | {"HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        timeout=30,
    )
    message = unseal(packet.read_bytes().strip(), secrets.load(file, Hash.SHA512, Mode.CBC)).message
    assert message.address == bytes([192, 0, 2, 7])
    assert [str(port) for port in message.ports] == ["tcp/22"]


# --- the code -----------------------------------------------------------------------------------------


def test_the_code_holds_what_the_android_client_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, segno.QRCode]] = []
    make = segno.make

    def noting(content: str, **options: Any) -> segno.QRCode:  # noqa: ANN401 - segno's
        made.append((content, make(content, **options)))
        return made[-1][1]

    monkeypatch.setattr(segno, "make", noting)
    file = tmp_path / "phone"
    done = knockgate("key", "new", "--fwknop", "phone", "--qr", "-o", str(file))
    assert done.returncode == 0, done.stderr
    ((content, code),) = made
    key, hmac_key = _lines(file)
    assert content == f"KEY_BASE64:{key} HMAC_KEY_BASE64:{hmac_key}"
    assert (code.mode, code.error, code.is_micro) == ("byte", "Q", False)
    drawn = io.StringIO()
    code.terminal(drawn, compact=True)
    assert drawn.getvalue().rstrip() in done.stdout
    assert "whoever sees this code has the secrets" in done.stderr
    assert key not in done.stdout
    asked = knockgate("key", "new", "--fwknop", "phone", "--qr", "--json", "-o", str(tmp_path / "json"))
    key, hmac_key = _lines(tmp_path / "json")
    assert json.loads(asked.stdout)["qr"] == f"KEY_BASE64:{key} HMAC_KEY_BASE64:{hmac_key}"


def test_without_segno_there_is_no_code_and_no_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["key", "new", "--fwknop", "phone", "-o", str(tmp_path / "phone")]
    monkeypatch.setitem(sys.modules, "segno", None)
    without = knockgate(*words, "--qr")
    assert (without.returncode, without.stdout) == (2, "")
    assert "pip install 'knockgate[qr]'" in without.stderr
    assert not (tmp_path / "phone").exists()
    assert knockgate(*words).returncode == 0
    assert (tmp_path / "phone").exists()


def test_a_terminal_that_cannot_draw_the_code_is_told_before_there_is_a_pair(tmp_path: Path) -> None:
    words = command("key", "new", "--fwknop", "phone", "--qr", "-o", str(tmp_path / "phone"))
    latin = environment(PYTHONIOENCODING="latin-1")
    done = subprocess.run(words, env=latin, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot draw the code" in done.stderr
    assert not (tmp_path / "phone").exists()
