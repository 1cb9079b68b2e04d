"""``knockgate knock``: the client's one verb."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

import click

from knockgate.cli.knocking.attempt import Attempt
from knockgate.cli.knocking.options import KnockPage, packet_options
from knockgate.cli.knocking.plan import planned, steps_or_names
from knockgate.cli.knocking.sequence import SequenceAttempt
from knockgate.cli.terminal import complain, say, tell
from knockgate.cli.word import Word, seconds
from knockgate.client import profiles, send, spellings
from knockgate.client.profiles import PacketProfile, Profile, SealedProfile, SequenceProfile
from knockgate.client.ssh_settings import KNOCKING
from knockgate.errors import KnockgateError

__all__ = ["attempt_of", "complete_profile", "knock"]


def complete_profile(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """The names of profiles that begin like this, for a shell."""
    with contextlib.suppress(KnockgateError):
        return [name for name in profiles.load(profiles.default_path()) if name.startswith(incomplete)]
    return []


@click.command(cls=KnockPage)
@click.argument(
    "host",
    metavar="(PROFILE... | HOST STEP... | HOST --card FILE | HOST --fwknop)",
    required=False,
    shell_complete=complete_profile,
)
@click.argument("words", metavar="", nargs=-1, shell_complete=complete_profile)
@click.option(
    "--wait", metavar="PORT", type=Word("PORT", spellings.door), help="Then wait until this TCP port answers."
)
@click.option(
    "--timeout", type=seconds(spellings.wait_time), help="How long --wait waits at most (default: 5s)."
)
@click.option(
    "--delay", type=seconds(spellings.delay_time), help="From one step to the next (default: 50ms)."
)
@click.option("-4", "ipv4", is_flag=True, help="Use IPv4 only.")
@click.option("-6", "ipv6", is_flag=True, help="Use IPv6 only.")
@click.option("--source", metavar="ADDRESS", help="Knock from this address of the machine.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--list", "listing", is_flag=True, help="List the profiles.")
@packet_options
def knock(
    host: str | None,
    words: tuple[str, ...],
    *,
    listing: bool,
    dry_run: bool,
    as_json: bool,
    ipv4: bool,
    ipv6: bool,
    packet: bool,
    **given: Any,  # noqa: ANN401 - the fields of a Profile
) -> int:
    """Knock at a host and, if asked, wait until its door answers.

    The knock is a sequence, one packet for each STEP; or one packet of our own, sealed to the gate and
    signed with your SSH key; or one encrypted packet of fwknop's. A PROFILE says which. All of it goes to
    one address: HOST is resolved once. With several PROFILEs there is one knock after the other. Needs no
    rights; changes nothing on this machine but what a sealed knock keeps.

    A TCP step is a single SYN of a connection that is dropped at once, a UDP step is a datagram with one
    zero byte. STEP is 7000, tcp/7000, 7000/tcp or, as knockd writes it, 7000:tcp; the same with udp. Without
    the protocol it is TCP. HOST is a name or an address: 192.0.2.7, ::1, [::1] or fe80::1%eth0.

    With --wait the door is tried with short probes, the first as soon as nothing can overtake the last
    knock. The time it reports counts from the moment the last knock left. It also tries the door once
    before the knock, for at most 0.3 s, so that an open door is not taken for the knock's work.

    A PROFILE is a name in ~/.config/knockgate/profiles.toml; options given here come before its own:

        [profiles.home]
        host = "home.example"
        card = "~/.config/knockgate/cards/home"  # `knockgate trust` writes this profile
        doors = ["ssh"]                          # and, if you like,
        wait = "tcp/22"                          # timeout = "5s"     family = 4
        allow = "route"                          # "observed", "198.51.100.7", "2001:db8:1:2::/64",
                                                 # "https://ip.example/"
        identity = "~/.ssh/id_ed25519"           # lease = "1h"       small = true
                                                 # ssh_host = "home", as ssh_config calls it
                                                 # port = "udp/62202" source = "192.0.2.8"
        [profiles.cabin]
        host = "cabin.example"
        steps = ["7000", "udp/8000", "9000"]     # delay = "50ms"     wait, timeout, family, source
        [profiles.office]
        host = "office.example"
        fwknop = "~/office.secrets"              # made by `knockgate key new`
        access = ["tcp/22"]                      # and, if you like,
        username = "jo"                          # hmac = "sha256"    digest = "sha256"
        offset = "-2m"                           # mode = "cbc"       port = "udp/62201"
                                                 # allow, lease, wait, timeout, family, source

    A sealed knock is signed with the keys that ssh would use for HOST: those of the agent, then files, as
    ssh_config says. With --wait the next key is tried while the door stays shut; first those that need
    nobody, at most 6, then those that ask for a passphrase or a touch, if there is a terminal. Without
    --wait only the first one is. Its date goes into ~/.local/state/knockgate/device.json before it is sent.

    Both packets say whom to let in: by default this machine's address on the way to HOST. Behind NAT the
    host sees another one: -R URL asks a web page that answers with it, and -s leaves it to the host, where
    whoever intercepts the packet can have himself let in. Both are dated. A sealed one is taken by a gate
    that does not know the time, too; of the others, the clocks must agree to a minute, or two with fwknop.

    The secrets of fwknop's packet come from the file that --secrets or the profile names, of mode 0600;
    without one from KNOCKGATE_KEY_BASE64 and KNOCKGATE_HMAC_KEY_BASE64 (or KNOCKGATE_KEY and
    KNOCKGATE_HMAC_KEY, as they are) in the environment; and without those they are asked for, if there is
    a terminal.

    Exit status: 0 the knock was sent and, with --wait, the door is open; 1 it did not open in time;
    2 the knock could not be sent, or with --dry-run could not be. A knock is not answered, so without
    --wait 0 says no more than that.

    For example:

        knockgate knock home
        knockgate knock home office --wait tcp/22
        knockgate knock home.example --card ~/home.card --door ssh --wait tcp/22 && ssh home.example
        knockgate knock home.example 7000 udp/8000 9000 --wait tcp/22
        knockgate knock home.example --fwknop -A tcp/22 --secrets ~/home.secrets --wait tcp/22
    """
    if os.environ.get(KNOCKING):
        return 0  # a knock on its way asks ssh for its keys, and `Match exec` in ssh's file asks for this one
    if listing:
        return _list(as_json=as_json)
    if ipv4 and ipv6:
        raise click.UsageError("-4 and -6 leave no address", click.get_current_context())
    if ipv4 or ipv6:
        given["family"] = send.Family.AF_INET if ipv4 else send.Family.AF_INET6
    given["steps"], names = steps_or_names(host, words)
    plans = [planned(name, packet=packet, given=given) for name in (host, *names)]
    if len(plans) == 1:
        return _Command(dry_run=dry_run, as_json=as_json).knock(plans[0])
    return _Command(dry_run=dry_run, as_json=as_json).knock_all(plans)


class _Command:
    """One command line's way of knocking and telling."""

    def __init__(self, *, dry_run: bool, as_json: bool) -> None:
        self._dry_run, self._as_json = dry_run, as_json

    def knock(self, plan: Profile) -> int:
        """Knock and tell; returns the exit status."""
        facts, status = self._knocked(plan)
        if self._as_json:
            (click.echo if self._dry_run else tell)(json.dumps(facts))
        return status

    def knock_all(self, plans: list[Profile]) -> int:
        """Knock one after the other, also after one that could not be sent; returns the worst exit status."""
        knocks, statuses = [], []
        for plan in plans:
            try:
                facts, status = self._knocked(plan)
            except KnockgateError as error:
                facts, status = {"host": plan.host, "sent": False, "error": str(error)}, complain(error)
            knocks.append(facts)
            statuses.append(status)
        if self._as_json:
            (click.echo if self._dry_run else tell)(json.dumps({"knocks": knocks}))
        return max(statuses)

    def _knocked(self, plan: Profile) -> tuple[dict[str, object], int]:
        attempt = attempt_of(plan)
        if not self._dry_run:
            attempt.carry_out()
        if not self._as_json:
            (tell if attempt.sent else click.echo)(attempt.text())
        facts = attempt.facts() if self._as_json else {}
        if self._dry_run and (error := attempt.obstacle()):
            return facts | {"error": str(error)}, complain(error)
        if attempt.answer is None or attempt.answer.state == "open":
            return facts, 0
        attempt.explain(attempt.answer.state)
        return facts, 1


