"""A document of ours at a print queue: followed to its end, told apart from everybody else's, cancelled."""

import asyncio
import contextlib
import shutil
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent.devices import ipp_jobs
from agent.devices.ipp import Conversation, QueueAddress, converse
from agent.devices.ipp_http import Refused
from agent.devices.ipp_jobs import Outcome, Submitted
from agent.simulator.cups import _PATH, Cups
from tests.devices.test_ipp import attribute, http, literal, message, request_of, serving

RAW = "application/vnd.cups-raw"


@contextlib.asynccontextmanager
async def print_server(folder: Path, *, history: bool = False) -> AsyncIterator[tuple[Cups, Conversation]]:
    if shutil.which("cupsd", path=_PATH) is None or shutil.which("lp") is None:
        pytest.skip("cupsd or lp is missing: apt-get install cups-daemon cups-client")
    cups = Cups(folder, history=history)
    await cups.start()
    try:
        async with converse(QueueAddress.parse(cups.url), literal, 30) as queue:
            yield cups, queue
    finally:
        await cups.stop()


async def ended(queue: Conversation, job: Submitted) -> Outcome | None:
    while (found := await ipp_jobs.outcome(queue, job)) is not None and not found.ended:
        await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("history", [True, False])
async def test_another_job_that_ends_meanwhile_is_not_taken_for_ours(tmp_path: Path, *, history: bool) -> None:
    async with print_server(tmp_path, history=history) as (cups, queue):
        cups.change(page_s=0.5)
        hers = await cups.print_something()
        job = await ipp_jobs.submit(queue, b"ours", RAW, "page", 60)
        assert await ipp_jobs.ours(queue) == [job.number]
        async with asyncio.timeout(10):
            while cups.printed != [hers]:
                await asyncio.sleep(0.02)
        cups.change(paper="out")
        found = await ipp_jobs.outcome(queue, job)
        assert found is not None
        assert not found.ended
        cups.change(paper="plenty")
        assert await ended(queue, job) == Outcome(9, 1)
        await ipp_jobs.forget(queue, job)
        await ipp_jobs.forget(queue, job)


@pytest.mark.parametrize("history", [True, False])
async def test_a_cancelled_job_has_ended_and_one_that_never_was_is_unknown(tmp_path: Path, *, history: bool) -> None:
    async with print_server(tmp_path, history=history) as (cups, queue):
        cups.change(held=True)
        job = await ipp_jobs.submit(queue, b"ours", RAW, "page", 60)
        await ipp_jobs.cancel(queue, job.number)
        assert await ended(queue, job) == Outcome(7, 0)
        assert await ipp_jobs.ours(queue) == []
        await ipp_jobs.cancel(queue, 4711)
        assert await ipp_jobs.outcome(queue, Submitted(4711, job.subscription)) is None
        assert await ipp_jobs.outcome(queue, Submitted(4711, None)) is None


async def test_cups_itself_cancels_a_page_that_nobody_is_left_to_cancel(tmp_path: Path) -> None:
    async with print_server(tmp_path) as (cups, queue):
        cups.change(held=True)
        job = await ipp_jobs.submit(queue, b"ours", RAW, "page", 1)
        async with asyncio.timeout(20):
            while await ipp_jobs.ours(queue) == [job.number]:
                await asyncio.sleep(0.1)
        assert cups.printed == []


def _server(answers: dict[int, bytes]) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await request_of(reader)
            (operation,) = struct.unpack(">H", request.split(b"\r\n\r\n", 1)[1][2:4])
            writer.write(http(answers.get(operation, message(status=0x0501))))
            await writer.drain()

    return handler


async def test_a_printer_without_events_is_followed_by_its_jobs() -> None:
    job = message(b"\x02", attribute(0x21, "job-id", b"\0\0\0\x07"), attribute(0x23, "job-state", b"\0\0\0\x09"))
    counted = message(
        b"\x02", attribute(0x23, "job-state", b"\0\0\0\x09"), attribute(0x21, "job-impressions-completed", b"\0\0\0\x01")
    )
    async with (
        serving(_server({0x02: job, 0x09: counted})) as address,  # type: ignore[arg-type]
        converse(address, literal, 5) as queue,
    ):
        sent = await ipp_jobs.submit(queue, b"x", RAW, "page", 60)
        assert sent == Submitted(7, None)
        assert await ipp_jobs.outcome(queue, sent) == Outcome(9, 1)
        await ipp_jobs.forget(queue, sent)
        with pytest.raises(Refused):
            await ipp_jobs.ours(queue)


async def test_a_job_without_a_number_is_none() -> None:
    async with (
        serving(_server({0x02: message()})) as address,  # type: ignore[arg-type]
        converse(address, literal, 5) as queue,
    ):
        with pytest.raises(Refused, match="without a number"):
            await ipp_jobs.submit(queue, b"x", RAW, "page", 60)
