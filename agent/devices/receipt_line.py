"""A conversation with a receipt printer that blocks, with a deadline on each wait: only ever in a worker.

python-escpos can print, and cannot ask: it reads too early, takes silence for paper, and a write of its own has no end. So it
composes the bytes, and they go over a line of ours.
"""

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from agent.devices.escpos.codec import STATUS_REQUESTS, Decoder, Garbage, Reply, Status, polled_status

OPENS_WITHIN_S: Final = 4.0  # a print server takes a moment to notice that the conversation before is over
TAKES_WITHIN_S: Final = 12.0  # all the bytes
PRINTS_WITHIN_S: Final = 8.0  # a ticket at the speed of the slowest printers; then the real-time answers alone decide
_ANSWERS_WITHIN_S: Final = 1.0
_LOOK_EVERY_S: Final = 0.5
_AGAIN_S: Final = 0.3
_ROUNDS: Final = 5


class Gone(Exception):
    """There is no printer at the other end, or no longer. The message says why."""


class ReceiptLine:
    """`place` is `["tcp", host, port]`, `["serial", path, baud]` or `["file", path]`. Use as a context manager. `noise` counts
    the bytes that were neither answers to DLE EOT nor pushed frames."""

    def __init__(self, place: list[Any]) -> None:
        """Raises Gone."""
        self._fd, self._close = _opened(place)
        self._ends_empty = place[0] == "tcp"
        self._bytes_a_second = place[2] / 10 if place[0] == "serial" else None
        self._decoder = Decoder()
        self._replies: list[int] = []
        self.noise = 0

    def __enter__(self) -> "ReceiptLine":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def under_way_s(self, size: int) -> float:
        """How long so many bytes are on the line after the kernel has taken them."""
        return size / self._bytes_a_second if self._bytes_a_second else 0.0

    def write(self, data: bytes, within_s: float = TAKES_WITHIN_S) -> None:
        """Raises TimeoutError where the printer takes no more bytes, and Gone."""
        end_s = time.monotonic() + within_s
        left = memoryview(data)
        while left:
            wait_s = end_s - time.monotonic()
            if wait_s <= 0:
                raise TimeoutError("the printer takes no bytes")
            readable, writable, _ = select.select([self._fd], [self._fd], [], wait_s)
            if readable:
                self._take()
            if writable:
                with _ends_as_gone():
                    left = left[os.write(self._fd, left[:4096]) :]

    def listen(self, for_s: float) -> bool:
        """Take in what comes, for so long at most; True as soon as there was something."""
        readable, _, _ = select.select([self._fd], [], [], max(0.0, for_s))
        return bool(readable) and self._take()

    def status(self) -> Status | None:
        """What the printer answers to DLE EOT 1 to 4; on a noisy line, what it says twice. None: it is mute."""
        before: Status | None = None
        for _ in range(_ROUNDS):
            noise = self.noise
            replies: dict[int, int] = {}
            for number in STATUS_REQUESTS:
                reply = self._asked(number)
                if reply is None:
                    return None
                replies[number] = reply
            status = polled_status(replies)
            if self.noise == noise or status == before:
                return status
            before = status
        return None

    def _asked(self, number: int) -> int | None:
        self._replies.clear()
        self.write(STATUS_REQUESTS[number], _ANSWERS_WITHIN_S)
        end_s = time.monotonic() + _ANSWERS_WITHIN_S
        while not self._replies and (left_s := end_s - time.monotonic()) > 0:
            self.listen(left_s)
        self.noise += max(0, len(self._replies) - 1)
        return self._replies[-1] if self._replies else None

    def _take(self) -> bool:
        data = b""
        with _ends_as_gone():
            data = os.read(self._fd, 4096)
            if not data and self._ends_empty:
                raise Gone("the printer closed the connection")
        if not data:
            time.sleep(0.01)  # usblp hands up an empty packet, and may be readable at once again
        for item in self._decoder.feed(data):
            if isinstance(item, Reply):
                self._replies.append(item.byte)
            elif isinstance(item, Garbage):
                self.noise += item.count
        return bool(data)


