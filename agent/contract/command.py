"""Commands: the request on `B/cmd/{verb}/req`, the status on `B/cmd/{verb}/{id}/status`. Contract §8."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from agent.contract.documents import Moment, RefusalCode
from agent.contract.typed import Length, Pattern, Range
from agent.contract.words import BoothId, Name, Timestamp

CommandId = Annotated[str, Pattern("[A-Za-z0-9_-]{1,64}", "1 to 64 of A-Z, a-z, 0-9, '_' and '-'")]
CommandState = Literal[
    "received", "accepted", "waiting", "executing", "succeeded", "failed", "timed-out", "cancelled", "refused", "expired"
]
FINAL: Final = frozenset({"succeeded", "failed", "timed-out", "cancelled", "refused", "expired"})
Reason = Literal[
    "retained", "session-active", "outside-window", "clock-unsynced", "not-signed", "unknown-verb", "bad-args", "busy",
    "rate-limited", "interrupted", "not-supported", RefusalCode,
]  # fmt: skip
Asker = Annotated[str, Pattern("[ -~À-ɏ’]{1,64}", "who asks, at most 64 Latin letters, digits and plain signs")]
PAYLOAD_TYPE: Final = "application/vnd.booth.command+json"
MAX_REQUEST_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Request:
    """Every key is optional: the agent gives an id, and 60 s from arrival. `code`: the one-time code of the booth's ticket, in
    place of a signature."""

    id: CommandId | None = None
    args: dict[str, Any] = field(default_factory=dict)
    wait_s: Annotated[int, Range(0, 86400)] = 0
    issued_at: Moment | None = None
    expires_at: Moment | None = None
    by: Asker | None = None
    code: Annotated[str, Length(32)] | None = None


@dataclass(frozen=True)
class SignedRequest:
    """The payload of an envelope: a request for one verb of one booth. What is signed says all that counts."""

    booth: BoothId
    verb: Name
    id: CommandId
    issued_at: Moment
    expires_at: Moment
    args: dict[str, Any] = field(default_factory=dict)
    wait_s: Annotated[int, Range(0, 86400)] = 0
    by: Asker | None = None


@dataclass(frozen=True)
class Chunk:
    """One piece of a bundle, beside the status: number `n` from 0, of so many. `data` is base64."""

    n: int
    of: int
    data: str


@dataclass(frozen=True)
class CommandStatus:
    id: CommandId
    verb: Name
    state: CommandState
    step: str | None
    pct: int | None
    reason: Reason | None
    result: dict[str, Any] | None
    by: str | None
    at: Timestamp
