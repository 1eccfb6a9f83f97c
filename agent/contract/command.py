"""Commands: the request on `B/cmd/{verb}/req`, the status on `B/cmd/{verb}/{id}/status`."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from agent.contract.typed import Pattern, Range
from agent.contract.words import Name, Timestamp

CommandId = Annotated[str, Pattern("[A-Za-z0-9_-]{1,64}", "1 to 64 of A-Z, a-z, 0-9, '_' and '-'")]
CommandState = Literal[
    "received", "accepted", "waiting", "executing", "succeeded", "failed", "timed-out", "cancelled", "refused", "expired"
]
Reason = Literal[
    "retained", "session-active", "outside-window", "clock-unsynced", "not-signed", "unknown-verb", "bad-args", "busy",
    "rate-limited", "interrupted", "not-supported",
]  # fmt: skip


@dataclass(frozen=True)
class Request:
    """Every key is optional: the agent gives an id, and 60 s from arrival."""

    id: CommandId | None = None
    args: dict[str, Any] = field(default_factory=dict)
    wait_s: Annotated[int, Range(0, 86400)] = 0
    issued_at: Timestamp | None = None
    expires_at: Timestamp | None = None
    by: Annotated[str, Pattern("[ -~]{1,64}", "who asks, at most 64 plain characters")] | None = None


@dataclass(frozen=True)
class CommandStatus:
    id: CommandId
    verb: Name
    state: CommandState
    step: str | None
    pct: int | None
    reason: str | None
    result: dict[str, Any] | None
    by: str | None
    at: Timestamp
