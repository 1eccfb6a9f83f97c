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


@dataclass(frozen=True)
class Record:
    """A command as it stands. `at_s` is when it was taken, by the wall clock; until `good_until_s` its id must not be forgotten,
    since the same signed bytes would be good again. `boot_id` is where it was begun."""

    status: CommandStatus
    args: dict[str, Any]
    at_s: float
    good_until_s: float
    boot_id: str

    @property
    def over(self) -> bool:
        return self.status.state in FINAL


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

    def get(self, id_: str) -> Record | None:
        return self._records.get(id_) or self._refused.get(id_)

    def load(self, state: Mapping[str, Any]) -> None:
        """From the store's state. What does not fit (an older version's) is forgotten."""
        for key, value in state.items():
            if key.startswith(_ROW):
                try:
                    record = build(Record, value, unknown="ignore")
                except Invalid:
                    self.save(key, None)
                    continue
                self._records[record.status.id] = record
        self._records = dict(sorted(self._records.items(), key=lambda item: item[1].at_s))
        with contextlib.suppress(Invalid):
            self._starts = build(dict[str, list[float]], state.get(_LIMITS, {}))
        self._prune()

    def put(self, record: Record) -> None:
        """As it stands now."""
        self._records[record.status.id] = record
        self.save(_ROW + record.status.id, plain(record))
        self._prune()

    def put_refused(self, record: Record) -> None:
        self._refused[record.status.id] = record
        while len(self._refused) > _KEPT:
            self.forgotten(self._refused.pop(next(iter(self._refused))))

    def moved(self, id_: str, status: CommandStatus) -> Record:
        """A command reached another state."""
        record = replace(self._records[id_], status=status)
        self.put(record)
        return record

    # --- how often ---

    def started_within(self, verb: str, within_s: float) -> int:
        now_s = self.wall_s()
        return sum(now_s - min(at_s, now_s) < within_s for at_s in self._starts.get(verb, ()))

    def count(self, verb: str, within_s: float) -> None:
        """One more is begun."""
        now_s = self.wall_s()
        recent = [at_s for at_s in self._starts.get(verb, ()) if now_s - min(at_s, now_s) < within_s]
        self._starts[verb] = [*recent, now_s]
        self.save(_LIMITS, self._starts)

    def _prune(self) -> None:
        now_s = self.wall_s()
        ended = [record for record in self._records.values() if record.over and record.good_until_s < now_s]
        surplus = len(self._records) - _KEPT
        for index, record in enumerate(ended):
            if index < surplus or now_s - record.at_s > _LONGEST_S:
                del self._records[record.status.id]
                self.save(_ROW + record.status.id, None)
                self.forgotten(record)
