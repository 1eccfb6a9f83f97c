"""Requests that come faster than anybody needs: dropped, counted, and told once a minute."""

import asyncio
from collections.abc import Callable
from typing import Final

PER_S: Final = 50
_SAY_EVERY_S: Final = 60.0
_AT_ONCE: Final = 60.0
_THEN_A_SECOND: Final = 2.0


class Budget:
    """What nobody signed, all verbs together: so many at once, and then so many a second. Each one costs the card some writes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = _AT_ONCE
        self._counted_s = self._loop.time()

    def takes(self) -> bool:
        """Whether one more may be done now."""
        now_s = self._loop.time()
        self._left = min(_AT_ONCE, self._left + (now_s - self._counted_s) * _THEN_A_SECOND)
        self._counted_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Rate:
    """`say` is called with how many were dropped."""

    def __init__(self, say: Callable[[int], None]) -> None:
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._second = 0
        self._count = 0
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def admits(self) -> bool:
        """Whether one more is taken in this second."""
        second = int(self._loop.time())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= PER_S:
            return True
        self._dropped += 1
        if self._timer is None:
            self._timer = self._loop.call_later(_SAY_EVERY_S, self._say_dropped)
        return False

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _say_dropped(self) -> None:
        self._timer = None
        self._say(self._dropped)
        self._dropped = 0
