"""Which remedy is due: a ladder climbed rung by rung, with patience, budgets, and an end. Pure; times are passed in.

An *episode* of a peripheral lasts from its first remedy until it was well for `WELL_S`. In it every rung is tried so often and no
more; then the ladder is given up, and climbed again, once each rung, after `Limits.retry_s`: never for ever, and never never.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from agent.contract.words import Status
from agent.rules.health import Finding

WELL_S: Final = 600.0  # without anything to cure: the episode is over
RELAPSE_S: Final = 120.0  # a finding that is back so soon was not cured
REBOOT_EVERY_S: Final = 6 * 3600.0
DAY_S: Final = 86_400.0
_GAP_S: Final = 5.0  # between two attempts on one peripheral
_LONGEST_COOLDOWN_S: Final = 3600.0
_KEPT: Final = 60  # attempts that are remembered of one peripheral

Outcome = Literal["running", "cured", "failed", "timed-out", "refused", "interrupted", "rebooted", "relapsed"]
HeldBack = Literal["under-voltage", "everything-gone"]
WaitReason = Literal["patience", "cooldown", "gave-up", "budget"]


def always(_finding: Finding) -> bool:
    return True


@dataclass(frozen=True)
class Remedy:
    """One rung: what it cures, how it is done, and what it may cost.

    `run(source, hands)` does it and says nothing of success: a fresh probe decides, `settle_s` later. `deadline_s` bounds it.
    `patience_s`: so long the finding must have lasted. `cooldown_s`: between two attempts, doubled for each that failed within a
    day. `needs_usb`: for devices on USB only.
    `reboots`: the last of all; once in an episode, and once in six hours for the whole booth. `when` looks at the finding
    itself, where its code alone does not tell whether this can help.
    """

    name: str
    cures: frozenset[str]
    run: Callable[..., Awaitable[None]]
    deadline_s: float = 10.0
    settle_s: float = 2.0
    patience_s: float = 20.0
    cooldown_s: float = 60.0
    max_attempts: int = 1
    needs_usb: bool = False
    reboots: bool = False
    when: Callable[[Finding], bool] = always


@dataclass(frozen=True)
class Attempt:
    """One remedy that was begun, for one finding. `at_s` is wall time: it outlives reboots."""

    remedy: str
    code: str
    at_s: float
    episode: int
    round: int
    outcome: Outcome = "running"


@dataclass(frozen=True)
class Case:
    """What was done for one peripheral, oldest first. `rebooted`: in this episode the booth was, and that did not help."""

    attempts: tuple[Attempt, ...] = ()
    episode: int = 0
    round: int = 0
    rebooted: bool = False

    @property
    def open(self) -> bool:
        """Whether something was tried in this episode."""
        return any(attempt.episode == self.episode for attempt in self.attempts)

    def begun(self, remedy: Remedy, code: str, round_: int, now_s: float) -> "Case":
        attempt = Attempt(remedy.name, code, now_s, self.episode, round_)
        return replace(self, attempts=(*self.attempts, attempt)[-_KEPT:], round=round_, rebooted=self.rebooted or remedy.reboots)

    def ended(self, outcome: Outcome) -> "Case":
        """The newest attempt came to this."""
        return replace(self, attempts=(*self.attempts[:-1], replace(self.attempts[-1], outcome=outcome)))

    def not_later_than(self, now_s: float) -> "Case":
        """A clock that was once ahead would else keep what it dated from ever getting old."""
        if all(item.at_s <= now_s for item in self.attempts):
            return self
        return replace(self, attempts=tuple(replace(item, at_s=min(item.at_s, now_s)) for item in self.attempts))

    def closed(self) -> "Case":
        """It was well for long enough: the next finding begins a new episode."""
        return replace(self, episode=self.episode + 1, round=0, rebooted=False)

    def relapsed(self, code: str, began_s: float) -> "Case":
        """A finding began at `began_s`: soon after its cure it takes that cure back."""
        last = self.attempts[-1] if self.attempts else None
        if last is None or last.outcome != "cured" or last.code != code or not 0 < began_s - last.at_s <= RELAPSE_S:
            return self
        return self.ended("relapsed")

    def tried(self, code: str) -> tuple[Attempt, ...]:
        """What was done about a finding in this episode, and is over."""
        return tuple(
            item for item in self.attempts if (item.episode, item.code) == (self.episode, code) and item.outcome != "running"
        )


@dataclass(frozen=True)
class Limits:
    """`per_day`: remedies for one peripheral within a day, cured or not. `retry_s`: after giving up."""

    per_day: int = 24
    retry_s: float = 4 * 3600.0


@dataclass(frozen=True)
class Patient:
    """One peripheral as it is now. `lasted_s`: for how long each of its findings has stood."""

    findings: Sequence[Finding] = ()
    lasted_s: Mapping[str, float] = field(default_factory=dict)
    on_usb: bool = False


@dataclass(frozen=True)
class Try:
    """This remedy is due: rung and attempt are counted from 1."""

    remedy: Remedy
    code: str
    rung: int
    attempt: int
    round: int


@dataclass(frozen=True)
class Wait:
    seconds: float
    why: WaitReason


def curable(ladder: Sequence[Remedy], patient: Patient) -> list[Finding]:
    """The findings that some rung may cure, worst first."""
    return [finding for finding in patient.findings if rungs_for(ladder, finding, patient)]


def decide(
    ladder: Sequence[Remedy], patient: Patient, case: Case, now_s: float, limits: Limits, reboot_s: float | None = None
) -> Try | Wait | None:
    """What is to be done now; None where nothing is to be cured. `reboot_s`: when the booth was rebooted last by a remedy."""
    waits: list[Wait] = []
    for finding in curable(ladder, patient):
        decision = _climb(rungs_for(ladder, finding, patient), finding, patient, case, now_s, limits, reboot_s)
        if isinstance(decision, Try):
            budget_s = _budget_s(case, now_s, limits)
            return decision if budget_s <= 0 else Wait(budget_s, "budget")
        waits.append(decision)
    return min(waits, key=lambda wait: wait.seconds, default=None)


def gave_up(ladder: Sequence[Remedy], patient: Patient, case: Case, finding: Finding, now_s: float, limits: Limits) -> bool:
    """Whether every rung that may cure this finding was tried in vain, or the day's budget went into cures that did not last: now
    it is somebody else's, though it goes on slowly."""
    rungs = rungs_for(ladder, finding, patient)
    again = case.round > 0 and bool(case.tried(finding.code))
    used_up = _budget_s(case, now_s, limits) > 0
    return bool(rungs) and (again or used_up or all(_spent(remedy, finding.code, case) for remedy in rungs))


