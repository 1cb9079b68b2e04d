"""Start a half of the gate: ``python3 -I .../knockgate/daemon/start.py HALF ...``, as systemd's units do.

By its path, so that neither the working directory nor the environment has a say in what is imported: the
packages lie beside ours, or where this interpreter keeps its own.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

#: Which have a ``main``.
HALVES = ("keeper", "listener", "reload", "rules", "runner", "warden")


def main() -> None:
    """Run the half that the command line begins with."""
    half = sys.argv[1] if len(sys.argv) > 1 else ""
    if half not in HALVES:
        sys.exit(f"knockgate: say which half: {', '.join(HALVES)}")
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    if half == "warden":
        modules: dict[str, Any] = sys.modules
        # hashlib does without OpenSSL then: the half with rights has no such library in its memory.
        modules["_hashlib"] = None
    importlib.import_module(f"knockgate.daemon.{half}").main(sys.argv[2:])


if __name__ == "__main__":
    main()
