"""What is said of updates: root's report with the downloads laid over it, and one event for each thing that is new."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from agent.contract.decode import encode
from agent.contract.documents import DocumentError, LayerName, UpdateReported
from agent.contract.event import EventClass
from agent.contract.typed import plain
from agent.engine.publish import Publisher
from agent.engine.update_parts import Coming, with_download
from agent.updates.words import Task

# What is told once, when root's report says it newly.
_TOLD: Final = {
    "waiting-idle": "staged", "verifying": "switched", "committed": "committed", "rolled-back": "rolled-back", "failed": "failed",
}  # fmt: skip


class UpdateReporter:
    """`reported`: root's last word, None before the first. `failed`: what did not become what the operator wants; `changed` is
    called when that is another."""

    def __init__(
        self,
        publisher: Publisher,
        topic: str,
        wall: Callable[[], str],
        record: Callable[[EventClass, str, dict[str, Any]], None],
        save: Callable[[dict[str, Any]], None],
        changed: Callable[[], None],
    ) -> None:
        """`topic`: where it is reported. `save`: keep what was told, across restarts."""
        self._publisher = publisher
        self._topic = topic
        self._wall = wall
        self._record = record
        self._save = save
        self._changed = changed
        self._to_fetch: list[Task] = []
        self._coming: dict[str, Coming] = {}
        self._told: dict[str, list[str | None]] = {}
        self.reported: UpdateReported | None = None
        self.failed: str | None = None

    def remember(self, state: Mapping[str, Any]) -> None:
        """What was told before the last restart."""
        kept = state.get("update")
        told = kept.items() if isinstance(kept, dict) else ()
        self._told = {str(kind): words for kind, words in told if isinstance(words, list)}

    def answered(self, reported: UpdateReported, tasks: Collection[Task]) -> None:
        """Root's last word to a question."""
        self.reported = reported
        self._to_fetch = [task for task in tasks if task.todo == "fetch"]
        wanted = {task.sha256 for task in self._to_fetch}
        self._coming = {sha256: coming for sha256, coming in self._coming.items() if sha256 in wanted}
        self.tell()
        self.say()

    def at_a_step(self, reported: UpdateReported) -> None:
        """Root says at which step it is; its last word follows."""
        self.reported = reported
        self.say()

    def comes(self, task: Task, attempt: int, *, pct: int | None = None, reason: str | None = None) -> None:
        """A download is so far, or has failed and is tried again."""
        self._coming[task.sha256] = Coming(attempt, pct, reason)
        self.say()

    def came(self, task: Task) -> None:
        """It is there whole: root says the rest."""
        self._coming.pop(task.sha256, None)

    def complains_of(self, layer: LayerName) -> bool:
        """Whether root found something wrong with that layer, or has said nothing yet."""
        return self.reported is None or any(error.layer == layer for error in self.reported.errors)

    def section(self, kind: str) -> Mapping[str, Any]:
        """What root says of one kind of update."""
        found = {} if self.reported is None else self.reported.sections.get(kind)
        return found if isinstance(found, dict) else {}

    def tell(self) -> None:
        """An event for what is new, once."""
        reported = self._with_downloads()
        sections = {} if reported is None else reported.sections
        told = dict(self._told)
        for kind, section in sections.items():
            phase = section.get("phase", "")
            mark = [phase, section.get("to"), None if phase == "verifying" else section.get("reason")]
            if (code := _TOLD.get(phase)) is not None and told.get(kind) != mark:
                told[kind] = mark
                self._record("update", code, {"kind": kind} | {key: section.get(key) for key in ("from", "to", "reason")})
        if told != self._told:
            self._told = told
            self._save(told)
        failed = [
            f"{kind} {section.get('to')}: {section.get('reason') or section['phase']}"
            for kind, section in sections.items()
            if section.get("phase") in ("failed", "rolled-back")
        ]
        if (failed[0] if failed else None) != self.failed:
            self.failed = failed[0] if failed else None
            self._changed()

    def say(self) -> None:
        """Publish it, as retained; nothing before root's first word."""
        if (reported := self._with_downloads()) is not None:
            self._retain(reported)

    def say_pending(self, layer: LayerName, why: str) -> None:
        """A document is there, and root has not judged it."""
        before = self.reported or UpdateReported("pending", dict.fromkeys(("fleet", "area", "booth")), None, {}, [], self._wall())
        error = DocumentError(layer, "unsupported", "", why)
        self._retain(replace(before, status="pending", errors=[*before.errors, error]))

    def _retain(self, reported: UpdateReported) -> None:
        self._publisher.retain("reported-update", self._topic, encode(plain(replace(reported, at=self._wall()))))

    def _with_downloads(self) -> UpdateReported | None:
        """Of which root knows nothing."""
        reported = self.reported
        for task in self._to_fetch if reported is not None else ():
            if reported is not None and (coming := self._coming.get(task.sha256)) is not None:
                reported = with_download(reported, task, coming)
        return reported
