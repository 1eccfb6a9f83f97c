"""What is handed to the connection, in which order, and what becomes of it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from agent.contract.messages import Message
from agent.contract.topics import Address
from agent.engine import publish
from agent.engine.publish import NotTaken, Publisher

ADDRESS = Address("61", "61-0007")
DENIED = 0x87
WINDOW = 4


@dataclass
class Link:
    """A connection of a few messages in flight; the test is the broker."""

    connected: bool = True
    window: int = WINDOW
    sent: list[Message] = field(default_factory=list)
    in_flight: list[tuple[Message, Callable[[int], None] | None]] = field(default_factory=list)
    most_in_flight: int = 0

    @property
    def room(self) -> int:
        return max(0, self.window - len(self.in_flight)) if self.connected else 0

    def publish(self, message: Message, on_done: Callable[[int], None] | None = None) -> None:
        assert self.room, "handed over without room"
        self.sent.append(message)
        if message.qos:
            self.in_flight.append((message, on_done))
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))

    def answer(self, reason: int = 0) -> None:
        """One PUBACK, for the oldest."""
        _, on_done = self.in_flight.pop(0)
        if on_done is not None:
            on_done(reason)

    def cut(self) -> None:
        self.in_flight.clear()
        self.sent.clear()

    @property
    def topics(self) -> list[str]:
        return [message.topic.removeprefix(f"{ADDRESS.root}/") for message in self.sent]


@dataclass(frozen=True)
class Event:
    position: int
    class_: str
    body: bytes


@dataclass
class Queue:
    events: dict[int, Event] = field(default_factory=dict)
    acknowledged: list[int] = field(default_factory=list)
    buried: list[tuple[int, str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def add(self, *positions: int, class_: str = "health") -> None:
        for position in positions:
            self.events[position] = Event(position, class_, b"%d" % position)

    async def pending(self, after: int, limit: int) -> Sequence[Event]:
        found = [event for position, event in sorted(self.events.items()) if position > after][:limit]
        await self.gate.wait()
        return found

    def acknowledge(self, position: int) -> None:
        self.acknowledged.append(position)
        del self.events[position]

    def bury(self, position: int, reason: str) -> None:
        self.buried.append((position, reason))
        del self.events[position]


class Bench:
    def __init__(self, link: Link | None = None) -> None:
        self.link = link or Link()
        self.queue = Queue()
        self.denials: list[set[str]] = []
        self.publisher = Publisher(ADDRESS, self.link, self.queue, 3600, self._denied)

    def _denied(self) -> None:
        self.denials.append(set(self.publisher.denied))

    async def settle(self) -> None:
        """Let what was asked for happen; nothing here waits for anything outside."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def drain(self) -> None:
        """Answer everything, one by one."""
        await self.settle()
        while self.link.in_flight:
            self.link.answer()
            self.publisher.pump()
            await self.settle()


async def test_retained_goes_before_events() -> None:
    bench = Bench()
    bench.queue.add(1, 2)
    bench.publisher.retain("led", ADDRESS.led, b"ok")
    bench.publisher.events_stored()
    bench.publisher.retain("meta", ADDRESS.meta, b"{}")
    await bench.settle()
    assert bench.link.topics == ["led", "meta", "event/health", "event/health"]
    assert [message.retain for message in bench.link.sent] == [True, True, False, False]
    await bench.publisher.close()


async def test_only_the_newest_payload_of_a_topic_is_sent() -> None:
    bench = Bench(Link(connected=False))
    for word in (b"starting", b"broken", b"ok"):
        bench.publisher.retain("led", ADDRESS.led, word)
        await bench.settle()
    bench.link.connected = True
    bench.publisher.connected(first=())
    await bench.settle()
    assert [message.payload for message in bench.link.sent] == [b"ok"]
    assert bench.publisher.current(ADDRESS.led) == b"ok"
    await bench.publisher.close()


async def test_never_more_is_in_flight_than_there_is_room_for_and_all_of_it_arrives_in_order() -> None:
    bench = Bench()
    bench.queue.add(*range(1, 501))
    for number in range(20):
        bench.publisher.retain("alarm", ADDRESS.alarm("board", f"code-{number}"), b"{}")
    bench.publisher.events_stored()
    await bench.drain()
    assert bench.link.most_in_flight == WINDOW
    assert bench.queue.acknowledged == list(range(1, 501))
    assert len(bench.link.sent) == 520
    assert bench.link.topics[:20] == [f"alarm/board/code-{number}" for number in range(20)]
    await bench.publisher.close()


