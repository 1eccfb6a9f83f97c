"""A peripheral of nobody's: what a new one consists of, and where it shows up by itself."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

TOY = '''
"""The toy: it sleeps."""

from dataclasses import dataclass
from typing import Annotated

from agent.contract.alarm import Text
from agent.contract.typed import Range
from agent.peripherals.declaration import Peripheral
from agent.rules.declaration import Fact, FindingKind, Observed, Reading


@dataclass(frozen=True)
class Options:
    naps: Annotated[int, Range(1, 9)] = 3


def find(facts, options):
    if facts["asleep"]:
        yield Observed("asleep")


class ToySource:
    def __init__(self, options, surroundings, signals):
        pass

    async def probe(self, *, active):
        return Reading({"asleep": True})

    def interval_s(self):
        return 60.0

    async def close(self):
        pass


PERIPHERAL = Peripheral(
    kind="toy", noun=Text("le jouet", "the toy"), options=Options,
    facts=(Fact("asleep", "boolean", "it sleeps"),),
    findings=(FindingKind("asleep", "info", "nobody", Text("Il dort.", "It sleeps.")),),
    find=find, open=ToySource, deadline_s=1.0,
)
'''


@contextlib.contextmanager
def toy_package(folder: Path) -> Iterator[ModuleType]:
    """A package with one peripheral in it, dropped there as a file; gone from the interpreter afterwards."""
    home = folder / "toy_peripherals"
    home.mkdir()
    (home / "__init__.py").write_text("")
    (home / "toy.py").write_text(TOY)
    (home / "helper.py").write_text("PERIPHERAL = 'not one'\n")
    sys.path.insert(0, str(folder))
    try:
        __import__("toy_peripherals")
        yield sys.modules["toy_peripherals"]
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.startswith("toy_peripherals")]:
            del sys.modules[name]
