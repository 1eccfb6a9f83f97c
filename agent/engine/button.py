"""The shopkeeper's button: pressed, the ticket is printed; held, the booth starts anew, unless a citizen uses it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from agent.contract.button import ButtonWord
from agent.contract.event import EventClass
from agent.engine.modes import Mode
from agent.peripherals.surroundings import Session
from agent.verbs.declaration import NotDone, Result

log = logging.getLogger(__name__)

_TICKET_WITHIN_S: Final = 30.0
_NEXT_TICKET_S: Final = 10.0  # who presses again and again wants one
_RESTART_WITHIN_S: Final = 60.0
_STORED_WITHIN_S: Final = 3.0


class Button:
    """`ticket` and `restart` are those of the commands; each raises `NotDone`. `restarting` is on while the light says so."""

    def __init__(
        self,
        ticket: Callable[[], Awaitable[Result]],
        restart: Callable[[], Awaitable[Result]],
        restarting: Mode,
        session: Session,
        record: Callable[[EventClass, str, dict[str, Any]], None],
        flushed: Callable[[float], Awaitable[bool]],
        mono_s: Callable[[], float],
    ) -> None:
        self._ticket = ticket
        self._restart = restart
        self._restarting = restarting
        self._session = session
        self._record = record
        self._flushed = flushed
        self._mono_s = mono_s
        self._ticket_at_s: float | None = None
        self._tasks: dict[ButtonWord, asyncio.Task[None]] = {}

    def heard(self, word: ButtonWord) -> None:
        """One press, when it is over; or one that goes on."""
        if word in self._tasks:
            return
        if word == "held":
            self._begin(word, self._start_anew())
        elif self._ticket_at_s is None or self._mono_s() - self._ticket_at_s >= _NEXT_TICKET_S:
            self._ticket_at_s = self._mono_s()
            self._begin(word, self._print())

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._restarting.close()

    def _begin(self, word: ButtonWord, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[word] = asyncio.get_running_loop().create_task(work)
        self._tasks[word].add_done_callback(lambda _: self._tasks.pop(word, None))

    async def _print(self) -> None:
        try:
            async with asyncio.timeout(_TICKET_WITHIN_S):
                await self._ticket()
        except TimeoutError:
            log.warning("the button was pressed, and the ticket was not printed in %g s", _TICKET_WITHIN_S)
        except NotDone as failure:
            log.warning("the button was pressed, and there is no ticket: %s", failure)
        except Exception:  # whatever a ticket raises ends here, as with a command
            log.exception("the button's ticket failed")

    async def _start_anew(self) -> None:
        with self._session.taken() as ours:
            if not ours:
                self._note("refused", "session-active")
                return
            self._note("executing")
            await self._flushed(_STORED_WITHIN_S)
            self._restarting.begin(_RESTART_WITHIN_S)
            try:
                async with asyncio.timeout(_RESTART_WITHIN_S):
                    await self._restart()
            except TimeoutError:
                self._failed("no answer from root", None)
            except NotDone as failure:
                self._failed(str(failure), failure.reason)
            except Exception as error:  # as above
                log.exception("the button's restart failed")
                self._failed(type(error).__name__, None)

    def _failed(self, message: str, reason: str | None) -> None:
        self._restarting.begin(0)
        log.warning("the button was held, and the booth does not start anew: %s", message)
        self._note("failed", reason, message)

    def _note(self, state: str, reason: str | None = None, message: str | None = None) -> None:
        more = {"reason": reason, "message": message}
        known = {key: value for key, value in more.items() if value is not None}
        self._record("command", "reboot", {"by": "button", "state": state} | known)
