"""`B/health/{peripheral}`: facts (what was measured) and findings (what is wrong), apart."""

from dataclasses import dataclass
from typing import Any

from agent.contract.words import Code, FixBy, Name, Severity, Status, Timestamp

FactValue = bool | int | float | str | None


@dataclass(frozen=True)
class Finding:
    code: Code
    severity: Severity
    fix_by: FixBy
    since: Timestamp
    detail: dict[str, Any]


@dataclass(frozen=True)
class Device:
    vendor: str | None
    product: str | None
    serial: str | None


@dataclass(frozen=True)
class Healing:
    """The remedy that runs now."""

    remedy: Name
    rung: int
    attempt: int
    since: Timestamp


@dataclass(frozen=True)
class Health:
    """`findings` stand worst first; a fact that could not be measured is null."""

    peripheral: Name
    kind: Name
    slot: str | None
    status: Status
    findings: list[Finding]
    facts: dict[str, FactValue]
    device: Device
    since: Timestamp
    checked_at: Timestamp | None
    healing: Healing | None
