"""What `update/reported` says of what root did: one section for each kind, and above them the one that is not at rest."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from agent.contract.documents import DocumentError, ReportedStatus, UpdatePhase, UpdateReported
from agent.documents.report import effective_sha256, good_until, revisions
from agent.documents.shelf import Shelf
from agent.privileged.progress import UNDER_TRIAL, Progress
from agent.privileged.releases import Release
from agent.privileged.update_orders import Wanted

_RANKED: Final[tuple[ReportedStatus, ...]] = ("applying", "pending", "reverted", "drifted")


def section_of(in_use: Release | None, progress: Progress | None, wanted: Wanted | None, *, at_rest: bool) -> dict[str, Any]:
    """`version` is in use; `from`, `to`, `phase` and `reason` are those of what is under way, or of how that ended which is still
    wanted. `at_rest`: nothing is to be done for it now."""
    version = None if in_use is None else in_use.version
    section: dict[str, Any] = {"version": version, "from": version, "to": None, "phase": "idle", "reason": None}
    if progress is not None and _is_about(progress, wanted):
        section |= {"from": progress.before, "to": progress.version, "phase": progress.phase, "reason": progress.reason}
    elif wanted is not None:
        section |= {"to": wanted.version, "phase": "downloading"}
    return {"status": _status_of(section["phase"], at_rest=at_rest)} | section


def report(
    sections: Mapping[str, Mapping[str, Any]], progress: Mapping[str, Progress], shelf: Shelf, errors: Sequence[DocumentError],
    values: Mapping[str, Any], now: str,
) -> UpdateReported:  # fmt: skip
    """`values`: the effective document."""
    busy = [name for name in sections if sections[name]["status"] != "applied"]
    done = [name for name in sections if sections[name]["phase"] != "idle"]
    shown = next(iter((*busy, *done, *sections)), None)
    chosen: Mapping[str, Any] = {} if shown is None else sections[shown]
    words = {section["status"] for section in sections.values()}
    status = "rejected" if errors else next((word for word in _RANKED if word in words), None)
    if status is None:
        until = good_until(shelf.documents().values())
        status = "stale" if until is not None and until < now else "applied"
    return UpdateReported(
        status=status,
        layers=revisions(shelf),
        effective_sha256=effective_sha256(values) if values else None,
        sections={name: dict(section) for name, section in sections.items()},
        errors=list(errors),
        at=now,
        from_=chosen.get("from"),
        to=chosen.get("to"),
        phase=chosen.get("phase", "idle"),
        attempt=0 if shown is None else _attempt(chosen, progress.get(shown)),
        reason=chosen.get("reason"),
    )


def _is_about(progress: Progress, wanted: Wanted | None) -> bool:
    """Whether what was done last is what is to be told: not once the operator wants something else, or the same anew."""
    if progress.phase in ("installing", *UNDER_TRIAL):
        return True
    if wanted is None:
        return progress.phase == "committed"
    ended = progress.phase in ("failed", "rolled-back", "committed")
    return progress.sha256 == wanted.artifact.sha256 and (progress.by == wanted.by or not ended)


def _attempt(section: Mapping[str, Any], progress: Progress | None) -> int:
    """Of what is shown, and not of another file before it."""
    return 0 if progress is None or progress.phase != section["phase"] else progress.attempt


def _status_of(phase: UpdatePhase, *, at_rest: bool) -> Literal["applied", "applying", "pending", "reverted"]:
    if phase in ("idle", "committed"):
        return "applied"
    if phase in ("installing", *UNDER_TRIAL):
        return "applying"
    return "reverted" if phase in ("failed", "rolled-back") and at_rest else "pending"
