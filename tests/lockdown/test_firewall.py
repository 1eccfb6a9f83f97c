"""The firewall's section: what may be written, what is looser, and what is done with nft and dnsmasq. The kernel's part is in
test_firewall_namespace.py."""

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.typed import Invalid, build
from agent.lockdown.firewall import RULE, Custom, Firewall, Service, looser
from agent.lockdown.nft_ruleset import SERVICES
from agent.lockdown.rule import COMPLIANT, Ended, Place
from agent.privileged.machine import Machine
from tests.privileged.booth import Booth

PLACE = Place(broker_host="broker.example")
RULES = "run/booth-lockdown/firewall.nft"
NAMES = "etc/dnsmasq.d/booth.conf"

HOSTS = ("1.1.1.1", "10.1.2.3", "10.2.0.1", "192.0.2.1", "203.0.113.1", "2001:db8::1", "2001:470::1")  # one for each network
ports = st.sampled_from([80, 443, 631, 53, 444, "400-500", "1-65535", "440-443"])
networks = st.sampled_from(
    ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "192.0.2.1"]
)
customs = st.builds(Custom, st.sampled_from(["tcp", "udp"]), st.lists(ports, max_size=3), st.lists(networks, max_size=3))
policies = st.builds(
    Firewall,
    st.lists(st.sampled_from(get_args(Service)), max_size=3),
    st.dictionaries(st.sampled_from(["a", "b"]), customs),
    st.lists(st.sampled_from(["example.org", "www.example.org", "ample.org", "example.fr"]), max_size=2),
    st.lists(networks, max_size=3),
)


@pytest.fixture
def booth(tmp_path: Path) -> Booth:
    """Its kernel is a file: nft fills it and lists it."""
    booth = Booth(tmp_path)
    kernel = tmp_path / "kernel"
    booth.program(
        "nft",
        f'case "$1" in -f) cp "$2" {kernel};; --stateless) cat {kernel} 2>/dev/null || exit 1;; delete) rm {kernel};; esac',
    )
    booth.program("systemctl", '[ "$1" != is-active ] || echo active')
    booth.program("dnsmasq")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\ndnsmasq:x:104:65534::/:\nbooth-agent:x:997:997::/:\n")
    return booth


def policy(**section: Any) -> Firewall:
    return build(Firewall, section)


def test_every_service_that_may_be_named_has_its_ports() -> None:
    assert set(get_args(Service)) == SERVICES.keys()


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"services": ["https", "ssh"]}, "services[1]"),
        ({"services": ["https"] * 7}, "services"),
        ({"custom": {"x": {"protocol": "icmp"}}}, "custom.x.protocol"),
        ({"custom": {"x": {"ports": [0]}}}, "custom.x.ports[0]"),
        ({"custom": {"x": {"ports": [443, "9000-8000"]}}}, "custom.x.ports[1]"),
        ({"custom": {"x": {"ports": ["1-65536"]}}}, "custom.x.ports[0]"),
        ({"custom": {"x": {"ports": list(range(1, 18))}}}, "custom.x.ports"),
        ({"custom": {"x": {"to": ["192.0.2.1/24"]}}}, "custom.x.to[0]"),
        ({"custom": {"x": {"to": ["example.org"]}}}, "custom.x.to[0]"),
        ({"custom": {"x": {"to": ["fe80::1%eth0"]}}}, "custom.x.to[0]"),
        ({"custom": {"X; drop": {}}}, "custom"),
        ({"custom": {f"x{n}": {} for n in range(17)}}, "custom"),
        ({"domains": ["example.org", "example.org/#"]}, "domains[1]"),
        ({"domains": ["fr"]}, "domains[0]"),
        ({"domains": ["Example.org"]}, "domains[0]"),
        ({"domains": ["example.org\nconf-file=/tmp/x"]}, "domains[0]"),
        ({"domains": [f"{'a.' * 126}fr"]}, "domains[0]"),
        ({"inbound": ["ssh"]}, "inbound"),
        ({"ssh_from": ["192.0.2.0/24", "192.0.2.1/24"]}, "ssh_from[1]"),
        ({"ssh_from": ["198.51.100.0/33"]}, "ssh_from[0]"),
        ({"ssh_from": ["office.example.org"]}, "ssh_from[0]"),
        ({"ssh_from": ["fe80::1%eth0"]}, "ssh_from[0]"),
        ({"ssh_from": ["192.0.2.0/24 } tcp dport 1-65535 accept; ip saddr { ::/0"]}, "ssh_from[0]"),
        ({"ssh_from": [""]}, "ssh_from[0]"),
        ({"ssh_from": [0]}, "ssh_from[0]"),
        ({"ssh_from": "192.0.2.0/24"}, "ssh_from"),
        ({"ssh_from": [f"192.0.2.{n}" for n in range(33)]}, "ssh_from"),
    ],
)
def test_what_may_not_be_written_is_refused_where_it_stands(section: dict[str, Any], path: str) -> None:
    with pytest.raises(Invalid) as refused:
        policy(**section)
    assert {problem.path for problem in refused.value.problems} == {path}


