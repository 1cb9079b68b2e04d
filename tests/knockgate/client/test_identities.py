"""Which keys in files are tried, in which order, and why the others are not."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.knockgate.client import agents, software_token
from tests.knockgate.client.homes import MESSAGE, Home, names, signs
from tests.knockgate.client.test_ssh_keygen import asked
from tests.knockgate.spa.sshkeys.signers import signer

from knockgate.client.identities import Identities, Needs, Skipped, Where
from knockgate.errors import ConfigError, Unavailable
from knockgate.spa.sshkeys import Kind, verify

WORDS = "open sesame"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")


def test_nobody_has_a_key(home: Home) -> None:
    assert home.find() == Identities((), ())


def test_the_usual_files_in_sshs_order(home: Home) -> None:
    home.key("id_ed25519")
    home.key("id_ecdsa", "-t", "ecdsa", "-b", "256")
    home.key("id_other")
    found = home.find()
    assert names(found) == [("file", "id_ecdsa"), ("file", "id_ed25519")]
    assert found.skipped == ()
    assert [each.needs for each in found.candidates] == [Needs.NOTHING, Needs.NOTHING]
    assert all(map(signs, found.candidates))
    assert "sign" not in repr(found.candidates[0])


def test_those_that_cannot_knock_are_told_of(home: Home) -> None:
    home.key("id_rsa", "-t", "rsa", "-b", "2048")
    home.key("id_ecdsa", "-t", "ecdsa", "-b", "384")
    home.key("old", "-t", "ecdsa", "-b", "256", "-m", "PEM").with_name("old.pub").unlink()
    open_ = home.key("open")
    open_.chmod(0o640)
    (home.ssh / "public").write_bytes(home.key("half").with_name("half.pub").read_bytes())
    (home.ssh / "half").unlink()
    (home.ssh / "junk").write_text("junk")
    (home.ssh / "long").write_bytes(bytes(1 << 17))
    os.mkfifo(home.ssh / "fifo")
    home.key("id_good")
    wanted = {
        "id_rsa": "an RSA key cannot knock",
        "id_ecdsa": "a key of this kind cannot knock",
        "old": "this is no private key in OpenSSH's format",
        "open": "others than its owner may read it, so ssh does not use it",
        "public": "it is the public half, and no agent has the other one",
        "half": "it is the public half, and no agent has the other one",
        "junk": "this is no key",
        "long": "it is too long for a key",
        "fifo": "it is no file",
        "absent": "there is no such file",
    }
    wanted_order = [*wanted, "id_good"]
    home.config("".join(f"IdentityFile ~/.ssh/{name}\n" for name in wanted_order))
    found = home.find()
    assert names(found) == [("file", "id_good")]
    # The half is one key in two files, and told of once.
    told = {Path(each.name).name: each.why for each in found.skipped}
    assert told == {name: why for name, why in wanted.items() if name != "public"}
    assert all(each.where is Where.FILE for each in found.skipped)
    open_.chmod(0o600)
    assert names(home.find()) == [("file", "open"), ("file", "id_good")]


def test_a_name_that_only_ssh_can_tell(home: Home) -> None:
    home.config("IdentityFile ~/.ssh/%C\n")
    (found,) = home.find().skipped
    assert found == Skipped("~/.ssh/%C", Where.FILE, "only ssh knows which file this is", "--identity FILE")


def test_the_same_key_twice_is_tried_once(home: Home) -> None:
    file = home.key("id_one")
    shutil.copy(file, home.ssh / "id_two")
    (home.ssh / "id_zero").write_bytes(file.with_name("id_one.pub").read_bytes())
    home.config("".join(f"IdentityFile ~/.ssh/{name}\n" for name in ("id_zero", "id_one", "id_two")))
    assert names(home.find()) == [("file", "id_one")]


def test_a_passphrase(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.key("id_ed25519", passphrase=WORDS)
    asked(monkeypatch, tmp_path, f"echo {WORDS}")
    (found,) = home.find().candidates
    assert found.needs is Needs.PASSPHRASE
    assert signs(found)


def test_a_token(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = software_token.built(tmp_path)
    monkeypatch.setenv("SSH_SK_PROVIDER", str(library))
    for kind, passphrase in (("ed25519-sk", ""), ("ecdsa-sk", WORDS)):
        file = software_token.enrolled(tmp_path, library, kind, passphrase=passphrase)
        file.rename(home.ssh / f"id_{kind.replace('-', '_')}")
    asked(monkeypatch, tmp_path, f"echo {WORDS}")
    found = home.find().candidates
    assert [each.key.kind for each in found] == [Kind.SK_ECDSA_P256, Kind.SK_ED25519]
    assert [each.needs for each in found] == [Needs.PASSPHRASE | Needs.TOUCH, Needs.TOUCH]
    assert all(map(signs, found))


def test_a_tokens_library_that_ssh_config_names(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = software_token.built(tmp_path)
    file = software_token.enrolled(tmp_path, library, "ed25519-sk")
    file.rename(home.ssh / "id_ed25519_sk")
    asked(monkeypatch, tmp_path, "true")
    monkeypatch.setenv("SSH_SK_PROVIDER", str(tmp_path / "none"))
    monkeypatch.setenv("LIBRARY", str(library))
    for said in (str(library), "$LIBRARY"):
        home.config(f"SecurityKeyProvider {said}\n")
        (found,) = home.find().candidates
        (same,) = home.find(identity=home.ssh / "id_ed25519_sk").candidates
        assert signs(found) and signs(same)
    for said in ("internal", "$NOWHERE"):  # the control: then it is as the environment says
        home.config(f"SecurityKeyProvider {said}\n")
        (found,) = home.find().candidates
        with pytest.raises(Unavailable, match="does not sign"):
            found.sign(MESSAGE)


def test_a_tokens_key_in_the_real_agent(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = software_token.built(tmp_path)
    file = software_token.enrolled(tmp_path, library, "ed25519-sk")
    asked(monkeypatch, tmp_path, "true")
    with agents.real(tmp_path / "socket", ["-P", str(library)]) as path:
        try:
            agents.add(path, "-S", library, file)
        except subprocess.CalledProcessError:
            pytest.skip("this agent takes no library of ours")
        (found,) = home.find(path).candidates
        assert (found.where, found.needs) == (Where.AGENT, Needs.TOUCH)
        signature = found.sign(MESSAGE)
        assert verify(found.key, signature, MESSAGE) and signature.touched


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_in_an_agent(kind: Kind, home: Home, tmp_path: Path) -> None:
    one = signer(kind)
    with agents.acting(tmp_path / "socket", agents.tokens([one])) as path:
        (found,) = home.find(path).candidates
        assert found.key == one.public and signs(found)
        assert found.needs is (Needs.TOUCH if kind.on_token else Needs.NOTHING)


def test_a_file_that_is_another_by_the_time_it_signs(home: Home) -> None:
    file, other = home.key("id_ed25519"), home.key("other")
    (found,) = home.find().candidates
    assert signs(found)
    other.rename(file)
    with pytest.raises(ConfigError, match="is another key by now"):
        found.sign(MESSAGE)


def test_a_file_that_is_gone_by_the_time_it_signs(home: Home) -> None:
    file = home.key("id_ed25519")
    (found,) = home.find().candidates
    file.unlink()
    with pytest.raises(Unavailable, match="cannot be read"):
        found.sign(MESSAGE)
