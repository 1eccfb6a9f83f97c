"""Kernel events about devices (netlink(7), NETLINK_KOBJECT_UEVENT): plugged, unplugged, changed.

Two groups carry them: the kernel's own, at once, and udev's, when its rules are done and the links
under /dev and their permissions stand. A removal is believed from either, an arrival is looked at
after both.
"""

import asyncio
import errno
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_NETLINK_KOBJECT_UEVENT: Final = 15  # linux/netlink.h; Python's socket module lacks it
_KERNEL_GROUP: Final = 1
_UDEV_GROUP: Final = 2
_UDEV_MAGIC: Final = b"libudev\0"


@dataclass(frozen=True)
class Uevent:
    action: str  # add, remove, change, bind, unbind, …
    subsystem: str
    devpath: str


UeventHandler = Callable[[Uevent], None]


class Uevents:
    """Hands each event to every subscriber, on the running loop."""

    def __init__(self) -> None:
        self._subscribers: list[UeventHandler] = []
        self._socket: socket.socket | None = None

    def subscribe(self, handler: UeventHandler) -> Callable[[], None]:
        """Returns what ends it."""
        self._subscribers.append(handler)
        return lambda: self._subscribers.remove(handler)

    def start(self) -> None:
        """Raises OSError where the kernel or the sandbox has no such socket."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_KOBJECT_UEVENT)
        self._socket.setblocking(False)
        self._socket.bind((0, _KERNEL_GROUP | _UDEV_GROUP))
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def announce(self, event: Uevent) -> None:
        for handler in list(self._subscribers):
            handler(event)

    def _readable(self) -> None:
        assert self._socket is not None
        while True:
            try:
                data = self._socket.recv(16384)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue  # events were lost in a flood; those that follow make us look again
            if (event := parse(data)) is not None:
                self.announce(event)


def parse(data: bytes) -> Uevent | None:
    """One datagram of either group; None for what is no event."""
    if data.startswith(_UDEV_MAGIC):
        if len(data) < 24:
            return None
        # struct udev_monitor_netlink_header: the properties' offset stands at byte 16, in host order.
        offset = int.from_bytes(data[16:20], sys.byteorder)
        data = data[offset:]
    properties = dict(line.split("=", 1) for line in data.decode("utf-8", "replace").split("\0") if "=" in line)
    if "ACTION" not in properties or "DEVPATH" not in properties:
        return None
    return Uevent(properties["ACTION"], properties.get("SUBSYSTEM", ""), properties["DEVPATH"])