def test_whoever_wrote_a_network_badly_is_told_what_to_write() -> None:
    with pytest.raises(Invalid) as refused:
        policy(ssh_from=["10.0.0.1/8"])
    [problem] = refused.value.problems
    assert "write a network such as 192.0.2.0/24, or an address (here: '10.0.0.1/8')" in str(problem)


# --- what is looser ---


@settings(deadline=None)
@given(policies)
def test_nothing_is_looser_than_itself_and_the_default_is_not_looser_than_anything(part: Firewall) -> None:
    assert not looser(part, part)
    assert not looser(part, Firewall())


@settings(deadline=None)
@given(policies, policies, policies)
def test_not_looser_is_transitive(one: Firewall, two: Firewall, three: Firewall) -> None:
    if not looser(one, two) and not looser(two, three):
        assert not looser(one, three)


@settings(deadline=None)
@given(policies, policies)
def test_of_two_that_differ_in_what_passes_one_is_looser(one: Firewall, other: Firewall) -> None:
    if passing(one) != passing(other):
        assert looser(one, other) or looser(other, one)
    if not passing(other) <= passing(one):
        assert looser(one, other)


def passing(part: Firewall) -> set[tuple[str, str, int]]:
    """What passes of a few packets, said once more in plain words: protocol, address or name, port. Of ssh: who comes in."""
    found = {("ssh", host, 22) for host in HOSTS if any(ip_address(host) in ip_network(text) for text in part.ssh_from)}
    for protocol in ("tcp", "udp"):
        for port in (53, 80, 123, 442, 443, 444, 631, 3478, 4460, 5349, 9100, 161, 20000, 61000):
            for host in HOSTS:
                address = ip_address(host)
                local = host.startswith("10.")
                web = {"http": 80, "https": 443} if not part.domains else {}
                open_ = (protocol, port) in {("tcp", 53), ("udp", 53), ("udp", 123), ("tcp", 4460)}
                open_ |= protocol == "tcp" and port in {web[name] for name in part.services if name in web}
                open_ |= local and "ipp" in part.services and (protocol, port) == ("tcp", 631)
                open_ |= local and "jetdirect" in part.services and (protocol, port) == ("tcp", 9100)
                open_ |= local and "snmp" in part.services and (protocol, port) == ("udp", 161)
                open_ |= "webrtc" in part.services and (port in (3478, 5349) or (protocol == "udp" and 10000 <= port <= 60000))
                for custom in part.custom.values():
                    if part.domains and (protocol, port) == ("udp", 443):
                        continue
                    there = not custom.to or any(address in ip_network(text) for text in custom.to)
                    spans = [str(text).partition("-") for text in custom.ports]
                    in_ports = any(int(first) <= port <= int(last or first) for first, _, last in spans)
                    open_ |= there and in_ports and custom.protocol == protocol
                if open_:
                    found.add((protocol, host, port))
    for service, port in (("http", 80), ("https", 443)):
        for name in ("example.org", "www.example.org", "a.www.example.org", "ample.org", "example.fr", "example.com"):
            named = service in part.services and any(f".{name}".endswith(f".{domain}") for domain in part.domains)
            if named or all(("tcp", host, port) in found for host in HOSTS):
                found.add(("tcp", name, port))
    return found


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"services": ["https"]}, True),
        ({"services": ["https", "ipp"]}, {"services": ["ipp"]}, False),
        ({"services": ["https"]}, {"services": ["https"], "domains": ["example.org"]}, False),
        ({"services": ["https"], "domains": ["example.org"]}, {"services": ["https"]}, True),
        ({"services": ["https"], "domains": ["example.org"]}, {"services": ["http"], "domains": ["example.org"]}, True),
        ({"services": ["https"], "domains": ["example.org"]}, {"services": ["https"], "domains": ["www.example.org"]}, False),
        ({"services": ["https"], "domains": ["www.example.org"]}, {"services": ["https"], "domains": ["example.org"]}, True),
        ({"services": ["https"], "domains": ["ample.org"]}, {"services": ["https"], "domains": ["example.org"]}, True),
        ({"services": ["https"]}, {"custom": {"x": {"ports": [443], "to": ["192.0.2.0/24"]}}}, False),
        ({"services": ["https"]}, {"custom": {"x": {"protocol": "udp", "ports": [443]}}}, True),
        ({"custom": {"x": {"ports": ["1-9"], "to": ["10.0.0.0/9", "10.128.0.0/9"]}}},
         {"custom": {"y": {"ports": [5], "to": ["10.0.0.0/8"]}}}, False),
        ({"custom": {"x": {"ports": ["1-5"]}, "y": {"ports": ["6-9"]}}}, {"custom": {"z": {"ports": ["2-8"]}}}, False),
        ({"custom": {"x": {"ports": ["1-5"]}, "y": {"ports": ["7-9"]}}}, {"custom": {"z": {"ports": ["2-8"]}}}, True),
        ({"custom": {"x": {"ports": [1], "to": ["0.0.0.0/0"]}}}, {"custom": {"x": {"ports": [1]}}}, True),
        ({}, {"ssh_from": ["192.0.2.1"]}, True),
        ({"ssh_from": ["192.0.2.0/24"]}, {}, False),
        ({"ssh_from": ["192.0.2.0/24"]}, {"ssh_from": ["192.0.2.128/25", "192.0.2.1"]}, False),
        ({"ssh_from": ["192.0.2.0/25", "192.0.2.128/25"]}, {"ssh_from": ["192.0.2.0/24"]}, False),
        ({"ssh_from": ["192.0.2.0/25"]}, {"ssh_from": ["192.0.2.0/24"]}, True),
        ({"ssh_from": ["192.0.2.0/24"]}, {"ssh_from": ["192.0.2.0/24", "2001:db8::/32"]}, True),
        ({"ssh_from": ["0.0.0.0/0"]}, {"ssh_from": ["::/0"]}, True),
        ({"ssh_from": ["0.0.0.0/0", "::/0"]}, {"ssh_from": ["10.0.0.0/8", "fe80::/10"]}, False),
        ({"custom": {"x": {"ports": [22]}}}, {"ssh_from": ["192.0.2.1"]}, True),
        ({"ssh_from": ["192.0.2.1"]}, {"custom": {"x": {"ports": [22], "to": ["192.0.2.1"]}}}, True),
    ],
)  # fmt: skip
def test_looser_by_example(before: dict[str, Any], after: dict[str, Any], expected: bool) -> None:
    assert looser(policy(**before), policy(**after)) is expected


