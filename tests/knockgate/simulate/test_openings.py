"""What packets of keys open: a door that does not open runs nothing, as in the daemon."""

from __future__ import annotations

import pytest

from knockgate.config import doors
from knockgate.effects import OpenDoor, RunCommands
from knockgate.firewall.memory import MemoryFirewall
from knockgate.simulate.openings import Openings

SOURCE = bytes([192, 0, 2, 7])
CONFIGURATION = doors.parse(
    """
    [doors.shed]
    ports = ["tcp/80"]
    lease = "1m"
    [doors.shed.commands]
    open = ["/bin/true", "%IP%"]
    [doors.shed.sequence]
    steps = ["tcp/7000"]
    runs_in = "daemon"
    """
)


@pytest.mark.parametrize(
    ("is_loaded", "said"),
    [
        (True, ["opens shed for 192.0.2.7, 30s", "runs /bin/true 192.0.2.7"]),
        (False, ["cannot open shed: the table is not loaded"]),
    ],
)
def test_commands_run_for_a_door_that_opens(said: list[str], *, is_loaded: bool) -> None:
    firewall = MemoryFirewall(CONFIGURATION, lambda: 0.0)
    if is_loaded:
        firewall.load("")
    openings = Openings({door.name: door for door in CONFIGURATION.doors}, firewall)
    openings.open(OpenDoor("shed", SOURCE, 30.0))
    openings.run(RunCommands("shed", SOURCE, 30.0))
    assert openings.said == said
    assert openings.opened == (["shed"] if is_loaded else [])
    assert [str(lease.port) for lease in firewall.leases()] == (["tcp/80"] if is_loaded else [])
