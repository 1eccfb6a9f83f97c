"""A byte line to a device: `tcp://host:port`, `serial:///dev/…?baud=9600`, `usb://04b8:0202[/serial]`.

Everything is non-blocking on the running loop; nothing here knows what the bytes mean.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qs, urlsplit

from agent.contract.words import is_loopback
from agent.devices import usb
from agent.devices.sysfs import KernelFiles
from agent.devices.usb import UsbDevice

CONNECT_TIMEOUT_S: Final = 3.0
_GONE: Final = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EIO)  # what a device that was unplugged answers
BAUD_RATES: Final = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)


Resolve = Callable[[str], Awaitable[list[str]]]


class Absent(Exception):
    """There is nothing at the other end: not plugged in, switched off, refused."""


class Taken(Exception):
    """It is there, and another process has it."""


@dataclass(frozen=True)
class LineAddress:
    """A device URL, read. `place` is host and port, a device node, or USB ids and serial number."""

    scheme: str
    place: tuple[str, ...]
    baud: int = 9600

    @classmethod
    def parse(cls, url: str) -> "LineAddress":
        """Raises ValueError with what to write instead."""
        try:
            parts = urlsplit(url, allow_fragments=False)  # udev's names and serial numbers may hold a "#"
        except ValueError:
            parts = urlsplit("")
        if parts.scheme == "tcp":
            return cls._tcp(parts.hostname, parts.netloc)
        if parts.scheme == "serial":
            return cls._serial(parts.netloc, parts.path, parts.query)
        if parts.scheme == "usb":
            return cls._usb(parts.netloc, parts.path.strip("/"))
        raise ValueError("write tcp://HOST:PORT, serial:///dev/serial/by-id/NAME?baud=9600 or usb://VENDOR:PRODUCT[/SERIAL]")

    @classmethod
    def _tcp(cls, host: str | None, netloc: str) -> "LineAddress":
        port = netloc.rpartition(":")[2]
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("write tcp://HOST:PORT, such as tcp://192.0.2.9:9100")
        return cls("tcp", (host, port))

    @classmethod
    def _serial(cls, netloc: str, path: str, query: str) -> "LineAddress":
        if netloc or not path.startswith("/dev/"):
            raise ValueError("write serial:///dev/serial/by-id/NAME?baud=9600 (three slashes, the whole path)")
        settings = parse_qs(query)
        baud = settings.pop("baud", ["9600"])[-1]
        if settings:
            raise ValueError(f"only baud can be set here, not {', '.join(sorted(settings))}")
        if not baud.isdecimal() or int(baud) not in BAUD_RATES:
            raise ValueError(f"baud is one of {', '.join(map(str, BAUD_RATES))}")
        return cls("serial", (path,), int(baud))

    @classmethod
    def _usb(cls, ids: str, serial: str) -> "LineAddress":
        vendor, _, product = ids.lower().partition(":")
        if not all(len(part) == 4 and not part.strip("0123456789abcdef") for part in (vendor, product)):
            raise ValueError("write usb://VENDOR:PRODUCT with four hex digits each (see lsusb), such as usb://04b8:0202")
        return cls("usb", (vendor, product, serial) if serial else (vendor, product))


class Line(Protocol):
    """An open line. `write` raises Absent where the other end went, OSError where it takes no bytes; `close` may be
    called twice."""

    slot: str
    device: UsbDevice | None

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class LineHandlers:
    on_data: Callable[[bytes], None]
    on_lost: Callable[[str], None]  # the other end went; never called after `close`


async def open_line(address: LineAddress, files: KernelFiles, handlers: LineHandlers, resolve: Resolve) -> Line:
    """Raises Absent, Taken, or OSError for what is neither (a permission, say). `resolve` gives a name's addresses."""
    if address.scheme == "tcp":
        return await _TcpLine.open(address.place[0], int(address.place[1]), handlers, resolve)
    if address.scheme == "serial":
        return _open_serial(address, files, handlers)
    return _open_usb(address, files, handlers)


