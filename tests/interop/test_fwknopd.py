"""Our client opens the doors of Debian's real fwknopd."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from tests.interop.fwknopd import WINDOW, Fwknopd, Stanza
from tests.knockgate.cli.gates import Host
from tests.knockgate.cli.process import knockgate
from tests.netns import isolated

from knockgate.spa.fwknop import Hash, Mode

_SHORT = 600  # seconds that a packet asks for


def _stanza(folder: Path, name: str, hmac: Hash = Hash.SHA256, mode: Mode = Mode.CBC) -> Stanza:
    """A pair as `knockgate key new` makes it; of the legacy mode a passphrase, as its clients have."""
    file = folder / f"{name}.secrets"
    made = knockgate("key", "new", "--fwknop", name, "--hmac", hmac.value, "-o", str(file))
    assert made.returncode == 0, made.stderr
    if mode is Mode.LEGACY:
        key, rest = file.read_text().split("HMAC_KEY", 1)
        file.write_text(f"KEY: {key.split()[-1][:12].replace('/', 'x')}\nHMAC_KEY{rest}")
    return Stanza(file, hmac, mode)


def _without_hmac(stanza: Stanza) -> Stanza:
    lines = stanza.secrets.read_text().splitlines(keepends=True)
    stanza.secrets.write_text("".join(line for line in lines if not line.startswith("HMAC_")))
    return stanza


def _words(stanza: Stanza, port: int) -> list[str]:
    how = ["--hmac-digest-type", stanza.hmac.value.upper(), "-M", stanza.mode.value]
    return ["knock", "10.9.9.1", "--fwknop", "--secrets", str(stanza.secrets), "-A", f"tcp/{port}", *how]


@pytest.mark.parametrize(
    "all_at_once", [False, pytest.param(True, marks=pytest.mark.long)], ids=["each mode", "all"]
)
@isolated
def test_fwknopd_opens_for_every_digest_hmac_and_mode_with_and_without_a_time(
    all_at_once: bool, tmp_path: Path
) -> None:
    """Each mode with each digest and with each HMAC; in the long run all three with each other."""
    host = Host()
    stanzas = [_stanza(tmp_path, f"{hmac.value}-{mode.value}", hmac, mode) for hmac in Hash for mode in Mode]
    stanzas += [_without_hmac(_stanza(tmp_path, f"none-{mode.value}", mode=mode)) for mode in Mode]
    asked: dict[int, int] = {}
    opened: dict[int, tuple[str, int]] = {}
    with Fwknopd(tmp_path, "near", stanzas) as daemon:
        began = int(time.clock_gettime(time.CLOCK_REALTIME))
        for of_digest, digest in enumerate(Hash):
            for number, stanza in enumerate(stanzas):
                of_hmac, of_mode = divmod(number, len(Mode))
                if not all_at_once and (of_hmac + of_mode) % len(Hash) != of_digest:
                    continue
                port = 10_000 + len(asked)
                # Of one digest's packets every other one asks for a time, and of the next one's the others.
                timed = (port + of_digest) % 2 == 0
                lease = ["-f", str(_SHORT)] if timed else []
                with host.client:
                    sent = knockgate(*_words(stanza, port), "-m", digest.value, *lease)
                assert sent.returncode == 0, sent.stderr
                asked[port] = _SHORT if timed else WINDOW
                if len(asked) % 4 == 0:  # it loses packets where more of them wait
                    daemon.until_added(len(asked))
            daemon.until_added(len(asked))
            opened |= daemon.taken()
        took = int(time.clock_gettime(time.CLOCK_REALTIME)) - began + 1
    assert len(asked) == 8 * 6 * (7 if all_at_once else 1)
    assert set(opened) == set(asked)
    for port, (source, end) in opened.items():
        assert source == "10.9.9.2"
        assert 0 <= end - (began + asked[port]) <= took, f"{port}: {end - began}"
    assert set(asked.values()) == {_SHORT, WINDOW}


@isolated
def test_a_door_of_fwknopd_opens_for_a_pair_of_ours_and_for_no_other(tmp_path: Path) -> None:
    host = Host()
    ours = _stanza(tmp_path, "ours")
    key, hmac_key = (line for line in ours.secrets.read_text().splitlines() if not line.startswith("#"))
    strange = _stanza(tmp_path, "strange").secrets.read_text().splitlines()
    wrong = {"no-key": [strange[-2], hmac_key], "no-hmac": [key, strange[-1]]}
    with Fwknopd(tmp_path, "near", [ours]) as daemon, socket.create_server(("10.9.9.1", 6500)):
        for name, lines in wrong.items():
            file = tmp_path / name
            file.write_text("\n".join(lines))
            file.chmod(0o600)
            with host.client:
                words = _words(Stanza(file, Hash.SHA256), 6500)
                shut = knockgate(*words, "--wait", "6500", "--timeout", "0.4")
            assert shut.returncode == 1, shut.stdout
            assert "tcp/6500 is still filtered" in shut.stdout
        assert daemon.opened() == {}
        with host.client:
            # The same door, from the same place, asked for in the same way.
            opened = knockgate(*_words(ours, 6500), "--wait", "6500", "--json")
        assert opened.returncode == 0, daemon.log()
        facts = json.loads(opened.stdout)
        assert (facts["wait"]["before"], facts["wait"]["open"]) == ("filtered", True)
        assert daemon.opened()[6500][0] == facts["packet"]["allow"] == "10.9.9.2"
        # Both wrong ones came: they were looked at, one failed at its HMAC and one after it.
        log = daemon.log()
    assert "HMAC_COMPAREFAIL" in log and "Decryption failed" in log, log
