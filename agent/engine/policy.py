"""The policy, as far as the daemon has to do with it: it carries envelopes to root, and says what root says. Decision 15."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final, Protocol

from agent.contract.decode import encode
from agent.contract.documents import DocumentError, LayerName, PolicyReported
from agent.contract.event import EventClass
from agent.contract.typed import Invalid, build, plain
from agent.contract.words import printable
from agent.engine.publish import Publisher
from agent.engine.refusals import Refusals
from agent.engine.waiting import Waiting

log = logging.getLogger(__name__)

_LAYERS: Final[tuple[LayerName, ...]] = ("fleet", "area", "booth")
_BUSY_AGAIN_S: Final = 5.0
_BUSY_ATTEMPTS: Final = 60
_DRIFT_SHOWN_S: Final = 1000.0  # the finding: longer than root's check is away, so that what comes back again and again stands


class Root(Protocol):
    """Root's lockdown, which judges policies and trust lists itself."""

    @property
    def installed(self) -> bool: ...
    def deliver(self, kind: str, layer: str, message: bytes) -> AsyncIterator[dict[str, Any]]: ...
    def report(self) -> dict[str, Any] | None: ...


class RootsPolicy:
    """`drifted`: rules that root found not to be as the policy says; `changed` is called when that comes or goes."""

    def __init__(
        self,
        publisher: Publisher,
        topic: str,
        wall: Callable[[], str],
        record: Callable[[EventClass, str, dict[str, Any]], None],
        refusals: Refusals,
        root: Root,
        changed: Callable[[], None],
    ) -> None:
        """`topic`: where it is reported."""
        self._publisher = publisher
        self._topic = topic
        self._wall = wall
        self._record = record
        self._refusals = refusals
        self._root = root
        self._changed = changed
        self._in_force: dict[LayerName, int] = {}  # what was accepted, by the bytes that said it
        self._newest: PolicyReported | None = None
        self._drift_timer: asyncio.TimerHandle | None = None
        self.drifted: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        return self._root.installed

    async def take(self, item: Waiting) -> dict[str, Any] | None:
        """Have root judge a policy or a trust list. Returns its last word; None where it was asked the same before, and nothing
        has changed. Raises OSError where it does not take it in some minutes."""
        mark = hash(item.payload)
        if item.kind == "policy" and self._in_force.get(item.layer) == mark and self._says_nothing_against(item.layer):
            # As every connection says it again.
            self._publisher.retain("reported-policy", self._topic, self._publisher.current(self._topic) or b"")
            return None
        report = await self._delivered(item)
        if report.get("status") == "applied":
            self._in_force[item.layer] = mark
        return report

    def forget(self) -> None:
        """Other keys count: root is to judge everything anew."""
        self._in_force.clear()

    def reported(self) -> None:
        """Root wrote another report."""
        report = self._root.report()
        if report is not None:
            self._say(report)

    def say_pending(self, layer: LayerName, why: str) -> None:
        """What is in force stays said, with why something else is not."""
        error = DocumentError(layer, "unsupported", "", why)
        before = self._newest or PolicyReported("pending", dict.fromkeys(_LAYERS), None, {}, [], self._wall())
        reported = replace(before, status="pending", errors=[*before.errors, error], at=self._wall())
        self._publisher.retain("reported-policy", self._topic, encode(plain(reported)))

    def close(self) -> None:
        if self._drift_timer is not None:
            self._drift_timer.cancel()

    def _says_nothing_against(self, layer: LayerName) -> bool:
        """Whether root's newest report is good, and has no error of a layer."""
        report = self._newest
        return report is not None and report.status == "applied" and all(error.layer != layer for error in report.errors)

    async def _delivered(self, item: Waiting) -> dict[str, Any]:
        """The last of root's reports. Raises OSError where it does not take the document in some minutes."""
        for attempt in range(_BUSY_ATTEMPTS):
            report: dict[str, Any] | None = None
            try:
                async for report in self._root.deliver(item.kind, item.layer, item.payload):
                    if item.kind == "policy":
                        self._say(dict(report))
            except OSError as error:
                log.warning("root does not take a document now: %s", error, extra={"kind": item.kind, "attempt": attempt})
            if report is not None and report.get("status") not in ("applying", "awaiting-confirmation"):
                return report
            await asyncio.sleep(_BUSY_AGAIN_S)
        raise TimeoutError("root does not take the document")

    def _say(self, report: dict[str, Any]) -> None:
        """Publish what root says, as it says it: it is checked for form alone."""
        drift = tuple(str(rule) for rule in report.pop("drift", ()))
        code = report.pop("event", None)
        try:
            reported = build(PolicyReported, report)
        except Invalid as error:
            log.warning("root's report is none: %s", error.problems[0])
            return
        if code in ("applied", "reverted"):
            self._record("policy", code, {})
        elif code is not None:
            self._refusals.record("policy", printable(str(code), 64), {})
        self._newest = reported
        violated = tuple(name for name, rule in reported.rules.items() if rule.measured == "violated")
        if reported.rules:
            self._drift(drift, violated if reported.status == "drifted" else ())
        payload = encode(plain(reported))
        if self._publisher.current(self._topic) != payload:  # it came both ways: as an answer, and as news
            self._publisher.retain("reported-policy", self._topic, payload)

    def _drift(self, found: tuple[str, ...], standing: tuple[str, ...]) -> None:
        """`found` was corrected, unless it still stands. The finding outlives the correction, and goes on as long as root's
        checks find the same again."""
        rules = tuple(sorted({*found, *standing}))
        if not rules:
            return
        if rules != self.drifted:
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
