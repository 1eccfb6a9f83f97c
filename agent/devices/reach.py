"""Whether the network behind the cable carries HTTP to where it should: the operator's check page."""

import asyncio
import ssl
import time
from dataclasses import dataclass
from functools import cache
from typing import Final
from urllib.parse import urlsplit

from agent.contract.reasons import connect_reason, tls_reason

CHECK_DEADLINE_S: Final = 8.0


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


async def check(page: CheckPage, address: str) -> CheckResult:
    """Ask for the page at `address`, the resolved host."""
    started_s = time.monotonic()
    deadline_s = asyncio.get_running_loop().time() + CHECK_DEADLINE_S
    try:
        async with asyncio.timeout_at(deadline_s):
            reader, writer = await asyncio.open_connection(address, page.port)
    except OSError as error:  # TimeoutError is one
        return CheckResult(f"connect:{connect_reason(error)}")
    connect_ms = round((time.monotonic() - started_s) * 1000, 1)
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
