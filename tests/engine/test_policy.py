"""What the daemon does with policies: it carries them to root, and says what root says; here root is a script."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.contract.event import EventClass
from agent.engine import policy
from agent.engine.policy import RootsPolicy
from agent.engine.refusals import Refusals
from agent.engine.waiting import Queue, Waiting

TOPIC = "booth/v1/61/61-0007/policy/reported"
WHEN = "2026-11-25T08:00:00.000Z"


def report(status: str = "applied", **over: Any) -> dict[str, Any]:
    rules = {"web": {"measured": "compliant", "at": WHEN, "detail": None}}
    return {
        "status": status, "layers": {"fleet": None, "area": None, "booth": None}, "effective_sha256": "ab", "sections": {},
        "errors": [], "at": WHEN, "rules": rules,
    } | over  # fmt: skip


@dataclass
class Root:
    """Answers each document with the next of `answers`; an empty one hangs up."""

    answers: list[list[dict[str, Any]]]
    asked: list[bytes] = field(default_factory=list)
    installed = True
    newest: dict[str, Any] | None = None

    async def deliver(self, _kind: str, _layer: str, message: bytes) -> AsyncIterator[dict[str, Any]]:
        self.asked.append(message)
        answer = self.answers.pop(0)
        if not answer:
            raise ConnectionResetError("busy")
        for line in answer:
            yield line

    def report(self) -> dict[str, Any] | None:
        return self.newest


class Desk:
    """`said` holds what was published, `events` what was recorded."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.said: list[dict[str, Any]] = []
        self.events: list[tuple[str, str]] = []
        self.changes = 0
        self.root = Root(list(answers))
        self._current: bytes | None = None
        self.policy = RootsPolicy(self, TOPIC, lambda: WHEN, self.record, Refusals(self.record), self.root, self.changed)  # type: ignore[arg-type]

    def retain(self, _kind: str, topic: str, payload: bytes) -> None:
        assert topic == TOPIC
        self._current = payload
        self.said.append(json.loads(payload))

    def current(self, _topic: str) -> bytes | None:
        return self._current

    def record(self, class_: EventClass, code: str, _data: dict[str, Any]) -> None:
        self.events.append((class_, code))

    def changed(self) -> None:
        self.changes += 1

    async def take(self, payload: bytes = b"policy") -> dict[str, Any] | None:
        return await self.policy.take(Waiting("policy", "booth", payload))


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_BUSY_AGAIN_S", 0.01)
    monkeypatch.setattr(policy, "_BUSY_ATTEMPTS", 3)


async def test_every_word_of_roots_is_said() -> None:
    desk = Desk([report("applying"), report("awaiting-confirmation"), report(event="applied")])
    await desk.take()
    assert [said["status"] for said in desk.said] == ["applying", "awaiting-confirmation", "applied"]
    assert desk.events == [("policy", "applied")]


async def test_a_root_that_is_busy_or_died_half_way_is_asked_again() -> None:
    desk = Desk([], [report("applying")], [report()])
    await desk.take()
    assert desk.said[-1]["status"] == "applied"
    assert len(desk.root.asked) == 3


async def test_a_root_that_never_answers_is_told_as_pending_over_what_is_in_force() -> None:
    desk = Desk([report(effective_sha256="cd")], [], [], [])
    await desk.take()
    with pytest.raises(OSError, match="root does not take"):
        await desk.take(b"another")
    desk.policy.say_pending("booth", "why")
    assert (desk.said[-1]["status"], desk.said[-1]["effective_sha256"]) == ("pending", "cd")
    assert desk.said[-1]["errors"][0]["message"] == "why"


async def test_what_is_in_force_is_not_judged_at_every_connection() -> None:
    desk = Desk([report()])
    await desk.take()
    assert await desk.take() is None
    assert len(desk.said) == 2  # said again all the same
    assert len(desk.root.asked) == 1


async def test_after_a_replay_was_refused_the_good_one_is_judged_again() -> None:
    error = {"layer": "booth", "code": "rollback", "path": "rev", "message": "older"}
    desk = Desk([report()], [report("rejected", errors=[error])], [report()])
    await desk.take(b"good")
    await desk.take(b"replayed")
    await desk.take(b"good")
    assert desk.said[-1]["status"] == "applied"
    assert len(desk.root.asked) == 3


async def test_other_keys_have_everything_judged_anew() -> None:
    desk = Desk([report()], [report()])
    await desk.take()
    desk.policy.forget()
    await desk.take()
    assert len(desk.root.asked) == 2


async def test_drift_is_recorded_once_and_stands_while_it_comes_back() -> None:
    desk = Desk()
    violated = {"web": {"measured": "violated", "at": WHEN, "detail": "another file"}}
    for _ in range(3):
        desk.root.newest = report("drifted", rules=violated, drift=["web"])
        desk.policy.reported()
    assert desk.policy.drifted == ("web",)
    assert desk.events == [("security", "policy-drift")]
    desk.policy.close()


async def test_a_report_that_is_none_says_nothing() -> None:
    desk = Desk()
    desk.root.newest = {"status": "fine"}
    desk.policy.reported()
    assert desk.said == []


async def test_a_flood_of_refusals_is_a_few_events() -> None:
    desk = Desk(*[[report("rejected", event="bad-signature", at=f"2026-11-25T08:00:00.{n:03}Z")] for n in range(50)])
    for n in range(50):
        await desk.take(b"%d" % n)
    assert len(desk.said) == 50  # each is answered
    assert len(desk.events) == 10


async def test_documents_wait_in_a_bounded_room_and_the_newest_stay() -> None:
    queue = Queue()
    for n in range(20):
        queue.put(Waiting("config", "booth", bytes([n]) * 300_000))
    kept = [(await queue.get()).payload[0] for _ in range(6)]
    assert kept == list(range(14, 20))
    assert queue.was_flooded()
    assert not queue.was_flooded()


async def test_many_small_ones_are_as_bounded_as_a_few_large_ones() -> None:
    queue = Queue()
    for n in range(50_000):
        queue.put(Waiting("config", "booth", b"%d" % n))
    assert (await queue.get()).payload == b"49968"
    assert not queue.was_flooded()  # some still wait


async def test_what_could_not_be_judged_comes_again_unless_a_newer_one_does() -> None:
    queue = Queue()
    queue.again(Waiting("config", "booth", b"old"), 0.01)
    assert (await asyncio.wait_for(queue.get(), 5)).payload == b"old"
    queue.again(Waiting("config", "booth", b"old"), 0.01)
    queue.put(Waiting("config", "booth", b"new"))
    assert (await queue.get()).payload == b"new"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.1)
    queue.close()
