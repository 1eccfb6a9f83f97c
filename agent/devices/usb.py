"""USB devices as sysfs shows them: which is plugged where, and which node it has."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent.contract.words import printable
from agent.devices.sysfs import KernelFiles

_DEVICES = "sys/bus/usb/devices"
_SERIAL_NAMES = "dev/serial/by-id"
_MASS_STORAGE = "08"  # bInterfaceClass: usb.org, Defined Class Codes


@dataclass(frozen=True)
class UsbDevice:
    """One plugged device. `path` is its sysfs name such as `1-1.2`; the texts are harmless already."""

    path: str
    vendor_id: str
    product_id: str
    vendor: str | None
    product: str | None
    serial: str | None

    @property
    def slot(self) -> str:
        """The physical port, the same after every reboot: `usb-1.2`."""
        return "usb-" + self.path.partition("-")[2]


def find(files: KernelFiles, vendor_id: str, product_id: str, serial: str | None = None) -> UsbDevice | None:
    """The first plugged device with these ids (four hex digits each), and this serial number if one is given."""
    for device in plugged(files):
        if (device.vendor_id, device.product_id) == (vendor_id, product_id) and serial in (None, device.serial):
            return device
    return None


def in_slot(files: KernelFiles, slot: str) -> UsbDevice | None:
    """What is plugged in at a physical port such as `usb-1.2`; None also where two buses have such a port in use."""
    found = [device for device in plugged(files) if device.slot == slot]
    return found[0] if len(found) == 1 else None


def plugged(files: KernelFiles) -> Iterator[UsbDevice]:
    """Every plugged device, hubs included."""
    for name in files.names(_DEVICES):
        if ":" not in name and (device := _read(files, f"{_DEVICES}/{name}", name)) is not None:
            yield device


def shown(device: UsbDevice) -> str:
    """What a person is told of it; another one of the same model is not the same."""
    return " ".join(part for part in (f"{device.vendor_id}:{device.product_id}", device.product, device.serial) if part)


def storage_at(files: KernelFiles, devpath: str) -> dict[str, str | None] | None:
    """What a kernel event's interface (`/devices/…/1-1.3/1-1.3:1.0`) belongs to, if it is a disk or a stick; else None."""
    folder = f"sys{devpath}"
    if files.text(f"{folder}/bInterfaceClass") != _MASS_STORAGE:
        return None
    parent = folder.rpartition("/")[0]
    device = _read(files, parent, parent.rpartition("/")[2])
    if device is None:
        return None
    return {
        "slot": device.slot,
        "ids": f"{device.vendor_id}:{device.product_id}",  # not its texts: it is a citizen's, and people name their things
    }


def printer_node(files: KernelFiles, device: UsbDevice) -> str | None:
    """The usblp node of a printer (`dev/usb/lp0`); None while no driver has it.

    Kernel documentation: drivers/usb/class/usblp.c registers `usbmisc/lp<N>` below the interface.
    """
    for interface in files.names(f"{_DEVICES}/{device.path}"):
        if ":" in interface:
            for node in files.names(f"{_DEVICES}/{device.path}/{interface}/usbmisc"):
                if node.startswith("lp"):
                    return f"dev/usb/{node}"
    return None


def serial_port(files: KernelFiles, device: UsbDevice) -> str | None:
    """udev's lasting name of a device's serial port (`/dev/serial/by-id/…`); None where it has no such port, or udev no name.

    Kernel documentation: usb-serial has `ttyUSB<N>` below its interface, cdc-acm `tty/ttyACM<N>`.
    """
    ports = set()
    for interface in files.names(f"{_DEVICES}/{device.path}"):
        if ":" in interface:
            folder = f"{_DEVICES}/{device.path}/{interface}"
            ports |= {name for name in (*files.names(folder), *files.names(f"{folder}/tty")) if re.fullmatch("tty.+", name)}
    for name in files.names(_SERIAL_NAMES):
        if files.path(f"{_SERIAL_NAMES}/{name}").resolve().name in ports:
            return f"/{_SERIAL_NAMES}/{name}"
    return None


def ids_like(configured: str, device: UsbDevice) -> str:
    """`vvvv:pppp`, and `/serial` where what is configured so far has one, and the device too."""
    serial = f"/{device.serial}" if "/" in configured and device.serial else ""
    return f"{device.vendor_id}:{device.product_id}{serial}"


def of_tty(files: KernelFiles, tty: str) -> UsbDevice | None:
    """The USB device behind a serial port such as `ttyUSB0`; None where it is not on USB."""
    link = files.path(f"sys/class/tty/{tty}/device")
    try:
        place = link.resolve(strict=True)
    except OSError:
        return None
    for directory in (place, *place.parents):
        if (directory / "idVendor").exists():
            return _read(files, str(directory.relative_to(files.root.resolve())), directory.name)
    return None


def _read(files: KernelFiles, directory: str, name: str) -> UsbDevice | None:
    vendor_id, product_id = files.text(f"{directory}/idVendor"), files.text(f"{directory}/idProduct")
    if vendor_id is None or product_id is None:
        return None

    def descriptor(attribute: str) -> str | None:
        text = files.text(f"{directory}/{attribute}")
        return printable(text) if text else None

    return UsbDevice(name, vendor_id, product_id, descriptor("manufacturer"), descriptor("product"), descriptor("serial"))
