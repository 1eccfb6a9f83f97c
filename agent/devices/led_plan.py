"""What to write to one kernel LED so that it shows a word, and `starting` once nobody has spoken for a while. Pure.

With the trigger `pattern` the kernel is given the word's rhythm for `HOLD_S`, and `starting` behind it, as one list that
runs once. Each re-arming begins it again; where none comes, the kernel goes on to `starting` by itself. Where there is
no `pattern`, `timer` blinks and `transient` inverts the LED in the end.
Sources: the kernel's ABI/testing/sysfs-class-led-trigger-pattern, drivers/leds/trigger/ledtrig-{pattern,timer,transient}.c.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from agent.contract.light import HOLD_S, RHYTHMS, Rhythm, period_ms
from agent.contract.words import LightWord

PATTERN_BYTES: Final = 4096  # what one write to an attribute may hold: a page, the smallest one
PATTERN_TUPLES: Final = 1024  # MAX_PATTERNS

_HOLD_MS: Final = round(HOLD_S * 1000)
_FALLBACK_LEAST: Final = 15  # periods of `starting`; where brightness has five digits, `locate` is held for less than HOLD_S

Writes = tuple[tuple[str, str], ...]  # attribute and text, in order


@dataclass(frozen=True)
class Plan:
    """`trigger` is chosen first. `writes` make the LED show the word, `rearm` begins its dead-man again."""

    trigger: str
    writes: Writes
    rearm: Writes = ()


@dataclass(frozen=True)
class Lamp:
    """One LED of a light. `level` is written for lit; `widest` is the highest level among the light's LEDs."""

    lit: bool
    level: int
    widest: int
    alone: bool  # the light has one colour


def plan(word: LightWord, lamp: Lamp, triggers: AbstractSet[str]) -> Plan:
    """The best that the kernel's triggers allow."""
    if "pattern" in triggers:
        return _by_pattern(word, lamp)
    if lamp.lit and (rhythm := RHYTHMS[word]):
        if "timer" in triggers:
            lit_ms, dark_ms = even(rhythm)
            level = ("brightness", str(lamp.level))
            # Off first: one that blinks already would go on from where it is, against the others.
            return Plan("timer", (("delay_on", "0"), ("delay_off", str(dark_ms)), ("delay_on", str(lit_ms)), level))
        # A colour tells the state even when it cannot blink. Without colours, steady light would say "ok".
        return Plan("none", (("brightness", "0" if lamp.alone else str(lamp.level)),))
    if "transient" in triggers:
        # An armed timer is not armed again but after it was stopped; both in one go, the eye sees nothing.
        again = (("activate", "0"), ("activate", "1"))
        return Plan("transient", (("state", str(int(lamp.lit))), ("duration", str(_HOLD_MS)), *again), again)
    return Plan("none", (("brightness", str(lamp.level if lamp.lit else 0)),))


def even(rhythm: Rhythm) -> tuple[int, int]:
    """As many flashes in the same period, evenly spread: what `timer` can do. The words still differ."""
    lit_ms = rhythm[0][0]
    return lit_ms, period_ms(rhythm) // len(rhythm) - lit_ms


def _by_pattern(word: LightWord, lamp: Lamp) -> Plan:
    starting = _steps(RHYTHMS["starting"])
    if word == "starting":
        return Plan("pattern", (("pattern", _text(starting, lamp.level)), ("repeat", "-1")))
    # All LEDs of a light get the same steps, lit or not: the kernel's timers round up by as much as 2 s,
    # and only equal ones stay together.
    rhythm = RHYTHMS[word]
    period = _steps(rhythm) or [(True, _HOLD_MS)]
    often = -(-_HOLD_MS // (period_ms(rhythm) or _HOLD_MS))
    starting_bytes, period_bytes = (len(_text(steps, lamp.widest)) + 1 for steps in (starting, period))
    often = min(often, (PATTERN_BYTES - _FALLBACK_LEAST * starting_bytes) // period_bytes)
    fallback = min(
        (PATTERN_BYTES - often * period_bytes) // starting_bytes,
        (PATTERN_TUPLES // 2 - often * len(period)) // len(starting),
    )
    text = _text(period * often, lamp.level if lamp.lit else 0) + " " + _text(starting * fallback, lamp.level)
    # `repeat` last: writing `pattern` does not begin to count the repeats again.
    return Plan("pattern", (("pattern", text), ("repeat", "1")), (("repeat", "1"),))


def _steps(rhythm: Rhythm) -> list[tuple[bool, int]]:
    return [step for lit_ms, dark_ms in rhythm for step in ((True, lit_ms), (False, dark_ms))]


def _text(steps: list[tuple[bool, int]], level: int) -> str:
    """Each step twice, the second time for 0 ms: else the kernel dims from one to the next."""
    return " ".join(f"{on} {ms} {on} 0" for on, ms in ((level if lit else 0, ms) for lit, ms in steps))
