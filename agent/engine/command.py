"""Takes commands: who asks, for what, and whether it is done. Contract §8.

A command is stored before anything is said of it or done about it. So the same id runs once, whoever sends it twice, and
whatever happens in between. What happens to one that is accepted: `engine.under_way`.
"""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from agent.contract.command import MAX_REQUEST_BYTES, CommandState, Reason, Request
from agent.contract.decode import BadJson, TooLarge, decode_object
from agent.contract.documents import Refusal
from agent.contract.envelope import open_envelope
from agent.contract.event import EventClass
from agent.contract.messages import Incoming
from agent.contract.topics import Address, Topic
from agent.contract.typed import Invalid, build
from agent.contract.words import printable
from agent.engine.authority import Authority, TicketCode, Unauthorised
from agent.engine.kept_commands import KeptCommands, Record
from agent.engine.publish import Publisher
from agent.engine.rate import Budget, Rate
from agent.engine.refusals import Refusals
from agent.engine.statuses import Memory, Refused, Reply, Statuses, arguments_of, problems, reply_to, says
from agent.engine.under_way import UnderWay
from agent.peripherals.surroundings import Session
from agent.verbs.declaration import Controls, NotDone, Verb

EXPIRES_S: Final = 60.0  # from arrival, where the request says nothing of it
_AHEAD_S: Final = 300.0  # so far another clock may be ahead of ours
_ENVELOPE_KEYS: Final = frozenset({"payload", "payloadType", "signatures"})


