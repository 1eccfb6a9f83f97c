"""What is published, in which order, and what becomes of it.

Retained topics are an image: only the newest payload of each matters, and all of it is said again
at each connection. Events are a queue in the store: each once, in order, until acknowledged.
Retained goes first: on a slow line a technician sees the state before the history.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agent.contract.messages import PUBLISHED, Message, MessageKind, expiry_s
from agent.contract.topics import Address

log = logging.getLogger(__name__)

_FETCH: Final = 50  # events in memory at a time
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


class Publisher:
    """Feeds the connection, never more than it has room for. `on_denied` gets each topic that the broker refuses."""

    def __init__(
        self, address: Address, link: Link, queue: EventQueue, heartbeat_s: float, on_denied: Callable[[str], None]
    ) -> None:
        self._address = address
        self._link = link
        self._queue = queue
        self._heartbeat_s = heartbeat_s
        self._on_denied = on_denied
        self._image: dict[str, _Retained] = {}
        self._dirty: dict[str, None] = {}
        self._events: deque[StoredEvent] = deque()
        self._newest_sent = 0
        self._more_events = True
        self._pump_soon = False
        self._fetching: asyncio.Task[None] | None = None

    def retain(self, kind: str, topic: str, payload: bytes, on_acknowledged: Callable[[], None] | None = None) -> None:
        """Set a retained topic. An empty payload clears it, and forgets it once the broker knows."""
        self._image[topic] = _Retained(payload, PUBLISHED[kind], on_acknowledged)
        self._dirty[topic] = None
        if not self._pump_soon:  # what changes together in one step of the loop goes together
            self._pump_soon = True
            asyncio.get_running_loop().call_soon(self.pump)

    def current(self, topic: str) -> bytes | None:
        """What a retained topic holds."""
        retained = self._image.get(topic)
        return None if retained is None else retained.payload

    def send_once(self, kind: str, topic: str, payload: bytes) -> bool:
        """Send something that only matters now; False where there is no connection to send it on."""
        if not self._link.room:
            return False
        message = PUBLISHED[kind]
        self._link.publish(Message(topic, payload, message.qos, message.retained, expiry_s(message, self._heartbeat_s)))
        return True

    def connected(self, first: Sequence[str]) -> None:
        """A new connection: everything retained again, `first` before the rest, then events from the oldest on."""
        self._dirty = dict.fromkeys([topic for topic in first if topic in self._image])
        self._dirty |= dict.fromkeys(self._image)
        self._events.clear()
        self._newest_sent = 0
        self._more_events = True
        self.pump()

    def refresh_expiring(self) -> None:
        """Say again what would expire; health apart, which its reporter says anew."""
        self._dirty |= dict.fromkeys(
            topic
            for topic, item in self._image.items()
            if item.kind.expiry == "2 heartbeats" and item.kind is not PUBLISHED["health"]
        )
        self.pump()

    def events_stored(self) -> None:
        self._more_events = True
        self.pump()

    def pump(self) -> None:
        """Hand over as much as there is room for."""
        self._pump_soon = False
        while self._dirty and self._link.room:
            topic = next(iter(self._dirty))
            del self._dirty[topic]
            self._send_retained(topic)
        while self._events and self._link.room:
            self._send_event(self._events.popleft())
        if self._more_events and not self._events and self._link.room and self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _send_retained(self, topic: str) -> None:
        item = self._image[topic]
        message = Message(
            topic, item.payload, item.kind.qos, True, expiry_s(item.kind, self._heartbeat_s) if item.payload else None
        )
        self._link.publish(message, lambda reason: self._retained_done(topic, item, reason))

    def _retained_done(self, topic: str, item: _Retained, reason: int) -> None:
        if reason >= _FAILURE:
            self._denied(topic, reason)
            return
        if self._image.get(topic) is item:
            if not item.payload:
                del self._image[topic]
            if item.on_acknowledged is not None:
                item.on_acknowledged()

    def _send_event(self, event: StoredEvent) -> None:
        topic = self._address.event(event.class_)
        self._newest_sent = event.position
        self._link.publish(Message(topic, event.body), lambda reason: self._event_done(topic, event, reason))

    def _event_done(self, topic: str, event: StoredEvent, reason: int) -> None:
        if reason >= _FAILURE:
            self._queue.bury(event.position, f"reason code {reason:#04x}")
            self._denied(topic, reason)
        else:
            self._queue.acknowledge(event.position)

    def _denied(self, topic: str, reason: int) -> None:
        log.warning("the broker refused a message: reason code %#04x", reason, extra={"topic": topic, "reason": reason})
        self._on_denied(topic)

    async def _fetch(self) -> None:
        try:
            after = self._newest_sent
            self._more_events = False
            found = await self._queue.pending(after, _FETCH)
            if after == self._newest_sent:  # else a new connection began meanwhile, and asks from the start
                self._events.extend(found)
                self._more_events = self._more_events or bool(found)
        finally:
            self._fetching = None
        self.pump()
