"""How hypothesis runs here, where tests have their folders, which run side by side, and what none may leave.

Hypothesis has no deadlines, since the cores are shared, and runs alike every time in CI.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

REPO = Path(__file__).resolve().parent.parent

# The tests also run as a user who may not write here, and hypothesis warns where it cannot.
FAILURES: ExampleDatabase | None = (
    DirectoryBasedExampleDatabase(REPO / ".hypothesis" / "examples") if os.access(REPO, os.W_OK) else None
)

settings.register_profile("here", deadline=None, max_examples=200, database=FAILURES)
settings.register_profile(
    "ci", deadline=None, max_examples=200, derandomize=True, print_blob=True, database=None
)
settings.register_profile(  # that one fails is all that `make mutants` asks
    "mutants", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate], print_blob=False
)
settings.register_profile("thorough", deadline=None, max_examples=10_000, database=FAILURES)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "here"))

# --- what tests find ---------------------------------------------------------------------------------

MEMORY = Path("/dev/shm")
_ROOM = 2 << 30  # bytes; the tests need a tenth


def _have_folders_in_memory() -> None:
    """Unless TMPDIR says where: gates and installers wait for the disk thousands of times (fsync)."""
    if os.environ.get("TMPDIR") or not os.access(MEMORY, os.W_OK):
        return
    there = os.statvfs(MEMORY)
    if there.f_bavail * there.f_frsize > _ROOM and not there.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


def _pass_on_no_ignored_signals() -> None:
    """In the background, and behind nohup, some are ignored, and would be by all that tests start.

    One with a handler is ignored by us as before, and begins anew in a program that we start.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


_have_folders_in_memory()
_pass_on_no_ignored_signals()

# --- side by side ------------------------------------------------------------------------------------

# Labs and booted machines: each takes many seconds, keeps to the clock and works with many processes.
HEAVY = ("tests/bench/", "tests/knockdemo/lab/", "tests/systemd/")


class OneHeavyAtATime(LoadFileScheduling):  # type: ignore[misc]
    """One worker begins with all that is heavy; the others take files of the rest, and so does it later."""

    def _split_scope(self, nodeid: str) -> str:
        return "heavy" if nodeid.startswith(HEAVY) else nodeid.partition("::")[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest goes first."""
    items.sort(key=lambda item: not item.nodeid.startswith(HEAVY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> OneHeavyAtATime:
    """Whatever ``--dist`` says, with ``-n``."""
    config.option.loadscopereorder = False  # else a file of many tests goes first
    return OneHeavyAtATime(config, log)


# --- what is left on the host ------------------------------------------------------------------------

# Where a gate keeps things when its configuration names no other place.
FOLDERS = [Path("/run/knockgate"), Path("/var/lib/knockgate")]
_known = {folder for folder in FOLDERS if folder.exists()}  # of a gate that is installed here


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None]:
    """Fail the test after which one of the folders is on this host; the tests after it are not to blame."""
    yield
    made = sorted({folder for folder in FOLDERS if folder.exists()} - _known)
    _known.update(made)
    if made:
        pytest.fail(f"made on this host: {', '.join(map(str, made))}", pytrace=False)
