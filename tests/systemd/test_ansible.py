"""examples/ansible, run by the real Ansible over the real ssh, at a host of which it could shut itself out.

`make examples` installs Ansible, in a folder below build. The tests are in the order of a host's life, and
each begins where the one before has ended.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.netns import until
from tests.systemd.examples import STRANGER, Example
from tests.systemd.gate import CONFIG, HALVES, REPOSITORY, until_active
from tests.systemd.machine import ADDRESS, CLIENT, NEEDS, boot
from tests.systemd.packaged import Packaged, built, prepare
from tests.systemd.scan import Scan
from tests.systemd.site import key_pair

_WHERE = f"{os.environ['PATH']}:{REPOSITORY}/build/ansible/bin"
ANSIBLE = shutil.which("ansible-playbook", path=_WHERE)
pytestmark = [
    *NEEDS,
    pytest.mark.skipif(ANSIBLE is None, reason="no ansible-playbook; `make examples` installs one"),
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb"),
]


@dataclass
class Controller(Example):
    """Who runs Ansible, at the client's end of the cable, as root at the host."""

    package: Path

    def plays(self, *extra: Mapping[str, object], until_said: str = "") -> tuple[int, dict[str, int], str]:
        """The exit status, what the recap counts, and all that was said; broken off once that was said."""
        bag = self.host.bag
        own = {
            "HOME": str(bag),
            "PATH": f"{Path(ANSIBLE or '').parent}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOST_KEY_CHECKING": "0",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
            "ANSIBLE_SSH_ARGS": f"-F none -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile="
            f"{bag}/known_hosts -o StrictHostKeyChecking=accept-new -o ConnectTimeout=3",
            "ANSIBLE_TIMEOUT": "3",
            "ANSIBLE_PIPELINING": "1",  # it is faster
        }
        words = [ANSIBLE or "", "-i", f"{ADDRESS},", "-u", "root", "--private-key", f"{bag}/id"]
        variables: list[Mapping[str, object]] = [
            {"knockgate_deb": str(self.package), "knockgate_cards": str(bag / "cards")},
            {"knockgate_gate": {"allow": [f"{CLIENT}/32"]}, "knockgate_trial": 40},
            *extra,
        ]
        for each in variables:
            words += ["-e", json.dumps(each)]
        playbook = str(REPOSITORY / "examples" / "ansible" / "playbook.yml")
        (bag / "said").write_text("")
        process = self.host.machine.client.start(
            ["sh", "-c", f'exec "$@" >{bag}/said 2>&1', "sh", *words, playbook], **own
        )
        if until_said:
            until(lambda: until_said in (bag / "said").read_text(), until_said, 300.0)
            process.send_signal(signal.SIGTERM)
        status = process.wait(400)
        said = (bag / "said").read_text()
        recap = re.search(rf"^{re.escape(ADDRESS)} +: (.*)$", said, re.MULTILINE)
        counts = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", recap[1] if recap else "")}
        return status, counts, said

    def config(self) -> str:
        return self.host.machine.run(["cat", CONFIG]).stdout

    def left_over(self) -> list[str]:
        """What lies beside gate.toml, but for what the first test has left."""
        there = self.host.machine.tell("ls", str(Path(CONFIG).parent)).split()
        return [each for each in there if each not in ("gate.toml", "gate.toml.went-back")]

    def starts(self) -> list[str]:
        """When the halves began, by their processes."""
        return [self.host.machine.property_of(unit, "MainPID") for unit in HALVES]


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    package = built(tmp_path_factory.mktemp("packages"), "0.8")
    bag = tmp_path_factory.mktemp("client")
    key = key_pair(bag)
    roots = f"""
        rm -f /root/*.card
        mkdir -p /root/.ssh
        (umask 077; printf '%s\\n' '{key}' > /root/.ssh/authorized_keys)
    """
    with boot(prepare=prepare(key) + roots) as machine:
        machine.tell("systemctl", "start", "ssh")
        machine.client.tell("ip", "address", "add", f"{STRANGER}/24", "dev", "wire")
        host = Packaged(machine, bag, Scan(bag, ()))
        found = Controller(host, package)
        until(lambda: found.reaches(STRANGER) and found.reaches(CLIENT), "sshd answers")
        host.unpack(package)
        yield found


