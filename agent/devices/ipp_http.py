"""One HTTP connection that carries IPP (RFC 8010 section 4, RFC 9112), with limits: what answers is not trusted."""

import asyncio
import errno
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

ANSWER_LIMIT: Final = 256 * 1024  # bytes of one answer; a queue's is under 1 KiB
_HEAD_LIMIT: Final = 16 * 1024  # bytes of HTTP headers

Resolve = Callable[[str], Awaitable[list[str]]]


class IppFailed(Exception):
    """No answer that could be used; the text says why."""


class SchedulerAway(IppFailed):
    """Nobody serves there, or the connection ended before the answer."""


class NoAnswer(IppFailed):
    """Somebody may serve there, and did not answer in time."""


class QueueNotFound(IppFailed):
    """The server knows no queue of that name."""


class Refused(IppFailed):
    """It answered, but not what was asked: not permitted, an error of its own, or no IPP at all."""


class Connection:
    """To an IPP server. It has no deadline of its own: the caller's bounds it."""

    def __init__(self, authority: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._authority = authority
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, host: str, port: int, resolve: Resolve, seconds: float) -> "Connection":
        """To the first address that accepts: `localhost` is often ::1 first. Each has its share of `seconds`, so that
        one that swallows packets leaves time for the next. Raises SchedulerAway, NoAnswer."""
        refusal: OSError = ConnectionRefusedError(errno.ECONNREFUSED, "no address")
        try:
            addresses = await resolve(host)
            for address in addresses:
                try:
                    async with asyncio.timeout(seconds / len(addresses)):
                        streams = await asyncio.open_connection(address, port, limit=_HEAD_LIMIT)
                except OSError as error:
                    refusal = error
                else:
                    return cls(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", *streams)
        except (socket.gaierror, UnicodeError) as error:
            raise SchedulerAway("unknown host name") from error
        if isinstance(refusal, TimeoutError):
            raise NoAnswer("no connection in time") from refusal
        raise SchedulerAway("connection refused" if refusal.errno == errno.ECONNREFUSED else "unreachable") from refusal

    def close(self) -> None:
        self._writer.transport.abort()  # nothing unsent is of any use

    async def post(self, path: str, body: bytes, user_agent: str) -> bytes:
        """The body of the answer. Raises IppFailed's kinds."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._authority}\r\nUser-Agent: {user_agent}\r\n"
            f"Content-Type: application/ipp\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            self._writer.write(head.encode() + body)
            return await self._answer()
        except asyncio.IncompleteReadError as error:
            raise SchedulerAway("connection closed in the middle of an answer") from error
        except OSError as error:
            raise SchedulerAway("connection lost") from error
        except asyncio.LimitOverrunError as error:
            raise Refused("an HTTP line without end") from error

    async def _answer(self) -> bytes:
        status = 100
        headers: Mapping[str, str] = {}
        while 100 <= status < 200:  # 1xx are announcements
            status, headers = _head(await self._reader.readuntil(b"\r\n\r\n"))
        if status == 404:
            raise QueueNotFound("HTTP 404")
        if status != 200:
            raise Refused(f"HTTP {status}")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks()
        length = headers.get("content-length", "")
        if re.fullmatch("[0-9]{1,12}", length) is None:
            raise Refused("an HTTP answer without length")
        return await self._reader.readexactly(_within_limit(int(length)))

    async def _chunks(self) -> bytes:
        body = bytearray()
        while size := _chunk_size(await self._reader.readuntil(b"\r\n")):
            _within_limit(len(body) + size)
            body += await self._reader.readexactly(size)
            if await self._reader.readexactly(2) != b"\r\n":
                raise Refused("no HTTP chunk")
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers say nothing to us
        return bytes(body)


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    lines = data.decode("latin-1").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.[01] ([0-9]{3})( .*)?", lines[0])
    if match is None:
        raise Refused("no HTTP answer")
    pairs = (line.partition(":") for line in lines[1:] if line)
    return int(match[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if re.fullmatch(rb"[0-9A-Fa-f]{1,8}", digits) is None:
        raise Refused("no HTTP chunk")
    return int(digits, 16)


def _within_limit(size: int) -> int:
    if size > ANSWER_LIMIT:
        raise Refused(f"an answer of over {ANSWER_LIMIT // 1024} KiB")
    return size
