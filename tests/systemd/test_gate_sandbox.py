"""What code can do that runs in the units' own processes: each attempt beside root's, which succeeds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.netns import until
from tests.systemd import gate
from tests.systemd.gate import (
    HALVES,
    KEEPER,
    LISTENER,
    PORTS,
    WARDEN,
    answers,
    inject,
    open_to_injection,
    outside,
    process_of,
    until_active,
)
from tests.systemd.machine import NEEDS, Machine, boot
from tests.systemd.site import key_pair, secrets_of

pytestmark = NEEDS

#: Each is tried within a half and by root. ``{others}``: the processes of the other halves.
ATTEMPTS = r"""
import ctypes, os, signal, socket, subprocess, sys
def reads(path):
    def body():
        with open(path, "rb") as stream:
            stream.read(1)
    return body
def writes(path):
    def body():
        with open(path, "w"):
            pass
    return body
def makes(*arguments):
    return lambda: socket.socket(*arguments).close()
def traces(process):
    def body():
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(16, process, None, None):  # PTRACE_ATTACH
            raise OSError(ctypes.get_errno(), "ptrace")
        os.waitpid(process, 0x40000000)  # __WALL
        libc.ptrace(17, process, None, None)  # PTRACE_DETACH
    return body
def remembers(process):
    def body():
        with open(f"/proc/{process}/mem", "rb") as stream:
            pass
    return body
def in_a_child(body):
    process = os.fork()
    if process == 0:
        try:
            body()
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(process, 0)[1]:
        raise OSError(1, "it failed")
def bypasses():
    from knockgate.firewall.libnftables import Libnftables
    Libnftables().run("add table inet probe; delete table inet probe")
def maps():
    import mmap
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
def raises():
    os.seteuid(0)
def mounts():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/mnt", b"tmpfs", 0, None) or libc.umount2(b"/mnt", 0):
        raise OSError(ctypes.get_errno(), "mount")
def unshares():
    if ctypes.CDLL(None).unshare(0x20000):  # CLONE_NEWNS
        raise OSError(1, "unshare")
for path in ("/etc/shadow", "/home/jo/.ssh/authorized_keys", "/etc/knockgate/alice.secrets",
             "/var/lib/knockgate/gate.keys", "/root/secret"):
    attempt(f"read {path}", reads(path))
for path in ("/etc/probe", "/usr/lib/knockgate/probe", "/var/lib/probe", "/run/probe", "/home/jo/probe"):
    attempt(f"write {path}", writes(path))
for family in ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"):
    arguments = (getattr(socket, family), socket.SOCK_RAW if family == "AF_PACKET" else socket.SOCK_DGRAM)
    attempt(family, makes(*arguments))
attempt("exec", lambda: subprocess.run(["/bin/true"], check=True))
for process in OTHERS:
    attempt(f"ptrace {process}", traces(process))
    attempt(f"memory of {process}", remembers(process))
    attempt(f"signal {process}", lambda: os.kill(process, signal.SIGCONT))
attempt("firewall", lambda: in_a_child(bypasses))  # without netlink libnftables ends its process
attempt("memory to be executed", maps)
attempt("root", raises)
attempt("mount", mounts)
attempt("namespace", lambda: in_a_child(unshares))
"""
#: What a half is there for, and what is no harm.
MAY = {
    WARDEN: {"AF_NETLINK", "firewall"},
    LISTENER: {"read /var/lib/knockgate/gate.keys", "AF_NETLINK"},
    KEEPER: {f"read {path}" for path in (
        "/etc/shadow", "/home/jo/.ssh/authorized_keys", "/etc/knockgate/alice.secrets",
        "/var/lib/knockgate/gate.keys", "/root/secret",
    )},
}  # fmt: skip


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    bag = tmp_path_factory.mktemp("client")
    packages = gate.bundle(tmp_path_factory.mktemp("packages") / "knockgate")
    script = gate.prepare(packages, secrets_of(bag), key_pair(bag), rest="echo x > /root/secret")
    with boot(prepare=script, lend=[packages]) as machine:
        gate.begin_service(machine)
        machine.tell("knockgate", "init", "--bare", "-o", "/root/card")
        machine.tell("knockgate", "install", "--now")
        until_active(machine, *HALVES)
        open_to_injection(machine)
        yield machine


@pytest.mark.parametrize("unit", [WARDEN, LISTENER, KEEPER])
def test_what_code_in_a_half_can_do(machine: Machine, unit: str) -> None:
    others = [process_of(machine, each) for each in (WARDEN, LISTENER, KEEPER) if each != unit]
    code = f"OTHERS = {others}\n{ATTEMPTS}"
    control = outside(machine, code)
    assert {name: why for name, why in control.items() if why} == {}
    found = inject(machine, unit, code)
    assert found.keys() == control.keys()
    assert {name for name, why in found.items() if not why} == MAY[unit], found
    assert machine.is_active(*HALVES, KEEPER) == ["active"] * 3
    assert [process_of(machine, each) for each in (WARDEN, LISTENER, KEEPER) if each != unit] == others


MODULES = """
import sys
found["modules"] = sorted(name for name, module in sys.modules.items() if module)
found["mapped"] = sorted({line.split(None, 5)[5] for line in open("/proc/self/maps") if "/" in line})
"""


def test_in_the_half_with_rights_there_is_no_codec_and_no_cryptography(machine: Machine) -> None:
    found: dict[str, list[str]] = inject(machine, WARDEN, MODULES)  # type: ignore[assignment]
    control: dict[str, list[str]] = inject(machine, LISTENER, MODULES)  # type: ignore[assignment]
    words = (
        "knockgate.spa",
        "knockgate.wire",
        "knockgate.engine",
        "cryptography",
        "_hashlib",
        "ssl",
        "sqlite3",
    )
    for word in words:
        assert _loaded(control["modules"], word) or word == "ssl", word  # whoever hears strangers has them
    assert {word for word in words if _loaded(found["modules"], word)} == set()
    libraries = ("libcrypto", "libssl", "_rust", "_cffi", "sqlite")
    assert [path for path in found["mapped"] if any(word in path for word in libraries)] == []
    assert any("libcrypto" in path or "_rust" in path for path in control["mapped"])


def _loaded(modules: list[str], word: str) -> bool:
    return any(each == word or each.startswith(f"{word}.") for each in modules)


#: In the listener: over its own link, what it never asks for. ``found`` has the status and what is said.
ASK = """
import dataclasses, gc
from knockgate.daemon.ward import Ward
from knockgate.daemon.link import Reply, Request, Verb
(ward,) = [each for each in gc.get_objects() if isinstance(each, Ward)]
configuration = ward._configuration
names = [door.name for door in configuration.doors]
def ask(name, **changes):
    plain = Request(Verb.OPEN, 77, names.index("daemon"), bytes([192, 0, 2, 7]), 0, configuration.checksum)
    ward._socket.settimeout(10)
    ward._socket.send(dataclasses.replace(plain, **changes).encode())
    reply = Reply.decode(ward._socket.recv(1000))
    found[name] = f"{reply.status.name}: {reply.says}"
