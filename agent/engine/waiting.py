"""Documents that wait until the one before is judged."""

import asyncio
from collections import deque
from typing import Final, NamedTuple

from agent.contract.documents import LayerName

_WAITING_BYTES: Final = 2 * 1024 * 1024


class Waiting(NamedTuple):
    kind: str
    layer: LayerName
    payload: bytes


class Queue:
    """Documents that wait for their turn, in 2 MiB; beyond, the newest ones."""

    def __init__(self) -> None:
        self._items: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._later: dict[tuple[str, LayerName], asyncio.TimerHandle] = {}

    def put(self, item: Waiting) -> int:
        """Returns how many older ones had to go."""
        if (timer := self._later.pop((item.kind, item.layer), None)) is not None:
            timer.cancel()  # this one is newer
        self._items.append(item)
        before = len(self._items)
        while len(self._items) > 1 and sum(len(waiting.payload) for waiting in self._items) > _WAITING_BYTES:
            self._items.popleft()
        self._arrived.set()
        return before - len(self._items)

    async def get(self) -> Waiting:
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        return self._items.popleft()

    def again(self, item: Waiting, after_s: float) -> None:
        """Put it back later, unless a newer one of its layer comes."""
        if not any((other.kind, other.layer) == (item.kind, item.layer) for other in self._items):
            self._later[item.kind, item.layer] = asyncio.get_running_loop().call_later(after_s, self.put, item)

    def close(self) -> None:
        for timer in self._later.values():
            timer.cancel()
