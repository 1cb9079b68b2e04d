"""[keys.NAME] with ssh, [sealed] and [doors.NAME.sealed]: what they come to, and what is wrong with them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import pwd
from pathlib import Path

import pytest
from tests.knockgate.config.key_files import RSA, key, written

from knockgate.config import doors, keys
from knockgate.config.advice import advise
from knockgate.config.doors import Configuration, Demands, Devices, Observed, Sealed, Suite
from knockgate.config.hours import Week
from knockgate.config.keyadvice import advise_on_ssh_keys
from knockgate.config.keyfiles import KeyFiles
from knockgate.config.keys import MAX_FILES, KeyFile, SshKeys
from knockgate.errors import ConfigError
from knockgate.model import Port, Protocol

DOORS = """\
[doors.ssh]
ports = ["tcp/22"]
[doors.web]
ports = ["tcp/443"]
longest = "10m"
[doors."Web.2"]
ports = ["tcp/444"]
"""
ME = pwd.getpwuid(os.geteuid())
#: Another one that every machine has.
OTHER = pwd.getpwnam("nobody")
NOW = dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC).timestamp()


def parsed(text: str) -> tuple[Configuration, tuple[SshKeys, ...]]:
    configuration = doors.parse(DOORS + text)
    return configuration, keys.parse_ssh(DOORS + text, configuration)


def people(*lines: str) -> SshKeys:
    """The one key of a file with these lines for it."""
    more = "\n".join(lines)
    mine = ("" if "ssh =" in more else 'ssh = "/etc/keys"\n') + (
        "" if "doors =" in more else 'doors = ["ssh"]\n'
    )
    _, (found,) = parsed(f"[keys.people]\n{mine}{more}")
    return found


# --- what it comes to ---------------------------------------------------------------------------------


def test_a_key_with_nothing_more() -> None:
    configuration, (found,) = parsed('[keys.people]\nssh = "/etc/keys"\ndoors = ["ssh"]')
    assert (found.name, found.ssh, found.doors) == ("people", ("/etc/keys",), ("ssh",))
    assert (found.users, found.shared, found.ours, found.leases, found.leases_in_all) == (
        (),
        False,
        True,
        8,
        1000,
    )
    assert (found.sources, found.longest, found.expires) == ((), None, None)
    assert found.files == (KeyFile("/etc/keys"),)
    assert configuration.sealed == Sealed()
    assert configuration.sealed.port == Port(Protocol.UDP, 62202)
    assert configuration.sealed.suites == (Suite.X_WING, Suite.X25519)
    assert configuration.fwknop is None
    assert [door.keyed for door in configuration.doors] == [True, False, False]
    assert {door.sealed for door in configuration.doors} == {Demands()}
    assert Demands() == Demands(observed=Observed.CLOCK, touch=False, devices=Devices.ANY)


def test_every_key() -> None:
    found = people(
        'ssh = ["/etc/b", "/etc/a", "/etc/b"]',
        "shared = true",
        'doors = ["web", "ssh", "web"]',
        'sources = ["192.0.2.0/24"]',
        'longest = "2m"',
        "leases = 1",
        "leases_in_all = 50",
        'hours = ["Mon 08:00-18:00"]',
        'hours_in = "Europe/Berlin"',
        "revoked = true",
        "expires = 2027-05-03",
    )
    assert found.files == (KeyFile("/etc/b"), KeyFile("/etc/a"))
    assert (found.shared, found.ours, found.doors) == (True, False, ("web", "ssh"))
    assert found.sources == (ipaddress.ip_network("192.0.2.0/24"),)
    assert (found.longest, found.leases, found.leases_in_all) == (120, 1, 50)
    assert found.expires == dt.datetime(2027, 5, 4, tzinfo=dt.UTC)
    assert (found.hours, found.hours_in) == (Week(("Mon 08:00-18:00",), ((480, 1080),)), "Europe/Berlin")
    assert found.revoked and not people().revoked and people().hours is None


def test_files_of_users() -> None:
    users = f'users = ["{ME.pw_name}", "{OTHER.pw_name}"]'
    found = people('ssh = ["%h/.ssh/authorized_keys", "/etc/100%%/%u"]', users)
    home, other = ME.pw_dir.rstrip("/"), OTHER.pw_dir.rstrip("/")
    assert [(each.path, each.user, each.uid) for each in found.files] == [
        (f"{home}/.ssh/authorized_keys", ME.pw_name, ME.pw_uid),
        (f"{other}/.ssh/authorized_keys", OTHER.pw_name, OTHER.pw_uid),
        (f"/etc/100%/{ME.pw_name}", ME.pw_name, ME.pw_uid),
        (f"/etc/100%/{OTHER.pw_name}", OTHER.pw_name, OTHER.pw_uid),
    ]
    assert {each.home for each in found.files} == {ME.pw_dir, OTHER.pw_dir}
    assert found.shared and not found.ours
    assert people('ssh = "/etc/%u"', users, "shared = false").ours
    (alone,) = people('ssh = "/etc/it"', f'users = ["{ME.pw_name}"]').files
    assert (alone.path, alone.user) == ("/etc/it", ME.pw_name)
    assert people('ssh = "/etc/100%%"').files == (KeyFile("/etc/100%"),)


def test_keys_of_both_kinds(tmp_path: Path) -> None:
    secret = tmp_path / "alice"
    secret.write_text("KEY: open sesame, open\nHMAC_KEY: and close again soon\n")
    secret.chmod(0o600)
    alice = f'[keys.alice]\nfwknop = "{secret}"\ndoors = ["ssh"]\n'
    text = f'{DOORS}[keys.people]\nssh = "/etc/keys"\ndoors = ["web"]\n{alice}'
    configuration = doors.parse(text)
    assert configuration.fwknop and configuration.sealed
    assert [each.name for each in keys.parse(text, configuration)] == ["alice"]
    assert [each.name for each in keys.parse_ssh(text, configuration)] == ["people"]
    path = tmp_path / "gate.toml"
    path.write_text(text)
    assert keys.load_ssh(path, configuration) == keys.parse_ssh(text, configuration)
    assert [door.keyed for door in configuration.doors] == [True, True, False]
    assert doors.parse(DOORS + alice).sealed is None
    sums = {doors.parse(each).checksum for each in (text, DOORS + alice, text.replace(alice, ""))}
    assert len(sums) == 3


def test_a_door_that_only_runs_commands_can_be_asked_for_by_its_name() -> None:
    door = '[doors.lamp]\nlease = 0\ncommands.open = ["/bin/true"]\n'
    configuration, (found,) = parsed(f'{door}[keys.people]\nssh = "/x"\ndoors = ["lamp"]')
    assert found.doors == ("lamp",) and configuration.doors[-1].keyed


def test_what_a_door_demands() -> None:
    text = f"{DOORS}[doors.ssh.sealed]\n"
    assert doors.parse(f'{text}observed = "never"').doors[0].sealed.observed is Observed.NEVER
    assert doors.parse(f'{text}devices = "known"').doors[0].sealed.devices is Devices.KNOWN
    assert doors.parse(f"{text}touch = true").doors[0].sealed == Demands(touch=True)


# --- what is wrong with it ----------------------------------------------------------------------------

PEOPLE = '[keys.people]\nssh = "/etc/keys"\ndoors = ["ssh"]\n'


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        ('ssh = "keys"', "'keys' is no absolute path", "whole name"),
        ('ssh = "~/.ssh/authorized_keys"', "is no absolute path", "%h/.ssh"),
        ('ssh = "%u/keys"', "is no absolute path", "whole name"),
        ('ssh = "%hkeys"', "is no absolute path", "whole name"),
        ("ssh = []", "must be a file, or a list of files", "whole name"),
        ("ssh = 7", "must be a text in quotes", "ssh: The file"),
        ('ssh = "/etc/%k"', "has a % that stands for nothing", "%% for itself"),
        ('ssh = "/etc/%%%"', "has a % that stands for nothing", "%% for itself"),
        ('ssh = "/etc/%u"', "has %u in it, and there are no users", "users ="),
        ('ssh = "/etc/a"\nusers = ["root", "nobody"]', "would belong to 2 users", "a key for each user"),
        ('users = ["no such"]', "there is no user 'no such'", "getent passwd"),
        ('users = ["a:b"]', "'a:b' is no name of a user", "getent passwd"),
        ('users = "jo"', "must be a list of user names", '["jo"]'),
        ("shared = 1", "must be true or false", "without quotes"),
        ("leases = 0", "0 is not between 1 and 10000", "leases: "),
        ("leases_in_all = 0", "0 is not between 1 and 100000", "leases_in_all: "),
        ('longest = "500ms"', "is not between", ""),
        ('sources = ["192.0.2.7/24"]', "is an address within a network", "did you mean"),
        ('doors = ["sh"]', "there is no door 'sh'", "there are: ssh, web, Web.2"),
        ('doors = ["Web.2"]', "no sealed packet can ask for Web.2", "small letters"),
        ("observed = true", "unknown key", "it is for keys that have fwknop"),
        ('hmac = "sha256"', "unknown key", "it is for keys that have fwknop"),
        ("colour = 1", "unknown key", "known here: ssh"),
        ('fwknop = "/x"', "has both fwknop and ssh", "a key has one of them"),
    ],
)
def test_wrong_keys(lines: str, message: str, hint: str) -> None:
    people()
    with pytest.raises(ConfigError) as wrong:
        people(lines)
    assert message in str(wrong.value) and hint in (wrong.value.hint or "")
    assert str(wrong.value).startswith("gate.toml:") and wrong.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[sealed]\nport = "tcp/62202"', "sealed.port: tcp/62202 is no UDP port"),
        (
            '[sealed]\nport = "udp/53"\n[doors.dns]\nports = ["udp/53"]',
            "sealed.port: udp/53 is what door dns guards",
        ),
        ('[doors.x]\nports = ["udp/62202"]', "sealed.port: udp/62202 is what door x guards"),
        (
            '[sealed]\nport = "udp/7000"\n[doors.x]\nports = ["tcp/1"]\nsequence.steps = ["udp/7000"]',
            "doors.x.sequence.steps: udp/7000 is where packets come to",
        ),
        (
            '[sealed]\nport = "udp/62201"\n[keys.alice]\nfwknop = "/x"\ndoors = ["ssh"]',
            "sealed.port: udp/62201 is where the packets of fwknop and the sealed ones both come to",
        ),
        (
            '[fwknop]\nport = "udp/62202"\n[keys.alice]\nfwknop = "/x"\ndoors = ["ssh"]',
            "fwknop.port: udp/62202 is where the packets of fwknop and the sealed ones both come to",
        ),
        ("[sealed]\nsuites = []", "sealed.suites: must be a list with one suite at least"),
        ('[sealed]\nsuites = "x-wing"', "sealed.suites: must be a list with one suite at least"),
        ('[sealed]\nsuites = ["xwing"]', "sealed.suites: 'xwing' is none of these"),
        ("[sealed]\nbudget = 0", "sealed.budget: 0 is not between"),
        ("[sealed]\ndevices = 0", "sealed.devices: 0 is not between"),
        ("[sealed]\nclock = 0", "sealed.clock: unknown key"),
        ('[doors.ssh.sealed]\nobserved = "sometimes"', "'sometimes' is none of these"),
        ('[doors.ssh.sealed]\ndevices = "all"', "'all' is none of these"),
        ("[doors.ssh.sealed]\ntouch = 1", "must be true or false"),
        ("[doors.y]\nports = ['tcp/9']\ntouch = true", r"it belongs below \[doors.y.sealed\]"),
        (
            '[keys.alice]\nssh = "/x"\ndoors = ["ssh"]\nhours_in = "UTC"',
            "keys.alice.hours_in: there are no hours in it",
        ),
        (
            '[keys.alice]\nssh = "/x"\ndoors = ["ssh"]\nhours = ["Mon 8-18"]',
            "keys.alice.hours: 'Mon 8-18' is no time of a week",
        ),
        ("[keys.none]\ndoors = ['ssh']", "keys.none: fwknop or ssh is missing"),
        ('[keys."a b"]\nssh = "/x"\ndoors = ["ssh"]', "'a b' is no name for a key"),
        (
            '[keys.alice]\nfwknop = "/x"\ndoors = ["ssh"]\nshared = true',
            r"keys.alice.shared: unknown key it is for keys that have ssh",
        ),
    ],
)
def test_wrong_files(text: str, message: str) -> None:
    parsed(PEOPLE)

    def whole() -> None:
        configuration, _ = parsed(PEOPLE + text)
        keys.parse(DOORS + PEOPLE + text, configuration)

    with pytest.raises(ConfigError) as wrong:
        whole()
    told = f"{wrong.value} {wrong.value.hint}"
    assert message.replace("\\", "") in told and wrong.value.hint


def test_ports_clash_only_where_packets_are_heard() -> None:
    doors.parse(f'{DOORS}[sealed]\nport = "udp/53"\n[doors.dns]\nports = ["udp/53"]')
    parsed(f'{PEOPLE}[fwknop]\nport = "udp/62202"')


def test_as_many_files_as_there_may_be() -> None:
    files = ", ".join(f'"/etc/{number}"' for number in range(MAX_FILES))
    assert len(people(f"ssh = [{files}]").files) == MAX_FILES
    with pytest.raises(ConfigError, match="1001 files of ssh keys so far"):
        people(f'ssh = [{files}, "/etc/more"]')


def test_shared_follows_from_users() -> None:
    """Also where somebody makes such keys without a file."""
    made = {"name": "x", "ssh": ("/x",), "doors": ("ssh",)}
    assert SshKeys(**made).shared is False  # type: ignore[arg-type]
    assert SshKeys(**made, users=("jo",)).shared is True  # type: ignore[arg-type]
    assert SshKeys(**made, users=("jo",), shared=False).shared is False  # type: ignore[arg-type]


# --- advice -------------------------------------------------------------------------------------------

TOUCHED = (
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAILM"
    "+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqtiAAAABHNzaDo="
)


def advice(path: Path, *lines: str, doors_too: str = "") -> list[tuple[str, str]]:
    """What is said of a key with this file, without the file's name; and the hints."""
    more = "\n".join(lines)
    mine = "" if "doors =" in more else 'doors = ["ssh"]\n'
    configuration, found = parsed(f'{doors_too}[keys.people]\nssh = "{path}"\n{mine}{more}')
    files = KeyFiles(found)
    files.refresh()
    return [
        (each.message.replace(str(path), "FILE"), each.hint.replace(str(path), "FILE"))
        for each in advise_on_ssh_keys(configuration, found, files, NOW)
    ]


