"""A rollout under way: looks, decides, writes down what it decided, and does it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from agent.boothctl import rollout_state
from agent.boothctl.rollout_desk import FLEET, Desk, audience_at
from agent.boothctl.rollout_line import SETTLED_S, Line
from agent.boothctl.rollout_look import Look, Looker
from agent.boothctl.rollout_sight import Sight
from agent.boothctl.rollout_state import RolloutState
from agent.boothctl.rollout_words import Telling
from agent.boothctl.terminal import EXIT_NO_ANSWER, Failed, note
from agent.boothctl.words import Audience
from agent.contract.topics import ALL
from agent.rules.layers import audience_of
from agent.rules.rollout import Decision, Limits, decide, has_fallen
from agent.rules.waves import Wave

_LOOK_S: Final = 0.25
_REST: Final = 20  # times as long as the last look took: a large fleet does not keep the machine busy for days
_QUIET_LOOK_S: Final = 2.0  # where nothing was said meanwhile
_AWAY_S: Final = 600.0

End = Literal["finished", "halted", "stopped"]


class Rollout:
    """`run` it from where its state is. What it decides is in `file` before it is done."""

    def __init__(
        self,
        file: Path,
        state: RolloutState,
        sight: Sight,
        desk: Desk,
        line: Line,
        limits: Limits,
        telling: Telling,
        wait_s: float,
    ) -> None:
        self._file = file
        self._state = state
        self._sight = sight
        self._desk = desk
        self._line = line
        self._limits = limits
        self._telling = telling
        self._wait_s = wait_s
        self._looker = Looker(state, sight, limits, self._rev_of)
        self._connection = line.connection
        self._fallen_at_s: float | None = None

    async def run(self, stop: asyncio.Event) -> End:
        """Until it is through, halts, or `stop` is set. Raises `Failed`."""
        if self._state.cleaning:
            await self._clean()
            return "finished"
        await self._put_right()
        heard, documents = 0, self._sight.documents
        while not stop.is_set():
            if self._line.connection != self._connection:
                await self._come_back(stop)
                continue
            if self._sight.documents != documents:
                documents = self._sight.documents
                await self._put_right()
            quiet, started_s = self._sight.heard == heard, time.process_time()
            heard = self._sight.heard
            look, decision = self._decide(time.time())
            self._telling.decided(self._state.wave, decision, look, time.time())
            end = await self._follow(decision)
            if end is not None:
                return end
            rest_s = max(_LOOK_S, _REST * (time.process_time() - started_s))
            await self._pause(stop, max(rest_s, _QUIET_LOOK_S) if quiet and decision.verdict == "wait" else rest_s)
        return "stopped"

    def go_on(self) -> None:
        """After a halt, by hand: what led to it does not count any more."""
        look = self._looker.look(time.time())
        names = {*look.wrong, *look.figures.vanished}
        self._looker.accepted |= names
        self._state.before |= look.services
        self._state.halted = self._state.settled_at_s = None
        self._save()
        note(f"goes on by hand; {len(names)} booths do not count any more")

    async def withdraw(self) -> int:
        """Take the version back from whoever has not got it; the number of documents that were emptied."""
        stands = self._looker.look(time.time()).stands
        done = {
            audience_of("booth", booth.area, name) for name, booth in self._sight.booths.items() if stands.get(name) == "done"
        }
        roots = [root for root in self._state.written if root not in done and root != FLEET.topic]
        return await self._empty(roots)

    # --- looking ---

    def _decide(self, now_s: float) -> tuple[Look, Decision]:
        look = self._looker.look(now_s)
        if not has_fallen(look.figures, self._limits):
            self._fallen_at_s = None
        elif self._fallen_at_s is None:
            self._fallen_at_s = now_s
        if self._fallen_at_s is not None:
            look.figures = replace(look.figures, fallen_s=now_s - self._fallen_at_s)
        return look, decide(look.figures, self._limits)

    def _rev_of(self, root: str) -> int:
        return self._state.written.get(root) or self._desk.rev(root)

    # --- following ---

    async def _follow(self, decision: Decision) -> End | None:
        state = self._state
        match decision.verdict:
            case "halt":
                state.halted = decision.reason
                self._save()
                return "halted"
            case "next" if state.wave is state.waves[-1]:
                state.cleaning = True
                self._save()
                await self._clean()
                return "finished"
            case "next":
                state.at += 1
                state.told_at_s = state.settled_at_s = None
                self._save()
                await self._tell()
            case "soak" if state.settled_at_s is None:
                state.settled_at_s = time.time()
                self._save()
            case "wait" if state.settled_at_s is not None:
                state.settled_at_s = None
                self._save()
        return None

    async def _tell(self) -> None:
        """The current wave. What is about to be published is written down before: whatever is cut when, it is found again."""
        state, wave = self._state, self._state.wave
        for name in wave.booths:
            booth = self._sight.booths.get(name)
            if booth is not None and booth.usual is not None:
                state.before.setdefault(name, booth.usual)
            if booth is None or not booth.is_there:
                self._looker.absent.add(name)
        documents = await self._write(wave, self._roots_of(wave))
        state.told_at_s = time.time()
        self._save()
        self._telling.told(wave, documents)

    async def _write(self, wave: Wave, roots: Sequence[str]) -> int:
        revisions = {root: self._desk.next_rev(root) for root in roots if not self._desk.carries(root)}
        for booth in (self._sight.booths[name] for name in wave.booths if name in self._sight.booths):
            if audience_of(self._looker.layer_of(wave, booth), booth.area, booth.booth) in revisions:
                booth.news = False  # what it said so far was said of another document
        self._state.written = {root: self._desk.rev(root) for root in roots} | self._state.written | revisions
        self._save()
        await self._desk.publish(self._line, revisions, self._wait_s)
        return len(revisions)

    def _roots_of(self, wave: Wave) -> list[str]:
        """The audiences whose documents tell a wave, the most specific first: none is hidden by one that is still to come."""
        places = [(self._sight.booths[name].area, name) for name in wave.booths if name in self._sight.booths]
        own = [audience_of("booth", area, name) for area, name in places]
        areas = sorted({audience_of("area", area, name) for area, name in places})
        shadows = set(self._state.shadows)
        if wave.layer == "booth":
            return own
        hidden = [root for root in own if root in shadows]
        if wave.layer == "area":
            return [*hidden, Audience(str(wave.area), ALL).topic]
        return [*hidden, *(root for root in areas if root in shadows), FLEET.topic]

    async def _clean(self) -> None:
        emptied = await self._empty([root for root in self._state.written if root != FLEET.topic])
        self._state.finished = True
        self._save()
        self._telling.line(
            "cleaned", f"{emptied} documents of areas and booths name it no more: the fleet's does", documents=emptied
        )

    async def _empty(self, roots: Sequence[str]) -> int:
        # What somebody else has published there since stays.
        revisions = {root: self._desk.next_rev(root) for root in roots if self._desk.carries(root)}
        await self._desk.publish(self._line, revisions, self._wait_s, section=False)
        return len(revisions)

    def _save(self) -> None:
        self._state.absent = sorted(self._looker.absent)
        self._state.accepted = sorted(self._looker.accepted)
        rollout_state.save(self._file, self._state)

    # --- what was cut ---

    async def _put_right(self) -> None:
        """Begin, or go on where it was cut: publish what was not, or what the broker has lost since."""
        state = self._state
        if state.told_at_s is None:
            await self._tell()
        for wave in state.waves[: state.at + 1]:
            missing = [root for root in self._roots_of(wave) if not self._desk.carries(root)]
            replaced = [root for root in missing if self._desk.rev(root) > state.written.get(root, 0)]
            for root in replaced:
                self._leave(root)
            if again := [root for root in missing if root not in replaced]:
                words = f"{wave.name}: {len(again)} documents published again, since the broker had them no more"
                self._telling.line("told-again", words, wave=wave.name, documents=len(again))
                await self._write(wave, again)

    def _leave(self, root: str) -> None:
        """Somebody has published another document there: it is meant."""
        audience = audience_at(root)
        if audience.layer != "booth":
            raise Failed(
                f"somebody has replaced the document of {root}: the rollout has no say there any more",
                "publish it again with boothctl update push, or withdraw the rollout with --withdraw",
            )
        if audience.booth not in self._looker.accepted:
            self._looker.accepted.add(audience.booth)
            self._telling.line("left-alone", f"left alone: {audience.booth}, since its document was replaced by hand")

    async def _come_back(self, stop: asyncio.Event) -> None:
        """Decide nothing by what was said before a connection ended."""
        gone_at_s = time.monotonic()
        note("the connection to the broker has ended; nothing is decided until it is back")
        while self._line.connection is None and not stop.is_set():
            if time.monotonic() - gone_at_s > _AWAY_S:
                raise Failed("the broker is gone; run this again to go on", status=EXIT_NO_ANSWER)
            await self._pause(stop, 1.0)
        if self._line.connection is None:
            return
        self._sight.lying.clear()
        self._connection = self._line.connection
        self._line.ask_again()
        await self._line.settled(SETTLED_S)
        await self._put_right()

    async def _pause(self, stop: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            return
