"""Alarms: findings that last. Contract §5."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from agent.contract.words import FixBy, Severity
from agent.rules.health import Finding, Now

CLEAR_AFTER_S: Final = 120.0  # without the finding, where no shopkeeper waits for the light to turn

AlarmKey = tuple[str, str]  # (peripheral, code)


@dataclass(frozen=True)
class Alarm:
    """A finding on its way to an alarm, or the alarm.

    `seen_s` is when the finding was first tracked, `gone_s` when it was last lost (None: it stands),
    both monotonic. `acknowledged`: the broker has it, so a technician can know.
    """

    peripheral: str
    code: str
    severity: Severity
    fix_by: FixBy
    since: str
    seen_s: float
    gone_s: float | None = None
    raised: bool = False
    acknowledged: bool = False

    @property
    def key(self) -> AlarmKey:
        return (self.peripheral, self.code)


@dataclass(frozen=True)
class Step:
    """A change of one alarm, to be published."""

    what: Literal["raised", "changed", "cleared"]
    alarm: Alarm


def track(
    before: Mapping[AlarmKey, Alarm], findings: Mapping[AlarmKey, Finding], alarm_after_s: float, now: Now
) -> tuple[dict[AlarmKey, Alarm], tuple[Step, ...]]:
    """Follow the findings that stand now. Every alarm of `before` is in the result, or in a `cleared` step."""
    after: dict[AlarmKey, Alarm] = {}
    steps: list[Step] = []
    for key, finding in findings.items():
        if finding.severity == "info":
            continue
        known = before.get(key)
        alarm = replace(
            known or Alarm(*key, finding.severity, finding.fix_by, finding.since, seen_s=now.mono_s),
            severity=finding.severity,
            fix_by=finding.fix_by,
            gone_s=None,
        )
        if not alarm.raised and now.mono_s - alarm.seen_s >= alarm_after_s:
            alarm = replace(alarm, raised=True)
            steps.append(Step("raised", alarm))
        elif known and known.raised and (known.severity, known.fix_by) != (alarm.severity, alarm.fix_by):
            # Who has been told of a fault that is not the shopkeeper's was told, whoever it is that comes.
            told = known.acknowledged and known.severity == alarm.severity and "shopkeeper" not in (known.fix_by, alarm.fix_by)
            alarm = replace(alarm, acknowledged=told)
            steps.append(Step("changed", alarm))
        after[key] = alarm

    for key, alarm in before.items():
        if key in after or not alarm.raised:
            continue
        gone_s = now.mono_s if alarm.gone_s is None else alarm.gone_s
        if now.mono_s - gone_s >= _clear_after_s(alarm):
            steps.append(Step("cleared", alarm))
        else:
            after[key] = replace(alarm, gone_s=gone_s)
    return after, tuple(steps)


def due_in_s(alarms: Mapping[AlarmKey, Alarm], alarm_after_s: float, now: Now) -> float | None:
    """Seconds until an alarm is to be raised or cleared if nothing else happens; None if none is."""
    ends = [alarm.seen_s + alarm_after_s for alarm in alarms.values() if not alarm.raised]
    ends += [alarm.gone_s + _clear_after_s(alarm) for alarm in alarms.values() if alarm.gone_s is not None]
    return max(0.0, min(ends) - now.mono_s) if ends else None


def _clear_after_s(alarm: Alarm) -> float:
    return 0.0 if alarm.fix_by == "shopkeeper" else CLEAR_AFTER_S
