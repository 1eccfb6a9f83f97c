"""What three lamps of the virtual booth showed, and whether that is a word of the light. Times are the guest's, in s."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from types import TracebackType

from agent.contract.light import COLOURS, RHYTHMS, Colour
from agent.contract.words import LightWord
from tests.virtual_booth.booth import PYTHON, VirtualBooth

COLOUR_ORDER: tuple[Colour, ...] = ("red", "green", "blue")
# An emulated processor is late, and the kernel's own timers are coarse: up to an eighth of what is waited for.
_LATE_S = 0.11
_COARSE = 0.14
_TOGETHER_S = 0.25


@dataclass(frozen=True)
class Change:
    at_s: float
    lamp: str
    level: int


@dataclass(frozen=True)
class Lamps:
    """A recording that goes on. `names` are red, green and blue."""

    booth: VirtualBooth
    unit: str
    names: Sequence[str]

    def now_s(self) -> float:
        return float(self.booth.run("cut -d ' ' -f 1 /proc/uptime"))

    def changes(self) -> list[Change]:
        """Everything so far."""
        return [Change(*json.loads(line)) for line in self.booth.run(f"cat /run/{self.unit}.changes").splitlines()]

    def problems(self, word: LightWord, from_s: float, until_s: float, level: int | None = None) -> list[str]:
        """Why what was shown in that time is not this word: empty where it is. `level`: of lit lamps, 1 on a line."""
        changes = self.changes()
        found, lit_edges = [], []
        for colour, name in zip(COLOUR_ORDER, self.names, strict=True):
            own = [change for change in changes if change.lamp == name]
            steps = _steps(own, from_s, until_s)
            wanted = _wanted(word, colour)
            if not any(_fits(steps, wanted[turn:] + wanted[:turn]) for turn in range(len(wanted))):
                found.append(f"{name} for {word}: {_said(steps)}")
            levels = {change.level for change in own if from_s < change.at_s < until_s} - {0}
            if level is not None and not levels <= {level}:
                found.append(f"{name} for {word}: levels {levels}")
            if colour in COLOURS[word] and RHYTHMS[word]:
                lit_edges.append([change.at_s for change in own if from_s < change.at_s < until_s])
        for one, other in permutations(lit_edges, 2):
            inner = [at_s for at_s in one if from_s + _TOGETHER_S < at_s < until_s - _TOGETHER_S]
            alone = [at_s for at_s in inner if not any(abs(at_s - its_s) < _TOGETHER_S for its_s in other)]
            found += [f"{word}: the lamps are not together at {alone}"] if alone else []
        return found


class Recorded:
    """Makes three lamps in the guest, and records them for the time of the context."""

    def __init__(self, booth: VirtualBooth, kind: str, *names: str) -> None:
        self._lamps = Lamps(booth, kind, names)

    def __enter__(self) -> Lamps:
        lamps = self._lamps
        program = f"{PYTHON} -B -m tests.virtual_booth.guest.{lamps.unit} {' '.join(lamps.names)}"
        lamps.booth.run(
            f"systemd-run --quiet --unit {lamps.unit} --property CPUSchedulingPolicy=fifo"
            f" --property CPUSchedulingPriority=10 --property StandardOutput=truncate:/run/{lamps.unit}.changes {program}"
        )
        return lamps

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lamps.booth.run(f"systemctl stop {self._lamps.unit}")


def _wanted(word: LightWord, colour: Colour) -> list[tuple[bool, float | None]]:
    """One period as lit or dark and for how long; None for steady."""
    if colour not in COLOURS[word]:
        return [(False, None)]
    if not RHYTHMS[word]:
        return [(True, None)]
    return [step for lit_ms, dark_ms in RHYTHMS[word] for step in ((True, lit_ms / 1000), (False, dark_ms / 1000))]


def _steps(changes: Sequence[Change], from_s: float, until_s: float) -> list[tuple[bool, float | None]]:
    """Lit and dark in turn, each with its length; the first and the last are cut by the window and have none."""
    before = [change.level > 0 for change in changes if change.at_s <= from_s]
    steps: list[tuple[bool, float | None]] = [(before[-1] if before else False, None)]
    since_s: float | None = None
    for change in changes:
        if from_s < change.at_s < until_s and (change.level > 0) != steps[-1][0]:
            if since_s is not None:
                steps[-1] = (steps[-1][0], change.at_s - since_s)
            since_s = change.at_s
            steps.append((change.level > 0, None))
    return steps


def _fits(steps: Sequence[tuple[bool, float | None]], wanted: Sequence[tuple[bool, float | None]]) -> bool:
    if len(wanted) == 1:
        return [lit for lit, _ in steps] == [wanted[0][0]]
    if len(steps) < len(wanted) + 2:
        return False  # less than one whole period was seen
    for index, (lit, length_s) in enumerate(steps):
        wanted_lit, wanted_s = wanted[index % len(wanted)]
        if lit != wanted_lit:
            return False
        if length_s is not None and wanted_s is not None and abs(length_s - wanted_s) > _LATE_S + _COARSE * wanted_s:
            return False
    return True


def _said(steps: Sequence[tuple[bool, float | None]]) -> str:
    return " ".join(f"{'lit' if lit else 'dark'} {'…' if length is None else f'{length:.2f}'}" for lit, length in steps)
