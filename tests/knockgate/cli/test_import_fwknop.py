"""``knockgate import fwknop`` and ``import fwknoprc``: what is written where, and what is said."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from tests.knockgate.cli.process import knockgate
from tests.knockgate.config.fwknop_files import KEYS, PLAIN, written

from knockgate.client.profiles import load
from knockgate.config import doors, keys

RC = f"[home]\nSPA_SERVER 192.0.2.1\nACCESS tcp/22\nALLOW_IP source\n{KEYS}"
NAT = RC.replace("[home]", "[nat]") + "NAT_LOCAL Y\n"


def everything(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file below a folder: its text, and its mode."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): (path.read_text(), stat.S_IMODE(path.stat().st_mode)) for path in files
    }


def test_it_is_printed_and_nothing_is_written(tmp_path: Path) -> None:
    access = written(tmp_path, PLAIN)
    before = everything(tmp_path)
    done = knockgate("import", "fwknop", str(access))
    assert done.returncode == 0
    assert [door.name for door in doors.parse(done.stdout).doors] == ["tcp-22"]
    assert 'fwknop = "/etc/knockgate/keys/stanza-1"' in done.stdout
    assert "/etc/knockgate/keys/stanza-1 is needed, with the secrets" in done.stderr
    assert everything(tmp_path) == before


def test_output_and_secrets_are_written(tmp_path: Path) -> None:
    access = written(tmp_path, PLAIN)
    output = tmp_path / "etc" / "gate.toml"
    done = knockgate("import", "fwknop", str(access), "-o", str(output))
    assert done.returncode == 0, done.stderr
    secrets = output.parent / "keys" / "stanza-1"
    assert done.stdout.splitlines() == [f"{secrets} is written", f"{output} is written"]
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert stat.S_IMODE(secrets.parent.stat().st_mode) == 0o700
    configuration = doors.load(output)
    (key,) = keys.load(output, configuration)
    assert key.fwknop == str(secrets) and key.secret.hmac_key
    assert sorted(everything(tmp_path)) == ["access.conf", "etc/gate.toml", "etc/keys/stanza-1"]
    assert knockgate("check", str(output)).returncode == 0


def test_secrets_alone_are_written_where_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, PLAIN)
    done = knockgate("import", "fwknop", "access.conf", "--keys", "mine")
    assert done.returncode == 0
    (tmp_path / "gate.toml").write_text(done.stdout)
    configuration = doors.load(tmp_path / "gate.toml")
    assert [key.fwknop for key in keys.load(tmp_path / "gate.toml", configuration)] == [
        str(tmp_path / "mine" / "stanza-1")
    ]
    assert "is needed" not in done.stderr


def test_no_file_is_written_over_and_nothing_remains_of_an_attempt(tmp_path: Path) -> None:
    access = written(tmp_path, PLAIN + PLAIN.replace("KEY_BASE64 ", "KEY_BASE64 AAAA"))
    words = ["import", "fwknop", str(access), "-o", str(tmp_path / "etc" / "gate.toml")]
    for taken in ("etc/gate.toml", "etc/keys/stanza-2"):
        path = tmp_path / taken
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        before = everything(tmp_path)
        done = knockgate(*words)
        assert done.returncode == 2
        assert f"{path} is there already" in done.stderr
        assert everything(tmp_path) == before
        path.unlink()
    assert knockgate(*words).returncode == 0  # the control
    assert len(everything(tmp_path)) == 4


def test_what_is_refused_writes_nothing(tmp_path: Path) -> None:
    access = written(tmp_path, f"{PLAIN}FORCE_NAT 10.0.0.1 22\nENABLE_CMD_EXEC Y\n")
    done = knockgate("import", "fwknop", str(access), "-o", str(tmp_path / "gate.toml"))
    assert done.returncode == 2 and not done.stdout
    assert f"{access}:5: FORCE_NAT: cannot be had" in done.stderr
    assert f"{access}:6: ENABLE_CMD_EXEC: cannot be had" in done.stderr
    assert list(everything(tmp_path)) == ["access.conf"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    access = written(tmp_path, PLAIN)
    (tmp_path / "file").write_text("")
    done = knockgate("import", "fwknop", str(access), "-o", str(tmp_path / "file" / "gate.toml"))
    assert done.returncode == 2 and "cannot be written: Not a directory" in done.stderr
    assert sorted(everything(tmp_path)) == ["access.conf", "file"]


def test_ports_and_an_interface_can_be_given(tmp_path: Path) -> None:
    access = written(tmp_path, PLAIN.replace("OPEN_PORTS tcp/22\n", ""))
    conf = written(tmp_path, "PCAP_INTF eth0;\n", "fwknopd.conf")
    assert "--open tcp/22" in knockgate("import", "fwknop", str(access)).stderr
    words = ["import", "fwknop", str(access), str(conf), "--open", "22,udp/53"]
    for interface, given in (("eth0", []), ("eth1", ["-i", "eth1"]), ("", ["-i", ""])):
        found = doors.parse(knockgate(*words, *given).stdout)
        assert [door.name for door in found.doors] == ["tcp-22", "udp-53"]
        assert found.gate.interface == interface
    assert "is no name for an interface" in knockgate(*words, "-i", "a b").stderr
    assert knockgate(*words, "-i", "a b").returncode == 2


def test_a_warning_is_one(tmp_path: Path) -> None:
    access = written(tmp_path, "SOURCE ANY\nOPEN_PORTS tcp/22\nKEY word\n")
    done = knockgate("import", "fwknop", str(access))
    assert done.stderr.startswith(f"knockgate: warning: {access}:1: stanza 1: has no HMAC_KEY")
    assert "insecure = true" in done.stdout
    assert "warning:" not in knockgate("import", "fwknop", str(written(tmp_path, PLAIN))).stderr


def test_the_report_for_programs(tmp_path: Path) -> None:
    access = written(tmp_path, PLAIN)
    output = tmp_path / "gate.toml"
    done = knockgate("import", "fwknop", str(access), "-o", str(output), "--json")
    facts = json.loads(done.stdout)
    assert (facts["text"], facts["refused"], done.stderr) == (output.read_text(), [], "")
    assert facts["written"] == [str(tmp_path / "keys" / "stanza-1"), str(output)]
    assert facts["notes"][-1]["key"] == "stanza 1" and facts["notes"][-1]["warning"] is False
    written(tmp_path, f"{PLAIN}NAT\nFORWARD_ALL Y\n")
    done = knockgate("import", "fwknop", str(access), "--json")
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["text"], facts["written"]) == (2, None, [])
    assert [(each["line"], each["key"]) for each in facts["refused"]] == [(5, "NAT"), (6, "FORWARD_ALL")]
    assert "KEY_BASE64" not in done.stdout


# --- .fwknoprc ----------------------------------------------------------------------------------------


def test_profiles_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    written(tmp_path, RC, ".fwknoprc")
    folder = tmp_path / ".config" / "knockgate"
    printed = knockgate("import", "fwknoprc")
    assert printed.returncode == 0 and not folder.exists()
    assert f"{folder / 'keys' / 'home'} is needed" in printed.stderr
    done = knockgate("import", "fwknoprc", "-o", str(folder / "profiles.toml"))
    assert done.returncode == 0, done.stderr
    assert (folder / "profiles.toml").read_text() == printed.stdout
    (profile,) = load(folder / "profiles.toml").values()
    assert profile.host == "192.0.2.1"
    assert everything(folder)["keys/home"][1] == 0o600
    again = knockgate("import", "fwknoprc", "-o", str(folder / "profiles.toml"))
    assert again.returncode == 2 and "is there already" in again.stderr


def test_a_stanza_that_cannot_be_used_does_not_lose_the_others(tmp_path: Path) -> None:
    rc = written(tmp_path, NAT + RC, ".fwknoprc")
    done = knockgate("import", "fwknoprc", str(rc), "--keys", str(tmp_path / "keys"))
    assert done.returncode == 1
    assert "NAT_LOCAL: a packet that asks for NAT is not made here" in done.stderr
    assert list(load(written(tmp_path, done.stdout, "profiles.toml"))) == ["home"]
    assert list(everything(tmp_path / "keys")) == ["home"]
    rc = written(tmp_path, NAT, ".fwknoprc")
    alone = knockgate("import", "fwknoprc", str(rc), "-o", str(tmp_path / "none.toml"))
    assert alone.returncode == 2 and not (tmp_path / "none.toml").exists()


def test_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for words in (("fwknoprc",), ("fwknop", str(tmp_path / "no")), ("fwknop", ""), ("fwknoprc", "")):
        done = knockgate("import", *words)
        assert done.returncode == 2 and not done.stdout
        assert "No such file" in done.stderr or "the name of a file is empty" in done.stderr
