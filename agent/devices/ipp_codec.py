"""IPP messages as bytes: RFC 8010 section 3. Only what a monitor needs; what arrives is not trusted."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

OPERATION_GROUP: Final = 0x01
JOB_GROUP: Final = 0x02
PRINTER_GROUP: Final = 0x04
SUBSCRIPTION_GROUP: Final = 0x06  # this and the next: RFC 3995 section 11.3.1
EVENT_GROUP: Final = 0x07
_END: Final = 0x03
_FIRST_VALUE_TAG: Final = 0x10  # below it are delimiters: section 3.5.1

INTEGER: Final = 0x21
BOOLEAN: Final = 0x22
ENUM: Final = 0x23
NAME: Final = 0x42
KEYWORD: Final = 0x44
URI: Final = 0x45
CHARSET: Final = 0x47
LANGUAGE: Final = 0x48
MIME_TYPE: Final = 0x49
_WITH_LANGUAGE: Final = (0x35, 0x36)
_STRINGS: Final = range(0x41, 0x4A)
_BEGIN_COLLECTION: Final = 0x34
_END_COLLECTION: Final = 0x37

Value = int | bool | str | None
Attribute = tuple[int, str, tuple[int | str, ...]]  # tag, name, values


class Malformed(Exception):
    """The bytes are no IPP message."""


@dataclass
class Group:
    """Attributes by name, each a list of values; None stands for what is unknown, or of a type that nobody here reads."""

    tag: int
    attributes: dict[str, list[Value]] = field(default_factory=dict)


@dataclass
class Response:
    """`status`: RFC 8011 section 4.1.6 and appendix B; below 0x100 is success."""

    status: int
    groups: list[Group]

    def of(self, tag: int) -> list[dict[str, list[Value]]]:
        return [group.attributes for group in self.groups if group.tag == tag]


def request(operation: int, attributes: Iterable[Attribute], *more: tuple[int, Iterable[Attribute]]) -> bytes:
    """A request: the operation group, and `more` by their tags. IPP/1.1, which every cupsd and printer speaks."""
    parts = [struct.pack(">BBHI", 1, 1, operation, 1)]
    for delimiter, group in ((OPERATION_GROUP, attributes), *more):
        parts.append(bytes([delimiter]))
        for tag, name, values in group:
            for index, value in enumerate(values):
                key = b"" if index else name.encode()
                raw = struct.pack(">i", value) if isinstance(value, int) else value.encode()
                parts.append(struct.pack(">BH", tag, len(key)) + key + struct.pack(">H", len(raw)) + raw)
    parts.append(bytes([_END]))
    return b"".join(parts)


def response(data: bytes) -> Response:
    """Raises Malformed."""
    reader = _Bytes(data)
    reader.take(2)  # the version: nothing below depends on it
    status = reader.number(2)
    reader.take(4)
    groups: list[Group] = []
    values: list[Value] | None = None
    depth = 0
    while (tag := reader.number(1)) != _END:
        if tag < _FIRST_VALUE_TAG:
            groups.append(Group(tag))
            values = None
            continue
        if not groups:
            raise Malformed("a value outside of every group")
        name = reader.take(reader.number(2))
        raw = reader.take(reader.number(2))
        if name:
            values = groups[-1].attributes.setdefault(name.decode("ascii", "replace"), [])
        if values is None:
            raise Malformed("a value without a name")
        # A collection's members have no names of their own at this level: what lies inside one is skipped.
        if tag == _BEGIN_COLLECTION:
            depth += 1
        elif tag == _END_COLLECTION:
            depth -= 1
        elif depth == 0:
            values.append(_value(tag, raw))
        if depth < 0:
            raise Malformed("the end of a collection that never began")
    return Response(status, groups)


def _value(tag: int, raw: bytes) -> Value:
    if tag in (INTEGER, ENUM):
        if len(raw) != 4:
            raise Malformed(f"an integer of {len(raw)} bytes")
        return int.from_bytes(raw, "big", signed=True)
    if tag == BOOLEAN:
        if raw not in (b"\x00", b"\x01"):
            raise Malformed("a boolean that is neither")
        return raw == b"\x01"
    if tag in _WITH_LANGUAGE:
        reader = _Bytes(raw)
        reader.take(reader.number(2))
        return reader.take(reader.number(2)).decode(errors="replace")
    return raw.decode(errors="replace") if tag in _STRINGS else None


class _Bytes:
    """Read from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise Malformed(f"it ends after {len(self._data)} bytes, in the middle")
        self._at += count
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")
