"""The network, in the order in which it is built up: carrier, address, gateway, DNS, TLS, portal, broker."""

import asyncio
import math
import socket
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.contract.reasons import dns_reason
from agent.contract.typed import Check, Range
from agent.contract.words import is_loopback
from agent.devices.netlink import DefaultRoute, Interface, NetworkState
from agent.devices.reach import CheckPage, check
from agent.peripherals.declaration import Peripheral, Signals, act
from agent.peripherals.surroundings import BrokerView, Surroundings
from agent.rules.declaration import Fact, FindingKind, Identity, Observed, Reading, Unreadable, threshold
from agent.rules.health import Finding
from agent.rules.ladder import Remedy

_DNS_DEADLINE_S: Final = 6.0  # the first of two name servers may be dead: libc turns to the second after 5 s
_TROUBLED_S: Final = 10.0  # between probes while something is wrong
# What the shopkeeper mends, and the kernel does not tell of: she is to see within 5 s that it helped.
_HERS: Final = ("gateway-unreachable", "dns-failure", "captive-portal")
_MENDED_S: Final = 3.0
_NOTHING_BEYOND: Final = "nothing-beyond"  # a whole region may be so, for hours: nobody asks its sites every three seconds
_LOSS_WINDOW: Final = 10  # probes
_LOSS_MIN_SEGMENTS: Final = 20


def _page_problem(url: str) -> str | None:
    try:
        CheckPage.parse(url)
    except ValueError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Options:
    """`check_url`: the operator's page that answers 204; without it neither HTTPS nor a portal is asked for.
    `interface`: judge this one only, instead of the one with the default route."""

    check_url: Annotated[str, Check(_page_problem, "page that answers 204")] | None = None
    interface: str | None = None
    interval_s: Annotated[float, Range(5, 60)] = 60.0
    high_latency_ms: Annotated[float, Range(10, 10_000)] = 300.0
    high_loss_pct: Annotated[float, Range(0.1, 100)] = 3.0
    weak_signal_dbm: Annotated[float, Range(-100, -30)] = -75.0


def find(facts: Mapping[str, Any], options: Options) -> Iterable[Observed]:
    """Only the first link of the chain that fails is to blame; the broker is judged apart from it."""
    chain = _first_failure(facts)
    if chain is not None:
        yield chain
    elif facts["broker"] and facts["broker"] != "connected":
        yield _broker_failure(facts["broker"])
    limit_ms = options.high_latency_ms
    yield from threshold("high-latency", facts["rtt_ms"], raises_at=limit_ms, clears_at=limit_ms * 2 / 3, detail_key="rtt_ms")
    limit_pct = options.high_loss_pct
    yield from threshold("high-loss", facts["loss_pct"], raises_at=limit_pct, clears_at=limit_pct / 3, detail_key="loss_pct")
    limit_dbm = options.weak_signal_dbm
    yield from threshold(
        "weak-signal", facts["wifi_signal_dbm"], raises_at=limit_dbm, clears_at=limit_dbm + 5, detail_key="signal_dbm"
    )


def _first_failure(facts: Mapping[str, Any]) -> Observed | None:
    if not facts["carrier"]:
        return Observed("no-carrier", {"interface": facts["interface"]} if facts["interface"] else {})
    if not facts["address"]:
        return Observed("no-address", {"interface": facts["interface"]})
    if facts["gateway_reachable"] is False:
        return Observed("gateway-unreachable", {"gateway": facts["gateway"]} if facts["gateway"] else {"reason": "no-route"})
    if facts["dns"] not in (None, "ok"):
        return Observed("dns-failure", {"reason": facts["dns"]})
    page = facts["check"] or "ok"
    if page == "portal":
        return Observed("captive-portal")
    if page.startswith("tls:"):
        return Observed("tls-failure", {"at": "check-page", "reason": page.removeprefix("tls:")}, severity="fault")
    if page.startswith("connect:") and facts["broker"] not in (None, "connected"):
        # Neither of two independent places answers: it is what lies behind the gateway, not they.
        return Observed("gateway-unreachable", {"reason": _NOTHING_BEYOND})
    return None


def _broker_failure(result: str) -> Observed:
    stage, _, reason = result.partition(":")
    if stage == "tls":
        return Observed("tls-failure", {"at": "broker", "reason": reason})
    return Observed("broker-unreachable", {"stage": stage, "reason": reason})


