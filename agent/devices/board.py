"""Power, heat, storage and memory, as the kernel's files show them. None where a board does not tell."""

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.contract.words import printable
from agent.devices.sysfs import KernelFiles

# The vendor kernel's word of the firmware: bit 0 under-voltage now, bit 1 frequency capped, bit 2 throttled,
# bit 3 soft temperature limit (raspberrypi.com, "vcgencmd get_throttled"); hex without 0x.
_THROTTLED: Final = "sys/devices/platform/soc/soc:firmware/get_throttled"
_MOUNTS: Final = "proc/self/mountinfo"
# From Linux 6.12 on, ext4 does not say "ro" after an error, but one of the others (fs/ext4/super.c, _ext4_show_options).
_READ_ONLY: Final = frozenset({"ro", "emergency_ro", "shutdown"})
_UNITS_DEADLINE_S: Final = 5.0


@dataclass(frozen=True)
class Power:
    under_voltage: bool | None
    throttled: bool | None


@dataclass(frozen=True)
class Storage:
    free_pct: float | None
    free_bytes: int | None
    read_only: bool | None
    life_used_pct: int | None
    error_count: int | None


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5)). `read_only` is the superblock's, so a sandbox does not colour it."""

    point: str
    device: str  # major:minor
    source: str
    read_only: bool


def announced(files: KernelFiles) -> list[str]:
    """The files whose changes the kernel announces to a poller, where this board has them."""
    alarm = _under_voltage_alarm(files)
    return ([alarm] if alarm else []) + [_MOUNTS]


def power(files: KernelFiles) -> Power:
    alarm = _under_voltage_alarm(files)
    under_voltage = files.number(alarm) if alarm else None
    bits = files.number(_THROTTLED, base=16)
    if bits is None:
        return Power(None if under_voltage is None else bool(under_voltage), None)
    return Power(bool(under_voltage) or bool(bits & 0x1), bool(bits & 0xE))


def temperature_c(files: KernelFiles) -> float | None:
    """The hottest thermal zone."""
    zones = [name for name in files.names("sys/class/thermal") if name.startswith("thermal_zone")]
    milli = [value for zone in zones if (value := files.number(f"sys/class/thermal/{zone}/temp")) is not None]
    return round(max(milli) / 1000, 1) if milli else None


def memory_available_pct(files: KernelFiles) -> float | None:
    fields = dict(line.split(":", 1) for line in (files.text("proc/meminfo") or "").splitlines() if ":" in line)
    try:
        total, available = (int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError, IndexError):
        return None
    return round(100 * available / total, 1) if total else None


def storage(files: KernelFiles, directory: str, statvfs: Callable[[str], os.statvfs_result]) -> Storage:
    """The file system that holds `directory`, and the chip under it."""
    mount = mount_of(files, directory)
    device = _block_device(files, mount) if mount else None
    try:
        space = statvfs(directory)
    except OSError:
        free_pct = free_bytes = None
    else:
        free_bytes = space.f_bavail * space.f_frsize
        free_pct = round(100 * space.f_bavail / space.f_blocks, 1) if space.f_blocks else None
    return Storage(
        free_pct,
        free_bytes,
        None if mount is None else mount.read_only,
        _life_used_pct(files, device),
        files.number(f"sys/fs/ext4/{device}/errors_count") if device else None,
    )


def mount_of(files: KernelFiles, directory: str) -> Mount | None:
    """The mount that `directory` lies on."""
    best: Mount | None = None
    for line in (files.text(_MOUNTS) or "").splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if not separator or len(left) < 6 or len(right) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left[4])  # a space stands as \040
        if (directory + "/").startswith(point.rstrip("/") + "/") and (best is None or len(point) >= len(best.point)):
            best = Mount(point, left[2], right[1], not _READ_ONLY.isdisjoint(right[2].split(",")))
    return best


def _block_device(files: KernelFiles, mount: Mount) -> str | None:
    """The kernel's name of the partition. The source may be an alias of it: `/dev/root` where there is no initramfs."""
    try:
        return files.path(f"sys/dev/block/{mount.device}").readlink().name
    except OSError:
        return mount.source.removeprefix("/dev/") if mount.source.startswith("/dev/") else None


async def failed_units(files: KernelFiles) -> str | None:
    """Names of failed units, separated by spaces; empty if there are none, None if no systemd answers."""
    if not files.path("run/systemd/system").is_dir():
        return None
    try:
        process = await asyncio.create_subprocess_exec(
            "systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        return None
    try:
        async with asyncio.timeout(_UNITS_DEADLINE_S):
            output, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:  # too late, or nobody waits any more
            process.kill()
            await process.wait()
    if process.returncode != 0:
        return None
    return printable(" ".join(line.split()[0] for line in output.decode(errors="replace").splitlines() if line.strip()))


def _under_voltage_alarm(files: KernelFiles) -> str | None:
    for name in files.names("sys/class/hwmon"):
        if files.text(f"sys/class/hwmon/{name}/name") == "rpi_volt":
            return f"sys/class/hwmon/{name}/in0_lcrit_alarm"
    return None


def _life_used_pct(files: KernelFiles, device: str | None) -> int | None:
    """eMMC and industrial cards: `life_time` holds two estimates in steps of 10 % (JEDEC JESD84-B51, 7.4.36)."""
    if device is None or not device.startswith("mmcblk"):
        return None
    block = device.partition("p")[0]
    try:
        steps = max((int(word, 16) for word in (files.text(f"sys/block/{block}/device/life_time") or "").split()), default=0)
    except ValueError:
        return None
    return min(100, steps * 10) or None
