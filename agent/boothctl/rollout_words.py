"""What a rollout says: a line for each decision with its figures, or an object for a program."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from agent.boothctl.rollout_look import Look
from agent.boothctl.rollout_state import RolloutState
from agent.contract.words import printable
from agent.rules.rollout import Decision, Figures, Limits, Standing, failed, tried
from agent.rules.waves import Wave

_NAMED: Final = 5  # booths in one line
_ORDER: Final[tuple[Standing, ...]] = ("done", "failed", "silent", "under-way", "away")


@dataclass
class Telling:
    """`every_s`: between two lines of which only the figures differ."""

    limits: Limits
    as_json: bool
    every_s: float = 10.0
    _last: tuple[Any, ...] = field(default=())
    _figures: object = None
    _said_s: float = 0.0

    def line(self, event: str, words: str, **more: Any) -> None:
        if self.as_json:
            print(json.dumps({"event": event, "words": words} | more), flush=True)
        else:
            print(f"{datetime.now().astimezone():%H:%M:%S}  {printable(words, 600)}", flush=True)

    def plan(self, state: RolloutState, revision: int, epoch: int) -> None:
        total = sum(len(wave.booths) for wave in state.waves)
        self.line(
            "plan",
            f"{state.kind} {state.version} for {total} booths in {len(state.waves)} waves; "
            f"the fleet's document will be revision {revision} of epoch {epoch}",
            kind=state.kind, version=state.version, booths=total, rev=revision, epoch=epoch,
        )  # fmt: skip
        for wave in state.waves:
            self.line("wave", f"wave {wave.name}: {_booths(wave.booths)}, {_how(wave)}", **_wave(wave))
        for document in sorted(set(state.left_alone.values())):
            booths = [booth for booth, its in state.left_alone.items() if its == document]
            self.line(
                "left-alone",
                f"left alone: {_booths(booths)}, since the document of {document} names its own version "
                "(--also-pinned takes them along)",
                document=document, booths=booths,
            )  # fmt: skip

    def told(self, wave: Wave, documents: int) -> None:
        self.line("told", f"{wave.name}: told {_booths(wave.booths)}, {_how(wave)}", documents=documents, **_wave(wave))

    def decided(self, wave: Wave, decision: Decision, look: Look, now_s: float) -> None:
        """What is the same as before is not said again; only other figures, now and then."""
        figures, wrong = look.figures, look.wrong
        key, seen = (wave.name, decision), (figures.wave, wrong, look.held_up)
        if key == self._last and (seen == self._figures or now_s - self._said_s < self.every_s):
            return
        self._last, self._figures, self._said_s = key, (figures.wave.copy(), dict(wrong), look.held_up.copy()), now_s
        words = f"{wave.name}: {_verdict(decision, look, self.limits)}; {self._shares(figures)}"
        if wrong:
            words += f"; failed: {_named([f'{booth} ({why})' for booth, why in wrong.items()])}"
        self.line(
            "decision", words, wave=wave.name, verdict=decision.verdict, reason=decision.reason,
            booths={name: figures.wave[name] for name in _ORDER}, earlier={name: figures.earlier[name] for name in _ORDER},
            vanished=list(figures.vanished), available_before_pct=_round(figures.before_pct),
            available_now_pct=_round(figures.now_pct), compared=figures.compared, failed=dict(wrong),
            held_up=dict(look.held_up),
        )  # fmt: skip

    def _shares(self, figures: Figures) -> str:
        together = figures.earlier + figures.wave
        share = f"{failed(together)} of {tried(together)} tried failed"
        if tried(together):
            share += f" ({100 * failed(together) / tried(together):.1f} %, at most {self.limits.failed_pct:g} %)"
        if figures.before_pct is None or figures.now_pct is None:
            return f"{share}; no services to compare"
        return f"{share}; services {figures.before_pct:.1f} → {figures.now_pct:.1f} % at {_many(figures.compared)}"


def _verdict(decision: Decision, look: Look, limits: Limits) -> str:
    figures, counts = look.figures, _counts(look.figures.wave, look.figures.size, look.held_up)
    match decision.verdict, decision.reason:
        case "halt", "canary-vanished":
            return f"HALT canary-vanished: {_named(figures.vanished)} lost in opening hours"
        case "halt", reason:
            return f"HALT {reason}: {counts}"
        case "wait", "too-few-done":
            return f"waits beyond {limits.patience_s:g} s, since under {limits.enough_pct:g} % prove too little: {counts}"
        case "wait", _:
            return f"waits: {counts}"
        case "soak", _:
            return f"watches for {limits.pause_s:g} s: {counts}"
        case _, "patience":
            return f"goes on after {limits.patience_s:g} s without the rest, who get it when they are back: {counts}"
        case _:
            return f"goes on: {counts}"


def _counts(wave: Counter[Standing], size: int, held_up: Counter[str]) -> str:
    reasons = _named([f"{reason}: {booths}" for reason, booths in held_up.most_common()])
    of: dict[Standing, str] = {"under-way": f" ({reasons})" if reasons else ""}
    others = ", ".join(f"{wave[name]} {name.replace('-', ' ')}{of.get(name, '')}" for name in _ORDER[1:] if wave[name])
    return f"{wave['done']} of {size} have it" + (f", {others}" if others else "")


def _how(wave: Wave) -> str:
    match wave.layer:
        case "booth":
            return "each by a document of its own"
        case "area":
            return f"by the document of area {wave.area}"
        case _:
            return "by the fleet's document"


def _wave(wave: Wave) -> dict[str, Any]:
    return {"wave": wave.name, "layer": wave.layer, "size": len(wave.booths), "some": list(wave.booths[:_NAMED])}


def _booths(booths: Sequence[str]) -> str:
    names = f" ({_named(booths)})" if booths else ""
    return _many(len(booths)) + names


def _many(booths: int) -> str:
    return "1 booth" if booths == 1 else f"{booths} booths"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
