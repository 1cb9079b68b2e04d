"""Sealed knocks as people meet them: a machine with a gate, people who knock at it, and clocks that are set.

What is tested are the programs as they are: ``knockgate init``, ``run``, ``card``, ``trust``, ``knock``, each
a process of its own. The machine is this one with an ``/etc``, ``/run``, ``/var/lib`` and network of its own,
so the gate keeps its files where a gate keeps them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import REPO
from tests.knockgate.cli.process import Done, knockgate
from tests.knockgate.daemon import running
from tests.knockgate.daemon.running import HOST, HOST6, network
from tests.knockgate.spa.sshkeys.signers import made
from tests.netns import DEADLINE, heard, own_mounts, packet_socket, run, until

from knockgate.daemon import control
from knockgate.errors import Refused, Unavailable
from knockgate.wire import frames

PORT = 62202
OPEN = {("tcp/22", running.CLIENT, "packet")}
"""The leases after a knock that lets in who has sent it."""
_HEARS = "listening for the sealed knocks"
SECOND = 10**9
HOUR = 3600 * SECOND
_CLOCKS = Path("/run/clocks")
_NOT_SYNCHRONISED, _SYNCHRONISED = 16_000_000, 1_000  # microseconds that the kernel gives for its error
_BOOT = Path("/proc/sys/kernel/random/boot_id")

root = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="an /etc of its own needs root"),
]


# --- the machine --------------------------------------------------------------------------------------


@contextlib.contextmanager
def machine(folder: Path, *, answers: bool = True) -> Iterator[None]:
    """Folders of the system and a network for us alone; on tcp/22 somebody answers if told so."""
    own_mounts()
    etc = folder / "etc"
    run("cp", "-a", "/etc", str(etc))
    run("mount", "--bind", str(etc), "/etc")
    become("0123456789abcdef0123456789abcdef")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{HOST} home.example\n{HOST6} six.example\n")
    with network(), contextlib.ExitStack() as stack:
        if answers:
            both = {"family": socket.AF_INET6, "dualstack_ipv6": True}
            stack.enter_context(socket.create_server(("::", 22), backlog=128, **both))  # type: ignore[arg-type]
        yield


def become(machine_id: str) -> None:
    """Another machine to whoever asks from now on."""
    path = Path("/etc/machine-id")
    path.unlink(missing_ok=True)  # on some systems it is a link
    path.write_text(f"{machine_id}\n")


class Clocks:
    """The clocks of one side as its programs see them: injected, see clocks.c. The real ones go on."""

    def __init__(self, side: str) -> None:
        self.file = _CLOCKS / side
        self._real, self._boot, self._error = 0, 0, _NOT_SYNCHRONISED
        self._write()

    def lead(self, nanoseconds: int) -> None:
        """Ahead of what is right; negative: behind."""
        self._real = nanoseconds
        self._write()

    def synchronised(self, *, are: bool = True) -> None:
        self._error = _SYNCHRONISED if are else _NOT_SYNCHRONISED
        self._write()

    def reboot(self) -> None:
        """A machine without a battery: it is 1970 and some seconds, and nobody knows better."""
        boot = round(time.clock_gettime(time.CLOCK_BOOTTIME) * SECOND)
        self._real, self._boot = 20 * SECOND - now(), 20 * SECOND - boot
        self.synchronised(are=False)
        (_CLOCKS / "boot_id").write_text(f"{os.urandom(16).hex()}\n")

    def _write(self) -> None:
        octets = struct.pack("=qqq", self._real, self._boot, self._error)
        if self.file.exists():
            with self.file.open("r+b") as stream:
                stream.write(octets)
        else:
            self.file.write_bytes(octets)


def set_clocks() -> tuple[Clocks, Clocks]:
    """Those of the gate, and those of people. Every program that starts from now on has them, but this one.

    The wall clock, the time since the boot, whether the kernel vouches for the clock, and the boot's identity
    are what is written here, and not what this machine says. Skips where there is no C compiler.
    """
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    _CLOCKS.mkdir()
    library = _CLOCKS / "clocks.so"
    source = Path(__file__).with_name("clocks.c")
    run("cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(source))
    found = Clocks("gate"), Clocks("people")
    (_CLOCKS / "boot_id").write_text(_BOOT.read_text())
    run("mount", "--bind", str(_CLOCKS / "boot_id"), str(_BOOT))
    Path("/etc/ld.so.preload").write_text(f"{library}\n")
    return found


def now() -> int:
    """Nanoseconds since 1970, in fact."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


