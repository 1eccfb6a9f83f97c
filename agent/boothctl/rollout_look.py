"""The figures of a rollout, counted over every booth that was told."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from agent.boothctl.rollout_sight import Booth, Sight
from agent.boothctl.rollout_state import RolloutState
from agent.contract.documents import LayerName
from agent.rules.layers import audience_of
from agent.rules.rollout import Figures, Limits, Presence, Services, Standing, compare, standing
from agent.rules.waves import Wave


@dataclass
class Look:
    """`wrong`: the booths that failed, and why. `held_up`: how many of the current wave's are under way for each reason that they
    give, such as a file that they cannot fetch. `services`: of those that are compared, now."""

    figures: Figures
    wrong: dict[str, str] = field(default_factory=dict)
    held_up: Counter[str] = field(default_factory=Counter)
    services: dict[str, Services] = field(default_factory=dict)
    stands: dict[str, Standing] = field(default_factory=dict)


class Looker:
    """`rev_of(root)`: which revision told an audience."""

    def __init__(self, state: RolloutState, sight: Sight, limits: Limits, rev_of: Callable[[str], int]) -> None:
        self._state = state
        self._sight = sight
        self._limits = limits
        self._rev_of = rev_of
        self._shadows = frozenset(state.shadows)
        self.absent = set(state.absent)
        self.accepted = set(state.accepted)

    def layer_of(self, wave: Wave, booth: Booth) -> LayerName:
        """Whose document tells a booth of a wave: the most specific one that the rollout wrote with it."""
        for layer in ("booth", "area"):
            if wave.layer == layer or audience_of(layer, booth.area, booth.booth) in self._shadows:
                return layer
        return "fleet"

    def look(self, now_s: float) -> Look:
        """`fallen_s` is not known here."""
        opened: dict[int, bool] = {}
        earlier: Counter[Standing] = Counter()
        current: Counter[Standing] = Counter()
        found = Look(Figures(current, earlier))
        vanished: list[str] = []
        for wave, name in self._told():
            booth = self._sight.booths.get(name) or Booth("", name)
            if booth.is_there:
                self.absent.discard(name)
            presence = self._presence(booth, opened, now_s)
            stands = standing(self._outcome(wave, booth, found.wrong), presence, self._limits)
            found.stands[name] = stands
            (current if wave is self._state.wave else earlier)[stands] += 1
            if stands == "under-way" and wave is self._state.wave and (reason := self._reason(wave, booth)) is not None:
                found.held_up[reason] += 1
            has_vanished = presence.has_vanished(self._limits)
            if stands == "silent":
                found.wrong[name] = "lost in opening hours"
            if wave.careful and has_vanished:
                vanished.append(name)
            if stands not in ("under-way", "away") and presence.is_open:
                if booth.word == "online":
                    found.services[name] = booth.services
                elif has_vanished:
                    found.services[name] = (0, self._state.before.get(name, (0, 0))[1])
        before: dict[str, Services] = {name: (one[0], one[1]) for name, one in self._state.before.items()}
        before_pct, now_pct, compared = compare(before, found.services)
        state = self._state
        found.figures = Figures(
            current, earlier, tuple(vanished), before_pct, now_pct, compared,
            wave_s=0.0 if state.told_at_s is None else now_s - state.told_at_s,
            settled_s=None if state.settled_at_s is None else now_s - state.settled_at_s,
            careful=state.wave.careful,
        )  # fmt: skip
        return found

    def _told(self) -> Iterator[tuple[Wave, str]]:
        for wave in self._state.waves[: self._state.at + 1]:
            for name in wave.booths:
                if name not in self.accepted:
                    yield wave, name

    def _reason(self, wave: Wave, booth: Booth) -> str | None:
        return booth.told.held_up_by(self._state.version) if booth.told is not None and self._has_read(wave, booth) else None

    def _has_read(self, wave: Wave, booth: Booth) -> bool:
        """Whether what it says is said of the document that told it."""
        layer = self.layer_of(wave, booth)
        seen = 0 if booth.told is None else booth.told.seen.get(layer, 0)
        return booth.news and seen >= self._rev_of(audience_of(layer, booth.area, booth.booth))

    def _presence(self, booth: Booth, opened: dict[int, bool], now_s: float) -> Presence:
        is_open = opened.get(id(booth.hours))
        if is_open is None:
            is_open = opened[id(booth.hours)] = self._sight.open_now(booth.hours)
        lost_s = 0.0 if booth.lost_at_s is None else now_s - booth.lost_at_s
        return Presence(booth.word, is_open, lost_s, booth.booth not in self.absent)

    def _outcome(self, wave: Wave, booth: Booth, wrong: dict[str, str]) -> Literal["done", "failed", "none"]:
        state, told = self._state, booth.told
        if told is not None and told.has(state.version):
            return "done"
        # Where nothing was ever updated, it may have been installed with this version.
        never_updated = told is None or (told.version is None and told.phase == "idle")
        if state.kind == "agent" and booth.agent == state.version and never_updated:
            return "done"
        if told is None or not booth.news:
            return "none"
        if told.gave_up(state.version) and self._has_read(wave, booth):
            wrong[booth.booth] = f"{told.phase}: {told.reason}" if told.reason else told.phase
            return "failed"
        layer = self.layer_of(wave, booth)
        if layer in told.refused:
            wrong[booth.booth] = f"refused: {told.refused[layer]}"
            return "failed"
        return "none"