ask("no such door", door=99)
ask("every door", door=0xFFFF)
ask("the kernel's door", door=names.index("kernel"))
ask("a door for no key", milliseconds=1000)
ask("too long", door=names.index("sealed"), milliseconds=601_000)
ask("for everybody", source=b"")
ask("close", verb=Verb.CLOSE)
ask("reload", verb=Verb.RELOAD)
ask("pause", verb=Verb.PAUSE)
ask("another configuration", checksum=bytes(range(16)))
"""


def test_the_listener_can_ask_the_warden_for_nothing_that_is_not_in_the_configuration(
    machine: Machine,
) -> None:
    found = inject(machine, LISTENER, ASK)
    assert {name: str(why).partition(":")[0] for name, why in found.items()} == {
        "no such door": "NO_SUCH_DOOR",
        "every door": "NO_SUCH_DOOR",
        "the kernel's door": "NOT_ALLOWED",
        "a door for no key": "NOT_ALLOWED",
        "too long": "NOT_ALLOWED",
        "for everybody": "NOT_ALLOWED",
        "close": "NOT_ALLOWED",
        "reload": "NOT_ALLOWED",
        "pause": "NOT_ALLOWED",
        "another configuration": "OTHER_CONFIGURATION",
    }
    assert "192.0.2.7" not in machine.tell("nft", "list", "ruleset")
    control = inject(machine, LISTENER, ASK[: ASK.index('ask("no such')] + 'ask("the daemon\'s door")\n')
    assert control == {"the daemon's door": "DONE: "}
    assert "192.0.2.7" in machine.tell("nft", "list", "ruleset")


def test_another_protocol_ends_the_warden_and_nothing_opens(machine: Machine) -> None:
    before = {unit: process_of(machine, unit) for unit in HALVES}
    found = inject(
        machine,
        LISTENER,
        ASK[: ASK.index('ask("no such')] + "ward._socket.send(b'x' * 48)\nfound['sent'] = ''\n",
    )
    assert found == {"sent": ""}
    until(
        lambda: all(process_of(machine, unit) not in (0, before[unit]) for unit in HALVES), "both begin anew"
    )
    until_active(machine, *HALVES)
    assert "a request of another make" in machine.tell("journalctl", "--no-pager", "-u", WARDEN)
    assert [port for port in PORTS.values() if answers(machine.client, port)] == []


def test_the_listener_gets_no_file_of_the_keeper_that_no_key_names(machine: Machine) -> None:
    code = """
import socket
from knockgate.config import places
from knockgate.daemon.keylink import Request, Reply, Verb, checksum_of
known = places.load("/etc/knockgate/gate.toml")
def ask(name, message):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(10)
        link.connect("/run/knockgate/keys.sock")
        link.send(message)
        answer, files, _, _ = socket.recv_fds(link, 1000, 1)
        found[name] = f"{Reply.decode(answer).status.name} {len(files)}" if answer else "hung up"
checksum = checksum_of(known)
ask("the file", Request(Verb.KEYS, 0, checksum).encode())
ask("another", Request(Verb.KEYS, 1, checksum).encode())
ask("other places", Request(Verb.KEYS, 0, bytes(16)).encode())
ask("a path", b"/etc/shadow")
"""
    found = inject(machine, LISTENER, code)
    assert found == {
        "the file": "DONE 1",
        "another": "hung up",
        "other places": "OTHER_CONFIGURATION 0",
        "a path": "hung up",
    }