def test_who_would_be_shut_out_at_once_is_not_for_long(controller: Controller) -> None:
    """Nobody is allowed, and Ansible's ssh does not knock: the host goes its way back."""
    status, counts, said = controller.plays({"knockgate_gate": {}, "knockgate_trial": 20})
    assert status != 0 and counts["unreachable"] + counts["failed"] == 1, said
    assert "[A new one comes in]" in said
    until(lambda: controller.reaches(CLIENT), "all doors are open", 60.0)
    assert controller.reaches(STRANGER)
    machine = controller.host.machine
    until(lambda: machine.run(["ls", f"{CONFIG}.went-back"]).returncode == 0, "the file is out of the way")
    assert controller.config() == "" and machine.is_active(*HALVES) == ["inactive"] * 2


def test_a_host_is_put_behind_a_gate(controller: Controller) -> None:
    status, counts, said = controller.plays()
    assert status == 0 and counts["changed"] > 0, said
    host = controller.host
    controller.must_be_guarded()
    assert host.machine.run(["systemctl", "is-active", "knockgate-way-back.timer"]).returncode != 0
    controller.must_open_to(host.bag / "cards" / f"{ADDRESS}.card")


def test_a_second_run_changes_nothing(controller: Controller) -> None:
    before = controller.starts()
    status, counts, said = controller.plays()
    assert (status, counts["changed"]) == (0, 0), said
    assert controller.starts() == before
    assert controller.left_over() == []


def test_what_is_wrong_does_not_come_to_its_place(controller: Controller) -> None:
    before, config = controller.starts(), controller.config()
    status, counts, said = controller.plays(
        {"knockgate_doors": {"ssh": {"ports": ["tcp/22"], "lease": "soon"}}}
    )
    assert status != 0 and counts["failed"] == 1, said
    assert "is no time" in said
    assert controller.config() == config and controller.starts() == before
    assert not controller.reaches(STRANGER)


def test_a_change_is_taken_up_without_an_interruption(controller: Controller) -> None:
    warden = controller.starts()[0]
    doors = {"knockgate_doors": {"ssh": {"ports": ["tcp/22"], "lease": "45s"}}}
    status, _, said = controller.plays(doors)
    assert status == 0, said
    assert 'lease = "45s"' in controller.config() and controller.starts()[0] == warden
    told = json.loads(controller.host.machine.tell("knockgate", "check", "--json"))
    assert told["doors"][0]["lease"] == 45.0
    assert controller.left_over() == []
    assert controller.plays(doors)[1]["changed"] == 0


def test_a_change_that_shuts_us_out_is_taken_back(controller: Controller) -> None:
    before = controller.config()
    status, counts, said = controller.plays(
        {"knockgate_gate": {"allow": ["198.51.100.0/24"]}, "knockgate_trial": 20}
    )
    assert status != 0 and counts["unreachable"] + counts["failed"] == 1, said
    until(lambda: controller.reaches(CLIENT), "what was is in force again", 60.0)
    assert controller.config() == before and not controller.reaches(STRANGER)
    until_active(controller.host.machine, *HALVES)  # the listener begins anew


def test_after_a_run_that_was_broken_off_in_its_trial_the_next_one_waits_for_its_end(
    controller: Controller,
) -> None:
    """Else the first one's way back would undo, in the end, what the second has found in force."""
    before = controller.config()
    doors = {"knockgate_doors": {"ssh": {"ports": ["tcp/22"], "lease": "50s"}}, "knockgate_trial": 20}
    status, _, said = controller.plays(doors, until_said="[The warden goes by gate.toml]")
    assert status != 0, said
    assert controller.config() != before
    status, counts, said = controller.plays(doors)
    assert status == 0 and counts["changed"] > 0 and "FAILED - RETRYING" in said, said
    timer = ["systemctl", "is-active", "knockgate-way-back.timer", "knockgate-way-back.service"]
    assert controller.host.machine.run(timer).returncode != 0
    assert 'lease = "50s"' in controller.config() and controller.left_over() == []
    assert controller.plays(doors)[1]["changed"] == 0
