"""Lets the fuzzer at one of the targets: ``python -m fuzz.fuzz_fwknop TARGET [CORPUS] [OPTION...]``.

Corpus and options are libFuzzer's: ``-max_total_time=60``, ``-merge=1``. It ends with a status other than 0
and leaves ``crash-...`` in the working directory where a target raised something.
"""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Does not return."""
    # Not at the top: it is no module of the tests' environment.
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["knockgate", "fuzz"]):
        targets = importlib.import_module("fuzz.targets")
    target = targets.TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
