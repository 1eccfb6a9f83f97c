"""`B/alarm/{peripheral}/{code}`: a finding that lasted; an empty payload clears it."""

from dataclasses import dataclass

from agent.contract.words import ClockWord, Code, FixBy, Name, Severity, Timestamp


@dataclass(frozen=True)
class Text:
    """What a person reads. French first: the shopkeeper's language."""

    fr: str
    en: str


@dataclass(frozen=True)
class Tried:
    remedy: Name
    at: Timestamp
    outcome: str


@dataclass(frozen=True)
class Alarm:
    code: Code
    peripheral: Name
    severity: Severity
    fix_by: FixBy
    services: list[Name]  # those that it takes down or degrades
    since: Timestamp
    clock: ClockWord
    tried: list[Tried]
    part: str | None  # what a technician should bring
    runbook: str  # the page under docs/runbook/
    text: Text
