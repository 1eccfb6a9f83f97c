"""Answers the operator's documents: has each judged, applies what is accepted, and says what is in force. Contract §7."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol, cast

from agent.contract.decode import encode
from agent.contract.documents import DocumentError, LayerName, PolicyReported, Reported, ReportedStatus, UpdateReported
from agent.contract.event import EventClass
from agent.contract.messages import Incoming
from agent.contract.topics import ALL, Topic
from agent.contract.typed import Invalid, build, plain
from agent.contract.words import printable
from agent.engine.publish import Publisher

log = logging.getLogger(__name__)

_WAITING_BYTES: Final = 2 * 1024 * 1024  # of documents that wait for their turn
_FIRST_LOOK_S: Final = 5.0
_LOOK_AGAIN_S: Final = 24 * 3600.0
_SAID_WITHIN_S: Final = 3.0
_BUSY_AGAIN_S: Final = 5.0
_BUSY_ATTEMPTS: Final = 60
_DRIFT_SHOWN_S: Final = 600.0  # the finding, so that an alarm is raised of what was corrected within a second

_NOTHING_YET: Final[Mapping[str, Any]] = {
    "layers": dict.fromkeys(("fleet", "area", "booth")), "effective_sha256": None, "sections": {},
}  # fmt: skip


class Verifier(Protocol):
    """The process that judges, as the engine needs it. `ask` raises OSError where there is no answer."""

    async def ask(self, question: Mapping[str, Any], message: bytes = b"") -> dict[str, Any]: ...


class Root(Protocol):
    """Root's lockdown, which judges policies and trust lists itself."""

    @property
    def installed(self) -> bool: ...
    def deliver(self, kind: str, layer: str, message: bytes) -> AsyncIterator[dict[str, Any]]: ...
    def report(self) -> dict[str, Any] | None: ...


class Adopter(Protocol):
    """Makes settings the booth's. `settings`: data in the form of `agent.toml`."""

    def adopt(self, settings: Mapping[str, Any]) -> None:
        """Run with them from now on, but for the broker. Raises Invalid."""

    async def reach(self, settings: Mapping[str, Any], within_s: float) -> bool:
        """Run with them, at the broker that they name; False where it was not reached: then nothing is as before by itself."""


class _Waiting(NamedTuple):
    kind: str
    layer: LayerName
    payload: bytes


