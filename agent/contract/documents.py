"""Desired and reported documents: what the operator publishes, and what the booth answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from agent.contract.decode import BadJson, TooLarge, decode_object
from agent.contract.typed import Invalid, Pattern, Problem, Range, build
from agent.contract.words import Timestamp

RefusalCode = Literal[
    "bad-envelope", "bad-signature", "untrusted-key", "not-enough-signatures", "wrong-audience", "rollback", "conflict",
    "expired", "too-large", "bad-json", "invalid", "unsupported", "below-floor",
]  # fmt: skip
LayerName = Literal["fleet", "area", "booth"]
CONFIG_SECTIONS: Final = (
    "reporting", "peripherals", "services", "hours", "checks", "heal", "light", "ticket", "updates", "broker", "appointments",
    "home_assistant",
)  # fmt: skip
UpdatePhase = Literal[
    "idle", "downloading", "verified", "waiting-idle", "installing", "switching", "verifying", "committed", "rolling-back",
    "rolled-back", "failed",
]  # fmt: skip
ReportedStatus = Literal["pending", "applying", "awaiting-confirmation", "applied", "rejected", "reverted", "stale", "drifted"]


class Refusal(Exception):
    """A document was not taken: its code, the path inside it where there is one, and the reason."""

    def __init__(self, code: RefusalCode, path: str, message: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(f"{code}: {message}")
        self.code: RefusalCode = code
        self.path = path
        self.message = message
        self.problems = problems


_DAY: Final = (
    "[1-9][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    "|(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29"  # leap years
)
# What is kept and reckoned with: a 13th month would stop whoever looks when a document gets stale, at each start again.
Moment = Annotated[
    str,
    Pattern(
        rf"(?:{_DAY})T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{{3}}Z",
        "a UTC time with milliseconds that the calendar has, such as 2026-10-06T12:32:00.000Z",
    ),
]


@dataclass(frozen=True)
class Document:
    """The signed payload around a `doc`."""

    schema: Literal[1]
    audience: Annotated[str, Pattern("booth/v1/[a-z0-9_-]+/[a-z0-9_-]+", "the topic before /config/desired")]
    rev: Annotated[int, Range(0, 2**53)]
    epoch: Annotated[int, Range(0, 2**53)]
    issued_at: Moment
    doc: dict[str, Any]
    not_after: Moment | None = None
    confirm_s: Annotated[int, Range(10, 3600)] = 120


SCHEMA: Final = 1


def read_document(payload: bytes) -> Document:
    """Read the payload of an envelope. Raises `Refusal`: `too-large`, `bad-json`, `unsupported` for another schema, or `invalid`
    with every problem."""
    try:
        data = decode_object(payload)
        version = data.get("schema")
        if type(version) is int and version != SCHEMA:
            raise Refusal("unsupported", "schema", f"schema {version} is of another version; {SCHEMA} is read here")
        return build(Document, data)
    except TooLarge as error:
        raise Refusal("too-large", "", str(error)) from error
    except BadJson as error:
        raise Refusal("bad-json", "", str(error)) from error
    except Invalid as error:
        raise invalid(error.problems) from error


def invalid(problems: Sequence[Problem]) -> Refusal:
    """A refusal that carries every problem."""
    return Refusal("invalid", problems[0].path, str(Invalid(problems)), tuple(problems))


@dataclass(frozen=True)
class LayerRevisions:
    seen_rev: int
    applied_rev: int | None


@dataclass(frozen=True)
class DocumentError:
    layer: LayerName
    code: RefusalCode
    path: str
    message: str


@dataclass(frozen=True)
class Reported:
    """`B/config/reported`, and what the other two have in common with it."""

    status: ReportedStatus
    layers: dict[LayerName, LayerRevisions | None]
    effective_sha256: str | None
    sections: dict[str, dict[str, Any]]
    errors: list[DocumentError]
    at: Timestamp


@dataclass(frozen=True)
class RuleReported:
    """What was measured on the machine for one rule of the policy, and when."""

    measured: Literal["compliant", "violated", "not-applicable"]
    at: Timestamp
    detail: str | None


@dataclass(frozen=True)
class PolicyReported(Reported):
    """`B/policy/reported`."""

    rules: dict[str, RuleReported] = field(default_factory=dict)


@dataclass(frozen=True)
class UpdateReported(Reported):
    """`B/update/reported`. `from` and `to` are versions."""

    from_: str | None = field(default=None, metadata={"key": "from"})
    to: str | None = None
    phase: UpdatePhase = "idle"
    attempt: int = 0
    pct: int | None = None
    reason: str | None = None
