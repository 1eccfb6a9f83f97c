"""Which booths a simulated fleet has, and what becomes of those that try a new version."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.contract.typed import plain
from agent.verbs import declared

Fate = Literal["commits", "rolls-back", "fails", "vanishes", "breaks", "refuses", "waits", "gets-nothing"]


@dataclass(frozen=True)
class Script:
    """What becomes of booths that try a new version; all others commit it. Named booths come before shares, and those come in this
    order. `breaks`: it commits, and a service is down ever after. `vanishes`: it goes dark in the middle. `waits`: nobody
    answers where it fetches, and it goes on trying. `gets-nothing`: the file is not there, which somebody has to mend.

    `asleep`, `dark`: booths that are switched off, in order or not. `closed`: booths that are never open. `pace_s`: about so long
    is each phase.
    """

    fates: Mapping[str, Fate] = field(default_factory=dict)
    shares: Mapping[Fate, float] = field(default_factory=dict)
    asleep: Collection[str] = ()
    dark: Collection[str] = ()
    closed: Collection[str] = ()
    pace_s: float = 0.05

    def fate(self, booth: str) -> Fate:
        if booth in self.fates:
            return self.fates[booth]
        place = int.from_bytes(hashlib.sha256(f"fate of {booth}".encode()).digest()[:4]) / 2**32
        for fate, share in self.shares.items():
            place -= share
            if place < 0:
                return fate
        return "commits"


def meta() -> dict[str, Any]:
    """As long as a real booth's."""
    peripherals = ("receipt-printer", "document-printer", "scanner", "camera", "network", "board")
    slot: dict[str, Any] = dict.fromkeys(("slot", "vendor", "product", "serial", "firmware"))
    facts = [{"name": f"fact_{number}", "type": "integer", "unit": None, "meaning": "one of its facts"} for number in range(4)]
    return {
        "contract": 1,
        "board": {"model": "Raspberry Pi 4 Model B Rev 1.5", "os": "Debian GNU/Linux 12", "kernel": "6.1", "architecture": "arm64"},
        "peripherals": {name: {"kind": name, "facts": facts} | slot for name in peripherals},
        "capabilities": {
            "commands": {name: plain(verb.schema()) for name, verb in declared().items()},
            "policy_rules": [], "light": ["ok"],
        },
    }  # fmt: skip


def many(booths: int, areas: int) -> dict[str, str]:
    """So many booths, spread over so many areas."""
    return {f"{10 + number % areas}-{number:05d}": str(10 + number % areas) for number in range(booths)}
