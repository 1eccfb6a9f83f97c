"""The light's words as colours and rhythms, contract §9. Pure: whoever drives a light, here or elsewhere, agrees with it."""

from collections.abc import Mapping
from typing import Final, Literal

from agent.contract.words import LightWord

Colour = Literal["red", "green", "blue"]
Rhythm = tuple[tuple[int, int], ...]  # one period: (lit_ms, dark_ms) for each flash; empty for steady

# A light that nobody has spoken to for so long shows `starting` by itself. Two and a half times the agent's interval.
HOLD_S: Final = 75.0

_WHITE: Final[frozenset[Colour]] = frozenset(("red", "green", "blue"))

COLOURS: Final[Mapping[LightWord, frozenset[Colour]]] = {
    "starting": _WHITE,
    "locate": _WHITE,
    "working": _WHITE,
    "your-turn": frozenset(("blue",)),
    "no-internet": frozenset(("red", "green")),  # yellow
    "broken": frozenset(("red",)),
    "ok": frozenset(("green",)),
}

# Told apart by eye without any colour: three calls of one, two and three flashes every 2.5 s, and three even blinks.
# At least 400 ms from flash to flash within a group, so that even a rhythm that is cut short and begun again stays
# below what is dangerous to people with photosensitive epilepsy: three flashes a second (WCAG 2.3.1).
RHYTHMS: Final[Mapping[LightWord, Rhythm]] = {
    "starting": ((1000, 1000),),
    "locate": ((250, 250),),
    "working": ((2700, 300),),
    "your-turn": ((200, 200), (200, 1900)),
    "no-internet": ((200, 2300),),
    "broken": ((200, 200), (200, 200), (200, 1500)),
    "ok": (),
}


def period_ms(rhythm: Rhythm) -> int:
    """How long it takes until the rhythm begins again; 0 for steady."""
    return sum(lit_ms + dark_ms for lit_ms, dark_ms in rhythm)


def phase(rhythm: Rhythm, elapsed_ms: int) -> tuple[bool, int | None]:
    """Whether it is lit so long after it began, and in how many ms that changes; None for never."""
    if not rhythm:
        return True, None
    left_ms = elapsed_ms % period_ms(rhythm)
    for lit_ms, dark_ms in rhythm:
        if left_ms < lit_ms:
            return True, lit_ms - left_ms
        left_ms -= lit_ms
        if left_ms < dark_ms:
            return False, dark_ms - left_ms
        left_ms -= dark_ms
    raise AssertionError("within the period there is a step for every moment")


def level(maximum: int, dim_pct: int) -> int:
    """The brightness to write for a share of the full one; never 0, since a dark light means a booth without power."""
    return max(1, round(maximum * dim_pct / 100))
