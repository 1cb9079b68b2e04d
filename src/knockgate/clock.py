"""What time it is, and whether this machine's clock can be relied on. Nothing here ever sets a clock.

The kernel counts how far the clock may be off at most, and whoever disciplines it (chrony, ntpd,
systemd-timesyncd) tells it so. Below 16 s that clock is synchronised; at the boot, after somebody has set
the clock by hand, and 9 h after the last correction it is 16 s (adjtimex(2): ``maxerror``; the kernel's
NTP_PHASE_LIMIT). The flag STA_UNSYNC is not asked: it also says that the kernel is to leave the hardware's
clock alone, so chrony without ``rtcsync``, and systemd-timesyncd beside a hardware clock in local time,
never take it away. systemd's ``NTPSynchronized`` is the same answer.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import NamedTuple

from knockgate.config.readers import Reliance
from knockgate.errors import Unavailable
from knockgate.model import Moment

__all__ = ["KernelClock", "KernelSays", "is_synchronised", "kernel_says"]

_BOOT = Path("/proc/sys/kernel/random/boot_id")
#: Microseconds; what the kernel says of a clock that nobody corrects.
_NOT_KNOWN = 16_000_000
_STA_UNSYNC = 0x40


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex``, and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),  # 0: change nothing
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 40),
    )


_libc = ctypes.CDLL(None, use_errno=True)


class KernelSays(NamedTuple):
    """What the kernel says of CLOCK_REALTIME."""

    error: float  #: seconds that it may be off at most; 16 where nobody knows
    flagged: bool  #: STA_UNSYNC, which is more than that it is not synchronised: see above

    @property
    def synchronised(self) -> bool:
        """Whether it vouches for the clock."""
        return self.error < _NOT_KNOWN / 1_000_000


def kernel_says() -> KernelSays | None:
    """Its word now; None where it may not be asked (seccomp)."""
    timex = _Timex()
    if _libc.adjtimex(ctypes.byref(timex)) < 0:
        return None
    return KernelSays(timex.maxerror / 1_000_000, bool(timex.status & _STA_UNSYNC))


def is_synchronised() -> bool:
    """Whether the kernel vouches for CLOCK_REALTIME now; False also where it may not be asked (seccomp)."""
    says = kernel_says()
    return says is not None and says.synchronised


class KernelClock:
    """Satisfies ``world.Clock``.

    With ``Reliance.AUTO`` the clock is relied on from the moment at which the kernel vouches for it, for as
    long as this process lives. Somebody who can keep time servers away from us could otherwise wait until
    the kernel does not vouch any more, and packets would not be asked for their age.

    Where ``sticky`` is false a moment says what the kernel says then, for who keeps account of it themselves
    (``mechanisms.certainty``).
    """

    def __init__(self, reliance: Reliance, *, sticky: bool = True) -> None:
        """Raises Unavailable where the boot has no identity."""
        try:
            self._boot = _BOOT.read_text().strip()
        except OSError as error:
            raise Unavailable(f"{_BOOT}: {error.strerror}", hint="is /proc mounted?") from None
        self._asks = reliance is Reliance.AUTO
        self._sticky = sticky
        self._synchronised = reliance is Reliance.TRUSTED

    def read(self) -> Moment:
        """The time now."""
        if self._asks and not (self._sticky and self._synchronised):
            self._synchronised = is_synchronised()
        # The one place that reads the wall clock: it is compared with times that senders have written down.
        now = time.clock_gettime(time.CLOCK_REALTIME)
        return Moment(now, self._synchronised, time.clock_gettime(time.CLOCK_BOOTTIME), self._boot)
