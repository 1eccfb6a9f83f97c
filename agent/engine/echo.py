"""A word to ourselves: the only proof that the broker still delivers what we subscribed to.

A broker may grant a forbidden subscription and then deliver nothing (mosquitto 2.0 does).
"""

import asyncio
import os
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 3600.0
HEARD_WITHIN_S: Final = 10.0


class Echo:
    """`heard` is None until a word came back or failed to. `send` publishes; False where there is no connection."""

    def __init__(self, send: Callable[[bytes], bool], on_change: Callable[[], None]) -> None:
        self._send = send
        self._on_change = on_change
        self._word = b""
        self._timer: asyncio.TimerHandle | None = None
        self.heard: bool | None = None

    def connected(self) -> None:
        """A new connection: that the last one heard no longer counts; that it did not, until this one does."""
        if self.heard:
            self.heard = None
        self.say()

    def forget(self) -> None:
        """What was heard was another broker's."""
        self.stop()
        self.heard = None

    def say(self) -> None:
        self.stop()
        self._word = os.urandom(8).hex().encode()
        if self._send(self._word):
            self._timer = asyncio.get_running_loop().call_later(HEARD_WITHIN_S, self._decide, False)

    def received(self, payload: bytes) -> None:
        if payload == self._word:
            self._decide(heard=True)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _decide(self, heard: bool) -> None:
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.say)
        if heard != self.heard:
            self.heard = heard
            self._on_change()
