"""Answers the operator's documents: has each judged, applies what is accepted, and says what is in force. Contract §7."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from agent.contract.decode import encode
from agent.contract.documents import DocumentError, LayerName, PolicyReported, Reported, ReportedStatus, UpdateReported
from agent.contract.event import EventClass
from agent.contract.messages import Incoming
from agent.contract.topics import ALL, Topic
from agent.contract.typed import build, plain
from agent.contract.words import printable
from agent.engine.policy import Root, RootsPolicy
from agent.engine.publish import Publisher
from agent.engine.refusals import Refusals, class_of
from agent.engine.waiting import Queue, Waiting

log = logging.getLogger(__name__)

_FIRST_LOOK_S: Final = 5.0
_LOOK_AGAIN_S: Final = 24 * 3600.0
_SAID_WITHIN_S: Final = 3.0
_AFTER_A_FLOOD_S: Final = 10.0
_BUSY_LATER_S: Final = 60.0

_NOTHING_YET: Final[Mapping[str, Any]] = {
    "layers": dict.fromkeys(("fleet", "area", "booth")), "effective_sha256": None, "sections": {},
}  # fmt: skip


class Verifier(Protocol):
    """The process that judges, as the engine needs it. `ask` raises OSError where there is no answer."""

    async def ask(self, question: Mapping[str, Any], message: bytes = b"") -> dict[str, Any]: ...


class Adopter(Protocol):
    """Makes settings the booth's. `settings`: data in the form of `agent.toml`."""

    def adopt(self, settings: Mapping[str, Any]) -> None:
        """Run with them from now on, but for the broker. Raises Invalid."""

    async def reach(self, settings: Mapping[str, Any], within_s: float) -> bool:
        """Run with them, at the broker that they name; False where it was not reached."""

    async def go_back(self) -> None:
        """Run with what was before `reach`, at the broker of then."""

    def ask_again(self) -> None:
        """Have the broker deliver what is retained once more."""


