"""How far an update is, as root stores it before each step."""

from dataclasses import dataclass
from typing import Final

from agent.contract.documents import UpdatePhase
from agent.privileged.releases import SlotName

UNDER_TRIAL: Final = ("switching", "verifying", "rolling-back")
# Tried again without a new document.
PASSING: Final = frozenset({"disk-full", "disk-failed", "wrong-hash", "not-fetched", "cut-off"})


@dataclass(frozen=True)
class Progress:
    """How far one kind is with one file. `slot`: where it is laid out. `by`: the layer's revision that asked for it; what has
    failed is not tried again until another one does. `before`: the version in use when it began. `tries`: starts that it still
    has. `laid_in_boot`: the boot in which it was made ready."""

    phase: UpdatePhase
    version: str
    sha256: str
    by: str
    slot: SlotName
    before: str | None = None
    tries: int = 0
    attempt: int = 1
    reason: str | None = None
    laid_in_boot: str | None = None
