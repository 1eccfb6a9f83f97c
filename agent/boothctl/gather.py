"""Listening to booths for a while: what is retained, then what comes; and telling them something."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from agent.contract.messages import Incoming, Message
from agent.system.broker import BrokerAddress, BrokerError, Dialer
from agent.system.mqtt import Handlers, Mqtt

QUIET_S: Final = 0.4  # nothing for this long: everything retained has arrived


class Listener:
    """A connection that hands every message on. Use as `async with`."""

    def __init__(self, address: BrokerAddress, subscriptions: Sequence[str], on_message: Callable[[Incoming], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._subscriptions = subscriptions
        self._connected = asyncio.Event()
        self._heard_s = 0.0
        self.error: BrokerError | None = None
        self._mqtt = Mqtt(
            Dialer(address),
            "boothctl-" + secrets.token_hex(6),
            # What is retained follows the SUBACK at once, however long the line is.
            Handlers(self._no_subscription, self._lost, self._message, on_subscribed=self._connected.set),
            subscriptions,
            session_expiry_s=0,
            retain_as_published=False,  # what lies there already is told from what comes
        )

    async def __aenter__(self) -> "Listener":
        self._running = self._loop.create_task(self._mqtt.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._mqtt.close()
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def connected(self, deadline_s: float) -> bool:
        """Wait for the first connection with its subscriptions; False, with `error` set, where there is none by the deadline."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._connected.wait()
        except TimeoutError:
            return False
        self._heard_s = self._loop.time()
        return True

    async def settled(self, deadline_s: float) -> None:
        """Wait until what is retained has arrived: nothing new for a moment."""
        end_s = self._loop.time() + deadline_s
        rest_s = QUIET_S
        while rest_s > 0:
            await asyncio.sleep(rest_s)
            rest_s = min(end_s, self._heard_s + QUIET_S) - self._loop.time()

    async def publish(self, message: Message, deadline_s: float) -> int | None:
        """Publish one message; the reason code of its acknowledgement, or None where there is none by the deadline."""
        done: asyncio.Future[int] = self._loop.create_future()

        def acknowledged(reason: int) -> None:
            if not done.done():
                done.set_result(reason)

        try:
            self._mqtt.publish(message, acknowledged)
            async with asyncio.timeout(deadline_s):
                return await done
        except (RuntimeError, TimeoutError):  # RuntimeError: the connection has ended meanwhile
            return None

    def _no_subscription(self) -> None:
        if not self._subscriptions:
            self._connected.set()

    def _message(self, message: Incoming) -> None:
        self._heard_s = self._loop.time()
        self._on_message(message)

    def _lost(self, error: BrokerError) -> None:
        self.error = error
