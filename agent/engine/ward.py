"""Which peripheral needs which remedy or chore, now; and what was done for each before."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from agent.contract.alarm import Tried
from agent.engine.cases import Cases
from agent.engine.watch import Watch
from agent.peripherals.declaration import Chore
from agent.rules.health import Finding, Now
from agent.rules.ladder import (
    WELL_S,
    Attempt,
    Case,
    HeldBack,
    Limits,
    Outcome,
    Patient,
    Seen,
    Try,
    Wait,
    curable,
    decide,
    gave_up,
    held_back,
    rungs_for,
)

_TRIED_SHOWN: Final = 10
_NOTHING_S: Final = 3600.0


@dataclass(frozen=True)
class Work:
    """Something that is due for a peripheral."""

    watch: Watch
    step: Try | Chore

    @property
    def longest_s(self) -> float:
        """Without the probe that follows."""
        return self.step.deadline_s if isinstance(self.step, Chore) else self.step.remedy.deadline_s + self.step.remedy.settle_s


class Ward:
    """`wall_s` never goes below the clock's floor; `timestamp` writes such a time for a reader. `keep` stores what has to outlive
    a restart. `heals` false: chores are done, and no remedy."""

    def __init__(
        self,
        now: Callable[[], Now],
        wall_s: Callable[[], float],
        timestamp: Callable[[float], str],
        limits: Limits,
        keep: Callable[[dict[str, Any]], None],
        *,
        heals: bool = True,
    ) -> None:
        self._now = now
        self._wall_s = wall_s
        self._timestamp = timestamp
        self._limits = limits
        self._keep = keep
        self._heals = heals
        self._watches: Mapping[str, Watch] = {}
        self._cases = Cases()
        self._lasting_s: dict[tuple[str, str], float] = {}  # since when a finding has stood, by the clock that never jumps
        self._well_since_s: dict[str, float] = {}
        self._chores_failed_s: dict[tuple[str, str], float] = {}
        self.maintained: Callable[[], bool] = lambda: False  # somebody works at the booth: no remedy then

    def remember(self, state: Mapping[str, Any], watches: Mapping[str, Watch]) -> list[tuple[str, Attempt]]:
        """Take over the watches, and what was done before the restart. Returns what was begun then and never ended."""
        self._watches = dict(watches)
        self._cases, ended = Cases.load(state, {name: watch.peripheral.ladder for name, watch in watches.items()})
        if ended:
            self._keep(self._cases.saved())
        return ended

    def adopt(self, limits: Limits, *, heals: bool) -> None:
        """Go by these from now on; what is under way goes on."""
        self._limits, self._heals = limits, heals

    # --- what is due ---

    def steps(self, name: str, remedy: str | None) -> list[Try]:
        """What a command may do for a peripheral now: one rung of its ladder, or all that may cure what is wrong with it, the
        gentlest first. What reboots the booth has a command of its own."""
        watch = self._watches[name]
        ladder, patient = watch.peripheral.ladder, _patient(watch)
        standing = curable(ladder, patient)
        if remedy is None:
            rungs = rungs_for(ladder, standing[0], patient) if standing else []
        else:
            rungs = [rung for rung in ladder if rung.name == remedy]
        case = self._cases.of(name)
        return [
            Try(
                rung,
                next((finding.code for finding in standing if finding.code in rung.cures), min(rung.cures)),
                ladder.index(rung) + 1,
                1 + sum(item.remedy == rung.name and item.episode == case.episode for item in case.attempts),
                case.round,
            )
            for rung in rungs
            if not rung.reboots
        ]

    def held_back(self) -> HeldBack | None:
        """Why nothing is to be healed now, whoever asks."""
        return held_back(_seen(watch) for watch in self._watches.values())

    def due(self) -> tuple[list[Work], float]:
        """What may be done now, chores first, and the seconds until something else may be."""
        chores: list[Work] = []
        remedies: list[Work] = []
        wait_s = _NOTHING_S
        held_back = self.held_back() is not None
        for watch in self._watches.values():
            decision = self._decision(watch, held_back=held_back)
            for item in (*self._chores(watch), *((decision,) if decision else ())):
                if isinstance(item, Wait):
                    wait_s = min(wait_s, item.seconds)
                else:
                    (chores if isinstance(item, Chore) else remedies).append(Work(watch, item))
        return chores + remedies, max(0.05, wait_s)

    def still_due(self, work: Work) -> bool:
        """Whether it is after all, now that the device is held: a probe that was under way may have ended well."""
        if isinstance(work.step, Chore):
            return work.step in list(self._chores(work.watch))
        return self._decision(work.watch, held_back=self.held_back() is not None) == work.step

    def _chores(self, watch: Watch) -> Iterator[Chore | Wait]:
        for chore in watch.peripheral.chores:
            if chore.name in watch.reading.chores:
                failed_s = self._chores_failed_s.get((watch.name, chore.name))
                left_s = 0.0 if failed_s is None else failed_s + chore.again_s - self._now().mono_s
                yield Wait(left_s, "cooldown") if left_s > 0 else chore

    def _decision(self, watch: Watch, *, held_back: bool) -> Try | Wait | None:
        if not self._heals or self.maintained() or not watch.judged_once.is_set():
            return None
        mono_s, now_s = self._now().mono_s, self._wall_s()
        patient = _patient(watch)
        lasted_s = self._lasted_s(watch.name, curable(watch.peripheral.ladder, patient), mono_s)
        if not lasted_s:
            return self._convalesce(watch, mono_s)
        self._well_since_s.pop(watch.name, None)
        if held_back or watch.left_alone:
            return None  # that it ends is a judgement, too
        case = self._cases.of(watch.name).not_later_than(now_s)
        for code, seconds in lasted_s.items():
            case = case.relapsed(code, now_s - seconds)
        self._cases.put(watch.name, case)
        patient = Patient(patient.findings, lasted_s, patient.on_usb)
        return decide(watch.peripheral.ladder, patient, case, now_s, self._limits, self._cases.rebooted_before(now_s))

    def _lasted_s(self, name: str, standing: list[Finding], mono_s: float) -> dict[str, float]:
        codes = {finding.code for finding in standing}
        self._lasting_s = {key: since_s for key, since_s in self._lasting_s.items() if key[0] != name or key[1] in codes}
        return {code: mono_s - self._lasting_s.setdefault((name, code), mono_s) for code in codes}

    def _convalesce(self, watch: Watch, mono_s: float) -> Wait | None:
        """Nothing is to be cured. Once that has lasted, the episode is over."""
        case = self._cases.of(watch.name)
        if not case.open or watch.judgement.status not in ("ok", "degraded"):
            self._well_since_s.pop(watch.name, None)
            return None
        well_s = mono_s - self._well_since_s.setdefault(watch.name, mono_s)
        if well_s < WELL_S:
            return Wait(WELL_S - well_s, "patience")
        del self._well_since_s[watch.name]
        self._put(watch.name, case.closed())
        return None

    # --- what is done ---

    def begun(self, name: str, step: Try) -> None:
        """An attempt begins: it counts from now on."""
        if step.remedy.reboots:
            self._cases.rebooted_s = self._wall_s()
        self._put(name, self._cases.of(name).begun(step.remedy, step.code, step.round, self._wall_s()))

    def ended(self, name: str, step: Try, outcome: Outcome) -> None:
        """It came to this. A reboot that was not even begun may be had later."""
        case = self._cases.of(name).ended(outcome)
        if step.remedy.reboots and outcome == "refused":
            self._cases.rebooted_s = None
            case = replace(case, rebooted=False)
        self._put(name, case)

    def tidied(self, name: str, chore: Chore, *, done: bool) -> None:
        self._chores_failed_s.pop((name, chore.name), None)
        if not done:
            self._chores_failed_s[name, chore.name] = self._now().mono_s

    def worse(self, watch: Watch, before: frozenset[str], seen: frozenset[str]) -> bool:
        """Whether a look shows something to be cured that was not there before."""
        cures = frozenset[str]().union(*(remedy.cures for remedy in watch.peripheral.ladder))
        return bool((seen & cures) - before)

    def _put(self, name: str, case: Case) -> None:
        self._cases.put(name, case)
        self._keep(self._cases.saved())

    # --- what readers are told ---

    def tried(self, name: str, code: str) -> list[Tried]:
        """What was tried about a finding since it began to be healed."""
        attempts = self._cases.of(name).tried(code)[-_TRIED_SHOWN:]
        return [Tried(item.remedy, self._timestamp(item.at_s), item.outcome) for item in attempts]

    def saved(self) -> dict[str, Any]:
        """All that was tried for each peripheral, in the form that is stored."""
        return self._cases.saved()

    def escalated(self, name: str, finding: Finding) -> bool:
        """Whether all that the booth can do itself about a finding was done, in vain."""
        watch = self._watches[name]
        return gave_up(watch.peripheral.ladder, _patient(watch), self._cases.of(name), finding, self._wall_s(), self._limits)


def _patient(watch: Watch) -> Patient:
    judgement = watch.judgement
    # What the last reading did not show is only not given up yet.
    standing = [finding for finding in judgement.findings if finding.code not in judgement.missing_since]
    return Patient(() if judgement.status == "unknown" else standing, {}, watch.port is not None)


def _seen(watch: Watch) -> Seen:
    codes = frozenset(finding.code for finding in watch.judgement.findings)
    return Seen(watch.judgement.status, codes, watch.peripheral.pluggable)
