"""What is laid down: the files of the tutorial, with keys and commands that are right."""

from __future__ import annotations

import base64
import re
import tomllib

import pytest
from tests.knockdemo.installing import (
    KEYS,
    PLAN,
    PRINTED_KEYS,
    SOURCE,
)

from knockdemo import config, install, units
from knockgate.errors import ConfigError

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
