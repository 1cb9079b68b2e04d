"""Who listens behind the doors, and where without one; and what containers publish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from knockgate.config.doors import Configuration
from knockgate.config.toml import several
from knockgate.doctor.finding import Finding, Kind, Topic, blind, fine, found
from knockgate.doctor.host import Host, running_programs, setting
from knockgate.doctor.listening import Listener
from knockgate.doctor.surroundings import is_here, on_listeners
from knockgate.errors import Unavailable
from knockgate.firewall.redirects import Redirect
from knockgate.model import Port, address_text

__all__ = ["examine", "examine_containers", "judge", "judge_published"]

#: Ports that are told one by one.
_TOLD = 12
#: What passes a published port on by itself, beside the rules or without any.
_PROXIES = {"docker-proxy", "rootlessport", "slirp4netns", "pasta", "pasta.avx2", "conmon"}


def examine(host: Host) -> Iterator[Finding]:
    """Listeners, against the doors."""
    sent_on: set[Port] | None
    try:
        sent_on = {
            Port(each.protocol, number) for each in host.rules.redirects for number in each.ports if number
        }
    except Unavailable:
        sent_on = None
    yield from judge(host.configuration, host.listeners, sent_on)


def judge(
    configuration: Configuration | None, listeners: Sequence[Listener], sent_on: set[Port] | None
) -> Iterator[Finding]:
    """``sent_on``: ports that rules send on, so nobody needs to listen there; None: that is not known."""
    outside = {each.port for each in listeners if not each.is_local}
    inside = {each.port for each in listeners} - outside
    told = list(_on_doors(configuration, outside, inside, sent_on)) if configuration else []
    yield from told
    shut = set(_shut(configuration)) if configuration else set()
    free = sorted(outside - shut)
    if free:
        fix = "name them in a door's ports, or have them listen on 127.0.0.1, where nobody needs them"
        yield found(Kind.UNGUARDED, f"no door guards {several(free, _TOLD)}", fix)
    elif not told:
        yield fine(Topic.PORTS, "whatever listens is behind a door, and behind each door something listens")


def _shut(configuration: Configuration) -> Iterator[Port]:
    """The ports at which the table keeps strangers out: doors, and where knocks arrive."""
    yield from configuration.quiet_ports()
    for door in configuration.doors:
        yield from door.ports
    for door in configuration.kernel_doors():
        yield from door.sequence.steps if door.sequence else ()


def _on_doors(
    configuration: Configuration, outside: set[Port], inside: set[Port], sent_on: set[Port] | None
) -> Iterator[Finding]:
    for door in configuration.doors:
        for port in door.ports:
            if port in outside or (sent_on and port in sent_on):
                continue
            if port in inside:
                fix = f"have it listen on an address of this host, or take {port} out of door {door.name}"
                seen = f"door {door.name}: what listens on {port} does so on a loopback address alone"
                yield found(Kind.LISTENS_LOCALLY, seen, fix)
            elif sent_on is None:
                seen = f"what is behind {port} of door {door.name}: nobody listens, and rules cannot be read"
                yield blind(Topic.PORTS, seen, "run it as root")
            else:
                fix = f"start its service; or take {port} out of door {door.name}"
                yield found(Kind.NO_LISTENER, f"door {door.name}: nobody listens on {port}", fix)
    for advice in on_listeners(configuration, outside):
        yield found(Kind.KNOCK_PORT_USED, str(advice), advice.hint)


def examine_containers(host: Host) -> Iterator[Finding]:
    """Ports that rules send on to another address, as docker and podman do, and their proxies."""
    try:
        redirects = host.rules.redirects
    except Unavailable as error:
        yield blind(Topic.CONTAINERS, f"published ports: {error}", error.hint or "run it as root")
        return
    away = [each for each in redirects if not is_here(each.address)]
    forwards = bool(setting("net.ipv4.ip_forward") or setting("net.ipv6.conf.all.forwarding"))
    proxies = sorted(running_programs() & _PROXIES)
    yield from judge_published(away, host.guarded, proxies, forwards=forwards)


def judge_published(
    away: Sequence[Redirect], guarded: set[Port], proxies: Sequence[str], *, forwards: bool
) -> Iterator[Finding]:
    """``away`` are redirects to other addresses; ``proxies`` run beside them; ``forwards``: as routers do."""
    behind = [each for each in away if any(Port(each.protocol, number) in guarded for number in each.ports)]
    free = [each for each in away if each not in behind]
    if free:
        fix = "name the ports in a door; or publish them at 127.0.0.1: -p 127.0.0.1:8080:80"
        yield found(Kind.PUBLISHED, "no door guards " + _sent(free), fix)
    if behind and forwards:
        address = behind[0].address
        to = f"{'ip' if len(address) == 4 else 'ip6'} daddr {address_text(address)}"
        fix = (
            "docker from 28 on drops that by itself; else, in a chain on forward: "
            f"{to} ct state new ct status & dnat == 0 drop"
        )
        yield found(Kind.OWN_ADDRESS, f"behind a door, and to be reached directly: {_sent(behind)}", fix)
    if not away:
        seen = "no rule publishes a port of a container"
        if proxies:
            seen += f"; {', '.join(proxies)} pass ports on by themselves, which are among those that listen"
        yield fine(Topic.CONTAINERS, seen)
    elif not free and not forwards:
        yield fine(Topic.CONTAINERS, "doors guard what containers publish: " + _sent(behind))


def _sent(redirects: Iterable[Redirect]) -> str:
    return ", ".join(
        f"{each.protocol.name.lower()}/{each.ports[0]}"
        + (f"-{each.ports[-1]}" if len(each.ports) > 1 else "")
        + f" (to {address_text(each.address)}, {each.target})"
        for each in redirects
    )
