"""A session that never ends: it is told, and left alone. Contract §4: a session is absolute. And a lock that nobody can open."""

import asyncio
from collections.abc import Callable
from typing import Final

from agent.peripherals.surroundings import Session

_LOOK_EVERY_S: Final = 300.0  # nothing announces that the lock was taken or freed
_ENDS_SOON_S: Final = 3.0  # while somebody is asked to end it


class LongSession:
    """`endless`: every look for `longest_s` found a citizen. `openable`: the lock could be opened. `changed` is called when
    either is another."""

    def __init__(self, session: Session, longest_s: float, mono_s: Callable[[], float], changed: Callable[[], None]) -> None:
        self._session = session
        self._longest_s = longest_s
        self._mono_s = mono_s
        self._changed = changed
        self._since_s: float | None = None
        self.endless = False
        self.openable = True

    def adopt(self, longest_s: float) -> None:
        """Another limit, from the next look on."""
        self._longest_s = longest_s

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_ENDS_SOON_S if self.endless else min(_LOOK_EVERY_S, self._longest_s / 4))

    def look(self) -> None:
        now_s = self._mono_s()
        if not self._session.held() or not self._session.openable:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        endless = self._since_s is not None and now_s - self._since_s >= self._longest_s
        if (endless, self._session.openable) != (self.endless, self.openable):
            self.endless, self.openable = endless, self._session.openable
            self._changed()
