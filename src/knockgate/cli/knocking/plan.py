"""What the words of a command line, and a profile, come to."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from knockgate.cli.knocking.options import FwknopOption, PacketOption, SealedOption
from knockgate.client import profiles, send, spellings
from knockgate.client.allow import Network, Whoever, is_plain
from knockgate.client.profiles import (
    OnePacketProfile,
    PacketProfile,
    Profile,
    SealedProfile,
    SequenceProfile,
)
from knockgate.config.toml import Reader, Wrong
from knockgate.errors import ConfigError
from knockgate.model import Port

__all__ = ["planned", "steps_or_names"]


#: What nobody means for a step.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def steps_or_names(first: str | None, words: Sequence[str]) -> tuple[tuple[Port, ...], tuple[str, ...]]:
    """The words behind the first one: steps; or names of profiles, as the first one, where one is no step.

    Raises ConfigError.
    """
    try:
        return tuple(spellings.step.read(word) for word in words), ()
    except Wrong as wrong:
        known: Sequence[str] = ()
        with contextlib.suppress(ConfigError):
            known = list(profiles.load(profiles.default_path()))
        others = [word for word in words if word not in known]
        if first in known and not others:
            return (), tuple(words)
        if first in known and (len(others) < len(words) or _NAME.fullmatch(others[0])):
            near = difflib.get_close_matches(others[0], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
            raise ConfigError(f"no profile {others[0]!r}", hint=hint) from None
        raise ConfigError(wrong.message, key="STEP", hint=wrong.hint) from None


def planned(host: str | None, *, packet: bool, given: dict[str, Any]) -> Profile:
    """The profile to knock by. ``given`` are options as click has them, ``packet`` is ``--fwknop``.

    Raises ConfigError, and click's UsageError where words contradict each other.
    """
    if host is None:
        raise _misused("there is no HOST and no PROFILE")
    asked = _asked(
        {name: value for name, value in given.items() if value not in (None, ()) and value is not False}
    )
    plan = _of_words(host, asked, packet=packet) or replace(_profile(host), **asked)
    if isinstance(plan, OnePacketProfile):
        plan = _complete(plan)
    if plan.source and plan.family == send.Family.AF_UNSPEC:
        # A name with both kinds of address: take the kind that can be reached from there.
        plan = replace(plan, family=send.Family.AF_INET6 if ":" in plan.source else send.Family.AF_INET)
    return plan


def _of_words(host: str, asked: dict[str, Any], *, packet: bool) -> Profile | None:
    """What the words say by themselves; None where they name a profile."""
    ways = {"steps": "steps" in asked, "--fwknop": packet, "a card": "card" in asked}
    named = [way for way, is_there in ways.items() if is_there]
    if len(named) > 1:
        there = "there are steps" if named[0] == "steps" else f"there is {named[0]}"
        raise _misused(f"{there}, and {named[1]}: a knock is one or the other")
    if not named:
        return None
    if packet:
        _check_options(PacketProfile)
        if "access" not in asked:
            raise ConfigError("no port is asked for", key="--fwknop", hint="-A tcp/22")
        return PacketProfile(host=host, **{"fwknop": None} | asked)
    if "card" in asked:
        _check_options(SealedProfile)
        return SealedProfile(host=host, **{"doors": ("ssh",)} | asked)
    if option := _option((FwknopOption, PacketOption)):
        raise ConfigError("goes with --fwknop, and there are steps", key=option, hint="leave it away")
    _check_options(SequenceProfile)
    return SequenceProfile(host=host, **asked)


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of a profile; for some of them there are several words."""
    whom = {"-a": given.pop("allow", None), "-s": given.pop("observed", None), "-R": given.pop("url", None)}
    named = [name for name, value in whom.items() if value is not None]
    if len(named) > 1:
        raise _misused(f"{named[0]} and {named[1]} each say whom to let in")
    if named:
        given["allow"] = Whoever.OBSERVED if named == ["-s"] else whom[named[0]]
    if "plus" in given or "minus" in given:
        given["offset"] = given.pop("plus", 0.0) - given.pop("minus", 0.0)
    for name, what in (("fwknop", "secrets"), ("card", "card"), ("identity", "SSH key")):
        if name in given:
            if not given[name]:
                raise _misused(f"the name of the {what} is empty")
            given[name] = Path(given[name])
    if "door" in given:
        given["doors"] = _read(spellings.sealed_doors, list(given.pop("door")), "--door")
    return given


def _read(reader: Reader, value: object, option: str) -> Any:  # noqa: ANN401 - a field
    try:
        return reader.read(value)
    except Wrong as wrong:
        raise ConfigError(wrong.message, key=option, hint=wrong.hint) from None


# What an option is about, and what is said where the knock is another one.
_FOREIGN: dict[type[Profile], tuple[tuple[type[click.Option], str], ...]] = {
    SequenceProfile: (
        (SealedOption, "is about sealed knocks, and the profile has steps"),
        (PacketOption, "is about packets, and the profile has steps"),
    ),
    PacketProfile: ((SealedOption, "is about sealed knocks, and this one is a packet of fwknop's"),),
    SealedProfile: ((FwknopOption, "is about fwknop's packets, and this knock is a sealed one"),),
}


def _check_options(kind: type[Profile]) -> None:
    """Raise ConfigError where there is an option that this kind of knock does not have."""
    for option_kind, why in _FOREIGN[kind]:
        if option := _option((option_kind,)):
            raise ConfigError(why, key=option, hint="leave it away")
    if kind is not SequenceProfile and _is_given("delay"):
        message = "is from step to step, and this knock is a packet"
        raise ConfigError(message, key="--delay", hint="leave it away")


def _complete(plan: OnePacketProfile) -> Profile:
    if is_plain(plan.allow) and not plan.resolve_http:
        hint = "use https, or add --resolve-http: anybody on the way can change who is let in"
        raise ConfigError("is a URL without TLS", key="-R", hint=hint)
    if not isinstance(plan, PacketProfile):
        return plan
    from knockgate.client.request import login_name  # noqa: PLC0415 - see cli

    if isinstance(plan.allow, Network):
        hint = "one address; a sealed knock can name an IPv6 /64"
        raise ConfigError("a packet of fwknop's lets in no network", key="-a", hint=hint)
    if plan.lease is not None:
        _read(spellings.lease_time, plan.lease, "-f")
    return replace(plan, username=plan.username or login_name())


def _option(kinds: tuple[type[click.Option], ...]) -> str | None:
    """The first option of these kinds on the command line."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if isinstance(parameter, kinds) and _is_given(parameter.name or ""):
            return parameter.opts[0]
    return None


def _is_given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def _misused(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context())


def _profile(name: str) -> Profile:
    """The one of that name, if it can have the options that were given; raises ConfigError."""
    path = profiles.default_path()
    known = profiles.load(path)
    if name in known:
        _check_options(type(known[name]))
        return known[name]
    if _option((PacketOption,)):
        hint = "for a sealed knock at a HOST: --card FILE; for a packet of fwknop's: --fwknop"
        raise ConfigError(f"no profile {name!r}", file=str(path), hint=hint)
    if not known:
        hint = f"make one: knockgate trust NAME {name} CARD; or the steps: knockgate knock {name} 7000 8000"
        raise ConfigError(f"no steps, and no profile {name!r}, nor any other", file=str(path), hint=hint)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
    raise ConfigError(f"no steps, and no profile {name!r}", file=str(path), hint=hint)
