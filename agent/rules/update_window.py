"""When an update that is ready may be applied, when a booth of a fleet fetches it, and when it tries again. Contract §7. Pure."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from agent.contract.update import Window

IDLE_S: Final = 1800.0  # so long nobody has used the booth
_FIRST_RETRY_S: Final = 60.0
_LAST_RETRY_S: Final = 3600.0
_RETRY_UNMENDED_S: Final = 6 * 3600.0

# What is wrong with what was signed, or with the file at the server: it does not pass by itself.
_OPERATORS: Final = frozenset(
    {
        "bad-url", "bad-redirect", "wrong-size", "wrong-hash", "too-large", "cut-off",
        "bad-archive", "wrong-architecture", "wrong-python", "wrong-version", "base-too-old", "selftest-failed",
    }
)  # fmt: skip
# Of 400 to 499; but 408 (request timeout), 425 (too early) and 429 (too many requests) pass: RFC 9110 §15.5, RFC 8470, RFC 6585.
_REFUSED_BY_SERVER: Final = re.compile(r"http-4(?!08|25|29)\d\d")


@dataclass(frozen=True)
class Moment:
    """`fresh_start`: the machine has started since the update was ready, and nobody has used the booth since. `open_now`: by the
    booth's hours. `idle_s`: since the last citizen."""

    fresh_start: bool
    open_now: bool
    idle_s: float


def due(window: Window | None, moment: Moment) -> bool:
    """Whether the update may be applied at this moment. No window: at the first of the three quiet ones. A session is respected
    besides, whatever this says."""
    quiet = {"power-on": moment.fresh_start, "closed": not moment.open_now, "idle": moment.idle_s >= IDLE_S}
    if window is None:
        return any(quiet.values())
    return window == "now" or quiet[window]


def spread_s(booth: str, sha256: str, within_s: float) -> float:
    """How long a booth waits before it fetches a file, from 0 to `within_s`: always the same for one file, and another for the
    next, so that a fleet spreads evenly and no booth is always the last."""
    share = int.from_bytes(hashlib.sha256(f"{booth}\n{sha256}".encode()).digest()[:6], "big") / 2**48
    return share * within_s


def is_operators(word: str) -> bool:
    """Whether only the operator can mend what a reason says."""
    return word in _OPERATORS or _REFUSED_BY_SERVER.fullmatch(word) is not None


def retry_s(attempts: int, word: str) -> float:
    """How long to wait after so many failed attempts, the last for the reason `word`: a minute, doubled up to an hour, for what
    may pass; six hours for what only the operator can mend. Never for ever."""
    if is_operators(word):
        return _RETRY_UNMENDED_S
    doublings = min(max(attempts - 1, 0), 10)
    return min(_LAST_RETRY_S, _FIRST_RETRY_S * 2.0**doublings)
