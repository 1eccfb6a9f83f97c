"""The firewall on a real kernel: nftables in a network namespace of our own, with servers at the other end of its cable."""

import json
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.contract.typed import build
from agent.lockdown.firewall import RULE, Firewall
from agent.lockdown.rule import COMPLIANT, Place
from agent.privileged.machine import Machine
from tests.machine.namespace import Namespace, missing
from tests.privileged.booth import Booth

BOX, BOX6 = "192.0.2.1", "2001:db8:1::1"
FAR, FAR6 = "198.51.100.7", "2001:db8:2::7"  # hosts behind the box
OTHER, OTHER6 = "198.51.100.8", "2001:db8:2::8"
BOOTH, BOOTH6 = "192.0.2.20", "2001:db8:1::20"
BROKER = Place(broker_host=BOX, broker_port=8883)
Target = tuple[str, str, int]  # protocol, host, port

ECHO = """
import selectors, socket, sys
pick = selectors.DefaultSelector()
for host in sys.argv[1].split(","):  # each by itself: an answer has to come from the address that was asked
    for port in map(int, sys.argv[2:]):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
            server.bind((host, port))
            if kind == socket.SOCK_STREAM:
                server.listen()
            pick.register(server, selectors.EVENT_READ, "server")
print("ready", flush=True)
while True:
    for key, _ in pick.select():
        ready = key.fileobj
        if ready.type == socket.SOCK_DGRAM:
            data, peer = ready.recvfrom(4096)
            ready.sendto(data, peer)
        elif key.data == "server":
            pick.register(ready.accept()[0], selectors.EVENT_READ, "connection")
        elif data := ready.recv(4096):
            ready.sendall(data)
        else:
            pick.unregister(ready)
            ready.close()
"""
TRY = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def passes(target):
    protocol, host, port = target
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as client:
        client.settimeout(3)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for source, _, own_port in (text.partition(",") for text in sys.argv[1:-1]):
            if (":" in source) == (":" in host):
                client.bind((source, int(own_port)))
        try:
            client.connect((host, port))
            client.send(b"hello")
            return client.recv(16) == b"hello"
        except OSError:
            return False
targets = json.loads(sys.argv[-1])
with ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps(list(pool.map(passes, targets))))
"""
TALK = """
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
client.settimeout(3)
print("ready", flush=True)
for word in sys.stdin:
    try:
        client.sendall(word.encode())
        print(client.recv(64).decode().strip() or "closed", flush=True)
    except OSError:
        print("lost", flush=True)
"""
# One question for an address, by hand: what is asked is the server that is named, not whom resolv.conf names.
ASK = """
import socket, struct, sys
server, name, kind = sys.argv[1], sys.argv[2], {"A": 1, "AAAA": 28}[sys.argv[3]]
labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
client = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(5)
client.connect((server, 53))
client.send(struct.pack(">6H", 1, 0x100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, kind, 1))
answer = client.recv(512)
size = 4 if kind == 1 else 16
family = socket.AF_INET if kind == 1 else socket.AF_INET6
print(socket.inet_ntop(family, answer[-size:]) if answer[7] else "nothing")
"""


@pytest.fixture(scope="module", autouse=True)
def what_is_needed() -> None:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    for program, package in (("nft", "nftables"), ("dnsmasq", "dnsmasq-base")):
        assert shutil.which(program, path="/usr/sbin:/usr/bin"), f"{program} is missing (apt-get install {package})"


@pytest.fixture
def cable() -> Iterator[Namespace]:
    with Namespace("wall") as namespace:
        namespace.broken_ipv6("2001:db8:ff::/48")  # all other of it works
        namespace.beyond(FAR, OTHER)
        for address in (FAR6, OTHER6):
            at_the_box = namespace.at_the_box("ip", "-6", "address", "add", f"{address}/128", "dev", "lo", "nodad")
            subprocess.run(at_the_box, check=True)
        yield namespace


@pytest.fixture
def booth(cable: Namespace, tmp_path: Path) -> Booth:
    """Its nft is the real one, on the booth's side of the cable."""
    booth = Booth(tmp_path)
    booth.program("nft", f'exec ip netns exec {cable.booth} /usr/sbin/nft "$@"')
    booth.program("dnsmasq")
    booth.program("systemctl", '[ "$1" != is-active ] || echo active')
    user = pwd.getpwnam("dnsmasq")  # as dnsmasq-base made it
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(f"root:x:0:0::/root:/bin/sh\ndnsmasq:x:{user.pw_uid}:{user.pw_gid}:::\n")
    return booth


