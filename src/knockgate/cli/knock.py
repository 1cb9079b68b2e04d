"""``knockgate knock``: the client's one verb."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click

from knockgate.cli.knocking.attempt import Attempt
from knockgate.cli.knocking.options import KnockPage, fwknop_options
from knockgate.cli.knocking.plan import planned
from knockgate.cli.knocking.sequence import SequenceAttempt
from knockgate.cli.terminal import say, tell
from knockgate.cli.words import Word, seconds
from knockgate.client import profiles, send, spellings
from knockgate.client.profiles import PacketProfile, Profile, SequenceProfile
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
    metavar="(PROFILE | HOST STEP... | HOST --fwknop)",
    required=False,
    shell_complete=complete_profile,
)
@click.argument("steps", metavar="", nargs=-1, type=Word("STEP", spellings.step))
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
@fwknop_options
def knock(
    host: str | None,
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

    The knock is a sequence, one packet for each STEP, or one encrypted packet of fwknop's; a PROFILE says
    which. All of it goes to one address: HOST is resolved once. Needs no rights, and changes nothing on
    this machine.

    A TCP step is a single SYN of a connection that is dropped at once, a UDP step is a datagram with one
    zero byte. STEP is 7000, tcp/7000, 7000/tcp or, as knockd writes it, 7000:tcp; the same with udp. Without
    the protocol it is TCP. HOST is a name or an address: 192.0.2.7, ::1, [::1] or fe80::1%eth0.

    With --wait the door is tried with short probes, the first as soon as nothing can overtake the last
    knock. The time it reports counts from the moment the last knock left. It also tries the door once
    before the knock, for at most 0.3 s, so that an open door is not taken for the knock's work.

    A PROFILE is a name in ~/.config/knockgate/profiles.toml; options given here come before its own:

        [profiles.home]
        host = "home.example"
        steps = ["7000", "udp/8000", "9000"]     # and, if you like,
        wait = "tcp/22"                          # timeout = "5s"     delay = "50ms"
                                                 # family = 4         source = "192.0.2.8"
        [profiles.office]
        host = "office.example"
        fwknop = "~/office.secrets"              # made by `knockgate key new`
        access = ["tcp/22"]                      # and, if you like,
        allow = "route"                          # "observed", "198.51.100.7", "https://ip.example/"
        lease = "1h"                             # port = "udp/62201"
        username = "jo"                          # hmac = "sha256"    digest = "sha256"
        offset = "-2m"                           # mode = "cbc"       wait, timeout, family, source

    A packet asks for ports and says whom to let in: by default this machine's address on the way to HOST.
    Behind NAT the host sees another one: -R URL asks a web page that answers with it, and -s leaves it to
    the host, where whoever intercepts the packet can have himself let in. It is dated, so the clocks of
    both must agree to two minutes.

    Its secrets come from the file that --secrets or the profile names, of mode 0600; without one from
    KNOCKGATE_KEY_BASE64 and KNOCKGATE_HMAC_KEY_BASE64 (or KNOCKGATE_KEY and KNOCKGATE_HMAC_KEY, as they are)
    in the environment; and without those they are asked for, if there is a terminal.

    Exit status: 0 the knock was sent and, with --wait, the door is open; 1 it did not open in time;
    2 the knock could not be sent. A knock is not answered, so without --wait 0 says no more than that.

    For example:

        knockgate knock home.example 7000 udp/8000 9000
        knockgate knock home.example 7000 udp/8000 9000 --wait tcp/22 && ssh home.example
        knockgate knock home.example --fwknop -A tcp/22 --secrets ~/home.secrets --wait tcp/22
        knockgate knock home
    """
    if listing:
        return _list(as_json=as_json)
    if ipv4 and ipv6:
        raise click.UsageError("-4 and -6 leave no address", click.get_current_context())
    if ipv4 or ipv6:
        given["family"] = send.Family.AF_INET if ipv4 else send.Family.AF_INET6
    attempt = attempt_of(planned(host, packet=packet, given=given))
    if not dry_run:
        attempt.carry_out()
    (tell if attempt.sent else click.echo)(json.dumps(attempt.facts()) if as_json else attempt.text())
    if attempt.answer is None or attempt.answer.state == "open":
        return 0
    attempt.explain(attempt.answer.state)
    return 1


def attempt_of(plan: Profile) -> Attempt:
    """The knock that a profile stands for."""
    if isinstance(plan, PacketProfile):
        from knockgate.cli.knocking.packet import PacketAttempt  # noqa: PLC0415 - see cli

        return PacketAttempt(plan)
    assert isinstance(plan, SequenceProfile), "there are two kinds"  # noqa: S101
    return SequenceAttempt(plan)


def _list(*, as_json: bool) -> int:
    path = profiles.default_path()
    known = profiles.load(path)
    if as_json:
        kinds = {True: "packet", False: "sequence"}
        facts = {
            name: {"host": each.host, "kind": kinds[isinstance(each, PacketProfile)]}
            for name, each in known.items()
        }
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
    return "a packet"
