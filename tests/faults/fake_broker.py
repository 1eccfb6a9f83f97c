"""A small MQTT 5 broker that misbehaves on purpose: it withholds CONNACK or PUBACK, refuses, sends garbage.

Written from the standard (OASIS MQTT 5.0) on raw asyncio, apart from paho, so that a misreading in one does not
hide the same in the other. It keeps every packet that it was sent, and delivers nothing to anybody.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from agent.contract.decode import decode_object

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14

_PATIENCE_S: Final = 30.0

# MQTT 5.0, 2.2.2.2: the properties that a client may send, by how their values are written.
_BYTE, _TWO, _FOUR, _VARIABLE, _TEXT, _PAIR = range(6)
_PROPERTIES: Final = {
    0x01: _BYTE, 0x02: _FOUR, 0x03: _TEXT, 0x08: _TEXT, 0x09: _TEXT, 0x0B: _VARIABLE, 0x11: _FOUR, 0x15: _TEXT,
    0x16: _TEXT, 0x17: _BYTE, 0x18: _FOUR, 0x19: _BYTE, 0x1F: _TEXT, 0x21: _TWO, 0x22: _TWO, 0x23: _TWO, 0x26: _PAIR,
    0x27: _FOUR,
}  # fmt: skip
SESSION_EXPIRY, WILL_DELAY, MAXIMUM_PACKET_SIZE, MESSAGE_EXPIRY = 0x11, 0x18, 0x27, 0x02


@dataclass(frozen=True)
class Will:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: dict[int, Any]


@dataclass(frozen=True)
class Connect:
    client_id: str
    clean_start: bool
    keepalive_s: int
    properties: dict[int, Any]
    will: Will | None


@dataclass(frozen=True)
class Publish:
    at_s: float
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    mid: int | None
    properties: dict[int, Any]

    @property
    def event_id(self) -> str:
        return str(decode_object(self.payload)["id"])


@dataclass
class Session:
    """One connection, and everything that came over it."""

    at_s: float
    writer: asyncio.StreamWriter
    connect: Connect | None = None
    published: list[Publish] = field(default_factory=list)
    acknowledged: set[int] = field(default_factory=set)
    subscribed: list[str] = field(default_factory=list)
    packets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    most_in_flight: int = 0
    ended_s: float | None = None

    @property
    def disconnected(self) -> bool:
        """Whether the client said goodbye."""
        return DISCONNECT in self.packets

    @property
    def in_flight(self) -> int:
        return sum(1 for message in self.published if message.mid is not None and message.mid not in self.acknowledged)

    def events(self) -> list[Publish]:
        return [message for message in self.published if "/event/" in message.topic]

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def acknowledge(self, mid: int, reason: int = 0) -> None:
        self.acknowledged.add(mid)
        self.send(packet(PUBACK, 0, mid.to_bytes(2, "big") + (bytes([reason]) if reason else b"")))

    def hang_up(self) -> None:
        self.writer.transport.abort()


@dataclass
class FakeBroker:
    """Use as `async with`. Replace the hooks to misbehave; each is asked anew for every packet."""

    connack: Callable[[Session], bytes | None] = lambda _: packet(CONNACK, 0, b"\0\0\0")
    puback: Callable[[Session, Publish], int | None] = lambda _session, _message: 0  # a reason code, or None for silence
    suback: Callable[[Session], bytes | None] | None = None
    sessions: list[Session] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for session in self.sessions:
            session.hang_up()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def published(self) -> list[Publish]:
        """Of all connections, in order."""
        return [message for session in self.sessions for message in session.published]

    async def until(self, condition: Callable[[], Any], what: str = "condition", patience_s: float = _PATIENCE_S) -> Any:
        """Wait until `condition` is truthy; returns its value."""
        return await until(condition, what, patience_s, lambda: f"{len(self.sessions)} connections: {self.sessions}")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        session = Session(time.monotonic(), writer)
        self.sessions.append(session)
        try:
            # Cancelled by the end of the test: asyncio would log it as an error of the server's.
            with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
                await self._serve(session, reader)
        finally:
            session.ended_s = time.monotonic()
            writer.transport.abort()
            self._serving.discard(task)

    async def _serve(self, session: Session, reader: asyncio.StreamReader) -> None:
        while True:
            first, body = await read_packet(reader)
            session.packets.append(first >> 4)
            session.sizes.append(len(body))
            self._answer(session, first, body)

    def _answer(self, session: Session, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == CONNECT:
            session.connect = read_connect(body)
            session.send(self.connack(session) or b"")
        elif kind == SUBSCRIBE:
            session.subscribed += read_subscribe(body)
            granted = body[:2] + b"\0" + b"\1" * len(session.subscribed)
            session.send(packet(SUBACK, 0, granted) if self.suback is None else self.suback(session) or b"")
        elif kind == PUBLISH:
            message = read_publish(first, body)
            session.published.append(message)
            if message.mid is not None:
                session.acknowledged.discard(message.mid)  # a number may be used again
                session.most_in_flight = max(session.most_in_flight, session.in_flight)
                reason = self.puback(session, message)
                if reason is not None:
                    session.acknowledge(message.mid, reason)
        elif kind == PINGREQ:
            session.send(packet(PINGRESP, 0, b""))


async def until(
    condition: Callable[[], Any], what: str, patience_s: float = _PATIENCE_S, told: Callable[[], str] = lambda: ""
) -> Any:
    """Wait until `condition` is truthy; returns its value. For what no observer on a broker can see."""
    end_s = time.monotonic() + patience_s
    while not (value := condition()):
        if time.monotonic() > end_s:
            raise AssertionError(f"never came true: {what}; {told()}")
        await asyncio.sleep(0.02)
    return value


async def within(work: Awaitable[Any], deadline_s: float = _PATIENCE_S) -> Any:
    async with asyncio.timeout(deadline_s):
        return await work


# --- the wire ---


def packet(kind: int, flags: int, body: bytes) -> bytes:
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def variable(number: int) -> bytes:
    """A variable byte integer (1.5.5)."""
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(out)


def text(value: str) -> bytes:
    return len(value.encode()).to_bytes(2, "big") + value.encode()


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The first byte, and what follows the length."""
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            return first, await reader.readexactly(length)


