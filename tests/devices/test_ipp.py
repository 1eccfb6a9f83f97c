"""The IPP client against servers that answer well, badly, slowly, or not at all."""

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.devices import ipp_codec
from agent.devices.ipp import Job, Queue, QueueAddress, Supply, converse
from agent.devices.ipp_codec import Malformed
from agent.devices.ipp_http import ANSWER_LIMIT, IppFailed, NoAnswer, QueueNotFound, Refused, SchedulerAway

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def literal(host: str) -> list[str]:
    return [host]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[QueueAddress]:
    """A server of one answer for each connection."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    try:
        yield QueueAddress("127.0.0.1", server.sockets[0].getsockname()[1], "/printers/forms")
    finally:
        server.close()
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > 1:  # handlers notice that the other end went
                await asyncio.sleep(0.01)


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split()[0])
    return head + await reader.readexactly(length)


def saying(answer: bytes, heard: list[bytes] | None = None) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await request_of(reader)
        if heard is not None:
            heard.append(request)
        writer.write(answer)
        await writer.drain()
        await reader.read()  # until the client leaves

    return handler


def attribute(tag: int, name: str, *values: bytes) -> bytes:
    raw = b""
    for index, value in enumerate(values):
        key = b"" if index else name.encode()
        raw += struct.pack(">BH", tag, len(key)) + key + struct.pack(">H", len(value)) + value
    return raw


def message(*parts: bytes, status: int = 0) -> bytes:
    start = struct.pack(">BBHI", 2, 0, status, 1)
    return start + b"\x01" + attribute(0x47, "attributes-charset", b"utf-8") + b"".join(parts) + b"\x03"


def http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/ipp\r\nContent-Length: %d\r\n\r\n" % len(body) + body


# media-col: a collection with a collection inside, which the reader skips. RFC 8010 section 3.1.6.
COLLECTION = (
    attribute(0x34, "media-col-ready", b"")
    + attribute(0x4A, "", b"media-size")
    + attribute(0x34, "", b"") + attribute(0x4A, "", b"x-dimension") + attribute(0x21, "", b"\0\0\x52\x08")
    + attribute(0x37, "", b"") + attribute(0x37, "", b"")
)  # fmt: skip
PRINTER = message(
    b"\x04",
    COLLECTION,
    attribute(0x23, "printer-state", b"\0\0\0\x05"),
    attribute(0x44, "printer-state-reasons", b"media-empty-error", b"paused"),
    attribute(0x22, "printer-is-accepting-jobs", b"\x01"),
    attribute(0x21, "queued-job-count", b"\0\0\0\x02"),
    attribute(0x42, "marker-names", b"Black", b"Waste"),
    attribute(0x44, "marker-types", b"toner", b"waste-toner"),
    attribute(0x21, "marker-levels", b"\0\0\0\x0c", b"\xff\xff\xff\xfd"),
    attribute(0x45, "device-uri", b"usb://Brother/HL?serial=X"),
    attribute(0x36, "printer-make-and-model", b"\0\x02fr\0\x05Laser"),
    attribute(0x13, "printer-state-change-time", b""),
)
QUEUE = Queue(
    5, ("media-empty-error", "paused"), True, 2, None, None, (Supply("Black", "toner", 12), Supply("Waste", "waste-toner", None)),
    "usb://Brother/HL?serial=X", None, "Laser",
)  # fmt: skip


async def ask(address: QueueAddress, seconds: float = 5.0) -> Queue:
    async with converse(address, literal, seconds) as scheduler:
        return await scheduler.queue()


async def test_an_answer_with_its_length_or_in_chunks_is_read_alike() -> None:
    half = len(PRINTER) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (PRINTER[:half], PRINTER[half:]))
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-Trailer: 1\r\n\r\n"
    announced = b"HTTP/1.1 100 Continue\r\n\r\n" + http(PRINTER)
    for answer in (http(PRINTER), chunked, announced):
        async with serving(saying(answer)) as address:
            assert await ask(address) == QUEUE


async def test_jobs_are_asked_for_by_numbers_alone_and_no_private_attribute_by_name() -> None:
    job = (
        b"\x02"
        + attribute(0x21, "job-id", b"\0\0\0\x07")
        + attribute(0x23, "job-state", b"\0\0\0\x09")
        + attribute(0x21, "job-media-sheets-completed", b"\0\0\0\x03")
        + attribute(0x21, "time-at-completed", b"\0\0\0\x64")
    )
    nameless = b"\x02" + attribute(0x23, "job-state", b"\0\0\0\x09")
    heard: list[bytes] = []
    async with serving(saying(http(message(job, nameless)), heard)) as address:
        async with converse(address, literal, 5) as scheduler:
            assert await scheduler.done_jobs(3) == [Job(7, 9, 3, 0, None, 100)]
        async with converse(address, literal, 5) as scheduler:
            await scheduler.jobs()
    for request in heard:
        assert b"requested-attributes" in request
        for private in (b"job-name", b"document-", b"originating", b"job-uri", b"\x03all", b"job-printer"):
            assert private not in request
        assert b"requesting-user-name\0\x0bbooth-agent" in request


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", QueueNotFound),
        (http(message(status=0x0406)), QueueNotFound),
        (http(message(status=0x0403)), Refused),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", Refused),
        (b"HTTP/1.1 200 OK\r\n\r\n", Refused),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Refused),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (ANSWER_LIMIT + 1), Refused),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n", Refused),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", Refused),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX", Refused),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Refused),
        (b"x" * 100_000, Refused),
        (http(b"<html></html>"), Refused),
        (http(PRINTER[:-40]), Refused),
        (http(message()), Refused),  # no printer in it
    ],
)
async def test_what_is_no_good_answer_has_an_error_of_its_kind(answer: bytes, error: type[IppFailed]) -> None:
    async with serving(saying(answer)) as address:
        with pytest.raises(error):
            await ask(address)


async def test_a_connection_that_ends_in_the_middle_is_a_scheduler_that_went_away() -> None:
    async def leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(http(PRINTER)[:-5])
        await writer.drain()
        writer.close()

    async with serving(leaves) as address:
        with pytest.raises(SchedulerAway, match="in the middle"):
            await ask(address)


async def test_f57_one_that_accepts_and_never_answers_costs_its_deadline() -> None:
    async def mute(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(mute) as address:
        began_s = time.monotonic()
        with pytest.raises(NoAnswer, match=r"no answer in 0\.2 s"):
            await ask(address, 0.2)
        assert time.monotonic() - began_s < 2


async def test_f58_one_byte_a_second_costs_the_deadline_of_the_whole() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        for byte in http(PRINTER):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    async with serving(slow) as address:
        began_s = time.monotonic()
        with pytest.raises(NoAnswer):
            await ask(address, 0.3)
        assert time.monotonic() - began_s < 2


async def test_the_addresses_of_a_name_are_tried_in_turn() -> None:
    async def two(_: str) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with serving(saying(http(PRINTER))) as address, converse(address, two, 5) as scheduler:
        assert await scheduler.queue() == QUEUE


async def test_nobody_there_and_nobody_of_that_name() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        port = taken.getsockname()[1]
        with pytest.raises(SchedulerAway, match="refused"):
            await ask(QueueAddress("127.0.0.1", port, "/printers/forms"))

    async def unknown(_: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async def hangs(_: str) -> list[str]:
        await asyncio.sleep(3600)
        return []

    address = QueueAddress("print.example", 631, "/printers/forms")
    with pytest.raises(SchedulerAway, match="unknown host name"):
        async with converse(address, unknown, 5):
            pass
    with pytest.raises(NoAnswer):
        async with converse(address, hangs, 0.1):
            pass


async def test_it_can_be_cancelled_in_the_middle() -> None:
    asked = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await request_of(reader)
        asked.set()
        await reader.read()

    async with serving(mute) as address:
        asking = asyncio.create_task(ask(address, 60))
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("ipp://127.0.0.1:8631/printers/forms", ("127.0.0.1", 8631, "/printers/forms")),
        ("ipp://localhost/classes/any", ("localhost", 631, "/classes/any")),
        ("ipp://[::1]/printers/a-b_c", ("::1", 631, "/printers/a-b_c")),
    ],
)
def test_an_address_is_read(url: str, place: tuple[str, int, str]) -> None:
    address = QueueAddress.parse(url)
    assert (address.host, address.port, address.path) == place
    assert QueueAddress.parse(address.uri) == address


@pytest.mark.parametrize(
    "url",
    [
        "", "forms", "http://h/printers/x", "ipp:///printers/x", "ipp://h", "ipp://h/", "ipp://h:0/printers/x",
        "ipp://h:99999/printers/x", "ipp://u:p@h/printers/x", "ipp://h/printers/x?a", "ipp://h/printers/x y",
        "ipp://h/printers/x\r\nX: y", "ipp://[::1/printers/x",
    ],
)  # fmt: skip
def test_what_is_no_address_is_told_what_to_write(url: str) -> None:
    with pytest.raises(ValueError, match="write ipp://"):
        QueueAddress.parse(url)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        ipp_codec.response(data)


@given(st.integers(0, len(PRINTER) - 1), st.integers(0, 255), st.integers(0, len(PRINTER)))
def test_a_damaged_message_is_read_or_malformed(at: int, byte: int, end: int) -> None:
    with contextlib.suppress(Malformed):
        ipp_codec.response((PRINTER[:at] + bytes([byte]) + PRINTER[at + 1 :])[:end])


@given(st.integers(0, len(PRINTER) - 1))
def test_a_cut_message_is_malformed(end: int) -> None:
    with pytest.raises(Malformed):
        ipp_codec.response(PRINTER[:end])
