"""Commands that were taken, by their ids: so that a second one with the same id runs nothing, over a restart too."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agent.contract.command import FINAL, CommandStatus
from agent.contract.typed import Invalid, build, plain

_ROW: Final = "command/"
_LIMITS: Final = "command-limits"
_KEPT: Final = 100  # newest; what is beyond was asked in a flood, and its status has expired or soon will
_LONGEST_S: Final = 86_400.0  # statuses expire after a day
_SIGNED_KEPT_S: Final = 30 * 86_400.0  # a clock that is moved ahead and back again must not make old bytes good


@dataclass(frozen=True)
class Record:
    """A command as it stands. `at_s` is when it was taken, by the wall clock. `signed`: by a technician; until `good_until_s` and
    for a good while longer its id is not forgotten, since the same signed bytes would be good again. `boot_id`: of its beginning.
    """

    status: CommandStatus
    args: dict[str, Any]
    at_s: float
    good_until_s: float
    boot_id: str
    signed: bool = False

    @property
    def over(self) -> bool:
        return self.status.state in FINAL

    @property
    def key(self) -> str:
        return key_of(self.status.id, signed=self.signed)


def key_of(id_: str, *, signed: bool) -> str:
    """What nobody signed takes no id away from a technician."""
    return f"{'signed' if signed else 'plain'}/{id_}"


@dataclass
class KeptCommands:
    """`save(key, value)` stores a row, and forgets it where the value is None. `forgotten`: whose status is said no more."""

    save: Callable[[str, Any], None]
    wall_s: Callable[[], float]
    forgotten: Callable[[Record], None]
    _records: dict[str, Record] = field(default_factory=dict)
    _refused: dict[str, Record] = field(default_factory=dict)  # nothing was done for them: a restart may forget that
    _starts: dict[str, list[float]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def get(self, id_: str, *, signed: bool) -> Record | None:
        key = key_of(id_, signed=signed)
        return self._records.get(key) or self._refused.get(key)

    def load(self, state: Mapping[str, Any]) -> None:
        """From the store's state. What does not fit (an older version's) is forgotten."""
        for key, value in state.items():
            if key.startswith(_ROW):
                try:
                    record = build(Record, value, unknown="ignore")
                except Invalid:
                    self.save(key, None)
                    continue
                self._records[record.key] = record
        self._records = dict(sorted(self._records.items(), key=lambda item: item[1].at_s))
        with contextlib.suppress(Invalid):
            self._starts = build(dict[str, list[float]], state.get(_LIMITS, {}))
        self.prune()

    def put(self, record: Record) -> None:
        """As it stands now."""
        self._records[record.key] = record
        self.save(_ROW + record.key, plain(record))
        self.prune()

    def put_refused(self, record: Record) -> None:
        """For as long as the agent runs, or until a hundred more were refused."""
        self._refused[record.key] = record
        while len(self._refused) > _KEPT:
            self.forgotten(self._refused.pop(next(iter(self._refused))))

    def moved(self, record: Record, status: CommandStatus) -> Record:
        """A command reached another state."""
        record = replace(record, status=status)
        self.put(record)
        return record

    def prune(self) -> None:
        """Forget what is old, and of the rest what is too much."""
        now_s = self.wall_s()
        surplus = len(self._records) - _KEPT
        for record in [record for record in self._records.values() if record.over]:
            old = now_s - record.at_s > _LONGEST_S
            if old or surplus > 0:
                self.forgotten(record)
                if self._may_go(record, now_s):
                    surplus -= 1
                    del self._records[record.key]
                    self.save(_ROW + record.key, None)

    def _may_go(self, record: Record, now_s: float) -> bool:
        return not record.signed or now_s - record.good_until_s > _SIGNED_KEPT_S

    # --- how often ---

    def started_within(self, verb: str, within_s: float) -> int:
        return len(self._recent(verb, within_s))

    def count(self, verb: str, within_s: float) -> None:
        """One more is begun."""
        self._starts[verb] = [*self._recent(verb, within_s), self.wall_s()]
        self.save(_LIMITS, self._starts)

    def _recent(self, verb: str, within_s: float) -> list[float]:
        now_s = self.wall_s()
        # A clock that was once ahead must not forbid it for ever: from now on they are of now.
        self._starts[verb] = [min(at_s, now_s) for at_s in self._starts.get(verb, ())]
        return [at_s for at_s in self._starts[verb] if now_s - at_s < within_s]