class _Bytes:
    """Reads one body from the front."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, count: int) -> bytes:
        assert len(self.rest) >= count, "a packet that is too short"
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def variable(self) -> int:
        value = shift = 0
        while True:
            digit = self.number(1)
            value |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return value

    def binary(self) -> bytes:
        return self.take(self.number(2))

    def text(self) -> str:
        return self.binary().decode()

    def properties(self) -> dict[int, Any]:
        inside = _Bytes(self.take(self.variable()))
        found: dict[int, Any] = {}
        while inside.rest:
            name = inside.variable()
            how = _PROPERTIES[name]
            if how == _VARIABLE:
                found[name] = inside.variable()
            elif how == _TEXT:
                found[name] = inside.binary()
            elif how == _PAIR:
                found[name] = (inside.binary(), inside.binary())
            else:
                found[name] = inside.number({_BYTE: 1, _TWO: 2, _FOUR: 4}[how])
        return found


def read_connect(body: bytes) -> Connect:
    data = _Bytes(body)
    assert (data.text(), data.number(1)) == ("MQTT", 5), "this is not MQTT 5"
    flags = data.number(1)
    keepalive_s = data.number(2)
    properties = data.properties()
    client_id = data.text()
    will = None
    if flags & 0b100:
        will_properties = data.properties()
        will = Will(data.text(), data.binary(), flags >> 3 & 0b11, bool(flags & 0b10_0000), will_properties)
    return Connect(client_id, bool(flags & 0b10), keepalive_s, properties, will)


def read_subscribe(body: bytes) -> list[str]:
    data = _Bytes(body)
    data.number(2)
    data.properties()
    filters = []
    while data.rest:
        filters.append(data.text())
        data.number(1)
    return filters


def read_publish(first: int, body: bytes) -> Publish:
    data = _Bytes(body)
    topic = data.text()
    qos = first >> 1 & 0b11
    mid = data.number(2) if qos else None
    properties = data.properties()
    return Publish(time.monotonic(), topic, data.rest, qos, bool(first & 1), bool(first & 0b1000), mid, properties)
