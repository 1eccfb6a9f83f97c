"""Mutations of JSON that stay JSON: what libFuzzer's own, on bytes, reach too rarely."""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from tests.fuzz import mutate_archive

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**53, 2**53 + 1, 10**30, 0.5, -0.0, 1e300, "", "\x00", "\x1b[2J", "é", "\U0001f600", "a" * 300,
    "a/" * 3000, "9999-12-31T20:00:00.000Z", "9999-12-31T23:59:59.999Z",
    "0000-00-00T00:00:00.000Z", "2027-02-29T00:00:00.000Z", "24:00-24:00", "00:00-24:00",
    "Europe/Paris", "../../etc/passwd", "::/0", "fe80::%1/64", "1-65535", "65535-1", "*", "https://localhost:0",
    [], {}, [[]], [{}],
)  # fmt: skip


def of(target: str) -> Callable[[bytes, Sequence[str], Random], bytes]:
    """What changes the bytes of a target."""
    return mutate_archive.mutated if target == "archive" else mutated


def mutated(data: bytes, words: Sequence[str], chance: Random) -> bytes:
    """Raises ValueError for what is no JSON."""
    value = json.loads(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        value = _changed(value, words, chance)
    return json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")


def _changed(value: Any, words: Sequence[str], chance: Random) -> Any:
    places = list(_places(value))
    if not places or chance.random() < 0.02:
        return copy.deepcopy(chance.choice(ODD))
    holder, key = chance.choice(places)
    match chance.randrange(7):
        case 0:
            holder[key] = copy.deepcopy(chance.choice(ODD))
        case 1:
            holder[key] = chance.choice(words)
        case 2:
            del holder[key]
        case 3:  # what stands somewhere else
            other, there = chance.choice(places)
            holder[key] = json.loads(json.dumps(other[there]))
        case 4 if isinstance(holder, dict):
            holder[chance.choice(words)] = holder[key]
        case 5 if isinstance(holder, dict):
            holder[chance.choice(words)] = copy.deepcopy(chance.choice((*ODD, *({} for _ in range(10)))))
        case 6 if isinstance(holder, list):
            holder.extend(holder[:40])
        case _:
            holder[key] = _nudged(holder[key], chance)
    return value


def _nudged(value: Any, chance: Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + chance.choice((-1, 1, 60, -3600))
    if isinstance(value, str) and value:
        at = chance.randrange(len(value))
        return value[:at] + chance.choice((value[at] * 2, "", "-", "0", ".", "9", "٣", "a", " ")) + value[at + 1 :]
    return [value]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
