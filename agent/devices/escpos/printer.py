"""A status conversation with a receipt printer: asked with DLE EOT, told by Automatic Status Back."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from agent.devices.escpos.codec import ENABLE_PUSH, RECOVER, STATUS_REQUESTS, Decoder, Garbage, Push, Reply, Status, polled_status
from agent.devices.lines import Absent, Line, LineHandlers

ASK_DEADLINE_S: Final = 3.0  # for all four answers: a printer that says one byte a second is not usable
_DOUBT_S: Final = 1.0  # how long after noise a pushed frame is checked instead of believed
_SETTLE_S: Final = 0.1  # between two rounds on a noisy line: for late answers, and not to add to the noise


class NotResponding(Exception):
    """The printer is there and does not answer, or not in a way that can be read."""


class StatusPrinter:
    """One printer. `ask` opens the line when there is none, and closes it when the printer is mute.

    `on_push` gets a status that the printer sent by itself; `on_doubt` is called instead when there
    was noise on the line, and asks to be followed by `ask`; `on_lost` when the line went while
    nothing was asked (`ask` itself raises Absent).
    """

    def __init__(
        self,
        open_line: Callable[[LineHandlers], Awaitable[Line]],
        on_push: Callable[[Status], None],
        on_doubt: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._open_line = open_line
        self._on_push = on_push
        self._on_doubt = on_doubt
        self._on_lost = on_lost
        self._decoder = Decoder()
        self._replies: asyncio.Queue[int | None] = asyncio.Queue()  # None: the line went
        self._asking = False
        self._noise_until_s = 0.0
        self._noise_count = 0
        self._pushed: Status | None = None
        self.line: Line | None = None
        self.pushes = False  # whether this printer was heard to push

    async def recover(self) -> None:
        """Leave an error, and forget what was to be printed: it was somebody's. Raises what opening the line raises."""
        line = await self._opened()
        line.write(RECOVER)

    async def ask(self) -> Status:
        """The status now. Raises NotResponding, Absent, and what else opening the line raises."""
        await self._opened()
        self._asking = True
        try:
            async with asyncio.timeout(ASK_DEADLINE_S):
                return await self._ask_until_sure()
        except TimeoutError as error:
            self.close()  # so that a late answer is not taken for the next question's
            raise NotResponding("no answer to DLE EOT" if not self._noise_count else "noise instead of answers") from error
        except Absent:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise NotResponding("takes no bytes") from error
        finally:
            self._asking = False

    async def _opened(self) -> Line:
        if self.line is None:
            self._decoder = Decoder()
            self.line = await self._open_line(LineHandlers(self._received, self._went))
        return self.line

    def close(self) -> None:
        self.pushes = False  # on no line, on none that we would hear
        if self.line is not None:
            self.line.close()
            self.line = None

    async def _ask_until_sure(self) -> Status:
        """One round without noise is believed; on a noisy line, two in a row that say the same."""
        replies = await self._round()
        before = None
        while self._noise_count and (replies is None or replies != before):
            before = replies
            await asyncio.sleep(_SETTLE_S)
            replies = await self._round()
        assert replies is not None
        status = self._newer(polled_status(replies))
        if status.online and not self._noise_count and self.line is not None:
            # GS a is buffered, and forgotten when the printer is switched off: said again at each clean round while
            # online. On a noisy line its answer would be doubted, and asked for again without end.
            self.line.write(ENABLE_PUSH)
        return status

    async def _round(self) -> dict[int, int] | None:
        """The answers by request; None where it is not sure which byte answers which request."""
        self._noise_count = 0
        self._pushed = None
        _drain(self._replies)
        replies: dict[int, int] = {}
        unasked = 0
        for number, request in STATUS_REQUESTS.items():
            if self.line is None:
                raise Absent("hung up")
            unasked += self._replies.qsize()
            self.line.write(request)
            reply = await self._replies.get()
            if reply is None:
                raise Absent("hung up")
            replies[number] = reply
        unasked += self._replies.qsize()
        self._noise_count += unasked
        return None if unasked else replies

    def _newer(self, polled: Status) -> Status:
        return polled if self._pushed is None else self._pushed  # a push that came meanwhile is newer

    def _received(self, data: bytes) -> None:
        now_s = asyncio.get_running_loop().time()
        for item in self._decoder.feed(data):
            match item:
                case Reply(byte):
                    if self._asking:
                        self._replies.put_nowait(byte)
                case Garbage(count):
                    self._noise_count += count
                    self._noise_until_s = now_s + _DOUBT_S
                case Push(status):
                    self._heard(status, trusted=now_s >= self._noise_until_s)

    def _heard(self, status: Status, *, trusted: bool) -> None:
        self.pushes = True
        if self._asking:
            self._pushed = status if trusted else None
        elif trusted:
            self._on_push(status)
        else:
            self._on_doubt()

    def _went(self, reason: str) -> None:
        self.line = None
        self.pushes = False
        if self._asking:
            self._replies.put_nowait(None)
        else:
            self._on_lost(reason)


def _drain(replies: "asyncio.Queue[int | None]") -> None:
    while not replies.empty():
        replies.get_nowait()