def printed(line: ReceiptLine, data: bytes, prints_within_s: float = PRINTS_WITHIN_S) -> dict[str, Any]:
    """Send what ends with `GS r 1`, and see whether it comes out.

    Answers `sent`, the `status` after it (None: mute), and `by`: what says that it came out, `GS r`, which is answered when all
    before it is printed, or `DLE EOT` where the printer does not know that; None where it did not.
    """
    before = line.status()
    if before is None or not before.online:  # what is sent now would come out some day, for whoever is there then
        return {"sent": False, "status": _plain(before), "by": None}
    quiet, noise = line.noise == 0, line.noise
    try:
        line.write(data)
    except TimeoutError:
        return {"sent": True, "status": None, "by": None}
    end_s = time.monotonic() + prints_within_s + line.under_way_s(len(data))
    by = "DLE EOT"
    silent = False
    while time.monotonic() < end_s:
        line.listen(_LOOK_EVERY_S)
        if quiet and line.noise - noise == 1:
            by = "GS r"
            break
        quiet = quiet and line.noise == noise  # an answer among other bytes could be anything
        status = line.status()
        if status is None and silent:
            return {"sent": True, "status": None, "by": None}
        silent = status is None
        if status is not None and not status.online and status.error != "auto-recoverable":  # a hot head goes on by itself
            time.sleep(_AGAIN_S)
            again = line.status()
            if again is not None and not again.online:
                return {"sent": True, "status": _plain(again), "by": None}
    after = line.status()
    return {"sent": True, "status": _plain(after), "by": by if after is not None and after.online else None}


def _plain(status: Status | None) -> dict[str, Any] | None:
    return None if status is None else dict(vars(status))


@contextlib.contextmanager
def _ends_as_gone() -> Iterator[None]:
    try:
        yield
    except BlockingIOError:
        pass
    except OSError as error:
        raise Gone(error.strerror or "the line broke") from error


def _opened(place: list[Any]) -> tuple[int, Callable[[], None]]:
    way, where, *rest = place
    end_s = time.monotonic() + OPENS_WITHIN_S
    while True:
        try:
            if way == "tcp":
                return _tcp(where, rest[0], end_s)
            return _serial(where, rest[0]) if way == "serial" else _file(where)
        except OSError as error:
            later = error.errno in (errno.ECONNREFUSED, errno.EBUSY, errno.EAGAIN)
            if not later or time.monotonic() + _AGAIN_S >= end_s:
                raise Gone(_said(error)) from error
        time.sleep(_AGAIN_S)


def _said(error: OSError) -> str:
    if error.errno in (errno.EBUSY, errno.EAGAIN):
        return "another process has the printer"
    return error.strerror or str(error) or type(error).__name__


def _tcp(host: str, port: int, end_s: float) -> tuple[int, Callable[[], None]]:
    connection = socket.create_connection((host, port), max(0.1, end_s - time.monotonic()))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection.fileno(), connection.close


def _file(path: str) -> tuple[int, Callable[[], None]]:
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    return descriptor, lambda: os.close(descriptor)


def _serial(path: str, baud: int) -> tuple[int, Callable[[], None]]:
    import termios  # noqa: PLC0415 - where there is a serial printer

    import serial  # noqa: PLC0415

    try:
        port = serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True)
        port.reset_input_buffer()
    except termios.error as error:  # no OSError
        raise Gone("unplugged a moment ago") from error
    except serial.SerialException as error:  # its number is lost, but for the text
        number = error.errno or next(iter(getattr(error.__context__, "args", ())), None)
        raise OSError(number if isinstance(number, int) else errno.EIO, str(error)) from error

    def close() -> None:
        with contextlib.suppress(termios.error, OSError):
            port.reset_output_buffer()  # else close() waits for bytes that a dead printer never takes
        with contextlib.suppress(termios.error, OSError):
            port.close()

    return port.fileno(), close
