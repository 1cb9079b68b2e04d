"""What is told of a key is what the gate does: the words beside the mechanisms, over many configurations."""

from __future__ import annotations

import calendar
import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.knockgate.mechanisms.sealed_gate import CLIENT
from tests.knockgate.spa import sealed_signers as signers
from tests.knockgate.spa.sealed_messages import head

from knockgate.cli.keyrights import Rights, of_fwknop, of_line
from knockgate.config import doors, keys
from knockgate.daemon.bearers import bearers_of
from knockgate.daemon.origin import Origin
from knockgate.daemon.parties import parties_of
from knockgate.effects import ClaimToken, DatagramSeen, KnockRefused, OpenDoor, TokenSettled
from knockgate.errors import Reason
from knockgate.mechanisms.packet import Packets
from knockgate.mechanisms.parties import Asked, Grant, Line, granted
from knockgate.model import Claim, Moment, Port, Protocol
from knockgate.spa.fwknop import Message, MessageType, seal
from knockgate.spa.sshkeys import read

DOORS = """\
[doors.ssh]
ports = ["tcp/22"]
lease = "20s"
longest = "10m"
[doors.web]
ports = ["tcp/443"]
lease = "40s"
sealed.touch = true
[doors.cellar]
ports = ["tcp/25"]
lease = "2h"
"""
PORTS = {name: Port(Protocol.TCP, number) for name, number in (("ssh", 22), ("web", 443), ("cellar", 25))}
#: Monday, 09:30 in Berlin.
MONDAY = calendar.timegm((2026, 11, 23, 8, 30, 0))

_LIMITS = st.lists(
    st.sampled_from(
        [
            'hours = ["Mon-Fri 09:00-18:00"]\nhours_in = "Europe/Berlin"',
            'longest = "30s"',
            f"expires = {dt.datetime.fromtimestamp(MONDAY + 86400, dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
            "revoked = true",
        ]
    ),
    unique=True,
    max_size=3,
).map("\n".join)
_OPTIONS = st.lists(
    st.sampled_from(['doors="ssh,web"', 'max-lease="25s"', 'expiry-time="20261124Z"', "no-touch-required"]),
    unique=True,
).map(",".join)
_TIMES = st.sampled_from([-3600, 0, 3600, 9 * 3600, 15 * 3600 + 1800, 86400, 2 * 86400, 5 * 86400, 7 * 86400])


def told(rights: Rights) -> dict[str, float]:
    """The doors that it says are opened, with the most seconds."""
    return {} if rights.against else {each.door: each.most for each in rights.doors if not each.against}


@given(
    _LIMITS,
    _OPTIONS,
    _TIMES,
    st.sampled_from([signers.ED25519, signers.SK_ED25519]),
    st.lists(st.sampled_from(list(PORTS)), unique=True, min_size=1),
)
def test_of_a_line(limits: str, options: str, after: int, kind: int, names: list[str]) -> None:
    listed = ", ".join(f'"{each}"' for each in names)
    text = f'{DOORS}[keys.people]\nssh = "/x"\ndoors = [{listed}]\n{limits}\n'
    found = doors.parse(text)
    group = keys.parse_ssh(text, found)[0]
    lines = read(f"{options} {signers.line(kind)}".lstrip().encode(), ours=True, local=calendar.timegm)
    (entry,) = lines.keys
    now = float(MONDAY + after)
    said = of_line(found, group, "/x", entry, now)
    line = Line(parties_of(found, [group])["people"], "/x", entry)
    on_token = kind == signers.SK_ED25519
    happens = {}
    for name in PORTS:
        asked = Asked(head(doors=(name,), lease=60_000), CLIENT, touched=on_token, time=now)
        grant = granted(asked, [line])
        if isinstance(grant, Grant):
            happens[name] = grant.leases[0][1]
    assert said.opens is bool(happens)
    assert told(said).keys() == happens.keys()
    # What is told does not know yet what is left of the key's time.
    assert all(seconds <= told(said)[name] for name, seconds in happens.items())
    if not said.when:
        assert told(said) == happens


@pytest.mark.parametrize("after", [-3600, 0, 9 * 3600, 86400, 5 * 86400])
@pytest.mark.parametrize(
    "limits", ["", "revoked = true", 'hours = ["Mon 08:00-12:00"]\nhours_in = "UTC"', "expires = 2026-11-23"]
)
def test_of_a_pair_of_secrets(tmp_path: Path, limits: str, after: int) -> None:
    secrets, file = tmp_path / "alice", tmp_path / "gate.toml"
    secrets.write_text("KEY: correct horse battery\nHMAC_KEY: staple and something more\n")
    secrets.chmod(0o600)
    file.write_text(f'{DOORS}[keys.alice]\nfwknop = "{secrets}"\ndoors = ["ssh", "web"]\n{limits}\n')
    origin = Origin(str(file))
    found = origin.load()
    (key,), now = keys.load(file, found), MONDAY + after
    said, happens = of_fwknop(found, key, now), {}
    for name, port in PORTS.items():
        packets = Packets(bearers_of(origin, found), fresh=120)
        moment = Moment(now, True, 1000.0, "boot")
        message = Message(
            nonce="1234567890123456",
            username="al",
            issued=now,
            type=MessageType.CLIENT_TIMEOUT_ACCESS,
            address=CLIENT,
            ports=(port,),
            timeout=60_000,
        )
        (claim,) = packets.feed(DatagramSeen(seal(message, key.secret, salt=bytes(8)), CLIENT, moment))
        assert isinstance(claim, ClaimToken)
        (effect,) = packets.feed(TokenSettled(claim.token, Claim.CLAIMED, moment))
        if isinstance(effect, OpenDoor):
            happens[name] = effect.seconds
        else:
            assert isinstance(effect, KnockRefused)
            assert (effect.reason is Reason.PORT_DENIED) is (name == "cellar" and not said.against)
    assert told(said).keys() == happens.keys() and said.opens is bool(happens)
    assert limits.startswith("hours") or told(said) == happens


def test_a_week_of_hours_beside_the_mechanism() -> None:
    """The control of the above: both outcomes are there, and change where they must."""
    text = f'{DOORS}[keys.people]\nssh = "/x"\ndoors = ["ssh"]\nhours = ["Mon-Fri 09:00-18:00"]\n'
    text += 'hours_in = "Europe/Berlin"\n'
    found = doors.parse(text)
    (group,) = keys.parse_ssh(text, found)
    (entry,) = read(signers.line(signers.ED25519).encode(), ours=True, local=calendar.timegm).keys
    start = MONDAY - 9 * 3600 - 1800
    opened = [of_line(found, group, "/x", entry, start + minute * 60).opens for minute in range(7 * 1440)]
    assert sum(opened) == 5 * 9 * 60
    assert [opened[at] for at in (539, 540, 1079, 1080)] == [False, True, True, False]
