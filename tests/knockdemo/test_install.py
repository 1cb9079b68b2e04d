"""Laying the demonstration down and taking it up again, in trees of their own: never on this host."""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.netns import isolated, run, until, veth

from knockdemo import config, install, preflight, removal, units
from knockdemo.ledger import EDITED, STATE, Ledger
from knockgate.errors import ConfigError, KnockgateError, Unavailable

SOURCE = Path(install.__file__).resolve().parents[1]
#: The keys that the tutorial prints for everybody to read.
PRINTED_KEYS = ("apAjDrWMbZdaGMpRjawbfw==", "XWlmWPHJu+9VQiEWH/NJ3nxfGJgUro1xoWSfRVQsAdo=")
PLAN = install.Plan("eth0", 15, b"s" * 32, b"h" * 64)
KEYS = ("/etc/fwknop/access.conf", "/etc/fwknop/fwknopd.conf", "/etc/knockdemo/client.fwknoprc")
SCRIPT = Path(units.__file__).parent / "demo-firewall-base.sh"

#: Runs the command in a process of its own, as ``python3 -m knockdemo`` would.
COMMAND = """
import argparse, sys
from knockdemo import install, terminal
verb = sys.argv.pop(1)
parser = argparse.ArgumentParser()
getattr(install, f"add_{verb}_arguments")(parser)
sys.exit(terminal.run("knockdemo", lambda: getattr(install, verb)(parser.parse_args())))
"""
#: In a mount namespace: a file system of the given size, the command, and what is left in it.
FULL_DISK = """
mount -t tmpfs -o "size=$1" tmpfs "$2/$3" || exit 77
"$4" -c "$5" install --root "$2" --interface eth0
status=$?
find "$2/$3" -mindepth 1 >&2
exit $status
"""
#: The same, but the process is killed when it is about to put its file number N in place.
KILLED = """
import os, pathlib, signal, sys
left = int(sys.argv.pop(1))
replace = pathlib.Path.replace
def count_down(path, target):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)
pathlib.Path.replace = count_down
"""


def lay_down(root: Path | None, *options: str, interface: str | None = "eth0") -> int:
    parser = argparse.ArgumentParser()
    install.add_install_arguments(parser)
    place = ["--root", str(root)] if root else []
    return install.install(
        parser.parse_args([*place, *(["--interface", interface] if interface else []), *options])
    )


def take_up(root: Path, *options: str) -> int:
    parser = argparse.ArgumentParser()
    install.add_uninstall_arguments(parser)
    return install.uninstall(parser.parse_args(["--root", str(root), *options]))


def process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def snapshot(root: Path) -> Mapping[str, tuple[object, ...]]:
    """Everything below ``root`` that a restored tree must have again."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            content: object = path.readlink()
        else:
            content = path.read_bytes() if path.is_file() else None
        times = status.st_mtime_ns if stat.S_ISREG(status.st_mode) else 0
        found[str(path)] = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, times, content)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with Debian's packages: their configuration is there and will have to make room."""
    tree = tmp_path / "host"
    (tree / "etc/fwknop").mkdir(parents=True)
    (tree / "etc/systemd/system").mkdir(parents=True)
    (tree / "var/lib").mkdir(parents=True)
    for name, mode in (("knockd.conf", 0o644), ("fwknop/access.conf", 0o600), ("fwknop/fwknopd.conf", 0o640)):
        file = tree / "etc" / name
        file.write_text(f"# the package's own {name}\n")
        file.chmod(mode)
        os.utime(file, ns=(10**18, 10**18))
    return tree


# --- what is rendered --------------------------------------------------------------------------------