class NetworkSource:
    """Local changes come from rtnetlink; what lies beyond the cable is asked at an interval."""

    def __init__(self, options: Options, surroundings: Surroundings, signals: Signals) -> None:
        self._options = options
        self._surroundings = surroundings
        self._signals = signals
        self._page = None if options.check_url is None else CheckPage.parse(options.check_url)
        self._local: _Uplink | None = None
        self._resolving: asyncio.Future[list[str]] | None = None
        self._resolving_since_s = 0.0
        self._traffic: deque[tuple[int, int]] = deque(maxlen=_LOSS_WINDOW)
        self._between_s = options.interval_s
        self._unwatch = surroundings.links.watch(self._changed)

    async def probe(self, *, active: bool) -> Reading:
        """Every look uses the network, so an active one is no other."""
        del active
        try:
            uplink = self._uplink()
        except OSError as error:
            return Reading(unreadable=Unreadable("probe-failed", {"reason": f"netlink: {error.strerror}"}))
        self._local = uplink
        broker = await self._surroundings.broker()
        facts = uplink.facts() | self._broker_facts(broker)
        facts["wifi_signal_dbm"] = self._wifi_signal_dbm(uplink)
        if uplink.carrier and uplink.address:
            facts["gateway_reachable"] = await self._gateway_reachable(uplink, broker)
            if facts["gateway_reachable"] is not False:
                facts |= await self._beyond(broker)
        failed = _first_failure(PERIPHERAL.all_facts(Reading(facts)))
        self._between_s = self._options.interval_s
        if failed is not None and failed.code in _HERS and failed.detail.get("reason") != _NOTHING_BEYOND:
            self._between_s = _MENDED_S
        elif failed is not None or broker.result not in (None, "connected"):
            self._between_s = min(_TROUBLED_S, self._options.interval_s)
        return Reading(facts, Identity(slot=uplink.interface))

    def interval_s(self) -> float:
        return self._between_s

    async def close(self) -> None:
        self._unwatch()
        if self._resolving is not None:
            self._resolving.cancel()

    def _changed(self) -> None:
        """rtnetlink spoke: what is lost is said at once, what came is worth a whole probe."""
        try:
            uplink = self._uplink()
        except OSError:
            self._signals.wake()
            return
        if uplink == self._local:
            return  # another interface, a lifetime renewed
        self._local = uplink
        if not uplink.carrier or not uplink.address:
            self._signals.report(Reading(uplink.facts(), Identity(slot=uplink.interface)))
        self._signals.wake()

    def _uplink(self) -> "_Uplink":
        last = None if self._local is None else self._local.interface
        return uplink(self._surroundings.links.snapshot(), self._options.interface, last)

    async def _gateway_reachable(self, uplink: "_Uplink", broker: BrokerView) -> bool | None:
        remote_broker = broker.local_address is not None and not is_loopback(broker.local_address)
        if broker.result == "connected" and remote_broker:
            return True
        if not uplink.routed:
            return False
        if uplink.gateway is None:
            return None  # point to point: nothing between us and the far end
        try:
            heard = self._surroundings.links.neighbour_answers(uplink.gateway)
        except OSError:
            heard = None
        if heard and broker.result == "connected":
            return True
        answers = await self._surroundings.links.host_answers(uplink.gateway)
        return heard if answers is None else answers

    async def _beyond(self, broker: BrokerView) -> dict[str, FactValue]:
        host = broker.host if self._page is None else self._page.host
        if _is_literal(host):
            addresses, dns = [host], None
        else:
            addresses, dns = await self._resolve(host)
        if self._page is None or not addresses:
            return {"dns": dns}
        result = await check(self._page, addresses)
        return {"dns": dns, "check": result.result, "check_ms": result.connect_ms}

    async def _resolve(self, host: str) -> tuple[list[str], str]:
        # getaddrinfo has no deadline of its own: one that hangs is left behind, and no second one is started.
        if self._resolving is None or self._resolving.done():
            self._resolving = asyncio.ensure_future(self._surroundings.resolve(host))
            self._resolving.add_done_callback(_retrieve)
            self._resolving_since_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(_DNS_DEADLINE_S):
                return await asyncio.shield(self._resolving), "ok"
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
            # libc calls it "no answer" when it gives up on a silent server; whoever waits for that must not say another reason.
            hung = asyncio.get_running_loop().time() - self._resolving_since_s >= _DNS_DEADLINE_S
            return [], "timeout" if hung else dns_reason(error)

    def _broker_facts(self, broker: BrokerView) -> dict[str, FactValue]:
        facts: dict[str, FactValue] = {"broker": broker.result, "rtt_ms": broker.rtt_ms, "loss_pct": None}
        if broker.segments_out is None or broker.retransmitted is None:
            self._traffic.clear()
            return facts
        if self._traffic and broker.segments_out < self._traffic[-1][0]:
            self._traffic.clear()  # a new connection counts from zero
        self._traffic.append((broker.segments_out, broker.retransmitted))
        sent = self._traffic[-1][0] - self._traffic[0][0]
        if sent >= _LOSS_MIN_SEGMENTS:
            facts["loss_pct"] = round(100 * (self._traffic[-1][1] - self._traffic[0][1]) / sent, 1)
        return facts

    def _wifi_signal_dbm(self, uplink: "_Uplink") -> float | None:
        for line in (self._surroundings.files.text("proc/net/wireless") or "").splitlines():
            name, _, values = line.partition(":")
            if name.strip() == uplink.interface and len(words := values.split()) >= 3:
                try:
                    return float(words[2].rstrip("."))
                except ValueError:
                    return None
        return None


