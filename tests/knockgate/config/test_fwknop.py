"""access.conf and fwknopd.conf as a gate.toml; test_fwknop_controls asks the real fwknopd the same."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

import pytest
from tests.knockgate.config.fwknop_files import (
    HMAC,
    KEY,
    KEYS,
    PLAIN,
    gate,
    notes,
    refusals,
    the_door,
    the_key,
    translated,
)

from knockgate.model import Port, Protocol
from knockgate.spa.fwknop import Hash, Mode, Secret

EVERYTHING = f"""\
# comment
; comment
IGNORED since there is no stanza yet
SOURCE: 10.1.2.3/8, 192.0.2.7;
DESTINATION ANY
OPEN_PORTS tcp/22, UDP/53, tcp/80
RESTRICT_PORTS tcp/80
{KEYS}HMAC_DIGEST_TYPE SHA512
ENCRYPTION_MODE ctr
FW_ACCESS_TIMEOUT 60
MAX_FW_TIMEOUT 600
ACCESS_EXPIRE_EPOCH 1893456000
REQUIRE_USERNAME alice
REQUIRE_SOURCE_ADDRESS Y
ENABLE_CMD_EXEC N
FORCE_MASQUERADE N
"""


def tcp(number: int) -> Port:
    return Port(Protocol.TCP, number)


def udp(number: int) -> Port:
    return Port(Protocol.UDP, number)


def test_every_option_that_is_honoured(tmp_path: Path) -> None:
    found = translated(
        tmp_path, EVERYTHING, "PCAP_INTF eth1;\nPCAP_FILTER udp port 4000;\nMAX_SPA_PACKET_AGE 60;\n"
    )
    configuration, (key,) = gate(found)
    assert [(door.name, door.ports, door.lease, door.longest) for door in configuration.doors] == [
        ("tcp-22", (tcp(22),), 60.0, 600.0),
        ("udp-53", (udp(53),), 60.0, 600.0),
    ]
    assert configuration.fwknop and configuration.fwknop.port == udp(4000)
    assert (configuration.gate.interface, configuration.fwknop.freshness) == ("eth1", 60.0)
    assert key.name == "alice"
    assert key.secret == Secret(KEY, HMAC, Hash.SHA512, Mode.CTR)
    assert key.senders == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("192.0.2.7/32"))
    assert (key.username, key.observed, key.insecure) == ("alice", False, False)
    assert (key.doors, key.sources, key.longest) == (("tcp-22", "udp-53"), (), None)
    assert key.expires == dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    assert "IGNORED: stands before the first SOURCE" in notes(found)


def test_what_is_not_said_is_what_fwknopd_takes(tmp_path: Path) -> None:
    found = translated(tmp_path, PLAIN)
    configuration, (key,) = gate(found)
    (door,) = configuration.doors
    assert (door.lease, door.longest, configuration.gate.interface) == (30.0, 300.0, "")
    assert configuration.fwknop and (configuration.fwknop.port, configuration.fwknop.freshness) == (
        udp(62201),
        120,
    )
    assert (key.name, key.observed, key.senders, key.expires) == ("stanza-1", True, (), None)
    assert key.secret == Secret(KEY, HMAC)
    assert "whoever intercepts one" in notes(found)
    assert "fwknopd would listen on eth0" in notes(found)


def test_no_secret_leaves_its_file(tmp_path: Path) -> None:
    """Neither into gate.toml nor into what is said, also where a line is wrong."""
    text = (
        "SOURCE ANY\nKEY open sesame; mickey\nHMAC_KEY donald\nHMAC_KEY huey\nKEY_BASE64 dewey!\n"
        "louie louie\nOPEN_PORTS tcp/22\n"
    )
    found = translated(tmp_path, text)
    assert "is no base64" in refusals(found)
    good = translated(tmp_path, text.replace("KEY_BASE64 dewey!\nlouie louie\n", ""))
    assert list(good.secrets.values()) == ["KEY_BASE64: b3BlbiBzZXNhbWU=\nHMAC_KEY_BASE64: aHVleQ==\n"]
    for said in (found.text, refusals(found), notes(found), repr(found), good.text, notes(good), repr(good)):
        for secret in ("sesame", "mickey", "donald", "huey", "dewey", "louie", "b3Blbi", "aHVl"):
            assert secret not in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ENABLE_CMD_EXEC Y", "runs no command that a packet names"),
        ("FORCE_NAT 10.0.0.7 22", "translates no addresses"),
        ("FORCE_SNAT 10.0.0.7", "translates no addresses"),
        ("FORCE_MASQUERADE Y", "translates no addresses"),
        ("DISABLE_DNAT Y", "translates no addresses"),
        ("FORWARD_ALL Y", "guards this host"),
        ("GPG_DECRYPT_PW word", "GnuPG"),
        ("GPG_ALLOW_NO_PW Y", "GnuPG"),
        ("ENCRYPTION_MODE Asymmetric", "GnuPG"),
        ("ENCRYPTION_MODE PCBC", "no mode that fwknop knows"),
        ("DESTINATION 10.0.0.1", "at any address of this host"),
        ("OPEN_PORTS tcp/22,", "is no port"),
        ("OPEN_PORTS icmp/8", "is no port"),
        ("OPEN_PORTS tcp/0", "not between 1 and 65535"),
        ("OPEN_PORTS udp/62201", "where packets come to"),
        ("RESTRICT_PORTS tcp/22", "opens nothing"),
        ("FW_ACCESS_TIMEOUT x", "is no number"),
        ("MAX_FW_TIMEOUT 2592001", "not between 0 and 2592000"),
        ("ACCESS_EXPIRE 02/31/2027", "no date of the calendar"),
        ("ACCESS_EXPIRE 2027-01-01", "is no date"),
        ("REQUIRE_USERNAME a/b", "is no user name that a packet can bear"),
        ("ACCESS_EXPIRE_EPOCH soon", "is no time"),
        ("REQUIRE_SOURCE_ADDRESS true", "neither Y nor N"),
        ("REQUIRE_USERNAM alice", "did you mean REQUIRE_USERNAME"),
        ("HMAC_DIGEST_TYPE sha224", "no hash that fwknop knows"),
        ("KEY 123456789012345678901234567890123", "33 bytes"),
        ("KEY __CHANGEME__", "has no value yet"),
        (f"KEY {HMAC.decode()}", "the same"),
        ("CMD_CYCLE_OPEN /bin/true", "CMD_CYCLE_OPEN without CMD_CYCLE_CLOSE"),
        ("CMD_CYCLE_CLOSE /bin/true", "CMD_CYCLE_CLOSE without CMD_CYCLE_OPEN"),
        ("SOURCE 2001:db8::1", "is no IPv4 address"),
        ("SOURCE ANY # all", "a comment stands on a line of its own"),
        ("SOURCE 10.0.0.0/0.0.0.255", "no mask of the first bits"),
        ("SOURCE 0.0.0.0/0", "write ANY"),
        ("SOURCE 10.0.0.1", "has no KEY"),
        ("KEY", "has no value"),
        ("KEY word ;", "has blanks at its end"),
        ("HMAC_KEY word\t", "has blanks at its end"),
        ("KEY;word", "does not begin with the name of a variable"),
        ("%include /nonexistent", "No such file"),
        ("%include_folder /nonexistent", "No such file"),
        ("%include_keys /nonexistent", "No such file"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    assert not translated(tmp_path, PLAIN).refusals  # the control
    found = translated(tmp_path, f"{PLAIN}{line}\n")
    assert said in refusals(found)
    assert all(each.file == str(tmp_path / "access.conf") and each.line in (1, 5) for each in found.refusals)


def test_all_refusals_are_told_at_once(tmp_path: Path) -> None:
    found = translated(tmp_path, f"SOURCE ANY\n{KEYS}FORCE_NAT 10.0.0.7 22\nSOURCE ANY\nKEY a\nKEI b\n")
    assert [each.line for each in found.refusals] == [4, 7, 1, 5]
    assert refusals(found).count("--open") == 2


def test_unusual_spellings_are_read_as_fwknopd_does_and_told(tmp_path: Path) -> None:
    text = (
        f"SOURCE 10.0.0.0/255.0.0.0,any\nOPEN_PORTS tcp/22 # ssh\nOPEN_PORTS tcp/23 # telnet\n{KEYS}"
        "FW_ACCESS_TIMEOUT 60s\nMAX_FW_TIMEOUT 0\n   \n  #\nKEY\tword # two;\n"
        "REQUIRE_SOURCE yes\nGPG_REMOTE_ID 1234\nCMD_EXEC_USER nobody\nCMD_CYCLE_TIMER 7\n"
    )
    found = translated(tmp_path, text)
    key, door = the_key(found), the_door(found)
    assert (key.senders, key.observed, key.secret.key) == ((), False, b"word # two")
    assert (door.ports, door.lease, door.longest) == ((tcp(23),), 60.0, 300.0)
    for said in (
        "what follows 60",
        "what follows 23",
        "KEY: is given more than once, as is KEY_BASE64",
        "OPEN_PORTS: is given more",
    ):
        assert said in notes(found)
    for said in ("without GPG_DECRYPT_PW", "without ENABLE_CMD_EXEC", "without CMD_CYCLE_OPEN"):
        assert said in notes(found)


def test_a_secret_in_base64_as_fwknop_decodes_it(tmp_path: Path) -> None:
    for text in ("c2VjcmV0", "c2VjcmV0MQ", "c2VjcmV0MQ==ignored", "c2VjcmV0MR"):
        secret = the_key(translated(tmp_path, f"{PLAIN}KEY_BASE64 {text}\n")).secret
        assert secret.key == (b"secret" if text == "c2VjcmV0" else b"secret1")


def test_without_hmac_it_is_a_warning(tmp_path: Path) -> None:
    found = translated(tmp_path, "SOURCE ANY\nOPEN_PORTS tcp/22\nKEY word\nHMAC_DIGEST_TYPE md5\n")
    key = the_key(found)
    assert key.insecure and key.secret == Secret(b"word")
    assert found.notes[0].is_warning and "no HMAC_KEY" in found.notes[0].message
    assert "# WARNING: has no HMAC_KEY" in found.text
    assert not any(note.is_warning for note in translated(tmp_path, PLAIN).notes)


def test_the_key_of_the_legacy_mode_is_cut(tmp_path: Path) -> None:
    text = "SOURCE ANY\nOPEN_PORTS tcp/22\nKEY 0123456789abcdefXYZ\nENCRYPTION_MODE legacy\n"
    assert the_key(translated(tmp_path, text)).secret == Secret(b"0123456789abcdef", mode=Mode.LEGACY)
    assert the_key(translated(tmp_path, text.replace("legacy", "CBC"))).secret.key == b"0123456789abcdefXYZ"


def test_a_lease_that_is_longer_than_the_longest(tmp_path: Path) -> None:
    found = translated(tmp_path, f"{PLAIN}FW_ACCESS_TIMEOUT 600\n")
    assert (the_door(found).lease, the_door(found).longest) == (600.0, None)
    assert "gives 600 seconds to packets that ask for none" in notes(found)


# --- commands -----------------------------------------------------------------------------------------


def cycle(opening: str, closing: str, ports: str = "tcp/22", timer: str = "CMD_CYCLE_TIMER 20\n") -> str:
    return (
        f"SOURCE ANY\nOPEN_PORTS {ports}\n{KEYS}CMD_CYCLE_OPEN {opening}\nCMD_CYCLE_CLOSE {closing}\n{timer}"
    )


def test_commands_become_the_door_s(tmp_path: Path) -> None:
    text = cycle("/sbin/ipset add  in $IP,tcp:$PORT", "ipset del in $SRC,$PROTO:$PORT", "tcp/22,udp/53")
    configuration, (key,) = gate(translated(tmp_path, text))
    ssh, dns = configuration.doors
    assert ssh.commands and dns.commands and not ssh.commands.shell
    assert ssh.commands.open == ("/sbin/ipset", "add", "in", "%IP%,tcp:22")
    assert ssh.commands.close == ("/usr/bin/env", "ipset", "del", "in", "%IP%,6:22")
    assert dns.commands.close == ("/usr/bin/env", "ipset", "del", "in", "%IP%,17:53")
    assert ssh.commands.for_source(bytes(16)) == ((), ())
    assert (ssh.lease, ssh.longest, key.doors) == (20.0, 300.0, ("tcp-22", "udp-53"))


def test_commands_that_name_no_port_are_run_once(tmp_path: Path) -> None:
    door = the_door(translated(tmp_path, cycle("/bin/in $IP", "NONE", "tcp/22,udp/53", "")))
    assert (door.name, door.ports, door.lease) == ("tcp-22-udp-53", (tcp(22), udp(53)), 30.0)
    assert door.commands and (door.commands.open, door.commands.close) == (("/bin/in", "%IP%"), ())


@pytest.mark.parametrize(
    ("opening", "said"),
    [
        ("/bin/in $PKT_SRC", "has $PKT_SRC"),
        ("/bin/in $DST", "has $DST"),
        ("/bin/in $TIMEOUT", "has $TIMEOUT"),
        ("/bin/in $CLIENT_TIMEOUT", "has $CLIENT_TIMEOUT"),
        ("/bin/in $HOME", "a $ that means nothing"),
        ("/bin/in %IP%", "has %IP%"),
        ("A=b /bin/in", "name of a program"),
        ("/bin/" + "i" * 260, "longer than 255 bytes"),
    ],
)
def test_commands_that_want_what_is_not_told(tmp_path: Path, opening: str, said: str) -> None:
    assert the_door(translated(tmp_path, cycle("/bin/in $IP", "/bin/out $IP"))).commands
    assert said in refusals(translated(tmp_path, cycle(opening, "/bin/out")))
    assert said in refusals(translated(tmp_path, cycle("/bin/in", opening)))


def test_a_door_runs_the_same_for_all(tmp_path: Path) -> None:
    text = cycle("/bin/in $IP", "/bin/out $IP") + "SOURCE ANY\nKEY other\nHMAC_KEY o\nOPEN_PORTS "
    assert len(gate(translated(tmp_path, f"{text} tcp/23\n"))[1]) == 2
    assert "opens tcp/22 otherwise than stanza 1" in refusals(translated(tmp_path, f"{text} tcp/22\n"))
    assert "has no CMD_CYCLE_TIMER" in refusals(translated(tmp_path, cycle("/bin/in", "/bin/out", timer="")))


# --- fwknopd.conf -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "port", "interface"),
    [
        ("", 62201, ""),
        ("PCAP_FILTER udp dst port 500;\nPCAP_INTF eth7;", 500, "eth7"),
        ("PCAP_INTF any;", 62201, ""),
        ("UDPSERV_PORT 500;\nPCAP_FILTER udp port 501;", 501, ""),
        ("ENABLE_UDP_SERVER Y;\nUDPSERV_PORT 500;\nPCAP_INTF eth7;\nPCAP_FILTER tcp port 9;", 500, ""),
        ("ENABLE_NFQ_CAPTURE Y;\nNFQ_PORT 500;\nNFQ_INTERFACE eth2;\nPCAP_INTF eth7;", 500, "eth2"),
        ("FWKNOP_RUN_DIR eth;\nPCAP_INTF $FWKNOP_RUN_DIR0;", 62201, "eth0"),
        ("PCAP_INTF eth1;\nPCAP_INTF eth2;", 62201, "eth2"),
    ],
)
def test_where_packets_are_heard(tmp_path: Path, conf: str, port: int, interface: str) -> None:
    configuration, _ = gate(translated(tmp_path, PLAIN, conf + "\n"))
    assert configuration.fwknop and configuration.fwknop.port == udp(port)
    assert configuration.gate.interface == interface


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("PCAP_FILTER udp dst portrange 1000-2000;", "more than one port"),
        ("PCAP_FILTER tcp port 80;", "not UDP"),
        ("PCAP_FILE /tmp/x.pcap;", "listens to a network"),
        ("ENABLE_PCAP_ANY_DIRECTION Y;", "packets that go out"),
        ("ENABLE_SPA_PACKET_AGING N;", "a packet's age always counts"),
        ("MAX_SPA_PACKET_AGE 86401;", "not between 1 and 86400"),
        ("ENABLE_DIGEST_PERSISTENCE N;", "always remembered"),
        ("ENABLE_SPA_OVER_HTTP Y;", "HTTP"),
        ("ENABLE_TCP_SERVER Y;", "TCP"),
        ("ENABLE_DESTINATION_RULE Y;", "all addresses"),
        ("ACCESS_FOLDER /etc/fwknop/access.d;", "import fwknop /etc/fwknop/access.d"),
        ("PCAP_INTF an-interface-too-long;", "no name for an interface"),
        ("PCAP_INTF $NOTHING;", "has no value yet"),
        ("PCAP_INTERFACE eth0;", "did you mean"),
        ("PCAP_INTF: eth0;", "does not begin with the name"),
        ("ENABLE_UDP_SERVER maybe;", "neither Y nor N"),
    ],
)
def test_what_fwknopd_conf_says_and_cannot_be_had(tmp_path: Path, line: str, said: str) -> None:
    found = translated(tmp_path, PLAIN, f"VERBOSE 0;\n{line}\n")
    assert said in refusals(found)
    assert {(each.file, each.line) for each in found.refusals} == {(str(tmp_path / "fwknopd.conf"), 2)}


def test_what_is_not_needed_is_told(tmp_path: Path) -> None:
    conf = (
        "ENABLE_PCAP_PROMISC Y;\nENABLE_IPT_FORWARDING Y;\nENABLE_IPT_LOCAL_NAT N;\nENABLE_IPT_OUTPUT Y;\n"
        "ENABLE_TCP_SERVER N;\nFLUSH_IPT_AT_EXIT Y;\nENABLE_EXTERNAL_CMDS N;\n"
        "DIGEST_FILE $FWKNOP_RUN_DIR/x;\n"
    )
    found = translated(tmp_path, PLAIN, f"FWKNOP_RUN_DIR /run;\n{conf}")
    said = notes(found)
    for key, words in (
        ("ENABLE_PCAP_PROMISC", "for other machines"),
        ("ENABLE_IPT_FORWARDING", "translates no addresses"),
        ("ENABLE_IPT_OUTPUT", "only what comes in"),
        ("ENABLE_TCP_SERVER", "the same without it"),
        ("FLUSH_IPT_AT_EXIT", "not needed"),
        ("ENABLE_EXTERNAL_CMDS", "as by fwknopd"),
    ):
        assert f"{key}: " in said and words in said
    assert "ENABLE_IPT_LOCAL_NAT" not in said
    gate(found)
