"""access.conf as Debian's fwknopd reads it, beside what we read: ``-D`` prints what it understood."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from tests.knockgate.config.fwknop_files import (
    KEYS,
    PLAIN,
    fwknopd,
    refusals,
    translated,
    understood,
    written,
)
from tests.netns import isolated

from knockgate.config.fwknop import access, options, reading, words
from knockgate.config.fwknop.findings import Findings
from knockgate.config.fwknop.settings import read as read_settings
from knockgate.config.fwknop.stanza import Stanza
from knockgate.spa.fwknop import Hash

pytestmark = pytest.mark.skipif(
    not shutil.which("fwknopd", path=f"{os.environ['PATH']}:/usr/sbin"), reason="needs Debian's fwknop-server"
)

UNUSUAL = """\
IGNORED word
SOURCE: 10.1.2.3/8, 192.0.2.0/255.255.255.0;
OPEN_PORTS: tcp/22, UDP/53 # two;
RESTRICT_PORTS tcp/23
KEY\tsome words # all of it; but not this
HMAC_KEY_BASE64 c2VjcmV0MQ
HMAC_DIGEST_TYPE Sha3_512
FW_ACCESS_TIMEOUT 60 # seconds
MAX_FW_TIMEOUT 0
ACCESS_EXPIRE 07/04/2027
REQUIRE_SOURCE yes
REQUIRE_USERNAME a user
; comment
SOURCE any
KEY_BASE64 c2VjcmV0MQ==ignored
KEY one
KEY two
OPEN_PORTS tcp/1
ACCESS_EXPIRE_EPOCH 1893456000 # 2030
MAX_FW_TIMEOUT 77s
CMD_CYCLE_OPEN /bin/echo $IP  $PORT
CMD_CYCLE_CLOSE NONE
SOURCE ANY
ENCRYPTION_MODE legacy
KEY 0123456789abcdefXYZ
ACCESS_EXPIRE 12/31/27
"""


def ours(folder: Path, text: str) -> list[Stanza]:
    found = Findings()
    stanzas = [reading.read(each, found) for each in access.sections(written(folder, text), found)]
    assert not found.refusals
    return stanzas


def as_printed(stanza: Stanza, text: dict[str, str]) -> dict[str, str]:
    """Our reading of a stanza in fwknopd's words; ports and networks are compared as values."""
    assert words.networks(text["SOURCE"]) == stanza.senders
    if text["OPEN_PORTS"] != "<not set>":
        assert words.ports(text["OPEN_PORTS"], lambda _: None) == stanza.open_ports
    hmac = list(Hash).index(stanza.hmac or Hash.SHA256) + 1 if stanza.hmac_key else 0
    expires = time.asctime(time.localtime(stanza.expires)) if stanza.expires else "<not set>"
    return {
        "KEY_LEN": str(len(stanza.key)),
        "HMAC_KEY_LEN": str(len(stanza.hmac_key)),
        "HMAC_DIGEST_TYPE": str(hmac),
        "FW_ACCESS_TIMEOUT": str(stanza.lease),
        "MAX_FW_TIMEOUT": str(stanza.most),
        "REQUIRE_USERNAME": stanza.username or "<not set>",
        "REQUIRE_SOURCE_ADDRESS": "No" if stanza.observed else "Yes",
        "ACCESS_EXPIRE": expires,
        "CMD_CYCLE_OPEN": stanza.cmd_open or "<not set>",
        "CMD_CYCLE_CLOSE": stanza.cmd_close or "<not set>",
        "CMD_CYCLE_TIMER": str(stanza.cmd_timer),
    }


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns"])
def test_fwknopd_reads_it_as_we_do(zone: str) -> None:
    @isolated
    def body() -> None:
        os.environ["TZ"] = zone
        time.tzset()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "more").mkdir()
            written(folder / "more", PLAIN, "a.conf")
            written(folder / "more", "SOURCE ANY\nnonsense\n", "b.txt")
            secrets = written(folder, KEYS, "secrets")
            includes = (
                f"SOURCE ANY\n%include_folder {folder / 'more'}\nOPEN_PORTS tcp/1\n%include_keys {secrets}\n"
            )
            for text, count in ((UNUSUAL, 3), (includes, 2), (PLAIN, 1)):
                stanzas, printed = ours(folder, text), understood(folder, text)
                assert len(stanzas) == len(printed) == count
                for stanza, its in zip(stanzas, printed, strict=True):
                    told = as_printed(stanza, its)
                    assert told == {name: its[name].strip() for name in told}

    body()


