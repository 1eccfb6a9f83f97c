"""What the store's file holds, row by row: events, state, and the checksum that each row carries."""

import json
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agent.contract.decode import encode
from agent.contract.event import EventClass
from agent.contract.words import ClockWord

PAGE_BYTES: Final = 4096
MAX_POSITION: Final = 1 << 62
STREAM: Final = "stream"  # the state row of the stream itself: {"stream": token, "next_seq": n}

# What is dropped first when there is no room: 0, then 1, then 2.
PRIORITY_INFO: Final = 0
PRIORITY_ROUTINE: Final = 1
PRIORITY_ALARM: Final = 2


@dataclass(frozen=True)
class Stamp:
    """The moment of an event, by every clock that a reader may need."""

    ts: str
    mono_ms: int
    clock: ClockWord
    boot_id: str


@dataclass(frozen=True)
class Draft:
    """An event before it has its place in the stream. `data` must be capped already."""

    class_: EventClass
    code: str
    peripheral: str | None
    data: dict[str, Any]
    stamp: Stamp
    priority: int = PRIORITY_ROUTINE


@dataclass
class Batch:
    """What one transaction moves, all of it together."""

    drafts: list[Draft] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    dead: list[tuple[int, str]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.drafts or self.acknowledged or self.dead or self.state)


@dataclass(frozen=True)
class StoredEvent:
    """An event on disk: `position` is its place in the queue, `body` the payload to publish."""

    position: int
    class_: str
    body: bytes


@dataclass(frozen=True)
class Limits:
    """The outbox holds at most so many events and so many bytes of them."""

    events: int = 20_000
    bytes_: int = 16 * 1024 * 1024


@dataclass(frozen=True)
class Opened:
    state: dict[str, Any]
    depth: int
    damaged: bool


def checksum(body: bytes, *others: str | int) -> int:
    """Of a whole row: an intact body in the wrong class would go to the wrong topic."""
    return zlib.crc32(body, zlib.crc32(repr(others).encode()))


def intact_row(row: Sequence[Any]) -> bool:
    """Whether (position, stream, seq, priority, class, body, crc) is what was written."""
    *others, body, crc = row
    return isinstance(body, bytes) and checksum(body, *others) == crc


def put_state(db: sqlite3.Connection, key: str, value: Any) -> None:
    """None forgets it."""
    if value is None:
        db.execute("DELETE FROM state WHERE key = ?", (key,))
        return
    body = encode(value)
    db.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", (key, body, checksum(body, key)))


def read_state(db: sqlite3.Connection) -> tuple[dict[str, Any], bool]:
    """The state rows that are what was written, and whether all of them are."""
    state: dict[str, Any] = {}
    intact = True
    for key, body, crc in db.execute("SELECT key, body, crc FROM state"):
        if isinstance(body, bytes) and checksum(body, key) == crc:
            state[key] = json.loads(body)
        else:
            intact = False
    return state, intact