def policy(**section: Any) -> Firewall:
    return build(Firewall, section)


def apply(booth: Booth, part: Firewall, place: Place = BROKER) -> None:
    RULE.apply(Machine(booth.root), place, part)
    assert RULE.measure(Machine(booth.root), place, part) == COMPLIANT


def passing(command: tuple[str, ...], *targets: Target) -> set[Target]:
    """Which of `targets` answer; `command` runs in one of the namespaces."""
    done = subprocess.run((*command, json.dumps(targets)), check=True, capture_output=True, text=True, timeout=60)
    return {target for target, passes in zip(targets, json.loads(done.stdout), strict=True) if passes}


def leaving(cable: Namespace, *targets: Target) -> set[Target]:
    return passing(cable.inside(sys.executable, "-c", TRY), *targets)


def entering(cable: Namespace, sources: tuple[str, ...], *targets: Target) -> set[Target]:
    """From these addresses beyond the cable."""
    return passing(cable.at_the_box(sys.executable, "-c", TRY, *(f"{source},0" for source in sources)), *targets)


@contextmanager
def running(command: tuple[str, ...], until: str = "ready") -> Iterator[subprocess.Popen[str]]:
    """A program, once it has said a line that holds `until`."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if until in line:
                    break
            assert said, f"{command} said nothing"
            assert until in said[-1], "".join(said)
            yield process
        finally:
            process.kill()


@contextmanager
def servers(cable: Namespace, *ports: int) -> Iterator[None]:
    """Beyond the cable, at every address there."""
    hosts = ",".join((BOX, BOX6, FAR, FAR6, OTHER, OTHER6))
    with running(cable.at_the_box(sys.executable, "-c", ECHO, hosts, *map(str, ports))):
        yield


def both(ports: tuple[int, ...], *hosts: str) -> list[Target]:
    return [(protocol, host, port) for protocol in ("tcp", "udp") for host in hosts for port in ports]


def test_the_most_locked_policy_lets_broker_names_and_time_pass_and_nothing_else(cable: Namespace, booth: Booth) -> None:
    ports = (22, 53, 80, 123, 443, 631, 4460, 5000, 8883)
    everything = both(ports, BOX, BOX6, FAR, FAR6)
    with servers(cable, *ports):
        assert leaving(cable, *everything) == set(everything)  # what the wall keeps back, the cable does not
        apply(booth, Firewall())
        for here in (cable.inside, cable.at_the_box):  # each side has to find the other again
            subprocess.run(here("ip", "neighbour", "flush", "all"), check=True)
        always = {(protocol, host, 53) for protocol in ("tcp", "udp") for host in (BOX, BOX6, FAR, FAR6)}
        always |= {(protocol, host, port) for protocol, port in (("udp", 123), ("tcp", 4460)) for host in (BOX, BOX6, FAR, FAR6)}
        assert leaving(cable, *everything) == always | {("tcp", BOX, 8883)}
        named = Place(broker_host="broker.example", broker_port=8883)
        apply(booth, Firewall(), named)
        assert leaving(cable, *everything) == always | {("tcp", host, 8883) for host in (BOX, BOX6, FAR, FAR6)}


def test_errors_of_the_network_come_back_to_what_they_are_about(cable: Namespace, booth: Booth) -> None:
    """As those of path MTU discovery do: here nobody listens, and the far host says so by ICMP."""
    refused = """
import socket, sys
client = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(5)
client.connect((sys.argv[1], 123))
client.send(b"what time is it?")
try:
    client.recv(1)
except ConnectionRefusedError:
    print("refused")
