"""What booths answer to a document that was published while this watches."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.boothctl.reports import read_reported
from agent.boothctl.words import Audience
from agent.contract.documents import LayerName
from agent.contract.messages import Incoming
from agent.contract.topics import Topic
from agent.rules.fleet import Fleet

_UNDER_WAY: Final = ("pending", "applying", "awaiting-confirmation")


@dataclass(frozen=True)
class Answer:
    """`status`: `applied`, or what else became of the document."""

    booth: str
    status: str
    errors: Sequence[dict[str, Any]] = ()


def answer_of(booth: str, reported: dict[str, Any], layer: LayerName, rev: int) -> Answer | None:
    """What a report says of revision `rev` of a layer; None where it says nothing final of it."""
    status = reported["status"]
    if status in _UNDER_WAY:
        return None
    revisions = reported["layers"].get(layer) or {"seen_rev": None, "applied_rev": None}
    errors = [error for error in reported["errors"] if error["layer"] == layer]
    if errors:
        return Answer(booth, "reverted" if status == "reverted" else "rejected", errors)
    if revisions["applied_rev"] == rev:
        # Rejected or reverted is then what became of another layer.
        return Answer(booth, "applied" if status in ("rejected", "reverted") else status)
    if revisions["seen_rev"] == rev:
        return Answer(booth, status if status != "applied" else "rejected")
    return None


class Following:
    """Hand it every message of an audience; from `published` on, `next` gives what its booths answer."""

    def __init__(self, kind: str, audience: Audience) -> None:
        self._kind = kind
        self._audience = audience
        self._fleet = Fleet()
        self._rev: int | None = None
        self._before: dict[str, bytes] = {}
        self._answers: asyncio.Queue[Answer] = asyncio.Queue()
        self.waiting: set[str] = set()

    def topics(self) -> list[str]:
        return [f"{self._audience.booths}/{what}" for what in ("state", f"{self._kind}/reported")]

    @property
    def away(self) -> list[str]:
        """Booths that have a report or a state here, and are not there now."""
        return sorted(booth.booth for booth in self._fleet.booths.values() if booth.word in ("asleep", "lost"))

    def published(self, rev: int) -> None:
        self._rev = rev
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
        answer = answer_of(topic.address.booth, reported, self._audience.layer, rev)
        if answer is not None:
            self.waiting.discard(answer.booth)
            self._answers.put_nowait(answer)
