"""The words that a peripheral is declared in: facts, findings, readings.

A *fact* is measured. A *finding* is computed from facts, by a pure function. *Health* is findings
over time (`rules.health`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from agent.contract.alarm import Text
from agent.contract.health import FactValue
from agent.contract.words import FixBy, Severity

UnreadableCode = Literal["no-device", "not-responding", "wedged", "probe-failed"]
FactType = Literal["boolean", "integer", "number", "string"]

SEVERITY_ORDER: Final[tuple[Severity, ...]] = ("fault", "warning", "info")


@dataclass(frozen=True)
class Fact:
    """One measured quantity. `telemetry` facts are numbers that `B/tele/{peripheral}` carries over time."""

    name: str
    type: FactType
    meaning: str
    unit: str | None = None
    telemetry: bool = False


@dataclass(frozen=True)
class FindingKind:
    """What can be wrong with a kind of peripheral, and what a person should do about it.

    `raise_after_s` and `clear_after_s` debounce it: 0 for what the device or the kernel states
    itself, more for what is inferred. `part` is what a technician should bring.
    """

    code: str
    severity: Severity
    fix_by: FixBy
    text: Text
    raise_after_s: float = 0.0
    clear_after_s: float = 0.0
    part: str | None = None


@dataclass(frozen=True)
class Observed:
    """A finding as one reading shows it, before debounce.

    `holds_only` is hysteresis: the measure lies between the two thresholds, so this keeps a finding
    that stands already and raises none. `severity` overrides the kind's where it depends on the facts.
    `certain` needs no debounce, though the kind has one.
    """

    code: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    holds_only: bool = False
    severity: Severity | None = None
    certain: bool = False


@dataclass(frozen=True)
class Identity:
    """What a device says of itself. Every text is already harmless (`contract.words.printable`)."""

    slot: str | None = None
    vendor: str | None = None
    product: str | None = None
    serial: str | None = None
    firmware: str | None = None


@dataclass(frozen=True)
class Unreadable:
    """Why nothing could be measured."""

    code: UnreadableCode
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """One measurement of one peripheral.

    `facts` holds every declared fact, None where it could not be read; it is empty when
    `unreadable` says why nothing was. `took_s` is how long the device was asked. `untried`: it is there, and it could not
    be used yet (a session, another program): no finding means unknown then, not ok, and no check was made. `chores`: names of
    those that are due; nobody is told.
    """

    facts: Mapping[str, FactValue] = field(default_factory=dict)
    identity: Identity = Identity()
    unreadable: Unreadable | None = None
    took_s: float = 0.0
    untried: bool = False
    chores: frozenset[str] = frozenset()


def threshold(
    code: str, value: float | None, *, raises_at: float, clears_at: float, detail_key: str | None = None
) -> list[Observed]:
    """A numeric limit with hysteresis. `raises_at` above `clears_at` is an upper limit, below it a lower one."""
    if value is None:
        return []
    upper = raises_at >= clears_at
    detail = {} if detail_key is None else {detail_key: value}
    if value >= raises_at if upper else value <= raises_at:
        return [Observed(code, detail)]
    if value > clears_at if upper else value < clears_at:
        return [Observed(code, detail, holds_only=True)]
    return []