async def test_a_new_connection_says_everything_again_with_state_and_meta_first() -> None:
    bench = Bench(Link(window=100))
    alarm = ADDRESS.alarm("board", "x")
    for kind, topic in (("led", ADDRESS.led), ("alarm", alarm), ("meta", ADDRESS.meta), ("state", ADDRESS.state)):
        bench.publisher.retain(kind, topic, b"{}")
    bench.queue.add(1, 2, 3)
    bench.publisher.connected(first=(ADDRESS.state, ADDRESS.meta))
    await bench.settle()
    assert bench.link.topics == ["state", "meta", "led", "alarm/board/x", "event/health", "event/health", "event/health"]
    while bench.link.in_flight[1:]:
        bench.link.answer()  # all but the last event
    bench.link.cut()
    bench.publisher.connected(first=(ADDRESS.state, ADDRESS.meta))
    await bench.settle()
    assert bench.link.topics == ["state", "meta", "led", "alarm/board/x", "event/health"]
    assert bench.link.sent[-1].payload == b"3", "from the oldest that was not acknowledged"
    await bench.publisher.close()


async def test_an_answer_of_the_store_for_an_earlier_connection_is_not_sent_twice() -> None:
    bench = Bench()
    bench.queue.add(1, 2)
    bench.queue.gate.clear()
    bench.publisher.connected(first=())
    await bench.settle()
    bench.link.cut()
    bench.publisher.connected(first=())
    bench.queue.gate.set()
    await bench.drain()
    assert [message.payload for message in bench.link.sent] == [b"1", b"2"]
    await bench.publisher.close()


async def test_events_that_are_stored_while_the_store_is_asked_are_not_forgotten() -> None:
    bench = Bench()
    bench.queue.gate.clear()
    bench.publisher.connected(first=())
    await bench.settle()
    bench.queue.add(1)
    bench.publisher.events_stored()
    bench.queue.gate.set()
    await bench.drain()
    assert bench.queue.acknowledged == [1]
    await bench.publisher.close()


async def test_a_denied_event_is_buried_and_the_rest_goes_on() -> None:
    bench = Bench(Link(window=1))
    bench.queue.add(1, 3)
    bench.queue.add(2, class_="security")
    bench.publisher.events_stored()
    await bench.settle()
    for reason in (0, DENIED, 0):
        bench.link.answer(reason)
        bench.publisher.pump()
        await bench.settle()
    assert bench.queue.acknowledged == [1, 3]
    assert bench.queue.buried == [(2, "reason code 0x87")]
    assert set(bench.publisher.denied) == {ADDRESS.event("security")}
    assert bench.denials == [{ADDRESS.event("security")}]
    await bench.publisher.close()


async def test_a_denied_topic_is_left_alone_for_a_while_then_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    bench.publisher.retain("led", ADDRESS.led, b"ok")
    bench.publisher.retain("meta", ADDRESS.meta, b"{}")
    await bench.settle()
    bench.link.answer(DENIED)
    await bench.drain()
    bench.publisher.retain("led", ADDRESS.led, b"broken")
    await bench.drain()
    bench.link.cut()
    bench.publisher.connected(first=())
    await bench.drain()
    assert bench.link.topics == ["meta"], "a broker may hang up on whoever asks: the rest must get through"
    assert set(bench.publisher.denied) == {ADDRESS.led}

    monkeypatch.setattr(publish, "_DENIED_FOR_S", 0.0)
    bench.publisher._try_denied()
    await bench.drain()
    assert bench.link.sent[-1].payload == b"broken"
    assert not bench.publisher.denied
    assert bench.denials == [{ADDRESS.led}, set()]
    await bench.publisher.close()


async def test_events_of_a_denied_topic_hold_no_other_up_and_come_when_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Link(window=1))
    bench.queue.add(1, 3, class_="security")
    bench.queue.add(2, 4)
    bench.publisher.events_stored()
    await bench.settle()
    bench.link.answer(DENIED)
    bench.publisher.pump()
    await bench.drain()
    assert bench.queue.acknowledged == [2, 4]
    assert bench.queue.buried == [(1, "reason code 0x87")], "only what was offered and refused"

    monkeypatch.setattr(publish, "_DENIED_FOR_S", 0.0)
    bench.publisher._try_denied()
    await bench.drain()
    assert bench.queue.acknowledged == [2, 4, 3]
    assert not bench.publisher.denied
    await bench.publisher.close()


