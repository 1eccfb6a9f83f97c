"""Runs in the virtual booth, as root: a receipt printer of the USB printer class, plugged in while this runs.

The kernel is both ends of its cable (dummy_hcd): a host that finds 04b8:0e15 and gives it /dev/usb/lp0, and a device on
whose /dev/g_printer0 the simulator's printer speaks. Orders come through a named pipe, one a line: `mute CURE` until that
happens to it, `pull`, `plug`. What happens is written to standard output, one JSON list a line: seconds since the boot, word.

What happens to it is read off the cable (usbmon), as its firmware would hear it: the gadget's own `state` tells a reset, but
neither that it was deauthorised nor that its driver was exchanged, and of its port's power only that it is back.

Started with the name of a folder as well, it is a scanner too: SANE's `test` backend, configured there, fails until the same has
happened to it (`scan io-error CURE`, or `scan slow CURE` for one that never comes to an end).
"""

import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Literal, cast, get_args

from agent.simulator.receipt_printer import ReceiptPrinter
from agent.simulator.scanner import Scanner

Happening = Literal["rebind", "reset", "authorize", "power", "plugged"]

_GADGET: Final = Path("/sys/kernel/config/usb_gadget/booth")
_NODE: Final = Path("/dev/g_printer0")
# Linux, usb/usbmon: struct usbmon_packet, up to the setup packet. Type, whether there is a setup packet (0: yes), and it.
_PACKET: Final = struct.Struct("=8xB5xb25x8s")
_SUBMITTED: Final = ord("S")
# bmRequestType, bRequest, wValue, wIndex. USB 2.0, sections 9.4 and 11.24.2; the hub has one port.
_RESET_PORT: Final = bytes.fromhex("2303 0400 0100")
_CUT_POWER: Final = bytes.fromhex("2301 0800 0100")
_DECONFIGURE: Final = bytes.fromhex("0009 0000")
# Printer Class 1.1, section 4.2.1: GET_DEVICE_ID. The kernel's driver asks for it once, when it takes the printer.
_GREET: Final = bytes.fromhex("a100")


class Cable:
    """What the host does, request for request, until a driver has the printer again: that is when something has happened."""

    def __init__(self) -> None:
        self.plugged()

    def plugged(self) -> None:
        self._since_greeted: Happening = "plugged"

    def heard(self, packet: bytes) -> Happening | None:
        """One packet of usbmon's."""
        kind, without_setup, setup = _PACKET.unpack_from(packet)
        if kind != _SUBMITTED or without_setup:
            return None
        if setup.startswith(_GREET):
            happened, self._since_greeted = self._since_greeted, "rebind"
            return happened
        if self._since_greeted == "rebind":  # else it is a part of what has begun: every way back ends with a reset
            if setup.startswith(_RESET_PORT):
                self._since_greeted = "reset"
            elif setup.startswith(_CUT_POWER):
                self._since_greeted = "power"
            elif setup.startswith(_DECONFIGURE):
                self._since_greeted = "authorize"
        return None


