"""Commands that were taken, until their end: waiting for the citizen, executing, cancelled, or interrupted by a restart."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agent.contract.command import CommandState, CommandStatus, Reason
from agent.contract.event import EventClass
from agent.engine.kept_commands import KeptCommands, Record
from agent.engine.statuses import Refused, Reply, Result, Statuses, says
from agent.peripherals.surroundings import Session
from agent.verbs.declaration import Asked, Controls, NotDone, Verb

log = logging.getLogger(__name__)

_LOOK_AGAIN_S: Final = 1.0  # nothing announces a session's end
_OWN_CHECK_S: Final = 30.0  # a check or a remedy of our own may have the session lock for so long
_AT_ONCE: Final = 8  # of anybody's; a technician's are not counted: she must be able to cancel them
_PROGRESS_EVERY_S: Final = 0.5


@dataclass
class _Errand:
    """One command on its way. `said`: how many of its `states` were published. `waits_until_s` and `good_until_s`, on the loop's
    clock: so long it may wait for a citizen, and be begun at all."""

    verb: Verb
    args: Any
    record: Record
    reply: Reply
    waits_until_s: float
    good_until_s: float
    states: list[CommandStatus]
    said: int = 0
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)


class UnderWay:
    """`begin` one that was accepted; what becomes of it is kept, recorded and said."""

    def __init__(
        self,
        verbs: Mapping[str, Verb],
        controls: Controls,
        session: Session,
        kept: KeptCommands,
        statuses: Statuses,
        boot_id: str,
        record: Callable[[EventClass, str, dict[str, Any]], None],
    ) -> None:
        self._verbs = verbs
        self._controls = controls
        self._session = session
        self._kept = kept
        self._statuses = statuses
        self._boot_id = boot_id
        self._record = record
        self._idle_turn = asyncio.Lock()  # what needs the booth idle goes one at a time
        self._errands: dict[str, _Errand] = {}
        self._beside: set[asyncio.Task[None]] = set()

    def has_to_wait(self, verb: Verb, wait_s: int) -> bool:
        """Whether it has to wait for its turn. Raises Refused where it may not."""
        if not verb.technician and sum(not errand.verb.technician for errand in self._errands.values()) >= _AT_ONCE:
            raise Refused("busy", says(f"{_AT_ONCE} commands are under way"))
        if not verb.idle_only:
            return False
        if any(errand.verb.idle_only for errand in self._errands.values()):
            if wait_s == 0:
                raise Refused("busy", says("another command that needs the booth idle is under way: wait_s lets this one wait"))
            return True
        if not self._session.ours and self._session.held():
            if wait_s == 0:
                raise Refused("session-active", says("a citizen uses the booth: wait_s lets it wait for the end"))
            return True
        return False

    def begin(
        self, verb: Verb, args: Any, record: Record, states: list[CommandStatus], reply: Reply, wait_s: float, good_for_s: float
    ) -> None:
        """`states`: those that it has reached, kept already and not yet published."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        errand = _Errand(verb, args, record, reply, now_s + wait_s, now_s + good_for_s, states)
        self._errands[record.key] = errand
        errand.task = loop.create_task(self._see_through(errand))
        errand.task.add_done_callback(lambda _: self._errands.pop(record.key, None))

    def after_restart(self, record: Record) -> Record:
        """What was under way is over: interrupted, or done by the restart itself."""
        if record.over:
            return record
        verb, status = self._verbs.get(record.status.verb), record.status
        done = False
        if verb is not None and verb.after_restart is not None and status.state == "executing":
            done = verb.after_restart(record.args, record.boot_id == self._boot_id)
        if done:
            ended = self._statuses.after(status, "succeeded")
        else:
            why = says("the agent was started anew in the middle of it")
            ended = self._statuses.after(status, "failed", "interrupted", why)
        if verb is not None:
            self._tell(verb, ended)
        return self._kept.moved(record, ended)

    def close(self) -> None:
        """What is under way stays as it is kept, and is looked at when the agent starts again."""
        for task in (*(errand.task for errand in self._errands.values()), *self._beside):
            if task is not None:
                task.cancel()

    def do_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Until `close`."""
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    # --- from its first state to its last ---

    async def _see_through(self, errand: _Errand) -> None:
        try:
            await (self._when_idle(errand) if errand.verb.idle_only else self._execute(errand))
        except Refused as refused:
            await self._end(errand, refused.state, refused.reason, refused.result)

    async def _when_idle(self, errand: _Errand) -> None:
        loop = asyncio.get_running_loop()
        own_until_s = loop.time() + _OWN_CHECK_S
        while True:
            why: Reason = "busy"
            if not self._idle_turn.locked():
                async with self._idle_turn:
                    # A hold of our own is not joined: the two together could be longer than a citizen is kept waiting.
                    if not self._session.ours:
                        if await self._executed(errand):
                            return
                        why = "session-active"
            now_s = loop.time()
            if now_s >= errand.good_until_s:
                raise Refused(None, says("it was no longer good when its turn came"), "expired")
            if now_s >= max(errand.waits_until_s, own_until_s if why == "busy" else 0.0):
                in_the_way = "a citizen used the booth" if why == "session-active" else "something else was under way"
                raise Refused(why, says(f"{in_the_way} for as long as it might wait"))
            await self._wait(errand)

    async def _executed(self, errand: _Errand) -> bool:
        """False where a citizen uses the booth."""
        if errand.verb.takes_turns:
            if self._session.held():
                return False
            await self._execute(errand)
            return True
        with self._session.taken() as ours:
            if ours:
                await self._execute(errand)
            return ours

    async def _wait(self, errand: _Errand) -> None:
        if errand.record.status.state == "accepted":
            self._reach(errand, "waiting")
        await self._say(errand)
        left_s = min(errand.good_until_s, errand.waits_until_s) - asyncio.get_running_loop().time()
        await asyncio.sleep(min(_LOOK_AGAIN_S, max(0.1, left_s)))

    async def _execute(self, errand: _Errand) -> None:
        self._reach(errand, "executing")
        stored = await self._say(errand)
        verb, executing = errand.verb, errand.record.status
        if not stored and (verb.technician or verb.after_restart is not None):
            # What is not remembered could be sent again after a restart, or be begun again by it.
            why = says("the memory card takes nothing, and this is not done without a memory")
            await self._end(errand, "failed", None, why)
            return
        state: CommandState = "succeeded"
        reason: Reason | None = None
        result: Result | None = None
        try:
            async with asyncio.timeout(verb.deadline_s):
                asked = Asked(executing.id, self._progress_of(errand, executing), self.cancel)
                result = await verb.run(errand.args, self._controls, asked)
        except TimeoutError:
            state, result = "timed-out", says(f"not done in {verb.deadline_s:g} s")
        except NotDone as failure:
            state, reason, result = "failed", failure.reason, failure.result
        except Exception as error:  # whatever a verb raises ends here, as what a probe raises does in Watch
            log.exception("a command failed", extra={"verb": verb.name})
            state, result = "failed", says(f"a fault of the agent's: {type(error).__name__}")
        await self._end(errand, state, reason, result)

    def _progress_of(self, errand: _Errand, executing: CommandStatus) -> Callable[[str, int | None], None]:
        loop = asyncio.get_running_loop()
        said_s = 0.0

        def heard(step: str, pct: int | None) -> None:
            nonlocal said_s
            if loop.time() - said_s >= _PROGRESS_EVERY_S:
                said_s = loop.time()
                self._statuses.say(replace(self._statuses.after(executing, "executing"), step=step, pct=pct), errand.reply)

        return heard

    async def _end(self, errand: _Errand, state: CommandState, reason: Reason | None, result: Result | None) -> None:
        self._reach(errand, state, reason, result)
        self._tell(errand.verb, errand.record.status)
        await self._say(errand)

    def _reach(
        self, errand: _Errand, state: CommandState, reason: Reason | None = None, result: Result | None = None
    ) -> None:  # fmt: skip
        errand.record = self._kept.moved(errand.record, self._statuses.after(errand.record.status, state, reason, result))
        errand.states.append(errand.record.status)

    async def _say(self, errand: _Errand) -> bool:
        """Every state that it has reached, in order, once they are on disk. False: they are not, and are said all the same."""
        stored = await self._statuses.stored()
        while errand.said < len(errand.states):
            errand.said += 1
            self._statuses.say(errand.states[errand.said - 1], errand.reply)
        return stored

    def _tell(self, verb: Verb, ended: CommandStatus) -> None:
        """What only looks is not recorded: anybody may ask for it all day."""
        if verb.technician or verb.idle_only:
            data = {"id": ended.id, "state": ended.state, "by": ended.by} | ({"reason": ended.reason} if ended.reason else {})
            self._record("command", verb.name, data)

    # --- cancelled ---

    def cancel(self, id_: str) -> str | None:
        """End a command that waits, or that may be ended in the middle; the state that it is in then."""
        for signed in (True, False):
            record = self._kept.get(id_, signed=signed)
            if record is not None:
                return self._cancel(record)
        return None

    def _cancel(self, record: Record) -> str:
        errand = self._errands.get(record.key)
        if record.over or errand is None or errand.task is None:
            return record.status.state
        if record.status.state == "executing" and not errand.verb.cancellable:
            return record.status.state
        errand.task.cancel()
        self._reach(errand, "cancelled")
        self._tell(errand.verb, errand.record.status)
        self.do_beside(self._say_all(errand))
        return "cancelled"

    async def _say_all(self, errand: _Errand) -> None:
        await self._say(errand)
