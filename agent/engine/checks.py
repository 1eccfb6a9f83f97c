"""Active checks when nothing happens: a booth is used 150 times a year, and a silent fault waits for its next visitor."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from agent.contract.state import Hours
from agent.engine.watch import Watch
from agent.rules.checks import check_due, people_expected

_LOOK_EVERY_S: Final = 60.0  # at the clock; also how late a check may be


class ActiveChecks:
    """Asks every peripheral for an active probe at opening time, at a cadence, and before an appointment.

    `local_time` is the booth's, without a zone, or None while it is not known (a clock below its floor).
    """

    def __init__(
        self,
        watches: Callable[[], Iterable[Watch]],
        hours: Hours,
        appointments: Sequence[datetime],
        every_s: float,
        local_time: Callable[[], datetime | None],
        mono_s: Callable[[], float],
    ) -> None:
        self._watches = watches
        self._hours = hours
        self._appointments = appointments
        self._every_s = every_s
        self._local_time = local_time
        self._mono_s = mono_s
        # As of the last look: so that at opening time nothing is called too old before its check is owed.
        self.in_hours = False

    def adopt(self, hours: Hours, appointments: Sequence[datetime], every_s: float) -> None:
        """Go by these from the next look on."""
        self._hours, self._appointments, self._every_s = hours, appointments, every_s

    async def run(self) -> None:
        """Until cancelled. The first look of the day is the watches' own: they begin with an active probe."""
        looked = self._local_time()
        checked_s = self._mono_s()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now = self._local_time()
            quiet_s = self._mono_s() - checked_s
            if now is None:  # the cadence needs no wall clock
                due = quiet_s >= self._every_s
            else:
                due = check_due(looked or now, now, quiet_s, self._every_s, self._hours, self._appointments)
            if due:
                checked_s = self._mono_s()
                for watch in self._watches():
                    watch.wake(active=True)
            looked = now
            self.in_hours = people_expected(now, self._hours, self._appointments)
