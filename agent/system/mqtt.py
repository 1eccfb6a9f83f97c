"""An MQTT client that stays connected: dials, serves one `mqtt_link.Link`, and dials again with jittered backoff."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

from agent.contract.messages import Message
from agent.system import chance
from agent.system.broker import BrokerError, Dialer, TcpFigures
from agent.system.mqtt_link import Handlers, Link
from agent.system.threads import in_thread

SESSION_EXPIRY_S: Final = 7 * 24 * 3600
DIAL_TIMEOUT_S: Final = 45.0
BACKOFF_MAX_S: Final = 60.0
STABLE_AFTER_S: Final = 60.0  # a connection that lasted this long starts the backoff afresh
_SETTLED_AFTER_S: Final = 300.0
_SPREAD_ATTEMPT: Final = 5  # within 8 to 32 s

__all__ = ["Handlers", "Mqtt"]


class Mqtt:
    """One MQTT client that stays connected. `run` it; `publish` while `room` is above 0."""

    def __init__(
        self,
        dialer: Dialer,
        client_id: str,
        handlers: Handlers,
        subscriptions: Sequence[str] = (),
        will: Callable[[], Message] | None = None,
        session_expiry_s: int = SESSION_EXPIRY_S,
        *,
        retain_as_published: bool = True,
    ) -> None:
        """`session_expiry_s` 0 asks for no session at all: what a tool wants, not a booth. `retain_as_published`: whether
        `Incoming.retained` says that a message was published to stay, as a booth asks of a command, or that it lay there."""
        self._dialer = dialer
        self._client_id = client_id
        self._handlers = handlers
        self._subscriptions = subscriptions
        self._will = will
        self._session_expiry_s = session_expiry_s
        self._retain_as_published = retain_as_published
        self._keepalive_s = dialer.address.keepalive_s
        self._link: Link | None = None
        self._attempt = 0
        self._closing = False
        self._retry_now = asyncio.Event()
        self._hurry = False
        self.session = chance.token(4)
        self.last_error: BrokerError | None = None

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.ready

    @property
    def room(self) -> int:
        """How many messages may be handed over now."""
        return self._link.room if self._link is not None and self._link.ready else 0

    @property
    def figures(self) -> TcpFigures | None:
        """Round trip and retransmissions of the connection, by the kernel."""
        return self._link.figures() if self._link is not None and self._link.ready else None

    @property
    def local_host(self) -> str | None:
        """The address on our side of the connection."""
        return self._link.local_host if self._link is not None and self._link.ready else None

    def publish(self, message: Message, on_done: Callable[[int], None] | None = None) -> None:
        """Send one message; `on_done` gets the PUBACK's reason code, and is never called if the connection ends first.

        Raises RuntimeError when there is no room.
        """
        if self._link is None or not self._link.ready or (message.qos and not self._link.room):
            raise RuntimeError("no room: wait for on_room")
        self._link.publish(message, on_done)

    def subscribe_again(self) -> None:
        """What is retained is delivered once more."""
        if self._link is not None and self._link.ready:
            self._link.subscribe(self._subscriptions)

    def retry_now(self) -> None:
        """Cut a waiting backoff short: the network came back."""
        self._retry_now.set()

    async def redial(self, dialer: Dialer, farewell: Message | None = None, deadline_s: float = 2.0) -> None:
        """Another broker, from now on: leave this one in order."""
        self._dialer = dialer
        self._keepalive_s = dialer.address.keepalive_s
        self._attempt = 0
        self._hurry = True
        self._retry_now.set()
        if (link := self._link) is None:
            return
        if link.ready:
            await link.close(farewell, deadline_s)
        else:
            link.give_up()

    async def run(self) -> None:
        """Connect, serve, and connect again with jittered backoff, until `close`."""
        while not self._closing:
            started_s = asyncio.get_running_loop().time()
            try:
                await self._one_connection()
            except BrokerError as error:
                self._link = None
                self.last_error = error
                if not self._closing:
                    self._handlers.on_lost(error)
            lasted_s = asyncio.get_running_loop().time() - started_s
            if lasted_s > STABLE_AFTER_S:
                self._attempt = 0
            # A broker that had a whole fleet comes back to all of it at once.
            if lasted_s > _SETTLED_AFTER_S and not self._hurry:
                self._attempt = _SPREAD_ATTEMPT
            if not self._closing:
                await self._back_off()

    async def close(self, farewell: Message | None = None, deadline_s: float = 2.0) -> None:
        """Publish a last message, disconnect in order, and end `run`."""
        self._closing = True
        self._retry_now.set()
        if (link := self._link) is not None and link.ready:
            await link.close(farewell, deadline_s)

    async def _one_connection(self) -> None:
        dialer = self._dialer
        connection = await self._dial(dialer)
        if dialer is not self._dialer:
            connection.close()
            return  # it leads to the broker of before
        self.session = chance.token(4)
        will = None if self._will is None else self._will()
        link = Link(
            connection, self._client_id, self._keepalive_s, will, self._session_expiry_s, self._handlers,
            retain_as_published=self._retain_as_published,
        )  # fmt: skip
        self._link = link
        try:
            await link.handshake(dialer.address.host, dialer.address.port)
            if dialer is not self._dialer:
                return
            link.subscribe(self._subscriptions)
            self.last_error = None
            if not self._closing:
                self._handlers.on_connected()
                await link.serve()
        finally:
            self._link = None
            link.drop()

    async def _dial(self, dialer: Dialer) -> socket.socket:
        try:
            dialing = in_thread(dialer.dial, "dial-broker")
        except OSError as error:  # no thread is to be had
            raise BrokerError("connect", "no-resources") from error
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                return await asyncio.shield(dialing)
        except (TimeoutError, asyncio.CancelledError) as error:
            dialing.add_done_callback(_close_late)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise BrokerError("dns", "timeout") from error

    async def _back_off(self) -> None:
        if self._hurry:  # it was us who left, alone
            self._hurry = False
            return
        # Jitter above a floor: 25,000 booths that lost one broker must not come back in one second.
        ceiling_s = min(BACKOFF_MAX_S, 1.0 * 2.0 ** min(self._attempt, 6))
        self._attempt += 1
        self._retry_now.clear()
        try:
            async with asyncio.timeout(chance.between(0.25, 1.0) * ceiling_s):
                await self._retry_now.wait()
        except TimeoutError:
            return
        self._hurry = False  # it has been hurried


def _close_late(dialing: "asyncio.Future[socket.socket]") -> None:
    if not dialing.cancelled() and dialing.exception() is None:
        dialing.result().close()
