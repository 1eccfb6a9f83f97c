"""Commands that mend: a remedy, a purge, a restart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from agent.contract.typed import Range
from agent.contract.words import Name
from agent.verbs.checks import One
from agent.verbs.declaration import Asked, Controls, Limit, Nothing, Result, Verb


@dataclass(frozen=True)
class Heal:
    """`remedy`: one rung of its ladder; without it, the whole ladder."""

    peripheral: Name
    remedy: Name | None = field(default=None, metadata={"meaning": "a remedy of the peripheral's ladder, see docs/healing.md"})


@dataclass(frozen=True)
class Maintenance:
    """`duration_s` counts from now; it ends by itself, and 0 ends it."""

    on: bool
    duration_s: Annotated[int, Range(0, 14_400)] = 3600


@dataclass(frozen=True)
class Restart:
    what: Literal["agent", "cups", "network", "browser"]


async def _heal(args: Heal, booth: Controls, asked: Asked) -> Result:
    return await booth.heal(args.peripheral, args.remedy, asked.heard)


async def _purge_queue(args: One, booth: Controls, _asked: Asked) -> Result:
    return await booth.purge(args.peripheral)


async def _accept_device(args: One, booth: Controls, _asked: Asked) -> Result:
    return await booth.accept_device(args.peripheral)


async def _maintenance(args: Maintenance, booth: Controls, _asked: Asked) -> Result:
    return booth.maintain(args.duration_s if args.on else 0)


async def _restart(args: Restart, booth: Controls, _asked: Asked) -> Result:
    return await booth.restart(args.what)


async def _reboot(_args: Nothing, booth: Controls, _asked: Asked) -> Result:
    return await booth.reboot()


def _agent_is_back(args: Mapping[str, Any], _same_boot: bool) -> bool:
    return args.get("what") == "agent"


def _board_is_back(_args: Mapping[str, Any], same_boot: bool) -> bool:
    return not same_boot


VERBS: Final = (
    Verb(
        "heal", "climbs the peripheral's ladder of remedies now, or does one rung of it", Heal, _heal,
        deadline_s=600.0, idle_only=True, takes_turns=True, limit=Limit(20, 3600.0), ability="heal",
        check=lambda args, booth: booth.has_remedy(args.peripheral, args.remedy),
    ),
    Verb(
        "purge-queue", "cancels and forgets every document that a queue holds", One, _purge_queue,
        deadline_s=45.0, idle_only=True, ability="purge-queue",
    ),
    Verb(
        "accept-device", "another device that was plugged in at its place becomes the expected one", One, _accept_device,
        deadline_s=45.0, technician=True, ability="accept-device",
    ),
    Verb(
        "maintenance", "services say maintenance, nothing is healed and nothing alarms, for as long as somebody works there",
        Maintenance, _maintenance, technician=True,
    ),
    Verb(
        "restart", "starts the agent, the print server, the network or the browser anew", Restart, _restart,
        deadline_s=50.0, idle_only=True, limit=Limit(6, 3600.0), after_restart=_agent_is_back,
        check=lambda args, booth: booth.has_to_restart(args.what),
    ),
    Verb(
        "reboot", "starts the board anew", Nothing, _reboot,
        deadline_s=50.0, technician=True, idle_only=True, limit=Limit(3, 3600.0), after_restart=_board_is_back,
    ),
)  # fmt: skip
