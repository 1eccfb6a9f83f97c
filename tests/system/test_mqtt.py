"""`agent.system.mqtt` alone, against a real mosquitto and against a broker that misbehaves."""

import asyncio
import contextlib
import itertools
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from agent.contract.messages import Incoming, Message
from agent.simulator.mosquitto import Mosquitto
from agent.system import mqtt_link
from agent.system.broker import BrokerAddress, BrokerError, Dialer
from agent.system.mqtt import Handlers, Mqtt
from tests.faults.fake_broker import (
    CONNACK,
    DISCONNECT,
    MAXIMUM_PACKET_SIZE,
    PINGREQ,
    PUBACK,
    PUBLISH,
    SESSION_EXPIRY,
    SUBACK,
    WILL_DELAY,
    FakeBroker,
    Publish,
    Session,
    packet,
    text,
    until,
    within,
)

ECHO = "test/echo"
REFUSED_FOR_NOW = 0x97


@dataclass
class Client:
    """An `Mqtt` that runs, and what its handlers were told."""

    mqtt: Mqtt
    running: "asyncio.Task[None]"
    sessions: list[str] = field(default_factory=list)
    lost: list[BrokerError] = field(default_factory=list)
    received: list[Incoming] = field(default_factory=list)
    acknowledged: list[tuple[str, int]] = field(default_factory=list)

    async def connected(self, times: int = 1) -> None:
        await until(lambda: self.running.done() or (len(self.sessions) >= times and self.mqtt.connected), f"connection {times}")

    def publish(self, payload: str, *, topic: str = ECHO, qos: int = 1) -> None:
        message = Message(topic, payload.encode(), qos)
        self.mqtt.publish(message, lambda reason: self.acknowledged.append((payload, reason)))


@contextlib.asynccontextmanager
async def client(
    port: int,
    *,
    keepalive_s: int = 30,
    will: Callable[[Mqtt], Message] | None = None,
    impatient: bool = False,
    handlers: Mapping[str, Callable[..., None]] = MappingProxyType({}),
) -> AsyncIterator[Client]:
    """`handlers` by their names in `Handlers` are called after what they were told was noted. `impatient`: no backoff."""

    def noted(name: str, note: Callable[..., object]) -> Callable[..., None]:
        def handle(*told: Any) -> None:
            note(*told)
            if name in handlers:
                handlers[name](*told)

        return handle

    def on_lost(error: BrokerError) -> None:
        here.lost.append(error)
        if impatient:
            asyncio.get_running_loop().call_soon(here.mqtt.retry_now)

    mqtt = Mqtt(
        Dialer(BrokerAddress.of_url(f"mqtt://127.0.0.1:{port}", keepalive_s=keepalive_s)),
        "61-0007",
        Handlers(
            noted("on_connected", lambda: here.sessions.append(here.mqtt.session)),
            noted("on_lost", on_lost),
            noted("on_message", lambda message: here.received.append(message)),  # noqa: PLW0108 - `here` comes later
            noted("on_room", lambda: None),
        ),
        (ECHO,),
        None if will is None else lambda: will(here.mqtt),
    )
    here = Client(mqtt, asyncio.get_running_loop().create_task(mqtt.run()))
    try:
        yield here
    finally:
        here.running.cancel()
        await asyncio.gather(here.running, return_exceptions=True)


@contextlib.asynccontextmanager
async def mosquitto(folder: Path, extra: str = "") -> AsyncIterator[Mosquitto]:
    broker = Mosquitto(folder, extra)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


def last_will(mqtt: Mqtt) -> Message:
    return Message("test/state", f"lost {mqtt.session}".encode(), retain=True)


# --- connecting ---


