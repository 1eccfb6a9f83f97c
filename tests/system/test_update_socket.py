"""Questions to root's part of updates, over a real socket: every way in which there is no answer is an OSError, and the right
answer is waited for."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.contract.envelope import MAX_ENVELOPE_BYTES
from agent.system import update_socket as module
from agent.system.update_socket import UpdateSocket

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ANSWER = {"reported": {"phase": "idle"}, "tasks": []}


@contextlib.asynccontextmanager
async def served(folder: Path, serve: Serve) -> AsyncIterator[UpdateSocket]:
    """`serve` is what root does with a question. Nothing of a connection may be left afterwards."""
    ended: list[asyncio.Task[None]] = []

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ended.append(task)
        try:
            await serve(reader, writer)
        except ConnectionError:  # whoever asked has gone
            return
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    path = folder / "update.sock"
    server = await asyncio.start_unix_server(one, path, limit=4 * MAX_ENVELOPE_BYTES)
    try:
        yield UpdateSocket(path)
    finally:
        server.close()
        async with asyncio.timeout(20):
            await asyncio.gather(*ended)
        await server.wait_closed()


def says(data: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(data)
        await writer.drain()

    return serve


async def test_a_question_is_a_line_with_its_envelope_behind_it_and_the_answer_is_a_line(tmp_path: Path) -> None:
    asked: list[tuple[Any, bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = json.loads(await reader.readline())
        asked.append((question, await reader.readexactly(question["bytes"])))
        writer.write(json.dumps(ANSWER).encode() + b"\n")

    envelope = b'{"payload":\n"\xff"}'
    async with served(tmp_path, serve) as root:
        assert root.installed
        assert await root.ask({"act": "take", "layer": "booth"}, envelope) == ANSWER
        assert await root.ask({"act": "status"}) == ANSWER
    assert asked == [
        ({"act": "take", "layer": "booth", "bytes": len(envelope)}, envelope),
        ({"act": "status", "bytes": 0}, b""),
    ]


async def test_of_an_envelope_that_is_too_large_so_much_goes_over_that_root_can_say_it(tmp_path: Path) -> None:
    lengths: list[tuple[int, int]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = json.loads(await reader.readline())
        envelope = await reader.readexactly(MAX_ENVELOPE_BYTES + 1)
        lengths.append((question["bytes"], len(envelope)))
        writer.write(b"{}\n")

    async with served(tmp_path, serve) as root:
        assert await root.ask({"act": "take"}, b"x" * (4 * MAX_ENVELOPE_BYTES)) == {}
    assert lengths == [(4 * MAX_ENVELOPE_BYTES, MAX_ENVELOPE_BYTES + 1)]


async def test_an_answer_after_a_long_stage_is_waited_for(tmp_path: Path) -> None:
    staged = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await staged.wait()
        for piece in (b'{"reported"', b": 1", b"}", b"\n"):  # and comes in pieces
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    async with served(tmp_path, serve) as root:
        asking = asyncio.ensure_future(root.ask({"act": "stage", "kind": "agent"}))
        done, _ = await asyncio.wait({asking}, timeout=0.3)
        assert not done
        staged.set()
        async with asyncio.timeout(20):
            assert await asking == {"reported": 1}


async def test_where_root_is_not_installed_it_is_said(tmp_path: Path) -> None:
    root = UpdateSocket(tmp_path / "update.sock")
    assert not root.installed
    with pytest.raises(OSError, match="No such file"):
        await root.ask({"act": "status"})
    (tmp_path / "update.sock").write_text("no socket")
    assert not root.installed
    with pytest.raises(OSError, match=r"refused|not a socket"):
        await root.ask({"act": "status"})


async def test_a_socket_behind_which_nobody_listens_any_more(tmp_path: Path) -> None:
    async with served(tmp_path, says(b"")) as root:
        pass
    if not root.installed:  # from Python 3.13 on the server takes its file with it
        import socket  # noqa: PLC0415

        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(tmp_path / "update.sock"))
    assert root.installed
    with pytest.raises(OSError, match="refused"):
        await root.ask({"act": "status"})


async def test_who_is_hung_up_on_without_a_word_is_told_where_to_look(tmp_path: Path) -> None:
    """As systemd does it with the second one who asks."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with served(tmp_path, serve) as root:
        for message in (b"", b"x" * MAX_ENVELOPE_BYTES):
            with pytest.raises(ConnectionError):
                await root.ask({"act": "take"}, message)
    async with served(tmp_path, says(b"")) as root:
        with pytest.raises(ConnectionError, match="booth-update-serve"):
            await root.ask({"act": "status"})


@pytest.mark.parametrize(
    "answer",
    [b"\n", b"garbage\n", b"\xff\xfe\x00\n", b"[]\n", b"7\n", b"null\n", b'{"reported": ', b"[" * 100_000 + b"\n"],
    ids=["nothing", "garbage", "bytes", "list", "number", "null", "half", "deep"],
)
async def test_garbage_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    async with served(tmp_path, says(answer)) as root:
        with pytest.raises(ConnectionError, match="root"):
            await root.ask({"act": "status"})


async def test_a_line_without_an_end_is_given_up_on(tmp_path: Path) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readline()
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    async with served(tmp_path, serve) as root, asyncio.timeout(20):
        with pytest.raises(ConnectionError):
            await root.ask({"act": "status"})
    assert sent < 16 * 1024 * 1024


async def test_root_that_comes_to_no_end_is_given_up_on_whatever_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ANSWERS_WITHIN_S", 0.3)

    async def hangs(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        while await reader.read(65_536):
            pass

    async def never_reads(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await given_up.wait()

    given_up = asyncio.Event()
    async with served(tmp_path, hangs) as root, asyncio.timeout(20):
        with pytest.raises(ConnectionError, match="to an end"):
            await root.ask({"act": "take"}, b"x" * 100)
    async with served(tmp_path, never_reads) as root, asyncio.timeout(20):
        with pytest.raises(ConnectionError, match="to an end"):
            await root.ask({"act": "take"}, b"x" * MAX_ENVELOPE_BYTES)
        given_up.set()


async def test_who_stops_asking_hangs_up(tmp_path: Path) -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        asked.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        hung_up.set()

    async with served(tmp_path, serve) as root, asyncio.timeout(20):
        asking = asyncio.ensure_future(root.ask({"act": "stage"}))
        await asked.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await hung_up.wait()