class UsbPrinter:
    """Both ends of the cable, and the printer. Made and used on one loop."""

    def __init__(self, stack: ExitStack, scanner: Scanner | None) -> None:
        self._scanner = scanner
        subprocess.run(
            ["modprobe", "-a", "libcomposite", "usb_f_printer", "usbmon", "usblp", "dummy_hcd"], check=True, timeout=60
        )
        self._cable = Cable()
        self._printer = ReceiptPrinter()
        self._cure: Happening | None = None
        self._plugged = False
        self._node = -1
        self._writer: asyncio.StreamWriter | None = None
        self._begins: asyncio.Task[None] | None = None
        self._udc = next(Path("/sys/class/udc").iterdir()).name
        bus = next(Path("/sys/devices/platform/dummy_hcd.0").glob("usb*/busnum")).read_text().strip()
        self._usbmon = os.open(f"/dev/usbmon{bus}", os.O_RDONLY | os.O_NONBLOCK)
        stack.callback(os.close, self._usbmon)
        _describe(stack)

    async def start(self) -> None:
        await self._printer.listen()
        asyncio.get_running_loop().add_reader(self._usbmon, self._overheard)
        self.plug()

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._usbmon)
        self.pull()
        await self._printer.close()

    def mute(self, cure: Happening | None) -> None:
        self._cure = cure
        self._printer.behaviour.mute = True
        _say("mute")

    def has_error(self, error: str) -> None:
        """It is offline until it is told to go on."""
        self._printer.change(error=error)
        _say(error)

    def scan(self, trouble: str, cure: Happening | None) -> None:
        """Its scanning part alone has it."""
        assert self._scanner is not None
        self._cure = cure
        if trouble == "slow":
            self._scanner.slow = True
        else:
            self._scanner.status = trouble
        _say("mute")

    def plug(self) -> None:
        self._plugged = True
        self._cable.plugged()
        (_GADGET / "UDC").write_text(self._udc)

    def pull(self) -> None:
        if not self._plugged:
            return
        self._plugged = False
        self._end()
        (_GADGET / "UDC").write_text("\n")
        _say("pulled")

    # --- what the host does ---

    def _overheard(self) -> None:
        if happened := self._cable.heard(os.read(self._usbmon, 65536)):  # one packet each time
            self._happened(happened)

    def _happened(self, happened: Happening) -> None:
        _say(happened)
        if happened == self._cure:
            self._cure = None
            self._printer.behaviour.mute = False
            if self._scanner is not None:
                self._scanner.status, self._scanner.slow = "ok", False
            _say("cured")
        if happened == "power":
            self._printer.power_cycle()
        self._end()
        self._begins = asyncio.get_running_loop().create_task(self._begin())

    # --- what is said ---

    async def _begin(self) -> None:
        """A new conversation, on the endpoints that there are now; the node cannot be opened while no driver has it."""
        with suppress(OSError):  # no driver has it any more: the next greeting begins anew
            reader, self._writer = await asyncio.open_connection("127.0.0.1", self._printer.port)
            self._node = os.open(_NODE, os.O_RDWR | os.O_NONBLOCK)
            asyncio.get_running_loop().add_reader(self._node, self._asked, self._writer)
            while data := await reader.read(4096):
                with suppress(BlockingIOError):  # nobody has listened for long
                    os.write(self._node, data)

    def _end(self) -> None:
        if self._begins is not None:
            self._begins.cancel()
        if self._writer is not None:
            self._writer.transport.abort()
        self._writer = None
        self._let_go()

    def _asked(self, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(os.read(self._node, 4096))
        except BlockingIOError:
            return
        except OSError:  # no driver has it any more
            self._let_go()

    def _let_go(self) -> None:
        if self._node >= 0:
            asyncio.get_running_loop().remove_reader(self._node)
            os.close(self._node)
            self._node = -1


def _describe(stack: ExitStack) -> None:
    """The gadget, as in the kernel's documentation, usb/gadget_configfs; gone again at the end."""
    function, configuration, words = (_GADGET / name for name in ("functions/printer.0", "configs/c.1", "strings/0x409"))
    for folder in (_GADGET, function, configuration, words):
        folder.mkdir()
        stack.callback(folder.rmdir)
    for name, text in {"idVendor": "0x04b8", "idProduct": "0x0e15"}.items():
        (_GADGET / name).write_text(text)
    for name, text in {"manufacturer": "EPSON", "product": "TM-T88V", "serialnumber": "VB0001"}.items():
        (words / name).write_text(text)
    (function / "pnp_string").write_text("MFG:EPSON;CMD:ESC/POS;MDL:TM-T88V;CLS:PRINTER;")
    link = configuration / function.name
    link.symlink_to(function)
    stack.callback(link.unlink)


def _say(word: str) -> None:
    print(json.dumps([time.clock_gettime(time.CLOCK_BOOTTIME), word]), flush=True)


async def _obey(printer: UsbPrinter, orders: asyncio.Queue[str]) -> None:
    while True:
        match (await orders.get()).split():
            case ["mute", "never"]:
                printer.mute(None)
            case ["mute", cure] if cure in get_args(Happening):
                printer.mute(cast("Happening", cure))
            case ["scan", trouble, "never"]:
                printer.scan(trouble, None)
            case ["scan", trouble, cure] if cure in get_args(Happening):
                printer.scan(trouble, cast("Happening", cure))
            case ["error", error]:
                printer.has_error(error)
            case ["pull"]:
                printer.pull()
            case ["plug"]:
                printer.plug()
            case other:
                raise ValueError(f"no order: {other}")


def _reads(pipe: int, orders: asyncio.Queue[str]) -> Callable[[], None]:
    def readable() -> None:
        for line in os.read(pipe, 4096).decode().splitlines():
            orders.put_nowait(line)

    return readable


async def main(pipe_path: str, scanner_folder: str | None = None) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    with ExitStack() as stack:
        os.mkfifo(pipe_path)
        stack.callback(os.unlink, pipe_path)
        pipe = os.open(pipe_path, os.O_RDWR | os.O_NONBLOCK)
        stack.callback(os.close, pipe)
        orders: asyncio.Queue[str] = asyncio.Queue()
        printer = UsbPrinter(stack, Scanner(Path(scanner_folder)) if scanner_folder else None)
        loop.add_reader(pipe, _reads(pipe, orders))
        try:
            await printer.start()
            await _obey(printer, orders)
        finally:
            loop.remove_reader(pipe)
            await printer.close()


if __name__ == "__main__":
    try:
        asyncio.run(main(*sys.argv[1:]))
    except asyncio.CancelledError:
        sys.exit(0)