class _TcpLine(asyncio.Protocol):
    device: UsbDevice | None = None

    def __init__(self, slot: str, handlers: LineHandlers) -> None:
        self.slot = slot
        self._handlers = handlers
        self._transport: asyncio.Transport | None = None
        self._closed = False

    @classmethod
    async def open(cls, host: str, port: int, handlers: LineHandlers, resolve: Resolve) -> "_TcpLine":
        line = cls("loopback" if is_loopback(host) else "network", handlers)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                # Resolved by ourselves: a lookup that hangs in the loop's executor would hold up the end of the process.
                await line.connect(await resolve(host), port)
        except TimeoutError as error:
            raise Absent("no answer") from error
        except socket.gaierror as error:
            raise Absent("unknown host name") from error
        except OSError as error:
            raise Absent("connection refused" if error.errno == errno.ECONNREFUSED else "unreachable") from error
        except UnicodeError as error:
            raise Absent("no host has this name") from error
        return line

    async def connect(self, addresses: list[str], port: int) -> None:
        """To the first address that accepts: `localhost` is often ::1 first, where few printers listen."""
        refusal: OSError = ConnectionRefusedError(errno.ECONNREFUSED, "no address")
        for address in addresses:
            try:
                await asyncio.get_running_loop().create_connection(lambda: self, address, port)
            except OSError as error:
                refusal = error
            else:
                return
        raise refusal

    def write(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            raise Absent("connection closed")
        if self._transport.get_write_buffer_size() > 4096:
            raise BlockingIOError(errno.EAGAIN, "the printer takes no bytes")
        self._transport.write(data)

    def close(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.abort()  # unsent bytes are of no use to a status conversation

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if not self._closed:
            self._handlers.on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed:
            self._closed = True
            self._handlers.on_lost("connection closed" if exc is None else "connection reset")


class _FdLine:
    """A character device. `ends_empty`: an empty read is its end, as on every terminal."""

    def __init__(
        self,
        fd: int,
        slot: str,
        device: UsbDevice | None,
        handlers: LineHandlers,
        closer: Callable[[], None],
        *,
        ends_empty: bool,
    ) -> None:
        self.slot = slot
        self.device = device
        self._fd = fd
        self._handlers = handlers
        self._closer = closer
        self._ends_empty = ends_empty
        self._closed = False
        asyncio.get_running_loop().add_reader(fd, self._readable)

    def write(self, data: bytes) -> None:
        if self._closed:
            raise Absent("hung up")
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            if error.errno in _GONE:
                raise Absent("hung up") from error
            raise
        if written != len(data):
            raise BlockingIOError(errno.EAGAIN, "the printer takes no bytes")

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        asyncio.get_running_loop().remove_reader(self._fd)
        self._closer()

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        except OSError:
            self._lost()
            return
        if data:
            self._handlers.on_data(data)
        elif self._ends_empty:
            self._lost()
        # usblp hands up an empty read for a packet of length zero: no hang-up.

    def _lost(self) -> None:
        self.close()
        self._handlers.on_lost("hung up")


def _open_serial(address: LineAddress, files: KernelFiles, handlers: LineHandlers) -> Line:
    # Only a booth with a serial printer pays for the module.
    import termios  # noqa: PLC0415

    import serial  # noqa: PLC0415

    path = address.place[0]
    if not Path(path).exists():
        raise Absent("no such device")
    try:
        port = serial.Serial(path, address.baud, timeout=0, write_timeout=0, exclusive=True)
    except termios.error as error:  # no OSError: it hung up while pyserial set it up
        raise Absent("unplugged a moment ago") from error
    except OSError as error:  # SerialException is one; termios.error, which it may stand for, is none
        number = error.errno or next(iter(getattr(error.__context__, "args", ())), None)
        if number in _GONE:
            raise Absent("no such device") from error
        if number == errno.EACCES:
            raise PermissionError(errno.EACCES, f"no permission to open {path}: add the agent's user to its group") from error
        if number in (errno.EBUSY, errno.EAGAIN):
            raise Taken("another process has the line") from error
        raise OSError(errno.ENOTTY, f"{path} is no serial line") from error

    def closer() -> None:
        with contextlib.suppress(termios.error, OSError):  # it was gone already
            port.reset_output_buffer()  # else close() waits for bytes that a dead printer never takes
        with contextlib.suppress(OSError):
            port.close()

    try:
        port.reset_input_buffer()
    except termios.error as error:  # no OSError
        closer()
        raise Absent("unplugged a moment ago") from error
    tty = Path(path).resolve()
    device = usb.of_tty(files, tty.name)
    slot = device.slot if device else "pty" if tty.parent.name == "pts" else tty.name
    return _FdLine(port.fileno(), slot, device, handlers, closer, ends_empty=True)


def _open_usb(address: LineAddress, files: KernelFiles, handlers: LineHandlers) -> Line:
    device = usb.find(files, *address.place)
    if device is None:
        raise Absent("not plugged in")
    node = usb.printer_node(files, device)
    if node is None:
        raise OSError(errno.ENXIO, "plugged in, but the kernel's usblp driver does not have it")
    try:
        fd = os.open(files.path(node), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.EBUSY:  # usblp allows one opener
            raise Taken("another process has the printer") from error
        if error.errno in _GONE:
            raise Absent("unplugged a moment ago") from error
        raise
    return _FdLine(fd, device.slot, device, handlers, lambda: os.close(fd), ends_empty=False)
