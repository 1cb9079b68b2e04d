"""What came of an attack: printed (``pytest -s``), and kept where ``KNOCKGATE_FIGURES`` names a file.

That is a file of JSON objects, one a line, to which each test adds its own; ``make attacks`` makes
``docs/attacks.md`` out of it (``tools.attacks``)::

    {"figure": "replay.X-Wing", "test": "tests/attacks/test_replay.py::test_single_packets", "tries": 9,
     "wrongly": 0, "known": 2, "rightly": 8, "control": "a new knock of the same kind", "bounds": {}}
"""

from __future__ import annotations

import json
import os
from pathlib import Path

__all__ = ["VARIABLE", "figure"]

VARIABLE = "KNOCKGATE_FIGURES"


def figure(
    name: str,
    *,
    tries: int,
    wrongly: int,
    rightly: int,
    control: str,
    known: int = 0,
    **bounds: float | str | dict[str, int],
) -> None:
    """One figure, called ``name``, ``kind.what``.

    Of ``tries`` of the attack ``wrongly`` many opened, or came through in another way; ``known`` many did
    that SECURITY.md says do, or that are of another program. ``rightly``: honest ones beside them that did
    what they should, which are the ``control``. ``bounds``: all else that was measured; a number's unit
    stands at the end of its name (``_s``, ``_ms``, ``_kb``, ``_bytes``, ``_share``).
    """
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    told = {"figure": name, "test": test, "tries": tries, "wrongly": wrongly, "known": known}
    line = json.dumps(told | {"rightly": rightly, "control": control, "bounds": bounds})
    print(f"\n{line}")
    if path := os.environ.get(VARIABLE):
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, f"{line}\n".encode())  # whole, whoever else writes
        finally:
            os.close(descriptor)
