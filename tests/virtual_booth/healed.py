"""The faults of tests/engine/healable.py, each healed once in the virtual booth by the running agent: by what, and how soon.

A test claims its rows with `heals`, and tells each result with `Patient.healed`. What cannot be had there stands in
`NOT_PRODUCED`, with the reason. `make test-system` ends with the table.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from tests.virtual_booth.booth import VirtualBooth
from tests.virtual_booth.inside import heard, until_heard, until_said

Row = tuple[str, str]  # kind and name, as in healable.FAULTS
Test = TypeVar("Test", bound=Callable[..., Any])

NOT_PRODUCED: Final[dict[Row, str]] = {
    (
        "receipt-printer",
        "line stuck",
    ): "a question without an answer closes the line, and the next one opens it anew",
    ("scanner", "stuck in the kernel"): "no backend of SANE's that is at hand waits in the kernel for its device",
    ("scanner", "another process of ours has it"): "what of ours is left after its deadline is what SIGKILL does not end",
    ("network", "lease lost"): "QEMU's router answers a renewal by broadcast, where systemd-networkd does not listen for it",
    ("network", "radio hangs"): "the image has no access point and nothing that associates; of the act see test_acts_network",
    ("camera", "gives no pictures"): "QEMU has no USB camera, and dummy_hcd carries no isochronous transfers",
    ("camera", "frozen picture"): "QEMU has no USB camera, and dummy_hcd carries no isochronous transfers",
    ("camera", "dead"): "QEMU has no USB camera, and dummy_hcd carries no isochronous transfers",
}
CLAIMED: Final[dict[Row, str]] = {}


@dataclass(frozen=True)
class Result:
    """One row of the table. `remedy` empty: nothing cured it, and nothing should have."""

    kind: str
    fault: str
    remedy: str
    seconds: float

    @property
    def line(self) -> str:
        return f"| {self.kind} | {self.fault} | {self.remedy or 'nothing'} | {self.seconds:.0f} s |"


RESULTS: Final[list[Result]] = []


def heals(kind: str, *faults: str) -> Callable[[Test], Test]:
    """This test produces these rows."""

    def claim(test: Test) -> Test:
        CLAIMED.update({(kind, fault): test.__name__ for fault in faults})
        return test

    return claim


def table() -> str:
    """As Markdown, with what was not produced."""
    heads = ["| peripheral | fault | what cured it | after, by the booth's clock |", "|---|---|---|---|"]
    missing = [f"| {kind} | {fault} | not produced: {why} | – |" for (kind, fault), why in NOT_PRODUCED.items()]
    return "\n".join([*heads, *(result.line for result in RESULTS), *missing])


@dataclass
class Patient:
    """A peripheral of a booth whose agent runs, with what is tried for one finding of its, or for all."""

    booth: VirtualBooth
    name: str
    code: str = ""
    _since_s: float = field(default=0.0, init=False)

    def breaks(self, command: str = "true") -> None:
        """The fault begins, by this command."""
        self._since_s = float(self.booth.run(f"date +%s.%3N && {{ {command}\n}} > /dev/null").strip())

    def healed(self, fault: str, remedy: str, timeout_s: float) -> None:
        """Wait until that remedy has cured it, as its event says, and its health with it."""
        cure = f'"code":"{self.code or "[a-z-]+"}","peripheral":"{self.name}","data":[{{]"remedy":"{remedy}","outcome":"cured"'
        until_heard(self.booth, "event/heal", cure, timeout_s)
        until_said(self.booth, f"health/{self.name}", '"status":"(ok|degraded)"')
        last = self.events()[-1]
        assert (last["data"]["remedy"], last["data"]["outcome"]) == (remedy, "cured"), self.attempts()
        self.noted(fault, remedy, last)

    def noted(self, fault: str, remedy: str, event: dict[str, Any]) -> None:
        """The row, as it ended with this event."""
        ended_s = datetime.fromisoformat(event["ts"]).timestamp()
        assert ended_s > self._since_s, "it was healed before it broke"
        RESULTS.append(Result(self.name, fault, remedy, ended_s - self._since_s))

    def events(self) -> list[dict[str, Any]]:
        """Of each attempt that ended since the broker started."""
        every = [json.loads(event) for event in heard(self.booth, "event/heal")]
        mine = [event for event in every if event["peripheral"] == self.name]
        return [event for event in mine if self.code in ("", event["code"])]

    def attempts(self) -> list[tuple[str, str]]:
        return [(event["data"]["remedy"], event["data"]["outcome"]) for event in self.events()]