async def test_connect_asks_for_a_kept_session_and_leaves_a_retained_last_will_with_a_delay() -> None:
    async with FakeBroker() as broker, client(broker.port, keepalive_s=17, will=last_will) as c:
        await c.connected()
        connect = broker.sessions[0].connect
        assert connect is not None
        assert (connect.client_id, connect.clean_start, connect.keepalive_s) == ("61-0007", False, 17)
        assert connect.properties[SESSION_EXPIRY] == 7 * 24 * 3600
        assert connect.properties[MAXIMUM_PACKET_SIZE] == 1024 * 1024
        will = connect.will
        assert will is not None
        assert (will.topic, will.qos, will.retain) == ("test/state", 1, True)
        assert will.payload == f"lost {c.mqtt.session}".encode()
        assert will.properties == {WILL_DELAY: 10}
        await until(lambda: broker.sessions[0].subscribed == [ECHO], "the subscription")


async def test_the_broker_says_the_last_will_of_a_connection_that_just_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_link, "WILL_DELAY_S", 0)
    async with mosquitto(tmp_path) as broker, client(broker.port, will=last_will) as c:
        await c.connected()
        c.running.cancel()
        await asyncio.gather(c.running, return_exceptions=True)
        async with client(broker.port) as reader:
            reader.mqtt._subscriptions = ("test/state",)
            await until(lambda: reader.received, "the last will")
            assert reader.received[0].payload == f"lost {c.sessions[0]}".encode()
            assert reader.received[0].retained


async def test_every_connection_has_a_session_token_of_its_own_in_its_last_will_too(tmp_path: Path) -> None:
    wills: list[bytes] = []

    def noted_will(mqtt: Mqtt) -> Message:
        wills.append(last_will(mqtt).payload)
        return last_will(mqtt)

    async with mosquitto(tmp_path) as broker, client(broker.port, will=noted_will, impatient=True) as c:
        await c.connected()
        await broker.kill()
        await until(lambda: c.lost, "the loss")
        await broker.start()
        await c.connected(2)
        assert c.sessions[0] != c.sessions[1]
        assert [f"lost {session}".encode() for session in c.sessions] == [wills[0], wills[-1]]


