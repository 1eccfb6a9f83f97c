"""A session that never ends: it is told, and left alone. Contract §4: a session is absolute."""

import asyncio
from collections.abc import Callable
from typing import Final

from agent.peripherals.surroundings import Session

_LOOK_EVERY_S: Final = 300.0  # nothing announces that the lock was taken or freed


class LongSession:
    """`endless` says whether every look for `longest_s` found a citizen; `changed` is called when it answers differently."""

    def __init__(self, session: Session, longest_s: float, mono_s: Callable[[], float], changed: Callable[[], None]) -> None:
        self._session = session
        self._longest_s = longest_s
        self._mono_s = mono_s
        self._changed = changed
        self._since_s: float | None = None
        self.endless = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(min(_LOOK_EVERY_S, self._longest_s / 4))
            self.look()

    def look(self) -> None:
        now_s = self._mono_s()
        if not self._session.held():
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        endless = self._since_s is not None and now_s - self._since_s >= self._longest_s
        if endless != self.endless:
            self.endless = endless
            self._changed()
