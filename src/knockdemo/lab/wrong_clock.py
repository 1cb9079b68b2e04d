"""knockgate by a wrong clock: ``python3 -m knockdemo.lab.wrong_clock SECONDS ARGUMENT...``.

The time of day is one for the whole machine, and no namespace has another. So what is wrong is what this one
process reads; what is off by ``SECONDS`` (ahead; negative: behind) is CLOCK_REALTIME alone.
"""

from __future__ import annotations

import runpy
import sys
import time

__all__ = ["main"]


def main() -> None:
    """Run the command ``knockgate`` with the arguments behind the first one; ends as it does."""
    seconds = float(sys.argv[1])
    read = time.clock_gettime

    def wrong(clock: int) -> float:
        return read(clock) + (seconds if clock == time.CLOCK_REALTIME else 0)

    time.clock_gettime = wrong
    sys.argv = ["knockgate", *sys.argv[2:]]
    runpy.run_module("knockgate", run_name="__main__")


if __name__ == "__main__":
    main()
