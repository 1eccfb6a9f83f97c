"""Another client under this booth's name: a cloned key, or two booths with one certificate.

A broker may tell the one that it puts out (MQTT 5, reason code 0x8E). Mosquitto 2.0.11 does not, and closes the connection: so
several connections that the broker took and closed again at once mean the same.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from agent.contract.event import EventClass

TOLD: Final = "session-taken-over"
CLOSED: Final = "connection-lost"
_SHORT_S: Final = 60.0
_IN_A_ROW: Final = 5
_SHOWN_S: Final = 1800.0
_EVENT_EVERY_S: Final = 600.0  # two clients put each other out for as long as both are there


class Takeovers:
    """`recent`: within the last half hour. `changed` is called when that answers differently."""

    def __init__(self, record: Callable[[EventClass, str, dict[str, Any]], None], changed: Callable[[], None]) -> None:
        self._record = record
        self._changed = changed
        self._timer: asyncio.TimerHandle | None = None
        self._connected_s: float | None = None
        self._short = 0
        self._count = 0
        self._told_s: float | None = None

    @property
    def recent(self) -> bool:
        return self._timer is not None

    def connected(self) -> None:
        self._connected_s = asyncio.get_running_loop().time()

    def lost(self, reason: str) -> None:
        """A connection ended, or did not come about."""
        now_s = asyncio.get_running_loop().time()
        short = self._connected_s is not None and now_s - self._connected_s < _SHORT_S
        self._connected_s = None
        self._short = self._short + 1 if short and reason == CLOSED else 0
        if reason == TOLD or self._short >= _IN_A_ROW:
            self._notice(now_s, told=reason == TOLD)

    def link_lost(self) -> None:
        """What ends connections now is the network."""
        self._short = 0

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _notice(self, now_s: float, *, told: bool) -> None:
        self._count += 1
        if self._told_s is None or now_s - self._told_s >= _EVENT_EVERY_S:
            self._record("security", "takeover", {"times": self._count, "told_by": "broker" if told else "closed-connections"})
            self._told_s, self._count = now_s, 0
        self.close()
        self._timer = asyncio.get_running_loop().call_later(_SHOWN_S, self._over)
        self._changed()

    def _over(self) -> None:
        self._timer = None
        self._changed()
