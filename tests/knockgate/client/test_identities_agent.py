"""Which keys of an agent are tried, and how they go with those in files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.knockgate.client import agents
from tests.knockgate.client.homes import MESSAGE, Home, names, signs
from tests.knockgate.client.test_agent_socket import says
from tests.knockgate.spa.sshkeys.signers import keygen

from knockgate.client.agent_socket import Agent
from knockgate.client.identities import Where
from knockgate.errors import Unavailable
from knockgate.spa.sshkeys import PublicKey


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
