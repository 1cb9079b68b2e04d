"""How hypothesis runs here: without deadlines, since the cores are shared, and alike on every run in CI."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

REPO = Path(__file__).resolve().parent.parent

# The tests also run as a user who may not write here, and hypothesis warns where it cannot.
FAILURES: ExampleDatabase | None = (
    DirectoryBasedExampleDatabase(REPO / ".hypothesis" / "examples") if os.access(REPO, os.W_OK) else None
)

settings.register_profile("here", deadline=None, max_examples=200, database=FAILURES)
settings.register_profile(
    "ci", deadline=None, max_examples=200, derandomize=True, print_blob=True, database=None
)
settings.register_profile("thorough", deadline=None, max_examples=10_000, database=FAILURES)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "here"))
