"""``python -m tools.mutants [--again] [--list] [MODULE...]``; `make mutants`."""

from __future__ import annotations

import argparse
import difflib
import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools.mutants import explained, making, suites, trying
from tools.mutants.making import Mutant, mutants

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD = CHECKOUT / "build" / "mutants"


class Results:
    """What became of a module's mutants, kept so that the next run goes on where this one was stopped.

    One that was caught stays caught as long as the module is the same. One that survived is tried anew as
    soon as a test that belongs to the module is another one.
    """

    def __init__(self, module: str, source: str, tests: str) -> None:
        self._file = BUILD / "results" / f"{module.replace('/', '.')}.json"
        self._source, self._tests = _digest(source), _digest(tests)
        kept = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._ends: dict[str, list[str]] = kept["ends"] if kept.get("source") == self._source else {}
        self._made = _digest(source + Path(making.__file__).read_text())
        if kept.get("made") == self._made:
            self.mutants = [Mutant(*each) for each in kept["mutants"]]
        else:
            self.mutants = list(mutants(source))
            self._write()

    def survived(self, mutant: Mutant) -> bool | None:
        """None: it must be tried."""
        end, tests = self._ends.get(_digest(mutant.text), ("", ""))
        if end == "caught":
            return False
        return True if end == "survived" and tests == self._tests else None

    def note(self, mutant: Mutant, *, survived: bool) -> None:
        """On the disk when this returns."""
        self._ends[_digest(mutant.text)] = ["survived" if survived else "caught", self._tests]
        self._write()

    def forget(self) -> None:
        """Try all of them again."""
        self._ends = {}

    def _write(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        kept = {"source": self._source, "made": self._made, "mutants": self.mutants, "ends": self._ends}
        new.write_text(json.dumps(kept))
        new.replace(self._file)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every mutant was caught or is explained; 1: some survived; 2: it could not be done."""
    parser = argparse.ArgumentParser(prog="make mutants", description="whether the tests catch mistakes")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as mechanisms/marks or spa/sealed")
    parser.add_argument("--again", action="store_true", help="try also what was tried before")
    parser.add_argument("--list", action="store_true", help="only say which tests belong to which module")
    given = parser.parse_args(arguments)
    try:
        chosen = suites.modules(CHECKOUT, given.modules)
        if given.list:
            for module in chosen:
                print(f"{module}: {' '.join(suites.tests_of(CHECKOUT, module))}")
            return 0
        reasons = explained.load()
        BUILD.mkdir(parents=True, exist_ok=True)
        # Until the end, also that of a child that tries a mutant and has outlived us: there is one copy.
        lock = os.open(BUILD / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _all(chosen, reasons, again=given.again)
    except BlockingIOError:
        print("another one is running here", file=sys.stderr)
        return 2
    except (suites.Nothing, explained.Wrong, trying.Unusable) as error:
        print(error, file=sys.stderr)
        return 2


def _all(chosen: Sequence[str], reasons: Sequence[explained.Explained], *, again: bool) -> int:
    copy = trying.Copy(CHECKOUT, BUILD / "tree")
    lines, unexplained = [], 0
    for module in chosen:
        found, survivors = _module(copy, module, again=again)
        if not found:
            continue
        explained.check(reasons, module, found)
        known = {each.what for each in reasons if each.module == module}
        left = [each for each in survivors if each.what not in known]
        for each in left:
            print(_diff(copy.text(_file(module)), each, module), flush=True)
        unexplained += len(left)
        share = f"{len(found) - len(survivors)} of {len(found)} caught"
        rest = f"{len(survivors) - len(left)} explained, {len(left)} not"
        lines.append(f"{module:28} {share}, {(len(found) - len(survivors)) / len(found):.0%}; {rest}")
        print(lines[-1], flush=True)
    if len(lines) > 1:
        print("\n" + "\n".join(lines))
    return 1 if unexplained else 0


def _file(module: str) -> str:
    return f"{suites.SOURCE}/{module}.py"


def _module(copy: trying.Copy, module: str, *, again: bool) -> tuple[list[Mutant], list[Mutant]]:
    """All mutants of a module, and those that survive."""
    source = copy.text(_file(module))
    tests = suites.tests_of(CHECKOUT, module)
    results = Results(module, source, "".join(map(copy.text, tests)))
    if again:
        results.forget()
    untried = [each for each in results.mutants if results.survived(each) is None]
    if untried:
        took = copy.measure(_file(module), tests)
        print(f"{module}: {len(untried)} to try, up to {took:.0f} s each", file=sys.stderr, flush=True)
        began = time.monotonic()
        for number, each in enumerate(untried, 1):
            survived = copy.survives(_file(module), each.text, tests, 2 + 3 * took)
            results.note(each, survived=survived)
            if sys.stderr.isatty():
                print(f"\r{number} ({time.monotonic() - began:.0f} s)", end="\r", file=sys.stderr)
    return results.mutants, [each for each in results.mutants if results.survived(each)]


def _diff(source: str, mutant: Mutant, module: str) -> str:
    lines = difflib.unified_diff(
        source.splitlines(), mutant.text.splitlines(), module, mutant.within or "(module)", lineterm="", n=1
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
