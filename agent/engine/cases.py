"""What was tried for each peripheral, across restarts and reboots."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.contract.typed import Invalid, build, plain
from agent.rules.ladder import Attempt, Case, Outcome, Remedy


@dataclass(frozen=True)
class _SavedAttempt:
    remedy: str
    code: str
    at_s: float
    episode: int
    round: int
    outcome: Outcome


@dataclass(frozen=True)
class _SavedCase:
    attempts: list[_SavedAttempt]
    episode: int
    round: int
    rebooted: bool


@dataclass
class Cases:
    """The case of each peripheral by its name, and when the booth was rebooted last by a remedy."""

    rebooted_s: float | None = None
    _cases: dict[str, Case] = field(default_factory=dict)

    def rebooted_before(self, now_s: float) -> float | None:
        """When the booth was rebooted last; a clock that was once ahead forbids no reboot for ever."""
        if self.rebooted_s is not None:
            self.rebooted_s = min(self.rebooted_s, now_s)
        return self.rebooted_s

    def of(self, name: str) -> Case:
        return self._cases.get(name, Case())

    def put(self, name: str, case: Case) -> None:
        self._cases[name] = case

    def saved(self) -> dict[str, Any]:
        """The JSON to save."""
        return {
            "rebooted_s": self.rebooted_s,
            "cases": {name: plain(case) for name, case in self._cases.items() if case.attempts},
        }

    @classmethod
    def load(cls, state: Mapping[str, Any], ladders: Mapping[str, Iterable[Remedy]]) -> "tuple[Cases, list[tuple[str, Attempt]]]":
        """From the store's state; and the attempts that were under way when the agent ended. What does not fit (an older
        version's) is forgotten, and so is what was done for a peripheral that is no longer configured."""
        cases = cls()
        saved: dict[str, _SavedCase] = {}
        healing = state.get("healing", {})
        if isinstance(healing, Mapping):
            with contextlib.suppress(Invalid):
                cases.rebooted_s = build(float | None, healing.get("rebooted_s"))  # type: ignore[arg-type]
            with contextlib.suppress(Invalid):
                saved = build(dict[str, _SavedCase], healing.get("cases", {}), unknown="ignore")
        ended = []
        for name, entry in saved.items():
            if name not in ladders:
                continue
            case = Case(tuple(Attempt(**plain(item)) for item in entry.attempts), entry.episode, entry.round, entry.rebooted)
            last = case.attempts[-1] if case.attempts else None
            if last is not None and last.outcome == "running":
                reboots = any(remedy.name == last.remedy and remedy.reboots for remedy in ladders[name])
                case = case.ended("rebooted" if reboots else "interrupted")
                ended.append((name, case.attempts[-1]))
            cases.put(name, case)
        return cases, ended
