"""Commands that were taken, until their end: waiting for the citizen, executing, cancelled, or interrupted by a restart."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from agent.contract.command import CommandState, CommandStatus, Reason
from agent.contract.event import EventClass
from agent.engine.kept_commands import KeptCommands, Record
from agent.engine.statuses import Refused, Reply, Result, Statuses, says
from agent.peripherals.surroundings import Session
from agent.verbs.declaration import Asked, Controls, NotDone, Verb

log = logging.getLogger(__name__)

_LOOK_AGAIN_S: Final = 1.0  # nothing announces a session's end
_AT_ONCE: Final = 8
_PROGRESS_EVERY_S: Final = 0.5


@dataclass
class _Errand:
    """One command on its way. `until_s`: so long it may wait, on the loop's clock."""

    verb: Verb
    args: Any
    id: str
    reply: Reply
    until_s: float
    task: "asyncio.Task[None] | None" = None


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
        if len(self._errands) >= _AT_ONCE:
            raise Refused("busy", says(f"{_AT_ONCE} commands are under way"))
        if not verb.idle_only:
            return False
        if self._idle_turn.locked():
            if wait_s == 0:
                raise Refused("busy", says("another command that needs the booth idle is under way: wait_s lets this one wait"))
            return True
        if self._session.held():
            if wait_s == 0:
                raise Refused("session-active", says("a citizen uses the booth: wait_s lets it wait for the end"))
            return True
        return False

    def begin(self, verb: Verb, args: Any, said: list[CommandStatus], reply: Reply, wait_s: float) -> None:
        """`said`: the states that it has reached, kept already and not yet published."""
        loop = asyncio.get_running_loop()
        errand = _Errand(verb, args, said[0].id, reply, loop.time() + wait_s)
        self._errands[errand.id] = errand
        errand.task = loop.create_task(self._see_through(errand, said))
        errand.task.add_done_callback(lambda _: self._errands.pop(errand.id, None))

    def after_restart(self, record: Record) -> Record:
        """What was under way is over: interrupted, or done by the restart itself."""
        if record.over:
            return record
        verb, status = self._verbs.get(record.status.verb), record.status
        done = False
        if verb is not None and verb.after_restart is not None and status.state == "executing":
            done = verb.after_restart(record.args, record.boot_id == self._boot_id)
        if done:
            return self._kept.moved(status.id, self._statuses.after(status, "succeeded"))
        why = says("the agent was started anew in the middle of it")
        return self._kept.moved(status.id, self._statuses.after(status, "failed", "interrupted", why))

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

    async def _see_through(self, errand: _Errand, said: list[CommandStatus]) -> None:
        stored = await self._statuses.stored()
        for status in said:
            self._statuses.say(status, errand.reply)
        try:
            if errand.verb.technician and not stored:  # what is not remembered could be sent again after a restart
                await self._end(errand, "failed", None, says("the memory card takes nothing: no signed command is done"))
            elif errand.verb.idle_only:
                await self._when_idle(errand)
            else:
                await self._execute(errand)
        except Refused as refused:
            await self._end(errand, refused.state, refused.reason, refused.result)

    async def _when_idle(self, errand: _Errand) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._idle_turn.locked():
                async with self._idle_turn:
                    if errand.verb.takes_turns:
                        if not self._session.held():
                            return await self._execute(errand)
                    else:
                        with self._session.taken() as ours:
                            if ours:
                                return await self._execute(errand)
            if loop.time() >= errand.until_s:
                raise Refused("session-active", says("a citizen used the booth for as long as it might wait"))
            self._now_waiting(errand)
            await asyncio.sleep(min(_LOOK_AGAIN_S, max(0.05, errand.until_s - loop.time())))

    def _now_waiting(self, errand: _Errand) -> None:
        """A citizen came between its acceptance and its turn."""
        status = self._newest(errand)
        if status.state == "accepted":
            self._statuses.say(self._kept.moved(errand.id, self._statuses.after(status, "waiting")).status, errand.reply)

    async def _execute(self, errand: _Errand) -> None:
        executing = self._kept.moved(errand.id, self._statuses.after(self._newest(errand), "executing")).status
        await self._statuses.say_stored(executing, errand.reply)
        verb, asked = errand.verb, Asked(errand.id, self._progress_of(errand, executing), self.cancel)
        state: CommandState = "succeeded"
        reason: Reason | None = None
        result: Result | None = None
        try:
            async with asyncio.timeout(verb.deadline_s):
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
        ended = self._kept.moved(errand.id, self._statuses.after(self._newest(errand), state, reason, result)).status
        self._tell(errand.verb, ended)
        await self._statuses.say_stored(ended, errand.reply)

    def _tell(self, verb: Verb, ended: CommandStatus) -> None:
        """What only looks is not recorded: anybody may ask for it all day."""
        if verb.technician or verb.idle_only:
            data = {"id": ended.id, "state": ended.state, "by": ended.by} | ({"reason": ended.reason} if ended.reason else {})
            self._record("command", verb.name, data)

    def _newest(self, errand: _Errand) -> CommandStatus:
        record = self._kept.get(errand.id)
        assert record is not None  # not forgotten before it is over
        return record.status

    # --- cancelled ---

    def cancel(self, id_: str) -> str | None:
        """End a command that waits, or that may be ended in the middle; the state that it is in then."""
        record, errand = self._kept.get(id_), self._errands.get(id_)
        if record is None:
            return None
        waits = record.status.state in ("received", "accepted", "waiting")
        if record.over or errand is None or errand.task is None or not (waits or errand.verb.cancellable):
            return record.status.state
        errand.task.cancel()
        ended = self._kept.moved(id_, self._statuses.after(record.status, "cancelled")).status
        self._tell(errand.verb, ended)
        self.do_beside(self._statuses.say_stored(ended, errand.reply))
        return "cancelled"
