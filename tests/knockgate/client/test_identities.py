"""Which keys are tried, and in which order: what the real ssh says that it will attempt is the measure."""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.knockgate.client import agents, software_token
from tests.knockgate.client.test_agent_socket import says
from tests.knockgate.client.test_ssh_keygen import asked
from tests.knockgate.spa.sshkeys.signers import keygen, signer
from tests.netns import DEADLINE, isolated, own_mounts

from knockgate.client import identities
from knockgate.client.agent_socket import Agent
from knockgate.client.identities import Candidate, Identities, Needs, Skipped, Where
from knockgate.errors import ConfigError, Unavailable
from knockgate.spa.sshkeys import Kind, PublicKey, verify

MESSAGE = bytes(range(144))
WORDS = "open sesame"


class Home:
    """Somebody's home, with a config and keys in ``.ssh``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ssh = folder / ".ssh"
        self.ssh.mkdir(0o700)
        self.config("")

    def key(self, name: str, *arguments: str, passphrase: str = "") -> Path:
        file = self.ssh / name
        options = ["-q", "-a", "1", "-N", passphrase, "-C", f"comment of {name}"]
        keygen(*options, "-f", file, *arguments or ["-t", "ed25519"])
        return file

    def config(self, text: str) -> None:
        (self.ssh / "config").write_text(text)

    @property
    def command(self) -> list[str]:
        return ["ssh", "-F", str(self.ssh / "config")]

    def find(self, agent: Path | None = None, identity: Path | None = None) -> Identities:
        return identities.find(
            "host.example",
            identity=identity,
            agent=str(agent) if agent else None,
            home=self.folder,
            ssh=self.command,
        )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    with agents.real(tmp_path / "agent") as path:
        yield path


def public(file: Path) -> PublicKey:
    return PublicKey.of_text(*file.with_name(f"{file.name}.pub").read_bytes().split()[:2])


def names(found: Identities) -> list[tuple[str, str]]:
    return [(each.where.value, Path(each.name).name) for each in found.candidates]


def signs(each: Candidate) -> bool:
    return verify(each.key, each.sign(MESSAGE), MESSAGE)


# --- files -------------------------------------------------------------------------------------------


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


# --- agents ------------------------------------------------------------------------------------------


def test_agent_and_files(home: Home, agent: Path) -> None:
    for name in ("id_ed25519", "named", "unnamed", "last"):
        home.key(name)
    for name in ("unnamed", "last", "named"):
        agents.add(agent, home.ssh / name)
    text = "IdentityFile ~/.ssh/named\nIdentityFile ~/.ssh/id_ed25519\nIdentityFile ~/.ssh/last\n"
    home.config(text)
    found = home.find(agent)
    assert names(found) == [
        ("agent", "last"),
        ("agent", "named"),
        ("agent", "comment of unnamed"),
        ("file", "id_ed25519"),
    ]
    assert all(map(signs, found.candidates))
    home.config(f"IdentitiesOnly yes\n{text}")
    assert names(home.find(agent)) == [("agent", "last"), ("agent", "named"), ("file", "id_ed25519")]
    home.config(f"IdentityAgent none\n{text}")
    assert [where for where, _ in names(home.find(agent))] == ["file"] * 3
    home.config(f"IdentityAgent {agent}\n{text}")
    assert names(home.find()) == names(found)


def test_a_public_half_chooses_a_key_of_the_agents(home: Home, agent: Path) -> None:
    for name in ("one", "other"):
        agents.add(agent, home.key(name))
        (home.ssh / name).unlink()
    home.config("IdentitiesOnly yes\nIdentityFile ~/.ssh/other.pub\n")
    found = home.find(agent)
    assert names(found) == [("agent", "other.pub")]
    assert found.candidates[0].key == public(home.ssh / "other") and signs(found.candidates[0])
    assert names(home.find(agent, home.ssh / "one")) == [("agent", "one")]


def test_one_that_was_named(home: Home, agent: Path) -> None:
    """It alone, wherever it is."""
    for name in ("id_ed25519", "named"):
        home.key(name)
    agents.add(agent, home.ssh / "id_ed25519")
    assert names(home.find(agent, home.ssh / "named")) == [("file", "named")]
    agents.add(agent, home.ssh / "named")
    assert names(home.find(agent, home.ssh / "named")) == [("agent", "named")]
    found = home.find(agent, home.ssh / "absent")
    assert found.candidates == () and found.skipped[0].why == "there is no such file"
    home.config("Nonsense\n")
    assert names(home.find(agent, home.ssh / "named")) == [("agent", "named")]
    with pytest.raises(Unavailable):
        home.find(agent)


def test_what_an_agent_has_that_cannot_knock(home: Home, agent: Path) -> None:
    agents.add(agent, home.key("rsa", "-t", "rsa", "-b", "2048"))
    certified = home.key("certified")
    keygen("-q", "-s", home.key("authority"), "-I", "me", "-n", "root", certified.with_name("certified.pub"))
    agents.add(agent, certified)
    found = home.find(agent)
    assert names(found) == [("agent", "comment of certified")]
    assert [(each.where, each.why) for each in found.skipped] == [
        (Where.AGENT, "an RSA key cannot knock"),
        (Where.AGENT, "a certificate cannot knock"),
    ]


def test_a_key_for_certain_hosts_alone_says_so_when_it_is_to_sign(
    home: Home, agent: Path, tmp_path: Path
) -> None:
    file = home.key("bound")
    hosts = tmp_path / "known_hosts"
    hosts.write_bytes(b"other.example " + file.with_name("bound.pub").read_bytes())
    agents.add(agent, "-H", hosts, "-h", "other.example", file)
    (found,) = home.find(agent).candidates
    with pytest.raises(Unavailable) as caught:
        found.sign(MESSAGE)
    assert "ssh-add -h" in (caught.value.hint or "")


def test_an_agent_that_does_not_answer_is_passed_over(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.key("id_ed25519")
    found = home.find(tmp_path / "none")
    assert names(found) == [("file", "id_ed25519")]
    assert [each.where for each in found.skipped] == [Where.AGENT]
    monkeypatch.setattr(Agent.__init__, "__kwdefaults__", {"listing": 0.1, "signing": 1.0})
    with agents.acting(tmp_path / "socket", says()) as path:
        found = home.find(path)
    assert names(found) == [("file", "id_ed25519")]
    assert "does not answer" in found.skipped[0].why


def test_what_an_agent_says_is_not_for_the_terminal(home: Home, agent: Path) -> None:
    agents.add(agent, home.key("evil", "-t", "ed25519", "-C", "\x1b[2Jé\u202e"))
    (found,) = home.find(agent).candidates
    assert found.name == "\\x1b[2Jé\\u202e"


# --- as ssh does -------------------------------------------------------------------------------------


def attempted(home: Home, agent: Path | None) -> list[str]:
    """Fingerprints of what the real ssh will attempt, in its order, at an sshd that lets nobody in."""
    folder = home.folder / "sshd"
    folder.mkdir(exist_ok=True)
    if not (folder / "host").exists():
        keygen("-q", "-t", "ed25519", "-N", "", "-f", folder / "host")
    (folder / "config").write_text(
        f"HostKey {folder}/host\nPidFile none\nAuthorizedKeysFile none\nMaxAuthTries 20\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    server = shlex.join(["/usr/sbin/sshd", "-i", "-f", str(folder / "config")])
    options = ["-v", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", f"ProxyCommand={server}"]
    options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null"]
    environment = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"}
    if agent:
        environment["SSH_AUTH_SOCK"] = str(agent)
    done = subprocess.run(
        [*home.command, *options, "root@host.example", "true"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    found = re.findall(r"Will attempt key: .* (SHA256:\S+)", done.stderr)
    assert found and "Permission denied" in done.stderr, done.stderr
    return found


def fingerprints(found: Identities) -> list[str]:
    return [
        "SHA256:" + base64.b64encode(each.key.fingerprint).decode().rstrip("=") for each in found.candidates
    ]


CONFIGS = [
    "",
    "IdentitiesOnly yes\n",
    "IdentityAgent none\n",
    "Match host host.example\n IdentityFile {0}/d\n IdentityFile {0}/a\n",
    "IdentitiesOnly yes\nIdentityFile {0}/%n-d\nIdentityFile {0}/b.pub\nIdentityFile {0}/c\n",
    "IdentityFile {0}/locked\nIdentityFile {0}/id_ed25519\nIdentityFile {0}/a\nIdentityFile {0}/c\n",
]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="sshd becomes another user before it lets anybody in")
@isolated
def test_the_order_is_sshs(tmp_path: Path) -> None:
    if not Path("/usr/sbin/sshd").exists():
        pytest.skip("there is no sshd")
    own_mounts()
    home = Home(tmp_path)
    for name in ("a", "b", "c", "d", "locked", "id_ed25519"):
        home.key(name, passphrase="secret" if name == "locked" else "")
    home.key("id_ecdsa", "-t", "ecdsa", "-b", "256")
    shutil.copy(home.ssh / "d", home.ssh / "host.example-d")
    seen = set()
    with agents.real(tmp_path / "agent") as agent:
        for name in ("b", "c", "a", "id_ecdsa"):
            agents.add(agent, home.ssh / name)
        (home.ssh / "b").unlink()
        for text in CONFIGS:
            # ssh takes the usual files from the home in the list of users: they are named here.
            usual = "".join(f"IdentityFile {home.ssh}/{name}\n" for name in ("id_ecdsa", "id_ed25519"))
            home.config(text.format(home.ssh) + ("" if "IdentityFile" in text else usual))
            for path in (agent, None):
                ours, theirs = fingerprints(home.find(path)), attempted(home, path)
                # A public half is attempted by ssh in any case: perhaps the server does not want it.
                halves = set() if path and "none" not in text else {_fingerprint(home.ssh / "b.pub")}
                assert ours == [each for each in theirs if each not in halves], text
                seen.add(tuple(ours))
    assert len(seen) > len(CONFIGS), "they differ"


def _fingerprint(file: Path) -> str:
    return keygen("-l", "-f", file).split()[1]