def test_the_figures_of_the_tutorial() -> None:
    files = install.render(PLAN)
    knockd = files["/etc/knockd.conf"].content.decode()
    settings = dict(re.findall(r"^\s+(\w+)\s+= (.+)$", knockd, re.MULTILINE))
    assert "[openSecret]" in knockd
    assert settings == {
        "sequence": "7100,7200,7300",
        "seq_timeout": "5",
        "tcpflags": "syn",
        "start_command": "/usr/sbin/iptables -w -I INPUT 1 -s %IP% -p tcp --dport 6501 -j ACCEPT",
        "cmd_timeout": "15",
        "stop_command": "/usr/sbin/iptables -w -D INPUT -s %IP% -p tcp --dport 6501 -j ACCEPT",
    }
    access = dict(
        re.findall(r"^([A-Z_0-9]+)\s+(\S+)$", files["/etc/fwknop/access.conf"].content.decode(), re.MULTILINE)
    )
    assert access == {
        "SOURCE": "ANY",
        "OPEN_PORTS": "tcp/6502",
        "KEY_BASE64": base64.b64encode(b"s" * 32).decode(),
        "HMAC_KEY_BASE64": base64.b64encode(b"h" * 64).decode(),
        "FW_ACCESS_TIMEOUT": "15",
    }
    assert re.findall(r"^[^#].*", files["/etc/fwknop/fwknopd.conf"].content.decode(), re.MULTILINE) == [
        "PCAP_INTF                   eth0;"
    ]


def test_lane_a_is_told_what_the_others_are_told() -> None:
    text = install.render(install.Plan("wlan0", 4, b"s" * 32, b"h" * 64))[
        "/etc/knockdemo/knockdemo.toml"
    ].content
    assert config.parse(text.decode(), "knockdemo.toml") == config.Config(
        interface="wlan0", open_window_seconds=4
    )


def test_lane_a_keeps_its_defaults() -> None:
    text = install.render(PLAN)["/etc/knockdemo/knockdemo.toml"].content.decode()
    told = tomllib.loads(text)
    defaults = config.Config()
    assert told.pop("interface") == "eth0"
    assert told == {
        key: list(value) if isinstance(value := getattr(defaults, key), tuple) else value for key in told
    }


def test_nothing_is_left_to_fill_in() -> None:
    for target, file in install.render(PLAN).items():
        assert b"{{" not in file.content, target


def test_keys_are_fresh_whole_and_for_their_owner_alone() -> None:
    first, second = install.fresh_plan("eth0"), install.fresh_plan("eth0")
    assert (len(first.spa_key), len(first.hmac_key)) == (32, 64)
    assert len({first.spa_key, first.hmac_key, second.spa_key, second.hmac_key}) == 4
    files = install.render(first)
    for target in KEYS:
        assert files[target].mode == 0o600
    assert units.keys_in(files["/etc/knockdemo/client.fwknoprc"].content.decode()) == (
        first.spa_key,
        first.hmac_key,
    )
    assert "spa_key" not in repr(first)


def test_the_printed_keys_are_nowhere() -> None:
    sources = [path.read_bytes() for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    rendered = [file.content for file in install.render(install.fresh_plan("eth0")).values()]
    for key in PRINTED_KEYS:
        assert not any(key.encode() in content for content in sources + rendered)


@pytest.mark.parametrize(
    ("interface", "window", "key"),
    [
        ("", 15, "--interface"),
        ("eth0; reboot", 15, "--interface"),
        ("a%b", 15, "--interface"),
        ("averylonginterfacename", 15, "--interface"),
        ("eth0", 2, "--window"),
        ("eth0", -1, "--window"),
        ("eth0", 86401, "--window"),
    ],
)
def test_a_plan_that_cannot_be_written_down(interface: str, window: int, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        install.fresh_plan(interface, window)
    assert caught.value.key == key


@pytest.mark.parametrize(("spa", "hmac"), [(31, 64), (32, 63), (0, 0)])
def test_short_keys_are_no_keys(spa: int, hmac: int) -> None:
    with pytest.raises(ConfigError):
        install.Plan("eth0", 15, b"s" * spa, b"h" * hmac)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "KEY_BASE64 !!!\nHMAC_KEY_BASE64 !!!\n",
        f"KEY_BASE64 {base64.b64encode(b's' * 32).decode()}\n",
        install.render(PLAN)["/etc/knockdemo/client.fwknoprc"].content.decode().replace("c3Nz", "", 1),
    ],
)
def test_keys_that_are_not_there_whole(text: str) -> None:
    assert units.keys_in(text) is None


