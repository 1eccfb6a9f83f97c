"""A real web server on loopback that has one file, and every bad habit that a test gives it."""

import contextlib
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.faults.pki import Pair

Habit = Callable[["Handler"], None]


class FileServer(ThreadingHTTPServer):
    """`habits`: how the first requests are answered, one each; all others get the file, or the range of it that they ask for.
    `asked`: the headers of each request. `gate`: what `held_after` waits for. `most_at_once`: requests under way together."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, content: bytes, pair: Pair | None, highest: ssl.TLSVersion | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.habits: list[Habit] = []
        self.asked: list[dict[str, str]] = []
        self.ends = threading.Event()
        self.gate = threading.Event()
        self.sent = 0  # bytes of bodies that the kernel took
        self.under_way = self.most_at_once = 0
        self.scheme = "http" if pair is None else "https"
        if pair is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(pair.certificate, pair.key)
            if highest is not None:
                context.set_ciphers("ALL:@SECLEVEL=0")
                context.minimum_version = context.maximum_version = highest
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def url(self, path: str = "/agent.tar", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.server_port}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients are killed here, and hang up: nothing to print."""

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("range") for headers in self.asked]


class Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self.server.asked.append({name.lower(): value for name, value in self.headers.items()} | {":path": self.path})
        self.close_connection = True
        self.server.under_way += 1
        self.server.most_at_once = max(self.server.most_at_once, self.server.under_way)
        try:
            (self.server.habits.pop(0) if self.server.habits else whole)(self)
        finally:
            self.server.under_way -= 1

    def log_message(self, *_: Any) -> None:
        """Tests look at `asked`."""

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.server.sent += len(data)

    def wait(self, seconds: float) -> bool:
        """Whether the server still runs after that."""
        return not self.server.ends.wait(seconds)


def whole(handler: Handler) -> None:
    """As any good server: all of it, or the range that was asked for."""
    content = handler.server.content
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    start = int(asked[1]) if asked else 0
    if asked and start >= len(content):
        handler.head(416, 0, Content_Range=f"bytes */{len(content)}")
    elif asked:
        handler.head(206, len(content) - start, Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send(content[start:])
    else:
        handler.head(200, len(content))
        handler.send(content)


def without_ranges(handler: Handler) -> None:
    handler.head(200, len(handler.server.content))
    handler.send(handler.server.content)


def cut_after(count: int) -> Habit:
    """Says how much there is, sends so much of it, and hangs up."""

    def habit(handler: Handler) -> None:
        handler.head(200, len(handler.server.content))
        handler.send(handler.server.content[:count])

    return habit


def silent_after(count: int) -> Habit:
    """Sends so much and is silent, for as long as the server runs."""

    def habit(handler: Handler) -> None:
        cut_after(count)(handler)
        handler.wait(120)

    return habit


def held_after(count: int) -> Habit:
    """Sends so much, and the rest when the gate is open."""

    def habit(handler: Handler) -> None:
        cut_after(count)(handler)
        handler.server.gate.wait(60)
        handler.send(handler.server.content[count:])

    return habit


def never(handler: Handler) -> None:
    """Not even an answer."""
    handler.wait(120)


def drop_by_drop(count: int) -> Habit:
    """So many bytes, ten times a second."""

    def habit(handler: Handler) -> None:
        content = handler.server.content
        handler.head(200, len(content))
        for sent in range(0, len(content), count):
            if not handler.wait(0.1):
                return
            handler.send(content[sent : sent + count])

    return habit


def header_letter_by_letter(handler: Handler) -> None:
    letters = iter(b"HTTP/1.1 200 OK\r\n" + b"X-Filler: x\r\n" * 100)
    for letter in letters:
        if not handler.wait(0.1):
            return
        handler.send(bytes([letter]))


def endless(handler: Handler) -> None:
    """No length, and no end: until nobody reads any more."""
    handler.head(200, None)
    while not handler.server.ends.is_set():
        handler.send(bytes(64 * 1024))


def file_and_more(handler: Handler) -> None:
    """The right file, chunked, and something behind it."""
    handler.head(200, None, Transfer_Encoding="chunked")
    for chunk in (handler.server.content, b"more"):
        handler.send(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
    handler.send(b"0\r\n\r\n")


def chunked(handler: Handler) -> None:
    handler.head(200, None, Transfer_Encoding="chunked")
    handler.send(f"{len(handler.server.content):x}\r\n".encode() + handler.server.content + b"\r\n0\r\n\r\n")


def status(number: int) -> Habit:
    return lambda handler: handler.head(number, 0)


def redirect(location: str, number: int = 302) -> Habit:
    return lambda handler: handler.head(number, 0, Location=location)


def range_of(content_range: str, data: bytes) -> Habit:
    """A 206 of its own mind."""

    def habit(handler: Handler) -> None:
        handler.head(206, len(data), Content_Range=content_range)
        handler.send(data)

    return habit


def no_http(handler: Handler) -> None:
    handler.send(b"220 mail.example ESMTP\r\n")


@contextlib.contextmanager
def file_server(content: bytes, pair: Pair | None = None, highest: ssl.TLSVersion | None = None) -> Iterator[FileServer]:
    """One that runs. `pair`: with TLS, and this certificate; `highest`: no newer TLS than that."""
    server = FileServer(content, pair, highest)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.ends.set()
        server.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
