"""What the words of a command line, and a profile, come to."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from knockgate.cli.knocking.options import FwknopOption
from knockgate.client import profiles, send
from knockgate.client.allow import Whoever, is_plain
from knockgate.client.profiles import PacketProfile, Profile, SequenceProfile
from knockgate.errors import ConfigError

__all__ = ["planned"]


def planned(host: str | None, *, packet: bool, given: dict[str, Any]) -> Profile:
    """The profile to knock by. ``given`` are options as click has them, ``packet`` is ``--fwknop``.

    Raises ConfigError, and click's UsageError where words contradict each other.
    """
    context = click.get_current_context()
    if host is None:
        raise click.UsageError("there is no HOST and no PROFILE", context)
    asked = _asked(
        {name: value for name, value in given.items() if value not in (None, ()) and value is not False}
    )
    if packet and "steps" in asked:
        raise click.UsageError("there are steps, and --fwknop: a knock is one or the other", context)
    if packet:
        if "delay" in asked:
            raise _without_steps()
        if "access" not in asked:
            raise ConfigError("no port is asked for", key="--fwknop", hint="-A tcp/22")
        plan: Profile = PacketProfile(host=host, **{"fwknop": None} | asked)
    elif "steps" in asked:
        _refuse_fwknop("goes with --fwknop, and there are steps")
        plan = SequenceProfile(host=host, **asked)
    else:
        plan = _changed(_profile(host), asked)
    if isinstance(plan, PacketProfile):
        plan = _complete(plan)
    if plan.source and plan.family == send.Family.AF_UNSPEC:
        # A name with both kinds of address: take the kind that can be reached from there.
        plan = replace(plan, family=send.Family.AF_INET6 if ":" in plan.source else send.Family.AF_INET)
    return plan


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of a profile; fwknop has several words for some of them."""
    whom = {"-a": given.pop("allow", None), "-s": given.pop("observed", None), "-R": given.pop("url", None)}
    named = [name for name, value in whom.items() if value is not None]
    if len(named) > 1:
        both = f"{named[0]} and {named[1]} each say whom to let in"
        raise click.UsageError(both, click.get_current_context())
    if named:
        given["allow"] = Whoever.OBSERVED if named == ["-s"] else whom[named[0]]
    if "plus" in given or "minus" in given:
        given["offset"] = given.pop("plus", 0.0) - given.pop("minus", 0.0)
    if "fwknop" in given:
        if not given["fwknop"]:
            raise click.UsageError("the name of the secrets is empty", click.get_current_context())
        given["fwknop"] = Path(given["fwknop"])
    return given


def _changed(profile: Profile, asked: dict[str, Any]) -> Profile:
    if isinstance(profile, SequenceProfile):
        _refuse_fwknop("is about packets, and the profile has steps")
    elif "delay" in asked:
        raise _without_steps()
    return replace(profile, **asked)


def _without_steps() -> ConfigError:
    return ConfigError(
        "is from step to step, and this knock is a packet", key="--delay", hint="leave it away"
    )


def _complete(plan: PacketProfile) -> PacketProfile:
    from knockgate.client.request import login_name  # noqa: PLC0415 - see cli

    if is_plain(plan.allow) and not plan.resolve_http:
        hint = "use https, or add --resolve-http: anybody on the way can change who is let in"
        raise ConfigError("is a URL without TLS", key="-R", hint=hint)
    return replace(plan, username=plan.username or login_name())


def _refuse_fwknop(why: str) -> None:
    """Raise ConfigError where there is an option about packets."""
    if option := _of_fwknop():
        raise ConfigError(why, key=option, hint="leave it away")


def _of_fwknop() -> str | None:
    """The first option about packets on the command line."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and isinstance(parameter, FwknopOption):
            return parameter.opts[0]
    return None


def _profile(name: str) -> Profile:
    path = profiles.default_path()
    known = profiles.load(path)
    if name in known:
        return known[name]
    if _of_fwknop():
        raise ConfigError(f"no profile {name!r}", file=str(path), hint="for a packet to a HOST: --fwknop")
    if not known:
        hint = f"give the steps: knockgate knock {name} 7000 8000 9000"
        raise ConfigError(f"no steps, and no profile {name!r}, nor any other", file=str(path), hint=hint)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
    raise ConfigError(f"no steps, and no profile {name!r}", file=str(path), hint=hint)
