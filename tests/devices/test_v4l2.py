"""The V4L2 worker: its picture of the kernel's header, and how it answers for nodes that are no camera.

Films of a real driver (vivid) are taken in the virtual booth.
"""

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.devices import v4l2
from agent.devices import v4l2_abi as abi

STRUCTURES = {
    "struct v4l2_capability": abi.Capability,
    "struct v4l2_fmtdesc": abi.FormatDescription,
    "struct v4l2_frmsizeenum": abi.FrameSize,
    "struct v4l2_pix_format": abi.PixFormat,
    "struct v4l2_format": abi.Format,
    "struct v4l2_requestbuffers": abi.RequestBuffers,
    "struct v4l2_buffer": abi.Buffer,
}
NUMBERS = {
    "VIDIOC_QUERYCAP": abi.QUERYCAP,
    "VIDIOC_ENUM_FMT": abi.ENUM_FMT,
    "VIDIOC_S_FMT": abi.S_FMT,
    "VIDIOC_REQBUFS": abi.REQBUFS,
    "VIDIOC_QUERYBUF": abi.QUERYBUF,
    "VIDIOC_QBUF": abi.QBUF,
    "VIDIOC_DQBUF": abi.DQBUF,
    "VIDIOC_STREAMON": abi.STREAMON,
    "VIDIOC_STREAMOFF": abi.STREAMOFF,
    "VIDIOC_ENUM_FRAMESIZES": abi.ENUM_FRAMESIZES,
    "V4L2_CAP_VIDEO_CAPTURE": abi.CAP_VIDEO_CAPTURE,
    "V4L2_CAP_VIDEO_CAPTURE_MPLANE": abi.CAP_VIDEO_CAPTURE_MPLANE,
    "V4L2_CAP_STREAMING": abi.CAP_STREAMING,
    "V4L2_CAP_IO_MC": abi.CAP_IO_MC,
    "V4L2_CAP_DEVICE_CAPS": abi.CAP_DEVICE_CAPS,
    "V4L2_BUF_TYPE_VIDEO_CAPTURE": abi.BUF_TYPE_VIDEO_CAPTURE,
    "V4L2_MEMORY_MMAP": abi.MEMORY_MMAP,
    "V4L2_BUF_FLAG_ERROR": abi.BUF_FLAG_ERROR,
    "V4L2_FIELD_ANY": abi.FIELD_ANY,
    "V4L2_FRMSIZE_TYPE_DISCRETE": abi.FRMSIZE_TYPE_DISCRETE,
    "V4L2_PIX_FMT_GREY": abi.fourcc("GREY"),
    "V4L2_PIX_FMT_NV12": abi.fourcc("NV12"),
    "V4L2_PIX_FMT_NV21": abi.fourcc("NV21"),
    "V4L2_PIX_FMT_YUV420": abi.fourcc("YU12"),
    "V4L2_PIX_FMT_YVU420": abi.fourcc("YV12"),
    "V4L2_PIX_FMT_YUYV": abi.fourcc("YUYV"),
    "V4L2_PIX_FMT_UYVY": abi.fourcc("UYVY"),
    "V4L2_PIX_FMT_MJPEG": abi.fourcc("MJPG"),
    "V4L2_PIX_FMT_JPEG": abi.fourcc("JPEG"),
}
# Names of ours that are not the header's.
MEMBERS = {("struct v4l2_frmsizeenum", "numbers"): "discrete", ("struct v4l2_buffer", "request_fd"): "request_fd"}


