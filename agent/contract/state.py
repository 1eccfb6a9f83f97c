"""`B/state` (also the Last Will) and `B/meta`: who the booth is and whether it is there."""

from dataclasses import dataclass
from typing import Any, Literal

from agent.contract.words import ClockWord, Name, ServiceWord, Timestamp


@dataclass(frozen=True)
class State:
    """`session` is a random token of each connection: a `lost` with another session is stale."""

    state: Literal["starting", "online", "asleep", "lost"]
    session: str
    boot_id: str
    agent: str
    since: Timestamp
    clock: ClockWord
    services: dict[Name, ServiceWord]


@dataclass(frozen=True)
class FactDeclaration:
    """One measured fact: its name, its JSON type, and its unit where the name carries one."""

    name: str
    type: Literal["boolean", "integer", "number", "string"]
    unit: str | None
    meaning: str


@dataclass(frozen=True)
class PeripheralMeta:
    kind: Name
    slot: str | None
    vendor: str | None
    product: str | None
    serial: str | None
    firmware: str | None
    facts: list[FactDeclaration]


@dataclass(frozen=True)
class Board:
    model: str | None
    os: str | None
    kernel: str
    architecture: str


@dataclass(frozen=True)
class Hours:
    """Opening hours: `week` maps `mon`…`sun`, `exceptions` maps dates, to spans such as `07:00-12:30`."""

    tz: str
    week: dict[str, list[str]]
    exceptions: dict[str, list[str]]


@dataclass(frozen=True)
class Capabilities:
    """What this booth can be told: command verbs with the JSON Schema of their arguments, policy rules."""

    commands: dict[str, dict[str, Any]]
    policy_rules: list[str]
    light: list[str]  # the words that its light can show


@dataclass(frozen=True)
class Meta:
    agent: str
    contract: int
    board: Board
    hours: Hours
    peripherals: dict[Name, PeripheralMeta]
    capabilities: Capabilities
