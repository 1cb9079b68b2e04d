"""Figures that an attack yields: printed (``pytest -s``), and kept where ``KNOCKGATE_FIGURES`` names a file.

That is a file of JSON objects, one a line, to which each test adds its own: ``{"figure": "resets.packets",
"tries": 10, "share": 1.0}``. A number's unit stands at the end of its name (``_s``, ``_kb``).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

__all__ = ["VARIABLE", "figure"]

VARIABLE = "KNOCKGATE_FIGURES"


def figure(name: str, **numbers: float | str | dict[str, int]) -> None:
    """One figure, called ``name``, ``attack.what``."""
    line = json.dumps({"figure": name, **numbers})
    print(f"\n{line}")
    if path := os.environ.get(VARIABLE):
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, f"{line}\n".encode())  # whole, whoever else writes
        finally:
            os.close(descriptor)
