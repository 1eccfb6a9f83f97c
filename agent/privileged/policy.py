"""The policy as root keeps it: judged by itself from the operator's envelopes, applied rule by rule, measured, and corrected.

The daemon only carries envelopes. Root never reads what the daemon stores, and forgets no layer because the daemon does.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from agent.contract.documents import (
    Document,
    DocumentError,
    LayerName,
    PolicyReported,
    Refusal,
    ReportedStatus,
    RuleReported,
    invalid,
)
from agent.contract.typed import Invalid, Problem, build, plain
from agent.contract.words import printable
from agent.documents import files
from agent.documents.judge import Judged, Seen, judge
from agent.documents.report import effective_sha256, errors_of, good_until, revisions
from agent.documents.shelf import Shelf
from agent.documents.trust import Trust
from agent.lockdown.rule import Later, Machine, Measured, Place, Rule
from agent.rules.layers import audience_of, effective

Origin = Literal["fleet", "area", "booth", "floor", "default"]
Parts = Mapping[str, tuple[Origin, Any]]


@dataclass(frozen=True)
class Floor:
    """The image's own: `policy` applies where no accepted document names a section; nothing accepted is looser than `bounds`."""

    policy: dict[str, Any]
    bounds: dict[str, Any]


def read_floor(file: Path, rules: Mapping[str, Rule]) -> Floor:
    """The floor of the image. Where it is missing or damaged, everything is locked and nothing may be loosened."""
    try:
        floor: Floor | None = build(Floor, json.loads(file.read_text()))
        assert floor is not None
        for policy in (floor.policy, floor.bounds):
            parts_of({}, Floor(policy, {}), rules)
    except (OSError, ValueError):  # Invalid is a ValueError
        floor = None
    if floor is None or not {*floor.policy, *floor.bounds} <= rules.keys():
        return Floor({}, {name: {} for name in rules})
    return floor


def parts_of(documents: Mapping[LayerName, Mapping[str, Any]], floor: Floor, rules: Mapping[str, Rule]) -> Parts:
    """Each rule's part of the effective policy, and who gave it. Raises Invalid."""
    given = effective(documents)
    parts: dict[str, tuple[Origin, Any]] = {}
    for name, rule in rules.items():
        if name in given:
            parts[name] = (given[name].layer, build(rule.schema, given[name].value, f"doc.{name}"))
        else:
            origin: Origin = "floor" if name in floor.policy else "default"
            parts[name] = (origin, build(rule.schema, floor.policy.get(name, {}), f"floor.{name}"))
    return parts


@dataclass(frozen=True)
class Applied:
    """What could not be done, by rule and with the reason: at all, or not while a citizen is there."""

    failed: dict[str, str]
    later: dict[str, str]


