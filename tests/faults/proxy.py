"""A TCP proxy on loopback that stands between two peers and spoils the line: swallow, delay, stall, hang up."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import Self

_CHUNK = 1400  # bytes: about one segment, so that a stall can fall inside a packet of MQTT


@dataclass
class ChaosProxy:
    """Use as `async with`. Settings may be changed while connections run; `port` stays."""

    target_port: int
    latency_s: float = 0.0
    jitter_s: float = 0.0
    stall_every: int = 0  # one chunk in so many waits `stall_s`, as after a lost segment; 0: none does
    stall_s: float = 0.0
    bytes_per_s: float = 0.0  # of each direction; 0: no limit
    swallow: bool = False  # half-open: both sides send into nothing, and nobody is told
    port: int = 0
    connections: int = 0
    stalls: int = 0
    chunks: int = 0
    swallowed_bytes: int = 0
    seed: int = 1
    _server: asyncio.Server | None = None
    _running: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.hang_up()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def hang_up(self) -> None:
        """Every connection ends now."""
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            # Cancelled by the end of the test: asyncio would log it as an error of the server's.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                onward_reader, onward = await asyncio.open_connection("127.0.0.1", self.target_port)
                self._writers.add(onward)
                try:
                    await self._both_ways((reader, onward), (onward_reader, writer))
                finally:
                    onward.transport.abort()
                    self._writers.discard(onward)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._running.discard(task)

    async def _both_ways(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        tasks = [asyncio.create_task(self._carry(*way)) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, in order. The delay is each chunk's own: the line is long, and narrow only by `bytes_per_s`."""
        loop = asyncio.get_running_loop()
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivering = loop.create_task(self._deliver(due, writer))
        arrives_s = free_s = 0.0
        try:
            while data := await reader.read(_CHUNK):
                if self.swallow:
                    self.swallowed_bytes += len(data)
                    continue
                free_s = max(free_s, loop.time()) + (len(data) / self.bytes_per_s if self.bytes_per_s else 0.0)
                arrives_s = max(arrives_s, free_s + self._delay_s())
                due.put_nowait((arrives_s, data))
            if self.swallow:
                await asyncio.Event().wait()  # an end that nobody hears of either
            due.put_nowait((arrives_s, b""))
            await delivering
        except OSError:
            return
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)

    async def _deliver(self, due: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at_s, data = await due.get()
            await asyncio.sleep(max(0.0, at_s - loop.time()))
            if not data:
                return
            if self.swallow:  # it was on its way when the line went
                self.swallowed_bytes += len(data)
                continue
            writer.write(data)
            await writer.drain()

    def _delay_s(self) -> float:
        self.chunks += 1
        delay_s = self.latency_s + self._random.uniform(-self.jitter_s, self.jitter_s)
        if self.stall_every and self.chunks % self.stall_every == 0:
            self.stalls += 1
            delay_s += self.stall_s
        return max(0.0, delay_s)
