"""ESC/POS status bytes, read and named.

Source: Epson TM-T88III technical reference, pp. 318-324 (DLE EOT, GS a); TM-U220, p. 83.
"""

from dataclasses import dataclass
from typing import Final, Literal

Paper = Literal["adequate", "low", "empty"]
Error = Literal["cutter", "unrecoverable", "recoverable", "auto-recoverable"]

# DLE EOT n: real-time, answered even while the printer is offline or its buffer is full.
STATUS_REQUESTS: Final[dict[int, bytes]] = {n: bytes((0x10, 0x04, n)) for n in (1, 2, 3, 4)}
# GS a n: push a status at every change of online/offline (02), error (04) and roll (08).
ENABLE_PUSH: Final = b"\x1da\x0e"
# DLE ENQ 2: recover from an error after clearing the buffers. Not 1, which goes on printing where it was.
RECOVER: Final = b"\x10\x05\x02"

XON, XOFF = 0x11, 0x13


@dataclass(frozen=True)
class Status:
    """What the printer says. `feeding`: someone holds the feed button, or paper is loaded right now."""

    online: bool
    cover_open: bool
    paper: Paper
    error: Error | None
    feeding: bool = False


@dataclass(frozen=True)
class Reply:
    """One byte that answers a DLE EOT."""

    byte: int


@dataclass(frozen=True)
class Push:
    """Four bytes that the printer sent by itself (Automatic Status Back)."""

    status: Status


@dataclass(frozen=True)
class Garbage:
    """Bytes that are no status of any kind: noise on the line, or the end of something that we missed the start of."""

    count: int


Item = Reply | Push | Garbage


class Decoder:
    """Finds replies and pushed frames in a stream of bytes, whatever noise lies between.

    Every kind of byte is recognisable by fixed bits, so a stream that was garbled is understood again
    from the next whole item on. A reply may even stand in the middle of a frame. Garbage comes first in
    what `feed` returns: it puts all that arrived together with it in doubt.
    """

    def __init__(self) -> None:
        self._frame = bytearray()

    def feed(self, data: bytes) -> list[Item]:
        items: list[Item] = []
        garbage = 0
        for byte in data:
            if byte & 0x93 == 0x12:
                items.append(Reply(byte))
            elif byte & 0x93 == 0x10:
                garbage += len(self._frame)  # a frame that was never finished
                self._frame = bytearray((byte,))
            elif byte in (XON, XOFF):
                continue
            elif byte & 0x90 == 0 and self._frame:
                self._frame.append(byte)
                if len(self._frame) == 4:
                    items.append(Push(pushed_status(bytes(self._frame))))
                    self._frame.clear()
            else:
                garbage += 1 + len(self._frame)
                self._frame.clear()
        return [Garbage(garbage), *items] if garbage else items


def pushed_status(frame: bytes) -> Status:
    """The status in the four bytes of an ASB frame."""
    first, second, third, _ = frame
    return Status(
        online=not first & 0x08,
        cover_open=bool(first & 0x20),
        paper="empty" if third & 0x0C else "low" if third & 0x03 else "adequate",
        error=_error(cutter=second & 0x08, unrecoverable=second & 0x20, recoverable=second & 0x04, hot=second & 0x40),
        feeding=bool(first & 0x40 or second & 0x02),
    )


def polled_status(replies: dict[int, int]) -> Status:
    """The status in the replies to DLE EOT 1 to 4, by request number."""
    printer, offline, error, roll = (replies[n] for n in (1, 2, 3, 4))
    return Status(
        online=not printer & 0x08,
        cover_open=bool(offline & 0x04),
        paper="empty" if roll & 0x60 or offline & 0x20 else "low" if roll & 0x0C else "adequate",
        error=_error(cutter=error & 0x08, unrecoverable=error & 0x20, recoverable=error & 0x04, hot=error & 0x40),
        feeding=bool(printer & 0x40 or offline & 0x08),
    )


def _error(*, cutter: int, unrecoverable: int, recoverable: int, hot: int) -> Error | None:
    if unrecoverable:
        return "unrecoverable"
    if cutter:
        return "cutter"
    if hot:
        return "auto-recoverable"
    return "recoverable" if recoverable else None
