"""The board, from trees as the kernels of different boards show them."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from agent.devices import board
from agent.devices.sysfs import KernelFiles
from tests.machine.namespace import missing_mounts

THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
ROOT_MOUNT = "22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw,errors=remount-ro"


class Tree:
    """Files below a temporary root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = KernelFiles(root)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def link(self, name: str, target: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def mounts(self, *lines: str) -> None:
        self.write("proc/self/mountinfo", "\n".join(lines))

    def storage(self, directory: str = "/var/lib/booth-agent") -> board.Storage:
        return board.storage(self.files, directory, os.statvfs)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


# --- power ---


@pytest.mark.parametrize(
    ("bits", "under_voltage", "throttled"),
    [
        ("0", False, False),
        ("1", True, False),
        ("2", False, True),  # frequency capped
        ("4", False, True),  # throttled
        ("8", False, True),  # soft temperature limit
        ("f0000", False, False),  # all of it has happened since the start, nothing now
        ("50005", True, True),
    ],
)
def test_the_firmware_tells_power_by_bits_of_now_not_of_the_past(
    tree: Tree, bits: str, under_voltage: bool, throttled: bool
) -> None:
    tree.write(THROTTLED, bits)
    assert board.power(tree.files) == board.Power(under_voltage, throttled)


@pytest.mark.parametrize(("alarm", "expected"), [("0", False), ("1", True), ("", None)])
def test_the_mainline_kernel_tells_under_voltage_alone(tree: Tree, alarm: str, expected: bool | None) -> None:
    tree.write("sys/class/hwmon/hwmon0/name", "cpu_thermal")
    tree.write("sys/class/hwmon/hwmon1/name", "rpi_volt")
    tree.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", alarm)
    assert board.power(tree.files) == board.Power(expected, None)
    assert board.announced(tree.files) == ["sys/class/hwmon/hwmon1/in0_lcrit_alarm", "proc/self/mountinfo"]


def test_either_sensor_of_under_voltage_counts(tree: Tree) -> None:
    tree.write("sys/class/hwmon/hwmon0/name", "rpi_volt")
    tree.write("sys/class/hwmon/hwmon0/in0_lcrit_alarm", "1")
    tree.write(THROTTLED, "0")
    assert board.power(tree.files) == board.Power(under_voltage=True, throttled=False)


# --- heat and memory ---


def test_the_hottest_zone_counts_and_an_unreadable_one_does_not(tree: Tree) -> None:
    tree.write("sys/class/thermal/thermal_zone0/temp", "48312")
    tree.write("sys/class/thermal/thermal_zone1/temp", "61990")
    tree.write("sys/class/thermal/thermal_zone2/temp", "")
    tree.write("sys/class/thermal/cooling_device0/temp", "99000")
    assert board.temperature_c(tree.files) == 62.0


@pytest.mark.parametrize(
    ("meminfo", "expected"),
    [
        ("MemTotal:         948000 kB\nMemFree:  1 kB\nMemAvailable:     474000 kB", 50.0),
        ("MemTotal: 948000 kB", None),
        ("MemTotal: kB\nMemAvailable: kB", None),
        ("MemTotal: 0 kB\nMemAvailable: 0 kB", None),
        ("nonsense", None),
    ],
)
def test_available_memory_in_percent(tree: Tree, meminfo: str, expected: float | None) -> None:
    tree.write("proc/meminfo", meminfo)
    assert board.memory_available_pct(tree.files) == expected


# --- storage ---


@pytest.mark.parametrize(
    ("line", "read_only"),
    [
        (ROOT_MOUNT, False),
        ("22 1 179:2 / / ro,noatime shared:1 - ext4 /dev/mmcblk0p2 ro", True),
        # A sandbox of the service manager binds it read-only; the file system itself still takes writes.
        ("22 1 179:2 / / ro,noatime - ext4 /dev/mmcblk0p2 rw,errors=remount-ro", False),
        # After an error, ext4 of Linux 6.12 and later stays "rw" and says so in a word of its own.
        ("22 1 179:2 / / rw,noatime - ext4 /dev/mmcblk0p2 rw,errors=remount-ro,emergency_ro", True),
        ("22 1 179:2 / / rw,noatime - ext4 /dev/mmcblk0p2 rw,shutdown", True),
    ],
)
def test_read_only_is_what_the_file_system_says_not_the_mount(tree: Tree, line: str, read_only: bool) -> None:
    tree.mounts(line)
    assert tree.storage().read_only is read_only


@pytest.mark.parametrize(
    ("directory", "source"),
    [
        ("/", "/dev/root-fs"),
        ("/var/lib/booth-agent", "/dev/newer"),
        ("/var/library", "/dev/root-fs"),
        ("/media/a b", "/dev/spaced"),
        ("/media/a b/c", "/dev/spaced"),
        ("/media/a", "/dev/root-fs"),
        ("/srv/données/x", "/dev/accented"),
        ("/srv/tab\there", "/dev/tabbed"),
        ("/srv/back\\slash", "/dev/backslash"),
    ],
)
def test_a_directory_lies_on_the_last_mount_above_it(tree: Tree, directory: str, source: str) -> None:
    tree.mounts(
        "1 0 8:1 / / rw - ext4 /dev/root-fs rw",
        "2 1 8:2 / /var/lib rw - ext4 /dev/older rw",
        "3 1 8:3 / /var/lib rw shared:3 master:4 - ext4 /dev/newer rw",
        "4 1 8:4 / /media/a\\040b rw - ext4 /dev/spaced rw",
        "5 1 8:5 / /srv/données rw - ext4 /dev/accented rw",
        "6 1 8:6 / /srv/tab\\011here rw - ext4 /dev/tabbed rw",
        "7 1 8:7 / /srv/back\\134slash rw - ext4 /dev/backslash rw",
        "8 1 8:8 / /cut",
        "nonsense",
    )
    mount = board.mount_of(tree.files, directory)
    assert mount is not None
    assert mount.source == source


@pytest.mark.parametrize(
    ("life_time", "expected"),
    [("0x01 0x02", 20), ("0x0A 0x01", 100), ("0x0B 0x01", 100), ("0x00 0x00", None), ("", None), ("what", None)],
)
def test_wear_is_the_worse_of_the_two_estimates_of_the_chip(tree: Tree, life_time: str, expected: int | None) -> None:
    tree.mounts(ROOT_MOUNT)
    tree.write("sys/block/mmcblk0/device/life_time", life_time)
    assert tree.storage().life_used_pct == expected


def test_ext4_errors_are_counted_by_partition(tree: Tree) -> None:
    tree.mounts(ROOT_MOUNT)
    tree.write("sys/fs/ext4/mmcblk0p2/errors_count", "3")
    assert tree.storage().error_count == 3


def test_a_root_without_initramfs_is_found_behind_its_alias(tree: Tree) -> None:
    tree.mounts("22 1 179:2 / / rw,noatime - ext4 /dev/root rw")
    tree.link("sys/dev/block/179:2", "../../devices/platform/mmc/mmcblk0/mmcblk0p2")
    tree.write("sys/fs/ext4/mmcblk0p2/errors_count", "0")
    tree.write("sys/block/mmcblk0/device/life_time", "0x01 0x01")
    assert (tree.storage().error_count, tree.storage().life_used_pct) == (0, 10)


def test_a_disk_that_is_no_memory_card_tells_no_wear(tree: Tree) -> None:
    tree.mounts("22 1 8:1 / / rw - ext4 /dev/sda1 rw")
    tree.write("sys/block/sda1/device/life_time", "0x05 0x05")
    tree.write("sys/fs/ext4/sda1/errors_count", "0")
    assert (tree.storage().life_used_pct, tree.storage().error_count) == (None, 0)


def test_free_space_is_what_is_left_for_the_agents_user(tree: Tree) -> None:
    def statvfs(_: str) -> os.statvfs_result:
        # bsize frsize blocks bfree bavail files ffree favail flag namemax
        return os.statvfs_result((4096, 1024, 1000, 90, 40, 0, 0, 0, 0, 255))

    found = board.storage(tree.files, "/", statvfs)
    assert (found.free_pct, found.free_bytes) == (4.0, 40 * 1024)


def test_where_the_kernel_tells_nothing_everything_is_unknown_and_nothing_is_well(tree: Tree) -> None:
    def fails(_: str) -> os.statvfs_result:
        raise OSError

    assert board.power(tree.files) == board.Power(None, None)
    assert board.temperature_c(tree.files) is None
    assert board.memory_available_pct(tree.files) is None
    assert board.storage(tree.files, "/", fails) == board.Storage(None, None, None, None, None)
    assert board.announced(tree.files) == ["proc/self/mountinfo"]


def test_this_machines_own_files_can_be_read(tmp_path: Path) -> None:
    files = KernelFiles()
    found = board.storage(files, str(tmp_path.resolve()), os.statvfs)
    assert found.free_bytes is not None
    assert found.free_bytes > 0
    assert found.read_only is False
    available_pct = board.memory_available_pct(files)
    assert available_pct is not None
    assert 0 < available_pct < 100


# --- services ---


def systemctl(folder: Path, script: str) -> None:
    program = folder / "systemctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


async def test_failed_units_are_named_and_none_is_not_the_same_as_no_answer(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.root / "run/systemd/system").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tree.root), prepend=":")
    systemctl(tree.root, "echo 'cups.service loaded failed failed CUPS'; echo; echo 'kiosk.service loaded failed failed Kiosk'")
    assert await board.failed_units(tree.files) == "cups.service kiosk.service"
    systemctl(tree.root, "exit 0")
    assert await board.failed_units(tree.files) == ""
    systemctl(tree.root, "exit 1")
    assert await board.failed_units(tree.files) is None  # no answer is not a good one


