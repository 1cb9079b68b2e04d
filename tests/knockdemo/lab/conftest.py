"""What a lab needs that is run from outside."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import knockdemo

SOURCE = Path(knockdemo.__file__).parents[1]
#: What rich and the gate's daemon need, for a copy that another user can read.
LIBRARIES = ("rich", "pygments", "markdown_it", "mdurl", "click", "cryptography")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A home and temporary folder for the lab's outside, and a copy of the code that anybody may read."""
    folder = Path(tempfile.mkdtemp(prefix="knockdemo-test-"))
    folder.chmod(0o755)
    copy = folder / "code"
    for package in ("knockgate", "knockdemo"):
        shutil.copytree(SOURCE / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in LIBRARIES:
        library = next(Path(entry, name) for entry in sys.path if Path(entry, name).is_dir())
        shutil.copytree(library, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    backend = importlib.util.find_spec("_cffi_backend")  # cryptography's
    assert backend and backend.origin
    shutil.copy(backend.origin, copy)
    (folder / "home").mkdir()
    (folder / "home").chmod(0o777)
    yield folder
    shutil.rmtree(folder)