# --- programs -----------------------------------------------------------------------------------------


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "knockgate", *words]


def environment(**others: str) -> dict[str, str]:
    """What a program finds, and nothing that whoever runs the tests has."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPO / "src"), "LANG": "C.UTF-8", **others}


def _done(words: list[str], own: dict[str, str], text: str | None = None) -> Done:
    """Without a terminal, whoever runs the tests."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if text is None else {"input": text}
    done = subprocess.run(
        words,
        env=own,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
        start_new_session=True,
        **given,
    )
    return Done(done.returncode, done.stdout, done.stderr)


class Gate:
    """A gate of ``knockgate init``: its admin's commands, and ``knockgate run``."""

    def __init__(self, folder: Path, *keys: Path, name: str = "knockgate", user: str = "") -> None:
        """``keys``: the public keys that may knock, or ``user`` whose own may.

        The clock is trusted until ``says`` says else.
        """
        self._folder = folder
        self.etc = Path("/etc", name)
        self.etc.mkdir()
        self.file, self.people = self.etc / "gate.toml", self.etc / "authorized_keys"
        self.state = Path("/var/lib", name)
        self.card = self.etc / "everybody.card"
        self._log = folder / f"{name}.log"
        self._log.touch()
        self.lets_in(*(key.read_text().strip() for key in keys))
        who = ["--user", user] if user else ["--keys", str(self.people)]
        self.does("init", *who, "--lease", "1h", "--state", str(self.state), "-o", str(self.card))
        self.says(gate='clock = "trusted"')

    def does(self, *words: str, text: str | None = None, status: int = 0) -> Done:
        """What the admin types at this gate."""
        done = _done(command(*words, "--config", str(self.file)), environment(HOME="/root"), text)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def changes(self, *words: str) -> Done:
        """The same of a gate that runs; returns when it hears again: in between it is deaf."""
        before = self.log().count(_HEARS)
        done = self.does(*words)
        until(lambda: self.log().count(_HEARS) > before, "it hears again")
        return done

    def says(self, more: str = "", *, gate: str = "") -> None:
        """``more`` goes to the end of gate.toml, and ``gate`` below its [gate]; before it runs."""
        text = self.file.read_text()
        if gate:
            lines = [line for line in text.splitlines() if not line.startswith("clock = ")]
            if "[gate]" not in lines:
                lines.insert(1, "[gate]")
            lines.insert(lines.index("[gate]") + 1, gate)
            text = "\n".join(lines) + "\n"
        self.file.write_text(text + more)

    def opens(self, *doors: str) -> None:
        """To all its keys; before it runs."""
        text = self.file.read_text()
        self.file.write_text(text.replace('\ndoors = ["ssh"]', f"\ndoors = {json.dumps(doors)}"))

    def lets_in(self, *lines: str) -> None:
        """Another file by rename, as editors do."""
        new = self.people.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.chmod(0o600)
        new.rename(self.people)

    def start(self) -> None:
        """`knockgate run`; returns when it says that it is ready, as systemd would wait."""
        path = self._folder / "notify"
        path.unlink(missing_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
            self._log.open("a", encoding="utf-8") as log,
        ):
            ready.bind(str(path))
            ready.setblocking(False)
            words = command("run", str(self.file))
            own = environment(NOTIFY_SOCKET=str(path))
            self._process = subprocess.Popen(words, stderr=log, env=own)
            until(lambda: running._waits(ready) or self._process.poll() is not None, "ready")
            assert self._process.poll() is None, self.log()

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """SIGKILL: all halves go with it, which the kernel sees to."""
        self._process.send_signal(number)
        status = self._process.wait(DEADLINE)
        assert status == (0 if number is signal.SIGTERM else -number), self.log()
        until(lambda: not self._answers(), "nobody answers")

    def _answers(self) -> bool:
        try:
            return bool(control.ask("/run/knockgate"))
        except Unavailable:
            return False

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def sealed(self) -> dict[str, Any]:
        """What the status tells of sealed knocks."""
        found: dict[str, Any] = control.ask("/run/knockgate")["sealed"]
        return found

    def until_opened(self, times: int) -> None:
        until(lambda: self.sealed()["opened"] >= times, f"{times} were opened")
        assert self.sealed()["opened"] == times

    def refused(self) -> int:
        counts: dict[str, int] = self.sealed()["refused"]
        return sum(counts.values())

    def until_refused(self, reason: str, times: int = 1) -> None:
        until(lambda: self.sealed()["refused"].get(reason, 0) >= times, f"{reason} is counted")
        assert self.sealed()["refused"][reason] == times

    def close(self, source: str = running.CLIENT, door: str = "ssh") -> None:
        self._quickly("close", door, source)
        assert running.leases() == set()

    def _quickly(self, *words: str) -> Done:
        """A command in our own process, where the clocks are right; it is faster."""
        done = knockgate(*words, "--config", str(self.file))
        assert done.returncode == 0, done.stderr
        return done

    def explained(self) -> dict[str, Any]:
        """What `knockgate explain --json` tells of knocks: each of somebody's, and strangers' by reason."""
        found: dict[str, Any] = json.loads(self._quickly("explain", "--json").stdout)
        return found

    def newest(self) -> dict[str, Any]:
        """The story of the last knock that somebody has signed."""
        found: dict[str, Any] = self.explained()["knocks"][0]
        return found