class Configurer:
    """One answer on `B/{kind}/reported` for each document that arrives; `errors` holds what is wrong now. `run` it.

    `drifted`: root found something that was not as the policy says; `changed` is called when that comes or goes.
    """

    def __init__(
        self,
        publisher: Publisher,
        reported_topic: Callable[[str], str],
        wall: Callable[[], str],
        record: Callable[[EventClass, str, dict[str, Any]], None],
        verifier: Verifier,
        root: Root,
        adopter: Adopter,
        places: Mapping[str, str],
        changed: Callable[[], None] = lambda: None,
        issued: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`places`: `config` and `state_dir`, for the verifier. `issued` is told the newest time of any accepted document."""
        self._publisher = publisher
        self._reported_topic = reported_topic
        self._wall = wall
        self._record = record
        self._verifier = verifier
        self._root = root
        self._adopter = adopter
        self._places = places
        self._changed = changed
        self._issued = issued
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._errors: dict[str, dict[LayerName, list[DocumentError]]] = {"config": {}, "policy": {}, "update": {}}
        self._in_force: dict[tuple[str, LayerName], int] = {}  # what was accepted, by the bytes that said it
        self._said: dict[str, Any] = {}
        self._good_until: str | None = None
        self._drift_timer: asyncio.TimerHandle | None = None
        self.drifted: tuple[str, ...] = ()

    def desired(self, topic: Topic, message: Incoming) -> None:
        """A document arrived. An empty payload is ignored: nothing unsigned takes a layer away."""
        if not message.payload:
            return
        layer: LayerName = "fleet" if topic.address.area == ALL else "area" if topic.address.booth == ALL else "booth"
        self._waiting.append(_Waiting(topic.names[0], layer, message.payload))
        while len(self._waiting) > 1 and sum(len(item.payload) for item in self._waiting) > _WAITING_BYTES:
            dropped = self._waiting.popleft()
            log.warning("documents arrive faster than they are judged: one was passed over", extra={"layer": dropped.layer})
        self._arrived.set()

    async def run(self) -> None:
        """Until cancelled. What is in force is said by itself only where no document arrives soon after the start."""
        self.root_reported()
        look_s = _FIRST_LOOK_S
        while True:
            try:
                async with asyncio.timeout(look_s):
                    await self._arrived.wait()
            except TimeoutError:
                await self._say_in_force()
            self._arrived.clear()
            while self._waiting:
                await self._take(self._waiting.popleft())
            look_s = self._next_look_s() if "config" in self._said else _FIRST_LOOK_S

    def root_reported(self) -> None:
        """Root wrote another report."""
        report = self._root.report()
        if report is not None:
            self._report_of_root(report)

    def close(self) -> None:
        if self._drift_timer is not None:
            self._drift_timer.cancel()

    # --- one document ---

    async def _take(self, item: _Waiting) -> None:
        try:
            if item.kind in ("policy", "trust") and self._root.installed:
                await self._through_root(item)
            elif item.kind == "config":
                await self._configure(item)
            else:
                self._judged(item, await self._ask("judge", item))
        except Exception as error:  # noqa: BLE001 - whatever a document does to what judges it ends here
            log.warning("a document was not judged: %s", error, extra={"kind": item.kind, "layer": item.layer})
            self._record(_class(item.kind), "not-judged", {"layer": item.layer, "message": printable(str(error), 200)})
            self._say(item.kind, "pending")

    async def _configure(self, item: _Waiting) -> None:
        key, mark = (item.kind, item.layer), hash(item.payload)
        if self._in_force.get(key) == mark and self._said.get("config"):  # as every connection says it again
            self._errors["config"].pop(item.layer, None)
            self._say("config", "applied")
            return
        answer = await self._ask("judge", item)
        if answer["outcome"] == "trial":
            answer = await self._try(item, answer)
        elif answer["settings"] is not None:
            self._adopter.adopt(answer["settings"])
        if answer["outcome"] in ("accepted", "known"):
            self._in_force[key] = mark
        self._judged(item, answer)

    async def _try(self, item: _Waiting, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Another broker: say so while this one still hears it, and go back unless the other one is reached in time."""
        self._note(item, answer)
        await self._say_and_wait("config", "awaiting-confirmation")
        held = await self._adopter.reach(answer["settings"], answer["confirm_s"])
        settled = await self._verifier.ask(self._question("settle", item.kind, item.layer) | {"held": held})
        if not held:
            await self._adopter.reach(settled["settings"], 0)
        return settled

    def _judged(self, item: _Waiting, answer: Mapping[str, Any]) -> None:
        self._note(item, answer)
        outcome = answer["outcome"]
        if item.kind == "trust":
            self._say_trust(outcome, answer)
            return
        if outcome in ("accepted", "reverted"):
            self._record(_class(item.kind), "applied" if outcome == "accepted" else "reverted", {"layer": item.layer})
        words: dict[str, ReportedStatus] = {"refused": "rejected", "reverted": "reverted"}
        self._say(item.kind, words.get(outcome, "applied"))

    def _note(self, item: _Waiting, answer: Mapping[str, Any]) -> None:
        """Keep what an answer says, and record what is newly wrong."""
        if item.kind == "trust":
            return
        errors = [build(DocumentError, error) for error in answer["errors"]]
        before = self._errors[item.kind].get(item.layer)
        if errors:
            self._errors[item.kind][item.layer] = errors
            if before != errors:
                first = errors[0]
                data = {"layer": item.layer, "path": first.path, "message": first.message}
                self._record(_class(item.kind), first.code, data)
                log.warning("%s document refused: %s", item.kind, first.message, extra={"code": first.code})
        else:
            self._errors[item.kind].pop(item.layer, None)
        if item.kind == "config":
            self._keep(answer)
        else:  # nothing of it is in force, and how far a booth lags is seen all the same
            self._said[item.kind] = {**_NOTHING_YET, "layers": answer["layers"]}

    def _keep(self, answer: Mapping[str, Any]) -> None:
        self._said["config"] = {key: answer[key] for key in ("layers", "effective_sha256", "sections")}
        self._good_until = answer["good_until"]
        if answer["issued_at"]:
            self._issued(answer["issued_at"])

    def _say_trust(self, outcome: str, answer: Mapping[str, Any]) -> None:
        """The contract has no topic for it: an event says what became of a list."""
        if outcome == "accepted":
            self._in_force.clear()
            self._record("security", "trust-replaced", {})
        elif outcome == "refused":
            error = answer["errors"][0]
            self._record("security", "trust-refused", {"reason": error["code"], "message": error["message"]})

    # --- root's part ---

    async def _through_root(self, item: _Waiting) -> None:
        key, mark = (item.kind, item.layer), hash(item.payload)
        topic = self._reported_topic(item.kind)
        said = self._publisher.current(topic)
        if self._in_force.get(key) == mark and said:  # as every connection says it again
            self._publisher.retain("reported-policy", topic, said)
            return
        report = await self._delivered(item)
        if item.kind == "trust":
            self._say_trust(report["outcome"], report)
        elif report["status"] == "applied":
            self._in_force[key] = mark

    async def _delivered(self, item: _Waiting) -> dict[str, Any]:
        """The last of root's reports. Raises OSError where it does not take the document in some minutes."""
        for attempt in range(_BUSY_ATTEMPTS):
            report: dict[str, Any] | None = None
            try:
                async for report in self._root.deliver(item.kind, item.layer, item.payload):
                    if item.kind == "policy":
                        self._report_of_root(dict(report))
            except OSError as error:
                log.warning("root does not take a document now: %s", error, extra={"kind": item.kind, "attempt": attempt})
            if report is not None:
                return report
            await asyncio.sleep(_BUSY_AGAIN_S)
        raise TimeoutError("root does not take the document")

    def _report_of_root(self, report: dict[str, Any]) -> None:
        """Publish what root says, as it says it: it is checked for form alone."""
        drift = tuple(str(rule) for rule in report.pop("drift", ()))
        code = report.pop("event", None)
        try:
            reported = build(PolicyReported, report)
        except Invalid as error:
            log.warning("root's report is none: %s", error.problems[0])
            return
        if code is not None:
            layer = reported.errors[0].layer if reported.errors else None
            self._record("policy", printable(str(code), 64), {"layer": layer} if layer else {})
        self._drift(drift)
        self._say_of_root(encode(plain(reported)))

    def _say_of_root(self, payload: bytes) -> None:
        topic = self._reported_topic("policy")
        if self._publisher.current(topic) != payload:  # it came both ways: as an answer, and as news
            self._publisher.retain("reported-policy", topic, payload)

    def _drift(self, rules: tuple[str, ...]) -> None:
        if not rules:
            return
        self._record("security", "policy-drift", {"rules": list(rules)})
        if self._drift_timer is not None:
            self._drift_timer.cancel()
        self._drift_timer = asyncio.get_running_loop().call_later(_DRIFT_SHOWN_S, self._drift_is_over)
        self.drifted = rules
        self._changed()

    def _drift_is_over(self) -> None:
        self._drift_timer = None
        self.drifted = ()
        self._changed()

    # --- what is said ---

    async def _say_in_force(self) -> None:
        try:
            answer = await self._verifier.ask(self._question("report", "config", "fleet"))
        except OSError as error:
            log.warning("what is in force cannot be told: %s", error)
            return
        self._keep(answer)
        self._say("config", "applied")

    def _say(self, kind: str, status: ReportedStatus, on_acknowledged: Callable[[], None] | None = None) -> None:
        errors = [error for of_layer in self._errors[kind].values() for error in of_layer] if kind in self._errors else []
        if status == "applied" and self._good_until is not None and self._good_until < self._wall():
            status = "stale"
        said = self._said.get(kind) or {
            "layers": dict.fromkeys(("fleet", "area", "booth")),
            "effective_sha256": None,
            "sections": {},
        }
        make = {"update": UpdateReported, "policy": PolicyReported}.get(kind, Reported)
        reported = make(
            status=status, layers=said["layers"], effective_sha256=said["effective_sha256"], sections=said["sections"],
            errors=errors, at=self._wall(),
        )  # fmt: skip
        name = "reported" if kind == "config" else f"reported-{kind}"
        self._publisher.retain(name, self._reported_topic(kind), encode(plain(reported)), on_acknowledged)

    async def _say_and_wait(self, kind: str, status: ReportedStatus) -> None:
        acknowledged = asyncio.Event()
        self._say(kind, status, acknowledged.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SAID_WITHIN_S):
                await acknowledged.wait()

    def _next_look_s(self) -> float:
        """Until the first document in force gets stale; once it is, once a day."""
        if self._good_until is None:
            return _LOOK_AGAIN_S
        left_s = (datetime.fromisoformat(self._good_until) - datetime.fromisoformat(self._wall())).total_seconds()
        return min(left_s + 1, _LOOK_AGAIN_S) if left_s > 0 else _LOOK_AGAIN_S

    # --- the verifier ---

    def _ask(self, act: str, item: _Waiting) -> Awaitable[dict[str, Any]]:
        return self._verifier.ask(self._question(act, item.kind, item.layer), item.payload)

    def _question(self, act: str, kind: str, layer: LayerName) -> dict[str, Any]:
        return {"act": act, "kind": kind, "layer": layer, "now": self._wall(), **self._places}


def _class(kind: str) -> EventClass:
    return "security" if kind == "trust" else cast("EventClass", kind)
