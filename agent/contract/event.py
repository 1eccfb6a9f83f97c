"""`B/event/{class}` and `B/tele/{group}`: what happened, and numbers over time."""

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from agent.contract.decode import encode
from agent.contract.words import ClockWord, Code, Name, Timestamp, capped

EventClass = Literal["health", "heal", "config", "policy", "command", "update", "security", "lifecycle"]

DATA_LIMIT_BYTES: Final = 16 * 1024


@dataclass(frozen=True)
class Event:
    """`id` is `<stream>-<seq>`: a reader who keeps it sees each event exactly once."""

    id: str
    stream: str
    seq: int
    ts: Timestamp
    mono_ms: int
    boot_id: str
    clock: ClockWord
    class_: EventClass = field(metadata={"key": "class"})
    code: Code
    peripheral: Name | None
    data: dict[str, Any]


def capped_data(data: dict[str, Any]) -> dict[str, Any]:
    """`data` as it may enter the queue: harmless texts, and a bounded size whoever made it."""
    safe: dict[str, Any] = capped(data)
    size = len(encode(safe))
    return safe if size <= DATA_LIMIT_BYTES else {"dropped": "too large", "size_bytes": size}


Telemetry = dict[str, float | int | None]
