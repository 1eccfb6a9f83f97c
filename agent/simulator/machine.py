"""The machine under a simulated booth: kernel files in a temporary folder, a cable that can be pulled, a clock."""

from collections.abc import Callable
from pathlib import Path

from agent.devices.netlink import DefaultRoute, Interface, Links, NetworkState
from agent.devices.sysfs import KernelFiles
from agent.machine import Machine
from agent.simulator.acts import SimulatedActs
from agent.simulator.lockdown import SimulatedLockdown
from agent.system.clock import MachineTimes
from agent.system.uevents import Uevent, Uevents


class SimulatedFiles(KernelFiles):
    """A tree of plain files. Writing one announces it to whoever watches it, as the kernel would."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._watchers: dict[str, list[Callable[[], None]]] = {}

    def write(self, name: str, text: str) -> None:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        for changed in self._watchers.get(name, ()):
            changed()

    def watch(self, name: str, changed: Callable[[], None]) -> Callable[[], None]:
        watchers = self._watchers.setdefault(name, [])
        watchers.append(changed)
        return lambda: watchers.remove(changed)


class SimulatedLinks(Links):
    """One Ethernet interface behind an Internet box."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: list[Callable[[], None]] = []
        self.cable = True
        self.box = True

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        self._callbacks.append(changed)
        return lambda: self._callbacks.remove(changed) if changed in self._callbacks else None

    def close(self) -> None:
        self._callbacks.clear()

    def change(self, *, cable: bool | None = None, box: bool | None = None) -> None:
        self.cable = self.cable if cable is None else cable
        self.box = self.box if box is None else box
        for changed in list(self._callbacks):
            changed()

    def snapshot(self) -> NetworkState:
        addresses = ("192.0.2.20",) if self.cable else ()  # TEST-NET-1, RFC 5737
        routes = (DefaultRoute("eth0", "192.0.2.1", 100),) if self.cable else ()
        return NetworkState((Interface("eth0", up=True, carrier=self.cable, addresses=addresses),), routes)

    def neighbour_answers(self, address: str) -> bool | None:
        del address
        return self.box

    async def host_answers(self, address: str) -> bool | None:
        del address
        return self.box


class SimulatedUevents(Uevents):
    """No socket: `announce` is the kernel."""

    def start(self) -> None:
        return

    def close(self) -> None:
        return

    def plugged(self, subsystem: str, devpath: str) -> None:
        self.announce(Uevent("add", subsystem, devpath))


class SimulatedTimes(MachineTimes):
    """The real clocks; whether a time source keeps them is for the simulation to say."""

    synced = True

    def kernel_synced(self) -> bool:
        return self.synced


class SimulatedMachine(Machine):
    """A healthy Raspberry Pi."""

    files: SimulatedFiles
    links: SimulatedLinks
    uevents: SimulatedUevents
    times: SimulatedTimes
    acts: SimulatedActs
    lockdown: SimulatedLockdown

    def __init__(self, root: Path) -> None:
        super().__init__(
            SimulatedFiles(root), SimulatedLinks(), SimulatedUevents(), SimulatedTimes(), SimulatedActs(),
            SimulatedLockdown(root / "root"),
        )  # fmt: skip
        write = self.files.write
        write("proc/device-tree/model", "Raspberry Pi 4 Model B (simulated)")
        write("etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (simulated)"')
        write("proc/meminfo", "MemTotal: 948000 kB\nMemAvailable: 512000 kB")
        write("sys/class/hwmon/hwmon0/name", "rpi_volt")
        write("sys/class/hwmon/hwmon0/in0_lcrit_alarm", "0")
        write("sys/devices/platform/soc/soc:firmware/get_throttled", "0")
        self.heat(48.0)
        self.mount(read_only=False)

    def power(self, *, weak: bool) -> None:
        self.files.write("sys/devices/platform/soc/soc:firmware/get_throttled", "50005" if weak else "50000")
        self.files.write("sys/class/hwmon/hwmon0/in0_lcrit_alarm", "1" if weak else "0")

    def heat(self, celsius: float) -> None:
        self.files.write("sys/class/thermal/thermal_zone0/temp", str(round(celsius * 1000)))

    def mount(self, *, read_only: bool) -> None:
        options = "ro" if read_only else "rw"
        self.files.write("proc/self/mountinfo", f"22 1 179:2 / / rw,noatime - ext4 /dev/mmcblk0p2 {options}")
