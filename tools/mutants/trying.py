"""A copy of the checkout, and what the tests in it say of a mutant.

The checkout never has a mutant in it, however this ends: what is changed is the copy, which is made anew each
time. The tests run in a child of this process, so that Python, pytest and hypothesis are there already; the
product and its tests are not, and must never be imported here. Those go first that have caught most mutants
up to now, then the quick ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import hypothesis  # noqa: F401 - here, that no child has to
import pytest

__all__ = ["Copy", "Unusable"]

#: Bytes of memory that a mutant may take.
_ROOM = 4 << 30


class Unusable(Exception):
    """The tests do not pass without a mutant."""


class _Order:
    """A plugin of pytest's: in which order the tests run. It knows by a file what each run has to tell."""

    def __init__(self, file: Path) -> None:
        self._file = file
        known = json.loads(file.read_text()) if file.exists() else {}
        self._caught: dict[str, int] = known.get("caught", {})
        self._seconds: dict[str, float] = known.get("seconds", {})

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda each: (-self._caught.get(each.nodeid, 0), self._seconds.get(each.nodeid, 0.0)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self._seconds[report.nodeid] = report.duration
        if report.failed:
            self._caught[report.nodeid] = self._caught.get(report.nodeid, 0) + 1

    def pytest_sessionfinish(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"caught": self._caught, "seconds": self._seconds}))
        new.replace(self._file)


class Copy:
    """What git knows of the checkout, and what is new in it, in another folder."""

    def __init__(self, checkout: Path, place: Path) -> None:
        self._checkout, self._place = checkout, place
        shutil.rmtree(place, ignore_errors=True)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=checkout, capture_output=True, check=True,
        ).stdout.decode()  # fmt: skip
        for name in listed.split("\0"):
            if name and (checkout / name).is_file():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(checkout / name, place / name)

    def text(self, name: str) -> str:
        """Of a file, as the checkout had it when the copy was made."""
        return (self._place / name).read_text()

    def measure(self, module: str, tests: Sequence[str]) -> float:
        """Seconds that the tests take of a processor, without a mutant; raises Unusable where they fail.

        With what is compiled for the first time, so it is more than they take with a mutant.
        """
        # They write what they have compiled, but of the module: a mutant as long as the one before it,
        # in the same second, would be taken for that one.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        if not self._pass(tests, 600, writes=True):
            raise Unusable(f"without a mutant they fail: {' '.join(tests)}\n{self.said()}")
        for compiled in (self._place / module).parent.glob(f"__pycache__/{Path(module).stem}.*.pyc"):
            compiled.unlink()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def survives(self, module: str, text: str, tests: Sequence[str], seconds: float) -> bool:
        """Whether the tests pass with another text for the module, within ``seconds`` of a processor."""
        file = self._place / module
        right = file.read_text()
        file.write_text(text)
        try:
            return self._pass(tests, seconds)
        finally:
            file.write_text(right)

    def said(self) -> str:
        """The end of what pytest said last."""
        return self._log.read_text(errors="replace")[-3000:]

    @property
    def _log(self) -> Path:
        return self._place.with_name("pytest.log")

    def _pass(self, tests: Sequence[str], seconds: float, *, writes: bool = False) -> bool:
        child = os.fork()
        if child == 0:
            try:
                self._become_the_tests(tests, seconds, writes=writes)
            except BaseException:  # noqa: BLE001 - nothing of this process may go on in the child
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(70)
        watch = os.pidfd_open(child)
        try:
            # A processor's time is bounded; this is for who sleeps, on a machine with other work.
            select.select([watch], [], [], 30 + 10 * seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # with whatever the tests have started
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.close(watch)
            _, status = os.waitpid(child, 0)
        return status == 0

    def _become_the_tests(self, tests: Sequence[str], seconds: float, *, writes: bool) -> None:
        os.setsid()
        bound = int(seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (bound, bound))
        resource.setrlimit(resource.RLIMIT_AS, (_ROOM, _ROOM))
        out = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for each in (1, 2):
            os.dup2(out, each)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(self._place)
        inside = [str(self._place / "src"), str(self._place)]
        outside = {"", str(self._checkout), str(self._checkout / "src")}
        sys.path[:] = inside + [each for each in sys.path if each not in outside]
        sys.dont_write_bytecode = not writes
        os.environ |= {"PYTHONPATH": ":".join(inside), "HYPOTHESIS_PROFILE": "mutants"}
        began = time.monotonic()
        # Hypothesis is a plugin that was imported before pytest could rewrite it; it is not under test.
        quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        order = _Order(self._place.with_name("order.json"))
        status = pytest.main(
            ["-x", "-q", "-p", "no:cacheprovider", "-m", "not long", *quiet, *tests], [order]
        )
        print(f"{time.monotonic() - began:.1f} s", flush=True)
        os._exit(int(status))