def test_nothing_to_say(tmp_path: Path) -> None:
    path = written(tmp_path / "keys", "# staff", f"{key(1)} jo", f'doors="ssh",max-lease="1m" {key(2)}')
    assert advice(path) == []


@pytest.mark.parametrize(
    ("content", "lines", "message", "hint"),
    [
        ([], [], "FILE has no key, so it lets nobody in", "add a line for each key"),
        (["# none"], [], "FILE has no key, so it lets nobody in", "add a line for each key"),
        ([RSA, RSA], [], "FILE has RSA keys alone, and with those nobody can knock", "ssh-keygen -t ed25519"),
        ([key(1), RSA], [], "FILE:2: an RSA key cannot knock", "ssh-keygen -t ed25519"),
        (
            [f'doors="ssh" {key(1)}', key(2)],
            ["shared = true"],
            "FILE:1: the option is one of the gate's own",
            "sshd",
        ),
        ([key(1), f"cert-authority {key(2)}"], [], "FILE: 1 line trusts certificates", "the keys themselves"),
        ([f'doors="ssh,web" {key(1)}'], [], "FILE:1: the line names web, and key people", "only narrow"),
        ([f'expiry-time="20260501Z" {key(1)}'], [], "FILE:1: the line has expired", "expiry-time"),
        ([key(1)], ["expires = 2026-05-01"], "has expired, on 2026-05-02", "another date"),
        (
            [key(1)],
            ['longest = "1h"'],
            "longest = 1h changes nothing: its doors give 15s at most",
            "the door",
        ),
        ([key(1)], ['doors = ["ssh", "Web.2"]'], "no sealed packet can ask for Web.2", "small letters"),
    ],
)
def test_doubtful_keys(tmp_path: Path, content: list[str], lines: list[str], message: str, hint: str) -> None:
    ((said, help_),) = advice(written(tmp_path / "keys", *content), *lines)
    assert said.startswith(message) and hint in help_


