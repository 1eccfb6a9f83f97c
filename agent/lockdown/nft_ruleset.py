"""What may leave the booth, and from where ssh may come in: what each named service means, which of two lets more pass, and the
table for nft(8)."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import Final, Literal

from agent.contract.words import is_loopback

Network = IPv4Network | IPv6Network
_SIXES: Final = 1 << 40  # where addresses of IPv6 begin on a line that has those of IPv4 first
Span = tuple[int, int]  # from the first to the last, both in it
ANYWHERE: Final[tuple[Network, ...]] = (ip_network("0.0.0.0/0"), ip_network("::/0"))
# The networks of a shop: RFC 1918, RFC 3927, RFC 6598, and in IPv6 link-local and unique local addresses.
_SHOP4: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10")
_SHOP: Final[tuple[Network, ...]] = tuple(map(ip_network, (*_SHOP4, "fe80::/10", "fc00::/7")))


@dataclass(frozen=True)
class Grant:
    """What may leave the booth: to the ports from `first` to `last`, at `networks`. Of what comes in: from `networks`."""

    protocol: Literal["tcp", "udp"]
    first: int
    last: int
    networks: tuple[Network, ...] = ANYWHERE


WEB: Final = {"http": 80, "https": 443}  # what `domains` narrows; no udp 443, which would be QUIC
SERVICES: Final[Mapping[str, tuple[Grant, ...]]] = {
    "http": (Grant("tcp", 80, 80),),
    "https": (Grant("tcp", 443, 443),),
    "ipp": (Grant("tcp", 631, 631, _SHOP),),  # with and without TLS (RFC 7472, RFC 8010)
    "jetdirect": (Grant("tcp", 9100, 9100, _SHOP),),  # a receipt printer on the network, or pages in its own language
    "snmp": (Grant("udp", 161, 161, _SHOP),),  # how CUPS asks a network printer for its toner
    # STUN and TURN (RFC 8489, RFC 8656), and the media ports that conference servers use.
    "webrtc": (Grant("tcp", 3478, 3478), Grant("tcp", 5349, 5349), Grant("udp", 3478, 3481), Grant("udp", 5349, 5349),
               Grant("udp", 10000, 60000)),
}  # fmt: skip
# Whatever a document says: names, and the time by NTP and NTS, without which no certificate can be judged.
ALWAYS: Final = (Grant("tcp", 53, 53), Grant("udp", 53, 53), Grant("udp", 123, 123), Grant("tcp", 4460, 4460))
SSH: Final = 22

# What follows is read by nft(8). Replies to what the booth asked may come in; what it sends must be allowed each time, so
# that what an older policy allowed ends at once. Neighbour discovery: RFC 4861, only with hop limit 255; MLD: RFC 3810.
# ICMP errors, those of path MTU discovery among them, are `related` to what they are about.
_TABLE: Final = """\
table inet booth {{}}
delete table inet booth
table inet booth {{
{sets}	chain input {{
		type filter hook input priority filter; policy drop;
		iif "lo" accept
		ct state established,related accept
		udp sport 67 udp dport 68 accept
		ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
		ip6 hoplimit 255 icmpv6 type {{ nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }} accept
		ip6 saddr fe80::/10 icmpv6 type mld-listener-query accept
{incoming}	}}
	chain forward {{
		type filter hook forward priority filter; policy drop;
	}}
	chain output {{
		type filter hook output priority filter; policy drop;
		oif "lo" accept
		ip daddr 127.0.0.0/8 accept
		ip6 daddr ::1 accept
		ct state related accept
		udp sport 68 udp dport 67 accept
		udp sport 546 udp dport 547 accept
		icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} accept
		icmpv6 type {{ mld-listener-report, mld-listener-done, mld2-listener-report }} accept
{allowed}		meta l4proto tcp reject with tcp reset
		reject with icmpx admin-prohibited
	}}
}}
"""
# dnsmasq fills the sets (its option nftset). All questions go to it, whatever resolv.conf says: but its own, and the agent's
# look at whether the gateway answers, for which any answer of that very host counts.
_NAMES: Final = """\
	set allow4 {{
		type ipv4_addr
	}}
	set allow6 {{
		type ipv6_addr
	}}
	chain names {{
		type nat hook output priority -100; policy accept;
		meta skuid {dnsmasq} return
{agent}		meta l4proto {{ tcp, udp }} th dport 53 redirect to :53
	}}
"""


@dataclass(frozen=True)
class Users:
    """Numeric ids: who is the booth's resolver, and who the agent, where there is one."""

    dnsmasq: int
    agent: int | None


