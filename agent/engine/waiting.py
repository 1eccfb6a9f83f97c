"""Documents that wait until the one before is judged."""

import asyncio
from collections import deque
from typing import Final, NamedTuple

from agent.contract.documents import LayerName

_MOST: Final = 32
_MOST_BYTES: Final = 2 * 1024 * 1024


class Waiting(NamedTuple):
    kind: str
    layer: LayerName
    payload: bytes


class Queue:
    """Documents that wait for their turn: so many and so large; beyond, the newest ones.

    `passed_over`: some had to go since it was last asked. Whoever asks has what is retained delivered again: a flood of forgeries
    must not hide what the operator has published.
    """

    def __init__(self) -> None:
        self._items: deque[Waiting] = deque()
        self._bytes = 0
        self._passed_over = False
        self._arrived = asyncio.Event()
        self._later: dict[tuple[str, LayerName], asyncio.TimerHandle] = {}

    def put(self, item: Waiting) -> None:
        if (timer := self._later.pop((item.kind, item.layer), None)) is not None:
            timer.cancel()  # this one is newer
        self._items.append(item)
        self._bytes += len(item.payload)
        while len(self._items) > 1 and (self._bytes > _MOST_BYTES or len(self._items) > _MOST):
            self._bytes -= len(self._items.popleft().payload)
            self._passed_over = True
        self._arrived.set()

    async def get(self) -> Waiting:
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item = self._items.popleft()
        self._bytes -= len(item.payload)
        return item

    def was_flooded(self) -> bool:
        """Whether documents were passed over, now that none waits any more. Asked once."""
        flooded = self._passed_over and not self._items
        self._passed_over &= not flooded
        return flooded

    def again(self, item: Waiting, after_s: float) -> None:
        """Put it back later, unless a newer one of its layer comes."""
        if not any((other.kind, other.layer) == (item.kind, item.layer) for other in self._items):
            self._later[item.kind, item.layer] = asyncio.get_running_loop().call_later(after_s, self.put, item)

    def close(self) -> None:
        for timer in self._later.values():
            timer.cancel()
