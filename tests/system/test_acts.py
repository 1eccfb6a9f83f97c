"""Asking root: what comes back for every way in which a socket may answer, and that nobody waits for ever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from agent.system.acts import SocketActs

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def root(folder: Path, handler: Handler) -> AsyncIterator[SocketActs]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_unix_server(answer, folder / "usb-reset.sock")
    try:
        yield SocketActs(folder)
    finally:
        server.close()
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.01)


def says(line: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"receipt-printer\n"
        writer.write(line)
        await writer.drain()

    return handle


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b'{"act":"usb-reset","slot":"receipt-printer","done":true,"code":"done","detail":null}\n', "done"),
        (
            b'{"act":"usb-reset","slot":"receipt-printer","done":false,"code":"unknown-slot","detail":"\xc3\xa9"}\n',
            "unknown-slot",
        ),
        (b'{"done":"yes","code":"refused"}\n', "refused"),
        (b'{"done":false,"code":"a\\u001b[2J"}\n', "a\\x1b[2J"),
        (b"", "busy"),
        (b"no JSON\n", "bad-verdict"),
        (b"[]\n", "bad-verdict"),
        (b'{"done":false}\n', "bad-verdict"),
        (b"\xff\xfe\n", "bad-verdict"),
        (b"x" * 100_000, "bad-verdict"),
    ],
)
async def test_what_root_answers(tmp_path: Path, line: bytes, word: str) -> None:
    async with root(tmp_path, says(line)) as acts:
        assert await acts.act("usb-reset", "receipt-printer") == word


async def test_an_act_that_is_not_installed_says_so(tmp_path: Path) -> None:
    assert await SocketActs(tmp_path).act("usb-reset", "receipt-printer") == "not-installed"
    (tmp_path / "usb-reset.sock").write_text("")
    assert await SocketActs(tmp_path).act("usb-reset", "receipt-printer") == "not-installed"


async def test_a_socket_that_hangs_up_at_once_is_busy(tmp_path: Path) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with root(tmp_path, hang_up) as acts:
        assert await acts.act("usb-reset", "receipt-printer") == "busy"


async def test_one_that_never_answers_is_left_by_whoever_has_a_deadline(tmp_path: Path) -> None:
    async def say_nothing(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with root(tmp_path, say_nothing) as acts:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await acts.act("usb-reset", "receipt-printer")