def ruleset(
    grants: Sequence[Grant],
    broker: tuple[str, int],
    web_by_name: Sequence[int] = (),
    names: Users | None = None,
    ssh_from: tuple[Network, ...] = (),
) -> str:
    """One transaction that makes the table anew. `names`: only dnsmasq may ask for names elsewhere. `web_by_name`: these ports
    only at the addresses that dnsmasq found for its domains. `ssh_from`: they do not overlap."""
    incoming = [f"{rule} accept" for rule in _at(f"tcp dport {SSH}", ssh_from, "saddr")]
    # Replies alone: nothing that begins at the booth leaves by its port 22.
    allowed = [_broker(*broker), *(f"{rule} accept" for rule in _at(f"tcp sport {SSH} ct direction reply", ssh_from))]
    if names is None:
        sets = ""
        allowed += _rules([*ALWAYS, *grants])
    else:
        gateway = [] if names.agent is None else [f"meta skuid {names.agent} {rule}" for rule in _at("tcp dport 53", _SHOP)]
        sets = _NAMES.format(dnsmasq=names.dnsmasq, agent=_lines(f"{rule} return" for rule in gateway))
        allowed += [f"meta skuid {names.dnsmasq} meta l4proto {{ tcp, udp }} th dport 53 accept"]
        allowed += [f"{rule} accept" for rule in gateway]
        allowed += ["meta l4proto { tcp, udp } th dport 53 reject with icmpx admin-prohibited"]
        allowed += _rules([*(grant for grant in ALWAYS if grant.first != 53), *grants])
        if web_by_name:
            ports = ", ".join(map(str, sorted(web_by_name)))
            allowed += [f"ip{six} daddr @allow{six or 4} tcp dport {{ {ports} }} accept" for six in ("", "6")]
    return _TABLE.format(sets=sets, incoming=_lines(incoming), allowed=_lines(allowed))


def _lines(rules: Iterable[str]) -> str:
    return "".join(f"\t\t{rule}\n" for rule in rules if rule)


def _broker(host: str, port: int) -> str:
    if is_loopback(host):
        return ""
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:  # a name: no rule can know its addresses, and it must be reached whatever they are
        return f"tcp dport {port} accept"
    return f"ip{'6' if address.version == 6 else ''} daddr {address} tcp dport {port} accept"


def _rules(grants: Sequence[Grant]) -> list[str]:
    found = []
    for (protocol, networks), spans in by_network(grants).items():
        ports = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
        found += [f"{rule} accept" for rule in _at(f"{protocol} dport {{ {ports} }}", networks)]
    return found


def _at(ports: str, networks: tuple[Network, ...], side: Literal["daddr", "saddr"] = "daddr") -> list[str]:
    if set(networks) == set(ANYWHERE):
        return [ports]
    return [
        f"ip{six} {side} {{ {', '.join(found)} }} {ports}"
        for six, version in (("", 4), ("6", 6))
        if (found := [str(network) for network in networks if network.version == version])
    ]


def by_network(grants: Sequence[Grant]) -> dict[tuple[str, tuple[Network, ...]], list[Span]]:
    """The ports of each protocol at the same networks."""
    found: dict[tuple[str, tuple[Network, ...]], list[Span]] = {}
    for grant in grants:
        found.setdefault((grant.protocol, collapsed(grant.networks)), []).append((grant.first, grant.last))
    return {where: merged(spans) for where, spans in found.items()}


def collapsed(networks: Collection[Network]) -> tuple[Network, ...]:
    """The same addresses in as few networks as can be: nft takes no set whose parts overlap."""
    fours = collapse_addresses(network for network in networks if isinstance(network, IPv4Network))
    sixes = collapse_addresses(network for network in networks if isinstance(network, IPv6Network))
    return (*fours, *sixes)


def merged(spans: Sequence[Span]) -> list[Span]:
    """The same numbers in as few spans as can be."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def covers(passed: Sequence[Grant], grants: Sequence[Grant]) -> bool:
    """Whether each port at each address of `grants` passes, be it by parts of several others."""
    before, after = _areas(passed), _areas(grants)
    for protocol in ("tcp", "udp"):
        edges = {edge for area in (*before, *after) for first, last in area.ports for edge in (first, last + 1)}
        for port in edges:  # from one to the next nothing changes
            there = merged([span for area in before if area.has(protocol, port) for span in area.addresses])
            firsts = [first for first, _ in there]
            for first, last in merged([span for area in after if area.has(protocol, port) for span in area.addresses]):
                index = bisect_right(firsts, first) - 1
                if index < 0 or there[index][1] < last:
                    return False
    return True


@dataclass(frozen=True)
class _Area:
    protocol: str
    ports: list[Span]
    addresses: list[Span]

    def has(self, protocol: str, port: int) -> bool:
        return self.protocol == protocol and any(first <= port <= last for first, last in self.ports)


def _areas(grants: Sequence[Grant]) -> list[_Area]:
    return [_Area(protocol, ports, list(map(_span, networks))) for (protocol, networks), ports in by_network(grants).items()]


def _span(network: Network) -> Span:
    offset = _SIXES if network.version == 6 else 0
    return offset + int(network.network_address), offset + int(network.broadcast_address)
