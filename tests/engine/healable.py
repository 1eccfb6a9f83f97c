"""Faults that a booth should heal, and some that it cannot: fixed in advance, each injected ten times at a random moment.

`python -m tests.engine.healable [SEED]` prints the table. Declarations, rules and engine are real; the devices are modelled, on a
virtual clock.
"""

import asyncio
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from agent.contract.health import FactValue
from agent.rules.declaration import UnreadableCode
from tests.engine.clinic import Clinic, Fault, seeded
from tests.virtual_time import virtual_run

TIMES: Final = 10
SEED: Final = 61_0007
_PATIENCE_S: Final = 2 * 3600.0  # after the end of the session that it may have to wait for


def _fault(
    kind: str, name: str, cure: str, facts: Mapping[str, FactValue] | None = None, unreadable: UnreadableCode | None = None
) -> Fault:
    return Fault(kind, name, facts or {}, unreadable, frozenset({cure} if cure else ()))


_IO_ERROR: Final = {"status": "io-error"}
_NO_FRAMES: Final = {"frames": 0}
_FROZEN: Final = {"distinct_frames": 1, "bad_films": 2}
_STUCK: Final[dict[str, FactValue]] = {"state": "processing", "queued_jobs": 1, "job_stalled_s": 400}
_NO_ADDRESS: Final[dict[str, FactValue]] = {"address": None, "gateway": None}
FAULTS: Final = (
    _fault("receipt-printer", "line stuck", "reopen", unreadable="not-responding"),
    _fault("receipt-printer", "driver stuck", "usb-rebind", unreadable="not-responding"),
    _fault("receipt-printer", "interface hangs", "usb-reset", unreadable="not-responding"),
    _fault("receipt-printer", "wrongly configured", "usb-authorize", unreadable="not-responding"),
    _fault("receipt-printer", "firmware hangs", "usb-power", unreadable="not-responding"),
    _fault("receipt-printer", "hangs before it is enumerated", "usb-power", unreadable="no-device"),
    _fault("receipt-printer", "cutter stuck", "recover", {"online": False, "error": "cutter"}),
    _fault("receipt-printer", "error that was mended", "recover", {"online": False, "error": "recoverable"}),
    _fault("document-printer", "queue stopped", "enable-queue", {"state": "stopped"}),
    _fault("document-printer", "queue takes no jobs", "enable-queue", {"accepting": False}),
    _fault("document-printer", "job stuck", "purge-spool", _STUCK),
    _fault("document-printer", "backend stuck", "restart-cups", _STUCK),
    _fault("document-printer", "spool full", "purge-spool", {"reasons": "spool-area-full-error"}),
    _fault("document-printer", "cupsd gone", "restart-cups", {"scheduler": False, "queue": None, "state": None}),
    _fault("scanner", "another process of ours has it", "end-holders", _IO_ERROR),
    _fault("scanner", "interface hangs", "usb-reset", unreadable="not-responding"),
    _fault("scanner", "wrongly configured", "usb-authorize", _IO_ERROR),
    _fault("scanner", "stuck in the kernel", "usb-reset", unreadable="wedged"),
    _fault("scanner", "firmware hangs", "usb-power", _IO_ERROR),
    _fault("camera", "gives no pictures", "usb-reset", _NO_FRAMES),
    _fault("camera", "frozen picture", "usb-authorize", _FROZEN),
    _fault("kiosk", "crashed", "restart-kiosk", {"running": False}),
    _fault("kiosk", "frozen", "restart-kiosk", {"heartbeat_age_s": 90.0}),
    _fault("network", "lease lost", "renew-address", _NO_ADDRESS),
    _fault("network", "link hangs", "bounce-link", _NO_ADDRESS),
    _fault("network", "manager hangs", "restart-network", _NO_ADDRESS),
    _fault("network", "radio hangs", "radio-cycle", {"carrier": False, **_NO_ADDRESS}),
    _fault("network", "driver hangs", "reload-driver", {"carrier": False, **_NO_ADDRESS}),
    _fault("board", "disk nearly full", "free-disk", {"storage_free_pct": 3.0}),
    _fault("board", "a unit failed", "restart-units", {"failed_units": "ipp-usb.service"}),
    _fault("receipt-printer", "dead", "", unreadable="not-responding"),
    _fault("scanner", "dead", "", _IO_ERROR),
    _fault("camera", "dead", "", _NO_FRAMES),
    _fault("network", "the box is dead", "", {"gateway_reachable": False}),
)


@dataclass
class Result:
    """One fault, all its injections."""

    fault: Fault
    healed_s: list[float] = field(default_factory=list)
    remedies: int = 0
    disturbed: int = 0

    @property
    def line(self) -> str:
        median = f"{statistics.median(self.healed_s):.0f} s" if self.healed_s else "–"
        cure = ", ".join(sorted(self.fault.cured_by)) or "nothing"
        return f"| {self.fault.kind} | {self.fault.name} | {cure} | {len(self.healed_s)} of {TIMES} | {median} |"


def inject(seed: int = SEED) -> Iterator[Result]:
    """Every fault `TIMES` times; a citizen is there in one case of three, for up to 40 minutes."""
    chance = seeded(seed)
    for fault in FAULTS:
        result = Result(fault)
        for _ in range(TIMES):
            session_s = chance.uniform(60, 2400) if chance.random() < 1 / 3 else 0.0
            virtual_run(partial(_once, result, chance.uniform(0, 600), session_s))
        yield result


async def _once(result: Result, moment_s: float, session_s: float) -> None:
    kind = result.fault.kind
    async with Clinic(*{kind, "board"}).open() as here:
        await asyncio.sleep(moment_s)
        here.citizen.there = session_s > 0
        here.devices[kind].has(result.fault)
        await asyncio.sleep(session_s)
        assert here.outcomes() == []
        here.citizen.there = False
        healed_s = await here.until_well(kind, _PATIENCE_S)
        if healed_s is not None:
            result.healed_s.append(healed_s)
        result.remedies += len(here.outcomes())
        result.disturbed += here.citizen.disturbed


def share_pct(results: list[Result]) -> float:
    return 100 * sum(len(result.healed_s) for result in results) / (TIMES * len(results))


def table(results: list[Result]) -> str:
    """As Markdown."""
    heads = ["| peripheral | fault | what cures it | healed | median time, from the session's end |", "|---|---|---|---|---|"]
    return "\n".join([*heads, *(result.line for result in results)])


if __name__ == "__main__":
    chosen = int(sys.argv[1]) if len(sys.argv) > 1 else SEED
    found = list(inject(chosen))
    print(table(found))
    print(f"seed {chosen}: {share_pct(found):.0f} % healed")
