"""Films a few frames from a V4L2 device. For a worker process only: each of these calls can hang in a driver.

`python -I -m agent.devices.worker agent.devices.v4l2:film`, with the request as JSON on standard input. The frames
stay in this process's memory; the answer has numbers only. A device that somebody else uses says EBUSY at one call
or another (for USB cameras at the format): then it is left to them.
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import select
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from agent.contract.words import printable
from agent.devices import v4l2_abi as abi
from agent.devices.frames import Film, packed_luma, planar_luma

_PLANAR: Final = tuple(map(abi.fourcc, ("GREY", "NV12", "NV21", "YU12", "YV12")))
_PACKED: Final = {abi.fourcc("YUYV"): 0, abi.fourcc("UYVY"): 1}  # where the brightness is
_COMPRESSED: Final = tuple(map(abi.fourcc, ("MJPG", "JPEG")))
_BUFFERS: Final = 4
_LISTED: Final = 128  # formats or sizes of one device, at most
_SMALL: Final = (160, 120)  # asked of a device that takes any size
_GONE: Final = (errno.ENODEV, errno.ENXIO, errno.ENOENT)
_MUTE: Final = (errno.EIO, errno.EPROTO, errno.EPIPE, errno.ETIMEDOUT, errno.EILSEQ)  # of a USB device that does not answer


class _Unsuitable(Exception):
    """The node is not a camera that can be filmed from."""


def film(request: dict[str, Any]) -> dict[str, Any]:
    """`path`: the device node; `within_s`: time for all frames.

    The answer's `outcome` is `filmed` (with the figures of `devices.frames`, `frames` perhaps 0), `busy`, `gone`,
    `mute` (there, but does not answer) or `failed`, the last three with a `reason`; `card` is its name where known.
    """
    until_s = time.monotonic() + request["within_s"]
    camera = _Camera()
    try:
        camera.open(request["path"])
        camera.choose()
        answer = {"outcome": "filmed", **camera.film(until_s).figures()}
    except _Unsuitable as error:
        answer = {"outcome": "failed", "reason": str(error)}
    except OSError as error:
        answer = _failure(error, camera.doing)
    finally:
        camera.close()
    return answer | {"card": camera.card}


def _failure(error: OSError, doing: str) -> dict[str, Any]:
    reason = f"{doing}: {os.strerror(error.errno or 0)}"
    if error.errno == errno.EBUSY:
        return {"outcome": "busy"}
    if error.errno in _GONE:
        return {"outcome": "gone", "reason": reason}
    return {"outcome": "mute" if error.errno in _MUTE else "failed", "reason": reason}


class _Camera:
    """`doing` is the step under way: what a reason begins with."""

    def __init__(self) -> None:
        self.card: str | None = None
        self.doing = "open"
        self._fd: int | None = None
        self._format = abi.PixFormat()
        self._maps: list[mmap.mmap] = []

    def open(self, path: str) -> None:
        """Raises OSError, or _Unsuitable for a node that gives no pictures."""
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        can = abi.Capability()
        try:
            self._ask("QUERYCAP", abi.QUERYCAP, can)
        except OSError as error:
            if error.errno == errno.ENOTTY:
                raise _Unsuitable(f"{printable(path, 80)} is no video device") from None
            raise
        self.card = printable(can.card.decode(errors="replace"))
        capabilities = can.device_caps if can.capabilities & abi.CAP_DEVICE_CAPS else can.capabilities
        if capabilities & abi.CAP_IO_MC:
            raise _Unsuitable("a CSI receiver, which libcamera has to drive: write device = csi:0")
        if not capabilities & abi.CAP_VIDEO_CAPTURE:
            several = " with one plane" if capabilities & abi.CAP_VIDEO_CAPTURE_MPLANE else ""
            raise _Unsuitable(f"gives no pictures{several}: another node of the same camera may")
        if not capabilities & abi.CAP_STREAMING:
            raise _Unsuitable("cannot stream")

    def choose(self) -> None:
        """The format whose brightness is easiest to see, at the lowest resolution."""
        offered = list(self._formats())
        known = (*_PLANAR, *_PACKED, *_COMPRESSED)
        chosen = next((code for code in known if code in offered), offered[0] if offered else abi.fourcc("YUYV"))
        width, height = self._smallest(chosen)
        wanted = abi.Format(type=abi.BUF_TYPE_VIDEO_CAPTURE)
        wanted.fmt.pix.width, wanted.fmt.pix.height = width, height
        wanted.fmt.pix.pixelformat, wanted.fmt.pix.field = chosen, abi.FIELD_ANY
        self._ask("S_FMT", abi.S_FMT, wanted)
        self._format = abi.PixFormat.from_buffer_copy(wanted.fmt.pix)  # what the driver made of it

    def film(self, until_s: float) -> Film:
        """Every frame up to the last one wanted, or until `until_s`. Raises OSError if it cannot even begin."""
        wanted = abi.RequestBuffers(count=_BUFFERS, type=abi.BUF_TYPE_VIDEO_CAPTURE, memory=abi.MEMORY_MMAP)
        self._ask("REQBUFS", abi.REQBUFS, wanted)
        for index in range(wanted.count):
            buffer = self._buffer(index)
            self._ask("QUERYBUF", abi.QUERYBUF, buffer)
            self.doing = "mmap"
            self._maps.append(mmap.mmap(self._descriptor, buffer.length, mmap.MAP_SHARED, mmap.PROT_READ, offset=buffer.m.offset))
            self._ask("QBUF", abi.QBUF, buffer)
        self._ask("STREAMON", abi.STREAMON, ctypes.c_int(abi.BUF_TYPE_VIDEO_CAPTURE))
        film, luma = Film(), self._luma()
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        try:
            # A camera that gives nothing but damaged buffers has one ready each time, too.
            while not film.complete and (left_s := until_s - time.monotonic()) > 0:
                if poll.poll(left_s * 1000):
                    self._next(film, luma)
        except OSError as error:
            if error.errno in _GONE:
                raise
            # The stream broke off: what came before it is all that there is to say.
        return film

    def close(self) -> None:
        """Stop filming and let go; a device that is gone already does not mind."""
        if self._fd is None:
            return
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._fd, abi.STREAMOFF, ctypes.c_int(abi.BUF_TYPE_VIDEO_CAPTURE))
        for mapped in self._maps:
            mapped.close()
        os.close(self._fd)
        self._fd = None

    def _next(self, film: Film, luma: Callable[[bytes], bytes] | None) -> None:
        buffer = self._buffer()
        self._ask("DQBUF", abi.DQBUF, buffer)
        # A damaged or empty buffer is none of the camera's pictures.
        if buffer.bytesused and not buffer.flags & abi.BUF_FLAG_ERROR:
            film.add(self._maps[buffer.index][: buffer.bytesused], luma)
        self._ask("QBUF", abi.QBUF, buffer)

    def _luma(self) -> Callable[[bytes], bytes] | None:
        chosen = self._format
        if chosen.pixelformat in _PLANAR:
            return planar_luma(chosen.width, chosen.height, chosen.bytesperline)
        if chosen.pixelformat in _PACKED:
            return packed_luma(chosen.width, chosen.height, chosen.bytesperline, _PACKED[chosen.pixelformat])
        return None

    def _formats(self) -> Iterator[int]:
        for index in range(_LISTED):
            entry = abi.FormatDescription(index=index, type=abi.BUF_TYPE_VIDEO_CAPTURE)
            if not self._listed("ENUM_FMT", abi.ENUM_FMT, entry):
                return
            yield entry.pixelformat

    def _smallest(self, pixelformat: int) -> tuple[int, int]:
        sizes = []
        for index in range(_LISTED):
            entry = abi.FrameSize(index=index, pixel_format=pixelformat)
            if not self._listed("ENUM_FRAMESIZES", abi.ENUM_FRAMESIZES, entry):
                break
            if entry.type != abi.FRMSIZE_TYPE_DISCRETE:
                least_w, most_w, _, least_h, most_h, _ = entry.numbers
                return min(max(_SMALL[0], least_w), most_w), min(max(_SMALL[1], least_h), most_h)
            sizes.append((entry.numbers[0], entry.numbers[1]))
        return min(sizes, key=lambda size: size[0] * size[1], default=_SMALL)

    def _listed(self, name: str, number: int, entry: ctypes.Structure) -> bool:
        """One entry of a list; False at its end, or where the driver has no such list."""
        try:
            self._ask(name, number, entry)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY):
                return False
            raise
        return True

    def _buffer(self, index: int = 0) -> abi.Buffer:
        return abi.Buffer(index=index, type=abi.BUF_TYPE_VIDEO_CAPTURE, memory=abi.MEMORY_MMAP)

    def _ask(self, name: str, number: int, argument: Any) -> None:
        self.doing = name
        fcntl.ioctl(self._descriptor, number, argument)

    @property
    def _descriptor(self) -> int:
        assert self._fd is not None
        return self._fd