async def test_without_systemd_failed_units_are_unknown(tree: Tree) -> None:
    assert await board.failed_units(tree.files) is None


async def test_a_service_manager_that_does_not_answer_is_left_alone(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.root / "run/systemd/system").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tree.root), prepend=":")
    monkeypatch.setattr("agent.devices.board._UNITS_DEADLINE_S", 0.3)
    systemctl(tree.root, f"echo $$ > {tree.root}/pid; exec sleep 60")
    assert await board.failed_units(tree.files) is None
    assert not Path(f"/proc/{(tree.root / 'pid').read_text().strip()}").exists()


async def test_a_probe_that_is_given_up_leaves_no_process_behind(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.root / "run/systemd/system").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tree.root), prepend=":")
    systemctl(tree.root, f"echo $$ > {tree.root}/pid; exec sleep 60")
    asking = asyncio.create_task(board.failed_units(tree.files))
    async with asyncio.timeout(10):
        while not (tree.root / "pid").exists() or not (tree.root / "pid").read_text().endswith("\n"):
            await asyncio.sleep(0.02)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert not Path(f"/proc/{(tree.root / 'pid').read_text().strip()}").exists()


async def test_a_service_manager_without_its_tool_is_no_bug_of_the_board(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.root / "run/systemd/system").mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tree.root))
    assert await board.failed_units(tree.files) is None


