"""What decides about documents on this booth: `trust.json`, its own name, and how far a document's time is believed."""

import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent import RELEASED_AT
from agent.contract.documents import Refusal
from agent.contract.typed import build
from agent.contract.words import Area, BoothId
from agent.documents.trust import Trust, read_trust

_AHEAD_S: Final = 86_400.0
_YEARS_S: Final = 5 * 365.25 * 86_400


def trust_in(directory: Path) -> Trust | None:
    """The trust list beside `agent.toml`; None where there is none. Raises `Refusal` where it is damaged: nothing is trusted."""
    try:
        return read_trust((directory / "trust.json").read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refusal("untrusted-key", "", f"trust.json cannot be read: {error.strerror}") from error
    except Refusal as refusal:
        raise Refusal("untrusted-key", "", f"this booth's trust.json is no trust list: {refusal}") from refusal


def trust_to_replace(directory: Path) -> Trust:
    """The same; raises `Refusal` where there is none as well."""
    trust = trust_in(directory)
    if trust is None:
        raise Refusal("untrusted-key", "", "this booth has no trust.json: the first one is put there by hand")
    return trust


def booth_in(config: Path) -> tuple[str, str]:
    """Area and id of this booth in `agent.toml`. Raises OSError, and ValueError where they are not there."""
    with open(config, "rb") as stream:
        booth = tomllib.load(stream).get("booth")
    if not isinstance(booth, dict):
        raise ValueError("there is no table [booth]")  # noqa: TRY004 - of what is written there, not of the program
    return build(Area, booth.get("area")), build(BoothId, booth.get("id"))


def believable(issued_at: str) -> str:
    """A document's time as far as a clock's floor may follow it: a day ahead of this machine's own clock, which no document has
    moved, or some years after the release where that clock is certainly wrong. A leaked key must not move the booth into
    another century, nor from day to day into it."""
    wall_s = time.time()
    latest_s = wall_s + _AHEAD_S if wall_s >= RELEASED_AT else RELEASED_AT + _YEARS_S
    latest = datetime.fromtimestamp(latest_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return min(issued_at, latest)
