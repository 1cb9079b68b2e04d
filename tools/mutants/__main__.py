"""``python -m tools.mutants [--again] [--sample N] [--list | --check] [MODULE...]``; `make mutants`."""

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

from tools.mutants import explained, making, suites, table, trying
from tools.mutants.making import Mutant, mutants

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD = CHECKOUT / "build" / "mutants"
TABLE = CHECKOUT / "docs" / "mutants.json"


class Results:
    """What became of a module's mutants, kept so that the next run goes on where this one was stopped.

    One that was caught stays caught as long as the module is the same. One that survived is tried anew as
    soon as a test that belongs to the module is another one.
    """

    def __init__(self, module: str, source: str, tests: str) -> None:
        self._file = BUILD / "results" / f"{module.replace('/', '.')}.json"
        self._source, self._tests, self._checksum = _digest(source), _digest(tests), _checksum(source, tests)
        kept = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._ends: dict[str, list[str]] = kept["ends"] if kept.get("source") == self._source else {}
        self._date: str = kept.get("date", "") or _today()
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
        self._date = _today()
        self._write()

    def row(self, module: str, *, explained: int) -> table.Row:
        """For the table: of those that need not be tried."""
        ends = [end for each in self.mutants if (end := self.survived(each)) is not None]
        return table.Row(
            module, len(self.mutants), len(ends), ends.count(False), explained, self._date, self._checksum
        )

    def forget(self) -> None:
        """Try all of them again."""
        self._ends = {}

    def _write(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        kept = {"source": self._source, "made": self._made, "mutants": self.mutants, "ends": self._ends}
        kept["date"] = self._date
        new.write_text(json.dumps(kept))
        new.replace(self._file)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every mutant was caught or is explained; 1: some survived; 2: it could not be done.

    With ``--check`` 0 where each row of the table is of the module and its tests as they are, else 1.
    """
    parser = argparse.ArgumentParser(prog="make mutants", description="whether the tests catch mistakes")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as mechanisms/marks or spa/sealed")
    parser.add_argument("--again", action="store_true", help="try also what was tried before")
    parser.add_argument("--sample", type=int, metavar="N", help="try N of each module's, always the same N")
    parser.add_argument("--check", action="store_true", help="only say where the table is out of date")
    parser.add_argument("--list", action="store_true", help="only say which tests belong to which module")
    given = parser.parse_args(arguments)
    try:
        chosen = suites.modules(CHECKOUT, given.modules)
        if given.list:
            for module in chosen:
                print(f"{module}: {' '.join(suites.tests_of(CHECKOUT, module))}")
            return 0
        if given.check:
            return _check(chosen)
        reasons = explained.load()
        BUILD.mkdir(parents=True, exist_ok=True)
        # Until the end, also that of a child that tries a mutant and has outlived us: there is one copy.
        lock = os.open(BUILD / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _all(chosen, reasons, again=given.again, sample=given.sample)
    except BlockingIOError:
        print("another one is running here", file=sys.stderr)
        return 2
    except (suites.Nothing, explained.Wrong, trying.Unusable) as error:
        print(error, file=sys.stderr)
        return 2


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _checksum(source: str, tests: str) -> str:
    return _digest(source + tests)[:12]


def _check(chosen: Sequence[str]) -> int:
    rows, old = table.load(TABLE), 0
    for module in chosen:
        if not (row := rows.get(module)):
            if not module.endswith("__init__"):
                print(f"{module}: never tried")
                old += 1
            continue
        source, *tests = (
            (CHECKOUT / each).read_text() for each in (_file(module), *suites.tests_of(CHECKOUT, module))
        )
        if row.checksum != _checksum(source, "".join(tests)):
            print(f"{module}: it or its tests have changed since {row.date}")
            old += 1
    return 1 if old else 0


def _all(
    chosen: Sequence[str], reasons: Sequence[explained.Explained], *, again: bool, sample: int | None
) -> int:
    copy = trying.Copy(CHECKOUT, BUILD / "tree")
    lines, unexplained = [], 0
    for module in chosen:
        results = _module(copy, module, again=again, sample=sample)
        if not results:
            continue
        explained.check(reasons, module, results.mutants)
        known = {each.what for each in reasons if each.module == module}
        survivors = [each for each in results.mutants if results.survived(each)]
        left = [each for each in survivors if each.what not in known]
        for each in left:
            print(_diff(copy.text(_file(module)), each, module), flush=True)
        unexplained += len(left)
        row = results.row(module, explained=len(survivors) - len(left))
        table.save(TABLE, (table.load(TABLE) | {module: row}).values())
        share = f"{row.caught} of {row.tried} caught"
        rest = f"{row.explained} explained, {row.open} not; {row.mutants - row.tried} not tried"
        lines.append(f"{module:28} {share}; {rest}")
        print(lines[-1], flush=True)
    if len(lines) > 1:
        print("\n" + "\n".join(lines))
    return 1 if unexplained else 0


def _file(module: str) -> str:
    return f"{suites.SOURCE}/{module}.py"


def _module(copy: trying.Copy, module: str, *, again: bool, sample: int | None) -> Results | None:
    """What became of a module's mutants, after trying those that must be; None where it has none."""
    source = copy.text(_file(module))
    try:
        tests = suites.tests_of(CHECKOUT, module)
    except suites.Nothing:
        if module.endswith("__init__"):
            return None
        raise
    results = Results(module, source, "".join(map(copy.text, tests)))
    if again:
        results.forget()
    # By their hashes: a sample that nobody picked, of which a larger one is the continuation.
    some = sorted(results.mutants, key=lambda each: _digest(each.text))[:sample]
    untried = [each for each in some if results.survived(each) is None]
    if untried:
        took = copy.measure(_file(module), tests)
        print(f"{module}: {len(untried)} to try, up to {took:.0f} s each", file=sys.stderr, flush=True)
        began = time.monotonic()
        for number, each in enumerate(untried, 1):
            survived = copy.survives(_file(module), each.text, tests, 2 + 3 * took)
            results.note(each, survived=survived)
            if sys.stderr.isatty():
                print(f"\r{number} ({time.monotonic() - began:.0f} s)", end="\r", file=sys.stderr)
    return results if results.mutants else None


def _diff(source: str, mutant: Mutant, module: str) -> str:
    lines = difflib.unified_diff(
        source.splitlines(), mutant.text.splitlines(), module, mutant.within or "(module)", lineterm="", n=1
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