#: A text that is refused here -> whether fwknopd refuses it too. What only we refuse is in the docstring
#: of knockgate.config.fwknop.
REFUSED = {
    "SOURCE ANY # all\nKEY a\n": True,
    "SOURCE ANY\nOPEN_PORTS tcp/22,\nKEY a\n": True,
    "SOURCE ANY\nOPEN_PORTS icmp/8\nKEY a\n": True,
    "SOURCE 0.0.0.0/0\nKEY a\n": True,
    "SOURCE 2001:db8::1\nKEY a\n": True,
    "SOURCE ANY\nKEY a\nHMAC_KEY a\n": True,
    "SOURCE ANY\nKEY_BASE64 a-b\n": True,
    "SOURCE ANY\nKEY __CHANGEME__\n": True,
    "SOURCE ANY\nHMAC_KEY a\n": True,
    "SOURCE:ANY\nKEY a\n": True,
    "KEY a\n": True,
    "SOURCE ANY\nKEY\n": True,
    "SOURCE ANY\nKEY a\nENCRYPTION_MODE PCBC\n": True,
    "SOURCE ANY\nKEY a\nHMAC_DIGEST_TYPE sha224\n": True,
    "SOURCE ANY\nKEY a\nCMD_CYCLE_OPEN /bin/a\n": True,
    "SOURCE ANY\nKEY a\nCMD_CYCLE_CLOSE /bin/a\n": True,
    "SOURCE ANY\nKEY a\nCMD_CYCLE_OPEN /bin/a\nCMD_CYCLE_CLOSE /bin/b\n": True,
    "%include /nonexistent\nSOURCE ANY\nKEY a\n": True,
    "SOURCE ANY\nKEY a\nREQUIRE_USERNAM alice\n": False,
    "SOURCE ANY\nKEY a\nREQUIRE_SOURCE_ADDRESS true\n": False,
    "SOURCE ANY\nKEY a\nFW_ACCESS_TIMEOUT x\n": False,
    "SOURCE ANY\nKEY 123456789012345678901234567890123\n": False,
    "SOURCE ANY\nKEY a\nACCESS_EXPIRE 02/31/2027\n": False,
    "SOURCE 10.0.0.0/255.0.255.0\nKEY a\n": False,
    "SOURCE ANY\nKEY a ;\n": False,
}


@isolated
def test_what_is_refused_here_and_there() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for text, there in REFUSED.items():
            assert refusals(translated(folder, text, opened="tcp/22")), text
            assert (fwknopd(folder, text).returncode != 0) is there, text
        for text in ("SOURCE ANY\n   \nKEY a\n", "SOURCE ANY\n  #\nKEY a\n"):  # blanks nobody sees
            assert not translated(folder, text, opened="tcp/22").refusals
            assert fwknopd(folder, text).returncode != 0


@isolated
def test_every_option_that_fwknopd_prints_is_known() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        printed = fwknopd(folder, PLAIN).stdout
        (stanza,) = understood(folder, PLAIN)
        derived = {"KEY_LEN", "HMAC_KEY_LEN"}
        assert set(stanza) - derived <= set(options.OPTIONS)
        assert len(stanza) > 30
        settings = re.findall(r"^ *\d+\. ([A-Z_0-9]+) +=", printed, re.MULTILINE)
        assert len(settings) > 50
        found = Findings()
        conf = written(
            folder, "".join(f"{each} 1;\n" for each in settings) + "NO_OPTION 1;\n", "fwknopd.conf"
        )
        read_settings(conf, folder / "access.conf", found)
        assert [each.key for each in found.refusals if "is no option" in each.message] == ["NO_OPTION"]