def test_a_file_that_cannot_be_used_is_told_of_once(tmp_path: Path) -> None:
    assert advice(tmp_path / "none") == [
        ("FILE: there is no such file", "its keys open nothing until it is there")
    ]
    path = written(tmp_path / "keys", key(1))
    path.chmod(0o666)
    assert advice(path) == [("FILE: can be written by others", "chmod go-w FILE")]


def test_where_sshd_looks_by_itself(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    path = written(tmp_path / ".ssh" / "authorized_keys", key(1))
    ((said, hint),) = advice(path)
    assert said.startswith("FILE is what sshd reads") and "shared = true" in hint
    assert advice(path, "shared = true") == []


def test_a_touch_that_nobody_can_give(tmp_path: Path) -> None:
    door = "[doors.ssh.sealed]\ntouch = true\n"
    path = written(tmp_path / "keys", key(1))
    ((said, hint),) = advice(path, doors_too=door)
    assert said == "none of its keys is on a token, and ssh demands that one was touched"
    assert "ed25519-sk" in hint
    assert advice(path, 'doors = ["web"]', doors_too=door) == []
    written(path, key(1), TOUCHED)
    assert advice(path, doors_too=door) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f'{PEOPLE}[doors.ssh.sealed]\nobserved = "always"',
            "ssh: takes sealed packets that name no address",
        ),
        (
            f"{PEOPLE}[doors.web.sealed]\ntouch = true",
            "web: what it demands of sealed packets concerns nobody",
        ),
        ("[doors.web.sealed]\ntouch = true", "web: what it demands of sealed packets concerns nobody"),
        (f"{PEOPLE}[doors.ssh.sealed]\ntouch = true", None),
        (f"{PEOPLE}[doors.web.sealed]\ntouch = false", None),
        (f'{PEOPLE}[doors.ssh.sealed]\nobserved = "never"', None),
    ],
)
def test_doubtful_demands(text: str, message: str | None) -> None:
    said = [f"{each.door}: {each.message}" for each in advise(doors.parse(DOORS + text))]
    assert [each.startswith(message) for each in said] == [True] if message else said == []