@dataclass(frozen=True)
class Moment:
    """What is asked of the clocks. `wall_s` is never below the clock's floor."""

    wall: Callable[[], str]
    wall_s: Callable[[], float]
    synced: Callable[[], bool]


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
        self._verbs = verbs
        self._controls = controls
        self._authority = authority
        self._code = ticket_code
        self._moment = moment
        self._boot_id = boot_id
        self._refusals = Refusals(record)
        self._statuses = Statuses(address, publisher, memory, moment.wall)
        self._kept = KeptCommands(memory.save, moment.wall_s, lambda forgotten: self._statuses.forget(forgotten.status))
        self._under_way = UnderWay(verbs, controls, session, self._kept, self._statuses, boot_id, record)
        self._budget = Budget()
        self._rate = Rate(lambda dropped: record("command", "rate-limited", {"dropped": dropped}))

    def remember(self, state: Mapping[str, Any]) -> None:
        """What was taken before the restart."""
        self._kept.load(state)
        for record in [self._under_way.after_restart(record) for record in list(self._kept)]:
            self._statuses.say(record.status)
        self._kept.prune()

    def connected(self) -> None:
        """A new connection is about to be told everything again: what is a day old is not."""
        self._kept.prune()

    def request(self, topic: Topic, message: Incoming) -> None:
        """A request arrived."""
        if not self._rate.admits():
            return
        verb, reply = topic.names[0], reply_to(message, self._address)
        try:
            data = decode_object(message.payload, MAX_REQUEST_BYTES) if message.payload else {}
        except BadJson as error:
            reason: Reason = "too-large" if isinstance(error, TooLarge) else "bad-args"
            if verb in self._verbs and self._verbs[verb].technician:
                reason = "not-signed"
            self._refuse(verb, Request(), reply, Refused(reason, says(str(error))), believed=False)
            return
        if data.keys() >= _ENVELOPE_KEYS:
            self._under_way.do_beside(self._take_signed(verb, message, reply))
        else:
            self._take_plain(verb, data, retained=message.retained, reply=reply)

    def close(self) -> None:
        """What is under way stays as it is stored."""
        self._rate.close()
        self._under_way.close()

    # --- who asks ---

    def _take_plain(self, name: str, data: Mapping[str, Any], *, retained: bool, reply: Reply) -> None:
        problem: Invalid | None = None
        try:
            request = build(Request, _without_nulls(data), unknown="ignore")
        except Invalid as error:
            request, problem = _what_is_readable(data), error
        by_code = name in self._verbs and self._verbs[name].technician
        if self._say_again(request.id, reply, signed=by_code):
            return
        try:
            if by_code:
                self._check_code(request)
            verb = self._known(name, retained=retained)
        except Refused as refused:
            self._refuse(name, request, reply, refused, believed=False)
            return
        try:
            self._admit(verb, request, reply, problem=problem, by_code=by_code)
        except Refused as refused:
            self._refuse(name, request, reply, refused, signed=by_code)

    def _check_code(self, request: Request) -> None:
        """Proof of standing in front of the booth. Its use is noted where the command is taken."""
        if request.code is None or request.id is None or request.issued_at is None or request.expires_at is None:
            raise Refused("not-signed", says("sign it, or give id, issued_at, expires_at and the code of the booth's ticket"))
        if not self._code.fits(request.code):
            self._refusals.record("command", "not-signed", {"id": request.id})
            raise Refused("not-signed", says("not the code of the last ticket; or it is older than ten minutes, or used"))

    async def _take_signed(self, name: str, message: Incoming, reply: Reply) -> None:
        try:
            signed = await self._authority.judge(name, message.payload)
        except Unauthorised as error:
            self._refusals.record("command", error.reason, {"verb": name, "message": printable(str(error), 200)})
            self._refuse(name, self._claimed(message.payload), reply, Refused(error.reason, says(str(error))), believed=False)
            return
        request = Request(signed.id, signed.args, signed.wait_s, signed.issued_at, signed.expires_at, signed.by)
        if self._say_again(signed.id, reply, signed=True):
            return
        try:
            verb = self._known(name, retained=message.retained)
        except Refused as refused:
            self._refuse(name, request, reply, refused, believed=False)
            return
        try:
            self._admit(verb, request, reply, signed=True)
        except Refused as refused:
            self._refuse(name, request, reply, refused, signed=True)

    def _claimed(self, envelope: bytes) -> Request:
        """What a request that is not believed calls itself, so that its sender hears of it; or nothing."""
        with contextlib.suppress(Refusal, BadJson):
            request = _what_is_readable(decode_object(open_envelope(envelope).payload, MAX_REQUEST_BYTES))
            if request.id is None or all(self._kept.get(request.id, signed=signed) is None for signed in (True, False)):
                return Request(request.id)
        return Request()

    def _say_again(self, id_: str | None, reply: Reply, *, signed: bool) -> bool:
        known = None if id_ is None else self._kept.get(id_, signed=signed)
        if known is not None:
            self._statuses.say(known.status, reply)
        return known is not None

    def _known(self, name: str, *, retained: bool) -> Verb:
        if retained:
            raise Refused("retained", says("a command is not retained: publish it without"))
        if name not in self._verbs:
            raise Refused("unknown-verb", says(f"known here: {', '.join(sorted(self._verbs))}"))
        return self._verbs[name]

    # --- whether it is done ---

    def _admit(
        self, verb: Verb, request: Request, reply: Reply, *, signed: bool = False, by_code: bool = False,
        problem: Invalid | None = None,
    ) -> None:  # fmt: skip
        """Raises Refused. `problem`: what is wrong with the request itself."""
        if problem is not None:
            raise Refused("bad-args", problems(problem))
        now_s = self._moment.wall_s()
        expires_s = self._check_times(request, now_s, signed=signed)
        args = self._arguments(verb, request.args)
        if verb.limit is not None and self._kept.started_within(verb.name, verb.limit.within_s) >= verb.limit.times:
            raise Refused("rate-limited", says(f"at most {verb.limit.times} within {verb.limit.within_s:g} s"))
        waits = self._under_way.has_to_wait(verb, request.wait_s)
        if not (signed or by_code) and not self._budget.takes():
            raise Refused("rate-limited", says("too many commands that nobody signed: send it again in a moment"))
        if by_code and request.code is not None:
            self._code.withdraw(request.code)
        if verb.limit is not None:
            self._kept.count(verb.name, verb.limit.within_s)
        id_ = request.id or _new_id()
        states: tuple[CommandState, ...] = ("received", "accepted", "waiting") if waits else ("received", "accepted")
        said = [self._statuses.make(id_, verb.name, state, by=request.by) for state in states]
        record = Record(said[-1], request.args, now_s, expires_s, self._boot_id, signed or by_code)
        self._kept.put(record)
        self._under_way.begin(verb, args, record, said, reply, request.wait_s, expires_s - now_s)

    def _check_times(self, request: Request, now_s: float, *, signed: bool) -> float:
        """When it is no longer good, by the wall clock."""
        here = f"here it is {self._moment.wall()}"
        if request.expires_at is not None and _seconds(request.expires_at) <= now_s:  # below the clock's floor, too
            raise Refused(None, says(f"it was good until {request.expires_at}; {here}"), "expired")
        if signed and not self._moment.synced():
            raise Refused("clock-unsynced", says("this booth's clock is not synchronised yet: nothing signed is taken"))
        if request.issued_at is not None and _seconds(request.issued_at) > now_s + _AHEAD_S and self._moment.synced():
            raise Refused("outside-window", says(f"it is issued at {request.issued_at}; {here}"))
        return now_s + max(EXPIRES_S, request.wait_s) if request.expires_at is None else _seconds(request.expires_at)

    def _arguments(self, verb: Verb, given: Mapping[str, Any]) -> Any:
        try:
            args: Any = build(verb.args, given)
        except Invalid as error:
            raise Refused("bad-args", problems(error)) from error
        self._check_names(verb, args)
        if verb.check is not None:
            try:
                verb.check(args, self._controls)
            except NotDone as error:
                raise Refused(error.reason or "not-supported", says(str(error))) from error
        return args

    def _check_names(self, verb: Verb, args: Any) -> None:
        if verb.ability is None:
            return
        able, known = self._controls.able(verb.ability), self._controls.able("probe")
        if not able:
            raise Refused("not-supported", says("this booth has nothing that it could be done with"))
        for name in arguments_of(args):
            if name not in known:
                raise Refused("bad-args", says(f"no peripheral {name!r}; there are {', '.join(able)}"))
            if name not in able:
                raise Refused("not-supported", says(f"{name} cannot do that; here it is for {', '.join(able)}"))

    def _refuse(
        self, verb: str, request: Request, reply: Reply, refused: Refused, *, believed: bool = True, signed: bool = False
    ) -> None:  # fmt: skip
        """`believed` false: it is said once, and forgotten; nobody may take an id from the one whose it is, or have us remember
        what anybody may send. `signed`: a technician takes it as said, so it stays refused, over a restart too."""
        id_ = request.id or _new_id()
        status = self._statuses.make(id_, verb, refused.state, refused.reason, refused.result, request.by)
        if not believed:
            self._statuses.say_once(status, reply)
            return
        now_s = self._moment.wall_s()
        good_until_s = now_s if request.expires_at is None else _seconds(request.expires_at)
        record = Record(status, {}, now_s, good_until_s, self._boot_id, signed)
        (self._kept.put if signed else self._kept.put_refused)(record)
        self._statuses.say(status, reply)


def _new_id() -> str:
    return "c-" + os.urandom(4).hex()


def _without_nulls(data: Mapping[str, Any]) -> dict[str, Any]:
    """Every key is optional, and a client may write null for one that it leaves out."""
    return {key: value for key, value in data.items() if value is not None}


def _what_is_readable(data: Mapping[str, Any]) -> Request:
    """Of a request that is wrong, what its answer needs."""
    found = Request()
    for key in ("id", "by"):
        with contextlib.suppress(Invalid):
            found = replace(found, **{key: getattr(build(Request, {key: data.get(key)}, unknown="ignore"), key)})
    return found


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
