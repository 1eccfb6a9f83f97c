"""What a command verb declares, and what it may ask of the booth."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from agent.contract.command import Reason
from agent.contract.typed import Json, schema

Result = dict[str, Any]
WITHIN_S: Final = 20.0  # the deadline of a verb that says nothing of it

Heard = Callable[[str, int | None], None]
"""Is told how far a command is: a step in a word, and per cent where that is known."""


class NotDone(Exception):
    """A command that was begun and failed. `reason` where the contract has a word; `result` says what to do."""

    def __init__(self, message: str, reason: Reason | None = None, **result: Any) -> None:
        super().__init__(message)
        self.reason = reason
        self.result: Result = {"message": message, **result}


class Controls(Protocol):
    """The booth, as far as a command may use it. What cannot be done raises `NotDone`."""

    def able(self, ability: str) -> tuple[str, ...]:
        """The names of the peripherals that a verb of this name can be asked for."""

    async def probe(self, peripheral: str) -> Result:
        """A fresh reading, and what is believed since."""

    async def self_test(self, peripherals: tuple[str, ...], heard: Heard) -> Result:
        """Each used for real, all at once. Those that a citizen uses are left alone."""

    async def test(self, ability: str, peripheral: str) -> Result:
        """One of the tests that the peripheral declares."""

    def has_remedy(self, peripheral: str, remedy: str | None) -> None:
        """Raises NotDone where that rung is none of its ladder's."""

    async def heal(self, peripheral: str, remedy: str | None, heard: Heard) -> Result:
        """Its ladder, or one rung of it. A citizen goes first, between two rungs too."""

    async def purge(self, peripheral: str) -> Result:
        """Every document that it holds is cancelled and forgotten."""

    async def accept_device(self, peripheral: str) -> Result:
        """The device that is plugged in at its place becomes the expected one."""

    async def ticket(self) -> Result:
        """The status ticket, on the receipt printer."""

    async def diagnostics(self, id_: str, max_bytes: int, heard: Heard) -> Result:
        """A redacted bundle, in chunks, to the topics of command `id_`."""

    def locate(self, for_s: float) -> Result:
        """The light shows where the booth is; 0 ends that."""

    def maintain(self, for_s: float) -> Result:
        """Somebody works at the booth: nothing is healed, nothing alarms; 0 ends that."""

    def has_to_restart(self, what: str) -> None:
        """Raises NotDone where this booth has nothing of that kind."""

    async def restart(self, what: str) -> Result:
        """The agent, cups, the network or the browser."""

    async def reboot(self) -> Result:
        """Ends with the machine."""


Run = Callable[[Any, Controls, "Asked"], Awaitable[Result]]


@dataclass(frozen=True)
class Asked:
    """One command that is being done. `cancel(id)` ends another one and says what state that has then; None where there is
    no such command."""

    id: str
    heard: Heard
    cancel: Callable[[str], str | None]


@dataclass(frozen=True)
class Limit:
    """At most `times` within `within_s`; across restarts."""

    times: int
    within_s: float


@dataclass(frozen=True)
class Verb:
    """A command. `args` is the dataclass of its arguments: one named `peripheral` or `peripherals` names some of `ability`;
    a field's metadata may have `meaning`, where its type does not tell what to write.

    `does` is for a reader. `technician`: it has to be signed, or to carry the code of a ticket. `idle_only`: never while a
    citizen uses the booth; the session lock is held while it runs, but for one that `takes_turns` with citizens by itself.
    `cancellable`: it may be ended in the middle. `after_restart`: whether it is done once the agent has started again, in the
    same boot or in another; None where an agent's end interrupts it. `ability`: some peripheral must have it.
    `check(args, booth)` raises NotDone, before it is taken, where this booth cannot do what is asked.
    """

    name: str
    does: str
    args: type
    run: Run
    deadline_s: float = WITHIN_S
    technician: bool = False
    idle_only: bool = False
    takes_turns: bool = False
    cancellable: bool = False
    limit: Limit | None = None
    ability: str | None = None
    after_restart: "Callable[[Mapping[str, Any], bool], bool] | None" = None
    check: Callable[[Any, Controls], None] | None = None

    @property
    def kind(self) -> Literal["harmless", "idle only", "technician", "technician, idle only"]:
        if self.technician:
            return "technician, idle only" if self.idle_only else "technician"
        return "idle only" if self.idle_only else "harmless"

    def schema(self) -> Json:
        """What `B/meta` says of it: the JSON Schema of its arguments, with who may ask and how often."""
        limit = {} if self.limit is None else {"x-limit": {"times": self.limit.times, "within_s": self.limit.within_s}}
        return schema(self.args) | {"description": self.does, "x-kind": self.kind} | limit


@dataclass(frozen=True)
class Nothing:
    """No arguments."""
