"""Whether a printer that CUPS reaches by USB is plugged in: sysfs knows, CUPS does not."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from agent.contract.words import printable
from agent.devices import usb
from agent.devices.sysfs import KernelFiles
from agent.devices.usb import UsbDevice

_DEVICES: Final = "sys/bus/usb/devices"
_PRINTER_CLASS: Final = "07"  # bInterfaceClass: USB Device Class Definition for Printing Devices 1.1, section 4.3


@dataclass(frozen=True)
class UsbUri:
    """A `device-uri` of CUPS's usb backend: `usb://Brother/HL-L2310D?serial=E78…`."""

    words: frozenset[str]
    serial: str | None

    @classmethod
    def parse(cls, uri: str) -> "UsbUri | None":
        """None for what is no USB printer."""
        try:
            parts = urlsplit(uri)
        except ValueError:
            return None
        if parts.scheme != "usb":
            return None
        serial = next(iter(parse_qs(parts.query).get("serial", ())), None)
        return cls(_words(unquote(f"{parts.netloc} {parts.path}")), printable(serial) if serial else None)

    def fits(self, device: UsbDevice) -> bool:
        """Whether a device may be the one: not where both have names and share no word of them."""
        words = _words(f"{device.vendor or ''} {device.product or ''}")
        return not words or not self.words or bool(words & self.words)


class Presence:
    """Looks for one printer. `ids`: `vvvv:pppp[/serial]` of it, or empty where the queue's device URI has to tell.

    A printer that is there is never called absent. The URI's texts and serial number may come from the IEEE 1284 device
    id, and need not be those of the USB descriptors: until its serial number was once seen among the plugged printers,
    it is absent only if every plugged printer calls itself by other words altogether.
    """

    def __init__(self, files: KernelFiles, ids: str) -> None:
        self._files = files
        self._ids = ids
        self._uri: UsbUri | None = None
        self._serial_is_usb = False

    @property
    def on_usb(self) -> bool:
        return bool(self._ids) or self._uri is not None

    def learn(self, device_uri: str | None) -> None:
        """What the queue says of where it prints to."""
        uri = UsbUri.parse(device_uri or "")
        if uri != self._uri:
            self._uri, self._serial_is_usb = uri, False

    def look(self) -> tuple[bool | None, UsbDevice | None]:
        """Whether it is plugged in, and the device where it is known which; None where nobody can tell."""
        if self._ids:
            ids, _, serial = self._ids.partition("/")
            vendor_id, _, product_id = ids.lower().partition(":")
            device = usb.find(self._files, vendor_id, product_id, serial or None)
            return device is not None, device
        if self._uri is None or not self._files.path(_DEVICES).is_dir():
            return None, None
        printers = [device for device in usb.plugged(self._files) if is_printer(self._files, device)]
        device = next((device for device in printers if self._uri.serial and device.serial == self._uri.serial), None)
        if device is not None:
            self._serial_is_usb = True
            return True, device
        if self._serial_is_usb or not any(self._uri.fits(device) for device in printers):
            return False, None
        return None, None


def is_printer(files: KernelFiles, device: UsbDevice) -> bool:
    """Whether one of its interfaces is of the printer class."""
    folder = f"{_DEVICES}/{device.path}"
    return any(files.text(f"{folder}/{name}/bInterfaceClass") == _PRINTER_CLASS for name in files.names(folder) if ":" in name)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall("[a-z0-9]+", text.lower()))
