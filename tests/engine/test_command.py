"""The Commander on a virtual clock: turns, deadlines, limits, ids, clocks that jump, and a memory card that takes nothing."""

import asyncio
import base64
import itertools
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from agent.contract.messages import Incoming
from agent.contract.topics import Address, Topic
from agent.engine.authority import CODE_GOOD_S, Authority, TicketCode
from agent.engine.command import Commander, Moment
from agent.engine.publish import Publisher
from agent.engine.rate import Rate
from agent.engine.takeover import Takeovers
from agent.system.clock import rfc3339
from agent.verbs import declared
from agent.verbs.declaration import Asked, Limit, NotDone, Nothing, Result, Verb
from tests.engine.test_publish import Link
from tests.virtual_time import virtual_run

ADDRESS = Address("61", "61-0007")
NOON_S = 1_790_000_000.0
_CODES = itertools.count()


class Session:
    """The lock. `citizen`: she has it."""

    openable = True
    ours = False

    def __init__(self) -> None:
        self.citizen = False

    def held(self) -> bool:
        return self.citizen

    @contextmanager
    def taken(self) -> Iterator[bool]:
        yield not self.citizen


class Card:
    """The store: what is kept, and whether it takes anything now."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.works = True

    def save(self, key: str, value: Any) -> None:
        if value is None:
            self.rows.pop(key, None)
        else:
            self.rows[key] = json.loads(json.dumps(value))

    async def flushed(self, _deadline_s: float) -> bool:
        await asyncio.sleep(0)
        return self.works


class Queue:
    async def pending(self, _after: int, _limit: int) -> list[Any]:
        return []

    def acknowledge(self, _position: int) -> None: ...
    def bury(self, _position: int, _reason: str) -> None: ...


class Verifier:
    """Believes what says `"good": true`, a second later."""

    asked = 0

    async def ask(self, question: Mapping[str, Any], message: bytes = b"") -> dict[str, Any]:
        self.asked += 1
        await asyncio.sleep(1)
        inside = json.loads(base64.b64decode(json.loads(message)["payload"]))
        if not inside.pop("good", False):
            return {"outcome": "refused", "errors": [{"code": "bad-signature", "path": "", "message": "no"}]}
        return {"outcome": "accepted", "errors": [], "request": {"booth": "61-0007", "verb": question["verb"], **inside}}


Does = Callable[[Any, Any, Asked], Awaitable[Result]]


async def _nothing(_args: Any, _controls: Any, _asked: Asked) -> Result:
    return {}


@dataclass
class Desk:
    """A commander and everybody around it. `does`: what each verb of the test does."""

    does: dict[str, Does] = field(default_factory=dict)
    more: dict[str, dict[str, Any]] = field(default_factory=dict)
    card: Card = field(default_factory=Card)
    boot_id: str = "first"
    wall_s: float = NOON_S

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.began_s = self.loop.time()
        self.session, self.link, self.verifier = Session(), Link(window=1_000_000), Verifier()
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.publisher = Publisher(ADDRESS, self.link, Queue(), 3600, lambda: None)
        self.code = TicketCode(self.loop.time, lambda count: bytes(next(_CODES) % 251 for _ in range(count)))
        verbs = {name: Verb(name, "", Nothing, run, **self.more.get(name, {})) for name, run in self.does.items()}
        verbs |= {name: verb for name, verb in declared().items() if name == "cancel"}
        self.commander = Commander(
            ADDRESS, self.publisher, verbs, self, self.session, self.card,  # type: ignore[arg-type]
            Authority(self.verifier, {}, "61-0007", self.wall, lambda: frozenset({"k"})), self.code,
            Moment(self.wall, self.now_s, lambda: True), self.boot_id,
            lambda class_, code, data: self.events.append((class_, code, data)),
        )  # fmt: skip

    def able(self, _ability: str) -> tuple[str, ...]:
        return ("board",)

    def now_s(self) -> float:
        return self.wall_s + self.loop.time() - self.began_s

    def wall(self) -> str:
        return rfc3339(self.now_s())

    def send(self, verb: str, id_: str, **request: Any) -> None:
        payload = json.dumps({"id": id_, **request}).encode()
        topic = f"{ADDRESS.root}/cmd/{verb}/req"
        parsed = Topic.parse(topic)
        assert parsed is not None
        self.commander.request(parsed, Incoming(topic, payload, retained=False))

    def envelope(self, verb: str, id_: str, *, good: bool = True, keyid: str = "k", **request: Any) -> None:
        times = {"issued_at": self.wall(), "expires_at": rfc3339(self.now_s() + 60)}
        inside = json.dumps({"id": id_, "good": good, "args": {}, **times, **request}).encode()
        payload = base64.b64encode(inside).decode()
        message = {"payload": payload, "payloadType": "x", "signatures": [{"keyid": keyid, "sig": "AAAA"}]}
        topic = f"{ADDRESS.root}/cmd/{verb}/req"
        parsed = Topic.parse(topic)
        assert parsed is not None
        self.commander.request(parsed, Incoming(topic, json.dumps(message).encode(), retained=False))

    def dated(self, for_s: float = 60.0) -> dict[str, str]:
        return {"issued_at": self.wall(), "expires_at": rfc3339(self.now_s() + for_s)}

    def said(self, id_: str) -> list[dict[str, Any]]:
        mine = [message for message in self.link.sent if f"/{id_}/status" in message.topic]
        return [json.loads(message.payload) for message in mine]

    def states(self, id_: str) -> list[str]:
        return [status["state"] for status in self.said(id_)]

    def end(self, id_: str) -> tuple[str, str | None]:
        last = self.said(id_)[-1]
        return last["state"], last["reason"]

    async def close(self) -> None:
        self.commander.close()
        await self.publisher.close()
        await asyncio.sleep(0)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual_run(test)


def lasting(seconds: float) -> Does:
    async def does(_args: Any, _controls: Any, _asked: Asked) -> Result:
        await asyncio.sleep(seconds)
        return {"lasted_s": seconds}

    return does


# --- how it ends ---


def test_what_takes_too_long_is_timed_out_and_a_fault_of_ours_is_no_end_of_anything() -> None:
    async def broken(_args: Any, _controls: Any, _asked: Asked) -> Result:
        raise ZeroDivisionError

    async def refused(_args: Any, _controls: Any, _asked: Asked) -> Result:
        raise NotDone("no paper", "busy", codes=["media-empty"])

    async def test() -> None:
        desk = Desk({"slow": lasting(100), "broken": broken, "refused": refused}, {"slow": {"deadline_s": 5.0}})
        for verb in ("slow", "broken", "refused"):
            desk.send(verb, verb)
        await asyncio.sleep(6)
        assert desk.end("slow") == ("timed-out", None)
        assert desk.said("slow")[-1]["result"] == {"message": "not done in 5 s"}
        assert desk.end("broken") == ("failed", None)
        assert "ZeroDivisionError" in desk.said("broken")[-1]["result"]["message"]
        assert desk.end("refused") == ("failed", "busy")
        assert desk.said("refused")[-1]["result"]["codes"] == ["media-empty"]
        await desk.close()

    run(test)


# --- turns ---


def test_what_needs_the_booth_idle_goes_one_at_a_time_and_is_busy_not_a_citizens() -> None:
    async def test() -> None:
        desk = Desk({"first": lasting(5), "second": lasting(1)}, {verb: {"idle_only": True} for verb in ("first", "second")})
        desk.send("first", "a")
        desk.send("second", "b")
        desk.send("second", "c", wait_s=60)
        desk.send("second", "d", wait_s=2)
        await asyncio.sleep(20)
        assert desk.states("a") == ["received", "accepted", "executing", "succeeded"]
        assert (desk.states("b"), desk.end("b")) == (["refused"], ("refused", "busy"))
        assert desk.states("c") == ["received", "accepted", "waiting", "executing", "succeeded"]
        assert desk.end("d") in (("refused", "busy"), ("succeeded", None)), "its wait was over in the middle of the first"
        await desk.close()

    run(test)


def test_a_wait_ends_with_its_reason() -> None:
    async def test() -> None:
        desk = Desk({"idle": _nothing}, {"idle": {"idle_only": True}})
        desk.session.citizen = True
        desk.send("idle", "a", wait_s=5)
        desk.send("idle", "b", wait_s=600, **desk.dated(10))
        await asyncio.sleep(60)
        assert (desk.states("a"), desk.end("a")[1]) == (["received", "accepted", "waiting", "refused"], "session-active")
        assert desk.states("b") == ["received", "accepted", "waiting", "expired"]
        await desk.close()

    run(test)


def test_eight_of_anybodys_are_enough_and_a_technician_cancels_them_all_the_same() -> None:
    async def test() -> None:
        desk = Desk({"idle": _nothing}, {"idle": {"idle_only": True}})
        desk.session.citizen = True
        for number in range(9):
            desk.send("idle", f"w-{number}", wait_s=86_400)
        await asyncio.sleep(1)
        assert desk.end("w-8") == ("refused", "busy")
        desk.envelope("cancel", "t-1", args={"id": "w-0"})
        await asyncio.sleep(3)
        assert (desk.end("t-1"), desk.end("w-0")) == (("succeeded", None), ("cancelled", None))
        await desk.close()

    run(test)


def test_what_is_cancelled_before_it_was_said_is_said_whole() -> None:
    async def test() -> None:
        desk = Desk({"idle": _nothing}, {"idle": {"idle_only": True}})
        desk.session.citizen = True
        desk.send("idle", "a", wait_s=60)
        assert desk.commander._under_way.cancel("a") == "cancelled"
        await asyncio.sleep(1)
        assert desk.states("a") == ["received", "accepted", "waiting", "cancelled"]
        await desk.close()

    run(test)


# --- ids ---


def test_nobody_takes_an_id_from_a_technician_and_a_refusal_of_hers_stays_one() -> None:
    async def test() -> None:
        desk = Desk({"look": _nothing, "fix": _nothing}, {"fix": {"technician": True, "idle_only": True}})
        desk.send("look", "c-1")
        await asyncio.sleep(1)
        desk.envelope("fix", "c-1")
        await asyncio.sleep(3)
        assert desk.end("c-1") == ("succeeded", None)
        assert desk.said("c-1")[-1]["verb"] == "fix"
        desk.session.citizen = True
        desk.envelope("fix", "c-2")
        await asyncio.sleep(3)
        assert desk.end("c-2") == ("refused", "session-active")
        desk.session.citizen = False
        for number in range(300):  # a flood, and a restart
            desk.send("nonsense", f"n-{number}")
            await asyncio.sleep(0.05)
        again = Desk({"fix": _nothing}, {"fix": {"technician": True, "idle_only": True}}, desk.card, wall_s=desk.now_s())
        again.commander.remember(desk.card.rows)
        again.envelope("fix", "c-2")
        await asyncio.sleep(3)
        assert "executing" not in again.states("c-2")
        assert again.end("c-2") == ("refused", "session-active")
        for one in (desk, again):
            await one.close()

    run(test)


def test_what_nobody_signed_is_said_once_and_leaves_nothing_behind() -> None:
    async def test() -> None:
        desk = Desk({"fix": _nothing}, {"fix": {"technician": True}})
        for number in range(500):
            desk.send("fix", f"f-{number}")
            desk.envelope("fix", f"g-{number}", keyid="nobody's")
            await asyncio.sleep(0.1)
        assert desk.end("f-499") == ("refused", "not-signed")
        assert desk.end("g-499") == ("refused", "untrusted-key")
        assert desk.publisher._image == {}, "nothing to be said again"
        assert desk.card.rows == {}, "no write to the card"
        assert desk.verifier.asked == 0, "no process"
        await desk.close()

    run(test)


def test_a_clock_that_was_ahead_forbids_nothing_for_ever_and_makes_no_old_bytes_good() -> None:
    async def test() -> None:
        desk = Desk({"fix": _nothing}, {"fix": {"technician": True, "limit": Limit(1, 3600.0)}})
        times: dict[str, Any] = {**desk.dated(600)}
        desk.envelope("fix", "s-1", **times)
        await asyncio.sleep(3)
        desk.wall_s += 2 * 86_400
        desk.envelope("fix", "s-2")
        await asyncio.sleep(3)
        desk.wall_s -= 2 * 86_400
        desk.envelope("fix", "s-1", **times)
        await asyncio.sleep(3)
        assert desk.states("s-1").count("executing") == 1
        desk.envelope("fix", "s-3")
        await asyncio.sleep(3)
        assert desk.end("s-3") == ("refused", "rate-limited")
        desk.wall_s += 3700
        desk.envelope("fix", "s-4")
        await asyncio.sleep(3)
        assert desk.end("s-4") == ("succeeded", None)
        await desk.close()

    run(test)


# --- limits ---


def test_what_nobody_signed_has_one_budget_which_comes_back() -> None:
    async def test() -> None:
        desk = Desk({"look": _nothing, "fix": _nothing}, {"fix": {"technician": True}})
        for number in range(200):
            desk.send("look", f"l-{number}")
            await asyncio.sleep(0.025)  # below fifty a second
        refused = [number for number in range(200) if desk.end(f"l-{number}") == ("refused", "rate-limited")]
        assert 100 < len(refused) < 140
        desk.envelope("fix", "t-1")
        await asyncio.sleep(3)
        assert desk.end("t-1") == ("succeeded", None), "a technician is not held up by it"
        desk.send("look", "later")
        await asyncio.sleep(1)
        assert desk.end("later") == ("succeeded", None)
        await desk.close()

    run(test)


def test_what_is_beyond_fifty_a_second_is_dropped_and_told_once_a_minute() -> None:
    async def test() -> None:
        told: list[int] = []
        rate = Rate(told.append)
        admitted = sum(rate.admits() for _ in range(1000))
        assert admitted == 50
        await asyncio.sleep(61)
        assert told == [950]
        rate.close()

    run(test)


# --- a restart, and a card ---


def test_a_reboot_is_done_in_another_boot_and_interrupted_in_the_same() -> None:
    async def test() -> None:
        options = {"boot": {"after_restart": lambda _args, same_boot: not same_boot}}
        for boot_id, end in (("second", ("succeeded", None)), ("first", ("failed", "interrupted"))):
            desk = Desk({"boot": lasting(60)}, options)
            desk.send("boot", "r-1")
            await asyncio.sleep(1)
            assert desk.end("r-1") == ("executing", None)
            await desk.close()
            again = Desk({"boot": lasting(60)}, options, desk.card, boot_id)
            again.commander.remember(desk.card.rows)
            await asyncio.sleep(1)
            assert again.end("r-1") == end
            await again.close()

    run(test)


def test_what_a_memory_is_needed_for_is_not_done_without() -> None:
    async def test() -> None:
        begun: list[str] = []

        def noting(name: str) -> Does:
            async def does(_args: Any, _controls: Any, _asked: Asked) -> Result:
                begun.append(name)
                return {}

            return does

        desk = Desk(
            {name: noting(name) for name in ("look", "fix", "boot")},
            {"fix": {"technician": True}, "boot": {"after_restart": lambda _args, same_boot: not same_boot}},
        )
        desk.card.works = False
        desk.send("look", "a")
        desk.envelope("fix", "b")
        desk.send("boot", "c")
        await asyncio.sleep(3)
        assert begun == ["look"]
        assert [desk.end(id_)[0] for id_ in "abc"] == ["succeeded", "failed", "failed"]
        assert "memory card" in desk.said("b")[-1]["result"]["message"]
        await desk.close()

    run(test)


def test_statuses_of_a_day_ago_are_not_said_again() -> None:
    async def test() -> None:
        desk = Desk({"look": _nothing})
        desk.send("look", "a")
        await asyncio.sleep(1)
        assert len(desk.publisher._image) == 1
        await asyncio.sleep(86_400)
        desk.commander.connected()
        assert (desk.publisher._image, desk.card.rows) == ({}, {})
        await desk.close()

    run(test)


# --- codes ---


def test_a_code_is_good_for_ten_minutes_as_it_is_typed() -> None:
    async def test() -> None:
        desk = Desk()
        code = desk.code.new()
        assert desk.code.fits(f" {code[:4].lower()}-{code[4:]}")
        await asyncio.sleep(CODE_GOOD_S - 1)
        assert desk.code.fits(code)
        await asyncio.sleep(2)
        assert not desk.code.fits(code)
        other = desk.code.new()
        desk.code.withdraw(other)
        assert not desk.code.fits(other)
        await desk.close()

    run(test)


def test_more_signed_commands_than_can_be_judged_are_told_to_come_again() -> None:
    async def test() -> None:
        desk = Desk({"fix": _nothing}, {"fix": {"technician": True}})
        for number in range(12):
            desk.envelope("fix", f"s-{number}")
        await asyncio.sleep(30)
        ends = [desk.end(f"s-{number}") for number in range(12)]
        assert ends.count(("succeeded", None)) == 8
        assert ends.count(("refused", "rate-limited")) == 4
        await desk.close()

    run(test)


# --- another client under our name ---


def test_only_a_connection_that_is_closed_again_and_again_is_taken_for_a_takeover() -> None:
    async def test() -> None:
        events: list[Any] = []
        changes: list[bool] = []
        watching = Takeovers(lambda *event: events.append(event), lambda: changes.append(watching.recent))

        async def lives(seconds: float, ends: str = "connection-lost") -> None:
            watching.connected()
            await asyncio.sleep(seconds)
            watching.lost(ends)

        for _ in range(4):
            await lives(5)
        await lives(70)  # a good one in between
        for _ in range(4):
            await lives(5)
        watching.link_lost()
        await lives(5)
        await lives(5, "no-puback")
        assert events == []
        for _ in range(6):
            await lives(5)
        assert events == [("security", "takeover", {"times": 1, "told_by": "closed-connections"})]
        await lives(5, "session-taken-over")
        assert len(events) == 1, "not again within ten minutes"
        await asyncio.sleep(1801)
        assert (changes[0], changes[-1], watching.recent) == (True, False, False)
        watching.close()

    run(test)
