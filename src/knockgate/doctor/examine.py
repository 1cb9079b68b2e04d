"""All examinations, one after the other, each within a time of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from knockgate.doctor import clock, gate, kernel, network, ports, rights, rules, sshd, state
from knockgate.doctor.finding import Finding, Topic, blind
from knockgate.doctor.host import Host
from knockgate.errors import Unavailable

__all__ = ["EXAMINATIONS", "examine"]

Examination = Callable[[Host], Iterator[Finding]]

EXAMINATIONS: dict[Topic, Examination] = {
    Topic.CLOCK: clock.examine,
    Topic.NETWORK: network.examine,
    Topic.RULES: rules.examine,
    Topic.PORTS: ports.examine,
    Topic.CONTAINERS: ports.examine_containers,
    Topic.KERNEL: kernel.examine,
    Topic.STATE: state.examine,
    Topic.RIGHTS: rights.examine,
    Topic.SSHD: sshd.examine,
    Topic.GATE: gate.examine,
}
#: Seconds for one of them. A home on a server that is gone, or a firewall of many rules, can take for ever.
_PATIENCE = 30.0


def examine(
    host: Host, *, examinations: dict[Topic, Examination] = EXAMINATIONS, patience: float = _PATIENCE
) -> Iterator[Finding]:
    """What they find, in the order of ``Topic``; what could not be looked at is a finding too."""
    for topic, examination in examinations.items():
        yield from _in_time(topic, examination, host, patience)


def _in_time(topic: Topic, examination: Examination, host: Host, patience: float) -> list[Finding]:
    """Runs it in a thread, since a system call that hangs cannot be broken off; the process does not wait."""
    done: list[Finding] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.extend(examination(host))
        except (Unavailable, OSError) as error:
            done.append(_unforeseen(topic, error))
        except BaseException as error:  # noqa: BLE001 - a bug, raised again below
            failed.append(error)

    thread = threading.Thread(target=run, name=f"doctor {topic}", daemon=True)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        fix = "look for what hangs: a file system on the network, a program that waits"
        return [*done, blind(topic, f"the {topic} to the end: it takes longer than {patience:g} s", fix)]
    if failed:
        raise failed[0]
    return done


def _unforeseen(topic: Topic, error: Unavailable | OSError) -> Finding:
    if isinstance(error, Unavailable):
        return blind(topic, f"the {topic}: {error}", error.hint or "run it as root")
    where = f"{error.filename}: " if error.filename else ""
    return blind(topic, f"the {topic}: {where}{error.strerror}", "run it as root")
