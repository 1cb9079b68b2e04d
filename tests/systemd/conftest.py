from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.systemd.faults import Broken, guarded_site
from tests.systemd.scan import Scan


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broken, Scan]]:
    """A gate in whose machine something is broken, and who scans it all the while."""
    with guarded_site(tmp_path_factory.mktemp("site")) as found:
        yield found