"""
    apply(booth, Firewall())
    assert [cable.run(sys.executable, "-c", refused, host) for host in (FAR, FAR6)] == ["refused\n"] * 2


def test_a_broker_at_an_address_of_ipv6_is_reached_there_alone(cable: Namespace, booth: Booth) -> None:
    with servers(cable, 8883):
        apply(booth, Firewall(), Place(broker_host=f"[{FAR6}]"))
        assert leaving(cable, *both((8883,), FAR6, OTHER6, BOX)) == {("tcp", FAR6, 8883)}


def test_what_is_named_passes_in_both_families_and_the_rest_does_not(cable: Namespace, booth: Booth) -> None:
    part = policy(
        services=["https", "webrtc"],
        custom={
            "metrics": {"protocol": "udp", "ports": [8125, "9000-9010"], "to": ["198.51.100.7", "2001:db8:2::7/128"]},
            "anywhere": {"ports": [7000]},
        },
    )
    ports = (80, 443, 3478, 7000, 8125, 9005, 9011, 20000)
    with servers(cable, *ports):
        apply(booth, part)
        found = leaving(cable, *both(ports, FAR, FAR6, OTHER, OTHER6))
        everywhere = (("tcp", 443), ("tcp", 3478), ("udp", 3478), ("udp", 20000), ("tcp", 7000))
        wanted = {(protocol, host, port) for protocol, port in everywhere for host in (FAR, FAR6, OTHER, OTHER6)}
        assert found == wanted | {("udp", host, port) for host in (FAR, FAR6) for port in (8125, 9005)}


def say(program: subprocess.Popen[str], word: str) -> str:
    """To one that runs TALK; its answer."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(f"{word}\n")
    program.stdin.flush()
    return program.stdout.readline().strip()


def test_nothing_comes_in(cable: Namespace, booth: Booth) -> None:
    from_outside = cable.at_the_box(sys.executable, "-c", TRY)
    doors = both((22, 53, 443, 5353, 8883), BOOTH, BOOTH6)
    own_hosts = ("127.0.0.1", "::1", BOOTH, BOOTH6)
    with running(cable.inside(sys.executable, "-c", ECHO, ",".join(own_hosts), "22", "53", "443", "5353", "8883")):
        assert passing(from_outside, *doors) == set(doors)
        apply(booth, policy(services=["http", "https", "ipp", "webrtc"]))
        assert passing(from_outside, *doors) == set()
        own = both((443,), *own_hosts)
        assert leaving(cable, *own) == set(own)  # to itself the booth may talk


def test_the_brokers_connection_outlives_every_new_ruleset_and_one_that_is_no_longer_allowed_ends(
    cable: Namespace, booth: Booth
) -> None:
    talk = cable.inside(sys.executable, "-c", TALK)
    with servers(cable, 443, 8883), running((*talk, BOX, "8883")) as broker, running((*talk, FAR, "443")) as web:
        assert say(broker, "before any rule") == "before any rule"
        for number, part in enumerate([policy(services=["https"]), Firewall(), policy(services=["ipp"]), Firewall()]):
            if number == 1:
                assert say(web, "allowed") == "allowed"
            apply(booth, part)
            assert say(broker, f"ruleset {number}") == f"ruleset {number}"
        assert say(web, "still here?") in ("lost", "closed")


HERE, ELSEWHERE = (FAR, FAR6), (OTHER, OTHER6)
SSH_HERE = ["198.51.100.0/29", "2001:db8:2::/125"]  # the last address of each is HERE's, the next one ELSEWHERE's


@pytest.mark.parametrize("domains", [[], ["allowed.example"]])
def test_ssh_comes_in_from_the_networks_that_are_named_and_nothing_else_does(
    cable: Namespace, booth: Booth, domains: list[str]
) -> None:
    ports = (22, 53, 443, 2222, 8883)
    doors, ssh = both(ports, BOOTH, BOOTH6), {("tcp", BOOTH, 22), ("tcp", BOOTH6, 22)}
    with running(cable.inside(sys.executable, "-c", ECHO, f"{BOOTH},{BOOTH6}", *map(str, ports))):
        assert entering(cable, HERE, *doors) == entering(cable, ELSEWHERE, *doors) == set(doors)
        apply(booth, policy(services=["http", "https"], domains=domains, ssh_from=SSH_HERE))
        assert entering(cable, HERE, *doors) == ssh
        assert entering(cable, ELSEWHERE, *doors) == set()
        with servers(cable, 22):
            assert leaving(cable, *both((22,), FAR, FAR6)) == set()  # who may come in is not who may be reached