# --- what the kernel announces ---


async def test_the_kernel_announces_a_new_mount_to_a_watch() -> None:
    if reason := missing_mounts():
        pytest.skip(reason)
    # A process with mounts of its own, which mounts when a line comes in.
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", "echo ready; read _; mount -t tmpfs none /mnt; read _"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        announced = asyncio.Event()
        stop = KernelFiles().watch(f"proc/{process.pid}/mountinfo", announced.set)
        try:
            await asyncio.sleep(0.2)  # a quiet interval: nothing is announced before it is mounted
            assert not announced.is_set()
            process.stdin.write("\n")
            process.stdin.flush()
            await asyncio.wait_for(announced.wait(), 5)
        finally:
            stop()
            process.kill()


async def test_a_file_that_announces_nothing_cannot_be_watched(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("0\n")
    for name in ("plain", "missing"):
        with pytest.raises(OSError, match=r"not permitted|No such file"):
            KernelFiles(tmp_path).watch(name, lambda: None)


@pytest.mark.parametrize(("text", "base", "number"), [(" 12 \n", 10, 12), ("1f", 16, 31), ("", 10, None), ("0.5", 10, None)])
def test_a_number_in_a_file(tmp_path: Path, text: str, base: int, number: int | None) -> None:
    (tmp_path / "n").write_text(text)
    assert KernelFiles(tmp_path).number("n", base) == number
