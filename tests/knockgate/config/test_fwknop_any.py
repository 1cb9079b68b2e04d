"""Whatever stands in fwknop's files: what comes out can be used, or there is a reason why there is none."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from tests.knockgate.config.fwknop_files import gate, written

from knockgate.client.profiles import load
from knockgate.config.fwknop import profiles, translate
from knockgate.config.fwknop.options import OPTIONS
from knockgate.config.fwknop.rc_options import VARIABLES
from knockgate.errors import ConfigError
from knockgate.model import Port, Protocol

_VALUES = st.sampled_from(
    [
        "Y",
        "N",
        "0",
        "1",
        "30",
        "2592000",
        "99999999999",
        "ANY",
        "10.0.0.1",
        "10.0.0.0/8, 192.0.2.1",
        "tcp/22",
        "udp/53,tcp/80",
        "tcp/22, tcp/443 # x",
        "c2VjcmV0",
        "word",
        "a/b",
        "é",
        "sha512",
        "ctr",
        "legacy",
        "12/31/2027",
        "1893456000",
        "253402300799",
        "/bin/in $IP $PORT",
        "/bin/out $SRC",
        "NONE",
        "source",
        "resolve",
        "https://ip.example/",
        "-5m",
        "$FWKNOP_RUN_DIR/x",
        "udp port 500",
        "eth0",
    ]
)
_SEPARATORS = st.sampled_from([" ", "\t", ": ", "  "])
_ENDS = st.sampled_from(["\n", ";\n", " ; x\n", "\r\n"])


def _lines(names: list[str]) -> st.SearchStrategy[str]:
    values = _VALUES | st.text(st.characters(codec="utf-8"), max_size=12)
    return st.builds(lambda *parts: "".join(parts), st.sampled_from(names), _SEPARATORS, values, _ENDS)


#: What can be used, mostly, so that what comes after the reading is tried as well.
_GOOD = st.sampled_from(
    [
        "MAX_FW_TIMEOUT 60\n",
        "MAX_FW_TIMEOUT 900\n",
        "FW_ACCESS_TIMEOUT 45\n",
        "FW_ACCESS_TIMEOUT 600\n",
        "RESTRICT_PORTS tcp/22\n",
        "REQUIRE_USERNAME alice\n",
        "REQUIRE_USERNAME a/b\n",
        "REQUIRE_USERNAME " + "u" * 70 + "\n",
        "REQUIRE_SOURCE Y\n",
        "ACCESS_EXPIRE 12/31/2027\n",
        "ACCESS_EXPIRE_EPOCH 253402300799\n",
        "ENCRYPTION_MODE legacy\n",
        "HMAC_DIGEST_TYPE sha3_256\n",
        "KEY other\n",
        "CMD_CYCLE_OPEN /bin/in $IP\nCMD_CYCLE_CLOSE /bin/out $IP\nCMD_CYCLE_TIMER 9\n",
        "CMD_CYCLE_OPEN in $PORT\nCMD_CYCLE_CLOSE NONE\n",
    ]
)
_KEYS = "KEY_BASE64 {}\nHMAC_KEY_BASE64 aG1hYw==\n".format
_STANZAS = st.builds(
    lambda number, ports, lines: (
        f"SOURCE ANY\nOPEN_PORTS {ports}\n{_KEYS('c2VjcmV' + number)}{''.join(lines)}"
    ),
    st.sampled_from("ABCD"),
    st.sampled_from(["tcp/22", "tcp/22,udp/53", "udp/53, tcp/80"]),
    st.lists(_GOOD, max_size=4) | st.lists(_lines([*OPTIONS, "%include_keys", "%include"]), max_size=2),
)
_ACCESS = st.lists(_STANZAS, min_size=1, max_size=4).map("".join)
_CONF = st.lists(
    _lines(["PCAP_INTF", "PCAP_FILTER", "MAX_SPA_PACKET_AGE", "UDPSERV_PORT", "VERBOSE"]), max_size=3
)
_PROFILES = st.lists(
    st.builds(
        lambda name, lines: f"[{name}]\nSPA_SERVER x\nACCESS tcp/22\n{_KEYS('aGVsbG8=')}{''.join(lines)}",
        st.sampled_from(["default", "home", "Home", "a b", "é]", "..."]) | st.text(max_size=4),
        st.lists(_lines([*VARIABLES]), max_size=3),
    ),
    max_size=3,
).map("".join)
_AS_BYTES = st.binary() | st.text().map(lambda text: text.encode("utf-8", "replace"))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(_ACCESS.map(_encoded) | _AS_BYTES, st.just(b"") | _CONF.map("".join).map(_encoded))
@example(b"SOURCE ANY\nKEY \xff\nHMAC_KEY x\nOPEN_PORTS tcp/22\n", b"")
@example(b"SOURCE ANY\nKEY y\nHMAC_KEY x\nOPEN_PORTS tcp/22\nREQUIRE_USERNAME \xff\n", b"PCAP_INTF \xff\n")
def test_any_access_conf_is_a_gate_or_refused(access: bytes, conf: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = written(folder, access), written(folder, conf, "fwknopd.conf")
        found = translate(*files, folder / "keys", opened=[Port(Protocol.TCP, 7)])
        for note in found.notes:
            assert str(note)
        if found.refusals:
            event("refused")
            assert all(str(each) for each in found.refusals)
            return
        configuration, keys = gate(found)
        event(f"{len(configuration.doors)} doors, {len(keys)} keys")
        assert {door.name for door in configuration.doors} == {door for key in keys for door in key.doors}


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(_PROFILES.map(_encoded) | _AS_BYTES)
@example(b"[a]\nSPA_SERVER \xff\nACCESS tcp/22\n")
@example(b"[\xff]\nSPA_SERVER x\nACCESS tcp/22\n[\xfe]\nSPA_SERVER x\nACCESS tcp/22\n")
def test_any_fwknoprc_is_profiles_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            found = profiles(written(folder, content, ".fwknoprc"), folder / "keys")
        except ConfigError:
            event("refused")
            return
        if not found.text:
            assert found.refusals
            event("nothing")
            return
        read = load(written(folder, found.text, "profiles.toml"))
        event(f"{len(read)} profiles, {bool(found.refusals)}")
        assert read and len(found.secrets) <= len(read)
