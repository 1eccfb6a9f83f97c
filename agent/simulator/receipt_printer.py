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

_ERROR_BITS: Final = {None: 0, "recoverable": 0b100, "cutter": 0b1000, "unrecoverable": 0b10_0000, "hot": 0b100_0000}
_PRINTS_UP_TO: Final = 20_000  # characters of paper that are kept


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


class ReceiptPrinter:
    """One printer, reachable by any number of lines. `paper` is what it printed, as text."""

    def __init__(self) -> None:
        self.mechanism = Mechanism()
        self.behaviour = Behaviour()
        self.paper = ""
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

    def power_cycle(self) -> None:
        """Off and on again: what lines had asked for is forgotten, as in a real printer."""
        for line in self._lines:
            line.forget()
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

    def print_text(self, text: bytes) -> None:
        if not self.mechanism.offline:
            self.paper = (self.paper + text.decode("cp858", "replace"))[-_PRINTS_UP_TO:]

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
            self._conversations.discard(conversation)


class _Line(ABC):
    """One conversation. Understands the commands that matter for status, and takes the rest for text."""

    def __init__(self, printer: ReceiptPrinter) -> None:
        self._printer = printer
        self._pending = b""
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

    def status_changed(self) -> None:
        if self.push_mask:
            self._say(self._printer.automatic_status())

    def received(self, data: bytes) -> None:
        self._printer.questions += data.count(b"\x10\x04")
        if self._printer.behaviour.mute:
            return
        self._pending += data
        while self._pending:
            used = self._command(self._pending)
            if used == 0:
                return  # the rest of a command is still to come
            self._pending = self._pending[used:]

    def _command(self, data: bytes) -> int:
        """Carry out one command; returns its length, 0 while it is not whole."""
        if data[0] == 0x10:  # DLE EOT n, DLE ENQ n: real-time
            return self._real_time(data)
        if data[0] == 0x1D:
            return self._gs(data)
        if data[0] == 0x1B:
            lengths = {0x40: 2, 0x74: 3, 0x21: 3, 0x61: 3, 0x64: 3, 0x4D: 3, 0x45: 3, 0x2D: 3, 0x52: 3, 0x7B: 3, 0x47: 3}
            return 0 if len(data) < 2 else min(len(data), lengths.get(data[1], 2)) if len(data) >= lengths.get(data[1], 2) else 0
        if data[0] == 0x1C:
            return 2 if len(data) >= 2 else 0
        end = next((i for i, byte in enumerate(data) if byte in (0x10, 0x1B, 0x1C, 0x1D)), len(data))
        self._printer.print_text(data[:end])
        return end

    def _real_time(self, data: bytes) -> int:
        if len(data) < 3:
            return 0
        if data[1] == 0x04:
            self._say(self._printer.answer(data[2]))
        elif data[1] == 0x05 and data[2] in (1, 2) and self._printer.mechanism.error in ("cutter", "recoverable"):
            self._printer.change(error=None)
        return 3

    def _gs(self, data: bytes) -> int:
        if len(data) < 3:
            return 0
        if data[1] == 0x61 and self._printer.behaviour.pushes:
            self.push_mask = data[2]
            self.status_changed()  # enabling it says the status at once
        return 4 if data[1] == 0x56 and data[2] in (0x41, 0x42) and len(data) >= 4 else 3

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