# --- on the machine ---


def test_applied_it_is_compliant_and_stays_so_without_being_touched(booth: Booth) -> None:
    machine, part = Machine(booth.root), policy(services=["https"], domains=["example.org", "caf.fr"])
    assert RULE.measure(machine, PLACE, part).state == "violated"
    RULE.apply(machine, PLACE, part)
    assert RULE.measure(machine, PLACE, part) == COMPLIANT
    assert (booth.root / NAMES).read_text().splitlines() == [
        "interface=lo",
        "bind-dynamic",
        "nftset=/caf.fr/4#inet#booth#allow4,6#inet#booth#allow6",
        "nftset=/example.org/4#inet#booth#allow4,6#inet#booth#allow6",
    ]
    times = [(booth.root / name).stat().st_mtime_ns for name in (RULES, NAMES)]
    said = len(booth.said)
    RULE.apply(machine, PLACE, part)
    assert [(booth.root / name).stat().st_mtime_ns for name in (RULES, NAMES)] == times
    assert not [line for line in booth.said[said:] if "-f" in line or "restart" in line]


@pytest.mark.parametrize("name", [RULES, NAMES, "kernel"])
@pytest.mark.parametrize("edit", ["deleted", "edited", "emptied"])
def test_what_was_changed_by_hand_is_a_violation_and_is_repaired(booth: Booth, name: str, edit: str) -> None:
    machine, part = Machine(booth.root), policy(services=["https"], domains=["example.org"])
    RULE.apply(machine, PLACE, part)
    file = booth.root / name
    right = file.read_text()
    if edit == "deleted":
        file.unlink()
    else:
        file.write_text("" if edit == "emptied" else right.replace("4", "6", 1))
    assert RULE.measure(machine, PLACE, part).state == "violated"
    RULE.apply(machine, PLACE, part)
    assert RULE.measure(machine, PLACE, part) == COMPLIANT
    assert file.read_text() == right


