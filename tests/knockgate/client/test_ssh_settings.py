"""ssh_config as the real ssh reads it, and what it starts while it does."""

from __future__ import annotations

import os
import pwd
import shlex
import socket
import sys
from pathlib import Path

import pytest

from knockgate.client import ssh_settings
from knockgate.client.ssh_settings import KNOCKING, Settings, home_of_user, settings
from knockgate.errors import Unavailable

USUAL = ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"]


def read(folder: Path, text: str, host: str = "host.example", agent: str | None = "/agent") -> Settings:
    config = folder / "config"
    config.write_text(text)
    return settings(host, agent=agent, home=folder / "home", ssh=["ssh", "-F", str(config)])


def test_nothing_is_said(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert [file.name for file in found.files][: len(USUAL)] == USUAL
    assert {file.parent for file in found.files} == {tmp_path / "home" / ".ssh"}
    assert (found.agent, found.only, found.unclear) == ("/agent", False, ())


def test_as_for_this_host(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host host.example\n IdentitiesOnly yes\n")
    text = f"Include {tmp_path}/more\nMatch host other\n IdentityFile /no\nHost host.*\n IdentityFile /yes\n"
    assert read(tmp_path, text) == Settings((Path("/yes"),), (), "/agent", only=True)
    assert read(tmp_path, text, "other") == Settings((Path("/no"),), (), "/agent", only=False)


def test_the_words_of_a_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE", "/there")
    me = pwd.getpwuid(os.getuid())
    names = {
        "~/has blank": f"{tmp_path}/home/has blank",
        "~/%h/%n/%r/%p/%%": f"{tmp_path}/home/real.example/host.example/jo/2222/%",
        "%d/%u/%i/%k": f"{tmp_path}/home/{me.pw_name}/{me.pw_uid}/alias",
        "/%l/%L": f"/{socket.gethostname()}/{socket.gethostname().partition('.')[0]}",
        "${THERE}/%%d": "/there/%d",
        f"~{me.pw_name}/x": f"{me.pw_dir}/x",
    }
    lines = "".join(f' IdentityFile "{name}"\n' for name in names)
    text = f"Host host.example\n HostName real.example\n User jo\n Port 2222\n HostKeyAlias alias\n{lines}"
    found = read(tmp_path, text)
    assert [str(file) for file in found.files] == list(names.values())
    assert found.unclear == ()


def test_words_that_only_ssh_knows(tmp_path: Path) -> None:
    found = read(tmp_path, "IdentityFile ~/%C\nIdentityFile ~no-such-user/x\nIdentityFile /known\n")
    assert found.files == (Path("/known"),)
    assert found.unclear == ("~/%C", "~no-such-user/x")


def test_no_files_at_all(tmp_path: Path) -> None:
    assert read(tmp_path, "IdentityFile none\n").files == ()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("", "/agent"),
        ("IdentityAgent SSH_AUTH_SOCK", "/agent"),
        ("IdentityAgent none", None),
        ("IdentityAgent /other", "/other"),
        ("IdentityAgent /of-%n", "/of-host.example"),
        ("IdentityAgent $ELSEWHERE", "/elsewhere"),
        ("IdentityAgent ${ELSEWHERE}/x", "/elsewhere/x"),
        ("IdentityAgent $NOWHERE", None),
    ],
)
def test_which_agent(line: str, wanted: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELSEWHERE", "/elsewhere")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert read(tmp_path, line).agent == wanted


def test_what_it_starts_knows_that_it_is_us(tmp_path: Path) -> None:
    """``Match exec`` may be our own knock, which would ask ssh, which would knock."""
    seen = tmp_path / "seen"
    text = f'Match exec "printenv {KNOCKING} >{seen}"\n IdentityFile /matched\n'
    assert read(tmp_path, text).files == (Path("/matched"),)
    assert seen.read_text() == "1\n"
    assert KNOCKING not in os.environ


@pytest.mark.parametrize(("heeds", "times"), [(True, 1), (False, 4)])
def test_a_match_that_asks_for_the_keys_itself_ends(heeds: bool, times: int, tmp_path: Path) -> None:
    """A command that looks at the variable first; and one that does not, until it has had enough."""
    config, log = tmp_path / "config", tmp_path / "log"
    program = tmp_path / "knock.py"
    program.write_text(
        "import os, sys\nfrom pathlib import Path\n"
        "from knockgate.client.ssh_settings import KNOCKING, settings\n"
        f"log = Path({str(log)!r})\n"
        "log.open('a').write('x')\n"
        f"if len(log.read_text()) == 4 or {heeds} and KNOCKING in os.environ:\n    sys.exit(0)\n"
        f"settings('host.example', agent=None, home=Path('/'), ssh=['ssh', '-F', {str(config)!r}])\n"
    )
    command = shlex.join([sys.executable, str(program)])
    found = read(tmp_path, f'Match host host.example exec "{command}"\n IdentityFile /matched\n')
    assert found.files == (Path("/matched"),)
    assert len(log.read_text()) == times


def test_its_input_is_not_ours(tmp_path: Path) -> None:
    """Behind ProxyCommand that is the connection."""
    near, far = os.pipe()
    before = os.dup(0)
    try:
        os.dup2(near, 0)
        os.write(far, b"kept")
        assert read(tmp_path, 'Match exec "read line; true"\n IdentityFile /yes\n').files == (Path("/yes"),)
        assert os.read(near, 4) == b"kept"
    finally:
        os.dup2(before, 0)
        for file in (near, far, before):
            os.close(file)


def test_a_host_cannot_be_an_option(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        read(tmp_path, "", f"-oProxyCommand=touch {tmp_path}/hit")
    assert not (tmp_path / "hit").exists()
    assert read(tmp_path, "Host 2001:db8::1\n IdentityFile /six", "[2001:db8::1]").files == (Path("/six"),)


@pytest.mark.parametrize("text", ["Nonsense yes\n", "Match\n", "IdentityFile \n"])
def test_a_config_that_ssh_refuses(text: str, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="ssh does not say which keys") as caught:
        read(tmp_path, text)
    assert "--identity" in (caught.value.hint or "")
    assert read(tmp_path, "IdentityFile /right\n").files == (Path("/right"),)


def test_one_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is left: the other end of what it holds open is closed."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    near = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.setattr(ssh_settings, "_TIMEOUT", 0.5)
    with pytest.raises(Unavailable, match=r"more than 0\.5 seconds"):
        read(tmp_path, f'Match exec "exec >{fifo}; echo here; while :; do sleep 60; done"\n')
    os.set_blocking(near, True)
    with os.fdopen(near, "rb") as stream:
        assert stream.read() == b"here\n"


def test_no_ssh_at_all(tmp_path: Path) -> None:
    found = settings("host.example", agent="/agent", home=tmp_path, ssh=[str(tmp_path / "none")])
    assert [file.name for file in found.files] == ["id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"]
    assert {file.parent for file in found.files} == {tmp_path / ".ssh"}
    assert (found.agent, found.only) == ("/agent", False)


def test_home_is_not_what_home_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/elsewhere")
    assert home_of_user() == Path(pwd.getpwuid(os.getuid()).pw_dir)