# --- ExecStart ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "instance", "command"),
    [
        ("secret-service@.service", "6500", ["/usr/bin/python3", "-m", "knockdemo.secret_service", "6500"]),
        ("knock-demo.service", "", ["/usr/bin/python3", "-m", "knockdemo.daemon"]),
        ("demo-firewall-base.service", "", ["/usr/lib/knockdemo/demo-firewall-base.sh"]),
        (
            "knockd.service.d/knockdemo.conf",
            "",
            ["/usr/sbin/knockd", "-D", "-i", "eth0", "-c", "/etc/knockd.conf"],
        ),
        (
            "fwknopd.service",
            "",
            [
                "/usr/sbin/fwknopd",
                "-f",
                "-i",
                "eth0",
                "-c",
                "/etc/fwknop/fwknopd.conf",
                "-a",
                "/etc/fwknop/access.conf",
            ],
        ),
    ],
)
def test_the_commands_of_the_units(unit: str, instance: str, command: list[str]) -> None:
    text = install.render(PLAN)[f"/etc/systemd/system/{unit}"].content.decode()
    assert install.exec_start(text, instance) == command


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("ExecStart=/bin/a b", ["/bin/a", "b"]),
        ("ExecStart=-/bin/a", ["/bin/a"]),
        ("ExecStart=/bin/a 'b c' \"d e\"", ["/bin/a", "b c", "d e"]),
        ("ExecStart=/bin/a \\\n  b", ["/bin/a", "b"]),
        ("ExecStart=/bin/a 100%% %i", ["/bin/a", "100%", "x y"]),
        ("ExecStart=/bin/a\nExecStart=\nExecStart=/bin/b", ["/bin/b"]),
        ("#ExecStart=/bin/a\nExecStartPre=/bin/b\nExecStart=/bin/c", ["/bin/c"]),
    ],
)
def test_exec_start(text: str, command: list[str]) -> None:
    assert install.exec_start(f"[Service]\n{text}\n", "x y") == command


@pytest.mark.parametrize(
    "text", ["", "ExecStart=", "ExecStart=/bin/a\nExecStart=/bin/b", "ExecStart=/bin/a %n"]
)
def test_exec_start_that_is_not_one_command(text: str) -> None:
    with pytest.raises(ValueError, match="ExecStart"):
        install.exec_start(text)


# --- installing and uninstalling ---------------------------------------------------------------------


def test_everything_is_where_the_tutorial_has_it(root: Path) -> None:
    assert lay_down(root) == 0
    for path in (
        "usr/lib/python3/dist-packages/knockdemo/daemon.py",
        "usr/lib/python3/dist-packages/knockdemo/units/knockd.conf",
        "usr/lib/python3/dist-packages/knockgate/errors.py",
        "usr/lib/knockdemo/knock-client.py",
        "usr/lib/knockdemo/demo-firewall-base.sh",
        "etc/systemd/system/secret-service@.service",
        "etc/systemd/system/knock-demo.service",
        "etc/systemd/system/demo-firewall-base.service",
        "etc/systemd/system/fwknopd.service",
        "etc/systemd/system/knockd.service.d/knockdemo.conf",
        "etc/knockd.conf",
    ):
        assert (root / path).is_file(), path
    assert not list(root.rglob("__pycache__"))
    for target in KEYS:
        assert stat.S_IMODE((root / target.lstrip("/")).stat().st_mode) == 0o600
    assert stat.S_IMODE((root / STATE.lstrip("/")).stat().st_mode) == 0o700
    assert os.access(root / "usr/lib/knockdemo/demo-firewall-base.sh", os.X_OK)


def test_uninstalling_leaves_the_tree_as_it_was(root: Path) -> None:
    before = snapshot(root)
    lay_down(root)
    # What root's Python leaves beside modules that it has run from there.
    cache = root / "usr/lib/python3/dist-packages/knockdemo/__pycache__"
    cache.mkdir()
    (cache / "daemon.cpython-311.pyc").write_bytes(b"cached")
    assert take_up(root) == 0
    assert snapshot(root) == before


def test_uninstalling_twice_says_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_down(root)
    take_up(root)
    capsys.readouterr()
    assert take_up(root) == 0
    assert capsys.readouterr().out == "nothing is installed\n"


