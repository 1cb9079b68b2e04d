"""Each command by somebody who is not root: it works, or says what it needs and changes nothing."""

from __future__ import annotations

import os
import pwd
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.folders import let_others_in
from tests.knockgate.cli.gates import running
from tests.knockgate.cli.process import Done, as_nobody, command
from tests.knockgate.cli.sealed_gates import initialised
from tests.knockgate.cli.somebody import Somebody, serving
from tests.knockgate.cli.test_commands import every_command
from tests.netns import isolated, own_mounts, up

pytestmark = [
    pytest.mark.root,
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else"),
]

DEVICE = "ab" * 16
#: {own} is the user's gate, {roots} root's, which runs; {secret} its file where it is for root alone,
#: {closed} a folder for root alone. {make} is what `init` makes it of. In {plain} there are no keys.
ROWS = """
check                       works         check {roots}
check                       works         check --explain people {roots}
check                       needs root    check {secret}
rules                       works         rules {roots}
rules                       needs root    rules {secret}
doctor                      says no       doctor --config {roots}
doctor                      needs root    doctor --config {secret}
simulate                    says no       simulate {roots} {capture}
simulate                    needs root    simulate {plain} {closed}/capture
up                          needs root    up {roots}
up                          needs root    up --confirm 5s {roots}
confirm                     needs root    confirm {roots}
down                        needs root    down {roots}
status                      needs root    status {roots}
status                      needs root    status --json {roots}
status                      needs root    status {roots} --watch
log                         works         log --file {text}
log                         needs root    log --file {closed}/log
open                        needs root    open ssh 192.0.2.7 --config {roots}
extend                      needs root    extend ssh 192.0.2.7 1h --config {roots}
close                       needs root    close ssh --all --config {roots}
pause                       needs root    pause 10m --config {roots}
resume                      needs root    resume --config {roots}
init                        works         init --config {own} --state {home}/g/state {make}
init                        needs root    init {make}
init                        needs root    init --config {home}/h/gate.toml {make}
init                        needs root    init --config {closed}/a/gate.toml --state {home}/h {make}
confirm                     says no       confirm {own}
card list                   works         card list --config {own}
card list                   needs root    card list --config {roots}
card show                   works         card show --config {own}
card show                   needs root    card show --config {roots}
card new                    works         card new phones -o {home}/phones.card --config {own}
card new                    needs root    card new phones -o {home}/x.card --config {roots}
card new                    needs root    card new cellar -o {closed}/a/x.card --config {own}
card revoke                 works         card revoke phones --config {own}
card revoke                 needs root    card revoke everybody --config {roots}
device list                 works         device list --config {own}
device list                 needs root    device list --config {roots}
device enrol                works         device enrol {device} --config {own}
device enrol                needs root    device enrol {device} --config {roots}
device forget               works         device forget {device} --config {own}
device forget               needs root    device forget {device} --config {roots}
explain                     needs root    explain --config {roots}
rekey                       works         rekey -o {home} --config {own}
rekey                       needs root    rekey -o {home} --config {roots}
rekey                       needs root    rekey --now --yes -o {home} --config {roots}
replay forget-time          needs root    replay forget-time --config {roots}
replay forget-time          works         replay forget-time --config {own}
replay reset                needs root    replay reset --yes --clock-unknown --config {roots}
replay reset                works         replay reset --yes --clock-unknown --config {own}
run                         needs root    run {roots}
metrics                     needs root    metrics --config {roots}
metrics                     needs root    metrics -o {home}/k.prom --config {roots}
backup                      works         backup --config {own} {home}/gate.tar
backup                      needs root    backup --config {roots} {home}/roots.tar
backup                      needs root    backup --config {own} {closed}/a/gate.tar
restore                     works         restore --clock-unknown {home}/gate.tar
restore                     needs root    restore {closed}/gate.tar
install                     needs root    install
install                     works         install --root {home} --packages /usr/lib/knockgate
install                     needs root    install --root {closed}/a --packages /usr/lib/knockgate
uninstall                   needs root    uninstall
uninstall                   works         uninstall --root {home}
import knockd               works         import knockd {knockd}
import knockd               needs root    import knockd {closed}/knockd.conf
import fwknop               works         import fwknop {access} -i lo -o {home}/imported
import fwknop               needs root    import fwknop {access} -i lo -o {closed}/imported
import fwknoprc             works         import fwknoprc {rc} -o {home}/rc
trust                       works         trust gate 198.51.100.1 {home}/my.card
trust                       needs root    trust closed 127.0.0.1 {closed}/card
key new                     works         key new --fwknop alice -o {home}/alice.secrets
key new                     needs root    key new --fwknop alice -o {closed}/a/alice.secrets
knock                       works         knock 127.0.0.1 7000 udp/8000 --delay 1ms
knock                       works         knock 127.0.0.1 --fwknop --secrets {home}/alice.secrets -A tcp/22
knock                       works         knock gate -i {key} --allow 198.51.100.1
knock                       needs root    knock 127.0.0.1 --fwknop --secrets {closed}/alice.secrets -A tcp/22
connect                     works         connect --profile near 127.0.0.1 {port}
test                        says no       test near --within 1s
completion                  works         completion zsh
"""


