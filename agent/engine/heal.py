"""Faults end without a visit: one remedy at a time in the whole booth, and a fresh probe decides whether it helped.

Hubs, print server and power are shared by all devices, and two remedies at once could not be told apart: so there is one
queue. What disturbs a citizen takes the session lock, or waits. Each attempt is stored before it is made; so a power cut, a
crash or a reboot in the middle of a rung counts as an attempt, and no booth can loop.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from agent.contract.alarm import Tried
from agent.contract.event import EventClass
from agent.contract.health import Healing
from agent.contract.words import printable
from agent.engine.ward import Ward, Work
from agent.engine.watch import Watch
from agent.peripherals.declaration import ActRefused, Chore, Run
from agent.peripherals.surroundings import Session
from agent.rules.declaration import Observed
from agent.rules.health import Finding, Now
from agent.rules.ladder import Outcome, Try

log = logging.getLogger(__name__)

SESSION_AGAIN_S: Final = 15.0  # nothing announces a session's end; healing begins within a minute of it
STORED_WITHIN_S: Final = 3.0
_HER_TURN_S: Final = 1.0  # the lock is free for so long after each hold: a citizen who waits looks ten times a second
_REBOOTS_WITHIN_S: Final = 30.0  # systemd ends us long before; and the watchdog waits no longer


class Acts(Protocol):
    """Root's side. Contract of `agent.privileged`."""

    async def act(self, name: str, slot: str) -> str:
        """Ask for one act. `done`, or why not. Raises nothing but CancelledError."""


class Memory(Protocol):
    """The store, as the healer needs it."""

    def event(self, class_: EventClass, code: str, peripheral: str | None, data: dict[str, Any]) -> None: ...
    async def flushed(self, deadline_s: float) -> bool: ...


@dataclass(frozen=True)
class _Hands:
    """Root, for one peripheral."""

    acts: Acts
    slot: str

    async def act(self, name: str) -> None:
        code = await self.acts.act(name, self.slot)
        if code != "done":
            raise ActRefused(code)


@dataclass(frozen=True)
class Tended:
    """Remedies and what became of each; `stopped`: why there were no more."""

    tried: tuple[tuple[str, Outcome], ...]
    stopped: str | None


