"""Commands about the booth as a whole: find it, tell what is wrong with it."""

from dataclasses import dataclass
from typing import Annotated, Final

from agent.contract.command import CommandId
from agent.contract.typed import Range
from agent.verbs.declaration import Asked, Controls, Limit, NotDone, Nothing, Result, Verb


@dataclass(frozen=True)
class Locate:
    """0 ends it."""

    duration_s: Annotated[int, Range(0, 300)] = 60


@dataclass(frozen=True)
class Diagnostics:
    """`max_bytes` of the bundle, compressed."""

    max_bytes: Annotated[int, Range(4096, 4 * 1024 * 1024)] = 256 * 1024


@dataclass(frozen=True)
class Cancel:
    id: CommandId


async def _locate(args: Locate, booth: Controls, _asked: Asked) -> Result:
    return booth.locate(args.duration_s)


async def _ticket(_args: Nothing, booth: Controls, _asked: Asked) -> Result:
    return await booth.ticket()


async def _diagnostics(args: Diagnostics, booth: Controls, asked: Asked) -> Result:
    return await booth.diagnostics(asked.id, args.max_bytes, asked.heard)


async def _cancel(args: Cancel, _booth: Controls, asked: Asked) -> Result:
    state = asked.cancel(args.id)
    if state is None:
        raise NotDone(f"no command {args.id} is known here", "bad-args")
    if state != "cancelled":
        raise NotDone(f"it is too late: the command is {state}", None, state=state)
    return {"id": args.id, "state": state}


VERBS: Final = (
    Verb("locate", "the light shows repérage, so that the booth is found", Locate, _locate),
    Verb(
        "ticket", "the French status ticket, on the receipt printer", Nothing, _ticket,
        deadline_s=50.0, idle_only=True, limit=Limit(3, 600.0), ability="ticket",
    ),
    Verb(
        "diagnostics", "a redacted bundle, in chunks beside the status", Diagnostics, _diagnostics,
        deadline_s=1800.0, cancellable=True, limit=Limit(10, 3600.0),
    ),
    Verb("cancel", "ends a command that waits, or that may be ended", Cancel, _cancel, technician=True),
)  # fmt: skip
