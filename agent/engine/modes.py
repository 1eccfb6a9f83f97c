"""What a technician switches on and what ends by itself, so that nobody has to remember to switch it off."""

import asyncio
from collections.abc import Callable


class Mode:
    """`on`, until `until_s` (wall clock). `changed` is called at both ends; `keep` stores the end, for after a restart."""

    def __init__(
        self, wall_s: Callable[[], float], changed: Callable[[], None], keep: Callable[[float | None], None] = lambda _: None
    ) -> None:
        self._wall_s = wall_s
        self._changed = changed
        self._keep = keep
        self._timer: asyncio.TimerHandle | None = None
        self.until_s: float | None = None

    @property
    def on(self) -> bool:
        return self._timer is not None

    def begin(self, for_s: float) -> float:
        """From now on, for so long, whatever it was before; 0 ends it. Returns the end, by the wall clock."""
        self.close()
        self.until_s = self._wall_s() + for_s
        if for_s > 0:  # by the loop's clock: that of the wall may jump
            self._timer = asyncio.get_running_loop().call_later(for_s, self._end)
        self._keep(self.until_s if for_s > 0 else None)
        self._changed()
        return self.until_s

    def resume(self, until_s: float, longest_s: float) -> None:
        """Go on after a restart. A clock that went back makes it last no longer than it ever may."""
        left_s = min(until_s - self._wall_s(), longest_s)
        if left_s > 0:
            self.begin(left_s)
        else:
            self._keep(None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self.begin(0)