@pytest.mark.parametrize(
    ("networks", "reached"),
    [
        (["198.51.100.8"], {BOOTH}),
        (["2001:db8:2::8"], {BOOTH6}),
        (["198.51.100.0/28", "198.51.100.8/32", "198.51.0.0/16"], {BOOTH}),
        (["0.0.0.0/1", "::/1", "2001:db8:2::7"], {BOOTH6}),
        (["0.0.0.0/0"], {BOOTH}),
        (["::/0"], {BOOTH6}),
        (["0.0.0.0/1", "128.0.0.0/1", "::/0"], {BOOTH, BOOTH6}),
    ],
)
def test_ssh_comes_in_by_the_families_that_are_named(
    cable: Namespace, booth: Booth, networks: list[str], reached: set[str]
) -> None:
    with running(cable.inside(sys.executable, "-c", ECHO, f"{BOOTH},{BOOTH6}", "22")):
        apply(booth, policy(ssh_from=networks))
        assert entering(cable, ELSEWHERE, *both((22,), BOOTH, BOOTH6)) == {("tcp", host, 22) for host in reached}


def test_outside_a_window_a_named_network_is_refused_and_another_hears_nothing(cable: Namespace, booth: Booth) -> None:
    knock = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 22), 3, (sys.argv[2], 0))
except OSError as error:
    print(type(error).__name__)
