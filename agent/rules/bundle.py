"""A diagnostics bundle in pieces: how it is cut, and how it is put together again and found whole. Contract §8, `diagnostics`.

The pieces come beside the command's status, in any order and some of them twice (QoS 1). The status's result says how many
there are, how long the whole is, and its hash: that is what counts.
"""

import base64
import binascii
import hashlib
import zlib
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from agent.contract.command import Chunk
from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.typed import Invalid, Pattern, Range, build, plain

CHUNK_BYTES: Final = 8 * 1024  # of the bundle; base64 makes eleven of them
MAX_BYTES: Final = 4 * 1024 * 1024  # compressed: the most that a command may ask for
MAX_CHUNKS: Final = MAX_BYTES // CHUNK_BYTES
MAX_UNPACKED_BYTES: Final = 64 * 1024 * 1024  # a gzip of 4 MiB can unpack to 4 GiB
FORMAT: Final = "json+gzip"
_MESSAGE_BYTES: Final = 2 * CHUNK_BYTES
_GZIP: Final = 16 + zlib.MAX_WBITS

Fault = Literal["missing", "conflicting", "too-large", "wrong-size", "wrong-hash", "unreadable", "bad-result"]


class NotWhole(ValueError):
    """No bundle can be had of what came. `fault` is the word for it; the message says what, and what to do."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True)
class Result:
    """Of a `diagnostics` command that succeeded: what its pieces make. `bytes` and `sha256` are of the compressed bundle."""

    chunks: Annotated[int, Range(1, MAX_CHUNKS)]
    bytes: Annotated[int, Range(1, MAX_BYTES)]
    sha256: Annotated[str, Pattern("[0-9a-f]{64}", "64 hexadecimal digits")]
    format: Literal["json+gzip"] = FORMAT


def chunks_of(size: int) -> int:
    """How many pieces a bundle of so many bytes is cut into."""
    return max(1, -(-size // CHUNK_BYTES))


def chunk(piece: bytes, number: int, of: int) -> bytes:
    """The message that carries one piece."""
    return encode(plain(Chunk(number, of, base64.b64encode(piece).decode())))


@dataclass
class Assembly:
    """The pieces of one bundle, as they come. `of`: how many there are; None before the first one."""

    of: int | None = None
    _pieces: dict[int, bytes] = field(default_factory=dict)
    _fault: NotWhole | None = None

    @property
    def taken(self) -> int:
        return len(self._pieces)

    @property
    def missing(self) -> tuple[int, ...]:
        """The numbers that have not come, as far as is known how many there are."""
        return tuple(number for number in range(self.of or 0) if number not in self._pieces)

    def take(self, payload: bytes) -> bool:
        """One message of a chunk's topic; whether it brought something new. What is wrong with it, `bundle` raises."""
        try:
            return self._take(payload)
        except NotWhole as fault:
            self._fault = self._fault or fault
            return False

    def bundle(self, result: Any) -> bytes:
        """The compressed bundle, whole. `result` is the one of the command's last status. Raises NotWhole."""
        expected = _result(result)
        if self._fault is not None:
            raise self._fault
        if self.of is not None and self.of != expected.chunks:
            raise NotWhole("conflicting", f"the pieces say that there are {self.of}, the result {expected.chunks}")
        absent = [number for number in range(expected.chunks) if number not in self._pieces]
        if absent:
            first = ", ".join(map(str, absent[:5])) + (" …" if len(absent) > 5 else "")
            raise NotWhole("missing", f"{len(absent)} of {expected.chunks} pieces did not come ({first}): ask again")
        whole = b"".join(self._pieces[number] for number in range(expected.chunks))
        if len(whole) != expected.bytes:
            raise NotWhole("wrong-size", f"{len(whole)} bytes came, the booth sent {expected.bytes}: ask again")
        if hashlib.sha256(whole).hexdigest() != expected.sha256:
            raise NotWhole("wrong-hash", "the hash is not the one that the booth says: ask again")
        return whole

    def _take(self, payload: bytes) -> bool:
        number, of, piece = _read(payload)
        if self.of is not None and of != self.of:
            raise NotWhole("conflicting", f"one piece says that there are {self.of}, another {of}")
        known = self._pieces.get(number)
        if known is not None and known != piece:
            raise NotWhole("conflicting", f"piece {number} came twice, and not the same")
        self.of = of
        self._pieces[number] = piece
        return known is None


def unpacked(bundle: bytes) -> dict[str, Any]:
    """What a bundle holds. Raises NotWhole."""
    gunzip = zlib.decompressobj(_GZIP)
    try:
        text = gunzip.decompress(bundle, MAX_UNPACKED_BYTES)
        if gunzip.unconsumed_tail:
            raise NotWhole("too-large", f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        if not gunzip.eof or gunzip.unused_data:
            raise NotWhole("unreadable", "it is no whole gzip")
        return decode_object(text, MAX_UNPACKED_BYTES)
    except (zlib.error, BadJson) as error:
        raise NotWhole("unreadable", f"it is no gzip of JSON: {error}") from error


def _result(result: Any) -> Result:
    if isinstance(result, dict) and result.get("format") not in (None, FORMAT):
        raise NotWhole("bad-result", f"its format is {str(result['format'])[:40]!r}; this reads {FORMAT}")
    try:
        return build(Result, result, unknown="ignore")
    except Invalid as error:
        raise NotWhole("bad-result", f"the command's result says of no bundle: {error}") from error


def _read(payload: bytes) -> tuple[int, int, bytes]:
    try:
        said = build(Chunk, decode_object(payload, _MESSAGE_BYTES), unknown="ignore")
        piece = base64.b64decode(said.data, validate=True)
    except (BadJson, Invalid, binascii.Error, ValueError) as error:
        raise NotWhole("unreadable", f"a piece cannot be read: {error}") from error
    if not 0 <= said.n < said.of:
        raise NotWhole("unreadable", f"a piece says that it is number {said.n} of {said.of}")
    if said.of > MAX_CHUNKS or len(piece) > CHUNK_BYTES:
        raise NotWhole("too-large", f"{said.of} pieces, one of {len(piece)} bytes; at most {MAX_CHUNKS} of {CHUNK_BYTES}")
    return said.n, said.of, piece
