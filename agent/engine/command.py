"""Takes commands, does them one after the other or side by side, and says each state that they reach. Contract §8.

A command is stored before anything is said of it or done about it. So the same id runs once, whoever sends it twice, and
whatever happens in between.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Protocol

from agent.contract.command import MAX_REQUEST_BYTES, CommandState, CommandStatus, Reason, Request
from agent.contract.decode import BadJson, TooLarge, decode_object, encode
from agent.contract.event import EventClass
from agent.contract.messages import Incoming
from agent.contract.topics import Address, Topic
from agent.contract.typed import Invalid, build, plain
from agent.contract.words import printable
from agent.engine.authority import Authority, TicketCode, Unauthorised
from agent.engine.kept_commands import KeptCommands, Record
from agent.engine.publish import Publisher
from agent.engine.rate import Rate
from agent.engine.refusals import Refusals
from agent.peripherals.surroundings import Session
from agent.verbs.declaration import Asked, Controls, NotDone, Result, Verb

log = logging.getLogger(__name__)

EXPIRES_S: Final = 60.0  # from arrival, where the request says nothing of it
_AHEAD_S: Final = 300.0  # so far another clock may be ahead of ours
_STORED_WITHIN_S: Final = 3.0
_LOOK_AGAIN_S: Final = 1.0  # nothing announces a session's end
_AT_ONCE: Final = 8
_PROGRESS_EVERY_S: Final = 0.5
_ENVELOPE_KEYS: Final = frozenset({"payload", "payloadType", "signatures"})


class Memory(Protocol):
    """The store, as commands need it."""

    def save(self, key: str, value: Any) -> None: ...
    async def flushed(self, deadline_s: float) -> bool: ...


@dataclass(frozen=True)
class Moment:
    """What is asked of the clocks. `wall_s` is never below the clock's floor."""

    wall: Callable[[], str]
    wall_s: Callable[[], float]
    synced: Callable[[], bool]


@dataclass(frozen=True)
class _Reply:
    """Where else the requester wants every state said."""

    topic: str | None = None
    correlation: bytes | None = None


class _Refused(Exception):
    """Nothing is done. `reason` is the contract's word."""

    def __init__(self, reason: Reason | None, result: Result | None = None, state: CommandState = "refused") -> None:
        super().__init__(reason)
        self.reason = reason
        self.result = result
        self.state: CommandState = state


