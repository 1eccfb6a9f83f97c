"""Whether the network behind the cable carries HTTP to where it should: the operator's check page."""

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, zip_longest
from typing import Final
from urllib.parse import urlsplit

from agent.contract.reasons import connect_reason, tls_reason

CHECK_DEADLINE_S: Final = 8.0
HEAD_START_S: Final = 0.25  # of one address before the next is tried beside it (RFC 8305)
_ADDRESS_TIMEOUT_S: Final = 5.0
_MOST_ADDRESSES: Final = 4


@dataclass(frozen=True)
class CheckPage:
    """The operator's page that answers 204. Raises ValueError from `parse` with what to write instead."""

    host: str
    port: int
    target: str
    tls: bool

    @classmethod
    def parse(cls, url: str) -> "CheckPage":
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if host is None or parts.scheme not in ("http", "https") or parts.username or not url.isascii() or " " in url:
            raise ValueError("write http://HOST/PATH or https://HOST/PATH of a page that answers 204")
        tls = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(host, port or (443 if tls else 80), target, tls)


@dataclass(frozen=True)
class CheckResult:
    """`result`: `ok`, `portal` (somebody else answered), `http-<status>` (the page itself is broken),
    `tls:<reason>` or `connect:<reason>`. `connect_ms` is the round trip of the TCP handshake."""

    result: str
    connect_ms: float | None = None


async def check(page: CheckPage, addresses: Sequence[str]) -> CheckResult:
    """Ask for the page at the first of `addresses`, the resolved host, that answers."""
    deadline_s = asyncio.get_running_loop().time() + CHECK_DEADLINE_S
    try:
        async with asyncio.timeout_at(deadline_s):
            connection, connect_ms = await _first_connected(addresses, page.port)
    except OSError as error:  # TimeoutError is one
        return CheckResult(f"connect:{connect_reason(error)}")
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        async with asyncio.timeout_at(deadline_s):
            if page.tls:
                await writer.start_tls(_tls_context(), server_hostname=page.host)
            return CheckResult(await _ask(reader, writer, page), connect_ms)
    except ssl.SSLError as error:
        return CheckResult(f"tls:{tls_reason(error)}", connect_ms)
    except OSError as error:
        return CheckResult(f"connect:{connect_reason(error)}", connect_ms)
    finally:
        writer.transport.abort()


async def _first_connected(addresses: Sequence[str], port: int) -> tuple[socket.socket, float]:
    """Where IPv6 alone is broken, IPv4 costs a head start more, not a time-out.

    The winner, and how long its handshake took in ms. Raises OSError: of all failures the one that says most.
    """
    waiting = deque(_interleaved(addresses)[:_MOST_ADDRESSES])
    running: set[asyncio.Task[tuple[socket.socket, float]]] = set()
    failures: list[OSError] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_connected(waiting.popleft(), port)))
            head_start_s = HEAD_START_S if waiting else None
            done, _ = await asyncio.wait(running, timeout=head_start_s, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                running.discard(attempt)
                try:
                    return attempt.result()
                except OSError as error:
                    failures.append(error)
    finally:
        for attempt in running:
            attempt.cancel()
        for late in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(late, tuple):
                late[0].close()
    # Somebody was there; somebody may be there; nobody can be.
    failures.sort(key=lambda error: (not isinstance(error, ConnectionRefusedError), not isinstance(error, TimeoutError)))
    raise failures[0]


def _interleaved(addresses: Sequence[str]) -> list[str]:
    """The resolver's order, but the families take turns: dead IPv6 addresses must not hide the one of IPv4."""
    first_is_v6 = ":" in addresses[0]
    first = [address for address in addresses if (":" in address) is first_is_v6]
    second = [address for address in addresses if (":" in address) is not first_is_v6]
    return [address for address in chain.from_iterable(zip_longest(first, second)) if address is not None]


async def _connected(address: str, port: int) -> tuple[socket.socket, float]:
    started_s = time.monotonic()
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        async with asyncio.timeout(_ADDRESS_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:  # cancelled too: another one won
        connection.close()
        raise
    return connection, round((time.monotonic() - started_s) * 1000, 1)


@cache
def _tls_context() -> ssl.SSLContext:
    # Kept: reading the machine's list of authorities takes as long as the rest of the check.
    return ssl.create_default_context()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, page: CheckPage) -> str:
    request = f"GET {page.target} HTTP/1.1\r\nHost: {page.host}\r\nUser-Agent: booth-agent\r\nConnection: close\r\n\r\n"
    writer.write(request.encode())
    await writer.drain()
    try:
        status_line = (await reader.readuntil(b"\n")).decode("latin-1").split()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return "portal"  # whoever it was, it was no HTTP server that we know
    if len(status_line) < 2 or not status_line[0].startswith("HTTP/") or not status_line[1].isdigit():
        return "portal"
    status = int(status_line[1])
    if status == 204:
        return "ok"
    # A portal answers in the page's stead, with a page or a redirection of its own (RFC 8910; 511 is RFC 6585).
    return "portal" if status < 400 or status == 511 else f"http-{status}"
