"""What the daemon and root say to each other about updates, a line of JSON each way."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from agent.contract.documents import LayerName, UpdateReported
from agent.contract.typed import Range
from agent.contract.update import Window

Todo = Literal["fetch", "switch", "prove"]


@dataclass(frozen=True)
class Request:
    """`take`: an envelope of `bytes` follows the line. `stage`: what is wanted of `kind` was fetched. `switch`: now is the
    moment. `healthy`: the one on trial, which is `version`, has proved itself; `online`, at its broker too."""

    act: Literal["take", "status", "stage", "switch", "healthy"]
    layer: LayerName = "fleet"
    bytes: Annotated[int, Range(0, 2**31)] = 0
    kind: str = ""
    version: str = ""
    online: bool = False


@dataclass(frozen=True)
class Task:
    """What is to be done next for one kind: fetch the file, switch when its window comes (`laid_in_boot`: the boot in which it
    was made ready), or prove itself."""

    kind: str
    todo: Todo
    version: str
    url: str
    size_bytes: int
    sha256: str
    window: Window | None = None
    laid_in_boot: str | None = None


@dataclass(frozen=True)
class Answer:
    """`reported`: what `B/update/reported` says. `event`: what a document that was just taken led to. `last`: root says no more;
    before that, how far it is."""

    reported: UpdateReported
    tasks: list[Task] = field(default_factory=list)
    event: str | None = None
    last: bool = True

    @property
    def sections(self) -> dict[str, Any]:
        """Of each kind: its section of the report."""
        return self.reported.sections
