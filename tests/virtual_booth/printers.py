"""Receipt printers for a virtual booth: one of the USB printer class inside it, and one at the end of a serial line of QEMU's."""

import asyncio
import json
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from agent.simulator.receipt_printer import ReceiptPrinter
from tests.virtual_booth.booth import PYTHON, VirtualBooth

T = TypeVar("T")

_WITHIN_S: Final = 20.0
_PROGRAM: Final = f"{PYTHON} -B -m tests.virtual_booth.guest.printer"
_ORDERS: Final = "/run/printer.orders"
_SAID: Final = "/run/printer.said"


class UsbPrinter:
    """04b8:0e15 at /dev/usb/lp0, for which guest/printer.py speaks. As a context manager it is plugged in, and then gone."""

    url: Final = "usb://04b8:0e15"
    port: Final = "usb-1"  # so nothing else may be plugged in at QEMU's port 1
    ids: Final = "04b8:0e15"
    scanner_folder: Final = "/run/all-in-one"  # for the scanner's option `config_dir`; its `device` is sane:test:1

    def __init__(self, booth: VirtualBooth, *, scans: bool = False) -> None:
        """`scans`: it is a scanner as well."""
        self.booth = booth
        self._arguments = f"{_ORDERS} {self.scanner_folder}" if scans else _ORDERS

    def __enter__(self) -> Self:
        self.booth.run(
            f"systemd-run --quiet --unit printer --property WorkingDirectory=/"
            f" --property StandardOutput=truncate:{_SAID} {_PROGRAM} {self._arguments}"
        )
        self.until_there()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.booth.run("systemctl stop printer || true")  # the power may have been cut meanwhile
        self.booth.wait_for("modprobe --remove --all dummy_hcd usb_f_printer libcomposite usbmon")

    def mute(self, cure: str) -> None:
        """It says nothing more until this is done to it: rebind, reset, authorize, power; or never."""
        self._order(f"mute {cure}")
        self.booth.wait_for(f"tail -1 {_SAID} | grep mute")

    def has_error(self, error: str) -> None:
        """`cutter` or `recoverable`: it is offline, and says so, until it is told to go on."""
        self._order(f"error {error}")
        self.booth.wait_for(f"tail -1 {_SAID} | grep {error}")

    def scans_badly(self, trouble: str, cure: str) -> None:
        """Its scanner says io-error, or is slow, until this is done to it."""
        self._order(f"scan {trouble} {cure}")
        self.booth.wait_for(f"tail -1 {_SAID} | grep mute")

    def pull(self) -> None:
        self._order("pull")
        self.booth.wait_for("test ! -e /dev/usb/lp0 && udevadm settle")

    def plug(self) -> None:
        self._order("plug")
        self.until_there()

    def until_there(self) -> None:
        """Wait for its node."""
        why = "{ journalctl -u printer -o cat --no-pager | tail; false; }"
        self.booth.wait_for(f"test -e /dev/booth/{self.port}/lp && udevadm settle || {why}")

    def happened(self) -> list[str]:
        """What was done to it since it is there, oldest first."""
        return [json.loads(line)[1] for line in self.booth.run(f"cat {_SAID}").splitlines()]

    def _order(self, order: str) -> None:
        self.booth.run(f"test -p {_ORDERS} && echo {order} > {_ORDERS}", timeout_s=10)


class SerialPrinter:
    """The simulator's printer on this machine, on a TCP port for `VirtualBooth.plug("usb-serial", …, talks_to=port)`."""

    def __init__(self) -> None:
        self.port = 0
        self._printer = ReceiptPrinter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="serial-printer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._do(self._printer.listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._do(self._printer.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WITHIN_S)
        self._loop.close()

    def change(self, **facts: object) -> None:
        """As `ReceiptPrinter.change`: `change(paper="out")`."""

        async def change() -> None:
            self._printer.change(**facts)

        self._do(change())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WITHIN_S)
