"""A gate.toml with every key, none of them as it would be without, and what it means."""

from __future__ import annotations

from ipaddress import ip_network

from tests.packets import raw

from knockgate.config.doors import (
    Commands,
    Configuration,
    Demands,
    Devices,
    Door,
    Flags,
    Fwknop,
    Gate,
    Observed,
    Reliance,
    RunsIn,
    Sealed,
    Sequence,
    Suite,
)
from knockgate.config.readers import LogFormat
from knockgate.model import Port, Protocol, TcpFlag


def tcp(number: int) -> Port:
    return Port(Protocol.TCP, number)


def udp(number: int) -> Port:
    return Port(Protocol.UDP, number)


EVERY_KEY = """\
# Every key, and nothing as it would be without.
[gate]
interface = "wan0"
sources = 16
hurried = 16777216
leases = 1000
log_group = 0
tracked = 1
clock = "unknown"
allow = ["203.0.113.0/24", "2001:db8::7"]
shadow = true
log = "json"
run_directory = "/tmp/run"
state_directory = "/tmp/state"

[doors.ssh]
ports = ["tcp/22", "UDP/22 "]
lease = "1m30s"

[doors.ssh.sequence]
steps = ["tcp/7000", "udp/8000", "tcp/65535"]
within = 2.5
runs_in = "kernel"

[doors."web.2"]
ports = ["tcp/443"]
lease = 60

    [doors."web.2".sequence]
    one_time = "/etc/knockgate/once"
    within = "1d"
    runs_in = "daemon"
    flags = ["syn", "!ACK", "!fin"]
    target = "2001:db8::1"

    [doors."web.2".commands]
    open = ["/bin/echo", "opened for %IP%"]
    close = ["/bin/echo", "closed"]
    open6 = []
    close6 = ["/bin/true"]
    time_limit = "3s"

[doors.shell]
sequence = { steps = ["tcp/1"], runs_in = "daemon", target = "192.0.2.7" }
lease = 0
commands.shell = true
commands.open = "iptables -A INPUT -s %IP% -j ACCEPT"
commands.close = ""

[doors.by_hand]
ports = ["tcp/1000"]
allow = ["198.51.100.7", "2001:db8::/32"]
shadow = true

[doors.keyed]
ports = ["tcp/1001"]
longest = "10m"

[doors.keyed.sealed]
observed = "never"
touch = true
devices = "known"

[fwknop]
port = "udp/7"
freshness = "1m"
remembered = 16

[sealed]
port = "udp/9"
suites = ["x25519"]
budget = 7
devices = 3

[keys.alice]
fwknop = "/nowhere"
doors = ["keyed"]

[keys.people]
ssh = "/nowhere"
doors = ["keyed"]
"""


MEANT = Configuration(
    gate=Gate(
        interface="wan0",
        sources=16,
        hurried=16777216,
        leases=1000,
        log_group=0,
        tracked=1,
        clock=Reliance.UNKNOWN,
        allow=(ip_network("203.0.113.0/24"), ip_network("2001:db8::7")),
        shadow=True,
        log=LogFormat.JSON,
        run_directory="/tmp/run",
        state_directory="/tmp/state",
    ),
    doors=(
        Door(
            name="ssh",
            ports=(tcp(22), udp(22)),
            lease=90.0,
            sequence=Sequence(steps=(tcp(7000), udp(8000), tcp(65535)), within=2.5, runs_in=RunsIn.KERNEL),
        ),
        Door(
            name="web.2",
            ports=(tcp(443),),
            lease=60.0,
            sequence=Sequence(
                one_time="/etc/knockgate/once",
                within=86400.0,
                runs_in=RunsIn.DAEMON,
                flags=Flags(TcpFlag.SYN, TcpFlag.ACK | TcpFlag.FIN),
                target=raw("2001:db8::1"),
            ),
            commands=Commands(
                open=("/bin/echo", "opened for %IP%"),
                close=("/bin/echo", "closed"),
                open6=(),
                close6=("/bin/true",),
                time_limit=3.0,
            ),
        ),
        Door(
            name="shell",
            lease=0.0,
            sequence=Sequence(steps=(tcp(1),), runs_in=RunsIn.DAEMON, target=raw("192.0.2.7")),
            commands=Commands(shell=True, open=("iptables -A INPUT -s %IP% -j ACCEPT",)),  # noqa: S604 - a field
        ),
        Door(
            name="by_hand",
            ports=(tcp(1000),),
            allow=(ip_network("198.51.100.7"), ip_network("2001:db8::/32")),
            shadow=True,
        ),
        Door(
            name="keyed",
            ports=(tcp(1001),),
            longest=600.0,
            sealed=Demands(observed=Observed.NEVER, touch=True, devices=Devices.KNOWN),
            keyed=True,
        ),
    ),
    fwknop=Fwknop(port=udp(7), freshness=60.0, remembered=16),
    sealed=Sealed(port=udp(9), suites=(Suite.X25519,), budget=7, devices=3),
)