class Policy:
    """The kept documents on one machine. `place` and `now` (RFC 3339, not below the clock's floor) may be looked up anew."""

    def __init__(self, machine: Machine, rules: Mapping[str, Rule], floor: Floor, shelf: Shelf, place: Place, now: str) -> None:
        self._machine = machine
        self._rules = rules
        self._floor = floor
        self._shelf = shelf
        self.place = place
        self.now = now
        self.errors: dict[LayerName, list[DocumentError]] = {}

    # --- accept ---

    def judge(self, layer: LayerName, message: bytes, booth: tuple[str, str], trust: Trust | None) -> Judged:
        """Judge an envelope, its sections, and what they would make of the policy in force. Raises Refusal."""
        seen = Seen()
        try:
            audience = audience_of(layer, *booth)
            judged = judge(message, "policy", audience, trust, self._shelf.state.accepted.get(layer), self.now, seen=seen)
        finally:
            if seen.revision is not None:
                self._shelf.saw(layer, seen.revision)
        if not judged.known:  # else it was, and only its file was damaged meanwhile
            self._check(layer, judged.document)
            assert trust is not None
            self._check_loosening(layer, judged, trust.thresholds.loosen)
        return judged

    def is_in_force(self, layer: LayerName, judged: Judged) -> bool:
        return judged.known and layer not in self._shelf.damaged()

    def was_reverted(self, layer: LayerName, judged: Judged) -> bool:
        return self._shelf.state.reverted.get(layer) == judged.revision

    def accept(self, layer: LayerName, judged: Judged, message: bytes) -> None:
        """Keep it, on trial. Raises OSError where it cannot be kept."""
        issued_at = files.believable(judged.document.issued_at)
        self._shelf.accept(layer, judged.revision, message, issued_at, on_trial=True)

    def confirm(self) -> None:
        self._shelf.confirm()

    def revert(self, *, for_good: bool = True) -> LayerName | None:
        """Back to what was before the trial. A disk that takes nothing does not keep the former policy from being applied."""
        layer = self._shelf.state.trying
        with suppress(OSError):
            self._shelf.revert(for_good=for_good)
        return layer

    @property
    def newest_issued_at(self) -> str | None:
        return self._shelf.state.newest_issued_at

    @property
    def reverted(self) -> bool:
        """Whether the newest of any layer is one that did not hold."""
        return bool(self._shelf.state.reverted)

    def _check(self, layer: LayerName, document: Document) -> None:
        problems: list[Problem] = []
        for name, value in document.doc.items():
            if name not in self._rules:
                shown = printable(name, 60)
                problems.append(Problem(f"doc.{shown}", f"unknown rule; known here: {', '.join(sorted(self._rules))}"))
                continue
            try:
                build(self._rules[name].schema, value, f"doc.{name}")
            except Invalid as error:
                problems += error.problems
        if problems:
            raise invalid(problems)
        try:
            self._parts_with(layer, document)
        except Invalid as error:
            raise invalid(error.problems) from error

    def _check_loosening(self, layer: LayerName, judged: Judged, threshold: int) -> None:
        before, after = self.parts(), self._parts_with(layer, judged.document)
        for name in self._floor.bounds:
            if self._is_beyond(name, after[name][1]):
                raise Refusal("below-floor", f"doc.{name}", f"the image's floor forbids to loosen {name} so far")
        loosened = [name for name, rule in self._rules.items() if rule.looser(before[name][1], after[name][1])]
        if loosened and len(judged.signers) < threshold:
            raise Refusal(
                "not-enough-signatures",
                f"doc.{loosened[0]}",
                f"it loosens {', '.join(loosened)}: {len(judged.signers)} of {threshold} signatures that are needed",
            )

    # --- what is in force ---

    def parts(self) -> Parts:
        """The effective policy. Where a kept document can no longer be read, the floor's counts for all: locked."""
        documents = {} if self._shelf.damaged() else {layer: document.doc for layer, document in self._shelf.documents().items()}
        floors = parts_of({}, self._floor, self._rules)
        try:
            parts = parts_of(documents, self._floor, self._rules)
        except Invalid:  # kept by a version that knew other rules
            return floors
        # Accepted under the floor of an older image.
        return {name: floors[name] if self._is_beyond(name, part[1]) else part for name, part in parts.items()}

    def _is_beyond(self, name: str, part: Any) -> bool:
        rule, bound = self._rules[name], self._floor.bounds.get(name)
        return bound is not None and (rule.beyond or rule.looser)(build(rule.schema, bound), part)

    def _parts_with(self, layer: LayerName, document: Document) -> Parts:
        documents = {other: kept.doc for other, kept in self._shelf.documents().items()}
        return parts_of({**documents, layer: document.doc}, self._floor, self._rules)

    # --- apply and measure ---

    def apply(self) -> Applied:
        """Bring the machine there. What one rule cannot do keeps no other from being applied."""
        applied = Applied({}, {})
        for name, (_, part) in self.parts().items():
            self._apply(name, part, applied)
        return applied

    def _apply(self, name: str, part: Any, applied: Applied) -> None:
        try:
            self._rules[name].apply(self._machine, self.place, part)
        except Later as later:
            applied.later[name] = printable(later.detail, 200)
        except Exception as error:  # noqa: BLE001 - a bug in one rule must not leave the booth open in the others
            if self._measure(name, part).state != "not-applicable":
                applied.failed[name] = printable(str(error) or type(error).__name__, 200)

    def measure(self) -> dict[str, Measured]:
        return {name: self._measure(name, part) for name, (_, part) in self.parts().items()}

    def _measure(self, name: str, part: Any) -> Measured:
        try:
            return self._rules[name].measure(self._machine, self.place, part)
        except Exception as error:  # noqa: BLE001 - as above: what cannot be measured is not as it should be
            return Measured("violated", printable(f"it cannot be measured: {str(error) or type(error).__name__}", 200))

    def correct(self) -> tuple[list[str], Applied]:
        """Apply what is not as it should be. Returns the rules that were found so, and what could not be done about them."""
        violated = [name for name, seen in self.measure().items() if seen.state == "violated"]
        parts, applied = self.parts(), Applied({}, {})
        for name in violated:
            self._apply(name, parts[name][1], applied)
        return violated, applied

    def undo(self) -> dict[str, str]:
        """Take every rule off the machine. Returns what could not be done, by rule."""
        failed = {}
        for name, rule in self._rules.items():
            try:
                rule.undo(self._machine, self.place)
            except Exception as error:  # noqa: BLE001 - as above: what can be undone is
                failed[name] = printable(str(error) or type(error).__name__, 200)
        return failed

    def changes(self) -> dict[str, datetime]:
        """The next local time at which a rule does something else by itself."""
        parts = self.parts()
        moments = {name: rule.next_change(self.place, parts[name][1]) for name, rule in self._rules.items()}
        return {name: moment for name, moment in moments.items() if moment is not None}

    def report(self, status: ReportedStatus, measured: Mapping[str, Measured]) -> PolicyReported:
        parts = self.parts()
        values = {name: plain(part) for name, (_, part) in parts.items()}
        ends = good_until(self._shelf.documents().values())
        if status == "applied" and ends is not None and ends < self.now:
            status = "stale"
        errors = [*(error for of_layer in self.errors.values() for error in of_layer)]
        for layer in self._shelf.damaged():
            refusal = Refusal("bad-envelope", "", "what was accepted can no longer be read: locked until it arrives again")
            errors += errors_of(layer, refusal)
        return PolicyReported(
            status,
            revisions(self._shelf),
            effective_sha256(values),
            {name: {"status": "applied", "layer": origin, "value": values[name]} for name, (origin, _) in parts.items()},
            errors,
            self.now,
            {name: RuleReported(seen.state, self.now, seen.detail) for name, seen in measured.items()},
        )
