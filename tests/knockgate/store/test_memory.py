from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from tests.knockgate.store.replay_conformance import CASES, FRESH, LIMIT, Life, Stage

from knockgate.store.memory import MemoryStore


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_every_store_promises(case: Callable[[Stage], None]) -> None:
    case(Stage(MemoryStore(fresh=FRESH, limit=LIMIT)))


class InMemory(Life):
    def new_store(self, *, limit: int) -> MemoryStore:
        return MemoryStore(fresh=FRESH, limit=limit)


TestInMemory = InMemory.TestCase
TestInMemory.settings = settings(max_examples=100, stateful_step_count=40)