@dataclass(frozen=True)
class _Uplink:
    """The interface that counts, and how far it is set up."""

    interface: str | None
    carrier: bool
    address: str | None
    routed: bool
    gateway: str | None

    def facts(self) -> dict[str, FactValue]:
        return {"interface": self.interface, "carrier": self.carrier, "address": self.address, "gateway": self.gateway}


def uplink(state: NetworkState, wanted: str | None, last: str | None) -> _Uplink:
    """Which interface counts: the wanted one; else the one with the best default route; else, when there is
    none, the one that is furthest set up, the last one known before others."""
    candidates = [item for item in state.interfaces if wanted in (None, item.name)]
    routes = [route for route in state.default_routes if any(route.interface == item.name for item in candidates)]
    if not candidates:
        return _Uplink(wanted, False, None, False, None)

    preferred = [route.interface for route in routes]

    def rank(item: Interface) -> tuple[float, bool, bool, bool]:
        route_rank = -preferred.index(item.name) if item.name in preferred else -math.inf
        return (route_rank, item.carrier and bool(item.addresses), item.name == last, item.carrier)

    best = max(candidates, key=rank)
    route: DefaultRoute | None = next((route for route in routes if route.interface == best.name), None)
    return _Uplink(
        best.name,
        best.carrier,
        best.addresses[0] if best.addresses else None,
        route is not None,
        route.gateway if route else None,
    )


def _retrieve(resolved: "asyncio.Future[list[str]]") -> None:
    """Take notice of a failure that comes after everybody stopped waiting for it."""
    if not resolved.cancelled():
        resolved.exception()


