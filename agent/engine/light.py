"""The word of the light onto the lamp: at every change, dimmed out of hours, and again before its dead-man ends."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final, Protocol

from agent.contract.words import LightWord

log = logging.getLogger(__name__)

_REARM_S: Final = 30.0  # well inside the time after which the lamp falls back to `starting` by itself
_FULL_PCT: Final = 100


class Lamp(Protocol):
    """The hardware. Each raises OSError, with what to do, where there is none or it may not be driven."""

    async def show(self, word: LightWord, dim_pct: int) -> None:
        """Show a word from now on, at `dim_pct` of the full brightness."""

    async def rearm(self) -> None:
        """Somebody is still alive. May wait for the end of a rhythm, and may be cancelled."""

    async def leave_starting(self) -> None:
        """Show `starting` for ever: what a dead agent leaves behind."""


class LightKeeper:
    """Drives the lamp. `word` may be set at any time; `dimmed` says whether the booth is closed now."""

    def __init__(self, lamp: Lamp, dimmed_pct: int, dimmed: Callable[[], bool]) -> None:
        self._lamp = lamp
        self._dimmed_pct = dimmed_pct
        self._dimmed = dimmed
        self._word: LightWord = "starting"
        self._changed = asyncio.Event()
        self._failed = False

    def show(self, word: LightWord) -> None:
        if word != self._word:
            self._word = word
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        shown: tuple[LightWord, int] | None = None
        while True:
            self._changed.clear()
            wanted = (self._word, self._dimmed_pct if self._dimmed() else _FULL_PCT)
            try:
                if wanted != shown:
                    await self._lamp.show(*wanted)
                    shown = wanted
                elif not await self._rearmed():
                    shown = None  # it may have been stopped half-way
                    continue
                self._works()
            except OSError as error:
                shown = None
                self._complain(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REARM_S):
                    await self._changed.wait()

    async def close(self) -> None:
        """The agent ends: what it leaves behind is `starting`."""
        try:
            await self._lamp.leave_starting()
        except OSError as error:
            self._complain(error)

    async def _rearmed(self) -> bool:
        """Re-arms; False where a new word came meanwhile, which must not wait for the end of a rhythm. Raises OSError."""
        rearming = asyncio.create_task(self._lamp.rearm())
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait((rearming, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            rearming.cancel()
            changed.cancel()
            await asyncio.gather(rearming, changed, return_exceptions=True)
        if rearming.cancelled():
            return False
        rearming.result()
        return True

    def _works(self) -> None:
        if self._failed:
            self._failed = False
            log.info("the light works again")

    def _complain(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            log.error("the light cannot be driven, tried again every %.0f s: %s", _REARM_S, error)
