"""The part of linux/videodev2.h that filming needs: structures and ioctl numbers. No calls, no opinion.

ctypes lays the structures out as the C compiler of the running machine would, so 32-bit ARM gets its own sizes and
numbers; the kernel understands both. `tests/devices/test_v4l2.py` compares everything here with the real header.
"""

import ctypes
from typing import Final

CAP_VIDEO_CAPTURE: Final = 0x00000001
CAP_VIDEO_CAPTURE_MPLANE: Final = 0x00001000
CAP_STREAMING: Final = 0x04000000
CAP_IO_MC: Final = 0x20000000  # its pictures are arranged through a media controller: a CSI receiver
CAP_DEVICE_CAPS: Final = 0x80000000

BUF_TYPE_VIDEO_CAPTURE: Final = 1
MEMORY_MMAP: Final = 1
BUF_FLAG_ERROR: Final = 0x00000040
FIELD_ANY: Final = 0
FRMSIZE_TYPE_DISCRETE: Final = 1


class Capability(ctypes.Structure):
    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("device_caps", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class FormatDescription(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", ctypes.c_uint32),
        ("mbus_code", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32 * 3),
    )


class FrameSize(ctypes.Structure):
    """v4l2_frmsizeenum. Discrete: `numbers` is width, height. Stepwise: width min, max, step, then height."""

    _fields_ = (
        ("index", ctypes.c_uint32),
        ("pixel_format", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("numbers", ctypes.c_uint32 * 6),
        ("reserved", ctypes.c_uint32 * 2),
    )


class PixFormat(ctypes.Structure):
    _fields_ = (
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("pixelformat", ctypes.c_uint32),
        ("field", ctypes.c_uint32),
        ("bytesperline", ctypes.c_uint32),
        ("sizeimage", ctypes.c_uint32),
        ("colorspace", ctypes.c_uint32),
        ("priv", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("ycbcr_enc", ctypes.c_uint32),
        ("quantization", ctypes.c_uint32),
        ("xfer_func", ctypes.c_uint32),
    )


class _FormatUnion(ctypes.Union):
    # v4l2_window, not needed here, holds pointers: they align the union.
    _fields_ = (("pix", PixFormat), ("raw_data", ctypes.c_uint8 * 200), ("pointer", ctypes.c_void_p))


class Format(ctypes.Structure):
    _fields_ = (("type", ctypes.c_uint32), ("fmt", _FormatUnion))


class RequestBuffers(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("capabilities", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),  # u8 flags and three reserved bytes
    )


class _Timeval(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("microseconds", ctypes.c_long))


class _BufferPlace(ctypes.Union):
    _fields_ = (("offset", ctypes.c_uint32), ("userptr", ctypes.c_ulong), ("planes", ctypes.c_void_p), ("fd", ctypes.c_int32))


class Buffer(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("bytesused", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("field", ctypes.c_uint32),
        ("timestamp", _Timeval),
        ("timecode", ctypes.c_uint32 * 4),
        ("sequence", ctypes.c_uint32),
        ("memory", ctypes.c_uint32),
        ("m", _BufferPlace),
        ("length", ctypes.c_uint32),
        ("reserved2", ctypes.c_uint32),
        ("request_fd", ctypes.c_int32),
    )


def fourcc(code: str) -> int:
    """The number of a four-character pixel format."""
    return int.from_bytes(code.encode("ascii"), "little")


def _number(direction: int, number: int, argument: type) -> int:
    """_IOR (2), _IOW (1) and _IOWR (3) of asm-generic/ioctl.h, which x86 and ARM share."""
    return direction << 30 | ctypes.sizeof(argument) << 16 | ord("V") << 8 | number


QUERYCAP: Final = _number(2, 0, Capability)
ENUM_FMT: Final = _number(3, 2, FormatDescription)
S_FMT: Final = _number(3, 5, Format)
REQBUFS: Final = _number(3, 8, RequestBuffers)
QUERYBUF: Final = _number(3, 9, Buffer)
QBUF: Final = _number(3, 15, Buffer)
DQBUF: Final = _number(3, 17, Buffer)
STREAMON: Final = _number(1, 18, ctypes.c_int)
STREAMOFF: Final = _number(1, 19, ctypes.c_int)
ENUM_FRAMESIZES: Final = _number(3, 74, FrameSize)
