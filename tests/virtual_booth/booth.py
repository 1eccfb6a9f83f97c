"""A booth in a virtual machine: boot it, run commands in it, plug and unplug, cut its power.

Real Debian, real kernel, real udev and systemd, on a disk that is thrown away. The repository is mounted read-only
on /repository; /opt/virtual-booth is a virtual environment with the agent's libraries that imports the agent from
there, as it was when the machine booted. /opt/wheels is for `make install`. Its network card leads to a router and no further.
Everything has a deadline, and nothing is left behind: QEMU dies with whoever started it.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.virtual_booth.channel import BoothFailed, Lines
from tests.virtual_booth.image import REPOSITORY, Image

# In the order of the steps; these are what a machine needs besides the image.
NEEDS: Final = {"qemu-system-x86": Path("/usr/bin/qemu-system-x86_64"), "util-linux": Path("/usr/bin/setpriv")}
PYTHON: Final = "/opt/virtual-booth/bin/python"
SETTINGS: Final = """\
[booth]
id = "61-0001"
area = "61"
timezone = "Europe/Paris"
[broker]
url = "mqtt://127.0.0.1"
[peripherals.camera]
kind = "camera"
device = "v4l2:/dev/video0"
"""  # of its agent: more tables may follow

# The clocks of all emulated hardware are the emulator's: 8 ns for each instruction.
_HURRIED: Final = ("-accel", "tcg", "-cpu", "Nehalem", "-smp", "1", "-icount", "shift=3,sleep=off", "-rtc", "clock=vm")
_BOOT_DEADLINE_S: Final = 180.0  # 20 s on an idle machine without KVM
_ANSWER_MARGIN_S: Final = 20.0  # beyond a command's own deadline, which is kept inside
_RETRY_S: Final = 0.2
_CONSOLE_TAIL: Final = 3000  # characters


class VirtualBooth:
    """One machine. As a context manager it boots, and is gone at the end. Its disk outlives a power cut, not `close`."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._folder = Path(tempfile.mkdtemp(prefix="booth-vm-"))
        self._qemu: subprocess.Popen[bytes] | None = None
        self._channel: Lines | None = None
        self._monitor: Lines | None = None
        self._asked = 0
        self._disk = self._folder / "disk.img"
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", image.disk, self._disk], check=True, timeout=120)
        self.booted_in_s = 0.0  # until its first answer, and so with systemd and udev up

    def __enter__(self) -> Self:
        try:
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def boot(self, deadline_s: float = _BOOT_DEADLINE_S, *, hurried: bool = False) -> None:
        """Power on, and wait until it takes commands. Raises BoothFailed with the end of its console.

        `hurried`: its clocks count what its one processor does, and jump to the next timer where that is idle: hours of
        waiting pass in minutes, and also while it waits for a command of ours. Only its own clock tells how long something
        took; it starts at ours with each boot, as that of a board without a battery.
        """
        assert self._qemu is None, "it runs already"
        began = time.monotonic()
        with open(self._folder / "qemu.log", "wb") as log:
            # Nobody else ends it when we are killed.
            command = ["setpriv", "--pdeathsig", "KILL", "--", *self._command_line(hurried=hurried)]
            self._qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            self._monitor = Lines(self._folder / "monitor", deadline_s=20)
            self._channel = Lines(self._folder / "commands", deadline_s=20)
            self._monitor.read(20)  # its greeting
            self._ask_monitor("qmp_capabilities")
            self.run("true", deadline_s - (time.monotonic() - began))
        except (BoothFailed, OSError) as error:
            raise BoothFailed(f"{error}\n{self.console()}") from error
        self.booted_in_s = time.monotonic() - began

    def run(self, command: str, timeout_s: float = 60) -> str:
        """What a shell command prints, as root. Raises BoothFailed where its status is not 0, or its time is over."""
        status, output = self.try_run(command, timeout_s)
        if status != 0:
            how = f"status {status}" if status is not None else f"no end in {timeout_s:g} s"
            raise BoothFailed(f"{command}: {how}\n{output}")
        return output

    def try_run(self, command: str, timeout_s: float = 60) -> tuple[int | None, str]:
        """A shell command's status, None where its time was over, and what it printed."""
        if self._channel is None:
            raise BoothFailed("it is off")
        self._asked += 1
        self._channel.write({"id": self._asked, "command": command, "timeout_s": timeout_s})
        until = time.monotonic() + timeout_s + _ANSWER_MARGIN_S
        while True:
            answer = self._channel.read(until - time.monotonic())
            if answer.get("id") == self._asked:
                return answer["status"], answer["output"]

    def wait_for(self, command: str, timeout_s: float = 30) -> str:
        """What the command prints once it succeeds; it is run again and again until then."""
        until = time.monotonic() + timeout_s
        while True:
            status, output = self.try_run(command, max(1.0, until - time.monotonic()))
            if status == 0:
                return output
            if time.monotonic() > until:
                raise BoothFailed(f"{command}: not in {timeout_s:g} s, but status {status}\n{output}")
            time.sleep(_RETRY_S)

    def plug(self, driver: str, name: str, **properties: Any) -> None:
        """Plug in a USB device of QEMU's (`qemu-system-x86_64 -device help`), under a name of your own; `_` stands for `-`.

        `port` is its physical port, such as "2" or, behind a hub at 2, "2.1"; else QEMU takes the first that is free. The other
        end of a `usb-serial` is the TCP port `talks_to` of this machine, or takes everything and says nothing; a `usb-net` has
        a cable that ends nowhere, a `usb-storage` an empty disk.
        """
        other_end = f"{name}-end"
        if driver == "usb-serial":
            port = properties.pop("talks_to", None)
            address = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(port)}}
            line = {"type": "socket", "data": {"addr": address, "server": False}} if port else {"type": "null", "data": {}}
            self._put("chardev-add", "chardev-remove", "id", other_end, backend=line)
            properties |= {"chardev": other_end, "always-plugged": True}
        elif driver == "usb-storage":
            self._put("blockdev-add", "blockdev-del", "node-name", other_end, driver="null-co", size=8 << 20)
            properties["drive"] = other_end
        elif driver == "usb-net":
            self._put("netdev_add", "netdev_del", "id", other_end, type="hubport", hubid=1)
            properties["netdev"] = other_end
        written = {key.replace("_", "-"): value for key, value in properties.items()}
        self._ask_monitor("device_add", driver=driver, id=name, bus="usb.0", **written)

    def _put(self, add: str, remove: str, key: str, name: str, **properties: Any) -> None:
        """The other end of a device, in the place of what an earlier device of that name has left."""
        with contextlib.suppress(BoothFailed):
            self._ask_monitor(remove, **{key: name})
        self._ask_monitor(add, **{key: name}, **properties)

    def unplug(self, name: str, timeout_s: float = 20) -> None:
        """Pull it out, and wait until it is out."""
        self._ask_monitor("device_del", id=name)
        until = time.monotonic() + timeout_s
        assert self._monitor is not None
        while name not in self._monitor.gone:
            self._monitor.read_event(until - time.monotonic())
        self._monitor.gone.discard(name)

    def cable(self, *, plugged: bool) -> None:
        """Pull the cable of its network card `eth0`, or plug it in: at its end is a router with DHCP, and nothing beyond."""
        self._ask_monitor("set_link", name="eth0", up=plugged)

    def wait_until_off(self, timeout_s: float) -> None:
        """Until it goes off by itself, as it does instead of booting again. `boot` may follow. Raises BoothFailed."""
        assert self._qemu is not None, "it is off"
        try:
            self._qemu.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise BoothFailed(f"still on after {timeout_s:g} s\n{self.console()}") from None
        self.cut_power()

    def cut_power(self) -> None:
        """As the master switch does: nothing is told, nothing more is written. `boot` may follow."""
        for lines in (self._channel, self._monitor):
            if lines is not None:
                lines.close()
        self._channel = self._monitor = None
        if self._qemu is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._qemu.pid, signal.SIGKILL)
            self._qemu.wait(20)
            self._qemu = None

    def close(self) -> None:
        """Off, and nothing left of it."""
        self.cut_power()
        shutil.rmtree(self._folder, ignore_errors=True)

    def console(self) -> str:
        """The end of what the kernel and systemd wrote, and of what QEMU said."""
        texts = [
            file.read_text(errors="replace")
            for file in (self._folder / "console.log", self._folder / "qemu.log")
            if file.exists()
        ]
        return "\n".join(text[-_CONSOLE_TAIL:] for text in texts)

    def _command_line(self, *, hurried: bool) -> list[str]:
        devices = [
            f"file={self._disk},format=raw,if=virtio,cache=unsafe",
            f"local,path={REPOSITORY},mount_tag=repository,security_model=none,multidevs=remap,readonly=on",
            f"socket,id=commands,path={self._folder}/commands,server=on,wait=off",
            f"unix:{self._folder}/monitor,server=on,wait=off",
        ]
        return [
            *("qemu-system-x86_64", "-M", "q35", *(_HURRIED if hurried else _accelerator()), "-m", "1024"),
            *("-nodefaults", "-display", "none", "-no-reboot"),
            *("-netdev", "user,id=router,restrict=on", "-device", "virtio-net-pci,netdev=router,id=eth0"),
            *("-global", "ICH9-LPC.noreboot=off", "-action", "watchdog=reset"),  # the board's own watchdog
            *("-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd)),
            *("-append", "root=/dev/vda rw console=ttyS0 panic=-1 mitigations=off fsck.mode=skip net.ifnames=0 quiet"),
            *("-drive", devices[0], "-virtfs", devices[1], "-device", "virtio-rng-pci"),
            *("-device", "virtio-serial", "-chardev", devices[2]),
            *("-device", "virtserialport,chardev=commands,name=booth.commands"),
            *("-device", "qemu-xhci,id=usb", "-qmp", devices[3]),
            *("-serial", f"file:{self._folder}/console.log"),
        ]

    def _ask_monitor(self, command: str, **arguments: Any) -> None:
        assert self._monitor is not None, "it is off"
        self._monitor.write({"execute": command, "arguments": arguments})
        answer = self._monitor.read(20)
        if "error" in answer:
            raise BoothFailed(f"{command}: {answer['error'].get('desc')}")


def _accelerator() -> list[str]:
    """KVM where the processor itself virtualises; a /dev/kvm without that (nested, in software) boots no stock kernel."""
    flags = re.search(r"^flags\s*:.*\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    if flags and os.access("/dev/kvm", os.R_OK | os.W_OK):
        return ["-accel", "kvm", "-cpu", "host", "-smp", "2"]
    return ["-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "2"]