@dataclass(frozen=True)
class Row:
    verb: str
    ends: str
    words: list[str]


def rows(**names: object) -> Iterator[Row]:
    for line in ROWS.strip().splitlines():
        verb, ends, words = (each.strip() for each in (line[:28], line[28:42], line[42:]))
        yield Row(verb, ends, shlex.split(words.format(**names)))


def test_no_command_is_left_out() -> None:
    known = {" ".join(words) for words in every_command()} - {"import", "key", "card", "device", "replay"}
    assert {line[:28].strip() for line in ROWS.strip().splitlines()} == known


@pytest.fixture
def folder() -> Iterator[Path]:
    """Which others can enter, whatever pytest does to its own folders meanwhile."""
    with tempfile.TemporaryDirectory() as found:
        let_others_in(Path(found))
        yield Path(found)


@isolated
def test_each_command_works_or_says_what_it_needs(folder: Path) -> None:
    """On a gate of root's that runs, and on one of one's own."""
    own_mounts()
    up("lo", "198.51.100.1/32")
    somebody = Somebody(folder)
    (folder / "root").mkdir()
    roots = initialised(folder / "root")
    (folder / "root" / "secret.toml").write_text(Path(roots.config).read_text())
    (folder / "root" / "secret.toml").chmod(0o600)
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    home = somebody.home
    wrong = []
    with serving() as port, running(roots.config, directory=folder / "root"):
        for row in rows(
            roots=roots.config,
            secret=folder / "root" / "secret.toml",
            own=home / "g" / "gate.toml",
            closed=closed,
            home=home,
            device=DEVICE,
            make=f"--keys {home}/authorized_keys -o {home}/my.card",
            plain=home / "plain.toml",
            key=home / ".ssh" / "id",
            text=home / "text",
            capture=home / "capture",
            knockd=home / "knockd.conf",
            access=home / "access.conf",
            rc=home / "fwknoprc",
            port=port,
        ):
            if row.verb == "restore" and row.ends == "works":
                (home / "g").rename(home / "old")  # the machine that is no more
            before = somebody.files()
            done = somebody.does(*row.words)
            if fault := _fault(row, done, somebody.files() - before):
                wrong.append(f"{' '.join(row.words)}: {fault}\n{done.returncode} {done.stdout}{done.stderr}")
            if row.verb == "init" and row.ends == "works":
                _keep_apart(home / "g" / "gate.toml")
    assert not wrong, "\n".join(wrong)


def _keep_apart(config: Path) -> None:
    """From the gate of root's: another place for its sockets."""
    text = config.read_text()
    config.write_text(text.replace("[gate]\n", f'[gate]\nrun_directory = "{config.parent}/run"\n', 1))


def _fault(row: Row, done: Done, new: set[str]) -> str:
    if "Traceback" in done.stderr:
        return "a traceback"
    if row.ends == "works":
        return "" if done.returncode == 0 else "does not work"
    if row.ends == "says no":
        return "" if done.returncode == 1 else "does not say no"
    first, *rest = done.stderr.splitlines() or [""]
    if done.returncode != 2 or done.stdout:
        return "does not say that it cannot be done"
    if new:
        return f"has left {new}"
    if (
        not first.startswith("knockgate: ")
        or len(rest) > 1
        or not all(each.startswith("  hint: ") for each in rest)
    ):
        return "is not a line and a hint"
    return "" if " root" in done.stderr else "does not say who can"


# --- a network of one's own ---------------------------------------------------------------------------

#: As root of a namespace of one's own; each line is a command line, and what it ends with.
ALONE = """
up {gate}                                             | 0
up --confirm 1s {other} </dev/null                    | 1
status {gate}                                         | 0
open ssh 192.0.2.7 --config {gate}                    | 0
extend ssh 192.0.2.7 1h --config {gate}               | 0
close ssh --all --config {gate}                       | 0
pause 10m --config {gate}                             | 0
status {gate}                                         | 1
resume --config {gate}                                | 0
metrics --config {gate} -o {home}/g.prom              | 0
check {gate}                                          | 0
down {gate}                                           | 0
explain --config {gate}                               | 2
"""
RUN = """
ip link set lo up
gate() {{ verb=$1; shift; {program} $verb "$@" --config {gate}; }}
{program} run {gate} >{home}/said 2>&1 & process=$!
i=0
until gate status --json | grep -q '"pid"'; do
    i=$((i + 1)); [ $i -lt 100 ] || exit 99
done
gate open ssh 192.0.2.7 && gate explain && gate status || exit 98
kill $process
wait $process
"""


