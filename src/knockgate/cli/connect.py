"""``knockgate connect``: ssh's ProxyCommand, which knocks where the port does not answer."""

from __future__ import annotations

import difflib
import socket
from dataclasses import replace
from typing import Any

import click

from knockgate.cli.knock import attempt_of, complete_profile
from knockgate.cli.knocking.plan import planned
from knockgate.cli.page import Page
from knockgate.cli.terminal import say
from knockgate.cli.word import Word, seconds
from knockgate.client import profiles, send, spellings
from knockgate.client.carry import carry
from knockgate.client.profiles import Profile, SealedProfile
from knockgate.client.wait import State, connected
from knockgate.errors import ConfigError
from knockgate.model import Port

__all__ = ["connect", "named"]

_PATIENCE = 10.0
"""Seconds. More than `knock --wait` has: whoever types ssh would only type it again."""


@click.command(cls=Page)
@click.argument("host", metavar="HOST", shell_complete=complete_profile)
@click.argument("port", metavar="PORT", type=Word("PORT", spellings.door))
@click.option(
    "--profile",
    "name",
    metavar="NAME",
    shell_complete=complete_profile,
    help="Knock as this profile says (default: the one of HOST).",
)
@click.option(
    "--ssh-host", metavar="NAME", help="Look for the keys of a sealed knock as `ssh NAME` does; of ssh's, %n."
)
@click.option(
    "--timeout",
    type=seconds(spellings.wait_time),
    help="How long to wait after the knock (default: 10s, or more if the profile says so).",
)
@click.option("-4", "ipv4", is_flag=True, help="Use IPv4 only.")
@click.option("-6", "ipv6", is_flag=True, help="Use IPv6 only.")
@click.option("--source", metavar="ADDRESS", help="Knock and connect from this address of the machine.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is done.")
def connect(
    host: str,
    *,
    port: Port,
    name: str | None,
    ssh_host: str | None,
    timeout: float | None,
    ipv4: bool,
    ipv6: bool,
    source: str | None,
    verbose: bool,
) -> int:
    """Connect to a TCP port for ssh, and knock first if it does not answer.

    For ssh_config, once for every host that has a profile:

        Host home.example
            ProxyCommand knockgate connect %h %p

    or, for a name that ssh alone knows:

        Host home
            HostName home.example
            ProxyCommand knockgate connect --ssh-host %n %h %p

    It tries the port for 0.3 s. If it answers, no knock is sent. If not, it knocks as `knockgate knock`
    does, tries the port until it opens, and then carries bytes between the connection and standard
    input and output. The first connection that opens is the one that is used. A port that refuses is
    knocked for as well: a firewall that rejects looks the same as a host where nothing listens.

    The profile is the one that is called HOST, or else the only one whose `host` is HOST. With --profile the
    knock goes to the `host` of that profile, and the connection to HOST, unless HOST is the profile's name.
    Its `wait` does not matter here. A sealed knock is signed with the keys that ssh would use for that
    `host`; with --ssh-host for NAME, which is in the profile as `ssh_host`.

    Says nothing on standard error unless it fails, or the knock has to warn or to ask, and shows the waiting
    on a terminal. Changes nothing on this machine but what a sealed knock keeps.

    Exit status: 0 the connection was carried to its end; 1 the port did not open in time, or the
    connection broke; 2 there was no knock, and a line on standard error says why.

    For example:

        ssh -o ProxyCommand='knockgate connect %h %p' home.example
        knockgate connect -v home 22 </dev/null
    """
    if ipv4 and ipv6:
        raise click.UsageError("-4 and -6 leave no address", click.get_current_context())
    given: dict[str, Any] = {"wait": port, "source": source}
    if ipv4 or ipv6:
        given["family"] = send.Family.AF_INET if ipv4 else send.Family.AF_INET6
    name = _profile_of(host) if name is None else named(name, "--profile")
    plan = planned(name, packet=False, given=given)
    if ssh_host and isinstance(plan, SealedProfile):
        plan = replace(plan, ssh_host=ssh_host)
    plan = replace(plan, timeout=max(plan.timeout, _PATIENCE) if timeout is None else timeout)
    connection = _Way(host, name, plan, port, verbose=verbose).connection()
    if connection is None:
        return 1
    with connection:
        try:
            carry(connection)
        except OSError as error:
            reason = error.strerror or str(error)
            say(f"the connection to {port} of {host} broke: {reason[0].lower()}{reason[1:]}")
            return 1
    return 0


class _Way:
    """From here to a port of a host: open already, or behind a knock."""

    def __init__(self, host: str, name: str, plan: Profile, port: Port, *, verbose: bool) -> None:
        at_gate = host == name or _same(host, plan.host)
        gate = send.resolve(plan.host, plan.family)
        # The knock lets in an address of one family, so the connection is to be of that one.
        family = send.Family.AF_INET6 if ":" in gate else send.Family.AF_INET
        self._plan, self._port = replace(plan, family=family), port
        self._elsewhere = None if at_gate else send.resolve(host, family)
        self._address = self._elsewhere or gate
        self._host, self._verbose = plan.host if at_gate else host, verbose

    def connection(self) -> socket.socket | None:
        """Try the port, and knock if need be; None where it stays shut, which is told then."""
        state, found = connected(self._address, self._port, source=self._plan.source)
        self._remark(f"{self._where()} is {state}")
        return found or self._behind(state)

    def _behind(self, before: State) -> socket.socket | None:
        attempt = attempt_of(self._plan)
        # Where a name has several addresses, the one that is knocked at.
        self._address = attempt.door_at = self._elsewhere or attempt.address
        attempt.carry_out(before=before, keep=True)
        if attempt.connection is not None:
            for line in attempt.text().splitlines():
                self._remark(line.strip())
        elif attempt.answer is not None:
            after = f"{attempt.answer.after:.1f} s after {attempt.what}"
            say(f"{self._where()} is still {attempt.answer.state}, {after}")
            attempt.explain(attempt.answer.state)
        return attempt.connection

    def _where(self) -> str:
        literal = self._host.strip("[]") == self._address
        return f"{self._port} of {self._address if literal else f'{self._host} ({self._address})'}"

    def _remark(self, text: str) -> None:
        if self._verbose:
            say(text)


# --- which profile ------------------------------------------------------------------------------------


def named(name: str, key: str) -> str:
    """The name itself; ConfigError about ``key`` where no profile has it."""
    path = profiles.default_path()
    known = profiles.load(path)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known) or 'none'}"
    raise ConfigError(f"no profile {name!r}", file=str(path), key=key, hint=hint)


def _profile_of(host: str) -> str:
    """The name of the profile for a host; ConfigError where there is none, or more than one."""
    path = profiles.default_path()
    known = profiles.load(path)
    if host in known:
        return host
    found = [name for name, each in known.items() if _same(host, each.host)]
    if len(found) == 1:
        return found[0]
    if found:
        hint = f"say which: --profile {found[0]}"
        raise ConfigError(f"several profiles are for {host}: {', '.join(found)}", file=str(path), hint=hint)
    hint = f"the gate's card makes one: knockgate trust NAME {host} CARD; another one: --profile NAME"
    raise ConfigError(f"no profile is called {host}, and none is for that host", file=str(path), hint=hint)


def _same(host: str, other: str) -> bool:
    # ssh gives names in small letters, and addresses without brackets.
    return host.strip("[]").casefold() == other.strip("[]").casefold()
