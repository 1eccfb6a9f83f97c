"""What the citizen can do at this booth now. Contract §10: the defaults, and a mapping that is configuration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.contract.words import ServiceWord, Severity, Status
from agent.rules.health import Finding
from agent.rules.light import SHOP_NETWORK_CODES


@dataclass(frozen=True)
class Need:
    """One kind of peripheral that a service hangs on.

    `down_on`: the fault codes that take the service down (None: every fault, and absence).
    `degraded_on`: the codes that degrade it (None: every warning).
    """

    kind: str
    down_on: frozenset[str] | None = None
    degraded_on: frozenset[str] | None = None


@dataclass(frozen=True)
class ServiceRule:
    """`main`: without any of these kinds the service is not offered. `needs`: all of them, where configured.
    `either`: any one carries it. `helps`: missing or broken, they only degrade it."""

    main: tuple[str, ...]
    needs: tuple[Need, ...] = ()
    either: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()


_LINE_QUALITY: Final = frozenset({"high-latency", "high-loss", "weak-signal"})
_UNREADABLE: Final = frozenset({"not-responding", "wedged", "probe-failed"})
_HTTPS: Final = SHOP_NETWORK_CODES | {"tls-failure"}

DEFAULT_RULES: Final[Mapping[str, ServiceRule]] = {
    "web": ServiceRule(
        main=("network",),
        needs=(
            Need("network", down_on=_HTTPS, degraded_on=_LINE_QUALITY),
            Need("board", down_on=frozenset({"clock-unsynced"}), degraded_on=frozenset()),
            Need("kiosk"),
        ),
    ),
    "forms": ServiceRule(main=("document-printer",), needs=(Need("document-printer"), Need("forms"))),
    "print": ServiceRule(main=("document-printer", "receipt-printer"), either=("document-printer", "receipt-printer")),
    "scan": ServiceRule(
        main=("scanner",),
        needs=(
            Need("scanner"),
            Need("board", down_on=frozenset({"storage-low", "storage-read-only"}), degraded_on=frozenset()),
        ),
    ),
    "visio": ServiceRule(
        main=("camera",),
        needs=(
            Need("camera"),
            # A conversation needs what browsing can do without: RTT under 300 ms, loss under 3 %.
            Need("network", down_on=_HTTPS | {"high-latency", "high-loss"}, degraded_on=frozenset()),
            Need("audio"),
        ),
        helps=("scanner", "document-printer"),
    ),
}


@dataclass(frozen=True)
class PeripheralState:
    """What the services need to know of one peripheral."""

    name: str
    kind: str
    status: Status
    findings: tuple[Finding, ...] = ()


def services(
    rules: Mapping[str, ServiceRule], peripherals: Sequence[PeripheralState], maintenance: bool = False
) -> dict[str, ServiceWord]:
    """The word of every service that this booth offers, in the order of `rules`."""
    return {
        name: "maintenance" if maintenance else _word(rule, peripherals)
        for name, rule in rules.items()
        if any(peripheral.kind in rule.main for peripheral in peripherals)
    }


def touched_by(rules: Mapping[str, ServiceRule], offered: Iterable[str], kind: str, code: str, severity: Severity) -> list[str]:
    """The offered services that a finding of this kind of peripheral takes down or degrades."""
    finding = Finding(code, severity, "nobody", "")
    status: Status = "absent" if code == "no-device" else "fault" if severity == "fault" else "degraded"
    state = PeripheralState(kind, kind, status, (finding,))
    return [name for name in offered if any(word != "ok" for word in _words(rules[name], [state]))]


def _word(rule: ServiceRule, peripherals: Sequence[PeripheralState]) -> ServiceWord:
    words = _words(rule, peripherals)
    ranked: tuple[ServiceWord, ...] = ("down", "unknown", "degraded")
    return next((word for word in ranked if word in words), "ok")


def _words(rule: ServiceRule, peripherals: Sequence[PeripheralState]) -> list[ServiceWord]:
    words: list[ServiceWord] = []
    for need in rule.needs:
        words += [_need_word(need, peripheral) for peripheral in peripherals if peripheral.kind == need.kind]
    either = [_need_word(Need(kind), item) for kind in rule.either for item in peripherals if item.kind == kind]
    if either:
        words.append(_either_word(either))
    for kind in rule.helps:
        words += ["degraded" for item in peripherals if item.kind == kind and _need_word(Need(kind), item) in ("down", "unknown")]
    return words


def _either_word(words: list[ServiceWord]) -> ServiceWord:
    if all(word == "ok" for word in words):
        return "ok"
    if any(word in ("ok", "degraded") for word in words):
        return "degraded"
    return "unknown" if "unknown" in words else "down"


def _need_word(need: Need, peripheral: PeripheralState) -> ServiceWord:
    if peripheral.status == "unknown":
        return "unknown"
    if peripheral.status == "absent":
        return "down"
    codes = {finding.code: finding.severity for finding in peripheral.findings}
    if need.down_on is None:
        if peripheral.status == "fault":
            return "down"
    elif codes.keys() & _UNREADABLE:
        return "unknown"  # what it hangs on could not be measured
    elif any(code in need.down_on and (severity == "fault" or code in _LINE_QUALITY) for code, severity in codes.items()):
        return "down"
    degrading = {code for code, severity in codes.items() if severity != "info"}
    if need.degraded_on is not None:
        degrading &= need.degraded_on
    return "degraded" if degrading else "ok"
