"""The contract's words: names, times, and the fixed vocabularies that payloads share."""

import math
import re
from typing import Annotated, Any, Final, Literal

from agent.contract.typed import Length, Pattern

Area = Annotated[str, Pattern("[a-z0-9-]{1,32}", "a short name of a-z, 0-9 and '-', at most 32 long, such as \"61\"")]
BoothId = Annotated[str, Pattern("[a-z0-9-]{3,40}", "a name of a-z, 0-9 and '-', 3 to 40 long, such as \"61-0007\"")]
Name = Annotated[str, Pattern("[a-z0-9]+(-[a-z0-9]+)*", "a kebab-case name, such as receipt-printer"), Length(64)]
Code = Name
Timestamp = Annotated[
    str,
    Pattern(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z",
        "a UTC time with milliseconds, such as 2026-10-06T12:32:00.000Z",
    ),
]

Status = Literal["ok", "degraded", "fault", "absent", "unknown"]
Severity = Literal["info", "warning", "fault"]
FixBy = Literal["auto", "shopkeeper", "remote", "technician", "third-party", "nobody"]
ServiceWord = Literal["ok", "degraded", "down", "maintenance", "unknown"]
LightWord = Literal["starting", "locate", "working", "your-turn", "no-internet", "broken", "ok"]
ClockWord = Literal["synced", "unsynced"]

SERVICES: Final = ("web", "forms", "print", "scan", "visio")
RESERVED_PERIPHERAL: Final = "booth"  # the agent's own state

TEXT_LIMIT: Final = 128  # characters of a string that a device told us


def printable(text: str, limit: int = TEXT_LIMIT) -> str:
    """A string from outside as it may be published: control and surrogate characters escaped, capped.

    USB descriptors, sysfs and network answers are not to be trusted: a printer whose product name
    holds an escape sequence must not clear a technician's terminal.
    """
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text.strip())
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"


def capped(value: Any, limit: int = TEXT_LIMIT) -> Any:
    """`printable` for every text in plain JSON data."""
    if isinstance(value, str):
        return printable(value, limit)
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no word for it
    if isinstance(value, dict):
        return {printable(str(key), 64): capped(item, limit) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [capped(item, limit) for item in value]
    return value


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None
