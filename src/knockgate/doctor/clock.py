"""Whether the clock is kept right, and by whom."""

from __future__ import annotations

from collections.abc import Iterator

from knockgate import clock
from knockgate.clock import KernelSays
from knockgate.config.readers import Reliance
from knockgate.doctor.finding import Finding, Kind, Severity, Topic, blind, fine, found
from knockgate.doctor.host import Host, running_programs, sees_all_programs

__all__ = ["examine", "judge"]

#: By the name of the process: what the program is called, and how it tells what it is doing.
_KEEPERS = {
    "chronyd": ("chrony", "chronyc tracking"),
    "systemd-timesyn": ("systemd-timesyncd", "timedatectl timesync-status"),
    "ntpd": ("ntpd", "ntpq -p, or ntpctl -s status where it is OpenNTPD's"),
    "phc2sys": ("phc2sys", "journalctl -u phc2sys"),
}


def examine(host: Host) -> Iterator[Finding]:
    """What the kernel says of the clock, and which programs keep it."""
    says = clock.kernel_says()
    if says is None:
        yield blind(
            Topic.CLOCK, "the clock: the kernel does not answer adjtimex(2)", "run it without a sandbox"
        )
        return
    if not says.synchronised and not sees_all_programs():
        seen = "who keeps the clock, of which the kernel does not say that it is right: processes are hidden"
        yield blind(Topic.CLOCK, seen, "run it as root")
        return
    running = running_programs()
    keepers = [name for name in _KEEPERS if name in running]
    reliance = host.configuration.gate.clock if host.configuration else Reliance.AUTO
    yield from judge(says, keepers, reliance, matters=host.needs_daemon)


def judge(says: KernelSays, keepers: list[str], reliance: Reliance, *, matters: bool) -> Iterator[Finding]:
    """``keepers``: processes that keep the clock. ``matters``: whether packets are judged by their age."""
    names = [_KEEPERS[each][0] for each in keepers]
    most = Severity.WARNING if matters and reliance is not Reliance.UNKNOWN else Severity.NOTE
    if says.synchronised:
        if says.flagged:
            yield _flagged(keepers)
        else:
            by = f" by {names[0]}" if names else ""
            yield fine(Topic.CLOCK, f"the clock is kept right{by}, to within {says.error:.3f} s")
    elif reliance is Reliance.TRUSTED and matters:
        fix = 'have it kept (apt install chrony), and take clock = "trusted" out of gate.toml'
        yield found(Kind.CLOCK_TRUSTED, "the gate is told to trust a clock that nobody vouches for", fix)
    elif keepers:
        ask = _KEEPERS[keepers[0]][1]
        seen = f"{names[0]} runs, and has not told the kernel that the clock is right"
        fix = f"see whether it reaches a time server: {ask}"
        yield found(Kind.CLOCK_NOT_SET_YET, seen, fix, most=most)
    else:
        fix = "apt install chrony, or: systemctl enable --now systemd-timesyncd"
        yield found(Kind.CLOCK_NOT_KEPT, "no program runs that keeps the clock right", fix, most=most)
    if len(names) > 1:
        fix = f"keep one of them: systemctl disable --now {names[-1]}"
        yield found(Kind.CLOCK_TWICE_KEPT, f"{' and '.join(names)} run at once", fix)


def _flagged(keepers: list[str]) -> Finding:
    if "chronyd" in keepers:
        seen = "chrony keeps the clock right, and does not say so to the kernel"
        return found(
            Kind.CLOCK_FLAGGED, seen, "add the line rtcsync to /etc/chrony/chrony.conf, and restart chrony"
        )
    seen = "the clock is right, and the kernel is told not to set the hardware's clock by it"
    return found(Kind.CLOCK_FLAGGED, seen, "timedatectl set-local-rtc 0")
