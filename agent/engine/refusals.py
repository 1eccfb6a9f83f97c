"""Events of documents that were refused: anybody who may publish can cause them, and each is a write to the card."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from agent.contract.event import EventClass

_EVENTS: Final = 10
_WITHIN_S: Final = 60.0


class Refusals:
    """Of many in a minute the first ones are recorded, and then how many more there were."""

    def __init__(self, record: Callable[[EventClass, str, dict[str, Any]], None]) -> None:
        self._record = record
        self._since_s = 0.0
        self._count = 0

    def record(self, kind: str, code: str, data: dict[str, Any]) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._since_s >= _WITHIN_S:
            if self._count > _EVENTS:
                self._record("security", "refusals", {"dropped": self._count - _EVENTS})
            self._since_s, self._count = now_s, 0
        self._count += 1
        if self._count <= _EVENTS:
            self._record(class_of(kind), code, data)


def class_of(kind: str) -> EventClass:
    """The class of events about a kind of document."""
    return "security" if kind == "trust" else cast("EventClass", kind)
