"""A booth below a temporary folder: the kernel's files for USB and network, the list, programs that say what they were asked."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.privileged.machine import Machine
from agent.privileged.slots import Slots

DEVICES = "sys/bus/usb/devices"

SLOTS = """\
[usb]
receipt-printer = "usb-1.2"
[queues]
document-printer = "forms"
[interfaces]
network = "wlan0"
[units]
kiosk = "booth-kiosk.service"
[boards]
board = ["NetworkManager.service", "cups.service"]
"""


class Booth:
    """`said` holds what programs were called with, one line each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._log = root / "said"
        for folder in (DEVICES, "sys/bus/usb/drivers", "sys/class/net", "usr/bin", "usr/sbin", "run", "var/lib/booth-acts"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    @property
    def said(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def slots(self, text: str = SLOTS) -> Path:
        file = self.root / "etc/booth-agent/slots.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.parent.chmod(0o750)
        file.write_text(text)
        file.chmod(0o644)
        return file

    def program(self, name: str, body: str = "exit 0") -> None:
        """A program of the booth's: `body` is what its shell does with "$@"."""
        file = self.root / "usr/bin" / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {shlex.quote(str(self._log))}\n{body}\n')
        file.chmod(0o755)

    def plug(self, path: str, interfaces: dict[str, str | None], *, device_class: str = "00", below: str | None = None) -> Path:
        """A device such as `1-1.2`. `interfaces`: their classes, and the driver that has each. `below`: a folder in the first."""
        device = self.root / DEVICES / path
        device.mkdir(parents=True)
        bus, _, chain = path.partition("-")
        number = len(list(device.parent.iterdir()))
        texts = {
            "bDeviceClass": device_class,
            "busnum": bus,
            "devnum": str(number),
            "devpath": chain,
            "authorized": "1",
        }
        for name, text in texts.items():
            (device / name).write_text(f"{text}\n")
        for index, (class_, driver) in enumerate(interfaces.items()):
            interface = device / f"{path}:1.{index}"
            interface.mkdir()
            (interface / "bInterfaceClass").write_text(f"{class_}\n")
            if driver is not None:
                (interface / "driver").symlink_to(self.driver(driver))
            if below is not None and index == 0:
                (interface / below).mkdir(parents=True)
        node = self.root / f"dev/bus/usb/{int(bus):03}/{number:03}"
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch()
        for port in self.root.glob(f"{DEVICES}/*/*:1.0/*-port*"):
            hub, _, index_of_port = port.name.rpartition("-port")
            if path in (f"{hub}.{index_of_port}", f"{hub.removeprefix('usb')}-{index_of_port}"):
                (port / "device").symlink_to(device)
        return device

    def driver(self, name: str) -> Path:
        folder = self.root / "sys/bus/usb/drivers" / name
        folder.mkdir(exist_ok=True)
        for file in ("bind", "unbind"):
            (folder / file).touch()
        return folder

    def hub(self, name: str, ports: int, *, switched: bool = True) -> Path:
        """A hub such as `usb1` or `1-1`, with its ports."""
        root_hub = name.startswith("usb")
        interface = f"{name[3:]}-0:1.0" if root_hub else f"{name}:1.0"
        hub = self.root / DEVICES / name
        for number in range(1, ports + 1):
            port = hub / interface / f"{name}-port{number}"
            port.mkdir(parents=True)
            if switched:
                (port / "disable").write_text("0\n")
        (hub / "bDeviceClass").write_text("09\n")
        (hub / interface / "bInterfaceClass").write_text("09\n")
        return hub

    def port(self, hub: str, number: int) -> Path:
        return next(self.root.glob(f"{DEVICES}/{hub}/*/{hub}-port{number}"))

    def pair(self, one: Path, other: Path) -> None:
        """The two halves of one socket."""
        (one / "peer").symlink_to(other)
        (other / "peer").symlink_to(one)

    def network(self, name: str, *, driver: str | None = None, radio: int | None = None) -> Path:
        folder = self.root / "sys/class/net" / name
        folder.mkdir()
        if driver is not None:
            device = self.root / "sys/devices/mmc1:0001:1"
            device.mkdir(parents=True)
            drivers = self.root / "sys/bus/sdio/drivers" / driver
            drivers.mkdir(parents=True)
            for file in ("bind", "unbind"):
                (drivers / file).touch()
            (device / "driver").symlink_to(drivers)
            (folder / "device").symlink_to(device)
        if radio is not None:
            (folder / "phy80211" / f"rfkill{radio}").mkdir(parents=True)
            (self.root / "dev").mkdir(exist_ok=True)
            (self.root / "dev/rfkill").touch()
        return folder


class Recorded(Machine):
    """Notes what is done, in order, and does not wait. `kernel` answers a write: it may change the tree, or raise OSError."""

    def __init__(self, root: Path, kernel: Callable[[str, str | bytes], None] = lambda name, data: None) -> None:
        super().__init__(root)
        self._at = root
        self._kernel = kernel
        self.done: list[object] = []

    def write(self, file: Path, data: str | bytes) -> None:
        super().write(file, data)  # it has to be there
        name = str(file.relative_to(self._at))
        self.done.append((name, data))
        self._kernel(name, data)

    @contextmanager
    def opened(self, file: Path) -> Iterator[Callable[[str], None]]:
        with super().opened(file) as write:

            def noted(text: str) -> None:
                write(text)
                self.done.append((str(file.relative_to(self._at)), text))

            yield noted

    def reset_usb(self, node: Path) -> None:
        assert node.exists()
        self.done.append(("reset", str(node.relative_to(self._at))))

    def pause(self, seconds: float) -> None:
        self.done.append(seconds)


def usb(port: str) -> Slots:
    """A list of one USB device, the receipt printer."""
    return Slots(usb={"receipt-printer": port})
