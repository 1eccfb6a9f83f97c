"""`boothctl why BOOTH`: what is wrong with a booth, since when, what was tried, and what to bring. From retained topics alone."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from agent.boothctl import why_page
from agent.boothctl.connection import broker_options, hear_retained, online
from agent.boothctl.seeing import WHAT_IS_SEEN, local_time
from agent.boothctl.terminal import EXIT_DONE, EXIT_NO_ANSWER, Failed, show
from agent.boothctl.words import booth_id
from agent.contract.command import CommandStatus
from agent.contract.decode import decode_object
from agent.contract.messages import Incoming
from agent.contract.topics import PREFIX, Topic
from agent.contract.typed import build, plain
from agent.rules.fleet import BoothPicture, Fleet
from agent.rules.hours import is_open
from agent.system.broker import BrokerAddress
from agent.ticket.phone_codes import phone_code

_NEWEST: Final = 10  # commands
_WORST_FIRST: Final = ("fault", "warning")


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong. `phone_code`: how the booth's ticket calls it, such as "P12". `seen`: it stands in the booth's
    health now; `alarm`: it has been told as an alarm. Text, part and what was tried are the alarm's, and None where there is
    none yet."""

    peripheral: str
    code: str
    phone_code: str | None
    severity: str
    fix_by: str
    since: str
    seen: bool
    alarm: bool
    detail: dict[str, Any]
    runbook: str
    services: list[str] | None
    tried: list[dict[str, Any]] | None
    part: str | None
    text: dict[str, str] | None
    healing: dict[str, Any] | None


@dataclass(frozen=True)
class Answer:
    """`current`: the booth is there; else all of it is what it said last. `open`: whether its opening hours say so now.
    `maintenance`: somebody works at it; `maintenance_until` where the command that began it still tells. `commands`: the
    newest of the `commands_known`."""

    area: str
    booth: str
    state: str
    since: str | None
    agent: str | None
    clock: str | None
    open: bool
    current: bool
    light: str | None
    services: dict[str, str]
    maintenance: bool
    maintenance_until: str | None
    wrong: list[Trouble]
    unknown: list[str]
    checked: dict[str, str | None]
    commands: list[dict[str, Any]] = field(default_factory=list)
    commands_known: int = 0


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser) -> None:
    parser = acts.add_parser("why", parents=[broker_options(), json_option], help="what is wrong with a booth, and what to do")
    parser.add_argument("booth", type=booth_id, metavar="BOOTH")
    parser.set_defaults(act=online(_why))


async def _why(options: argparse.Namespace, address: BrokerAddress) -> int:
    fleet = Fleet()
    commands: dict[str, CommandStatus] = {}

    def take(message: Incoming) -> None:
        topic = Topic.parse(message.topic)
        if topic is not None and topic.kind == "cmd-status":
            _take_command(commands, topic, message.payload)
        else:
            fleet.take(message.topic, message.payload)

    root = f"{PREFIX}/+/{options.booth}"
    topics = [f"{root}/{what}" for what in (*WHAT_IS_SEEN, "cmd/+/+/status")]
    await hear_retained(address, topics, take, options.wait)
    booth = fleet.booths.get(options.booth)
    if booth is None:
        raise Failed(f"no message of a booth {options.booth!r} on this broker", status=EXIT_NO_ANSWER)
    found = answer(booth, commands.values())
    show(options, asdict(found), lambda: why_page.page(asdict(found), local_time("UTC")))
    return EXIT_DONE


def _take_command(commands: dict[str, CommandStatus], topic: Topic, payload: bytes) -> None:
    try:
        status = build(CommandStatus, decode_object(payload), unknown="ignore")
    except ValueError:  # a booth may be anybody
        return
    if topic.names == (status.verb, status.id):
        commands[status.id] = status


def answer(booth: BoothPicture, commands: Any) -> Answer:
    """What the messages of one booth say together."""
    state = booth.state
    newest = sorted(commands, key=lambda status: status.at, reverse=True)
    said = {**state.get("services", {}), **booth.said_services}
    maintenance = booth.word in ("starting", "online") and "maintenance" in said.values()
    return Answer(
        area=booth.area,
        booth=booth.booth,
        state=booth.word,
        since=state.get("since"),
        agent=state.get("agent"),
        clock=state.get("clock"),
        open=is_open(booth.hours, local_time(booth.hours.tz)),
        current=booth.word in ("starting", "online"),
        light=booth.light or None,
        services=booth.services or state.get("services", {}),
        maintenance=maintenance,
        maintenance_until=_until(newest) if maintenance else None,
        wrong=sorted(_troubles(booth), key=lambda one: (_WORST_FIRST.index(one.severity), one.since, one.peripheral, one.code)),
        unknown=sorted(name for name, health in booth.health.items() if health["status"] == "unknown"),
        checked={name: booth.health[name]["checked_at"] for name in sorted(booth.health)},
        commands=[plain(status) for status in newest[:_NEWEST]],
        commands_known=len(newest),
    )


def _until(newest: list[CommandStatus]) -> str | None:
    done = (status.result or {} for status in newest if status.verb == "maintenance" and status.state == "succeeded")
    last = next(done, {})
    until = last.get("until")
    return until if last.get("on") is True and isinstance(until, str) else None


def _troubles(booth: BoothPicture) -> Iterator[Trouble]:
    """What health says, and what stands as an alarm: one may be there before the other, and after it."""
    findings = {
        (name, finding["code"]): finding
        for name, health in booth.health.items()
        for finding in health["findings"]
        if finding["severity"] in _WORST_FIRST
    }
    for name, code in findings.keys() | booth.alarms.keys():
        finding, alarm = findings.get((name, code)), booth.alarms.get((name, code))
        said: Mapping[str, Any] = finding or alarm or {}
        health = booth.health.get(name, {})
        if said["severity"] not in _WORST_FIRST:
            continue
        runbook = alarm["runbook"] if alarm else f"{health['kind']}/{code}"
        yield Trouble(
            peripheral=name,
            code=code,
            phone_code=phone_code(health.get("kind") or runbook.partition("/")[0], code),
            severity=said["severity"],
            fix_by=said["fix_by"],
            since=said["since"],
            seen=finding is not None,
            alarm=alarm is not None,
            detail=finding["detail"] if finding else {},
            runbook=runbook,
            services=alarm["services"] if alarm else None,
            tried=alarm["tried"] if alarm else None,
            part=alarm["part"] if alarm else None,
            text=alarm["text"] if alarm else None,
            healing=health.get("healing"),
        )
