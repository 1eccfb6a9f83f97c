"""Which booths a rollout tells in which wave: the laboratory, a few canaries, a few per cent, one area, a quarter, all."""

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from agent.contract.documents import LayerName
from agent.contract.typed import Length, Range
from agent.contract.words import Area, BoothId

Share = Annotated[float, Range(0, 100)]


@dataclass(frozen=True)
class Choice:
    """Who comes before the fleet. `laboratory`: the operator's own booths. `canaries`: how many of the others go first.
    `first_pct`, `second_pct`: the share of the fleet that has been told after that wave, those before included. `area`: which one
    goes as a whole; None: any."""

    laboratory: Annotated[list[BoothId], Length(1000)]
    canaries: Annotated[int, Range(1, 1000)] = 3
    first_pct: Share = 5.0
    area: Area | None = None
    second_pct: Share = 25.0


@dataclass(frozen=True)
class Wave:
    """`layer`: whose document tells these booths. `careful`: each of its booths is looked at singly, and none is passed over."""

    name: str
    layer: LayerName
    booths: tuple[str, ...]
    area: str | None = None
    careful: bool = False


def waves(booths: Mapping[str, str], choice: Choice, salt: str, there: Collection[str]) -> tuple[Wave, ...]:
    """The waves over `booths`, each with its area; every booth is in exactly one. Waves without a booth are left out, but for the
    last one, which tells the fleet.

    Who goes when is a matter of `salt` and the booths' names alone: another version begins with other booths, and the same one
    with the same. `there`: booths that are at work now, of which the canaries are taken first: one that is switched off warns of
    nothing.
    """
    left = _order(salt, booths)
    found: list[Wave] = []

    def take(
        name: str, chosen: Iterable[str], layer: LayerName = "booth", area: str | None = None, *, careful: bool = False
    ) -> None:
        wave = Wave(name, layer, tuple(chosen), area, careful)
        gone = set(wave.booths)
        left[:] = [booth for booth in left if booth not in gone]
        if wave.booths or layer == "fleet":
            found.append(wave)

    def up_to(pct: float) -> list[str]:
        return left[: max(0, math.ceil(len(booths) * pct / 100) - (len(booths) - len(left)))]

    take("laboratory", [booth for booth in left if booth in set(choice.laboratory)], careful=True)
    take("canaries", sorted(left, key=lambda booth: booth not in there)[: choice.canaries], careful=True)
    take(f"{choice.first_pct:g} %", up_to(choice.first_pct))
    area = choice.area or _any_area(salt, booths, left)
    if area is not None:
        take(f"area {area}", [booth for booth in left if booths[booth] == area], "area", area)
    take(f"{choice.second_pct:g} %", up_to(choice.second_pct))
    take("all", list(left), "fleet")
    return tuple(found)


def _any_area(salt: str, booths: Mapping[str, str], left: Iterable[str]) -> str | None:
    """An area that has booths left; None where the fleet is one area only, which would be the fleet."""
    if len(set(booths.values())) < 2:
        return None
    return next(iter(_order(salt, {booths[booth] for booth in left})), None)


def _order(salt: str, names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{salt}\0{name}".encode()).digest())
