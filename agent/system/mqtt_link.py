"""One MQTT 5 connection by paho, on our own event loop: the sole importer of paho.

paho's own thread wakes once a second for nothing; its socket on our loop does not
(`docs/decisions/0001`). Each connection has a client object of its own, so nothing hides in a
queue of paho's across connections: what is not acknowledged is sent again by whoever owns it.
"""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.contract.messages import Incoming, Message
from agent.contract.reasons import refused_by_alert
from agent.system import lean_paho  # noqa: F401 - before paho: see there
from agent.system.broker import BrokerError, TcpFigures, tcp_figures

import paho.mqtt.client as paho  # isort: skip
from paho.mqtt.enums import CallbackAPIVersion  # isort: skip
from paho.mqtt.packettypes import PacketTypes  # isort: skip
from paho.mqtt.properties import Properties  # isort: skip
from paho.mqtt.reasoncodes import ReasonCode  # isort: skip
from paho.mqtt.subscribeoptions import SubscribeOptions  # isort: skip

WINDOW: Final = 10  # messages inside paho: it would send any number at once after a reconnection
WILL_DELAY_S: Final = 10
MAX_PACKET_BYTES: Final = 1024 * 1024
CONNACK_TIMEOUT_S: Final = 10.0

QUOTA_EXCEEDED: Final = 0x97


@dataclass(frozen=True)
class Handlers:
    """What a connection tells its owner. An exception in a handler ends `Mqtt.run`: it is a bug of ours."""

    on_connected: Callable[[], None]
    on_lost: Callable[[BrokerError], None]
    on_message: Callable[[Incoming], None]
    on_room: Callable[[], None] = lambda: None
    on_subscribed: Callable[[], None] = lambda: None


class _Client(paho.Client):
    """A paho client that takes a socket which is connected already.

    `_create_socket` is paho's own seam (client.py, `reconnect`): with it, DNS, TCP and TLS happen in
    a thread with deadlines of ours, and `reconnect` itself no longer blocks.
    """

    def __init__(self, connection: socket.socket, **options: Any) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, **options)
        self._connection = connection

    def _create_socket(self) -> socket.socket:
        return self._connection


