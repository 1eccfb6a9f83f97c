"""What the daemon's part of updates is handed, and how a download is laid over root's report."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agent.contract.documents import UpdatePhase, UpdateReported
from agent.peripherals.surroundings import Session
from agent.rules.update_window import is_operators
from agent.updates.words import Task


class Root(Protocol):
    """Root's part. `ask` raises OSError where there is no answer; what root says before its last word is `heard`."""

    @property
    def installed(self) -> bool: ...
    async def ask(
        self, request: Mapping[str, Any], message: bytes = b"", heard: Callable[[dict[str, Any]], None] = ...
    ) -> dict[str, Any]: ...


class Downloads(Protocol):
    """Where what was fetched lies, by its hash. `fetch` raises an OSError with a `reason`."""

    def got(self, sha256: str) -> bool: ...
    def forget(self, keep: Collection[str]) -> None: ...
    async def fetch(self, url: str, size_bytes: int, sha256: str, progress: Callable[[int], None]) -> None: ...


@dataclass(frozen=True)
class Coming:
    """How far a download is. Without `pct`, it has failed, and is tried again."""

    attempt: int
    pct: int | None
    reason: str | None


@dataclass(frozen=True)
class Self:
    """What the running version knows of itself. `probed`: every peripheral was looked at once. `readable`: its store is.
    `online`: a word came back from the broker on this connection. `end`: end this process, to be started anew."""

    booth: str
    version: str
    boot_id: str
    probed: Callable[[], bool]
    readable: Callable[[], bool]
    online: Callable[[], bool]
    end: Callable[[], None]


@dataclass(frozen=True)
class Quiet:
    """What tells a quiet moment. `mono_s` begins with the machine. `spread_s`: over so long a fleet's booths fetch the same."""

    session: Session
    open_now: Callable[[], bool]
    mono_s: Callable[[], float]
    spread_s: Callable[[], float]


def with_download(reported: UpdateReported, task: Task, coming: Coming) -> UpdateReported:
    """With how far a download is. One that waits stands above the sections only where nothing else is under way."""
    before = reported.sections.get(task.kind, {})
    shown = (before.get("from"), before.get("to"), before.get("phase")) == (reported.from_, reported.to, reported.phase)
    # What only the operator can mend has failed, for now: it is tried again, in case it is.
    phase: UpdatePhase = "failed" if coming.reason is not None and is_operators(coming.reason) else "downloading"
    section = before | {"status": "pending", "to": task.version, "phase": phase, "reason": coming.reason}
    reported = replace(
        reported, status="pending" if reported.status == "applied" else reported.status,
        sections={**reported.sections, task.kind: section},
    )  # fmt: skip
    if coming.pct is None and not shown:
        return reported
    return replace(
        reported, from_=section.get("version"), to=task.version, phase=phase,
        attempt=coming.attempt, pct=coming.pct, reason=coming.reason,
    )  # fmt: skip
