"""Lets the fuzzer at one of the targets: ``python -m fuzz.fuzz_fwknop TARGET [CORPUS...] [OPTION...]``.

Folders and options are libFuzzer's: ``-max_total_time=60``, ``-merge=1``. It ends with a status other than 0
and leaves a file ``crash-...`` where a target raised something.
"""

from __future__ import annotations

import importlib
import shlex
import sys


def main(program: str = "fuzz.fuzz_fwknop", module: str = "fuzz.targets") -> None:
    """Does not return. ``program`` is what was started; ``module`` has its targets."""
    # Not at the top: it is no module of the tests' environment, and the targets are to be instrumented.
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["knockgate", "fuzz"]):
        targets = importlib.import_module(module)
    name = sys.argv[1]
    # libFuzzer starts itself again with what it takes for its name, by a shell.
    again = f"{shlex.quote(sys.executable)} -m {program} {name}"
    atheris.Setup([again, *sys.argv[2:]], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