class Link:
    """One connection: a paho client whose socket is on our loop.

    paho's callbacks only note what happened; our handlers run after paho has returned, so an
    exception of ours never unwinds through paho, and one of paho's (a packet that it cannot read)
    ends this connection and nothing else.
    """

    def __init__(
        self,
        connection: socket.socket,
        client_id: str,
        keepalive_s: int,
        will: Message | None,
        session_expiry_s: int,
        handlers: Handlers,
        *,
        retain_as_published: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        self._fd = connection.fileno()  # paho closes the socket itself, and -1 cannot be unregistered
        self._handlers = handlers
        self._keepalive_s = keepalive_s
        self._session_expiry_s = session_expiry_s
        self._retain_as_published = retain_as_published
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._connack: asyncio.Future[None] = self._loop.create_future()
        self._incoming: deque[Incoming] = deque()
        self._acknowledged: deque[tuple[int, int]] = deque()
        self._in_flight: dict[int, tuple[Callable[[int], None] | None, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last_in_s = self._last_out_s = self._pinged_s = self._loop.time()
        self._dropped = False
        self._window = WINDOW
        self._subscribed = False
        self._bug: Exception | None = None
        self.ready = False
        self.local_host = str(connection.getsockname()[0])
        self._client = self._make_client(connection, client_id, will)

    def _make_client(self, connection: socket.socket, client_id: str, will: Message | None) -> _Client:
        client = _Client(connection, client_id=client_id)
        client.max_inflight_messages_set(WINDOW * 2)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_socket_register_write = lambda *_: self._loop.add_writer(self._fd, self._writable)
        client.on_socket_unregister_write = self._stop_writing
        client.on_socket_close = lambda *_: self._unregister()
        if will is not None:
            properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
            properties.WillDelayInterval = WILL_DELAY_S
            client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
        return client

    @property
    def room(self) -> int:
        return max(0, self._window - len(self._in_flight))

    def figures(self) -> TcpFigures | None:
        return tcp_figures(self._socket)

    async def handshake(self, host: str, port: int) -> None:
        """Send CONNECT, wait for CONNACK. Raises BrokerError."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session_expiry_s
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        self._client.connect_async(host, port, self._keepalive_s, clean_start=not self._session_expiry_s, properties=properties)
        self._client.reconnect()
        if isinstance(self._socket, ssl.SSLSocket):
            self._client.on_log = self._on_log
        self._loop.add_reader(self._fd, self._readable)
        try:
            async with asyncio.timeout(CONNACK_TIMEOUT_S):
                await self._connack
        except TimeoutError as error:
            raise BrokerError("mqtt", "no-connack") from error
        finally:
            self._client.on_log = None
        self.ready = True
        self._tick()

    def subscribe(self, topics: Sequence[str]) -> None:
        if topics:
            options = SubscribeOptions(qos=1, retainAsPublished=self._retain_as_published)
            self._client.subscribe([(topic, options) for topic in topics])

    async def serve(self) -> None:
        """Until the connection ends. Raises BrokerError, or what a handler raised."""
        try:
            await self._ended
        finally:
            if self._bug is not None:
                raise self._bug

    def publish(self, message: Message, on_done: Callable[[int], None] | None) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if message.expiry_s is not None:
            properties.MessageExpiryInterval = message.expiry_s
        if message.correlation is not None:
            properties.CorrelationData = message.correlation
        self._last_out_s = self._loop.time()
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        if message.qos:
            self._in_flight[info.mid] = (on_done, self._loop.time())

    async def close(self, farewell: Message | None, deadline_s: float) -> None:
        """Say farewell, wait for its PUBACK, disconnect. A broker that does not answer is not waited for."""
        try:
            async with asyncio.timeout(deadline_s):
                if farewell is not None:
                    said: asyncio.Future[None] = self._loop.create_future()
                    self.publish(farewell, lambda _: None if said.done() else said.set_result(None))
                    await asyncio.wait({said, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            pass
        if not self._dropped:
            self._client.disconnect()
            self._client.loop_write()  # with a loop of one's own, paho only asks for the socket to be watched
        self._end(BrokerError("mqtt", "closed"))

    def give_up(self) -> None:
        """It is no longer wanted: whoever waits for its handshake or its end is told that it is lost."""
        self._end(BrokerError("mqtt", "connection-lost"))

    def drop(self) -> None:
        """Let go of the socket, whatever state it is in."""
        if self._dropped:
            return
        self._dropped = True
        self.ready = False
        if self._timer is not None:
            self._timer.cancel()
        if self._socket.fileno() >= 0:
            self._unregister()
            self._socket.close()
        for future in (self._ended, self._connack):
            future.cancel()

    def _stop_writing(self, *_: Any) -> None:
        self._loop.remove_writer(self._fd)

    def _unregister(self) -> None:
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)

    # --- the loop's side ---

    def _readable(self) -> None:
        self._last_in_s = self._loop.time()
        self._drive(self._read_all)

    def _writable(self) -> None:
        # Read first: when the other side has hung up, its last PUBACK, which may say why, still waits to be read.
        self._drive(self._read_all)
        self._drive(self._client.loop_write)

    def _read_all(self) -> None:
        self._read()
        # TLS may hold decrypted packets that the socket will not announce again.
        while isinstance(self._socket, ssl.SSLSocket) and self._socket.fileno() >= 0 and self._socket.pending():
            self._read()

    def _read(self) -> None:
        self._client.loop_read()
        # paho collects a packet of any length, whatever maximum we announced (client.py, `_packet_read`).
        if self._client._in_packet["remaining_length"] > MAX_PACKET_BYTES:  # noqa: SLF001 - paho has no other place for it
            self._end(BrokerError("mqtt", "packet-too-large"))
            self.drop()

    def _tick(self) -> None:
        """Let paho ping after one keepalive interval of silence, and give up after another.

        Timed to the interval's end instead of every second: two wake-ups an interval, and a
        half-open connection is noticed within twice the interval.
        """
        now_s = self._loop.time()
        if now_s - self._quiet_since_s >= self._keepalive_s:
            self._pinged_s = now_s
        self._drive(self._client.loop_misc)
        oldest_s = min((sent_s for _, sent_s in self._in_flight.values()), default=now_s)
        if now_s - oldest_s >= self._keepalive_s:
            self._end(BrokerError("mqtt", "no-puback"))
        if not self._ended.done():
            self._timer = self._loop.call_at(min(self._quiet_since_s, oldest_s) + self._keepalive_s + 0.05, self._tick)

    @property
    def _quiet_since_s(self) -> float:
        """When one direction fell silent, or when that was asked about."""
        return max(min(self._last_in_s, self._last_out_s), self._pinged_s)

    def _drive(self, step: Callable[[], Any]) -> None:
        """Run a step of paho, then hand over what it noted."""
        if self._dropped:
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the one place: whatever paho makes of a broker's bytes
            self._end(BrokerError("mqtt", f"protocol-error ({type(error).__name__})"))
        try:
            self._hand_over()
        except Exception as error:  # noqa: BLE001 - ours: carried to `serve`, which ends the process
            self._bug = error
            self._end(BrokerError("mqtt", "handler-failed"))

    def _hand_over(self) -> None:
        while self._incoming:
            self._handlers.on_message(self._incoming.popleft())
        if self._subscribed:
            self._subscribed = False
            self._handlers.on_subscribed()
        had_acknowledgements = bool(self._acknowledged)
        while self._acknowledged:
            mid, reason = self._acknowledged.popleft()
            on_done, _ = self._in_flight.pop(mid, (None, 0.0))
            if reason == QUOTA_EXCEEDED:  # for now, not for ever: all of it again, after a backoff
                self._end(BrokerError("mqtt", "quota-exceeded"))
            elif on_done is not None:
                on_done(reason)
        if had_acknowledgements and self.ready and not self._ended.done():
            self._handlers.on_room()

    def _end(self, error: BrokerError) -> None:
        for future in (self._connack, self._ended):
            if not future.done():
                future.set_exception(error)
                future.exception()  # retrieved: whoever awaits it raises it again

    # --- paho's side: only notes ---

    def _on_connect(self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        if self._connack.done():
            return
        self._window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        self._keepalive_s = (
            getattr(properties, "ServerKeepAlive", 0) or self._keepalive_s
        )  # MQTT 5, 3.2.2.3.14; 0: none asked for
        if reason.is_failure:
            self._end(BrokerError("mqtt", _words(reason)))
        else:
            self._connack.set_result(None)

    def _on_log(self, _client: paho.Client, _data: Any, _level: int, text: str) -> None:
        """With TLS 1.3 a broker refuses our certificate after the handshake, and paho tells of the alert here alone."""
        if (refusal := refused_by_alert(text)) is not None:
            self._end(BrokerError("tls", refusal))

    def _on_disconnect(self, _client: paho.Client, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        self._end(BrokerError("mqtt", _words(reason) if flags.is_disconnect_packet_from_server else "connection-lost"))

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self._incoming.append(
            Incoming(
                message.topic,
                bytes(message.payload),
                message.retain,
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
            )
        )

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed = True

    def _on_publish(self, _client: paho.Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._acknowledged.append((mid, reason.value))


def _words(reason: ReasonCode) -> str:
    return str(reason).lower().replace(" ", "-")
