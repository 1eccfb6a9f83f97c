"""Mutations of a tar that stay one: each header's checksum is right again, or nothing behind it would ever be read."""

import tarfile
from collections.abc import Sequence
from random import Random
from typing import Any, Final

_BLOCK: Final = tarfile.BLOCKSIZE
_CHECKSUM: Final = slice(148, 156)
# POSIX.1-1988: where each field of a header stands, and what is odd there.
_NUMBERS: Final = (
    b"00000000000\0", b"00000000001\0", b"00000001000\0", b"00000001001\0", b"77777777777\0", b"10000000000\0", b"           \0",
    b"-0000000001\0", b"0x000000010\0", b"9", b"\x80" + bytes(10) + b"\2", b"\x80" + b"\xff" * 11, b"\xff" * 12,
    b"\xff" + bytes(11),
)  # fmt: skip
_NAMES: Final = (
    b"", b"a", b"b/c", b"a/b", b"/etc/passwd", b"../x", b"a/../../x", b"./a", b"a/", b"a//b", b".a", b"a b", b"a\n", b"\33[2J",
    b"\xff\xfe", b"a" * 100, b"a/" * 50, b"CON", b"-rf", b"catalogue.json", b"\xc3\xa9",
)  # fmt: skip
_FIELDS: Final[dict[tuple[int, int], tuple[bytes, ...]]] = {
    (0, 100): _NAMES,
    (100, 108): (b"0000644\0", b"0007777\0", b"\x80\0\0\0\0\0\0\0", b"999"),
    (124, 136): _NUMBERS,
    (136, 148): _NUMBERS,
    (156, 157): tuple(bytes([kind]) for kind in b"\x000123456789xgLKSDMNVXA"),
    (157, 257): _NAMES,
    (257, 265): (b"ustar\x0000", b"ustar  \0", b"ustar", b"", b"\xff" * 8),
    (345, 500): (*_NAMES, b"p" * 155, b"../.."),
    (386, 410): (b"00000000000\x0000000000000\0", b"00000000000\x0077777777777\0", b"77777777777\x0000000000001\0"),
    (482, 495): (b"\x0010000000000\0", b"\x0100000000000\0", b"\x0177777777777\0"),
}
_WORDS: Final = (
    "path", "size", "linkpath", "mtime", "uid", "hdrcharset", "charset", "comment", "GNU.sparse.major", "GNU.sparse.minor",
    "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.realsize", "GNU.sparse.name", "GNU.sparse.offset", "GNU.sparse.numbytes",
    "SCHILY.realsize", "",
)  # fmt: skip
_SAID: Final = (
    b"0", b"1", b"-1", b"2", b"1024", b"1073741824", b"1e3", b"many", b"", b"BINARY", b"a", b"b/c", b"../x", b"/x", b"0,0",
    b"0,1,1024,1", b"0,x", b"9" * 400, b"\xff", b"a\nb", b"nan", b"1.5",
)  # fmt: skip


def mutated(data: bytes, _words: Sequence[str], chance: Random) -> bytes:
    """Raises ValueError for what is no archive of whole blocks."""
    if len(data) % _BLOCK or not data:
        raise ValueError("no whole blocks")
    blocks = [bytearray(data[at : at + _BLOCK]) for at in range(0, len(data), _BLOCK)]
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        _change(blocks, chance)
    return b"".join(blocks)


def _change(blocks: list[bytearray], chance: Random) -> None:
    headers = [number for number, block in enumerate(blocks) if _is_header(block)]
    at = chance.choice(headers) if headers else 0
    match chance.randrange(10):
        case 0 | 1 | 2 | 3 if headers:
            (start, end), values = chance.choice(tuple(_FIELDS.items()))
            blocks[at][start:end] = chance.choice(values)[: end - start].ljust(end - start, b"\0")
            _sum(blocks[at])
        case 4 if headers:
            blocks[at][chance.randrange(_BLOCK)] = chance.randrange(256)
            _sum(blocks[at])
        case 5 | 6:
            blocks[at:at] = _pax(chance) if chance.random() < 0.8 else _long_name(chance)
        case 7:  # what stands somewhere else
            blocks.insert(chance.randrange(len(blocks) + 1), bytearray(chance.choice(blocks)))
        case 8 if len(blocks) > 1:
            del blocks[chance.randrange(len(blocks))]
        case _:
            block = chance.choice(blocks)
            block[chance.randrange(_BLOCK)] = chance.choice((0, 10, 32, 48, 49, 61, 255))


def _is_header(block: bytearray) -> bool:
    try:
        tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _sum(block: bytearray) -> None:
    block[_CHECKSUM] = b" " * 8
    block[_CHECKSUM] = b"%06o\0 " % sum(block)


def _pax(chance: Random) -> list[bytearray]:
    """A header that says more of the next one, or of all that follow."""
    records = [_record(chance.choice(_WORDS).encode(), chance.choice(_SAID), chance) for _ in range(chance.choice((1, 1, 2, 4)))]
    return _member(chance.choice((b"x", b"x", b"x", b"g", b"X")), b"".join(records), chance)


def _record(word: bytes, said: bytes, chance: Random) -> bytes:
    rest = b" %s=%s\n" % (word, said)
    length = len(rest) + len(str(len(rest)))
    length = len(rest) + len(str(length)) + chance.choice((*[0] * 12, 1, -1, 1000, -length))
    return b"%d%s" % (length, rest)


def _long_name(chance: Random) -> list[bytearray]:
    return _member(chance.choice((b"L", b"K")), chance.choice((*_NAMES, b"n" * 300)) + b"\0", chance)


def _member(kind: bytes, data: bytes, chance: Random) -> list[bytearray]:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, len(data) + chance.choice((*[0] * 12, 1, 512, 2**30))
    blocks = info.tobuf(tarfile.USTAR_FORMAT) + data.ljust(-(-len(data) // _BLOCK) * _BLOCK, b"\0")
    return [bytearray(blocks[at : at + _BLOCK]) for at in range(0, len(blocks), _BLOCK)]


def small(members: dict[str, Any]) -> bytes:
    """An archive of files, as short as can be: by name, what is in them."""
    made = b""
    for name, data in members.items():
        info = tarfile.TarInfo(name)
        info.size = len(data)
        made += info.tobuf(tarfile.PAX_FORMAT) + data.ljust(-(-len(data) // _BLOCK) * _BLOCK, b"\0")
    return made + bytes(2 * _BLOCK)
