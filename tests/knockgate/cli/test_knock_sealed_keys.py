"""Which SSH keys sign a sealed knock: files, agents, tokens, in whose order, and who is asked."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import socket
import subprocess
from pathlib import Path

import pytest
from tests.knockgate.cli.knocker import addresses, at_home, named, new_key, words_for
from tests.knockgate.cli.process import Done, command, environment, knockgate
from tests.knockgate.client import agents
from tests.knockgate.client.sealed_gate import HERE, gate, public
from tests.knockgate.spa.sshkeys.signers import Signer, keygen, signer
from tests.netns import isolated

from knockgate.spa.sshkeys import Kind
from knockgate.spa.sshkeys.encoding import string, uint32


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return at_home(tmp_path, monkeypatch)


@isolated
def test_the_key_that_opens_is_found_and_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses()
    keys = [new_key(home, name) for name in "abc"]
    with agents.real(home / "agent") as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        for key in keys:
            agents.add(agent, key)
        known = [public(key) for key in keys]
        with gate(*known, opens_for=known[1]) as there:
            done = knockgate(*words_for(home, "--wait", "22"))
            assert done.returncode == 0, done.stderr
            assert [each.key for each in there.number(2)] == known[:2]
            signed = f"  signed with {named(known[1])} (somebody, by the agent), after 1 other key\n"
            assert re.search(
                re.escape(signed) + r"tcp/22 is open, [0-9.]+ ms after the packet\n$", done.stdout
            )
        with gate(*known, opens_for=known[0]) as there:  # the control: the first one is enough
            facts = json.loads(knockgate(*words_for(home, "--wait", "22", "--json")).stdout)
            there.number(1)
        assert [each["fingerprint"] for each in facts["sealed"]["keys"]] == [named(known[0])]
        assert facts["wait"]["open"] is True and "diagnosis" not in facts
        with gate(*known) as there:  # nobody knows whether it opened, so nobody tries another one
            assert knockgate(*words_for(home)).returncode == 0
            there.number(1)


@isolated
def test_no_more_than_six_keys_are_tried(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses()
    keys = [new_key(home, f"k{number}") for number in range(8)]
    known = [public(key) for key in keys]
    with agents.real(home / "agent") as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        agents.add(agent, *keys)
        with gate(*known, opens_for=known[7]) as there:
            done = knockgate(*words_for(home, "--wait", "22", "--timeout", "0.6", "--json"))
            assert done.returncode == 1
            assert [each.key for each in there.number(6)] == known[:6]
            facts = json.loads(done.stdout)
            assert len(facts["sealed"]["skipped"]) == 2
            assert all("6 others come before it" in each["why"] for each in facts["sealed"]["skipped"])
            monkeypatch.setattr("knockgate.cli.knocking.signing._somebody_is_there", lambda: True)
            preview = json.loads(knockgate(*words_for(home, "--json", "--dry-run")).stdout)
            assert len(preview["sealed"]["keys"]) == 6
            alone = knockgate(*words_for(home, "--wait", "22", "-i", str(keys[7])))  # the control
            assert alone.returncode == 0, alone.stderr


@pytest.mark.parametrize(("timeout", "shares"), [("9", [1, 1, 7]), ("0.9", [0.3, 0.3, 0.3])])
@isolated
def test_the_keys_share_the_time(
    home: Path, timeout: str, shares: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses()
    keys = [signer(Kind.ED25519, number) for number in (1, 2, 3)]
    waited: list[float] = []

    def watch(_: object, __: float, seconds: float) -> bool:
        waited.append(seconds)
        return False

    monkeypatch.setattr("knockgate.cli.knocking.sealed.SealedAttempt.watch", watch)
    with agents.acting(home / "agent", agents.tokens(keys)) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        with gate(*(each.public for each in keys)) as there:
            knockgate(*words_for(home, "--wait", "22", "--timeout", timeout))
            there.number(3)
    assert waited == pytest.approx(shares)


@isolated
def test_a_key_that_does_not_sign_is_passed_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was added for certain hosts alone (ssh-add -h), of which the agent has said nothing."""
    addresses()
    refused = signer(Kind.ED25519)
    good = new_key(home, "g")
    (home / ".ssh" / "id_ed25519").write_bytes(good.read_bytes())
    (home / ".ssh" / "id_ed25519").chmod(0o600)
    with agents.acting(home / "agent", _refusing(refused)) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        with gate(public(good), refused.public) as there:
            done = knockgate(*words_for(home, "--json"))
            assert done.returncode == 0, done.stderr
            (knock,) = there.number(1)
            assert knock.key == public(good)
        ((skipped),) = json.loads(done.stdout)["sealed"]["skipped"]
        assert (skipped["name"], skipped["why"]) == ("a token", "the ssh agent refuses to sign")
        (home / ".ssh" / "id_ed25519").unlink()
        alone = knockgate(*words_for(home))
    assert (alone.returncode, alone.stdout) == (2, "")
    assert alone.stderr.splitlines()[0] == "knockgate: the ssh agent refuses to sign"
    assert "ssh-add -h" in alone.stderr


def _refusing(one: Signer) -> agents.Answer:
    def answer(sock: socket.socket) -> None:
        request = sock.recv(4096)
        if request[4] == 11:
            sock.sendall(string(b"\x0c" + uint32(1) + string(one.public.blob) + string(b"a token")))
        else:
            sock.sendall(string(b"\x05"))

    return answer


