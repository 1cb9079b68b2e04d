"""``knockgate log`` on the journal of a gate that systemd runs: for root, for its group, for nobody else."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator

import pytest
from tests.knockgate.cli.journals import Site as Journal
from tests.knockgate.cli.journals import conforms, objects
from tests.knockgate.cli.process import Done
from tests.netns import DEADLINE, until
from tests.systemd import gate
from tests.systemd.gate import CONFIG, HALVES, LISTENER, until_active
from tests.systemd.machine import ADDRESS, CLIENT, NEEDS, boot
from tests.systemd.site import Site, key_pair, secrets_of

pytestmark = NEEDS
#: Everything that a user of the machine may have, and nothing of root's.
AS_JO = ["setpriv", "--reuid=jo", "--regid=jo", "--inh-caps=-all"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    bag = tmp_path_factory.mktemp("client")
    packages = gate.bundle(tmp_path_factory.mktemp("packages") / "knockgate")
    rest = f"""sed -i 's/^clock = /log = "json"\\nclock = /' {CONFIG}\n{gate.offline()}"""
    script = gate.prepare(packages, secrets_of(bag), key_pair(bag), rest=rest)
    with boot(prepare=script, lend=[packages]) as machine:
        until_active(machine, *HALVES)
        gate.begin_service(machine)
        found = Site(machine, bag)
        found.take_card()
        yield found


def log(site: Site, *words: str, as_user: tuple[str, ...] = ()) -> Done:
    done = site.machine.run([*as_user, "knockgate", "log", *words])
    return Done(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def following(site: Site, *words: str) -> Iterator[Callable[[], str]]:
    said = "/root/followed"
    line = f"exec knockgate log --follow {shlex.join(words)} > {said} 2>&1"
    process = site.machine.start(["sh", "-c", f": > {said}; {line}"])
    try:
        yield lambda: site.machine.run(["cat", said]).stdout
    finally:
        process.kill()
        process.wait(DEADLINE)


def is_refused(site: Site) -> None:
    """A knock of jo's at a door that is not jo's."""
    words = ["--card", str(site.bag / "card"), "--door", "kernel", "-i", str(site.bag / "id")]
    variables = {"PYTHONPATH": str(gate.REPOSITORY / "src"), "HOME": str(site.bag)}
    done = site.machine.client.run(
        [sys.executable, "-m", "knockgate", "knock", *words, "--source", CLIENT, ADDRESS], **variables
    )
    assert done.returncode == 0, done.stderr

    def told() -> bool:
        return "refused" in log(site, "--event", "refused", "--json").stdout

    until(told, "it is refused")


def test_the_journal_conforms(site: Site) -> None:
    assert until(lambda: site.knock("sealed"), "sealed opens", 20.0)
    is_refused(site)
    conforms(
        Journal(
            log=lambda *words: log(site, *words),
            following=lambda *words: following(site, *words),
            knock=lambda: _opens(site),
            door="sealed",
            source=CLIENT,
            key="people/jo",
        )
    )


def _opens(site: Site) -> None:
    assert site.knock("sealed")


def test_who_may_read_it(site: Site) -> None:
    """A user learns what is missing, and sees with it what root sees."""
    words = ("--json", "--event", "note")
    alone = log(site, *words, as_user=(*AS_JO, "--clear-groups"))
    assert (alone.returncode, alone.stdout) == (2, "")
    assert alone.stderr.splitlines() == [
        "knockgate: no right to read the journal: root has it, and the group systemd-journal",
        "  hint: sudo, or for good: usermod -aG systemd-journal USER, and log in again",
    ]
    in_group = log(site, *words, as_user=(*AS_JO, "--groups=systemd-journal"))
    assert in_group.returncode == 0, in_group.stderr
    found = objects(in_group.stdout)
    assert found and found == objects(log(site, *words).stdout)
    # What systemd's own program has printed, in either form, is a file like any other.
    for form in ("json", "short", "short-iso", "cat"):
        site.machine.tell("sh", "-c", f"journalctl --no-pager -o {form} -u {LISTENER} > /root/{form}")
        told = log(site, "--file", f"/root/{form}", "--event", "opened", "--json")
        doors = [each.get("door") for each in objects(told.stdout) if "event" in each]
        assert doors and set(doors) == {"sealed"}
        timed = [each["time"] is not None for each in objects(told.stdout) if "event" in each]
        assert all(timed) is (form in ("json", "short-iso"))