class Configurer:
    """One answer on `B/{kind}/reported` for each document that arrives; `errors` holds what is wrong now. `run` it."""

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
        self._refusals = Refusals(record)
        self._policy = RootsPolicy(publisher, reported_topic("policy"), wall, record, self._refusals, root, changed)
        self._adopter = adopter
        self._places = places
        self._issued = issued
        # Root may take its time with a policy: a configuration does not wait for that.
        self._for_root = Queue()
        self._for_us = Queue()
        self._errors: dict[str, dict[LayerName, list[DocumentError]]] = {"config": {}, "policy": {}, "update": {}}
        self._in_force: dict[tuple[str, LayerName], int] = {}  # what was accepted, by the bytes that said it
        self._said: dict[str, Any] = {}
        self._good_until: str | None = None
        self._reverted = False

    def desired(self, topic: Topic, message: Incoming) -> None:
        """A document arrived. An empty payload is ignored: nothing unsigned takes a layer away."""
        if not message.payload:
            return
        layer: LayerName = "fleet" if topic.address.area == ALL else "area" if topic.address.booth == ALL else "booth"
        item = Waiting(topic.names[0], layer, message.payload)
        through_root = item.kind in ("policy", "trust") and self._policy.installed
        (self._for_root if through_root else self._for_us).put(item)

    async def run(self) -> None:
        """Until cancelled. What is in force is said by itself only where no document arrives soon after the start."""
        self.root_reported()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve(self._for_root, lambda: _LOOK_AGAIN_S, self._nothing))
            group.create_task(self._serve(self._for_us, self._next_look_s, self._say_in_force))

    async def _serve(self, queue: Queue, look_s: Callable[[], float], otherwise: Callable[[], Awaitable[None]]) -> None:
        """One document after the other; `otherwise` where none comes for `look_s`."""
        while True:
            try:
                async with asyncio.timeout(look_s()):
                    item = await queue.get()
            except TimeoutError:
                await otherwise()
                continue
            await self._take(queue, item)
            if queue.was_flooded():
                log.warning(
                    "documents came faster than they are judged: some were passed over, what is retained is asked for again"
                )
                await asyncio.sleep(_AFTER_A_FLOOD_S)
                self._adopter.ask_again()

    async def _nothing(self) -> None:
        return

    def root_reported(self) -> None:
        """Root wrote another report."""
        self._policy.reported()

    @property
    def drifted(self) -> tuple[str, ...]:
        """Rules of the policy that the booth was found to break."""
        return self._policy.drifted

    def close(self) -> None:
        self._policy.close()
        for queue in (self._for_root, self._for_us):
            queue.close()

    # --- one document ---

    async def _take(self, queue: Queue, item: Waiting) -> None:
        try:
            if queue is self._for_root:
                report = await self._policy.take(item)
                if item.kind == "trust" and report is not None:
                    self._say_trust(report["outcome"], report)
            elif item.kind == "config":
                await self._configure(item)
            else:
                self._judged(item, await self._ask("judge", item))
        except Exception as error:  # noqa: BLE001 - whatever a document does to what judges it ends here
            log.warning("a document was not judged: %s", error, extra={"kind": item.kind, "layer": item.layer})
            self._refusals.record(item.kind, "not-judged", {"layer": item.layer, "message": printable(str(error), 200)})
            self._say_pending(queue, item, printable(f"not judged, and tried again: {error}", 200))
            queue.again(item, _BUSY_LATER_S)

    def _say_pending(self, queue: Queue, item: Waiting, why: str) -> None:
        if item.kind == "trust":
            return
        if queue is self._for_root:
            self._policy.say_pending(item.layer, why)
            return
        self._errors[item.kind][item.layer] = [DocumentError(item.layer, "unsupported", "", why)]
        self._say(item.kind, "pending")

    async def _configure(self, item: Waiting) -> None:
        key, mark = (item.kind, item.layer), hash(item.payload)
        if self._in_force.get(key) == mark and "config" in self._said:  # as every connection says it again
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

    async def _try(self, item: Waiting, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Another broker: say so while this one still hears it, and go back unless the other one is reached in time."""
        self._note(item, answer)
        await self._say_and_wait("config", "awaiting-confirmation")
        held = await self._adopter.reach(answer["settings"], answer["confirm_s"])
        if not held:
            await self._adopter.go_back()  # first of all, whatever becomes of the rest
        question = self._question("settle", item.kind, item.layer) | {"held": held}
        settled = await self._verifier.ask(question)
        if settled["settings"] is not None and not held:
            self._adopter.adopt(settled["settings"])
        return settled

    def _judged(self, item: Waiting, answer: Mapping[str, Any]) -> None:
        self._note(item, answer)
        outcome = answer["outcome"]
        if item.kind == "trust":
            self._say_trust(outcome, answer)
            return
        if outcome in ("accepted", "reverted"):
            self._record(class_of(item.kind), "applied" if outcome == "accepted" else "reverted", {"layer": item.layer})
        words: dict[str, ReportedStatus] = {"refused": "rejected", "reverted": "reverted"}
        self._say(item.kind, words.get(outcome, "applied"))

    def _note(self, item: Waiting, answer: Mapping[str, Any]) -> None:
        """Keep what an answer says, and record what is newly wrong."""
        if item.kind == "trust":
            return
        errors = [build(DocumentError, error) for error in answer["errors"]]
        before = self._errors[item.kind].get(item.layer)
        if errors:
            self._errors[item.kind][item.layer] = errors
            if before != errors:
                first = errors[0]
                self._refusals.record(item.kind, first.code, {"layer": item.layer, "path": first.path, "message": first.message})
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
        self._reverted = answer["reverted"]
        if answer["issued_at"]:
            self._issued(answer["issued_at"])

    def _say_trust(self, outcome: str, answer: Mapping[str, Any]) -> None:
        """The contract has no topic for it: an event says what became of a list."""
        if outcome == "accepted":
            self._in_force.clear()
            self._policy.forget()
            self._record("security", "trust-replaced", {})
            self._adopter.ask_again()  # what the former list refused, this one may take
        elif outcome == "refused":
            error = answer["errors"][0]
            self._refusals.record("trust", "trust-refused", {"reason": error["code"], "message": error["message"]})

    # --- what is said ---

    async def _say_in_force(self) -> None:
        try:
            answer = await self._verifier.ask(self._question("report", "config", "fleet"))
        except OSError as error:
            log.warning("what is in force cannot be told: %s", error)
            self._said.setdefault("config", _NOTHING_YET)  # it is tried again tomorrow, and with each document
            return
        self._keep(answer)
        self._say("config", "applied")

    def _say(self, kind: str, status: ReportedStatus, on_acknowledged: Callable[[], None] | None = None) -> None:
        errors = [error for of_layer in self._errors[kind].values() for error in of_layer] if kind in self._errors else []
        if status == "applied" and kind == "config" and self._reverted:
            status = "reverted"
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
        """Until what is in force is to be said by itself: soon after the start, when the first document gets stale, and daily."""
        if "config" not in self._said:
            return _FIRST_LOOK_S
        if self._good_until is None:
            return _LOOK_AGAIN_S
        left_s = (datetime.fromisoformat(self._good_until) - datetime.fromisoformat(self._wall())).total_seconds()
        return min(left_s + 1, _LOOK_AGAIN_S) if left_s > 0 else _LOOK_AGAIN_S

    # --- the verifier ---

    def _ask(self, act: str, item: Waiting) -> Awaitable[dict[str, Any]]:
        return self._verifier.ask(self._question(act, item.kind, item.layer), item.payload)

    def _question(self, act: str, kind: str, layer: LayerName) -> dict[str, Any]:
        return {"act": act, "kind": kind, "layer": layer, "now": self._wall(), **self._places}
