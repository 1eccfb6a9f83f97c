"""Made-up people, one for each way in, and the search for them in whatever comes out, in whatever form."""

import base64
import contextlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final
from urllib.parse import quote

_LETTERS: Final = "abcdefghij"
_GZIP: Final = b"\x1f\x8b\x08"


@dataclass(frozen=True)
class Canary:
    """Somebody who does not exist: `place` is where she goes in, `number` makes her differ from the others."""

    place: str
    number: int

    @property
    def nir(self) -> str:
        """A social-security number."""
        return f"2 85 05 78 {self.number:03d} 184 36"

    @property
    def iban(self) -> str:
        return f"FR76 3000 6{self.number:03d} 0112 3456 7890 189"

    @property
    def name(self) -> str:
        letters = "".join(_LETTERS[int(digit)] for digit in f"{self.number:03d}")
        return f"Zoe Qu{letters}xley"

    @property
    def email(self) -> str:
        return f"{self.slug}@exemple.fr"

    @property
    def phone(self) -> str:
        return f"06 {self.number:02d} 98 71 44"

    @property
    def slug(self) -> str:
        """The name where only small letters may stand."""
        return self.name.lower().replace(" ", "-")

    @property
    def all(self) -> str:
        return "; ".join(self.texts)

    @property
    def texts(self) -> tuple[str, ...]:
        return self.nir, self.iban, self.name, self.email, self.phone

    @cached_property
    def forms(self) -> tuple[bytes, ...]:
        """Each text as it may come out: small letters, without spaces."""
        found: set[bytes] = set()
        for text in (*self.texts, self.slug):
            for form in {text, text.replace(" ", "")}:
                data = form.encode()
                found |= {data, data.hex().encode(), quote(form).encode(), form.encode("utf-16-le"), form.encode("utf-16-be")}
                found |= set(_inside_base64(data))
        return tuple(_plain(form) for form in found)


@dataclass
class People:
    """The canaries, one for each place."""

    all: list[Canary] = field(default_factory=list)

    def at(self, place: str) -> Canary:
        for canary in self.all:
            if canary.place == place:
                return canary
        self.all.append(Canary(place, len(self.all) + 1))
        return self.all[-1]


def _inside_base64(data: bytes) -> Iterator[bytes]:
    """How it looks in base64 behind 0, 1 or 2 other bytes, without the letters that depend on its neighbours."""
    for before in range(3):
        text = base64.b64encode(bytes(before) + data)
        start, end = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        yield text[start:end]


def _plain(data: bytes) -> bytes:
    return re.sub(rb"\s", b"", data.lower())


def unpacked(data: bytes) -> Iterator[bytes]:
    """It, and what is compressed in it."""
    yield data
    at = data.find(_GZIP)
    while at >= 0:
        with contextlib.suppress(zlib.error):
            yield from unpacked(zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data[at:]))
        at = data.find(_GZIP, at + 1)


def found_in(data: bytes, canaries: list[Canary]) -> set[str]:
    """The places whose canary is in it."""
    plain = [_plain(part) for part in unpacked(data)]
    return {canary.place for canary in canaries if any(form in part for part in plain for form in canary.forms)}