class Commander:
    """Hand it every request; `remember` what the store had before the first one."""

    def __init__(
        self,
        address: Address,
        publisher: Publisher,
        verbs: Mapping[str, Verb],
        controls: Controls,
        session: Session,
        memory: Memory,
        authority: Authority,
        ticket_code: TicketCode,
        moment: Moment,
        boot_id: str,
        record: Callable[[EventClass, str, dict[str, Any]], None],
    ) -> None:
        self._address = address
        self._publisher = publisher
        self._verbs = verbs
        self._controls = controls
        self._session = session
        self._memory = memory
        self._authority = authority
        self._code = ticket_code
        self._moment = moment
        self._boot_id = boot_id
        self._record = record
        self._refusals = Refusals(record)
        self._kept = KeptCommands(memory.save, moment.wall_s, self._forget)
        self._rate = Rate(lambda dropped: record("command", "rate-limited", {"dropped": dropped}))
        self._idle_turn = asyncio.Lock()  # what needs the booth idle goes one at a time
        self._replies: dict[str, _Reply] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._beside: set[asyncio.Task[None]] = set()

    def remember(self, state: Mapping[str, Any]) -> None:
        """What was taken before the restart. What was under way is over: interrupted, or done by the restart itself."""
        self._kept.load(state)
        for record in list(self._kept):
            if not record.over:
                record = self._after_restart(record)  # noqa: PLW2901 - as it stands now
            self._publisher.follow("cmd-status", self._topic(record.status), encode(plain(record.status)))

    def request(self, topic: Topic, message: Incoming) -> None:
        """A request arrived."""
        if not self._rate.admits():
            return
        verb, reply = topic.names[0], _reply(message, self._address)
        try:
            data = decode_object(message.payload, MAX_REQUEST_BYTES) if message.payload else {}
        except BadJson as error:
            too_large = isinstance(error, TooLarge)
            self._refuse(verb, None, None, reply, self._unreadable(verb, "too-large" if too_large else "bad-args", str(error)))
            return
        if data.keys() >= _ENVELOPE_KEYS:
            self._do_beside(self._take_signed(verb, message, reply))
        else:
            self._take_plain(verb, data, retained=message.retained, reply=reply)

    def close(self) -> None:
        """What is under way stays as it is stored, and is looked at when the agent starts again."""
        self._rate.close()
        for task in (*self._running.values(), *self._beside):
            task.cancel()

    # --- who asks, and for what ---

    def _take_plain(self, name: str, data: Mapping[str, Any], *, retained: bool, reply: _Reply) -> None:
        problem: Invalid | None = None
        try:
            request = build(Request, data, unknown="ignore")
        except Invalid as error:
            request, problem = _what_is_readable(data), error
        if self._say_again(request.id, reply):
            return
        verb = self._verbs.get(name)
        try:
            if verb is not None and verb.technician:
                self._check_code(request)
            self._admit(self._known(name, retained=retained), request, reply, problem=problem)
        except _Refused as refused:
            self._refuse(name, request.id, request.by, reply, refused)

    def _known(self, name: str, *, retained: bool) -> Verb:
        if retained:
            raise _Refused("retained", _says("a command is not retained: publish it without"))
        if name not in self._verbs:
            raise _Refused("unknown-verb", _says(f"known here: {', '.join(sorted(self._verbs))}"))
        return self._verbs[name]

    def _check_code(self, request: Request) -> None:
        """Proof of standing in front of the booth. Its use is noted where the command is taken."""
        if request.code is None or request.id is None or request.issued_at is None or request.expires_at is None:
            raise _Refused("not-signed", _says("sign it, or give id, issued_at, expires_at and the code of the booth's ticket"))
        if not self._code.fits(request.code):
            self._refusals.record("command", "not-signed", {"id": request.id})
            raise _Refused(
                "not-signed", _says("this is not the code of the last ticket, or it is older than ten minutes, or used")
            )

    async def _take_signed(self, name: str, message: Incoming, reply: _Reply) -> None:
        try:
            signed = await self._authority.judge(name, message.payload)
        except Unauthorised as error:
            self._refusals.record("command", error.reason, {"verb": name, "message": printable(str(error), 200)})
            self._refuse(name, None, None, reply, _Refused(error.reason, _says(str(error))))
            return
        request = Request(signed.id, signed.args, signed.wait_s, signed.issued_at, signed.expires_at, signed.by)
        if self._say_again(signed.id, reply):
            return
        try:
            self._admit(self._known(name, retained=message.retained), request, reply, signed=True)
        except _Refused as refused:
            self._refuse(name, signed.id, signed.by, reply, refused)

    def _unreadable(self, name: str, reason: Reason, message: str) -> _Refused:
        verb = self._verbs.get(name)
        return _Refused("not-signed" if verb is not None and verb.technician else reason, _says(message))

    def _say_again(self, id_: str | None, reply: _Reply) -> bool:
        known = None if id_ is None else self._kept.get(id_)
        if known is not None:
            self._say(known.status, reply)
        return known is not None

    # --- whether it is done ---

    def _admit(
        self, verb: Verb, request: Request, reply: _Reply, *, signed: bool = False, problem: Invalid | None = None
    ) -> None:  # fmt: skip
        """Raises _Refused. `problem`: what is wrong with the request itself."""
        if problem is not None:
            raise _Refused("bad-args", _problems(problem))
        now_s = self._moment.wall_s()
        expires_s = self._check_times(request, now_s, signed=signed)
        args = self._arguments(verb, request.args)
        waits = self._check_room(verb, request.wait_s)
        if verb.technician and not signed:
            self._code.used()
        if verb.limit is not None:
            self._kept.count(verb.name, verb.limit.within_s)
        id_ = request.id or "c-" + os.urandom(4).hex()
        states: tuple[CommandState, ...] = ("received", "accepted", *(("waiting",) if waits else ()))
        statuses = [self._status(id_, verb.name, state, by=request.by) for state in states]
        good_until_s = expires_s if verb.technician else now_s
        self._kept.put(Record(statuses[-1], request.args, now_s, good_until_s, self._boot_id))
        self._replies[id_] = reply
        until_s = asyncio.get_running_loop().time() + min(request.wait_s, expires_s - now_s)
        task = asyncio.get_running_loop().create_task(self._see_through(verb, args, statuses, until_s))
        self._running[id_] = task
        task.add_done_callback(lambda _: self._done(id_))

    def _check_times(self, request: Request, now_s: float, *, signed: bool) -> float:
        """When it is no longer good, by the wall clock."""
        here = f"here it is {self._moment.wall()}"
        if request.expires_at is not None and _seconds(request.expires_at) <= now_s:  # below the clock's floor, too
            raise _Refused(None, _says(f"it was good until {request.expires_at}; {here}"), "expired")
        if signed and not self._moment.synced():
            raise _Refused("clock-unsynced", _says("this booth's clock is not synchronised yet: nothing signed is taken"))
        if request.issued_at is not None and _seconds(request.issued_at) > now_s + _AHEAD_S and self._moment.synced():
            raise _Refused("outside-window", _says(f"it is issued at {request.issued_at}; {here}"))
        return now_s + max(EXPIRES_S, request.wait_s) if request.expires_at is None else _seconds(request.expires_at)

    def _check_room(self, verb: Verb, wait_s: int) -> bool:
        """Whether it has to wait for its turn."""
        limit = verb.limit
        if limit is not None and self._kept.started_within(verb.name, limit.within_s) >= limit.times:
            raise _Refused("rate-limited", _says(f"at most {limit.times} within {limit.within_s:g} s"))
        if len(self._running) >= _AT_ONCE:
            raise _Refused("busy", _says(f"{_AT_ONCE} commands are under way"))
        if not verb.idle_only:
            return False
        if self._idle_turn.locked():
            if wait_s == 0:
                raise _Refused("busy", _says("another command that needs the booth idle is under way: wait_s lets this one wait"))
            return True
        if self._session.held():
            if wait_s == 0:
                raise _Refused("session-active", _says("a citizen uses the booth: wait_s lets it wait for the end"))
            return True
        return False

    def _arguments(self, verb: Verb, given: Mapping[str, Any]) -> Any:
        try:
            args: Any = build(verb.args, given)
        except Invalid as error:
            raise _Refused("bad-args", _problems(error)) from error
        if verb.ability is None:
            return args
        able, known = self._controls.able(verb.ability), self._controls.able("probe")
        if not able:
            raise _Refused("not-supported", _says("this booth has nothing that it could be done with"))
        named = [args.peripheral] if hasattr(args, "peripheral") else getattr(args, "peripherals", [])
        for name in named:
            if name not in known:
                raise _Refused("bad-args", _says(f"no peripheral {name!r}; there are {', '.join(able)}"))
            if name not in able:
                raise _Refused("not-supported", _says(f"{name} cannot do that; here it is for {', '.join(able)}"))
        return args

    def _refuse(self, verb: str, id_: str | None, by: str | None, reply: _Reply, refused: _Refused) -> None:
        status = self._status(
            id_ or "c-" + os.urandom(4).hex(), verb, refused.state, reason=refused.reason, result=refused.result, by=by
        )
        if id_ is not None:
            now_s = self._moment.wall_s()
            self._kept.put_refused(Record(status, {}, now_s, now_s, self._boot_id))
        self._say(status, reply)

    # --- doing it ---

    async def _see_through(self, verb: Verb, args: Any, statuses: list[CommandStatus], until_s: float) -> None:
        """From its first state to its last. `until_s`: so long it may wait, on the loop's clock."""
        id_ = statuses[0].id
        stored = await self._memory.flushed(_STORED_WITHIN_S)
        for status in statuses:
            self._say(status, self._replies[id_])
        try:
            if verb.technician and not stored:  # what is not remembered could be sent again after a restart
                await self._end(verb, id_, "failed", None, _says("the memory card takes nothing: no signed command is done"))
            elif verb.idle_only:
                await self._when_idle(verb, args, id_, until_s)
            else:
                await self._execute(verb, args, id_)
        except _Refused as refused:
            await self._end(verb, id_, refused.state, refused.reason, refused.result)

    async def _when_idle(self, verb: Verb, args: Any, id_: str, until_s: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._idle_turn.locked():
                async with self._idle_turn:
                    if verb.takes_turns:
                        if not self._session.held():
                            return await self._execute(verb, args, id_)
                    else:
                        with self._session.taken() as ours:
                            if ours:
                                return await self._execute(verb, args, id_)
            if loop.time() >= until_s:
                raise _Refused("session-active", _says("a citizen used the booth for as long as it might wait"))
            self._now_waiting(id_)
            await asyncio.sleep(min(_LOOK_AGAIN_S, max(0.05, until_s - loop.time())))

    def _now_waiting(self, id_: str) -> None:
        """A citizen came between its acceptance and its turn."""
        record = self._kept.get(id_)
        if record is not None and record.status.state == "accepted":
            self._say(self._kept.moved(id_, self._next(record, "waiting")).status, self._replies[id_])

    async def _execute(self, verb: Verb, args: Any, id_: str) -> None:
        record = self._kept.get(id_)
        assert record is not None
        executing = self._kept.moved(id_, self._next(record, "executing"))
        await self._say_stored(executing.status, self._replies[id_])
        state: CommandState = "succeeded"
        reason: Reason | None = None
        result: Result | None = None
        try:
            async with asyncio.timeout(verb.deadline_s):
                result = await verb.run(args, self._controls, Asked(id_, self._progress_of(executing), self.cancel))
        except TimeoutError:
            state, result = "timed-out", _says(f"not done in {verb.deadline_s:g} s")
        except NotDone as failure:
            state, reason, result = "failed", failure.reason, failure.result
        except Exception as error:  # whatever a verb raises ends here, as what a probe raises does in Watch
            log.exception("a command failed", extra={"verb": verb.name})
            state, result = "failed", _says(f"a fault of the agent's: {type(error).__name__}")
        await self._end(verb, id_, state, reason, result)

    def _progress_of(self, executing: Record) -> Callable[[str, int | None], None]:
        loop = asyncio.get_running_loop()
        said_s = 0.0

        def heard(step: str, pct: int | None) -> None:
            nonlocal said_s
            if loop.time() - said_s >= _PROGRESS_EVERY_S:
                said_s = loop.time()
                status = replace(executing.status, step=step, pct=pct, at=self._moment.wall())
                self._say(status, self._replies[status.id])

        return heard

    def cancel(self, id_: str) -> str | None:
        """End a command that waits, or that may be ended in the middle; the state that it is in then."""
        record, task = self._kept.get(id_), self._running.get(id_)
        if record is None:
            return None
        verb = self._verbs.get(record.status.verb)
        waits = record.status.state in ("received", "accepted", "waiting")
        if task is None or verb is None or not (waits or verb.cancellable):
            return record.status.state
        task.cancel()
        ended = self._kept.moved(id_, self._next(record, "cancelled"))
        self._do_beside(self._say_stored(ended.status, self._replies[id_]))
        return "cancelled"

    async def _end(self, verb: Verb, id_: str, state: CommandState, reason: Reason | None, result: Result | None) -> None:
        record = self._kept.get(id_)
        assert record is not None
        ended = self._kept.moved(id_, replace(self._next(record, state), reason=reason, result=result))
        if verb.technician or verb.idle_only:
            data = {"id": id_, "state": state, "by": record.status.by} | ({"reason": reason} if reason else {})
            self._record("command", verb.name, data)
        await self._say_stored(ended.status, self._replies[id_])

    def _done(self, id_: str) -> None:
        self._running.pop(id_, None)
        self._replies.pop(id_, None)

    def _after_restart(self, record: Record) -> Record:
        verb = self._verbs.get(record.status.verb)
        begun = record.status.state == "executing"
        done = verb is not None and verb.after_restart is not None and begun
        if done and verb is not None and verb.after_restart is not None:
            done = verb.after_restart(record.args, record.boot_id == self._boot_id)
        status = self._next(record, "succeeded" if done else "failed")
        if not done:
            status = replace(status, reason="interrupted", result=_says("the agent was started anew in the middle of it"))
        return self._kept.moved(status.id, status)

    def _do_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    # --- what is said ---

    def _status(
        self, id_: str, verb: str, state: CommandState, reason: Reason | None = None, result: Result | None = None,
        by: str | None = None,
    ) -> CommandStatus:  # fmt: skip
        return CommandStatus(id_, verb, state, None, None, reason, result, by, self._moment.wall())

    def _next(self, record: Record, state: CommandState) -> CommandStatus:
        status = record.status
        return self._status(status.id, status.verb, state, by=status.by)

    async def _say_stored(self, status: CommandStatus, reply: _Reply) -> None:
        await self._memory.flushed(_STORED_WITHIN_S)
        self._say(status, reply)

    def _say(self, status: CommandStatus, reply: _Reply) -> None:
        payload = encode(plain(status))
        self._publisher.follow("cmd-status", self._topic(status), payload)
        if reply.topic is not None:
            self._publisher.reply(reply.topic, payload, reply.correlation)

    def _topic(self, status: CommandStatus) -> str:
        return self._address.command_status(status.verb, status.id)

    def _forget(self, record: Record) -> None:
        self._publisher.forget(self._topic(record.status))


def _reply(message: Incoming, address: Address) -> _Reply:
    """Where an answer goes as well. Never below our own prefix: whoever may only ask must not write there by our hand."""
    topic = message.response_topic
    ours = topic is None or topic.startswith((address.prefix, "$")) or not 0 < len(topic) <= 256
    if ours or topic is None or any(letter in "+#\0" or not letter.isprintable() for letter in topic):
        return _Reply()
    return _Reply(topic, message.correlation)


def _what_is_readable(data: Mapping[str, Any]) -> Request:
    """Of a request that is wrong, what its answer needs."""
    found = Request()
    for key in ("id", "by"):
        with contextlib.suppress(Invalid):
            found = replace(found, **{key: getattr(build(Request, {key: data.get(key)}, unknown="ignore"), key)})
    return found


def _says(message: str) -> Result:
    return {"message": printable(message, 400)}


def _problems(error: Invalid) -> Result:
    shown = [{"path": problem.path, "message": printable(problem.message, 400)} for problem in error.problems[:20]]
    return {"problems": shown, "message": printable(str(error), 400)}


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