@dataclass(frozen=True)
class Seen:
    """One peripheral, as far as it tells of the booth's power. `pluggable`: somebody may carry it away."""

    status: Status
    codes: frozenset[str]
    pluggable: bool


def held_back(booth: Iterable[Seen]) -> HeldBack | None:
    """Why nothing at all is to be healed now: too little power makes every remedy fail, and break more; and when every
    device is gone at once it is the power strip, or a theft."""
    seen = list(booth)
    if any("under-voltage" in item.codes for item in seen):
        return "under-voltage"
    devices = [item for item in seen if item.pluggable]
    if len(devices) > 1 and all(item.status == "absent" for item in devices):
        return "everything-gone"
    return None


def rungs_for(ladder: Sequence[Remedy], finding: Finding, patient: Patient) -> list[Remedy]:
    """The rungs that may cure a finding, the gentlest first."""
    return [
        remedy
        for remedy in ladder
        if finding.code in remedy.cures and (patient.on_usb or not remedy.needs_usb) and remedy.when(finding)
    ]


def _climb(
    rungs: Sequence[Remedy], finding: Finding, patient: Patient, case: Case, now_s: float, limits: Limits, reboot_s: float | None
) -> Try | Wait:
    left = [remedy for remedy in rungs if not _spent(remedy, finding.code, case)]
    last_s = max((_since(item, now_s) for item in case.attempts[-1:]), default=DAY_S)
    round_ = case.round
    if not left:
        if last_s < limits.retry_s:
            return Wait(limits.retry_s - last_s, "gave-up")
        left, round_ = [remedy for remedy in rungs if not remedy.reboots], case.round + 1
        if not left:
            return Wait(limits.retry_s, "gave-up")
    remedy = left[0]
    patience_s = remedy.patience_s - patient.lasted_s.get(finding.code, 0.0)
    cooldown_s = max(_GAP_S - last_s, _cooldown_s(remedy, case, now_s))
    if remedy.reboots and reboot_s is not None:
        cooldown_s = max(cooldown_s, REBOOT_EVERY_S - max(0.0, now_s - reboot_s))
    if patience_s > 0 or cooldown_s > 0:
        return Wait(max(patience_s, cooldown_s), "patience" if patience_s > cooldown_s else "cooldown")
    attempt = 1 + sum(item.remedy == remedy.name and item.episode == case.episode for item in case.attempts)
    return Try(remedy, finding.code, rungs.index(remedy) + 1, attempt, round_)


def _spent(remedy: Remedy, code: str, case: Case) -> bool:
    if remedy.reboots and case.rebooted:
        return True  # one that did not help is not done again, however long this goes on
    here = (remedy.name, code, case.episode, case.round)
    vain = [
        item for item in case.attempts if (item.remedy, item.code, item.episode, item.round) == here and item.outcome != "cured"
    ]
    return len(vain) >= (remedy.max_attempts if case.round == 0 else 1)


def _cooldown_s(remedy: Remedy, case: Case, now_s: float) -> float:
    """What is left of it."""
    mine = [item for item in case.attempts if item.remedy == remedy.name]
    if not mine:
        return 0.0
    vain = sum(item.outcome != "cured" and _since(item, now_s) < DAY_S for item in mine)
    whole_s = min(_LONGEST_COOLDOWN_S, remedy.cooldown_s * 2.0 ** min(10, max(0, vain - 1)))
    return max(whole_s, remedy.cooldown_s) - _since(mine[-1], now_s)


def _budget_s(case: Case, now_s: float, limits: Limits) -> float:
    """Until another remedy may be had; 0 or less where one may now."""
    today = [_since(item, now_s) for item in case.attempts if _since(item, now_s) < DAY_S]
    return DAY_S - today[-limits.per_day] if len(today) >= limits.per_day else 0.0


def _since(attempt: Attempt, now_s: float) -> float:
    """A clock that went back makes nothing older."""
    return max(0.0, now_s - attempt.at_s)
