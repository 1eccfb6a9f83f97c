"""Updates, as far as the daemon has to do with them: it carries envelopes to root, has fetched what root wants, waits for the
right moment, and proves itself when it is the new version. Root does the rest (`agent.privileged.updating`)."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from agent.contract.documents import LayerName
from agent.contract.event import EventClass
from agent.contract.messages import Incoming
from agent.contract.topics import ALL, Topic
from agent.contract.typed import Invalid, build
from agent.contract.words import printable
from agent.engine.refusals import Refusals
from agent.engine.update_parts import Downloads, Quiet, Root, Self
from agent.engine.update_reporter import UpdateReporter
from agent.engine.waiting import Queue, Waiting
from agent.rules.update_window import Moment, due, retry_s, spread_s
from agent.updates.words import Answer, Task

log = logging.getLogger(__name__)

_BUSY_AGAIN_S: Final = 5.0
_BUSY_ATTEMPTS: Final = 60
_SWITCH_ATTEMPTS: Final = 4  # the session lock is held meanwhile
_LOOK_EVERY_S: Final = 60.0  # for a quiet moment, while something waits for one
_AFTER_A_FLOOD_S: Final = 10.0
_SESSIONS_EVERY_S: Final = 15.0  # nothing announces a session
_NOW_WITHIN_S: Final = 60.0  # of the fleet's spread, where the operator wants it now
_JUST_STARTED_S: Final = 600.0
_RESTARTED_WITHIN_S: Final = 15.0
_PROOF_EVERY_S: Final = 0.5
_TIMER_S: Final = 0.01  # one may end a hair before the moment it was set for
_OFFLINE_AFTER_S: Final = 60.0
_OFFLINE_AGAIN_S: Final = 30.0


class _NoLongerWanted(Exception):
    """Root was not asked: what it wants has become another thing meanwhile."""


class Updates:
    """`working`: it is at a step during which nobody should pull the plug; `changed` is called when that is another. `ask_again`:
    have what is retained delivered once more. `run` it."""

    def __init__(
        self,
        reporter: UpdateReporter,
        record: Callable[[EventClass, str, dict[str, Any]], None],
        root: Root,
        downloads: Downloads,
        own: Self,
        quiet: Quiet,
        changed: Callable[[], None],
    ) -> None:
        self.reporter = reporter
        self._record = record
        self._refusals = Refusals(record)
        self._root = root
        self._downloads = downloads
        self._own = own
        self._quiet = quiet
        self._changed = changed
        self._queue = Queue()
        self._turn = asyncio.Lock()  # root answers one question at a time
        self._woken = asyncio.Event()
        self._something = asyncio.Event()  # is to be done
        self._tasks: list[Task] = []
        self._in_force: dict[LayerName, int] = {}  # what was accepted, by the bytes that said it
        self._due_s: dict[str, float] = {}  # when a file is fetched, by its hash
        self._attempts: dict[str, int] = {}
        self._used_s = self._began_s = quiet.mono_s()
        self._never_used = self._began_s < _JUST_STARTED_S
        self._prove_at_s = self._said_offline_s = self._began_s - _OFFLINE_AGAIN_S
        self.working = False
        self.ask_again: Callable[[], None] = lambda: None

    def desired(self, topic: Topic, message: Incoming) -> None:
        """A document arrived. An empty payload is ignored: nothing unsigned takes a layer away."""
        if message.payload:
            layer: LayerName = "fleet" if topic.address.area == ALL else "area" if topic.address.booth == ALL else "booth"
            self._queue.put(Waiting("update", layer, message.payload))

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._work())
            group.create_task(self._take_all())
            group.create_task(self._watch_sessions())

    def close(self) -> None:
        self._queue.close()

    # --- documents ---

    async def _take_all(self) -> None:
        while True:
            await self._take(await self._queue.get())
            if self._queue.was_flooded():
                log.warning("update documents came faster than root judges them: what is retained is asked for again")
                await asyncio.sleep(_AFTER_A_FLOOD_S)
                self.ask_again()

    async def _take(self, item: Waiting) -> None:
        mark = hash(item.payload)
        if self._in_force.get(item.layer) == mark and not self.reporter.complains_of(item.layer):
            self.reporter.say()  # as every connection says it again
            return
        try:
            answer = await self._ask({"act": "take", "layer": item.layer}, item.payload)
        except OSError as error:
            log.warning("root does not take an update document: %s", error, extra={"layer": item.layer})
            self.reporter.say_pending(item.layer, printable(f"not judged, and tried again: {error}", 200))
            self._queue.again(item, _LOOK_EVERY_S)
            return
        if not self.reporter.complains_of(item.layer):
            self._in_force[item.layer] = mark
        if answer.event == "accepted":
            self._record("update", "accepted", {"layer": item.layer})
            self._begin_anew()
        elif answer.event is not None:
            self._refusals.record("update", printable(answer.event, 64), {"layer": item.layer})

    # --- work ---

    async def _work(self) -> None:
        """One task after the other, each when it is due."""
        await self._learn_what_is_under_way()
        while True:
            self._woken.clear()
            left_s = {task.kind: self._left_s(task) for task in self._tasks}
            task = next((task for task in self._tasks if left_s[task.kind] <= 0), None)
            if task is None:
                try:
                    async with asyncio.timeout(max(_TIMER_S, min(left_s.values())) if left_s else None):
                        await self._woken.wait()
                except TimeoutError:
                    pass
                continue
            act = {"fetch": self._fetch, "switch": self._switch, "prove": self._prove}[task.todo]
            try:
                await act(task)
            except _NoLongerWanted:
                continue
            except OSError as error:
                log.warning("an update has to wait: %s", error, extra={"kind": task.kind, "todo": task.todo})
                await asyncio.sleep(_BUSY_AGAIN_S)

    async def _learn_what_is_under_way(self) -> None:
        """What is on trial has ten minutes, and what waits for this start needs no connection."""
        while self.reporter.reported is None:
            try:
                await self._ask({"act": "status"})
            except OSError as error:
                log.warning("root does not say what is under way: %s", error)
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _watch_sessions(self) -> None:
        """While something is to be done; nobody knows then when the booth was used before."""
        while True:
            self._disturbs()
            await asyncio.sleep(_SESSIONS_EVERY_S)
            if self.reporter.reported is not None and not self._tasks:
                await self._something.wait()
                self._used_s, self._never_used = self._quiet.mono_s(), False

    def _disturbs(self) -> bool:
        """Whether a citizen is there, or something of our own that lasts."""
        held = self._quiet.session.held()
        if held and not self._quiet.session.ours:
            self._used_s, self._never_used = self._quiet.mono_s(), False
        return held

    def _begin_anew(self) -> None:
        """After another document: what has failed may be mended, and what could wait for an hour may be wanted now."""
        self._attempts.clear()
        for task in self._tasks:
            if task.sha256 in self._due_s:
                self._due_s[task.sha256] = min(self._due_s[task.sha256], self._quiet.mono_s() + self._spread_s(task))
        self._woken.set()

    def _spread_s(self, task: Task) -> float:
        within_s = min(self._quiet.spread_s(), _NOW_WITHIN_S) if task.window == "now" else self._quiet.spread_s()
        return spread_s(self._own.booth, task.sha256, within_s)

    def _left_s(self, task: Task) -> float:
        """Until the task is due; where nobody can say, until it is to be asked again."""
        now_s = self._quiet.mono_s()
        if task.todo == "fetch":
            return self._due_s.setdefault(task.sha256, now_s + self._spread_s(task)) - now_s
        if task.todo == "prove":
            return self._prove_at_s - now_s
        if self._quiet.session.ours:  # a check, a remedy, a command: it is brought to its end
            return _BUSY_AGAIN_S
        if self._disturbs():
            return _LOOK_EVERY_S
        fresh = self._never_used and task.laid_in_boot != self._own.boot_id
        moment = Moment(fresh, self._quiet.open_now(), now_s - self._used_s)
        return 0.0 if due(task.window, moment) else _LOOK_EVERY_S

    async def _fetch(self, task: Task) -> None:
        if not self._downloads.got(task.sha256) and not await self._fetched(task):
            return
        if self._quiet.session.held():  # unpacking takes what her browser needs
            self._due_s[task.sha256] = self._quiet.mono_s() + _LOOK_EVERY_S
            return
        self.reporter.came(task)
        answer = await self._ask({"act": "stage", "kind": task.kind}, wanted=task)
        still = next((other for other in answer.tasks if other.sha256 == task.sha256 and other.todo == "fetch"), None)
        if still is not None:
            reason = str(answer.sections.get(task.kind, {}).get("reason"))
            if reason == "wrong-hash":
                self._downloads.forget([other.sha256 for other in answer.tasks if other.sha256 != task.sha256])
            self._later(task, reason)

    async def _fetched(self, task: Task) -> bool:
        """Whether the file is there now. A download that is no longer wanted is ended."""
        attempt = self._attempts.get(task.sha256, 0) + 1
        self.reporter.comes(task, attempt, pct=0)
        fetching = asyncio.ensure_future(
            self._downloads.fetch(task.url, task.size_bytes, task.sha256, lambda pct: self.reporter.comes(task, attempt, pct=pct))
        )
        try:
            while not fetching.done():
                await self._woken_or(fetching)
                if not any((other.sha256, other.url) == (task.sha256, task.url) for other in self._tasks):
                    return False
            await fetching
        except OSError as error:
            reason = printable(str(getattr(error, "reason", "not-fetched")), 64)
            log.warning("an update was not fetched: %s", error, extra={"kind": task.kind, "reason": reason})
            self._later(task, reason)
            self.reporter.comes(task, self._attempts[task.sha256], reason=reason)
            self.reporter.tell()
            return False
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
        return True

    async def _woken_or(self, other: "asyncio.Future[None]") -> None:
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait((other, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        self._woken.clear()

    def _later(self, task: Task, reason: str) -> None:
        attempts = self._attempts[task.sha256] = self._attempts.get(task.sha256, 0) + 1
        self._due_s[task.sha256] = self._quiet.mono_s() + retry_s(attempts, reason)

    async def _switch(self, task: Task) -> None:
        with self._quiet.session.taken() as ours:
            if not ours:
                return  # she came at this very moment
            self._show_working(switching=True)
            try:
                answer = await self._ask({"act": "switch", "kind": task.kind}, wanted=task, attempts=_SWITCH_ATTEMPTS)
                now = next((other for other in answer.tasks if other.kind == task.kind), None)
                if now is not None and now.todo == "fetch" and now.sha256 == task.sha256:  # the card reads it no more
                    self._later(task, str(answer.sections.get(task.kind, {}).get("reason")))
                if now is not None and now.todo == "prove":
                    # Root has us started anew, and no session begins before our goodbye.
                    await self._replaced()
            except (OSError, _NoLongerWanted):
                self._show_working()
                raise

    async def _prove(self, task: Task) -> None:
        """That this version works: every peripheral was looked at, the store is readable, a word came back from the broker. Where
        none comes, root finds out whether that is the version's fault."""
        if task.version != self._own.version:  # the one before: it was switched, and nobody has started us anew
            await self._replaced()
        now_s, online = self._quiet.mono_s(), self._own.online()
        self._prove_at_s = now_s + _PROOF_EVERY_S
        offline = now_s >= max(self._began_s + _OFFLINE_AFTER_S, self._said_offline_s + _OFFLINE_AGAIN_S)
        if self._own.probed() and self._own.readable() and (online or offline):
            self._prove_at_s = now_s + _BUSY_AGAIN_S
            self._said_offline_s = now_s
            await self._ask({"act": "healthy", "version": self._own.version, "online": online})

    async def _replaced(self) -> None:
        """Root has the other version started in our place; where it cannot, whoever runs us does it when we end."""
        await asyncio.sleep(_RESTARTED_WITHIN_S)
        self._own.end()
        await asyncio.Event().wait()

    def _show_working(self, *, switching: bool = False) -> None:
        """At a switch, and while what is on trial proves itself: but not while it only waits for a network to come."""
        proving = any(
            task.todo == "prove" and self.reporter.section(task.kind).get("reason") != "offline" for task in self._tasks
        )
        if self.working != (switching or proving):
            self.working = switching or proving
            self._changed()

    # --- root ---

    async def _ask(
        self, request: Mapping[str, Any], message: bytes = b"", wanted: Task | None = None, attempts: int = _BUSY_ATTEMPTS
    ) -> Answer:
        """Root's answer, which is published too; not asked unless the task is still `wanted`. Raises OSError where there is none
        in some minutes."""
        data = await self._answered(request, message, wanted, attempts)
        try:
            answer = build(Answer, data, unknown="ignore")  # root's program is the installed one, and may be newer
        except Invalid as error:
            raise ConnectionResetError(f"root's answer is none: {error.problems[0]}") from error
        self._tasks = answer.tasks
        self._forget_all_but({task.sha256 for task in answer.tasks if task.todo == "fetch"})
        self.reporter.answered(answer.reported, answer.tasks)
        self._show_working()
        (self._something.set if self._tasks else self._something.clear)()
        self._woken.set()
        return answer

    def _heard(self, data: dict[str, Any]) -> None:
        """Root says at which step it is."""
        with contextlib.suppress(Invalid):
            self.reporter.at_a_step(build(Answer, data, unknown="ignore").reported)

    def _forget_all_but(self, to_fetch: Collection[str]) -> None:
        still_known = {task.sha256 for task in self._tasks if task.todo != "prove"}
        self._due_s = {sha256: due_s for sha256, due_s in self._due_s.items() if sha256 in still_known}
        self._attempts = {sha256: attempts for sha256, attempts in self._attempts.items() if sha256 in still_known}
        self._downloads.forget(to_fetch)

    async def _answered(self, request: Mapping[str, Any], message: bytes, wanted: Task | None, attempts: int) -> dict[str, Any]:
        for attempt in range(attempts):
            async with self._turn:
                if wanted is not None and wanted not in self._tasks:
                    raise _NoLongerWanted
                try:
                    return await self._root.ask(request, message, self._heard)
                except OSError as error:
                    if attempt == attempts - 1:
                        raise
                    log.info("root does not answer now: %s", error)
            await asyncio.sleep(min(_BUSY_AGAIN_S, 0.1 * 2**attempt))  # it may just be ending
        raise AssertionError