@isolated
def test_without_a_key_it_says_what_there_was(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses()
    none = knockgate(*words_for(home))
    assert (none.returncode, none.stdout) == (2, "")
    make = "make one, and give its .pub to the gate's admin: ssh-keygen -t ed25519"
    assert none.stderr.splitlines() == [
        f"knockgate: there is no SSH key for {HERE}",
        f"  hint: {make}; or name one: -i FILE, or identity in the profile",
    ]
    rsa = new_key(home, "r", "-t", "rsa", "-b", "2048")
    told = knockgate(*words_for(home, "-i", str(rsa))).stderr
    assert told.startswith(f"knockgate: no SSH key can knock: {rsa}: an RSA key cannot knock\n  hint: ")
    (home / "text").write_text("nothing but words\n")
    for name, why in (("none", "there is no such file"), ("text", "this is no key")):
        told = knockgate(*words_for(home, "-i", str(home / name))).stderr
        assert told.splitlines() == [
            f"knockgate: no SSH key can knock: {home / name}: {why}",
            "  hint: name the file of a private key, or the .pub of one that an agent has",
        ]
    assert not (home / "state").exists()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "nobody"))
    assert "no ssh agent answers" in knockgate(*words_for(home)).stderr


@isolated
def test_a_dry_run_without_a_key_is_no_yes(home: Path) -> None:
    addresses()
    rsa, good = new_key(home, "r", "-t", "rsa", "-b", "2048"), new_key(home, "g")
    for words in ([], ["-i", str(rsa)]):
        real = knockgate(*words_for(home, *words))
        done = knockgate(*words_for(home, *words, "--dry-run"))
        assert (real.returncode, done.returncode) == (2, 2)
        assert done.stdout.startswith(f"would not send the sealed knock to {HERE}, udp/62202, from {HERE}: ")
        assert done.stdout.endswith("\n  no key signs\n")
        assert done.stderr == real.stderr and "  hint: " in done.stderr
        told = knockgate(*words_for(home, *words, "--dry-run", "--json"))
        assert (told.returncode, told.stderr) == (2, real.stderr)
        facts = json.loads(told.stdout)
        assert facts["sent"] is False and real.stderr.startswith(f"knockgate: {facts['error']}\n")
    control = knockgate(*words_for(home, "-i", str(good), "--dry-run", "--json"))
    assert control.returncode == 0 and "error" not in json.loads(control.stdout)


@isolated
def test_a_passphrase_is_asked_for_at_the_terminal_alone(home: Path) -> None:
    addresses()
    key = new_key(home, "k")
    open_key = public(key)
    keygen("-q", "-p", "-a", "1", "-P", "", "-N", "open sesame", "-f", key)
    words = words_for(home, "-i", str(key), "--wait", "22")
    with gate(open_key, opens_for=open_key) as there:
        nobody = _without_terminal(*words)
        assert (nobody.returncode, there.knocks) == (2, [])
        assert f"ssh-keygen does not sign with {key}" in nobody.stderr and "ssh-add" in nobody.stderr
        shown = _at_a_terminal(command(*words), "open sesame")
        there.number(1)
    assert "tcp/22 is open" in shown and "open sesame" not in shown
    assert shown.index(f"sign the knock with {key}") < shown.index("Enter passphrase")


@isolated
def test_keys_that_ask_come_last(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses()
    quiet, token = signer(Kind.ED25519), signer(Kind.SK_ED25519)
    words = words_for(home, "--wait", "22", "--timeout", "3")
    with agents.acting(home / "agent", agents.tokens([token, quiet])) as agent:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        with gate(quiet.public, token.public, opens_for=token.public) as there:
            nobody = _without_terminal(*words, "--timeout", "0.5")
            assert nobody.returncode == 1
            assert [each.key for each in there.number(1)] == [quiet.public]
            assert "not used: a token: needs a touch, and there is no terminal to ask at" in nobody.stderr
            there.knocks.clear()
            shown = _at_a_terminal(command(*words))
            assert [(each.key, each.touched) for each in there.number(2)] == [
                (quiet.public, False),
                (token.public, True),
            ]
    assert "knockgate: touch the token of a token" in shown and "tcp/22 is open" in shown


def _without_terminal(*words: str) -> Done:
    """A process that has none, whoever runs the tests."""
    done = subprocess.run(
        command(*words),
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        start_new_session=True,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _at_a_terminal(words: list[str], *lines: str) -> str:
    """What somebody sees who types each line when asked."""
    child, near = pty.fork()
    if child == 0:
        os.execve(words[0], words, _environment())  # noqa: S606 - what the parent of a terminal does
    shown, waiting = "", list(lines)
    try:
        with contextlib.suppress(OSError):  # it has ended
            while True:
                shown += os.read(near, 4096).decode()
                if waiting and re.search(r"passphrase[^:]*: ?$", shown):
                    os.write(near, f"{waiting.pop(0)}\n".encode())
    finally:
        os.close(near)
        os.waitpid(child, 0)
    return shown


def _environment() -> dict[str, str]:
    return environment(XDG_CONFIG_HOME=os.environ["XDG_CONFIG_HOME"])