"""
    apply(booth, policy(ssh_from=SSH_HERE))  # and nobody listens
    for host, here, elsewhere in ((BOOTH, FAR, OTHER), (BOOTH6, FAR6, OTHER6)):
        said = [
            subprocess.run(
                cable.at_the_box(sys.executable, "-c", knock, host, source), check=True, capture_output=True, text=True
            ).stdout
            for source in (here, elsewhere)
        ]
        assert said == ["ConnectionRefusedError\n", "TimeoutError\n"]


def test_from_the_port_of_ssh_the_booth_begins_nothing(cable: Namespace, booth: Booth) -> None:
    """Only replies leave by it: else whoever binds it would reach every port there."""
    with servers(cable, 443):
        for target, own in ((("tcp", FAR, 443), f"{BOOTH},22"), (("tcp", FAR6, 443), f"{BOOTH6},22")):
            from_its_port = cable.inside(sys.executable, "-c", TRY, own)
            apply(booth, policy(ssh_from=SSH_HERE))
            assert passing(from_its_port, target) == set()
            RULE.undo(Machine(booth.root), BROKER)
            assert passing(from_its_port, target) == {target}


def test_a_connection_by_ssh_outlives_a_new_ruleset_and_ends_when_its_network_is_named_no_longer(
    cable: Namespace, booth: Booth
) -> None:
    apply(booth, policy(ssh_from=[f"{BOX}/32"]))
    talk = cable.at_the_box(sys.executable, "-c", TALK)
    with running(cable.inside(sys.executable, "-c", ECHO, BOOTH, "22")), running((*talk, BOOTH, "22")) as ssh:
        assert say(ssh, "hello") == "hello"
        apply(booth, policy(services=["https"], ssh_from=["192.0.2.0/24"]))
        assert say(ssh, "still here") == "still here"
        apply(booth, policy(services=["https"], ssh_from=[f"{FAR}/32"]))
        assert say(ssh, "still here?") in ("lost", "closed")


@pytest.mark.parametrize(
    "meddling",
    [
        "flush table inet booth",
        "flush chain inet booth output",
        "delete table inet booth",
        "insert rule inet booth output accept",
        "add rule inet booth input tcp dport 22 accept",
        "add chain inet booth mine { type filter hook output priority -10; policy accept; }",
        "add chain inet booth output { policy accept; }",
        "add table inet booth { flags dormant; }",
    ],
)
def test_what_was_changed_in_the_kernel_is_a_violation_and_is_repaired(cable: Namespace, booth: Booth, meddling: str) -> None:
    part = policy(services=["https"])
    apply(booth, part)
    cable.run("nft", meddling)
    assert RULE.measure(Machine(booth.root), BROKER, part).state == "violated"
    apply(booth, part)
    with servers(cable, 22, 443, 8883):
        assert leaving(cable, *both((22, 443, 8883), BOX)) == {("tcp", BOX, 443), ("tcp", BOX, 8883)}


def test_other_tables_are_nobodys_business_and_undo_leaves_them(cable: Namespace, booth: Booth) -> None:
    cable.run("nft", "add table inet theirs; add chain inet theirs c { type filter hook input priority 5; }")
    apply(booth, Firewall())
    cable.run("nft", "add rule inet theirs c tcp dport 1 drop")
    theirs = cable.run("nft", "list", "table", "inet", "theirs")
    assert RULE.measure(Machine(booth.root), BROKER, Firewall()) == COMPLIANT
    RULE.undo(Machine(booth.root), BROKER)
    assert cable.run("nft", "list", "ruleset") == theirs
    assert not [file for file in (booth.root / "etc").rglob("*booth*") if file.is_file()]
    RULE.undo(Machine(booth.root), BROKER)


def test_what_is_right_already_is_not_loaded_again(cable: Namespace, booth: Booth) -> None:
    apply(booth, policy(services=["https"], domains=["allowed.example"]))
    cable.run("nft", "add element inet booth allow4 { 198.51.100.7 }")  # dnsmasq learned something
    before = len(booth.said)
    apply(booth, policy(services=["https"], domains=["allowed.example"]))
    assert not [line for line in booth.said[before:] if line.startswith("nft -f") or "restart" in line]
    assert "198.51.100.7" in cable.run("nft", "list", "set", "inet", "booth", "allow4")


@contextmanager
def dnsmasq(command: tuple[str, ...], *options: str) -> Iterator[None]:
    common = ("--keep-in-foreground", "--log-facility=-", "--pid-file=", "--no-resolv", "--no-hosts", "--user=dnsmasq")
    with running((*command, "/usr/sbin/dnsmasq", *common, *options), until="started"):
        yield


def test_only_the_addresses_of_named_domains_are_reached_and_only_dnsmasq_asks_for_names(cable: Namespace, booth: Booth) -> None:
    def address(name: str, kind: str = "A", server: str = BOX) -> str:
        return cable.run(sys.executable, "-c", ASK, server, name, kind).strip()

    part = policy(services=["https"], domains=["allowed.example"])
    upstream = [f"--address=/allowed.example/{FAR}", f"--address=/allowed.example/{FAR6}", f"--address=/other.example/{OTHER}"]
    hosts = both((443,), FAR, FAR6, OTHER, OTHER6)
    with servers(cable, 443, 8883, 4460), dnsmasq(cable.at_the_box(), "--conf-file=/dev/null", *upstream):
        apply(booth, part)
        assert "systemctl --no-ask-password restart dnsmasq.service" in booth.said
        assert leaving(cable, *hosts) == set()
        config = booth.root / "etc/dnsmasq.d/booth.conf"
        ours = (f"--conf-file={config}", f"--server={BOX}", "--address=/whoami.example/203.0.113.9")
        with dnsmasq(cable.inside(), *ours):
            # Whoever is asked, it is the booth's own resolver that answers; and what it asks itself goes out.
            assert [address("whoami.example", server=server) for server in (BOX, "127.0.0.1", BOX6)] == ["203.0.113.9"] * 3
            assert address("www.allowed.example") == FAR
            assert leaving(cable, *hosts) == {("tcp", FAR, 443)}
            assert address("allowed.example", "AAAA") == FAR6
            assert address("other.example") == OTHER
            assert leaving(cable, *hosts, ("tcp", BOX, 8883), ("tcp", OTHER, 4460)) == {
                ("tcp", FAR, 443), ("tcp", FAR6, 443), ("tcp", BOX, 8883), ("tcp", OTHER, 4460)
            }  # fmt: skip
            assert RULE.measure(Machine(booth.root), BROKER, part) == COMPLIANT
            apply(booth, policy(services=["https"]))
            assert leaving(cable, *hosts) == {target for target in hosts if target[0] == "tcp"}
            assert not config.exists()
            assert address("other.example") == OTHER  # by whom it likes
