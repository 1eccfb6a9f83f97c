"""Which peripheral needs which remedy or chore, now; and what was done for each before."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
    Limits,
    Patient,
    Seen,
    Try,
    Wait,
    curable,
    decide,
    gave_up,
    held_back,
)

_TRIED_SHOWN: Final = 10
_NOTHING_S: Final = 3600.0


@dataclass(frozen=True)
class Work:
    """Something that is due for a peripheral."""

    watch: Watch
    step: Try | Chore

    @property
    def disturbs(self) -> bool:
        return isinstance(self.step, Chore) or self.step.remedy.disturbs

    @property
    def longest_s(self) -> float:
        """Without the probe that follows."""
        return self.step.deadline_s if isinstance(self.step, Chore) else self.step.remedy.deadline_s + self.step.remedy.settle_s


class Ward:
    """`wall_s` never goes below the clock's floor; `timestamp` writes such a time for a reader. `keep` stores what has to outlive
    a restart."""

    def __init__(
        self,
        now: Callable[[], Now],
        wall_s: Callable[[], float],
        timestamp: Callable[[float], str],
        limits: Limits,
        keep: Callable[[dict[str, Any]], None],
    ) -> None:
        self._now = now
        self._wall_s = wall_s
        self._timestamp = timestamp
        self._limits = limits
        self._keep = keep
        self._watches: Mapping[str, Watch] = {}
        self._cases = Cases()
        self._lasting_s: dict[tuple[str, str], float] = {}  # since when a finding has stood, by the clock that never jumps
        self._well_since_s: dict[str, float] = {}
        self._chores_done_s: dict[tuple[str, str], float] = {}

    def remember(self, state: Mapping[str, Any], watches: Mapping[str, Watch]) -> list[tuple[str, Attempt]]:
        """Take over the watches, and what was done before the restart. Returns what was begun then and never ended."""
        self._watches = dict(watches)
        self._cases, ended = Cases.load(state, {name: watch.peripheral.ladder for name, watch in watches.items()})
        if ended:
            self._keep(self._cases.saved())
        return ended

    # --- what is due ---

    def due(self) -> tuple[list[Work], float]:
        """What may be done now, and the seconds until something else may be."""
        mono_s = self._now().mono_s
        hopeless = held_back(_seen(watch) for watch in self._watches.values()) is not None
        work: list[Work] = []
        wait_s = _NOTHING_S
        for watch in self._watches.values():
            if not watch.judged_once.is_set():
                continue
            decision = self._decision(watch, mono_s, hopeless=hopeless)
            for item in (*self._chores(watch, mono_s), *((decision,) if decision else ())):
                if isinstance(item, Wait):
                    wait_s = min(wait_s, item.seconds)
                else:
                    work.append(Work(watch, item))
        return work, max(0.05, wait_s)

    def _chores(self, watch: Watch, mono_s: float) -> Iterator[Chore | Wait]:
        for chore in watch.peripheral.chores:
            if chore.due(watch.peripheral.all_facts(watch.reading)):
                done_s = self._chores_done_s.get((watch.name, chore.name))
                left_s = 0.0 if done_s is None else done_s + chore.cooldown_s - mono_s
                yield Wait(left_s, "cooldown") if left_s > 0 else chore

    def _decision(self, watch: Watch, mono_s: float, *, hopeless: bool) -> Try | Wait | None:
        patient = _patient(watch)
        lasted_s = self._lasted_s(watch.name, curable(watch.peripheral.ladder, patient), mono_s)
        if not lasted_s:
            return self._convalesce(watch, mono_s)
        self._well_since_s.pop(watch.name, None)
        if hopeless:
            return None  # that it ends is a judgement, too
        now_s, case = self._wall_s(), self._cases.of(watch.name)
        for code, seconds in lasted_s.items():
            case = case.relapsed(code, now_s - seconds)
        self._cases.put(watch.name, case)
        patient = Patient(patient.findings, lasted_s, patient.on_usb)
        return decide(watch.peripheral.ladder, patient, case, now_s, self._limits, self._cases.rebooted_s)

    def _lasted_s(self, name: str, standing: list[Finding], mono_s: float) -> dict[str, float]:
        codes = {finding.code for finding in standing}
        self._lasting_s = {key: since_s for key, since_s in self._lasting_s.items() if key[0] != name or key[1] in codes}
        return {code: mono_s - self._lasting_s.setdefault((name, code), mono_s) for code in codes}

    def _convalesce(self, watch: Watch, mono_s: float) -> Wait | None:
        """Nothing is to be cured. Once that has lasted, the episode is over."""
        case = self._cases.of(watch.name)
        if not case.open or watch.judgement.status == "unknown":
            return None
        well_s = mono_s - self._well_since_s.setdefault(watch.name, mono_s)
        if well_s < WELL_S:
            return Wait(WELL_S - well_s, "patience")
        del self._well_since_s[watch.name]
        self.put(watch.name, case.closed())
        return None

    # --- what is done ---

    def begun(self, name: str, step: Try) -> Case:
        """An attempt begins: it counts from now on."""
        if step.remedy.reboots:
            self._cases.rebooted_s = self._wall_s()
        case = self._cases.of(name).begun(step.remedy, step.code, step.round, self._wall_s())
        self.put(name, case)
        return case

    def put(self, name: str, case: Case) -> None:
        self._cases.put(name, case)
        self._keep(self._cases.saved())

    def tidied(self, name: str, chore: Chore) -> None:
        self._chores_done_s[name, chore.name] = self._now().mono_s

    # --- what readers are told ---

    def tried(self, name: str, code: str) -> list[Tried]:
        """What was tried about a finding since it began to be healed."""
        attempts = self._cases.of(name).tried(code)[-_TRIED_SHOWN:]
        return [Tried(item.remedy, self._timestamp(item.at_s), item.outcome) for item in attempts]

    def escalated(self, name: str, finding: Finding) -> bool:
        """Whether all that the booth can do itself about a finding was done, in vain."""
        watch = self._watches[name]
        return gave_up(watch.peripheral.ladder, _patient(watch), self._cases.of(name), finding)


def _patient(watch: Watch) -> Patient:
    return Patient(() if watch.judgement.status == "unknown" else watch.judgement.findings, {}, watch.port is not None)


def _seen(watch: Watch) -> Seen:
    codes = frozenset(finding.code for finding in watch.judgement.findings)
    return Seen(watch.judgement.status, codes, watch.peripheral.pluggable)
