"""Findings over time: debounce, hysteresis, age. Unknown is never ok."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agent.contract.event import capped_data
from agent.contract.words import FixBy, Severity, Status
from agent.rules.declaration import SEVERITY_ORDER, FindingKind, Observed


@dataclass(frozen=True)
class Now:
    """One instant: seconds that never jump, for timers; and the wall clock's words, for people."""

    mono_s: float
    wall: str


@dataclass(frozen=True)
class Finding:
    """A finding that is believed. `since` is wall time, and survives restarts."""

    code: str
    severity: Severity
    fix_by: FixBy
    since: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """A finding that came or went: what becomes an event."""

    what: Literal["raised", "cleared"]
    finding: Finding


@dataclass(frozen=True)
class Judgement:
    """What is believed of one peripheral.

    `seen_since` (findings not yet believed) and `missing_since` (findings not yet given up) hold
    monotonic seconds: the debounce. `checked` is when the newest reading was taken.
    """

    status: Status = "unknown"
    since: str = ""
    findings: tuple[Finding, ...] = ()
    checked: Now | None = None
    seen_since: Mapping[str, float] = field(default_factory=dict)
    missing_since: Mapping[str, float] = field(default_factory=dict)

    def due_in_s(self, kinds: Mapping[str, FindingKind], now: Now) -> float | None:
        """Seconds until a debounce ends, so that the same reading must be judged again; None if none runs."""
        ends = [at + kinds[code].raise_after_s for code, at in self.seen_since.items()]
        ends += [at + kinds[code].clear_after_s for code, at in self.missing_since.items()]
        return max(0.0, min(ends) - now.mono_s) if ends else None

    def same_for_readers(self, other: "Judgement") -> bool:
        """Whether a reader of `B/health` would see no difference but the time of the check, and numbers that wander."""
        mine, theirs = ([_without_numbers(finding) for finding in item.findings] for item in (self, other))
        return (self.status, self.since, mine) == (other.status, other.since, theirs)


def judge(
    before: Judgement, observed: Iterable[Observed], kinds: Mapping[str, FindingKind], now: Now
) -> tuple[Judgement, tuple[Change, ...]]:
    """Bring one reading's findings together with what was believed before.

    Raises KeyError for a code that the peripheral does not declare.
    """
    seen = {item.code: item for item in observed}
    standing = {finding.code: finding for finding in before.findings}
    believed: list[Finding] = []
    changes: list[Change] = []
    seen_since: dict[str, float] = {}
    missing_since: dict[str, float] = {}

    for code, item in seen.items():
        kind = kinds[code]
        severity = item.severity or kind.severity
        if code in standing:
            believed.append(replace(standing[code], severity=severity, fix_by=kind.fix_by, detail=capped_data(dict(item.detail))))
        elif not item.holds_only:
            first_seen = before.seen_since.get(code, now.mono_s)
            if item.certain or now.mono_s - first_seen >= kind.raise_after_s:
                believed.append(Finding(code, severity, kind.fix_by, now.wall, capped_data(dict(item.detail))))
                changes.append(Change("raised", believed[-1]))
            else:
                seen_since[code] = first_seen

    for code, finding in standing.items():
        if code in seen:
            continue
        first_missing = before.missing_since.get(code, now.mono_s)
        # A code that this version no longer declares (an update) has nothing to wait for.
        wait_s = kinds[code].clear_after_s if code in kinds else 0.0
        if now.mono_s - first_missing >= wait_s:
            changes.append(Change("cleared", finding))
        else:
            believed.append(finding)
            missing_since[code] = first_missing

    findings = tuple(sorted(believed, key=lambda finding: (SEVERITY_ORDER.index(finding.severity), finding.code)))
    status = _status(findings)
    doubtful = any((seen[code].severity or kinds[code].severity) == "fault" for code in seen_since)
    if status == "ok" and doubtful and (before.status not in ("ok", "degraded") or before.checked is None):
        status = "unknown"  # it shows a fault that is not believed yet, and was not known to work before: not ok either
    since = before.since if status == before.status and before.since else now.wall
    return Judgement(status, since, findings, now, seen_since, missing_since), tuple(changes)


def aged(judgement: Judgement, max_age_s: float, now: Now) -> Judgement:
    """The judgement when nothing newer came for `max_age_s`: `unknown`, with its findings kept for memory."""
    if judgement.checked is None or now.mono_s - judgement.checked.mono_s <= max_age_s:
        return judgement
    if judgement.status == "unknown":
        return judgement
    return replace(judgement, status="unknown", since=now.wall)


def _without_numbers(finding: Finding) -> Finding:
    texts = {key: value for key, value in finding.detail.items() if isinstance(value, bool) or not isinstance(value, int | float)}
    return replace(finding, detail=texts)


def _status(findings: tuple[Finding, ...]) -> Status:
    codes = {finding.code for finding in findings}
    if "no-device" in codes:
        return "absent"
    severities = {finding.severity for finding in findings}
    if "fault" in severities:
        return "fault"
    return "degraded" if "warning" in severities else "ok"
