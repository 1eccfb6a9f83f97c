"""A status conversation over a line in memory: what it believes, and when it gives up."""

import asyncio
import time
from collections.abc import Callable

import pytest

from agent.devices.escpos.codec import ENABLE_PUSH, Status
from agent.devices.escpos.printer import NotResponding, StatusPrinter
from agent.devices.lines import Absent, Line, LineHandlers
from agent.devices.usb import UsbDevice

HEALTHY = Status(online=True, cover_open=False, paper="adequate", error=None)
EMPTY = Status(online=False, cover_open=False, paper="empty", error=None)
EMPTY_FRAME = bytes.fromhex("18000F00")
HEALTHY_FRAME = bytes.fromhex("10000000")


class FakePrinter:
    """`answer` gives the bytes for each request; `said` is all that it was sent."""

    slot = "fake"
    device: UsbDevice | None = None

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer = answer
        self.said: list[bytes] = []
        self.opened = 0
        self.handlers: LineHandlers | None = None
        self.pushed: list[Status] = []
        self.doubts = 0
        self.lost: list[str] = []
        self.status = StatusPrinter(self._open, self.pushed.append, self._doubt, self.lost.append)

    async def _open(self, handlers: LineHandlers) -> Line:
        self.opened += 1
        self.handlers = handlers
        return self

    def _doubt(self) -> None:
        self.doubts += 1

    def write(self, data: bytes) -> None:
        self.said.append(data)
        if reply := self.answer(data):
            asyncio.get_running_loop().call_soon(self.say, reply)

    def say(self, data: bytes) -> None:
        if self.handlers is not None:
            self.handlers.on_data(data)

    def hang_up(self) -> None:
        assert self.handlers is not None
        handlers, self.handlers = self.handlers, None
        handlers.on_lost("hung up")

    def close(self) -> None:
        self.handlers = None


def replies(*four: int, noise: bytes = b"") -> Callable[[bytes], bytes]:
    """Answers DLE EOT 1 to 4 with these bytes."""
    return lambda request: noise + bytes([four[request[2] - 1]]) if request[:2] == b"\x10\x04" else b""


ALL_WELL = (0x12, 0x12, 0x12, 0x12)
NO_PAPER = (0x1A, 0x32, 0x12, 0x7E)


async def test_a_round_asks_all_four_in_turn_and_then_for_pushes() -> None:
    printer = FakePrinter(replies(*ALL_WELL))
    assert await printer.status.ask() == HEALTHY
    assert printer.said == [b"\x10\x04\x01", b"\x10\x04\x02", b"\x10\x04\x03", b"\x10\x04\x04", ENABLE_PUSH]


async def test_pushes_are_asked_for_again_at_each_round_while_online_since_a_power_cycle_forgets_them() -> None:
    printer = FakePrinter(replies(*ALL_WELL))
    await printer.status.ask()
    printer.answer = replies(*NO_PAPER)  # GS a is buffered: an offline printer would take it for later
    assert await printer.status.ask() == EMPTY
    printer.answer = replies(*ALL_WELL)
    await printer.status.ask()
    assert printer.said.count(ENABLE_PUSH) == 2
    assert printer.opened == 1


async def test_a_pushed_frame_in_the_middle_of_a_round_is_what_counts() -> None:
    printer = FakePrinter(replies(*ALL_WELL))

    def answer(request: bytes) -> bytes:
        return EMPTY_FRAME + b"\x12" if request == b"\x10\x04\x03" else replies(*ALL_WELL)(request)

    printer.answer = answer
    assert await printer.status.ask() == EMPTY
    assert printer.pushed == []


async def test_f80_noise_before_every_answer_is_seen_through() -> None:
    printer = FakePrinter(replies(*NO_PAPER, noise=b"\xff\x80\x00"))
    assert await printer.status.ask() == EMPTY
    assert len(printer.said) == 8  # two rounds that say the same


async def test_f80_on_a_noisy_line_pushes_are_not_asked_for() -> None:
    printer = FakePrinter(replies(*ALL_WELL, noise=b"\xff"))
    assert await printer.status.ask() == HEALTHY
    assert ENABLE_PUSH not in printer.said


async def test_f80_noise_that_looks_like_answers_is_never_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.devices.escpos.printer.ASK_DEADLINE_S", 0.5)
    printer = FakePrinter(replies(*NO_PAPER, noise=b"\x12"))
    with pytest.raises(NotResponding, match="noise instead of answers"):
        await printer.status.ask()
    assert len(printer.said) < 100  # a noisy line is not flooded with questions


async def test_f80_a_push_that_came_with_noise_is_asked_about_and_a_clean_one_believed() -> None:
    printer = FakePrinter(replies(*ALL_WELL))
    await printer.status.ask()
    printer.say(EMPTY_FRAME + b"\xff")
    assert (printer.pushed, printer.doubts) == ([], 1)
    await printer.status.ask()
    printer.status._noise_until_s = 0.0  # a second later
    printer.say(HEALTHY_FRAME)
    assert (printer.pushed, printer.doubts) == ([HEALTHY], 1)


async def test_f57_a_mute_printer_is_given_up_at_the_deadline_and_its_line_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.devices.escpos.printer.ASK_DEADLINE_S", 0.2)
    printer = FakePrinter(lambda _: b"")
    with pytest.raises(NotResponding, match="no answer to DLE EOT"):
        await printer.status.ask()
    assert printer.status.line is None
    printer.say(b"\x1a")  # a late answer is nobody's
    printer.answer = replies(*ALL_WELL)
    assert await printer.status.ask() == HEALTHY
    assert printer.opened == 2


async def test_f57_a_printer_that_fell_mute_no_longer_counts_as_pushing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.devices.escpos.printer.ASK_DEADLINE_S", 0.2)
    printer = FakePrinter(replies(*ALL_WELL))
    await printer.status.ask()
    printer.say(HEALTHY_FRAME)
    assert printer.status.pushes
    printer.answer = lambda _: b""
    with pytest.raises(NotResponding):
        await printer.status.ask()
    assert not printer.status.pushes


async def test_f62_a_line_that_goes_in_the_middle_of_a_question_ends_it_at_once() -> None:
    printer = FakePrinter(lambda _: b"")
    asyncio.get_running_loop().call_later(0.05, printer.hang_up)
    started_s = time.monotonic()
    with pytest.raises(Absent):
        await printer.status.ask()
    assert time.monotonic() - started_s < 1
    assert printer.lost == []  # said once, by the question


async def test_f62_a_line_that_goes_between_questions_is_told() -> None:
    printer = FakePrinter(replies(*ALL_WELL))
    await printer.status.ask()
    printer.hang_up()
    assert printer.lost == ["hung up"]
    assert printer.status.line is None


@pytest.mark.parametrize(("raised", "expected"), [(Absent("hung up"), Absent), (BlockingIOError(), NotResponding)])
async def test_f62_a_line_that_refuses_bytes_is_closed(raised: Exception, expected: type[Exception]) -> None:
    printer = FakePrinter(replies(*ALL_WELL))

    def refuse(_: bytes) -> bytes:
        raise raised

    printer.answer = refuse
    with pytest.raises(expected):
        await printer.status.ask()
    assert printer.status.line is None
