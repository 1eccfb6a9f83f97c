"""Rule `firewall`: an nftables table of our own. Nothing comes in but ssh, from networks that are named here, and only what is
named here goes out; the broker, names and the time are always reachable. Domain names by dnsmasq are the second line only: sites
share addresses."""

import re
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Annotated, Final, Literal

from agent.contract.typed import Check, Length, Pattern, Range
from agent.contract.words import Name
from agent.lockdown.nft_ruleset import ALWAYS, ANYWHERE, SERVICES, SSH, WEB, Grant, Network, Users, collapsed, covers, ruleset
from agent.lockdown.rule import COMPLIANT, Ended, Machine, Measured, Place, Rule

_FILE: Final = "run/booth-lockdown/firewall.nft"  # loaded anew at each boot: no disk has to take it
_LISTING: Final = "run/booth-lockdown/firewall.listing"
_DNSMASQ: Final = "etc/dnsmasq.d/booth.conf"
_NO_DNSMASQ: Final = "dnsmasq is not installed: no domain can be reached"
_DEADLINE_S: Final = 15.0


def _port_range_problem(text: str) -> str | None:
    first, _, last = text.partition("-")
    if re.fullmatch("[1-9][0-9]{0,4}-[1-9][0-9]{0,4}", text) and int(first) < int(last) <= 65535:
        return None
    return "write a port, or a range such as 10000-20000"


def _network_problem(text: str) -> str | None:
    try:
        ip_network(text)
    except ValueError:
        return f"write a network such as 192.0.2.0/24, or an address (here: {text[:60]!r})"
    return None if "%" not in text else "write a network without an interface"


_LABEL: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
Service = Literal["http", "https", "ipp", "jetdirect", "snmp", "webrtc"]
Ports = Annotated[int, Range(1, 65535)] | Annotated[str, Check(_port_range_problem, "a range such as 10000-20000")]
Cidr = Annotated[str, Check(_network_problem, "a network")]
Domain = Annotated[str, Pattern(rf"({_LABEL}\.)+[a-z]({_LABEL})", "a host name such as service-public.fr"), Length(253)]


@dataclass(frozen=True)
class Custom:
    """Ports that may be reached at networks; at any where none is given."""

    protocol: Literal["tcp", "udp"] = "tcp"
    ports: Annotated[list[Ports], Length(16)] = field(default_factory=list)
    to: Annotated[list[Cidr], Length(32)] = field(default_factory=list)


@dataclass(frozen=True)
class Firewall:
    """`domains`, where there are any: http and https go only to their addresses (and those of names below them). `ssh_from`: who
    reaches port 22, at any time; whether anything listens there is for the windows of `consoles` to say."""

    services: Annotated[list[Service], Length(len(SERVICES))] = field(default_factory=list)
    custom: Annotated[dict[Name, Custom], Length(16)] = field(default_factory=dict)
    domains: Annotated[list[Domain], Length(500)] = field(default_factory=list)
    ssh_from: Annotated[list[Cidr], Length(32)] = field(default_factory=list)


def looser(before: Firewall, after: Firewall) -> bool:
    """Whether anything passes `after` that did not pass `before`. Names can always be asked for, whoever answers, so that
    `domains` counts for http and https alone."""
    if not covers(_incoming(before), _incoming(after)):
        return True
    passed = (*ALWAYS, *_grants(before))
    if not covers(passed, _grants(after)):
        return True
    known = _by_name(before)
    anywhere = {port for port in WEB.values() if covers(passed, [Grant("tcp", port, port)])}
    return any(
        port not in anywhere and not any((port, above) in known for above in _upwards(name)) for port, name in _by_name(after)
    )


def apply(machine: Machine, place: Place, part: Firewall) -> None:
    if not machine.has("nft"):
        return
    text = _text(machine, place, part)
    file = machine.path(_FILE)
    renewed = machine.text(file) != text.strip() or _loaded(machine) != _expected(machine)
    if renewed:
        machine.put(file, text)
        machine.do("nft", "-f", str(file), within_s=_DEADLINE_S)
        machine.put(machine.path(_LISTING), _loaded(machine) or "")
    if part.domains and _users(machine) is None:
        raise Ended(_NO_DNSMASQ)
    _apply_names(machine, part, renewed)


def measure(machine: Machine, place: Place, part: Firewall) -> Measured:
    if not machine.has("nft"):
        return Measured("not-applicable", "nft is not installed")
    text = _text(machine, place, part)
    loaded = _loaded(machine)
    if loaded is None:
        wrong = "the table inet booth is missing"
    elif loaded != _expected(machine):
        wrong = "the table inet booth is not the policy's"
    elif machine.text(machine.path(_FILE)) != text.strip():
        wrong = f"/{_FILE} is not the policy's"
    elif part.domains and _users(machine) is None:
        wrong = _NO_DNSMASQ
    elif machine.text(machine.path(_DNSMASQ)) != _names(part):
        wrong = f"/{_DNSMASQ} is not the policy's"
    elif part.domains and not _answers(machine):
        wrong = "dnsmasq does not run"
    else:
        return COMPLIANT
    return Measured("violated", wrong)


