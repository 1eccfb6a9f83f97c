"""What booths answer to a document that was published while this watches."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.boothctl.reports import read_reported
from agent.boothctl.rollout_sight import told_of
from agent.boothctl.words import Audience
from agent.contract.documents import LayerName
from agent.contract.messages import Incoming
from agent.contract.topics import Topic
from agent.rules.fleet import Fleet

_RESTS: Final = {"idle": "applied", "committed": "applied", "failed": "reverted", "rolled-back": "reverted"}
_UNDER_WAY: Final = ("pending", "applying", "awaiting-confirmation")


@dataclass(frozen=True)
class Answer:
    """`status`: `applied`, or what else became of the document; `overruled` where a booth is at rest with another version, since
    a more specific layer wants that. `outcome`: of an update, its phase, version and reason."""

    booth: str
    status: str
    errors: Sequence[dict[str, Any]] = ()
    outcome: str = ""


def answer_of(
    booth: str, reported: dict[str, Any], layer: LayerName, rev: int, versions: Mapping[str, str] | None = None
) -> Answer | None:
    """What a report says of revision `rev` of a layer; None where it says nothing final of it. `versions`: of an update document,
    what it wants of each section, which may be at its end while another one is not."""
    status = reported["status"]
    revisions = reported["layers"].get(layer) or {"seen_rev": None, "applied_rev": None}
    errors = [error for error in reported["errors"] if error["layer"] == layer]
    named = {name: version for name, version in (versions or {}).items() if name in reported["sections"]}
    if named and not errors and rev in (revisions["applied_rev"], revisions["seen_rev"]):
        return _end_of_sections(booth, reported, named)
    if status in _UNDER_WAY:
        return None
    if errors:
        return Answer(booth, "reverted" if status == "reverted" else "rejected", errors)
    if "phase" in reported and rev in (revisions["applied_rev"], revisions["seen_rev"]):
        return _end_of_update(booth, reported)
    if revisions["applied_rev"] == rev:
        # Rejected or reverted is then what became of another layer.
        return Answer(booth, "applied" if status in ("rejected", "reverted") else status)
    if revisions["seen_rev"] == rev:
        return Answer(booth, status if status != "applied" else "rejected")
    return None


def _end_of_update(booth: str, reported: dict[str, Any]) -> Answer | None:
    # Rejected is then what became of another layer, and says nothing of how far this one is.
    status, phase = reported["status"], reported["phase"]
    if status == "rejected":
        status = _RESTS.get(phase)
    words = (phase, reported.get("to") or reported.get("from"), reported.get("reason"))
    return None if status is None else Answer(booth, status, outcome=" ".join(str(word) for word in words if word))


def _end_of_sections(booth: str, reported: dict[str, Any], versions: Mapping[str, str]) -> Answer | None:
    """None until each of them is at its end; then the worst."""
    answers: list[Answer] = []
    for name, version in versions.items():
        told = told_of(reported, name)
        said = reported["sections"][name].get("status")
        pending = said in _UNDER_WAY
        if told.gave_up(version) and (not pending or told.phase == "failed"):
            status = "pending" if pending else "reverted"  # pending: it is tried again, and somebody has to mend it before
        elif pending:
            return None
        else:
            status = "applied" if told.has(version) else "drifted" if said == "drifted" else "overruled"
        words = (told.phase, told.version if told.phase == "idle" else told.to or told.version, told.reason)
        answers.append(Answer(booth, status, outcome=" ".join(word for word in words if word)))
    return next((answer for answer in answers if answer.status != "applied"), answers[0])


class Following:
    """Hand it every message of an audience; from `published` on, `next` gives what its booths answer."""

    def __init__(self, kind: str, audience: Audience) -> None:
        self._kind = kind
        self._audience = audience
        self._fleet = Fleet()
        self._rev: int | None = None
        self._versions: Mapping[str, str] = {}
        self._before: dict[str, bytes] = {}
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()
        self.waiting: set[str] = set()

    def topics(self) -> list[str]:
        return [f"{self._audience.booths}/{what}" for what in ("state", f"{self._kind}/reported")]

    @property
    def away(self) -> list[str]:
        """Booths that have a report or a state here, and are not there now."""
        return sorted(booth.booth for booth in self._fleet.booths.values() if booth.word in ("asleep", "lost"))

    def published(self, rev: int, versions: Mapping[str, str] | None = None) -> None:
        """`versions`: of an update, what it wants of each section."""
        self._rev, self._versions = rev, versions or {}
        self.waiting = {booth.booth for booth in self._fleet.booths.values() if booth.word in ("starting", "online")}

    async def next(self) -> Answer:
        return await self._answers.get()

    def take(self, message: Incoming) -> None:
        topic = self._fleet.take(message.topic, message.payload)
        if topic is None or topic.kind != "reported":
            return
        booth = topic.address.booth
        if self._rev is None:
            self._before[booth] = message.payload
        elif booth in self.waiting and message.payload != self._before.get(booth):  # else it only said it again
            self._take_report(topic, message.payload, self._rev)

    def _take_report(self, topic: Topic, payload: bytes, rev: int) -> None:
        reported = read_reported(topic, payload)
        if reported is None:
            return
        answer = answer_of(topic.address.booth, reported, self._audience.layer, rev, self._versions)
        if answer is not None:
            self.waiting.discard(answer.booth)
            self._answers.put_nowait(answer)