async def test_it_subscribes_again_at_every_connection(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, client(broker.port, impatient=True) as c:
        for time in (1, 2):
            await c.connected(time)
            c.publish(f"word {time}")
            await until(lambda time=time: [m.payload for m in c.received][-1:] == [b"word %d" % time], "the echo")  # type: ignore[misc]
            await broker.kill()
            await until(lambda time=time: len(c.lost) >= time, "the loss")  # type: ignore[misc]
            await broker.start()


async def test_connack_that_refuses_ends_the_attempt_with_the_brokers_reason() -> None:
    not_authorized = packet(CONNACK, 0, b"\0\x87\0")
    async with FakeBroker(connack=lambda _: not_authorized) as broker, client(broker.port) as c:
        await until(lambda: c.lost, "the refusal")
        assert (c.lost[0].stage, c.lost[0].reason) == ("mqtt", "not-authorized")
        assert c.sessions == []


# --- what the broker demands (MQTT 5.0, 3.2.2.3) ---


async def test_at_most_ten_messages_are_on_their_way_whatever_the_owner_wants() -> None:
    silent = FakeBroker(puback=lambda _session, _message: None)
    async with silent as broker, client(broker.port) as c:
        await c.connected()
        sent = 0
        while c.mqtt.room:
            c.publish(str(sent))
            sent += 1
        assert sent == 10
        with pytest.raises(RuntimeError, match="room"):
            c.publish("one too many")
        c.publish("of no matter", qos=0)
        (session,) = broker.sessions
        await until(lambda: len(session.published) == 11, "all that there is room for")
        assert session.in_flight == 10

        waiting = [str(number) for number in range(10, 25)]
        for mid in [message.mid for message in session.published if message.mid is not None]:
            session.acknowledge(mid)
        broker.puback = lambda _session, _message: 0
        while waiting:
            await until(lambda: c.mqtt.room, "room")
            c.publish(waiting.pop(0))
        await until(lambda: len(c.acknowledged) == 25, "every acknowledgement")
        assert session.most_in_flight <= 10
        assert [m.payload for m in session.published if m.qos] == [b"%d" % number for number in range(25)]


async def test_a_smaller_receive_maximum_of_the_broker_is_kept() -> None:
    three = packet(CONNACK, 0, b"\0\0\3" + b"\x21\0\3")
    async with FakeBroker(connack=lambda _: three, puback=lambda _session, _message: None) as broker, client(broker.port) as c:
        await c.connected()
        while c.mqtt.room:
            c.publish("x")
        await until(lambda: len(broker.published()) >= 3, "what it may send")
        c.publish("after them", qos=0)
        await until(lambda: broker.published()[-1].qos == 0, "the last one")
        assert broker.sessions[0].most_in_flight == 3


async def test_a_shorter_keepalive_of_the_broker_is_kept() -> None:
    one_second = packet(CONNACK, 0, b"\0\0\3" + b"\x13\0\1")
    async with FakeBroker(connack=lambda _: one_second) as broker, client(broker.port, keepalive_s=60) as c:
        await c.connected()
        await until(lambda: broker.sessions[0].packets.count(PINGREQ) >= 2, "pings at the broker's pace", patience_s=10)
        assert c.lost == []


async def test_a_broker_that_wants_no_keepalive_is_given_time_to_acknowledge() -> None:
    none = packet(CONNACK, 0, b"\0\0\3" + b"\x13\0\0")  # 0 turns the mechanism off (3.1.2.10)
    async with FakeBroker(connack=lambda _: none, puback=lambda _session, _message: None) as broker, client(broker.port) as c:
        await c.connected()
        c.publish("x")
        (message,) = await until(broker.published, "the message")
        asyncio.get_running_loop().call_later(0.5, broker.sessions[0].acknowledge, message.mid)
        await until(lambda: c.acknowledged or c.lost, "the acknowledgement, half a second later")
        assert c.lost == []


# --- handlers of ours that fail ---


class OurBug(Exception):
    """Raised by a handler."""


def fail(*_: object) -> None:
    raise OurBug


@pytest.mark.parametrize("handler", ["on_connected", "on_message", "on_room", "on_lost"])
async def test_a_handler_that_raises_ends_run_with_its_error(handler: str, tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, client(broker.port, handlers={handler: fail}) as c:
        await c.connected()
        if handler == "on_lost":
            await broker.kill()
        elif not c.running.done():
            c.publish("x")
        with pytest.raises(OurBug):
            await within(c.running)


async def test_an_acknowledgement_callback_that_raises_ends_run_with_its_error(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, client(broker.port) as c:
        await c.connected()
        c.mqtt.publish(Message(ECHO, b"x"), fail)
        with pytest.raises(OurBug):
            await within(c.running)


async def test_a_handler_that_raises_while_the_connection_ends_is_not_forgotten() -> None:
    def message_and_goodbye(session: Session, message: Publish) -> None:
        if len(session.published) == 2:
            delivery = packet(PUBLISH, 0, text(ECHO) + b"\0" + message.payload)
            session.send(delivery + packet(DISCONNECT, 0, b"\x8b\0"))  # server shutting down

    async with FakeBroker(puback=message_and_goodbye) as broker, client(broker.port, handlers={"on_message": fail}) as c:
        await c.connected()
        c.publish("x")
        c.publish("y")  # with two on their way, paho reads two packets in one go
        with pytest.raises(OurBug):
            await within(c.running, 10)


# --- what a broker may send ---

MALFORMED = {
    "publish whose topic is longer than the packet": packet(PUBLISH, 0, b"\x00\xffab"),
    "publish without a topic's length": packet(PUBLISH, 0, b"\0"),
    "publish whose topic is not UTF-8": packet(PUBLISH, 0, b"\0\2\xc3\x28\0x"),
    "publish whose properties are longer than the packet": packet(PUBLISH, 0, text(ECHO) + b"\x7f"),
    "publish with an unknown property": packet(PUBLISH, 0, text(ECHO) + b"\2\x7e\0x"),
    "publish of QoS 3": packet(PUBLISH, 0b110, text(ECHO) + b"\0\1\0x"),
    "puback without a number": packet(PUBACK, 0, b""),
    "puback with an unknown reason": packet(PUBACK, 0, b"\0\1\x7b"),
    "suback without anything": packet(SUBACK, 0, b""),
    "packet of no kind": packet(0, 0, b"x"),
    "length without an end": b"\x30\xff\xff\xff\xff\xff\x01",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_packet_ends_the_connection_only(name: str) -> None:
    def once(session: Session) -> bytes:
        return packet(CONNACK, 0, b"\0\0\0") + (MALFORMED[name] if session is broker.sessions[0] else b"")

    async with FakeBroker(connack=once) as broker, client(broker.port, impatient=True) as c:
        if name == "puback with an unknown reason":
            await c.connected()
            c.publish("x")
        await c.connected(2)
        assert not c.running.done()
        assert [error.stage for error in c.lost] == ["mqtt"]
        assert c.received == []
        c.publish("still here")
        await until(lambda: ("still here", 0) in c.acknowledged, "the acknowledgement on the second connection")


@pytest.mark.parametrize("garbage", [b"\x20\x01\0", b"\x20\x05\0\0\x7f\0\0", b"HTTP/1.1 400 Bad Request\r\n" * 8, b"\x30\0"])
async def test_garbage_instead_of_connack_ends_the_attempt_only(garbage: bytes) -> None:
    def once(session: Session) -> bytes:
        return garbage if session is broker.sessions[0] else packet(CONNACK, 0, b"\0\0\0")

    async with FakeBroker(connack=once) as broker, client(broker.port, impatient=True) as c:
        await c.connected()
        assert len(c.lost) == 1
        assert len(c.sessions) == 1
        assert not c.running.done()


async def test_quota_exceeded_means_a_new_connection_and_the_message_again() -> None:
    def refuse_first(session: Session, _message: Publish) -> int:
        return REFUSED_FOR_NOW if session is broker.sessions[0] else 0

    def resend() -> None:
        if not any(payload == "kept" for payload, _ in c.acknowledged):
            c.publish("kept")

    async with FakeBroker(puback=refuse_first) as broker, client(broker.port, handlers={"on_connected": resend}) as c:
        await c.connected(2)
        await until(lambda: c.acknowledged, "the acknowledgement")
        assert c.acknowledged == [("kept", 0)], "0x97 means later, not never: its owner must not hear of it"
        assert [(error.stage, error.reason) for error in c.lost] == [("mqtt", "quota-exceeded")]
        assert [m.payload for m in broker.published()] == [b"kept", b"kept"]


async def test_other_refusals_are_told_to_the_owner_and_keep_the_connection() -> None:
    async with FakeBroker(puback=lambda _session, _message: 0x87) as broker, client(broker.port) as c:
        await c.connected()
        c.publish("forbidden")
        await until(lambda: c.acknowledged, "the refusal")
        assert c.acknowledged == [("forbidden", 0x87)]
        assert c.mqtt.connected
        assert c.lost == []


# --- backoff ---


class Unreachable(Mqtt):
    """Nothing to be reached, and the attempt itself takes no time."""

    tries: list[float]

    async def _dial(self, dialer: Dialer) -> Any:
        del dialer
        self.tries.append(asyncio.get_running_loop().time())
        raise BrokerError("connect", "refused")


class FastForward(asyncio.SelectorEventLoop):
    """A loop on which sleeping takes no time."""

    skipped_s = 0.0

    def time(self) -> float:
        return super().time() + self.skipped_s

    def _run_once(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        if not self._ready and scheduled:  # type: ignore[attr-defined]
            self.skipped_s += max(0.0, scheduled[0].when() - self.time())
        super()._run_once()  # type: ignore[misc]


def test_attempts_back_off_to_a_minute_with_jitter_above_a_floor() -> None:
    def times() -> list[float]:
        mqtt = Unreachable(Dialer(BrokerAddress("127.0.0.1", 1)), "x", Handlers(lambda: None, lambda _: None, lambda _: None))
        mqtt.tries = []

        async def some_tries() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1800):
                    await mqtt.run()

        loop = FastForward()
        try:
            loop.run_until_complete(some_tries())
        finally:
            loop.close()
        return mqtt.tries

    tries = [times() for _ in range(5)]
    gaps = [[after - before for before, after in itertools.pairwise(run)] for run in tries]
    for run in gaps:
        assert len(run) >= 30
        for attempt, gap_s in enumerate(run):
            ceiling_s = min(60.0, 2.0**attempt)
            assert 0.2 * ceiling_s <= gap_s <= ceiling_s + 0.5, f"attempt {attempt} after {gap_s} s"
    late = [gap_s for run in gaps for gap_s in run[6:]]
    assert max(late) - min(late) > 20, "no jitter: booths that lost one broker would all come back at once"


def test_f74_a_fleet_that_loses_its_broker_comes_back_spread_over_half_a_minute() -> None:
    """A broker that comes back at once would else have all of it within a second."""

    class Settled(Unreachable):
        async def _one_connection(self) -> None:
            if not self.tries:
                await asyncio.sleep(3600)
            self.tries.append(asyncio.get_running_loop().time())
            raise BrokerError("mqtt", "connection-lost")

    first: list[float] = []
    for _ in range(200):
        mqtt = Settled(Dialer(BrokerAddress("127.0.0.1", 1)), "x", Handlers(lambda: None, lambda _: None, lambda _: None))
        mqtt.tries = []

        async def two_tries(mqtt: Settled = mqtt) -> None:
            running = asyncio.create_task(mqtt.run())
            while len(mqtt.tries) < 2:
                await asyncio.sleep(0.1)
            running.cancel()

        loop = FastForward()
        try:
            loop.run_until_complete(two_tries())
        finally:
            loop.close()
        first.append(mqtt.tries[1] - mqtt.tries[0])
    assert max(first) < 34
    busiest = max(sum(at <= other < at + 1 for other in first) for at in first)
    assert busiest < 30, f"{busiest} of 200 in one second"


async def test_retry_now_cuts_a_long_wait_short() -> None:
    async with FakeBroker(connack=lambda _: packet(CONNACK, 0, b"\0\x88\0")) as broker, client(broker.port) as c:
        c.mqtt._attempt = 20  # as after an hour without a broker
        await until(lambda: c.lost, "the first failure")
        broker.connack = lambda _: packet(CONNACK, 0, b"\0\0\0")
        await asyncio.sleep(0)
        c.mqtt.retry_now()
        await c.connected()


@pytest.mark.parametrize("name", ["dial-broker", "resolve-broker"])
async def test_f69_without_a_thread_to_be_had_it_tries_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    async with FakeBroker() as broker, client(broker.port) as c:
        await until(lambda: c.lost, "an attempt")
        assert not c.running.done()
        monkeypatch.undo()
        c.mqtt.retry_now()
        await c.connected()


# --- another broker ---


async def test_f40_a_broker_that_does_not_answer_yet_is_left_for_another_one() -> None:
    async with FakeBroker(connack=lambda _: None) as before, FakeBroker() as after, client(before.port) as c:
        await until(lambda: before.sessions, "the attempt")
        await c.mqtt.redial(Dialer(BrokerAddress.of_url(after.url)))
        await c.connected()
        assert [len(broker.sessions) for broker in (before, after)] == [1, 1]
        before.connack = lambda _: packet(CONNACK, 0, b"\0\0\0")
        await asyncio.sleep(0.2)
        assert after.sessions[0].ended_s is None


async def test_f40_a_broker_that_is_only_just_dialled_is_left_for_another_one() -> None:
    """Or what is on trial would be proved by the broker of before."""
    release = threading.Event()

    class Slow(Dialer):
        def dial(self) -> socket.socket:
            release.wait(20)
            return super().dial()

    connected: list[str] = []
    async with FakeBroker() as before, FakeBroker() as after:
        mqtt = Mqtt(
            Slow(BrokerAddress.of_url(before.url)), "61-0007",
            Handlers(lambda: connected.append(mqtt.session), lambda _: None, lambda _: None),
        )  # fmt: skip
        running = asyncio.create_task(mqtt.run())
        await asyncio.sleep(0.1)
        await mqtt.redial(Dialer(BrokerAddress.of_url(after.url)))
        release.set()
        await after.until(lambda: connected, "a connection")
        assert [session.connect is not None for session in after.sessions] == [True]
        assert [session for session in before.sessions if session.connect is not None] == []
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


# --- the end ---


async def test_close_says_farewell_then_disconnect_so_that_no_last_will_follows() -> None:
    async with FakeBroker() as broker, client(broker.port, will=last_will) as c:
        await c.connected()
        await c.mqtt.close(Message("test/state", b"asleep", retain=True))
        (session,) = broker.sessions
        await until(lambda: session.ended_s is not None, "the end of the connection")
        assert [m.payload for m in session.published] == [b"asleep"]
        assert session.disconnected, f"the connection ended without DISCONNECT: {session.packets}"


async def test_after_close_the_broker_keeps_the_farewell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_link, "WILL_DELAY_S", 0)
    async with mosquitto(tmp_path) as broker, client(broker.port) as reader:
        reader.mqtt._subscriptions = ("test/state", "test/other")
        async with client(broker.port, will=last_will) as c:
            c.mqtt._client_id = "61-0008"
            await reader.connected()
            await c.connected()
            await c.mqtt.close(Message("test/state", b"asleep", retain=True))
        # A third connection is served after the end of the second: what comes of it has come.
        async with client(broker.port) as later:
            later.mqtt._client_id = "61-0009"
            await later.connected()
            later.publish("later", topic="test/other")
            await until(lambda: [m.payload for m in reader.received][-1:] == [b"later"], "what was published later")
        assert [m.payload for m in reader.received] == [b"asleep", b"later"]


async def test_close_does_not_wait_for_a_broker_that_does_not_answer() -> None:
    async with FakeBroker(puback=lambda _session, _message: None) as broker, client(broker.port) as c:
        await c.connected()
        await within(c.mqtt.close(Message("test/state", b"asleep"), deadline_s=0.2), 5)
        await until(lambda: broker.sessions[0].ended_s is not None, "the end of the connection")


async def test_close_ends_run_at_once_however_long_the_backoff_has_grown() -> None:
    async with FakeBroker() as broker, client(broker.port) as c:
        await c.connected()
        c.mqtt._attempt = 20  # a wait of at least 15 s
        await c.mqtt.close()
        await within(c.running, 5)


async def test_a_half_open_connection_costs_a_few_wake_ups_not_many() -> None:
    ticks = 0
    async with FakeBroker() as broker, client(broker.port, keepalive_s=1) as c:
        await c.connected()
        link = c.mqtt._link
        assert link is not None
        drive = link._drive

        def counted(step: Callable[[], Any]) -> None:
            nonlocal ticks
            ticks += 1
            drive(step)

        link._drive = counted  # type: ignore[method-assign]
        broker._answer = lambda *_: None  # type: ignore[method-assign]
        await until(lambda: c.lost, "the loss")
        assert c.lost[0].reason == "connection-lost"
        assert ticks < 10, f"{ticks} wake-ups while waiting for one answer"
