"""Byte lines: what a URL may say, and what a line tells when the other end goes."""

import asyncio
import errno
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import serial

from agent.devices.lines import Absent, Line, LineAddress, LineHandlers, Taken, open_line
from agent.devices.sysfs import KernelFiles
from tests.devices.ports import Terminal, dev_folder
from tests.devices.test_usb import plug


class Heard:
    """What a line said, and why it ended."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: list[str] = []
        self._news = asyncio.Event()
        self.handlers = LineHandlers(self._on_data, self._on_lost)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def _on_data(self, data: bytes) -> None:
        self.data += data
        self._news.set()

    def _on_lost(self, reason: str) -> None:
        self.lost.append(reason)
        self._news.set()


async def literal(host: str) -> list[str]:
    return [host]


@asynccontextmanager
async def opened(url: str, heard: Heard, root: Path = Path("/nowhere")) -> AsyncIterator[Line]:
    line = await open_line(LineAddress.parse(url), KernelFiles(root), heard.handlers, literal)
    try:
        yield line
    finally:
        line.close()
        line.close()  # may be called twice


# --- what a URL may say ---


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("tcp://127.0.0.1:9100", LineAddress("tcp", ("127.0.0.1", "9100"))),
        ("tcp://printer.shop.example:9100", LineAddress("tcp", ("printer.shop.example", "9100"))),
        ("tcp://[2001:db8::9]:9100", LineAddress("tcp", ("2001:db8::9", "9100"))),
        ("serial:///dev/ttyS0", LineAddress("serial", ("/dev/ttyS0",), 9600)),
        ("serial:///dev/serial/by-id/usb-A#1-p0?baud=115200", LineAddress("serial", ("/dev/serial/by-id/usb-A#1-p0",), 115200)),
        ("usb://04b8:0202", LineAddress("usb", ("04b8", "0202"))),
        ("usb://04B8:0E03/J5#9/7", LineAddress("usb", ("04b8", "0e03", "J5#9/7"))),
    ],
)  # fmt: skip
def test_a_device_url_is_read(url: str, expected: LineAddress) -> None:
    assert LineAddress.parse(url) == expected


ANY = "write tcp://HOST:PORT, serial:///dev/serial/by-id/NAME?baud=9600 or usb://VENDOR:PRODUCT[/SERIAL]"
TCP = "write tcp://HOST:PORT, such as tcp://192.0.2.9:9100"
SERIAL = "write serial:///dev/serial/by-id/NAME?baud=9600 (three slashes, the whole path)"
BAUD = "baud is one of 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200"
USB = "write usb://VENDOR:PRODUCT with four hex digits each (see lsusb), such as usb://04b8:0202"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", ANY),
        ("/dev/ttyS0", ANY),
        ("http://127.0.0.1:9100", ANY),
        ("tcp://[2001:db8::9:9100", ANY),
        ("tcp://127.0.0.1", TCP),
        ("tcp://:9100", TCP),
        ("tcp://127.0.0.1:0", TCP),
        ("tcp://127.0.0.1:65536", TCP),
        ("tcp://127.0.0.1:²", TCP),
        ("tcp://127.0.0.1:http", TCP),
        ("serial://dev/ttyS0", SERIAL),
        ("serial://ttyS0", SERIAL),
        ("serial:///tmp/ttyS0", SERIAL),
        ("serial:///dev/ttyS0?baud=9601", BAUD),
        ("serial:///dev/ttyS0?baud=²", BAUD),
        ("serial:///dev/ttyS0?parity=odd&baud=9600", "only baud can be set here, not parity"),
        ("usb://04b8", USB),
        ("usb://4b8:202", USB),
        ("usb://04b8:02g2", USB),
    ],
)
def test_a_wrong_device_url_is_answered_with_what_to_write(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LineAddress.parse(url)


# --- TCP ---


@asynccontextmanager
async def tcp_peer() -> AsyncIterator[tuple[int, Callable[[], Awaitable[asyncio.StreamWriter]]]]:
    """A listener; the second value awaits its newest connection."""
    arrived: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        arrived.put_nowait(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], arrived.get
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # an aborted transport closes its socket at the next turn of the loop


async def test_a_tcp_line_carries_bytes_and_tells_a_reset_from_a_close() -> None:
    for abrupt, reason in ((True, "connection reset"), (False, "connection closed")):
        async with tcp_peer() as (port, connection):
            heard = Heard()
            async with opened(f"tcp://127.0.0.1:{port}", heard) as line:
                assert (line.slot, line.device) == ("loopback", None)
                peer = await connection()
                peer.write(b"\x12")
                await heard.until(lambda heard=heard: heard.data == b"\x12")  # type: ignore[misc]
                if abrupt:
                    raw = peer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                    peer.transport.abort()
                else:
                    peer.close()
                await heard.until(lambda heard=heard: bool(heard.lost))  # type: ignore[misc]
                assert heard.lost == [reason]
                with pytest.raises(Absent):
                    line.write(b"\x10\x04\x01")


async def test_nothing_is_told_after_a_line_was_closed_by_us() -> None:
    async with tcp_peer() as (port, connection):
        heard = Heard()
        async with opened(f"tcp://127.0.0.1:{port}", heard):
            peer = await connection()
        async with asyncio.timeout(10):
            while not peer.is_closing():
                peer.write(b"\x12")
                await asyncio.sleep(0.01)
        assert (heard.data, heard.lost) == (b"", [])


async def test_a_printer_that_takes_no_bytes_is_noticed_at_the_write() -> None:
    async with tcp_peer() as (port, connection), opened(f"tcp://127.0.0.1:{port}", Heard()) as line:
        (await connection()).transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises(BlockingIOError):
            for _ in range(10_000):
                line.write(bytes(65536))


async def test_where_nobody_listens_the_printer_is_absent() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(Absent, match="connection refused"):
            async with opened(f"tcp://127.0.0.1:{reserved.getsockname()[1]}", Heard()):
                pass


@pytest.mark.parametrize(
    ("answer", "said"), [(socket.gaierror(socket.EAI_NONAME, "unknown"), "unknown host name"), (None, "no answer")]
)
async def test_a_host_name_that_does_not_resolve_is_absent_in_time(
    answer: OSError | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.devices.lines.CONNECT_TIMEOUT_S", 0.2)

    async def resolve(_: str) -> list[str]:
        if answer is not None:
            raise answer
        await asyncio.Event().wait()
        return []

    with pytest.raises(Absent, match=said):
        await open_line(LineAddress.parse("tcp://printer.example:9100"), KernelFiles(), Heard().handlers, resolve)


# --- serial ---


async def test_a_serial_line_is_opened_by_the_link_that_udev_makes_and_by_the_node() -> None:
    with dev_folder() as folder:
        for through_link in (True, False):
            terminal = Terminal()
            link = folder / "printer"
            link.unlink(missing_ok=True)
            link.symlink_to(terminal.path)
            heard = Heard()
            async with opened(f"serial://{link if through_link else terminal.path}?baud=19200", heard) as line:
                assert (line.slot, line.device) == ("pty", None)
                line.write(b"\x10\x04\x01")
                assert await terminal.hear(3) == b"\x10\x04\x01"
                terminal.say(b"\x12")
                await heard.until(lambda heard=heard: heard.data == b"\x12")  # type: ignore[misc]
            terminal.unplug()


async def test_f62_a_serial_line_that_hangs_up_is_told_at_once() -> None:
    terminal, heard = Terminal(), Heard()
    async with opened(f"serial://{terminal.path}", heard) as line:
        hung_up_s = time.monotonic()
        terminal.unplug()
        await heard.until(lambda: bool(heard.lost))
        assert time.monotonic() - hung_up_s < 1
        assert heard.lost == ["hung up"]
        with pytest.raises(Absent):
            line.write(b"\x10\x04\x01")


async def test_f62_the_hang_up_of_a_serial_line_behind_usb_is_told_too(tmp_path: Path) -> None:
    """A terminal that is gone gives empty reads for ever: they are its end, whatever carries it."""
    terminal, heard = Terminal(), Heard()
    device = plug(tmp_path, "1-1.3", "0403", "6001")
    (tmp_path / "sys/class/tty" / terminal.path.name).mkdir(parents=True)
    (tmp_path / "sys/class/tty" / terminal.path.name / "device").symlink_to(device)
    async with opened(f"serial://{terminal.path}", heard, tmp_path) as line:
        assert line.slot == "usb-1.3"
        terminal.unplug()
        await heard.until(lambda: bool(heard.lost))
        assert heard.lost == ["hung up"]


async def test_f62_writing_to_a_terminal_that_went_says_absent_even_before_the_loop_saw_it() -> None:
    terminal = Terminal()
    async with opened(f"serial://{terminal.path}", Heard()) as line:
        terminal.unplug()
        with pytest.raises(Absent):
            line.write(b"\x10\x04\x01")


async def test_old_bytes_of_a_serial_line_are_not_taken_for_answers() -> None:
    terminal, heard = Terminal(), Heard()
    terminal.say(b"\x1a\x1a\x1a")  # said before anybody listened
    async with opened(f"serial://{terminal.path}", heard):
        terminal.say(b"\x12")
        await heard.until(lambda: bool(heard.data))
        assert heard.data == b"\x12"
    terminal.unplug()


async def test_a_serial_line_that_another_process_holds_is_taken() -> None:
    terminal = Terminal()
    with serial.Serial(str(terminal.path), exclusive=True), pytest.raises(Taken):
        async with opened(f"serial://{terminal.path}", Heard()):
            pass
    terminal.unplug()


async def test_closing_does_not_wait_for_bytes_that_a_dead_printer_never_takes() -> None:
    terminal = Terminal()
    async with opened(f"serial://{terminal.path}", Heard()) as line:
        with pytest.raises(BlockingIOError):
            for _ in range(10_000):
                line.write(bytes(1000))
        closing_s = time.monotonic()
    assert time.monotonic() - closing_s < 2
    terminal.unplug()


@pytest.mark.parametrize("place", ["gone", "dangling"])
async def test_a_serial_line_without_its_node_is_absent(place: str) -> None:
    with dev_folder() as folder:
        (folder / "dangling").symlink_to("/dev/pts/no-such-terminal")
        with pytest.raises(Absent, match="no such device"):
            async with opened(f"serial://{folder / place}", Heard()):
                pass


async def test_what_is_no_serial_line_is_called_so() -> None:
    with pytest.raises(OSError, match="/dev/null is no serial line"):
        async with opened("serial:///dev/null", Heard()):
            pass


# --- USB, through a tree like the kernel's ---


def plug_printer(root: Path, terminal: Terminal | None, serial_number: bytes = b"J1") -> None:
    """A receipt printer on usblp, whose node is a terminal."""
    device = plug(root, "1-1.2", "04b8", "0202", manufacturer=b"EPSON", product=b"TM-T88III", serial=serial_number)
    (device / "1-1.2:1.0" / "usbmisc" / "lp0").mkdir(parents=True)
    (root / "dev/usb").mkdir(parents=True)
    if terminal is not None:
        (root / "dev/usb/lp0").symlink_to(terminal.path)


async def test_a_usb_line_is_found_by_ids_and_names_its_device(tmp_path: Path) -> None:
    terminal, heard = Terminal(), Heard()
    plug_printer(tmp_path, terminal)
    async with opened("usb://04b8:0202/J1", heard, tmp_path) as line:
        assert line.slot == "usb-1.2"
        assert line.device is not None
        assert (line.device.vendor, line.device.product, line.device.serial) == ("EPSON", "TM-T88III", "J1")
        line.write(b"\x10\x04\x01")
        assert await terminal.hear(3) == b"\x10\x04\x01"
        terminal.say(b"\x12")
        await heard.until(lambda: heard.data == b"\x12")
    terminal.unplug()


async def test_an_empty_packet_of_usblp_is_no_hang_up(tmp_path: Path) -> None:
    """usblp hands up an empty read for a packet of length zero. A FIFO whose writers left reads the same."""
    plug_printer(tmp_path, None)
    node = tmp_path / "dev/usb/lp0"
    os.mkfifo(node)
    heard = Heard()
    async with opened("usb://04b8:0202", heard, tmp_path) as line:
        line._readable()  # type: ignore[attr-defined]
        assert heard.lost == []
        line.write(b"\x12")  # our own end: opened for reading and writing, a FIFO gives it back
        await heard.until(lambda: heard.data == b"\x12")


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EIO, errno.ENXIO])
async def test_f62_a_usb_read_that_says_no_device_is_the_hang_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    terminal, heard = Terminal(), Heard()
    plug_printer(tmp_path, terminal)

    def read(_fd: int, _count: int) -> bytes:
        raise OSError(number, os.strerror(number))

    async with opened("usb://04b8:0202", heard, tmp_path):
        monkeypatch.setattr("agent.devices.lines.os.read", read)
        terminal.say(b"\x12")
        await heard.until(lambda: bool(heard.lost))
        monkeypatch.undo()
    assert heard.lost == ["hung up"]
    terminal.unplug()


async def test_a_usb_printer_that_is_not_plugged_in_is_absent(tmp_path: Path) -> None:
    plug_printer(tmp_path, None)
    for url, said in (
        ("usb://04b8:0203", "not plugged in"),
        ("usb://04b8:0202/J2", "not plugged in"),
        ("usb://04b8:0202", "unplugged a moment ago"),
    ):
        with pytest.raises(Absent, match=said):
            async with opened(url, Heard(), tmp_path):
                pass


async def test_a_usb_printer_without_its_driver_is_plugged_in_and_unusable(tmp_path: Path) -> None:
    plug(tmp_path, "1-1.2", "04b8", "0202")
    with pytest.raises(OSError, match="usblp driver does not have it"):
        async with opened("usb://04b8:0202", Heard(), tmp_path):
            pass


@pytest.mark.parametrize(("number", "raised"), [(errno.EBUSY, Taken), (errno.ENODEV, Absent), (errno.EACCES, PermissionError)])
async def test_why_the_usb_node_does_not_open_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raised: type[Exception]
) -> None:
    plug_printer(tmp_path, None)

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("agent.devices.lines.os.open", refuse)
    with pytest.raises(raised):
        await open_line(LineAddress.parse("usb://04b8:0202"), KernelFiles(tmp_path), Heard().handlers, literal)
