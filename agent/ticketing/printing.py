"""The status ticket: asked for by a command or by the shop's button, and by itself when it is the shopkeeper's turn."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from agent.contract.typed import Invalid, build, plain
from agent.contract.words import LightWord
from agent.engine.authority import TicketCode
from agent.engine.payloads import status_of
from agent.engine.watch import Watch
from agent.peripherals.declaration import TestFailed
from agent.peripherals.receipt_trial import LONGEST_S, Prints, print_surely
from agent.peripherals.surroundings import Session
from agent.rules.declaration import Reading
from agent.settings import Settings
from agent.ticketing.situation import Clock, Situations
from agent.verbs.declaration import NotDone, Result

log = logging.getLogger(__name__)

KIND: Final = "receipt-printer"
PRESS_GOOD_S: Final = 900.0  # one that a session delays; then whoever pressed has gone
BY_ITSELF_A_DAY: Final = 4
_SESSION_AGAIN_S: Final = 1.0  # nothing announces a session's end, and somebody waits
_BY_ITSELF_AGAIN_S: Final = 15.0
# The light's words that end the shopkeeper's turn. The others only lie over it for a while.
_TURN_ENDS: Final = frozenset({"ok", "broken", "no-internet"})
_PRINTS: Final = ("ok", "degraded")


@dataclass(frozen=True)
class _ByItself:
    """Tickets that were printed by themselves on a day, and whether this turn of the light had its own. Outlives a restart."""

    day: str = ""
    printed: int = 0
    told: bool = False


class Ticketing:
    """`command` prints at once or fails; `print_now` remembers a press until a session is over; `light` has to be told each word
    of the light. `is_open` says whether the shop is, `keep` stores."""

    def __init__(
        self,
        watches: Mapping[str, Watch],
        current: Callable[[], Settings],
        situations: Situations,
        session: Session,
        code: TicketCode,
        clock: Clock,
        is_open: Callable[[], bool],
        keep: Callable[[dict[str, Any]], None],
    ) -> None:
        self._watches = watches
        self._current = current
        self._situations = situations
        self._session = session
        self._code = code
        self._clock = clock
        self._is_open = is_open
        self._keep = keep
        self._word: LightWord = "starting"
        self._by_itself = _ByItself()
        self._pressed_s: float | None = None
        self._printing = False
        self._woken = asyncio.Event()

    def remember(self, state: Mapping[str, Any]) -> None:
        """What was printed before the restart."""
        with contextlib.suppress(Invalid):
            self._by_itself = build(_ByItself, state.get("ticket", {}), unknown="ignore")

    async def command(self) -> Result:
        """Print it now, with a code for the technician. Raises NotDone."""
        return await self._print(with_code=True)

    def print_now(self, reason: str) -> None:
        """Somebody stands there and wants one. In a session it is remembered, and printed when that is over."""
        if not self._printing:
            log.info("a ticket is wanted: %s", reason)
            self._pressed_s = self._clock.mono_s()
            self._woken.set()

    async def pressed(self) -> Result:
        """The button's ticket: `print_now`."""
        self._printer()
        self.print_now("the button was pressed")
        return {}

    def light(self, word: LightWord) -> None:
        """What the light shows from now on; called again for the same word, it looks again whether a ticket can be printed."""
        self._word = word
        if word in _TURN_ENDS and self._by_itself.told:
            self._remember_printed(told=False)
        if self._wants_one():
            self._woken.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._woken.clear()
            if self._pressed_s is not None:
                await self._print_pressed(self._pressed_s)
            elif self._wants_one() and self._may_print_by_itself():
                await self._print_by_itself()
            wait_s = _SESSION_AGAIN_S if self._pressed_s is not None else _BY_ITSELF_AGAIN_S if self._wants_one() else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._woken.wait()

    # --- when ---

    async def _print_pressed(self, pressed_s: float) -> None:
        if self._clock.mono_s() - pressed_s > PRESS_GOOD_S:
            self._pressed_s = None
            log.info("the ticket that was wanted is no longer printed: the session was too long")
        elif not self._session.held():
            self._pressed_s = None
            if await self._printed_or_said(with_code=True) == "session-active":
                self._pressed_s = pressed_s

    def _wants_one(self) -> bool:
        return self._current().ticket.auto and self._word == "your-turn" and not self._by_itself.told

    def _may_print_by_itself(self) -> bool:
        if not self._is_open() or self._session.held() or self._printed_today() >= BY_ITSELF_A_DAY:
            return False
        with contextlib.suppress(NotDone):
            return status_of(self._printer()) in _PRINTS  # what is broken itself tells nobody anything
        return False

    async def _print_by_itself(self) -> None:
        before = self._by_itself
        self._remember_printed(told=True, more=1)  # before it is begun: no restart prints it again and again
        # Without a code: nobody asked for it, anybody may take it, and a technician who is there would lose hers.
        if await self._printed_or_said(with_code=False) == "session-active":
            self._by_itself = before
            self._keep(plain(before))

    def _printed_today(self) -> int:
        return self._by_itself.printed if self._by_itself.day == self._today() else 0

    def _remember_printed(self, *, told: bool, more: int = 0) -> None:
        self._by_itself = _ByItself(self._today(), self._printed_today() + more, told)
        self._keep(plain(self._by_itself))

    def _today(self) -> str:
        return f"{datetime.fromtimestamp(self._clock.wall_s(), self._situations.zone()):%Y-%m-%d}"

    # --- printing ---

    async def _printed_or_said(self, *, with_code: bool) -> str | None:
        try:
            await self._print(with_code=with_code)
        except NotDone as failure:
            log.warning("the ticket did not come out: %s", failure)
            return failure.reason
        return None

    async def _print(self, *, with_code: bool) -> Result:
        """Raises NotDone."""
        watch = self._printer()
        async with watch.held(LONGEST_S):
            with self._session.taken() as ours:
                if not ours:
                    raise NotDone("a citizen uses the booth: nothing is printed before she has gone", "session-active")
                code = self._code.new() if with_code else None
                self._printing = True
                try:
                    async with asyncio.timeout(LONGEST_S):
                        result = await self._print_on(watch, code)
                except TimeoutError as error:
                    self._withdraw(code)
                    raise NotDone(f"the printer did not finish in {LONGEST_S:g} s", printer=watch.name) from error
                except TestFailed as failure:
                    self._withdraw(code)
                    raise NotDone(str(failure), failure.reason, printer=watch.name, **failure.seen) from failure
                except BaseException:  # a command that is cancelled, an agent that ends
                    self._withdraw(code)
                    raise
                finally:
                    self._printing = False
        return result

    async def _print_on(self, watch: Watch, code: str | None) -> Result:
        async def look() -> Reading:
            if await watch.look() is None:
                raise TestFailed("it was printed, and the printer cannot be asked whether it came out", sent=True)
            return watch.reading

        if watch.source is None:
            raise TestFailed("the receipt printer could not be opened: see its health")
        from agent.ticket.phone_codes import phone_code  # noqa: PLC0415 - 0.1 MiB, for a ticket
        from agent.ticket.ticket import ticket  # noqa: PLC0415

        situation = self._situations.now(code)
        printed = await print_surely(cast("Prints", watch.source), look, ticket(situation))
        codes = [said for trouble in situation.troubles if (said := phone_code(trouble.kind, trouble.code))]
        return {"printer": watch.name, "phone_codes": codes} | printed

    def _withdraw(self, code: str | None) -> None:
        if code is not None:
            self._code.withdraw(code)

    def _printer(self) -> Watch:
        """The one that is named; else the first. Raises NotDone."""
        printers = [watch for watch in self._watches.values() if watch.peripheral.kind == KIND]
        if not printers:
            raise NotDone("this booth has no receipt printer", "not-supported")
        named = [watch for watch in printers if watch.name == self._current().ticket.printer]
        return (named or printers)[0]
