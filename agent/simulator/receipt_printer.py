"""An ESC/POS receipt printer on a TCP port and on a pseudo-terminal, with everything that can go wrong with one.

Written from the printer's side of the manuals (Epson TM-T88III, pp. 318-324), apart from the agent's
decoder, so that a misreading in one does not hide the same in the other.
"""

import asyncio
import errno
import os
import pty
import tty
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.simulator.receipt_paper import CODE_PAGES, Paper, Typewriter

_ERROR_BITS: Final = {None: 0, "recoverable": 0b100, "cutter": 0b1000, "unrecoverable": 0b10_0000, "hot": 0b100_0000}
_REAL_TIME: Final = (b"\x10\x04", b"\x10\x05")  # obeyed when they arrive, whatever waits before them


@dataclass
class Mechanism:
    """What is true inside the printer."""

    paper: str = "plenty"  # plenty, near-end, out
    cover_open: bool = False
    error: str | None = None  # cutter, recoverable, unrecoverable, hot
    switched_offline: bool = False

    @property
    def offline(self) -> bool:
        return self.switched_offline or self.cover_open or self.paper == "out" or self.error is not None


@dataclass
class Behaviour:
    """How it misbehaves on the line."""

    mute: bool = False
    byte_delay_s: float = 0.0
    noise: bytes = b""  # sent before every answer
    pushes: bool = True  # whether it knows Automatic Status Back at all
    tells_when_done: bool = True  # whether it knows GS r


class ReceiptPrinter(Paper):
    """One printer, reachable by any number of lines."""

    def __init__(self, columns: int = 42) -> None:
        super().__init__(columns)
        self._unfinished: set[_Line] = set()
        self.mechanism = Mechanism()
        self.behaviour = Behaviour()
        self.questions = 0  # DLE EOT that were sent to it, answered or not
        self._lines: set[_Line] = set()
        self._conversations: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._ptys: list[_PtyLine] = []
        self.port = 0

    # --- plugging in ---

    async def listen(self, port: int = 0) -> int:
        """Be reachable by TCP on loopback; returns the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    def hang_up(self) -> None:
        """Switch off: every connection is gone, new ones are refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for line in list(self._lines):
            line.hang_up()

    async def unlisten(self) -> None:
        """`hang_up`, and let the loop notice."""
        self.hang_up()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def open_pty(self, link: Path) -> None:
        """Be reachable by a serial line: `link` points at the terminal, as /dev/serial/by-id/… would."""
        line = _PtyLine(self, link)
        self._ptys.append(line)
        self._lines.add(line)

    def close_ptys(self) -> None:
        """Pull the serial cable."""
        for line in self._ptys:
            line.hang_up()
        self._ptys.clear()

    async def close(self) -> None:
        self.close_ptys()
        await self.unlisten()

    @property
    def asked_to_push(self) -> bool:
        """Whether some line has Automatic Status Back switched on."""
        return any(line.push_mask for line in self._lines)

    # --- what happens to it ---

    def change(self, **facts: object) -> None:
        """Change the mechanism: `change(paper="out")`. Lines that asked for it are told."""
        for name, value in facts.items():
            if not hasattr(self.mechanism, name):
                raise AttributeError(name)
            setattr(self.mechanism, name, value)
        for line in list(self._lines):
            line.status_changed()
        for line in [*self._lines, *self._unfinished]:
            line.go_on()

    def power_cycle(self) -> None:
        """Off and on again: what lines had asked for is forgotten, as in a real printer."""
        for line in self._lines:
            line.forget()
        self._unfinished.clear()
        self.typewriter = Typewriter()
        self.mechanism.error = None

    # --- what it says ---

    def answer(self, request: int) -> bytes:
        """The reply to DLE EOT `request`."""
        inside = self.mechanism
        fixed = 0b0001_0010
        if request == 1:
            return bytes([fixed | (0b1000 if inside.offline else 0)])
        if request == 2:
            bits = (0b100 if inside.cover_open else 0) | (0b10_0000 if inside.paper == "out" else 0)
            return bytes([fixed | bits | (0b100_0000 if inside.error else 0)])
        if request == 3:
            return bytes([fixed | _ERROR_BITS[inside.error]])
        if request == 4:
            bits_of_roll = {"plenty": 0, "near-end": 0b1100, "out": 0b110_1100}
            return bytes([fixed | bits_of_roll[inside.paper]])
        return b""

    def automatic_status(self) -> bytes:
        """The four bytes of Automatic Status Back."""
        inside = self.mechanism
        first = 0b0001_0000 | (0b1000 if inside.offline else 0) | (0b10_0000 if inside.cover_open else 0)
        third = {"plenty": 0, "near-end": 0b0011, "out": 0b1111}
        return bytes([first, _ERROR_BITS[inside.error], third[inside.paper], 0])

    def paper_sensor(self) -> bytes:
        """The reply to GS r 1."""
        return bytes([{"plenty": 0, "near-end": 0b0011, "out": 0b1100}[self.mechanism.paper]])

    def forget_jobs(self) -> None:
        """DLE ENQ 2 empties the buffers."""
        for line in [*self._lines, *self._unfinished]:
            line.drop()

    def end_of_line(self, line: "_Line") -> None:
        """What it had received it prints all the same."""
        if line.waits:
            self._unfinished.add(line)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _TcpLine(self, writer)
        self._lines.add(line)
        conversation = asyncio.current_task()
        assert conversation is not None
        self._conversations.add(conversation)
        try:
            while data := await reader.read(4096):
                line.received(data)
        except ConnectionError:
            pass
        finally:
            self._lines.discard(line)
            line.hang_up()
            self.end_of_line(line)
            self._conversations.discard(conversation)