def test_another_policy_and_another_broker_are_a_violation_until_applied(booth: Booth) -> None:
    machine = Machine(booth.root)
    RULE.apply(machine, PLACE, Firewall())
    assert RULE.measure(machine, PLACE, policy(services=["http"])).state == "violated"
    assert RULE.measure(machine, Place(broker_host="192.0.2.9"), Firewall()).state == "violated"


def test_a_file_of_names_that_the_policy_does_not_know_is_a_violation(booth: Booth) -> None:
    machine = Machine(booth.root)
    RULE.apply(machine, PLACE, Firewall())
    machine.put(booth.root / NAMES, "server=203.0.113.1\n")
    assert RULE.measure(machine, PLACE, Firewall()).state == "violated"
    RULE.apply(machine, PLACE, Firewall())
    assert RULE.measure(machine, PLACE, Firewall()) == COMPLIANT
    assert "systemctl --no-ask-password try-restart dnsmasq.service" in booth.said


def test_a_resolver_that_does_not_run_is_a_violation_and_is_started(booth: Booth) -> None:
    machine, part = Machine(booth.root), policy(services=["https"], domains=["example.org"])
    RULE.apply(machine, PLACE, part)
    booth.program("systemctl", '[ "$1" != is-active ] || echo inactive')
    assert RULE.measure(machine, PLACE, part).detail == "dnsmasq does not run"
    said = len(booth.said)
    RULE.apply(machine, PLACE, part)
    assert "systemctl --no-ask-password restart dnsmasq.service" in booth.said[said:]


def test_domains_without_dnsmasq_open_nothing_and_the_broker_is_still_found(booth: Booth) -> None:
    machine, part = Machine(booth.root), policy(services=["https"], domains=["example.org"])
    (booth.root / "usr/bin/dnsmasq").unlink()
    with pytest.raises(Ended, match="dnsmasq is not installed"):
        RULE.apply(machine, PLACE, part)
    assert RULE.measure(machine, PLACE, part).detail == "dnsmasq is not installed: no domain can be reached"
    rules = (booth.root / "kernel").read_text()
    assert "443" not in rules
    assert "redirect" not in rules
    assert "udp dport { 53, 123 } accept" in rules


