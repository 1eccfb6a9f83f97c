"""Printing a receipt, and being sure that it came out: what `test-print` does, and how the ticket is printed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

from agent.peripherals.declaration import Test, TestFailed
from agent.rules.declaration import Reading
from agent.ticket.paragraphs import Paragraph
from agent.ticket.slip import slip

LONGEST_S: Final = 45.0  # with the wait for a worker's start on an old board, and two looks
_LOOKS_AGAIN_S: Final = 1.0  # a print server whose one conversation has just ended refuses the next for a moment


class Prints(Protocol):
    """A receipt printer's source."""

    async def print_document(self, paragraphs: Iterable[Paragraph]) -> str:
        """Print, cut and wait; what says that it came out. Raises TestFailed."""

    def stopped_by(self, reading: Reading) -> TestFailed | None:
        """What keeps it from printing, if a reading shows anything."""


async def print_surely(source: Prints, look: Callable[[], Awaitable[Reading]], paragraphs: Iterable[Paragraph]) -> dict[str, Any]:
    """Print. It came out when the printer says so at the end, and a fresh reading shows nothing that stops it. Raises TestFailed,
    with the `codes` of the findings where there are any."""
    try:
        said_by = await source.print_document(paragraphs)
    except TestFailed as failure:
        if failure.reason is None:
            await look()  # so that the finding is there when the failure is told
        raise
    reading = await look()
    if reading.unreadable is not None:
        await asyncio.sleep(_LOOKS_AGAIN_S)
        reading = await look()
    stopped = source.stopped_by(reading)
    if stopped is not None:
        raise stopped
    return {"printed": True, "said_by": said_by}


async def _test_print(source: Prints, look: Callable[[], Awaitable[Reading]]) -> dict[str, Any]:
    return await print_surely(source, look, slip())


TEST_PRINT: Final = Test("test-print", _test_print, deadline_s=LONGEST_S)
