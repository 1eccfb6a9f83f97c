"""Whether a rollout goes on: how a booth that was told stands, what all of them show together, and what follows."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from agent.contract.typed import Range
from agent.contract.words import Name

Standing = Literal["done", "failed", "silent", "under-way", "away"]
Verdict = Literal["wait", "soak", "next", "halt"]
Seconds = Annotated[float, Range(0, 366 * 86400)]
Percent = Annotated[float, Range(0, 100)]
Services = tuple[int, int]  # how many of them are available, and how many the booth offers


@dataclass(frozen=True)
class Limits:
    """When a rollout halts, and how long it waits.

    `tried`, `failed_pct`: from so many tried on, more than this share may not fail. `fallen_points`, `fallen_s`: so much of the
    services' availability may not be lost for so long. `vanished_s`: a booth that is lost for so long in its opening hours is
    silent. `enough_pct`: a wave proves something when this share of it has the version. `patience_s`: a wave waits so long for
    booths that are away. `pause_s`: how long a wave is watched after its last booth.
    """

    tried: Annotated[int, Range(1, 100_000)] = 5
    failed_pct: Percent = 10.0
    fallen_points: Percent = 2.0
    fallen_s: Seconds = 60.0
    vanished_s: Seconds = 300.0
    enough_pct: Percent = 50.0
    patience_s: Seconds = 86_400.0
    pause_s: Seconds = 3_600.0


@dataclass(frozen=True)
class Presence:
    """`word`: of its state. `lost_s`: for how long it has been `lost`. `was_there`: at work when it was told, or since then."""

    word: str
    is_open: bool
    lost_s: float
    was_there: bool

    def has_vanished(self, limits: Limits) -> bool:
        """Whether it went dark when it should not: shut down in order, or switched off out of hours, it has not."""
        return self.word == "lost" and self.was_there and self.is_open and self.lost_s >= limits.vanished_s


def standing(outcome: Literal["done", "failed", "none"], presence: Presence, limits: Limits) -> Standing:
    """How a booth stands that was told. What it has said of the version counts, also of one that is dark since."""
    if outcome != "none":
        return outcome
    if presence.has_vanished(limits):
        return "silent"
    return "under-way" if presence.word in ("starting", "online") else "away"


@dataclass(frozen=True)
class Figures:
    """What the booths of the waves so far show. Failed, silent or vanished booths after which somebody let the rollout go on do
    not count any more, in nothing.

    `wave`: how those of the current wave stand; `earlier`: those of the waves before. `vanished`: canaries, and booths of the
    laboratory, that went dark. `before_pct`, `now_pct`: the availability of the services of `compared` booths, before they were
    told and now. `fallen_s`: for how long too much of it has been lost. `wave_s`: since the wave was told. `settled_s`: since
    nothing more was awaited of it; None while something is.
    """

    wave: Counter[Standing]
    earlier: Counter[Standing]
    vanished: tuple[str, ...] = ()
    before_pct: float | None = None
    now_pct: float | None = None
    compared: int = 0
    fallen_s: float = 0.0
    wave_s: float = 0.0
    settled_s: float | None = None
    careful: bool = False

    @property
    def size(self) -> int:
        return self.wave.total()

    @property
    def missing(self) -> int:
        """Of this wave, those that have said nothing final."""
        return self.wave["under-way"] + self.wave["away"]


def failed(count: Counter[Standing]) -> int:
    return count["failed"] + count["silent"]


def tried(count: Counter[Standing]) -> int:
    return count["done"] + failed(count)


@dataclass(frozen=True)
class Decision:
    """`reason`: a word that says why, in kebab-case."""

    verdict: Verdict
    reason: Name


def decide(figures: Figures, limits: Limits) -> Decision:
    """What follows. A reason to halt comes before every other."""
    if (reason := _reason_to_halt(figures, limits)) is not None:
        return Decision("halt", reason)
    if figures.missing and (figures.careful or figures.wave_s < limits.patience_s):
        return Decision("wait", "booths")
    if figures.wave["done"] * 100 < figures.size * limits.enough_pct:
        # What most of a wave did not take proves nothing. Who is only away may still come.
        return Decision("wait", "too-few-done") if figures.missing else Decision("halt", "too-few-done")
    if figures.settled_s is None or figures.settled_s < limits.pause_s:
        return Decision("soak", "pause")
    return Decision("next", "patience" if figures.missing else "settled")


def _reason_to_halt(figures: Figures, limits: Limits) -> Name | None:
    if figures.vanished:
        return "canary-vanished"
    together = figures.earlier + figures.wave
    if _too_many(failed(together), tried(together), tried(together), limits):
        return "too-many-failed"
    # One bad area must not hide behind all that went well before: it halts once it cannot end well.
    if _too_many(failed(figures.wave), tried(figures.wave), figures.size, limits):
        return "too-many-failed"
    if has_fallen(figures, limits) and figures.fallen_s >= limits.fallen_s:
        return "availability-fell"
    return None


def _too_many(failures: int, tries: int, of: int, limits: Limits) -> bool:
    return tries >= limits.tried and failures * 100 > limits.failed_pct * of


def has_fallen(figures: Figures, limits: Limits) -> bool:
    """Whether more of the availability is lost than may be, if only for a moment."""
    if figures.before_pct is None or figures.now_pct is None:
        return False
    return figures.before_pct - figures.now_pct > limits.fallen_points


def compare(before: Mapping[str, Services], now: Mapping[str, Services]) -> tuple[float | None, float | None, int]:
    """The availability, in per cent, of the booths that are in both, before and now; and how many those are."""
    both = [booth for booth in now if booth in before]
    return _available_pct(before[booth] for booth in both), _available_pct(now[booth] for booth in both), len(both)


def _available_pct(services: Iterable[Services]) -> float | None:
    available = offered = 0
    for one, of in services:
        available += one
        offered += of
    return 100 * available / offered if offered else None