def chain(booth: Booth, name: str) -> list[str]:
    """The rules of one chain that was loaded."""
    lines = [line.strip() for line in (booth.root / "kernel").read_text().splitlines()]
    begin = lines.index(f"chain {name} {{")
    return lines[begin + 2 : lines.index("}", begin)]


@pytest.mark.parametrize("domains", [[], ["example.org"]])
def test_ssh_from_adds_its_port_and_the_replies_of_it_and_nothing_else(booth: Booth, domains: list[str]) -> None:
    machine, locked = Machine(booth.root), policy(services=["https"], domains=domains)
    RULE.apply(machine, PLACE, locked)
    before = {name: chain(booth, name) for name in ("input", "output")}
    assert not [rule for rules in before.values() for rule in rules if "port 22 " in rule]
    part = policy(services=["https"], domains=domains, ssh_from=["192.0.2.9", "198.51.100.0/24", "192.0.2.8", "2001:db8::/32"])
    assert RULE.measure(machine, PLACE, part).state == "violated"
    RULE.apply(machine, PLACE, part)
    assert RULE.measure(machine, PLACE, part) == COMPLIANT
    assert [rule for rule in chain(booth, "input") if rule not in before["input"]] == [
        "ip saddr { 192.0.2.8/31, 198.51.100.0/24 } tcp dport 22 accept",
        "ip6 saddr { 2001:db8::/32 } tcp dport 22 accept",
    ]
    assert [rule for rule in chain(booth, "output") if rule not in before["output"]] == [
        "ip daddr { 192.0.2.8/31, 198.51.100.0/24 } tcp sport 22 ct direction reply accept",
        "ip6 daddr { 2001:db8::/32 } tcp sport 22 ct direction reply accept",
    ]
    RULE.apply(machine, PLACE, locked)
    assert {name: chain(booth, name) for name in before} == before


def test_a_ruleset_that_the_kernel_refuses_is_said(booth: Booth) -> None:
    booth.program("nft", 'case "$1" in -f) echo "Error: no nf_tables here" >&2; exit 1;; *) exit 1;; esac')
    with pytest.raises(Ended, match="no nf_tables here"):
        RULE.apply(Machine(booth.root), PLACE, Firewall())


@pytest.mark.parametrize("kept", [None, "", "table inet booth { }"])
def test_without_a_listing_to_compare_with_it_is_not_believed_and_loaded_anew(booth: Booth, kept: str | None) -> None:
    machine = Machine(booth.root)
    RULE.apply(machine, PLACE, Firewall())
    listing = booth.root / "run/booth-lockdown/firewall.listing"
    listing.unlink()
    if kept is not None:
        listing.write_text(kept)
    assert RULE.measure(machine, PLACE, Firewall()).state == "violated"
    RULE.apply(machine, PLACE, Firewall())
    assert RULE.measure(machine, PLACE, Firewall()).state == "compliant"


def test_without_nft_it_does_not_apply(tmp_path: Path) -> None:
    booth = Booth(tmp_path)
    RULE.apply(Machine(tmp_path), PLACE, Firewall())
    measured = RULE.measure(Machine(tmp_path), PLACE, Firewall())
    assert (measured.state, measured.detail) == ("not-applicable", "nft is not installed")
    assert booth.said == []


def test_undo_leaves_nothing(booth: Booth) -> None:
    machine = Machine(booth.root)
    RULE.apply(machine, PLACE, policy(services=["https"], domains=["example.org"]))
    RULE.undo(machine, PLACE)
    assert not [name for name in (RULES, NAMES, "kernel") if (booth.root / name).exists()]
    assert "nft delete table inet booth" in booth.said
    RULE.undo(machine, PLACE)


def test_what_it_watches_is_what_it_writes(booth: Booth) -> None:
    RULE.apply(Machine(booth.root), PLACE, policy(domains=["example.org"]))
    assert {name for name in RULE.watched if (booth.root / name).is_file()} == set(RULE.watched)