@isolated
def test_a_gate_in_a_namespace_of_ones_own_needs_no_root(folder: Path) -> None:
    own_mounts()
    somebody = Somebody(folder)
    home = somebody.home
    alone = ["unshare", "-Urnm"]
    if (done := somebody.does("true", program=alone)).returncode:
        pytest.skip(f"nobody makes namespaces here: {done.stderr}")
    gate = home / "g" / "gate.toml"
    words = f"--keys {home}/authorized_keys --config {gate} --state {home}/g/state -o {home}/my.card"
    done = somebody.does("init", "--port", "tcp/22", *words.split())
    assert done.returncode == 0, done.stderr
    _keep_apart(gate)
    other = gate.with_name("other.toml")
    other.write_text(gate.read_text().replace("tcp/22", "tcp/23"))
    names = {"program": shlex.join(command()), "gate": gate, "other": other, "home": home}
    script = "ip link set lo up\n"
    for line in ALONE.strip().splitlines():
        typed, _, status = line.format(**names).partition("|")
        script += f"{names['program']} {typed}; s=$?; [ $s = {status} ] || exit 9\n"
    done = somebody.does(script, program=[*alone, "sh", "-xc"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and (home / "g.prom").exists()
    done = somebody.does(RUN.format(**names), program=[*alone, "sh", "-c"])
    assert done.returncode == 0, (done, (home / "said").read_text())
    assert "open for 1 source" in done.stdout


# --- the client ---------------------------------------------------------------------------------------

#: Refuses every socket but those for IP, as a sandbox with RestrictAddressFamilies=AF_INET AF_INET6 would.
_IP_ALONE = """
import socket, sys
class Socket(socket.socket):
    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        if fileno is None and family not in (-1, socket.AF_INET, socket.AF_INET6) or type == socket.SOCK_RAW:
            raise PermissionError(f"a socket of {family}, {type}")
        super().__init__(family, type, proto, fileno)
socket.socket = Socket
from knockgate.cli import main
sys.exit(main(sys.argv[1:]))
"""


@isolated
def test_the_client_needs_no_socket_but_for_ip(folder: Path) -> None:
    own_mounts()
    up("lo", "198.51.100.1/32")
    somebody = Somebody(folder)
    home = somebody.home
    (folder / "root").mkdir()
    card = initialised(folder / "root").folder / "everybody.card"
    (home / "card").write_text(card.read_text())
    nobody = pwd.getpwnam("nobody")
    os.chown(home / "card", nobody.pw_uid, nobody.pw_gid)
    (home / "card").chmod(0o600)
    program = [sys.executable, "-c", _IP_ALONE]
    with serving() as port:
        for words in (
            ["trust", "gate", "198.51.100.1", str(home / "card")],
            ["knock", "gate", "-i", str(home / ".ssh" / "id"), "--allow", "198.51.100.1"],
            ["knock", "127.0.0.1", "7000", "udp/8000", "--delay", "1ms"],
            ["key", "new", "--fwknop", "alice", "-o", str(home / "alice.secrets")],
            ["knock", "127.0.0.1", "--fwknop", "--secrets", str(home / "alice.secrets"), "-A", "tcp/22"],
            ["connect", "--profile", "near", "127.0.0.1", port],
        ):
            done = somebody.does(*words, program=program)
            assert done.returncode == 0, (words, done)
    done = somebody.does("status", str(folder / "root" / "gate.toml"), program=program)
    assert done.returncode != 0  # the control: root's business needs others


@isolated
def test_somebody_elses_home_is_no_traceback(folder: Path) -> None:
    """As `sudo -u` leaves it: HOME is root's."""
    own_mounts()
    somebody = Somebody(folder)
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    theirs = {
        "HOME": str(closed),
        "XDG_CONFIG_HOME": str(closed / "config"),
        "XDG_STATE_HOME": str(closed / "s"),
    }
    (folder / "root").mkdir()
    card = initialised(folder / "root").folder / "everybody.card"
    (somebody.home / "card").write_text(card.read_text())
    (somebody.home / "card").chmod(0o644)
    done = as_nobody("knock", "127.0.0.1", "7000", "--delay", "1ms", **theirs)
    assert done.returncode == 0, done.stderr
    somebody.home.chmod(0o755)
    for words in (
        ["trust", "gate", "127.0.0.1", str(somebody.home / "card")],
        ["knock", "gate"],
        ["knock", "127.0.0.1", "--card", str(somebody.home / "card"), "--door", "ssh", "-s"],
        ["test", "gate"],
        ["connect", "gate", "22"],
        ["import", "fwknoprc"],
    ):
        done = as_nobody(*words, **theirs)
        assert done.returncode == 2 and "Traceback" not in done.stderr, (words, done)
        assert done.stderr.startswith("knockgate: ")
