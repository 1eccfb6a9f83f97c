"""What is published, in which order, and what becomes of it.

Retained topics are an image: only the newest payload of each matters, and all of it is said again
at each connection. Events are a queue in the store: each once, in order, until acknowledged.
Retained goes first: on a slow line a technician sees the state before the history.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agent.contract.messages import PUBLISHED, Message, MessageKind, expiry_s
from agent.contract.topics import Address

log = logging.getLogger(__name__)

_FETCH: Final = 200  # events asked of the store at a time; the next ones are asked for when a quarter is left
_ONCE: Final = 100  # messages that matter only now, while there is no room for them
_GAP_S: Final = 1.0  # between two messages of one health, service or state topic; the newest one waits
_HELD_APART: Final = (PUBLISHED["health"], PUBLISHED["service"], PUBLISHED["state"])
_DENIED_FOR_S: Final = 60.0  # until a refused topic is tried again
_FORGOTTEN_AFTER_S: Final = 600.0  # a refusal on a topic that had nothing more to say
_FAILURE: Final = 0x80  # MQTT 5, 2.4: reason codes from here on are failures


class Link(Protocol):
    """The connection, as the engine needs it."""

    @property
    def room(self) -> int: ...
    @property
    def connected(self) -> bool: ...
    def publish(self, message: Message, on_done: Callable[[int], None] | None = None) -> None: ...


class StoredEvent(Protocol):
    @property
    def position(self) -> int: ...
    @property
    def class_(self) -> str: ...
    @property
    def body(self) -> bytes: ...


class EventQueue(Protocol):
    """The store, as the engine needs it."""

    async def pending(self, after: int, limit: int) -> Sequence[StoredEvent]: ...
    def acknowledge(self, position: int) -> None: ...
    def bury(self, position: int, reason: str) -> None: ...


@dataclass
class _Retained:
    payload: bytes
    kind: MessageKind
    on_acknowledged: Callable[[], None] | None
    not_before_s: float = 0.0


@dataclass
class _Last:
    """One message that goes when nothing else does. `connection`: the number of the one that it was handed to."""

    message: Message
    answered: "asyncio.Future[int]"
    connection: int | None = None


class NotTaken(Exception):
    """The broker refused a message of lowest priority, with this reason code."""

    def __init__(self, reason: int) -> None:
        super().__init__(f"reason code {reason:#04x}")
        self.reason = reason


class Publisher:
    """Feeds the connection, never more than it has room for.

    `denied` holds the topics that the broker refused and has not taken since, with the time of the
    refusal; `on_denied` is called when one comes or goes. For a minute they are passed over, since a
    broker may close the connection of whoever asks, and the rest must get through; then they are tried again.
    """

    def __init__(
        self, address: Address, link: Link, queue: EventQueue, heartbeat_s: float, on_denied: Callable[[], None]
    ) -> None:
        self._address = address
        self._link = link
        self._queue = queue
        self.heartbeat_s = heartbeat_s
        self._on_denied = on_denied
        self.denied: dict[str, float] = {}
        self._once: deque[Message] = deque(maxlen=_ONCE)
        self._passed_over: deque[StoredEvent] = deque(maxlen=_FETCH)
        self._retry_denied: asyncio.TimerHandle | None = None
        self._image: dict[str, _Retained] = {}
        self._dirty: dict[str, None] = {}
        self._events: deque[StoredEvent] = deque()
        self._newest_sent = 0
        self._connection = 0
        self._more_events = True
        self._pump_soon = False
        self._held: asyncio.TimerHandle | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._last: _Last | None = None

    @property
    def image(self) -> Mapping[str, bytes]:
        """Everything retained, by topic, as it stands."""
        return {topic: item.payload for topic, item in self._image.items() if item.payload}

    def retain(
        self,
        kind: str,
        topic: str,
        payload: bytes,
        on_acknowledged: Callable[[], None] | None = None,
        *,
        urgent: bool = False,
    ) -> None:
        """Set a retained topic. An empty payload clears it, and forgets it once the broker knows.

        What flaps is held to one message a second; `urgent` does not wait.
        """
        before = self._image.get(topic)
        not_before_s = 0.0 if before is None or urgent else before.not_before_s
        self._image[topic] = _Retained(payload, PUBLISHED[kind], on_acknowledged, not_before_s)
        self._dirty.pop(topic, None)  # behind what changed before it: `online` follows the health that it stands for
        self._dirty[topic] = None
        if not self._pump_soon:  # what changes together in one step of the loop goes together
            self._pump_soon = True
            asyncio.get_running_loop().call_soon(self.pump)

    def current(self, topic: str) -> bytes | None:
        """What a retained topic holds."""
        retained = self._image.get(topic)
        return None if retained is None else retained.payload

    def follow(self, kind: str, topic: str, payload: bytes) -> None:
        """Say this one too, behind what was said before it; a later connection gets the newest of the topic alone."""
        self._image[topic] = _Retained(payload, PUBLISHED[kind], None)
        if not self._link.connected:
            return
        if len(self._once) == _ONCE or self._is_denied(topic, asyncio.get_running_loop().time()):
            self._newest_alone(topic)
        else:
            self.send_once(kind, topic, payload)

    def _newest_alone(self, topic: str) -> None:
        """Too many wait, or nothing of it goes out now: of this topic, only what is newest will."""
        self._once = deque((item for item in self._once if item.topic != topic), maxlen=_ONCE)
        if topic in self._image:
            self._dirty[topic] = None

    def forget(self, topic: str) -> None:
        """It is said no more; what the broker has of it expires there."""
        self._image.pop(topic, None)
        self._dirty.pop(topic, None)

    def reply(self, topic: str, payload: bytes, correlation: bytes | None) -> None:
        """Answer somebody at a topic of her own choice, once. Where the broker refuses that, it is no trouble of the booth's."""
        if self._link.connected and len(self._once) < _ONCE and not topic.startswith(self._address.prefix):
            self._once.append(Message(topic, payload, correlation=correlation))
            self.pump()

    def send_once(self, kind: str, topic: str, payload: bytes) -> bool:
        """Send something that is not said again at the next connection; False where there is none to send it on."""
        if not self._link.connected:
            return False
        message = PUBLISHED[kind]
        if len(self._once) == _ONCE:
            self._newest_alone(self._once[0].topic)
        self._once.append(Message(topic, payload, message.qos, message.retained, expiry_s(message, self.heartbeat_s)))
        self.pump()
        return True

    async def send_last(self, kind: str, topic: str, payload: bytes) -> None:
        """Send one message when nothing else waits, and wait until the broker has it: health goes first, and what comes
        meanwhile waits behind one message at most. Where the connection ends before the PUBACK, it is sent again on the next.
        One at a time. Raises NotTaken."""
        assert self._last is None, "one at a time"
        message = PUBLISHED[kind]
        answered = asyncio.get_running_loop().create_future()
        self._last = _Last(Message(topic, payload, message.qos, message.retained), answered)
        try:
            self.pump()
            reason = await answered
        finally:
            self._last = None
        if reason >= _FAILURE:
            raise NotTaken(reason)

    def connected(self, first: Sequence[str]) -> None:
        """A new connection: everything retained again, `first` before the rest, then events from the oldest on."""
        self._dirty = dict.fromkeys([topic for topic in first if topic in self._image])
        self._dirty |= dict.fromkeys(self._image)
        for item in self._image.values():
            item.not_before_s = 0.0
        self._once.clear()
        self._events.clear()
        self._passed_over.clear()
        self._newest_sent = 0
        self._connection += 1
        self._more_events = True
        self.pump()

    def refresh_expiring(self) -> None:
        """Say again what would expire."""
        self._dirty |= dict.fromkeys(topic for topic, item in self._image.items() if item.kind.expiry == "2 heartbeats")
        self.pump()

    def events_stored(self) -> None:
        self._more_events = True
        self.pump()

    def pump(self) -> None:
        """Hand over as much as there is room for."""
        self._pump_soon = False
        now_s = asyncio.get_running_loop().time()
        for topic in [topic for topic in self._dirty if self._image[topic].not_before_s <= now_s]:
            if not self._link.room:
                break
            del self._dirty[topic]
            if not self._is_denied(topic, now_s):
                self._send_retained(topic, now_s)
        self._wait_for_held(now_s)
        while self._once and self._link.room:
            self._send_now(self._once.popleft())
        while self._events and self._link.room:
            self._send_event(self._events.popleft(), now_s)
        if self._more_events and len(self._events) < _FETCH // 4 and self._link.connected and self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
        self._pump_last(now_s)

    def _pump_last(self, now_s: float) -> None:
        last = self._last
        if last is None or last.connection == self._connection or not self._link.room:
            return
        due = any(self._image[topic].not_before_s <= now_s for topic in self._dirty)
        # Not for events that are still being fetched: a disk that hangs is what the bundle may be about.
        if not (due or self._once or self._events):
            last.connection = connection = self._connection

            def done(reason: int) -> None:
                if last.connection == connection and not last.answered.done():
                    last.answered.set_result(reason)

            self._link.publish(last.message, done)

    async def close(self) -> None:
        for timer in (self._held, self._retry_denied):
            if timer is not None:
                timer.cancel()
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _send_now(self, message: Message) -> None:
        def done(reason: int) -> None:
            if message.topic.startswith(self._address.prefix):
                self._answered(message.topic, reason)

        self._link.publish(message, done)

    def _wait_for_held(self, now_s: float) -> None:
        if self._held is not None:
            self._held.cancel()
            self._held = None
        due = [at_s for topic in self._dirty if (at_s := self._image[topic].not_before_s) > now_s]
        if due:
            self._held = asyncio.get_running_loop().call_at(min(due), self.pump)

    def _send_retained(self, topic: str, now_s: float) -> None:
        item = self._image[topic]
        if item.kind in _HELD_APART:
            item.not_before_s = now_s + _GAP_S
        message = Message(
            topic, item.payload, item.kind.qos, True, expiry_s(item.kind, self.heartbeat_s) if item.payload else None
        )
        self._link.publish(message, lambda reason: self._retained_done(topic, item, reason))

    def _retained_done(self, topic: str, item: _Retained, reason: int) -> None:
        if self._answered(topic, reason) and self._image.get(topic) is item:
            if not item.payload:
                del self._image[topic]
                self._dirty.pop(topic, None)
            if item.on_acknowledged is not None:
                item.on_acknowledged()

    def _send_event(self, event: StoredEvent, now_s: float) -> None:
        topic = self._address.event(event.class_)
        self._newest_sent = event.position
        if self._is_denied(topic, now_s):
            self._passed_over.append(event)  # it stays in the store; those behind it go on
            return
        self._link.publish(Message(topic, event.body), lambda reason: self._event_done(topic, event, reason))

    def _event_done(self, topic: str, event: StoredEvent, reason: int) -> None:
        if self._answered(topic, reason):
            self._queue.acknowledge(event.position)
        else:
            self._queue.bury(event.position, f"reason code {reason:#04x}")

    def _answered(self, topic: str, reason: int) -> bool:
        """Whether the broker took a message; keeps the list of what it refuses."""
        taken = reason < _FAILURE
        if not taken:
            log.warning("the broker refused a message: reason code %#04x", reason, extra={"topic": topic, "reason": reason})
        key = self._denial_of(topic)
        known = key in self.denied
        if taken:
            self.denied.pop(key, None)
        else:
            loop = asyncio.get_running_loop()
            self.denied[key] = loop.time()
            if self._retry_denied is None:
                self._retry_denied = loop.call_later(_DENIED_FOR_S, self._try_denied)
        if taken == known:
            self._on_denied()
        return taken

    def _denial_of(self, topic: str) -> str:
        """What a refusal is remembered under: statuses of commands have a topic each, but one access rule."""
        commands = f"{self._address.root}/cmd"
        return commands if topic.startswith(commands + "/") else topic

    def _try_denied(self) -> None:
        """Offer what was refused once more: the access rules may be mended."""
        self._retry_denied = None
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        stale = [topic for topic, denied_s in self.denied.items() if now_s - denied_s > _FORGOTTEN_AFTER_S]
        for topic in stale:  # nothing was said there any more: nobody knows whether it still would be refused
            del self.denied[topic]
        if stale:
            self._on_denied()
        self._dirty |= dict.fromkeys(topic for topic in self.denied if topic in self._image)
        self._events.extendleft(reversed(self._passed_over))
        self._passed_over.clear()
        if self.denied:
            self._retry_denied = loop.call_later(_DENIED_FOR_S, self._try_denied)
        self.pump()

    def _is_denied(self, topic: str, now_s: float) -> bool:
        denied_s = self.denied.get(self._denial_of(topic))
        return denied_s is not None and now_s - denied_s < _DENIED_FOR_S

    async def _fetch(self) -> None:
        try:
            after = self._events[-1].position if self._events else self._newest_sent
            connection = self._connection
            self._more_events = False
            found = await self._queue.pending(after, _FETCH)
            if connection == self._connection:  # else a new connection began meanwhile, and asks from the start
                self._events.extend(found)
                self._more_events = self._more_events or bool(found)
        finally:
            self._fetching = None
        self.pump()
