"""What is believed of the booth, across a restart: `since` must not begin anew because the power was cut."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.contract.typed import Invalid, build
from agent.contract.words import FixBy, Severity, Status
from agent.engine.watch import Port
from agent.rules.alarms import Alarm
from agent.rules.health import Finding, Judgement


@dataclass(frozen=True)
class _SavedFinding:
    code: str
    severity: Severity
    fix_by: FixBy
    since: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class _SavedJudgement:
    status: Status
    since: str
    findings: list[_SavedFinding]


@dataclass(frozen=True)
class _SavedAlarm:
    peripheral: str
    code: str
    severity: Severity
    fix_by: FixBy
    since: str
    acknowledged: bool


@dataclass(frozen=True)
class Remembered:
    """The last beliefs. `judgements` still have to be confirmed by a reading; raised alarms stand until then."""

    judgements: Mapping[str, Judgement] = field(default_factory=dict)
    alarms: tuple[_SavedAlarm, ...] = ()
    clearing: tuple[tuple[str, str], ...] = ()
    ports: Mapping[str, Port] = field(default_factory=dict)  # where each device was plugged in

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "Remembered":
        """From the store's state. What does not fit (an older version's) is forgotten."""
        saved: dict[str, _SavedJudgement] = {}
        alarms: tuple[_SavedAlarm, ...] = ()
        with contextlib.suppress(Invalid):
            saved = build(dict[str, _SavedJudgement], state.get("judgements", {}), unknown="ignore")
        with contextlib.suppress(Invalid):
            alarms = build(tuple[_SavedAlarm, ...], state.get("alarms", []), unknown="ignore")
        clearing: tuple[tuple[str, ...], ...] = ()
        with contextlib.suppress(Invalid):
            clearing = build(tuple[tuple[str, ...], ...], state.get("clearing", []))
        ports: dict[str, Port] = {}
        with contextlib.suppress(Invalid):
            ports = build(dict[str, Port], state.get("ports", {}))
        judgements = {
            name: Judgement(
                judgement.status,
                judgement.since,
                tuple(Finding(item.code, item.severity, item.fix_by, item.since, item.detail) for item in judgement.findings),
            )
            for name, judgement in saved.items()
        }
        return cls(judgements, alarms, tuple((key[0], key[1]) for key in clearing if len(key) == 2), ports)

    def alarms_at(self, now_s: float) -> Iterable[Alarm]:
        """The alarms that were raised, as of now."""
        for saved in self.alarms:
            yield Alarm(
                saved.peripheral, saved.code, saved.severity, saved.fix_by, saved.since,
                seen_s=now_s, raised=True, acknowledged=saved.acknowledged,
            )  # fmt: skip

    @staticmethod
    def of_judgements(judgements: Mapping[str, Judgement]) -> dict[str, Any]:
        """The JSON to save. Unknown is worth nothing after a restart, and what is still being debounced neither."""
        return {
            name: {
                "status": judgement.status,
                "since": judgement.since,
                "findings": [
                    {
                        "code": finding.code,
                        "severity": finding.severity,
                        "fix_by": finding.fix_by,
                        "since": finding.since,
                        "detail": dict(finding.detail),
                    }
                    for finding in judgement.findings
                ],
            }
            for name, judgement in judgements.items()
        }

    @staticmethod
    def of_alarms(alarms: Iterable[Alarm]) -> list[dict[str, Any]]:
        return [
            {
                "peripheral": alarm.peripheral,
                "code": alarm.code,
                "severity": alarm.severity,
                "fix_by": alarm.fix_by,
                "since": alarm.since,
                "acknowledged": alarm.acknowledged,
            }
            for alarm in alarms
            if alarm.raised
        ]