def undo(machine: Machine, place: Place) -> None:
    del place
    if machine.has("nft") and _loaded(machine) is not None:
        machine.do("nft", "delete", "table", "inet", "booth", within_s=_DEADLINE_S)
    for name in (_FILE, _LISTING):
        machine.remove(machine.path(name))
    _apply_names(machine, Firewall(), renewed=False)


def _text(machine: Machine, place: Place, part: Firewall) -> str:
    names = _users(machine) if part.domains else None
    ports = sorted({port for port, _ in _by_name(part)}) if names else []
    return ruleset(_grants(part), (place.broker_host, place.broker_port), ports, names, _ssh_from(part))


def _loaded(machine: Machine) -> str | None:
    """What the kernel has, without counters and without what dnsmasq put into the sets."""
    said = machine.ask("nft", "--stateless", "--terse", "list", "table", "inet", "booth", within_s=_DEADLINE_S)
    return said.output if said.status == 0 else None


def _expected(machine: Machine) -> str:
    """What the kernel said right after our file was loaded. A newer nft may word it otherwise: then it is loaded once more."""
    try:
        return machine.path(_LISTING).read_text()
    except (OSError, ValueError):
        return ""


# --- domains ---


def _names(part: Firewall) -> str | None:
    """What stands in dnsmasq's file. It listens as the loopback's addresses come (IPv6 may be off), and nowhere else."""
    if not part.domains:
        return None
    sets = "4#inet#booth#allow4,6#inet#booth#allow6"
    lines = [f"nftset=/{domain}/{sets}" for domain in sorted(set(part.domains))]
    return "\n".join(["interface=lo", "bind-dynamic", *lines])


def _apply_names(machine: Machine, part: Firewall, renewed: bool) -> None:
    file, text = machine.path(_DNSMASQ), _names(part)
    if text is None:
        if file.exists():
            machine.remove(file)
            if machine.has("systemctl"):
                machine.ask("systemctl", "--no-ask-password", "try-restart", "dnsmasq.service", within_s=_DEADLINE_S)
        return
    changed = machine.text(file) != text
    if changed:
        machine.put(file, f"{text}\n")
    # It puts an address into a set when it learns it, not when it remembers it: a new table needs it to forget.
    if changed or renewed or not _answers(machine):
        machine.do("systemctl", "--no-ask-password", "restart", "dnsmasq.service", within_s=_DEADLINE_S)


def _answers(machine: Machine) -> bool:
    if not machine.has("systemctl"):
        return True
    return machine.ask("systemctl", "is-active", "dnsmasq.service", within_s=_DEADLINE_S).output.strip() == "active"


def _users(machine: Machine) -> Users | None:
    """None where dnsmasq cannot run: nobody is held to it then, so that the broker's name is still found."""
    lines = (machine.text(machine.path("etc/passwd")) or "").splitlines()
    ids = {fields[0]: int(fields[2]) for line in lines if len(fields := line.split(":")) > 2 and fields[2].isdecimal()}
    if not machine.has("dnsmasq") or "dnsmasq" not in ids:
        return None
    return Users(ids["dnsmasq"], ids.get("booth-agent"))


# --- what passes ---


def _grants(part: Firewall) -> list[Grant]:
    """What passes by address."""
    names = [name for name in part.services if not (part.domains and name in WEB)]
    found = [grant for name in dict.fromkeys(names) for grant in SERVICES[name]]
    for custom in part.custom.values():
        networks = collapsed([ip_network(text) for text in custom.to]) or ANYWHERE
        for ports in custom.ports:
            first, _, last = str(ports).partition("-")
            found.append(Grant(custom.protocol, int(first), int(last or first), networks))
    return [half for grant in found for half in _without_quic(grant)] if part.domains else found


def _ssh_from(part: Firewall) -> tuple[Network, ...]:
    return collapsed([ip_network(text) for text in part.ssh_from])


def _incoming(part: Firewall) -> list[Grant]:
    """What passes the other way."""
    networks = _ssh_from(part)
    return [Grant("tcp", SSH, SSH, networks)] if networks else []


def _without_quic(grant: Grant) -> list[Grant]:
    if grant.protocol == "tcp" or not grant.first <= 443 <= grant.last:
        return [grant]
    halves = [Grant("udp", grant.first, 442, grant.networks), Grant("udp", 444, grant.last, grant.networks)]
    return [half for half in halves if half.first <= half.last]


def _by_name(part: Firewall) -> set[tuple[int, str]]:
    """What passes by name: ports of the web, at the addresses of domains."""
    return {(WEB[name], domain) for name in part.services if name in WEB for domain in part.domains}


def _upwards(name: str) -> list[str]:
    labels = name.split(".")
    return [".".join(labels[index:]) for index in range(len(labels))]


RULE: Final = Rule("firewall", Firewall, looser, apply, measure, undo, watched=(_FILE, _LISTING, _DNSMASQ))
