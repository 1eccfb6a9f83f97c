"""USB devices by their physical port: unbind and bind, reset, `authorized`, port power. Never a hub, a disk or a network.

Linux, Documentation/ABI: sysfs-bus-usb (`authorized`; of a port `disable`, since Linux 6.0, and `peer`), sysfs-driver.
"""

import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn

from agent.privileged.machine import Machine
from agent.privileged.slots import Slots
from agent.privileged.verdict import Ended

_DEVICES: Final = "sys/bus/usb/devices"
_DRIVERS: Final = "sys/bus/usb/drivers"
_CLASSES: Final = {"09": "a hub", "08": "a disk"}  # usb.org, Defined Class Codes
_BELOW: Final = {"block": "a disk", "net": "a network interface", "ieee80211": "a radio"}  # the kernel's classes
_UNAUTHORIZED_S: Final = 1.0
_UNPOWERED_S: Final = 2.0


def rebind(machine: Machine, slots: Slots, slot: str) -> None:
    """Take every interface from its driver, and give it back."""
    device = _device(machine, slots.usb[slot])
    bound = [(interface, driver) for interface in _interfaces(device) if (driver := _driver(interface))]
    if not bound:
        raise Ended("failed", "no driver has it")
    with ExitStack() as always:
        for interface, driver in reversed(bound):  # an ExitStack runs them backwards
            always.callback(_drive, machine, interface, driver, "bind")
        for interface, driver in bound:
            _drive(machine, interface, driver, "unbind")


def reset(machine: Machine, slots: Slots, slot: str) -> None:
    """Reset its port: the device keeps its address and loses its state."""
    device = _device(machine, slots.usb[slot])
    numbers = [machine.text(device / name) or "" for name in ("busnum", "devnum")]
    if not all(re.fullmatch("[0-9]{1,3}", number) for number in numbers):
        raise Ended("failed", "it has no node")
    machine.reset_usb(machine.path("dev/bus/usb/{:0>3}/{:0>3}".format(*numbers)))


def authorize(machine: Machine, slots: Slots, slot: str) -> None:
    """Let the kernel forget the device for a second, as if it was pulled out."""
    port = slots.usb[slot]
    file = _device(machine, port) / "authorized"
    with ExitStack() as always:
        # Opened before it is looked at: what is allowed in the end is what was looked at, not what somebody has put in its place.
        write = always.enter_context(machine.opened(file))
        _device(machine, port)
        if machine.text(file) != "1":
            # What somebody forbade, such as a stick in the printer's place, is not allowed by way of a repair.
            raise Ended("refused", "the device is not authorized; whoever forbade it may allow it")
        always.callback(write, "1")
        write("0")
        machine.pause(_UNAUTHORIZED_S)


def power(machine: Machine, slots: Slots, slot: str) -> None:
    """No power at the port for two seconds, whether or not the kernel sees a device there."""
    ports = _ports(machine, slots.usb[slot])
    for port in ports:
        if (port / "device").exists():
            _guard(machine, (port / "device").resolve())
        for kind in sorted(_kinds_below(port.parent.parent)):  # many hubs say that they switch each port, and switch all
            raise Ended("refused", f"{_BELOW[kind]} is plugged in at the same hub")
    switches = [file for port in ports if (file := port / "disable").exists()]
    if not switches:
        raise Ended("not-supported", "its hub does not switch the port's power")
    with ExitStack() as always:
        for switch in switches:
            always.callback(machine.write, switch, "0")
        for switch in switches:
            machine.write(switch, "1")
        machine.pause(_UNPOWERED_S)


def _device(machine: Machine, port: str) -> Path:
    """The one device that is plugged in there, and may be touched. Raises Ended."""
    plugged = _plugged(machine, port)
    if not plugged:
        raise Ended("failed", f"nothing is plugged in at {port}")
    _guard(machine, plugged[0])
    return plugged[0]


def _plugged(machine: Machine, port: str) -> list[Path]:
    """What is plugged in at the port, at most one. Buses are numbered anew at each boot: `usb-1.2` is `1-1.2`, or `3-1.2`."""
    chain = re.escape(port.removeprefix("usb-"))
    found = [entry for entry in _entries(machine) if re.fullmatch(f"[0-9]+-{chain}", entry.name)]
    if len(found) > 1:
        _ambiguous(port, found)
    return found


def _ports(machine: Machine, port: str) -> list[Path]:
    """The port in its hub's folder, and the other half of the same socket: USB 2 and USB 3 have a hub each, with one power.

    Raises Ended where there is no such port, or several that are not the same socket.
    """
    hub, _, number = port.removeprefix("usb-").rpartition(".")
    hubs = f"([0-9]+)-{re.escape(hub)}" if hub else "usb([0-9]+)"
    found: dict[str, Path] = {}
    for entry in _entries(machine):
        if match := re.fullmatch(hubs, entry.name):
            interface = f"{entry.name}:1.0" if hub else f"{match[1]}-0:1.0"
            place = entry / interface / f"{entry.name}-port{number}"
            if place.is_dir():
                found[match[1]] = place.resolve()
    for device in _plugged(machine, port):
        _guard(machine, device)
        found = {bus: place for bus, place in found.items() if device.name.startswith(f"{bus}-")}
    if not found:
        raise Ended("not-supported", f"there is no port {port}")
    first, *others = found.values()
    socket = [first]
    if (first / "peer").is_dir():
        socket.append((first / "peer").resolve())
    if any(other not in socket for other in others):
        _ambiguous(port, list(found.values()))
    return socket


def _ambiguous(port: str, found: list[Path]) -> NoReturn:
    raise Ended("refused", f"ambiguous: {port} is {' and '.join(place.name for place in found)}")


def _guard(machine: Machine, device: Path) -> None:
    """Raises Ended for what no act may touch: others hang on it, or the booth itself."""
    classes = [machine.text(device / "bDeviceClass")]
    classes += [machine.text(interface / "bInterfaceClass") for interface in _interfaces(device)]
    for word in classes:
        if word is None:
            raise Ended("refused", f"the classes of {device.name} cannot be read")
        if word in _CLASSES:
            raise Ended("refused", f"{device.name} is {_CLASSES[word]}")
    for kind in _kinds_below(device):
        raise Ended("refused", f"{device.name} is {_BELOW[kind]}")


def _kinds_below(device: Path) -> set[str]:
    """Which of the kernel's classes have a folder below it, though it may be empty at this moment."""
    return {name for _, folders, _ in os.walk(device, onerror=_unreadable) for name in folders if name in _BELOW}


def _unreadable(error: OSError) -> NoReturn:
    raise Ended("refused", f"{error.filename} cannot be read: {error.strerror}") from error


def _entries(machine: Machine) -> list[Path]:
    return sorted(machine.path(_DEVICES).iterdir())


def _interfaces(device: Path) -> list[Path]:
    return sorted(entry for entry in device.iterdir() if entry.name.startswith(f"{device.name}:"))


def _driver(interface: Path) -> str | None:
    """The kernel's driver. `usbfs` is none: a program drives the interface itself (libusb), and only it can take it back."""
    try:
        name = (interface / "driver").readlink().name
    except OSError:
        return None
    return None if name == "usbfs" else name


def _drive(machine: Machine, interface: Path, driver: str, verb: str) -> None:
    try:
        machine.write(machine.path(f"{_DRIVERS}/{driver}/{verb}"), interface.name)
    except OSError:
        # A driver of several interfaces takes and leaves them together: this one may be where it should be.
        if (_driver(interface) is not None) != (verb == "bind"):
            raise
