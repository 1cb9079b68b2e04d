"""What the fuzzers have found interesting, run through a target without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.conftest import REPO

__all__ = ["CORPUS", "run_through"]

CORPUS = REPO / "fuzz" / "corpus"


def run_through(targets: Mapping[str, Callable[[bytes], object]], name: str, *, least: int = 10) -> None:
    """Raises what the target finds; a corpus of no more than ``least`` files has been lost."""
    files = sorted((CORPUS / name).iterdir())
    assert len(files) > least
    for file in files:
        targets[name](file.read_bytes())
