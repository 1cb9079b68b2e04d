"""Lets the fuzzer at a target: ``python -m fuzz TARGET [CORPUS...] [OPTION...]``; alone, it names them.

Folders and options are libFuzzer's: ``-max_total_time=60``, ``-merge=1``. It ends with a status other than 0
and leaves a file ``crash-...`` where a target raised something.
"""

from __future__ import annotations

import importlib
import shlex
import sys

from fuzz import MODULES


def main() -> None:
    """Returns only where there was nothing to fuzz."""
    if len(sys.argv) < 2:
        print(*MODULES, sep="\n")
        return
    # Not at the top: it is no module of the tests' environment, and the targets are to be instrumented.
    atheris = importlib.import_module("atheris")
    name = sys.argv[1]
    with atheris.instrument_imports(include=["knockgate", "fuzz"]):
        targets = importlib.import_module(MODULES[name])
    # libFuzzer starts itself again with what it takes for its name, by a shell.
    again = f"{shlex.quote(sys.executable)} -m fuzz {name}"
    atheris.Setup([again, *sys.argv[2:]], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
