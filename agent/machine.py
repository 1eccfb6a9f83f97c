"""The machine under the agent: kernel files and events, clocks, names, the light's hardware, and root's acts."""

import contextlib
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Final

from agent.contract.state import Board
from agent.contract.words import printable
from agent.devices.netlink import Links
from agent.devices.sysfs import KernelFiles
from agent.engine.heal import Acts
from agent.engine.light import Lamp
from agent.settings import Settings
from agent.settings_tables import LightTable
from agent.system.acts import SocketActs
from agent.system.clock import MachineTimes, Times
from agent.system.lockdown_socket import LockdownSocket
from agent.system.threads import in_thread
from agent.system.uevents import Uevent, Uevents
from agent.system.update_socket import UpdateSocket

_PLUGGED_SUBSYSTEMS: Final = ("usb", "usbmisc", "tty", "video4linux", "sound", "leds")
LIGHT_SOCKET: Final = "light.sock"


@dataclass
class Machine:
    """The machine under the agent; the simulated booth passes another."""

    files: KernelFiles = field(default_factory=KernelFiles)
    links: Links = field(default_factory=Links)
    uevents: Uevents = field(default_factory=Uevents)
    times: Times = field(default_factory=MachineTimes)
    acts: Acts = field(default_factory=SocketActs)
    lockdown: LockdownSocket = field(default_factory=LockdownSocket)
    updates: UpdateSocket = field(default_factory=UpdateSocket)


def board_of(files: KernelFiles) -> Board:
    """What `B/meta` says of the board."""
    return Board(
        model=_text(files.text("proc/device-tree/model") or files.text("sys/class/dmi/id/product_name")),
        os=_text(_os_name(files)),
        kernel=platform.release(),
        architecture=platform.machine(),
    )


def zone_of(settings: Settings) -> tzinfo:
    """The booth's time zone; UTC where nothing asks for the local time."""
    if not (settings.hours.week or settings.hours.exceptions or settings.appointments):
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - 0.4 MiB that a booth without hours does without

    return ZoneInfo(settings.hours.tz)


def lamp_of(light: LightTable, files: KernelFiles, runtime_dir: Path) -> Lamp | None:
    """The hardware of `[light]`; None where none is configured."""
    # Imported where there is a light: a booth without pays nothing for it.
    if light.gpio:
        from agent.devices.gpio_light import GpioLight  # noqa: PLC0415

        return GpioLight(runtime_dir / LIGHT_SOCKET)
    from agent.devices.led import LedLight  # noqa: PLC0415

    if light.red and light.green and light.blue:
        return LedLight(files, light.red, light.green, light.blue)
    return LedLight.one_colour(files, light.white) if light.white else None


async def resolve(host: str) -> list[str]:
    """The addresses of a name, in a thread of its own: getaddrinfo has no deadline. Raises OSError."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return [host]  # an address: nothing to ask, and no thread to start for it
    found = await in_thread(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), "resolve")
    return [str(sockaddr[0]) for _, _, _, _, sockaddr in found]


def pluggable_only(handler: Callable[[str, str], None]) -> Callable[[Uevent], None]:
    def handle(event: Uevent) -> None:
        if event.subsystem in _PLUGGED_SUBSYSTEMS:
            handler(event.action, event.devpath)

    return handle


def _os_name(files: KernelFiles) -> str | None:
    for line in (files.text("etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return None


def _text(value: str | None) -> str | None:
    return printable(value.rstrip("\0")) if value else None
