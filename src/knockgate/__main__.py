"""``python -m knockgate`` is the command ``knockgate``."""

from __future__ import annotations

import sys

from knockgate.cli import main

if __name__ == "__main__":
    sys.exit(main())