def attempt_of(plan: Profile) -> Attempt:
    """The knock that a profile stands for."""
    if isinstance(plan, PacketProfile):
        from knockgate.cli.knocking.packet import PacketAttempt  # noqa: PLC0415 - see cli

        return PacketAttempt(plan)
    if isinstance(plan, SealedProfile):
        from knockgate.cli.knocking.sealed import SealedAttempt  # noqa: PLC0415 - see cli

        return SealedAttempt(plan)
    assert isinstance(plan, SequenceProfile), "there are three kinds"  # noqa: S101
    return SequenceAttempt(plan)


def _list(*, as_json: bool) -> int:
    path = profiles.default_path()
    known = profiles.load(path)
    if as_json:
        kinds = {SealedProfile: "sealed", PacketProfile: "packet", SequenceProfile: "sequence"}
        facts = {name: {"host": each.host, "kind": kinds[type(each)]} for name, each in known.items()}
        click.echo(json.dumps(facts))
        return 0
    for name, each in known.items():
        click.echo(f"{name}: {each.host}, {_kind(each)}" + (f", {each.wait}" if each.wait else ""))
    if not known:
        say(f"there is no profile in {path}")
    return 0


def _kind(profile: Profile) -> str:
    # Not the steps: whoever looks over the shoulder would have them.
    if isinstance(profile, SequenceProfile):
        return "1 step" if len(profile.steps) == 1 else f"{len(profile.steps)} steps"
    return (
        f"a sealed knock for {', '.join(profile.doors)}" if isinstance(profile, SealedProfile) else "a packet"
    )