def _is_literal(host: str) -> bool:
    """Whether there is no name to resolve."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return is_loopback(host)


_BOX: Final = Text("La box Internet ne répond pas : vérifiez-la.", "The gateway does not answer: check the Internet box.")
_FLAPPING_S: Final = 3.0  # a link that comes and goes is one finding that stands; below the 5 s of contract §5
_INFERRED_S: Final = 20.0
_LINE_S: Final = 180.0


def _local(finding: Finding) -> bool:
    """Not what lies beyond the box: a region without its line must not make every booth of it restart."""
    return finding.detail.get("reason") != "nothing-beyond"


def _worth_a_reboot(finding: Finding) -> bool:
    """No reboot plugs in a cable."""
    return _local(finding) and (finding.code != "no-carrier" or str(finding.detail.get("interface")).startswith("wl"))


def _rung(name: str, cures: frozenset[str], patience_s: float, settle_s: float) -> Remedy:
    """Slow, and slower from rung to rung: most often it is the box, and the box comes back."""
    return Remedy(
        name, cures, act(name), deadline_s=20.0, settle_s=settle_s, patience_s=patience_s, cooldown_s=300.0, when=_local
    )


_UNADDRESSED: Final = frozenset({"no-address", "gateway-unreachable"})
_UNLINKED: Final = _UNADDRESSED | {"no-carrier"}
# Names, portal, TLS and broker are not in any rung: what is wrong with them is wrong for many booths at once.
_LADDER: Final = (
    _rung("renew-address", _UNADDRESSED, 60.0, 10.0),
    _rung("bounce-link", _UNLINKED, 120.0, 15.0),
    _rung("restart-network", _UNLINKED, 300.0, 15.0),
    _rung("radio-cycle", _UNLINKED, 600.0, 15.0),
    _rung("reload-driver", _UNLINKED, 900.0, 15.0),
    Remedy("reboot", _UNLINKED, act("reboot"), settle_s=1.0, patience_s=1800.0, reboots=True, when=_worth_a_reboot),
)

PERIPHERAL = Peripheral(
    kind="network",
    noun=Text("le réseau", "the network"),
    options=Options,
    facts=(
        Fact("interface", "string", "the interface that is judged"),
        Fact("carrier", "boolean", "the cable is in, or the radio associated"),
        Fact("address", "string", "its first global address"),
        Fact("gateway", "string", "the preferred default gateway; null on a point-to-point link"),
        Fact("gateway_reachable", "boolean", "the gateway answers; null if it is not known"),
        Fact("dns", "string", "ok, unknown-name, no-answer or timeout; null when no name is to be resolved"),
        Fact("check", "string", "ok, portal, http-<status>, tls:<reason> or connect:<reason>; null without check_url"),
        Fact("check_ms", "number", "TCP round trip to the check page", "ms", telemetry=True),
        Fact("broker", "string", "connected, or dns, connect, tls or mqtt with the reason"),
        Fact("rtt_ms", "number", "smoothed round trip to the broker, by the kernel", "ms", telemetry=True),
        Fact("loss_pct", "number", "segments sent twice to the broker in the last ten probes", "%", telemetry=True),
        Fact("wifi_signal_dbm", "number", "signal level; null on a cable", "dBm", telemetry=True),
    ),
    findings=(
        FindingKind(
            "no-carrier", "fault", "shopkeeper",
            Text("Le câble réseau est débranché, ou la box est éteinte.", "The network cable is out, or the box is off."),
            clear_after_s=_FLAPPING_S,
        ),
        FindingKind(
            "no-address", "fault", "shopkeeper",
            Text("La box Internet ne donne pas d'adresse : redémarrez-la.", "The Internet box gives no address: restart it."),
            raise_after_s=2.0,
        ),
        FindingKind("gateway-unreachable", "fault", "shopkeeper", _BOX, raise_after_s=_INFERRED_S),
        FindingKind(
            "dns-failure", "fault", "shopkeeper",
            Text("La connexion Internet ne trouve pas les sites : redémarrez la box.", "Names are not resolved: restart the Internet box."),
            raise_after_s=_INFERRED_S,
        ),
        FindingKind(
            "captive-portal", "fault", "shopkeeper",
            Text("La box demande une connexion : un portail bloque Internet.", "A captive portal blocks the Internet."),
            raise_after_s=_INFERRED_S,
        ),
        FindingKind(
            "tls-failure", "warning", "remote",
            Text("La connexion sécurisée est refusée.", "A secure connection is refused: see the detail."), raise_after_s=2.0,
        ),
        FindingKind(
            "broker-unreachable", "warning", "remote",
            Text("Le serveur de supervision est injoignable.", "The broker cannot be reached."), raise_after_s=60.0,
        ),
        FindingKind(
            "high-latency", "warning", "third-party",
            Text("La connexion Internet est lente.", "The Internet connection is slow."),
            raise_after_s=_LINE_S, clear_after_s=_LINE_S,
        ),
        FindingKind(
            "high-loss", "warning", "third-party",
            Text("La connexion Internet perd des données.", "The Internet connection loses packets."),
            raise_after_s=_LINE_S, clear_after_s=_LINE_S,
        ),
        FindingKind(
            "weak-signal", "warning", "shopkeeper",
            Text("Le signal Wi-Fi est faible : rapprochez la box.", "The Wi-Fi signal is weak: move the box closer."),
            raise_after_s=_LINE_S, clear_after_s=_LINE_S,
        ),
    ),
    find=find,
    open=NetworkSource,
    deadline_s=20.0,
    ladder=_LADDER,
)  # fmt: skip