class _Line(ABC):
    """One conversation. Understands the commands that matter, and takes the rest for text. What is not real-time waits in the
    buffer while the printer is offline, and is obeyed afterwards."""

    def __init__(self, printer: ReceiptPrinter) -> None:
        self._printer = printer
        self._pending = b""
        self._arriving = b""  # the beginning of a real-time command
        self._obeying = False
        self.push_mask = 0
        self._queue: asyncio.Queue[int] = asyncio.Queue()
        self._sender: asyncio.Task[None] | None = None

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Put bytes on the line."""

    def hang_up(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
        self._printer._lines.discard(self)  # noqa: SLF001 - the two halves of one device

    def forget(self) -> None:
        self.push_mask = 0
        self._pending = b""

    @property
    def waits(self) -> bool:
        return bool(self._pending)

    def status_changed(self) -> None:
        if self.push_mask:
            self._say(self._printer.automatic_status())

    def received(self, data: bytes) -> None:
        self._printer.questions += data.count(b"\x10\x04")
        if self._printer.behaviour.mute:
            return
        data, self._arriving = self._arriving + data, b""
        while data:
            at = min((found for start in _REAL_TIME if (found := data.find(start)) >= 0), default=-1)
            if at < 0:
                whole = len(data) - data.endswith(b"\x10")
                self._pending, self._arriving = self._pending + data[:whole], data[whole:]
                break
            self._pending += data[:at]
            if len(data) < at + 3:
                self._arriving = data[at:]
                break
            self.go_on()
            self._real_time(data[at + 1], data[at + 2])
            data = data[at + 3 :]
        self.go_on()

    def go_on(self) -> None:
        """Obey what waits, as far as that is possible now."""
        if self._obeying:
            return
        self._obeying = True
        try:
            while self._pending and not self._printer.mechanism.offline and not self._printer.behaviour.mute:
                used = self._command(self._pending)
                if used == 0:
                    return  # the rest of a command is still to come
                self._pending = self._pending[used:]
        finally:
            self._obeying = False

    def _command(self, data: bytes) -> int:
        """Carry out one command; returns its length, 0 while it is not whole."""
        if data[0] == 0x1D:
            return self._gs(data)
        if data[0] == 0x1B:
            return self._esc(data)
        if data[0] == 0x1C:
            return 2 if len(data) >= 2 else 0
        if data[0] == 0x10:
            return 1
        end = next((i for i, byte in enumerate(data) if byte in (0x10, 0x1B, 0x1C, 0x1D)), len(data))
        feed = data.find(b"\n", 0, end)
        end = end if feed < 0 else feed + 1
        self._printer.print_text(data[:end])
        return end

    def _esc(self, data: bytes) -> int:
        lengths = {0x40: 2, 0x74: 3, 0x21: 3, 0x61: 3, 0x64: 3, 0x4D: 3, 0x45: 3, 0x2D: 3, 0x52: 3, 0x7B: 3, 0x47: 3}
        length = lengths.get(data[1], 2) if len(data) > 1 else 2
        if len(data) < length:
            return 0
        typewriter = self._printer.typewriter
        match data[1]:
            case 0x40:
                self._printer.typewriter = Typewriter()
                self.push_mask = 0
            case 0x74:
                typewriter.page = CODE_PAGES.get(data[2], "cp437")
            case 0x21:
                typewriter.style = data[2]
            case 0x64:
                self._printer.feed(data[2])
        return length

    def _real_time(self, command: int, number: int) -> None:
        if command == 0x04:
            self._say(self._printer.answer(number))
        elif number in (1, 2) and self._printer.mechanism.error in ("cutter", "recoverable"):
            if number == 2:  # and forget what was to be printed
                self._printer.forget_jobs()
            self._printer.change(error=None)

    def _gs(self, data: bytes) -> int:
        if len(data) < 3:
            return 0
        if data[1] == 0x61 and self._printer.behaviour.pushes:
            self.push_mask = data[2]
            self.status_changed()  # enabling it says the status at once
        elif data[1] == 0x72 and data[2] == 1 and self._printer.behaviour.tells_when_done:
            self._say(self._printer.paper_sensor())
        elif data[1] == 0x56:
            if data[2] in (0x41, 0x42) and len(data) < 4:
                return 0
            self._printer.cut()
            return 4 if data[2] in (0x41, 0x42) else 3
        return 3

    def drop(self) -> None:
        self._pending = b""

    def _say(self, data: bytes) -> None:
        behaviour = self._printer.behaviour
        if behaviour.mute or not data:
            return
        data = behaviour.noise + data
        if not behaviour.byte_delay_s:
            self.send(data)
            return
        for byte in data:
            self._queue.put_nowait(byte)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_slowly())

    async def _send_slowly(self) -> None:
        while not self._queue.empty():
            await asyncio.sleep(self._printer.behaviour.byte_delay_s)
            self.send(bytes([self._queue.get_nowait()]))


class _TcpLine(_Line):
    def __init__(self, printer: ReceiptPrinter, writer: asyncio.StreamWriter) -> None:
        super().__init__(printer)
        self._writer = writer

    def send(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    def hang_up(self) -> None:
        super().hang_up()
        self._writer.transport.abort()


class _PtyLine(_Line):
    def __init__(self, printer: ReceiptPrinter, link: Path) -> None:
        super().__init__(printer)
        self._link = link
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(slave))
        # Kept open: while nobody else has it open, reading the master end would fail.
        self._slave = slave
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    def send(self, data: bytes) -> None:
        try:
            os.write(self._master, data)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EIO, errno.EBADF):
                raise

    def hang_up(self) -> None:
        super().hang_up()
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)
        self._master = -1
        self._link.unlink(missing_ok=True)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            return
        except OSError:
            self.hang_up()
            return
        self.received(data)
