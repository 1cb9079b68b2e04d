"""That what the findings say of the guard is so: each on a real kernel, with the finding beside it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.knockgate.cli.gates import SSH, Host, gate
from tests.knockgate.cli.process import knockgate
from tests.knockgate.doctor.looking import KEYED, host, kinds
from tests.netns import Network, heard, isolated, packet_socket, run, until, up, veth

from knockgate.client.wait import probe
from knockgate.doctor import network, ports, rules
from knockgate.doctor.finding import Kind
from knockgate.model import Port, Protocol

PREROUTING = "table ip other {{ chain c {{ type filter hook prerouting priority -300; {} }}; }}"


def dropped() -> int:
    """Packets that the doors have dropped."""
    listing = json.loads(run("nft", "-j", "list", "counter", "inet", "knockgate", "shut"))
    return int(next(each["counter"]["packets"] for each in listing["nftables"] if "counter" in each))


@isolated
def test_a_port_of_a_bridge_is_not_what_packets_come_from(tmp_path: Path) -> None:
    client = Network()
    veth("near", "far", client)
    run("ip", "link", "add", "bridge0", "type", "bridge")
    run("ip", "link", "set", "near", "master", "bridge0")
    up("bridge0", "10.9.9.1/24")
    with client:
        up("far", "10.9.9.2/24")

    def seen(interface: str) -> str:
        (tmp_path / interface).mkdir()
        file = Path(gate(tmp_path / interface, SSH))
        file.write_text(file.read_text().replace("[gate]\n", f'[gate]\ninterface = "{interface}"\n'))
        assert knockgate("up", str(file)).returncode == 0
        with client:
            return str(probe("10.9.9.1", Port(Protocol.TCP, 22)))

    with socket.create_server(("10.9.9.1", 22)):
        assert seen("near") == "open"
        assert Kind.INTERFACE_ENSLAVED in kinds(network.examine(host(SSH, 'interface = "near"')))
        assert seen("bridge0") == "filtered"
        assert Kind.INTERFACE_ENSLAVED not in kinds(network.examine(host(SSH, 'interface = "bridge0"')))


@isolated
def test_what_accepts_before_opens_nothing(tmp_path: Path) -> None:
    there = Host()
    assert there.seen() == "open"
    assert knockgate("up", gate(tmp_path, SSH)).returncode == 0
    run("nft", PREROUTING.format("tcp dport 22 accept;"))
    assert there.seen() == "filtered"
    assert kinds(rules._in_the_kernel(host())) == set()


@isolated
def test_sessions_that_are_not_tracked_end_with_their_lease(tmp_path: Path) -> None:
    there, file = Host(), gate(tmp_path, SSH)
    assert knockgate("up", file).returncode == 0

    def session_after_its_lease() -> tuple[socket.socket, socket.socket]:
        assert knockgate("open", "ssh", "10.9.9.2", "--config", file).returncode == 0
        ends = there.session()
        assert knockgate("close", "ssh", "10.9.9.2", "--config", file).returncode == 0
        return ends

    session, served = session_after_its_lease()
    before = dropped()
    session.sendall(b"typed")
    assert served.recv(5) == b"typed" and dropped() == before
    assert kinds(rules._in_the_kernel(host())) == set()

    run("nft", PREROUTING.format("tcp dport 22 notrack;"))
    session, served = session_after_its_lease()
    before = dropped()
    session.sendall(b"typed")
    until(lambda: dropped() > before, "what is typed is dropped")
    assert kinds(rules._in_the_kernel(host())) == {Kind.NOT_TRACKED}


@isolated
def test_a_port_that_is_changed_before_the_guard_is_not_the_one_that_it_guards(tmp_path: Path) -> None:
    there = Host()
    assert knockgate("up", gate(tmp_path, SSH)).returncode == 0
    arrived = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    arrived.bind(("10.9.9.1", 9999))
    arrived.settimeout(5)
    door = gate(tmp_path, SSH.replace('"tcp/22"', '"tcp/22", "udp/5000"'))
    assert knockgate("up", door).returncode == 0
    with there.client:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    before = dropped()
    sender.sendto(b"guarded", ("10.9.9.1", 5000))
    until(lambda: dropped() > before, "it is dropped")
    run("nft", PREROUTING.format("udp dport 5000 udp dport set 9999;"))
    sender.sendto(b"past it", ("10.9.9.1", 5000))
    assert arrived.recv(100) == b"past it"
    assert kinds(rules._in_the_kernel(host())) == {Kind.CHANGED_BEFORE}


@isolated
def test_who_listens_where_packets_come_to_gets_none_and_in_shadow_a_copy_of_each(tmp_path: Path) -> None:
    there, text = Host(), SSH + KEYED.format(folder=tmp_path)
    arrived = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    arrived.bind(("0.0.0.0", 62202))
    arrived.setblocking(False)

    def gets(number: int) -> bool:
        """What is sent after it has come by then, so what has not come will not. A copy comes always."""
        packets: list[bytes] = []

        def is_over() -> bool:
            packets.extend(each.packet for each in heard(copies))
            return any(packet.endswith(b"the next") for packet in packets)

        with packet_socket("near") as copies:
            with there.client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"%d" % number, ("10.9.9.1", 62202))
                sender.sendto(b"the next", ("10.9.9.1", 9999))
            until(is_over, "both have come")
        assert any(packet.endswith(b"%d" % number) for packet in packets)
        try:
            return arrived.recv(100) == b"%d" % number
        except BlockingIOError:
            return False

    assert gets(1)
    assert knockgate("up", gate(tmp_path, text)).returncode == 0
    assert not gets(2)
    shadow = Path(gate(tmp_path, text))
    shadow.write_text(shadow.read_text().replace("[gate]\n", "[gate]\nshadow = true\n"))
    assert knockgate("up", str(shadow)).returncode == 0
    assert gets(3)
    arrived.close()


@isolated
def test_a_containers_own_address_is_behind_no_door(tmp_path: Path) -> None:
    there, container = Host(), Network()
    veth("bridge", "inside", container)
    up("bridge", "10.7.7.1/24")
    with container:
        up("inside", "10.7.7.2/24")
        run("ip", "route", "add", "default", "via", "10.7.7.1")
        server = socket.create_server(("10.7.7.2", 8022))
    with there.client:
        run("ip", "route", "add", "10.7.7.0/24", "via", "10.9.9.1")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    text = SSH.replace("tcp/22", "tcp/8022")
    run(
        "nft",
        "table ip nat { chain in { type nat hook prerouting priority -100; "
        "iifname near tcp dport 8022 dnat to 10.7.7.2:8022; }; }",
    )

    def seen(address: str) -> str:
        with there.client:
            return str(probe(address, Port(Protocol.TCP, 8022)))

    assert (seen("10.9.9.1"), seen("10.7.7.2")) == ("open", "open")
    assert knockgate("up", gate(tmp_path, text)).returncode == 0
    assert (seen("10.9.9.1"), seen("10.7.7.2")) == ("filtered", "open")
    assert kinds(ports.examine_containers(host(text))) == {Kind.OWN_ADDRESS}
    # What the fix says, put into a chain on forward.
    (found,) = ports.examine_containers(host(text))
    rule = found.fix.partition("in a chain on forward: ")[2]
    run("nft", f"table ip mend {{ chain c {{ type filter hook forward priority 0; {rule}; }}; }}")
    assert seen("10.7.7.2") == "filtered"
    assert knockgate("open", "ssh", "10.9.9.2", "--config", str(tmp_path / "gate.toml")).returncode == 0
    assert seen("10.9.9.1") == "open"
    server.close()