def test_a_symbolic_link_in_the_way_comes_back(root: Path) -> None:
    (root / "etc/knockd.conf").rename(root / "etc/knockd.mine")
    (root / "etc/knockd.conf").symlink_to("knockd.mine")
    before = snapshot(root)
    lay_down(root)
    assert not (root / "etc/knockd.conf").is_symlink()
    take_up(root)
    assert snapshot(root) == before


def test_installing_again_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_down(root)
    first = {path: entry for path, entry in snapshot(root).items() if not path.endswith("manifest.json")}
    capsys.readouterr()
    lay_down(root, interface=None)
    assert "nothing changed" in capsys.readouterr().out
    assert {
        path: entry for path, entry in snapshot(root).items() if not path.endswith("manifest.json")
    } == first


def test_installing_again_keeps_keys_and_originals(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(root)
    lay_down(root)
    keys = (root / "etc/knockdemo/client.fwknoprc").read_bytes()
    capsys.readouterr()
    lay_down(root, "--window", "4", "--json", interface="wlan0")
    report = json.loads(capsys.readouterr().out)
    assert report["window_s"] == 4
    assert {change["path"] for change in report["changes"]} == {
        "/etc/systemd/system/knockd.service.d/knockdemo.conf",
        "/etc/systemd/system/fwknopd.service",
        "/etc/knockdemo/knockdemo.toml",
        "/etc/knockd.conf",
        "/etc/fwknop/fwknopd.conf",
        "/etc/fwknop/access.conf",
    }
    assert {change["action"] for change in report["changes"]} == {"update"}
    assert report["next"][-1] == "systemctl try-restart knock-demo knockd fwknopd"
    assert (root / "etc/knockdemo/client.fwknoprc").read_bytes() == keys
    take_up(root)
    assert snapshot(root) == before


def test_new_keys_on_request(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_down(root)
    keys = units.keys_in((root / "etc/knockdemo/client.fwknoprc").read_text())
    capsys.readouterr()
    lay_down(root, "--new-keys")
    assert "carry /etc/knockdemo/client.fwknoprc to the clients again" in capsys.readouterr().out
    renewed = units.keys_in((root / "etc/knockdemo/client.fwknoprc").read_text())
    assert renewed is not None
    assert renewed != keys


def test_a_dry_run_writes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(root)
    assert lay_down(root, "--dry-run") == 0
    assert "would replace /etc/knockd.conf" in capsys.readouterr().out
    assert snapshot(root) == before
    lay_down(root)
    installed = snapshot(root)
    capsys.readouterr()
    assert take_up(root, "--dry-run") == 0
    assert "would restore /etc/knockd.conf" in capsys.readouterr().out
    assert snapshot(root) == installed


def test_an_edited_file_is_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_down(root)
    (root / "etc/knockd.conf").write_text("edited once\n")
    lay_down(root, "--window", "4")
    (root / "etc/knockd.conf").write_text("edited twice\n")
    take_up(root)
    assert "had been edited" in capsys.readouterr().err
    assert (root / f"etc/knockd.conf{EDITED}").read_text() == "edited once\n"
    assert (root / f"etc/knockd.conf{EDITED}.2").read_text() == "edited twice\n"
    assert "the package's own" in (root / "etc/knockd.conf").read_text()


def test_a_file_that_somebody_removed_is_no_obstacle(root: Path) -> None:
    before = snapshot(root)
    lay_down(root)
    (root / "etc/knockd.conf").unlink()
    shutil.rmtree(root / "usr/lib/knockdemo")
    take_up(root)
    assert snapshot(root) == before


def test_packages_that_are_there_already_stay(root: Path) -> None:
    for package in ("knockdemo", "knockgate"):
        shutil.copytree(
            SOURCE / package,
            root / "usr/lib/python3/dist-packages" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    before = snapshot(root)
    lay_down(root)
    take_up(root)
    assert snapshot(root) == before


# --- failing on the way ------------------------------------------------------------------------------


@pytest.mark.parametrize("full", ["etc/knockdemo", "usr/lib/python3/dist-packages", "var/lib/knockdemo"])
def test_a_full_disk_undoes_everything(root: Path, full: str) -> None:
    """A file system of a few kilobytes, for real, in a mount namespace of its own."""
    (root / full).mkdir(parents=True)
    before = snapshot(root)
    size = "64k" if full.startswith("usr") else "4k"
    done = subprocess.run(
        [
            "unshare",
            "-m" if os.geteuid() == 0 else "-Urm",
            "sh",
            "-c",
            FULL_DISK,
            "sh",
            size,
            str(root),
            full,
            sys.executable,
            COMMAND,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if done.returncode in (1, 77):
        pytest.skip(f"this system gives no mount namespace: {done.stderr.strip()}")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("knockdemo: ")
    assert "No space left on device" in done.stderr
    assert "everything was put back as it was" in done.stderr
    assert done.stderr.count("\n") == 1, "the full file system is empty again, and one line says it all"
    assert snapshot(root) == before


def test_a_failing_update_goes_back_to_the_version_before(root: Path) -> None:
    lay_down(root)
    installed = snapshot(root)
    (root / "etc/knockd.conf").write_text("edited\n")
    edited = snapshot(root)["/".join((str(root), "etc/knockd.conf"))][-1]

    def refuse() -> None:
        raise Unavailable("the last step fails")

    ledger = Ledger(root)
    old = ledger.manifest()
    files = install.render(install.fresh_plan("eth1", 5))
    with pytest.raises(Unavailable, match="the last step fails; everything was put back"):
        ledger.lay_down(files, old, {"window": 5}, [(refuse, lambda: None)])
    after = dict(snapshot(root))
    path = str(root / "etc/knockd.conf")
    assert after.pop(path)[-1] == edited
    before = dict(installed)
    before.pop(path)
    assert after == before


@pytest.mark.parametrize("number", [1, 2, 4, 6, 13, 16, 19, 40])
@pytest.mark.parametrize("again", [False, True])
def test_killed_on_the_way(root: Path, number: int, again: bool) -> None:
    before = snapshot(root)
    killed = process(KILLED + COMMAND, str(number), "install", "--root", str(root), "--interface", "eth0")
    assert killed.returncode == -9, killed.stderr
    if again:
        assert lay_down(root) == 0
        assert not list(root.rglob(f"*{EDITED}*")), "originals that were not yet replaced are no edits"
    assert take_up(root) == 0
    assert snapshot(root) == before


@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_while_uninstalling(root: Path, number: int) -> None:
    before = snapshot(root)
    lay_down(root)
    killed = process(KILLED + COMMAND, str(number), "uninstall", "--root", str(root))
    assert killed.returncode == -9, killed.stderr
    assert take_up(root) == 0
    assert snapshot(root) == before


@pytest.mark.parametrize("number", [1, 2, 4])
def test_killed_while_updating(root: Path, number: int) -> None:
    before = snapshot(root)
    lay_down(root)
    killed = process(KILLED + COMMAND, str(number), "install", "--root", str(root), "--window", "4")
    assert killed.returncode == -9, killed.stderr
    assert take_up(root) == 0
    assert snapshot(root) == before


# --- bad input ---------------------------------------------------------------------------------------


def refusal(root: Path | None, *options: str, interface: str | None = "eth0") -> KnockgateError:
    with pytest.raises(KnockgateError) as caught:
        lay_down(root, *options, interface=interface)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_tree_needs_an_interface(root: Path) -> None:
    assert "--interface" in str(refusal(root, interface=None))


def test_no_such_tree(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no directory"):
        lay_down(tmp_path / "missing")


@pytest.mark.parametrize(
    "path",
    [
        "etc/systemd/system/knock-demo.service",
        "usr/lib/python3/dist-packages/knockdemo/daemon.py",
        "usr/lib/knockdemo/knock-client.py",
    ],
)
def test_somebody_elses_file_is_not_replaced(root: Path, path: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("not ours\n")
    before = snapshot(root)
    assert str(root / path) in str(refusal(root))
    assert snapshot(root) == before


def test_a_directory_in_the_way(root: Path) -> None:
    (root / "etc/knockd.conf").unlink()
    (root / "etc/knockd.conf").mkdir()
    assert "is no file" in str(refusal(root))


def test_a_link_out_of_the_tree(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "etc/knockdemo").symlink_to(tmp_path / "elsewhere")
    assert "outside" in str(refusal(root))
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "text", ["not json", "{}", '{"format": 99, "facts": {}, "directories": [], "files": {}}']
)
def test_a_manifest_of_another_version(root: Path, text: str) -> None:
    (root / STATE.lstrip("/")).mkdir(parents=True)
    (root / STATE.lstrip("/") / "manifest.json").write_text(text)
    assert "manifest.json" in str(refusal(root))


def test_a_window_that_is_no_number(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        lay_down(root, "--window", "soon")
    assert caught.value.code == 2
    assert "--window" in capsys.readouterr().err


def needs_programs() -> None:
    missing = [path for path in preflight.PROGRAMS if not os.access(path, os.X_OK)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "PROGRAMS", {"/usr/sbin/no-such-knockd": "knockd", "/bin/sh": "dash"})
    with pytest.raises(Unavailable, match=r"no-such-knockd is missing") as caught:
        preflight.require_programs()
    assert caught.value.hint == "apt install knockd"


def test_an_ordinary_user_is_told_to_be_root() -> None:
    command = [sys.executable, "-c", COMMAND, "install"]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": str(SOURCE)}
    )
    if "Permission" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("the sources cannot be read by another user")
    assert done.returncode == 2
    assert "needs root" in done.stderr
    assert "sudo" in done.stderr


def test_a_dry_run_that_may_not_look(root: Path) -> None:
    file = root / "etc/fwknop/fwknopd.conf"
    file.chmod(0)
    command = [
        sys.executable,
        "-c",
        COMMAND,
        "install",
        "--dry-run",
        "--root",
        str(root),
        "--interface",
        "eth0",
    ]
    if os.geteuid() == 0:  # root may read anything, so root has to give that up
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
        os.chown(file, 65534, 65534)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={"PYTHONPATH": str(SOURCE)}
    )
    assert done.returncode == 2, done.stderr
    assert "fwknopd.conf may not be read" in done.stderr
    assert "sudo" in done.stderr


@isolated
def test_the_interface_must_exist() -> None:
    assert "there are lo" in str(refusal(None, "--dry-run", interface="eth7").hint)


@isolated
def test_without_a_default_route_there_is_nothing_to_guess() -> None:
    assert "default route" in str(refusal(None, "--dry-run", interface=None))


@isolated
def test_the_interface_of_the_default_route() -> None:
    veth("one", "two")
    run("ip", "address", "add", "10.9.1.1/24", "dev", "one")
    run("ip", "address", "add", "fd09::1/64", "dev", "two", "nodad")
    run("ip", "-6", "route", "add", "default", "via", "fd09::9", "dev", "two")
    assert preflight.default_interface() == "two", "IPv6 where there is no IPv4"
    assert preflight.address_of("two") == "fd09::1"
    run("ip", "route", "add", "default", "via", "10.9.1.9", "metric", "50")
    assert preflight.default_interface() == "one"
    assert preflight.address_of("one") == "10.9.1.1"
    assert preflight.address_of("lo") == "127.0.0.1"


@pytest.mark.parametrize(
    ("port", "kind", "said"),
    [
        (6500, socket.SOCK_STREAM, "tcp port 6500"),
        (6502, socket.SOCK_STREAM, "tcp port 6502"),
        (62201, socket.SOCK_DGRAM, "udp port 62201"),
    ],
)
@isolated
def test_a_port_that_somebody_uses(port: int, kind: socket.SocketKind, said: str) -> None:
    preflight.require_free_ports()
    with socket.socket(socket.AF_INET6, kind) as taken:
        taken.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        with pytest.raises(Unavailable, match=said) as caught:
            preflight.require_free_ports()
        assert "(process " in str(caught.value)


@isolated
def test_a_table_that_is_not_ours() -> None:
    needs_programs()
    preflight.refuse_strangers()
    run("nft", "add", "table", "inet", "knockdemo")
    with pytest.raises(Unavailable, match="inet knockdemo"):
        preflight.refuse_strangers()


@isolated
def test_a_mechanism_that_runs_already(tmp_path: Path) -> None:
    needs_programs()
    own = tmp_path / "knockd.conf"
    own.write_text("[options]\n UseSyslog\n[own]\n sequence = 1,2,3\n command = /bin/true\n tcpflags = syn\n")
    run("ip", "address", "add", "10.9.0.1/24", "dev", "lo")
    with subprocess.Popen(["/usr/sbin/knockd", "-i", "lo", "-c", str(own)]) as daemon:
        try:

            def runs() -> bool:
                found = preflight._processes()
                return any(name == "knockd" and preflight._shares_network(pid) for pid, name in found)

            until(runs, "knockd runs")
            with pytest.raises(Unavailable, match=r"knockd .* is running") as caught:
                preflight.refuse_strangers()
            assert "systemctl disable --now knockd" in str(caught.value.hint)
        finally:
            daemon.kill()


# --- the real programs -------------------------------------------------------------------------------


def test_systemd_accepts_every_unit(root: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("not installed: systemd-analyze")
    needs_programs()
    lay_down(root)
    directory = root / "etc/systemd/system"
    base = directory / "demo-firewall-base.service"
    base.write_text(base.read_text().replace("/usr/lib/knockdemo", f"{root}/usr/lib/knockdemo"))
    shutil.copy("/lib/systemd/system/knockd.service", directory)
    checked = sorted(directory.glob("*.service"))
    assert [path.name for path in checked] == [
        "demo-firewall-base.service",
        "fwknopd.service",
        "knock-demo.service",
        "knockd.service",
        "secret-service@.service",
    ]
    for unit in checked:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), unit.name


def drops(program: str) -> list[str]:
    return [line for line in run(program, "-S", "INPUT").splitlines() if line.endswith("-j DROP")]


@isolated
def test_the_script_twice_is_the_script_once() -> None:
    needs_programs()
    closed = [f"-A INPUT -p tcp -m tcp --dport {port} -j DROP" for port in (6501, 6502)]
    for _ in range(2):
        run("sh", str(SCRIPT))
        assert drops("iptables") == closed
        assert drops("ip6tables") == closed
    run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "6501", "-j", "DROP")
    for _ in range(2):
        run("sh", str(SCRIPT), "remove")
        assert drops("iptables") == drops("ip6tables") == []


@isolated
def test_the_script_knows_two_verbs() -> None:
    needs_programs()
    done = subprocess.run(["sh", str(SCRIPT), "open"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
    assert drops("iptables") == []


@isolated
def test_all_rules_go_and_no_others() -> None:
    """What killed daemons leave behind, beside rules of somebody else's."""
    needs_programs()
    run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
    tables, rules = preflight.nft_tables(), run("nft", "list", "ruleset")
    run("sh", str(SCRIPT))
    run(*["iptables", "-I", "INPUT", "1", "-s", "10.9.0.7", "-p", "tcp", "--dport", "6501", "-j", "ACCEPT"])
    run("iptables", "-N", "FWKNOP_INPUT")
    run("iptables", "-I", "INPUT", "1", "-j", "FWKNOP_INPUT")
    run(*["iptables", "-A", "FWKNOP_INPUT", "-s", "10.9.0.8", "-p", "tcp", "--dport", "6502", "-j", "ACCEPT"])
    run("nft", "add", "table", "inet", "knockdemo")
    for _ in range(2):
        removal.remove_rules(SCRIPT, tables)
        assert run("nft", "list", "ruleset") == rules


@isolated
def test_a_table_made_by_iptables_goes_when_it_is_bare() -> None:
    needs_programs()
    before = run("nft", "list", "ruleset")
    run("sh", str(SCRIPT))
    removal.remove_rules(SCRIPT, [])
    assert run("nft", "list", "ruleset") == before == ""
    run("sh", str(SCRIPT))
    run("iptables", "-P", "INPUT", "DROP")
    removal.remove_rules(SCRIPT, [])
    assert "policy drop" in run("nft", "list", "ruleset"), "somebody has come to use it since"