async def test_an_empty_payload_forgets_the_topic_only_once_the_broker_knows() -> None:
    bench = Bench()
    topic = ADDRESS.alarm("board", "x")
    bench.publisher.retain("alarm", topic, b"{}")
    await bench.drain()
    bench.publisher.retain("alarm", topic, b"")
    await bench.settle()
    assert bench.publisher.current(topic) == b"", "sent, and not acknowledged"
    bench.link.cut()
    bench.publisher.connected(first=())
    await bench.settle()
    (again,) = bench.link.sent
    assert (again.payload, again.retain, again.expiry_s) == (b"", True, None)
    bench.link.answer()
    assert bench.publisher.current(topic) is None
    bench.link.cut()
    bench.publisher.connected(first=())
    await bench.settle()
    assert bench.link.sent == []
    await bench.publisher.close()


async def test_a_topic_that_is_set_again_while_its_clearing_is_in_flight_stays() -> None:
    bench = Bench()
    topic = ADDRESS.alarm("board", "x")
    bench.publisher.retain("alarm", topic, b"")
    await bench.settle()
    bench.publisher.retain("alarm", topic, b"{}")
    await bench.drain()
    assert [message.payload for message in bench.link.sent] == [b"", b"{}"]
    assert bench.publisher.current(topic) == b"{}"
    await bench.publisher.close()


async def test_a_topic_that_is_cleared_while_everything_is_said_again_is_forgotten_quietly() -> None:
    bench = Bench(Link(window=1))
    topic = ADDRESS.alarm("board", "x")
    bench.publisher.retain("alarm", topic, b"")
    await bench.settle()
    bench.publisher.refresh_expiring()  # the heartbeat, while the clearing is in flight and there is no room
    bench.link.answer()
    bench.publisher.pump()
    await bench.drain()
    assert bench.publisher.current(topic) is None
    await bench.publisher.close()


async def test_only_the_acknowledgement_of_the_newest_payload_is_told() -> None:
    bench = Bench()
    told: list[str] = []
    topic = ADDRESS.alarm("board", "x")
    bench.publisher.retain("alarm", topic, b"{}", lambda: told.append("old"))
    await bench.settle()
    bench.publisher.retain("alarm", topic, b'{"a":1}', lambda: told.append("new"))
    await bench.drain()
    assert told == ["new"]
    await bench.publisher.close()


async def test_what_flaps_is_held_apart_and_the_newest_is_said() -> None:
    bench = Bench()
    topic = ADDRESS.health("board")
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    for number in range(5):
        bench.publisher.retain("health", topic, b"%d" % number)
        await bench.drain()
    assert [message.payload for message in bench.link.sent] == [b"0"]
    async with asyncio.timeout(10):
        while len(bench.link.sent) < 2:
            await asyncio.sleep(0.01)
    assert loop.time() - started_s > 0.5
    assert [message.payload for message in bench.link.sent] == [b"0", b"4"]
    await bench.publisher.close()


async def test_what_expires_carries_its_expiry_and_is_said_again_at_the_heartbeat() -> None:
    bench = Bench(Link(window=100))
    bench.publisher.retain("led", ADDRESS.led, b"ok")
    bench.publisher.retain("meta", ADDRESS.meta, b"{}")
    await bench.settle()
    assert [message.expiry_s for message in bench.link.sent] == [7200, None]
    bench.publisher.refresh_expiring()
    await bench.settle()
    assert bench.link.topics == ["led", "meta", "led"]
    await bench.publisher.close()


async def test_what_matters_only_now_waits_for_room_and_not_for_a_connection() -> None:
    bench = Bench(Link(window=0))
    assert bench.publisher.send_once("echo", ADDRESS.echo, b"token")
    assert bench.link.sent == []
    bench.link.window = 1
    bench.publisher.pump()
    assert bench.link.topics == ["echo"]
    bench.link.cut()
    bench.link.connected = False
    assert not bench.publisher.send_once("echo", ADDRESS.echo, b"token")
    await bench.publisher.close()


async def _piece(bench: Bench, number: int) -> "asyncio.Task[None]":
    task = asyncio.create_task(bench.publisher.send_last("chunk", ADDRESS.chunk("c-1", number), b"{}"))
    await bench.settle()
    return task