def test_structures_and_numbers_are_those_of_the_kernels_header(tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is missing")
    if not Path("/usr/include/linux/videodev2.h").exists():
        pytest.skip("linux/videodev2.h is missing (linux-libc-dev)")
    lines = [f'printf("%s %lld\\n", "{name}", (long long)({name}));' for name in NUMBERS]
    lines += [f'printf("%s %lld\\n", "{name}", (long long)sizeof({name}));' for name in STRUCTURES]
    expected = dict(NUMBERS) | {name: ctypes.sizeof(type_) for name, type_ in STRUCTURES.items()}
    for name, type_ in STRUCTURES.items():
        for member, *_ in type_._fields_:
            theirs = MEMBERS.get((name, member), member)
            key = f"{name}.{member}"
            lines.append(f'printf("%s %lld\\n", "{key}", (long long)offsetof({name}, {theirs}));')
            expected[key] = getattr(type_, member).offset
    source = tmp_path / "header.c"
    includes = "#include <stdio.h>\n#include <stddef.h>\n#include <sys/time.h>\n#include <linux/videodev2.h>\n"
    source.write_text(includes + "int main(void) {\n" + "\n".join(lines) + "\nreturn 0;\n}\n")
    subprocess.run([compiler, "-o", tmp_path / "header", source], check=True)
    printed = subprocess.run([tmp_path / "header"], check=True, capture_output=True, text=True).stdout
    real = {name: int(number) for name, number in (line.rsplit(" ", 1) for line in printed.splitlines())}
    assert real == expected


def run_worker(request: dict[str, Any]) -> dict[str, Any]:
    """The job as the agent runs it."""
    command = [sys.executable, "-I", "-m", "agent.devices.worker", "agent.devices.v4l2:film"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_a_missing_node_is_gone_and_a_node_that_is_no_camera_is_said_to_be_none(tmp_path: Path) -> None:
    assert run_worker({"path": str(tmp_path / "video0"), "within_s": 1}) == {
        "outcome": "gone", "reason": "open: No such file or directory", "card": None,
    }  # fmt: skip
    assert run_worker({"path": "/dev/null", "within_s": 1}) == {
        "outcome": "failed", "reason": "/dev/null is no video device", "card": None,
    }  # fmt: skip


class Driver:
    """A V4L2 driver behind `fcntl.ioctl`: what a machine without a camera can show of the worker's decisions."""

    def __init__(self, formats: tuple[str, ...], sizes: tuple[tuple[int, int], ...] = ((640, 480), (160, 120))) -> None:
        self.capabilities = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING
        self.formats = formats
        self.sizes = sizes
        self.fails: dict[int, int] = {}  # ioctl number → errno
        self.format = abi.PixFormat()

    def __call__(self, _fd: int, number: int, argument: Any) -> int:
        if number in self.fails:
            raise OSError(self.fails[number], os.strerror(self.fails[number]))
        if number == abi.QUERYCAP:
            argument.card = b"Cam\x1b[2J era"
            argument.capabilities = abi.CAP_DEVICE_CAPS | abi.CAP_VIDEO_CAPTURE
            argument.device_caps = self.capabilities
        elif number == abi.ENUM_FMT:
            argument.pixelformat = abi.fourcc(self._entry(self.formats, argument.index))
        elif number == abi.ENUM_FRAMESIZES:
            argument.type = abi.FRMSIZE_TYPE_DISCRETE
            argument.numbers[0], argument.numbers[1] = self._entry(self.sizes, argument.index)
        elif number == abi.REQBUFS:
            argument.count = 0  # /dev/null cannot be mapped: every buffer that comes is empty
        elif number == abi.S_FMT:
            self.format = abi.PixFormat.from_buffer_copy(argument.fmt.pix)
        return 0

    @staticmethod
    def _entry(entries: Any, index: int) -> Any:
        if index >= len(entries):
            raise OSError(errno.EINVAL, "end of the list")
        return entries[index]


def film_from(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("agent.devices.v4l2.fcntl.ioctl", driver)
    return v4l2.film({"path": "/dev/null", "within_s": 0.2})


@pytest.mark.parametrize("call", ["S_FMT", "REQBUFS", "STREAMON", "QUERYCAP"])
def test_f65_a_camera_in_use_is_busy_wherever_the_driver_says_so(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(("YUYV",))
    driver.fails[getattr(abi, call)] = errno.EBUSY
    assert film_from(driver, monkeypatch)["outcome"] == "busy"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(errno.ENODEV, "gone"), (errno.EIO, "mute"), (errno.EPROTO, "mute"), (errno.ENOSPC, "failed"), (errno.EACCES, "failed")],
)
def test_each_other_error_has_its_meaning_and_names_the_step(error: int, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(("YUYV",))
    driver.fails[abi.STREAMON] = error
    driver.fails[abi.REQBUFS] = error
    answer = film_from(driver, monkeypatch)
    assert (answer["outcome"], answer["reason"]) == (outcome, f"REQBUFS: {os.strerror(error)}")
    assert answer["card"] == "Cam\\x1b[2J era"  # f66: harmless to a terminal


@pytest.mark.parametrize(
    ("capabilities", "reason"),
    [
        (abi.CAP_STREAMING, "gives no pictures: another node of the same camera may"),
        (
            abi.CAP_STREAMING | abi.CAP_VIDEO_CAPTURE_MPLANE,
            "gives no pictures with one plane: another node of the same camera may",
        ),
        (abi.CAP_VIDEO_CAPTURE, "cannot stream"),
        (
            abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING | abi.CAP_IO_MC,
            "a CSI receiver, which libcamera has to drive: write device = csi:0",
        ),
    ],
)
def test_an_unsuitable_node_is_told_apart(capabilities: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(("YUYV",))
    driver.capabilities = capabilities
    answer = film_from(driver, monkeypatch)
    assert answer["outcome"] == "failed"
    assert answer["reason"].startswith(reason)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (("MJPG", "YUYV"), "YUYV"),
        (("YUYV", "NV12", "MJPG"), "NV12"),
        (("H264", "MJPG"), "MJPG"),
        (("RGB3",), "RGB3"),
        ((), "YUYV"),
    ],
)
def test_an_uncompressed_format_at_the_lowest_resolution_is_chosen(
    offered: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(offered)
    film_from(driver, monkeypatch)
    assert (driver.format.pixelformat, driver.format.width, driver.format.height) == (abi.fourcc(chosen), 160, 120)


def test_empty_buffers_are_no_frames_and_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = film_from(Driver(("YUYV",)), monkeypatch)
    assert (answer["outcome"], answer["frames"], answer["luma_mean"]) == ("filmed", 0, None)


@pytest.mark.parametrize("error", [errno.EIO, errno.EAGAIN])
def test_a_stream_that_breaks_off_is_a_film_without_frames(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(("YUYV",))
    driver.fails[abi.DQBUF] = error
    assert film_from(driver, monkeypatch)["frames"] == 0


def test_f62_one_that_is_unplugged_in_mid_film_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(("YUYV",))
    driver.fails[abi.DQBUF] = errno.ENODEV
    assert film_from(driver, monkeypatch)["outcome"] == "gone"


def test_no_descriptor_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        film_from(Driver(()), monkeypatch)
    assert sorted(Path("/proc/self/fd").iterdir()) == before