@contextlib.contextmanager
def guarding(gate: Gate) -> Iterator[Gate]:
    """While it runs; it must end well."""
    gate.start()
    yield gate
    gate.end()


class Person:
    """Somebody at the other end of the cable, with a home and keys of their own."""

    def __init__(self, home: Path, *, clocks: Clocks | None = None) -> None:
        self.home = home
        (home / ".ssh").mkdir(parents=True, mode=0o700, exist_ok=True)
        self.others: dict[str, str] = {"TEST_CLOCKS": str(clocks.file)} if clocks else {}

    def key(self, kind: str = "ed25519", *options: str, name: str = "") -> Path:
        """A new pair of ssh-keygen's; returns the private one."""
        folder = self.home / f"new-{kind}"
        folder.mkdir()
        size = ("-b", "256") if kind == "ecdsa" else ()
        found = made(folder, "-t", kind, *size, *options)
        file = self.home / ".ssh" / (name or f"id_{kind}")
        for suffix in ("", ".pub"):
            found.with_name(found.name + suffix).rename(file.with_name(file.name + suffix))
        folder.rmdir()
        return file

    @property
    def environment(self) -> dict[str, str]:
        return environment(**{"HOME": str(self.home)} | self.others)

    def does(self, *words: str, text: str | None = None, status: int = 0) -> Done:
        """What they type."""
        with running.client:
            done = _done(command(*words), self.environment, text)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def trusts(self, gate: Gate, key: Path, *words: str, card: Path | None = None) -> None:
        """The card has come to them; their profile is called home."""
        shown = (card or gate.card).read_text()
        self.does("trust", "home", "home.example", "-", "-i", str(key), *words, text=shown)

    def knock(self, *words: str, status: int = 0) -> Done:
        return self.does("knock", "home", *words, status=status)

    def gets_in(self, gate: Gate, *words: str) -> None:
        """Knock, and see that the gate opens; then shut the door again."""
        before = gate.sealed()["opened"]
        self.knock(*words)
        gate.until_opened(before + 1)
        assert running.leases() == OPEN
        gate.close()

    def enters(self, *words: str) -> dict[str, Any]:
        """Knock and wait; what it tells as JSON."""
        done = self.does("knock", "home", "--wait", "22", "--timeout", "20s", "--json", *words)
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["wait"]["open"] is True
        return found


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


def line(key: Path) -> str:
    """As in authorized_keys."""
    return public(key).read_text().strip()


# --- the cable ----------------------------------------------------------------------------------------


def send(payload: bytes, *, source: str = running.CLIENT) -> None:
    """A datagram to the gate, by whoever has it."""
    host, family = (HOST6, socket.AF_INET6) if ":" in source else (HOST, socket.AF_INET)
    with running.client, socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.sendto(payload, (host, PORT))


@contextlib.contextmanager
def recording() -> Iterator[Callable[[], bytes]]:
    """Listen on the cable; what is yielded returns the next knock that came by."""
    with packet_socket("near") as ear:
        found: list[bytes] = []

        def look() -> bool:
            for each in heard(ear):
                with contextlib.suppress(Refused):
                    found.append(frames.datagram(each.packet)[2])
            return bool(found)

        def following() -> bytes:
            until(look, "a knock on the cable")
            return found.pop(0)

        yield following