async def test_what_goes_last_waits_for_everything_else_and_there_is_one_of_it() -> None:
    bench = Bench(Link(window=1))
    bench.queue.add(1, 2)
    bench.publisher.retain("led", ADDRESS.led, b"ok")
    bench.publisher.events_stored()
    bench.publisher.pump()
    await bench.settle()
    piece = await _piece(bench, 0)
    bench.publisher.send_once("echo", ADDRESS.echo, b"token")
    await bench.drain()
    await piece
    assert bench.link.topics == ["led", "echo", "event/health", "event/health", "cmd/diagnostics/c-1/chunk/0"]
    bench.link.window = WINDOW
    second = await _piece(bench, 1)
    bench.publisher.retain("led", ADDRESS.led, b"broken")
    await bench.settle()
    assert bench.link.topics[-2:] == ["cmd/diagnostics/c-1/chunk/1", "led"], "what comes then does not wait for its PUBACK"
    await bench.drain()
    await second
    await bench.publisher.close()


async def test_what_goes_last_is_sent_again_on_the_next_connection_and_an_old_answer_is_none() -> None:
    bench = Bench()
    piece = await _piece(bench, 0)
    _, late = bench.link.in_flight[0]
    bench.link.cut()
    bench.link.connected = False
    await bench.settle()
    bench.link.connected = True
    bench.publisher.connected(first=())
    assert late is not None
    late(0)
    await bench.settle()
    assert not piece.done()
    assert bench.link.topics == ["cmd/diagnostics/c-1/chunk/0"]
    await bench.drain()
    await piece
    await bench.publisher.close()


async def test_what_goes_last_and_is_refused_is_said_and_one_that_nobody_waits_for_is_not_sent() -> None:
    bench = Bench()
    refused = await _piece(bench, 0)
    bench.link.answer(DENIED)
    with pytest.raises(NotTaken, match="0x87"):
        await refused
    assert bench.denials == [], "the command says it; statuses have the same access rule and may be taken"
    bench.link.window = 0
    given_up = await _piece(bench, 1)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    bench.link.window = WINDOW
    bench.publisher.pump()
    assert bench.link.topics == ["cmd/diagnostics/c-1/chunk/0"]
    await bench.publisher.close()


STATUS = ADDRESS.command_status("probe", "c-1")


async def test_the_last_state_of_a_command_is_not_lost_among_answers_that_wait() -> None:
    bench = Bench(Link(window=0))
    bench.publisher.follow("cmd-status", STATUS, b"executing")
    bench.publisher.follow("cmd-status", STATUS, b"succeeded")
    for number in range(200):
        bench.publisher.reply("answers/tech-7", b"%d" % number, None)
        bench.publisher.send_once("cmd-status", ADDRESS.command_status("reboot", f"n-{number}"), b"refused")
    bench.link.window = WINDOW
    bench.publisher.pump()
    await bench.drain()
    mine = [message.payload for message in bench.link.sent if message.topic == STATUS]
    assert mine[-1:] == [b"succeeded"]


async def test_what_is_followed_goes_in_order_and_the_newest_alone_to_a_later_connection() -> None:
    bench = Bench()
    for state in (b"received", b"accepted", b"executing", b"succeeded"):
        bench.publisher.follow("cmd-status", STATUS, state)
    await bench.drain()
    assert [m.payload for m in bench.link.sent if m.topic == STATUS] == [b"received", b"accepted", b"executing", b"succeeded"]
    bench.link.cut()
    bench.publisher.connected(())
    await bench.drain()
    assert [m.payload for m in bench.link.sent if m.topic == STATUS] == [b"succeeded"]
    bench.publisher.forget(STATUS)
    bench.link.cut()
    bench.publisher.connected(())
    await bench.drain()
    assert bench.link.sent == []


async def test_a_status_that_the_broker_refuses_waits_with_the_others_of_its_kind() -> None:
    bench = Bench()
    bench.publisher.follow("cmd-status", STATUS, b"received")
    await bench.settle()
    bench.link.answer(DENIED)
    bench.link.sent.clear()
    bench.publisher.follow("cmd-status", STATUS, b"succeeded")
    await bench.settle()
    assert bench.link.sent == [], "a broker may end the connection of whoever asks again at once"
    await bench.publisher.close()