class Healer:
    """`changed(name)` is called whenever `healing`, `tried` or `escalated` of a peripheral answer differently."""

    def __init__(
        self,
        ward: Ward,
        session: Session,
        acts: Acts,
        memory: Memory,
        now: Callable[[], Now],
        changed: Callable[[str], None],
    ) -> None:
        self._ward = ward
        self._session = session
        self._acts = acts
        self._memory = memory
        self._now = now
        self._changed = changed
        self._healing: dict[str, Healing] = {}
        self._turn = asyncio.Lock()  # of remedies: one at a time, whoever asked for it
        self._woken = asyncio.Event()

    # --- life ---

    def remember(self, state: Mapping[str, Any], watches: Mapping[str, Watch]) -> None:
        """Take over the watches, and what was done before the restart. What was begun then and never ended was interrupted."""
        for name, attempt in self._ward.remember(state, watches):
            self._say(name, attempt.code, attempt.remedy, attempt.outcome, {})

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._woken.clear()
            work, wait_s = self._ward.due()
            if work and not self._session.held() and await self._do(work[0]):
                await asyncio.sleep(_HER_TURN_S)
                continue
            if work:
                wait_s = min(wait_s, SESSION_AGAIN_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()

    def judged(self, watch: Watch) -> None:
        """A peripheral was judged anew."""
        if watch.peripheral.ladder or watch.peripheral.chores:
            self.wake()

    def wake(self) -> None:
        """Look again what is due."""
        self._woken.set()

    # --- what readers are told ---

    def healing(self, name: str) -> Healing | None:
        """The remedy that runs now."""
        return self._healing.get(name)

    @property
    def working(self) -> bool:
        """Whether one runs: nobody should unplug anything."""
        return bool(self._healing)

    def tried(self, name: str, code: str) -> list[Tried]:
        """What was tried about a finding since it began to be healed."""
        return self._ward.tried(name, code)

    def escalated(self, name: str, finding: Finding) -> bool:
        """Whether all that the booth can do itself about a finding was done, in vain."""
        return self._ward.escalated(name, finding)

    # --- doing it ---

    async def _do(self, work: Work) -> bool:
        """False where a citizen was faster, or nothing was to be done after all."""
        # The device before the session: a check that is under way must not use up the citizen's minute.
        async with self._turn, work.watch.held(work.longest_s):
            with self._session.taken() as ours:
                if not ours or not self._ward.still_due(work):
                    return False
                if isinstance(work.step, Chore):
                    await self._tidy(work.watch, work.step)
                else:
                    await self._heal(work.watch, work.step)
        return True

    async def _tidy(self, watch: Watch, chore: Chore) -> None:
        refusal = await self._attempt(watch, chore.run, chore.deadline_s)
        self._ward.tidied(watch.name, chore, done=refusal is None)
        # What root will not do is a fault of the booth's, and says nothing of a session but once.
        watch.note(None if refusal is None else Observed("access-denied", {"act": chore.name, "reason": refusal}))
        await watch.look()

    async def tend(self, watch: Watch, remedy: str | None, heard: Callable[[str, int | None], None]) -> Tended:
        """What a command asks for: the rungs of a ladder without patience or cooldown, until one of them helps, or one rung."""
        if (why := self._ward.held_back()) is not None:
            return Tended((), why)
        tried: list[tuple[str, Outcome]] = []
        for step in self._ward.steps(watch.name, remedy):
            if (why := self._ward.held_back()) is not None:
                return Tended(tuple(tried), why)
            heard(step.remedy.name, None)
            async with self._turn, watch.held(step.remedy.deadline_s + step.remedy.settle_s):
                with self._session.taken() as ours:
                    if not ours:
                        return Tended(tuple(tried), "session-active")
                    tried.append((step.remedy.name, await self._heal(watch, step)))
            if tried[-1][1] == "cured":
                break
            await asyncio.sleep(_HER_TURN_S)
        return Tended(tuple(tried), None)

    def alone(self) -> asyncio.Lock:
        """Hold it while root does something that no remedy may run beside."""
        return self._turn

    async def tidy(self, watch: Watch, chore: Chore) -> str | None:
        """What a command asks for: a chore, now. None, or why it was not done."""
        async with self._turn, watch.held(chore.deadline_s):
            refusal = await self._attempt(watch, chore.run, chore.deadline_s)
            self._ward.tidied(watch.name, chore, done=refusal is None)
            await watch.look()
        return refusal

    async def _heal(self, watch: Watch, step: Try) -> Outcome:
        remedy, name = step.remedy, watch.name
        self._ward.begun(name, step)
        stored = await self._memory.flushed(STORED_WITHIN_S)
        self._healing[name] = Healing(remedy.name, step.rung, step.attempt, self._now().wall)
        self._changed(name)
        log.info("%s for %s", remedy.name, step.code, extra={"peripheral": name})
        try:
            if remedy.reboots and not stored:
                outcome: Outcome = "refused"  # without a memory, it would be done again and again
                reason: str | None = "not-stored"
            else:
                outcome, reason = await self._judged_attempt(watch, step)
        finally:
            del self._healing[name]
        self._ward.ended(name, step, outcome)
        data = {"rung": step.rung, "attempt": step.attempt} | ({"reason": reason} if reason else {})
        self._say(name, step.code, remedy.name, outcome, data)
        self._changed(name)
        return outcome

    async def _judged_attempt(self, watch: Watch, step: Try) -> tuple[Outcome, str | None]:
        remedy, before = step.remedy, frozenset(finding.code for finding in watch.judgement.findings)
        reason = await self._attempt(watch, remedy.run, remedy.deadline_s)
        if reason is None and remedy.reboots:
            await asyncio.sleep(_REBOOTS_WITHIN_S)  # and is ended with us; the probe after the next start decides
            return "failed", "no-reboot"
        if reason is None or reason == "timed-out":
            await asyncio.sleep(remedy.settle_s)
        seen = await watch.look()
        good = seen is not None and watch.reading.unreadable is None and step.code not in seen
        if seen is not None and good and not self._ward.worse(watch, before, seen):
            return "cured", reason
        if reason is None:
            return "failed", None if seen is not None else "not-probed"
        return ("timed-out" if reason == "timed-out" else "failed" if reason.startswith("failed") else "refused"), reason

    async def _attempt(self, watch: Watch, run: Run, deadline_s: float) -> str | None:
        """Do it; None, or why it was not done."""
        try:
            async with asyncio.timeout(deadline_s):
                await run(watch.source, _Hands(self._acts, watch.name))
        except TimeoutError:
            return "timed-out"
        except ActRefused as refusal:
            return refusal.code
        except Exception as error:  # whatever a remedy raises ends here, as what a probe raises does in Watch
            log.exception("a remedy failed", extra={"peripheral": watch.name})
            return printable(f"failed: {type(error).__name__}")
        return None

    def _say(self, name: str, code: str, remedy: str, outcome: str, data: Mapping[str, Any]) -> None:
        self._memory.event("heal", code, name, {"remedy": remedy, "outcome": outcome, **data})
        log.info("%s for %s: %s", remedy, code, outcome, extra={"peripheral": name, "code": code})
