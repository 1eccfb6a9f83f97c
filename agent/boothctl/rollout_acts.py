"""`boothctl update rollout`: a version in waves over the fleet, with a halt where they go wrong."""

import argparse
import asyncio
import signal
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from agent.boothctl import rollout_state
from agent.boothctl.connection import broker_options, connect, online
from agent.boothctl.envelopes import read_input
from agent.boothctl.local_checks import problems_of
from agent.boothctl.push_acts import keeping_options, signed_for
from agent.boothctl.rollout_desk import FLEET, Desk
from agent.boothctl.rollout_line import SETTLED_S, Line
from agent.boothctl.rollout_run import Rollout
from agent.boothctl.rollout_sight import KIND, Sight
from agent.boothctl.rollout_state import RolloutState
from agent.boothctl.rollout_words import Telling
from agent.boothctl.seeing import local_time
from agent.boothctl.sign_acts import keys_of
from agent.boothctl.terminal import EXIT_DONE, EXIT_FAILED, EXIT_NO_ANSWER, EXIT_USAGE, Failed, note, read_file, refused, usage
from agent.boothctl.words import revision
from agent.contract.documents import Refusal, invalid
from agent.contract.state import Hours
from agent.contract.typed import Invalid, build
from agent.rules.hours import is_open
from agent.rules.layers import audience_of
from agent.rules.rollout import Limits
from agent.rules.waves import Choice, waves
from agent.system.broker import BrokerAddress
from agent.updates import kinds

_HOURS_FOR_S: Final = 1.0  # so long is an answer good whether a booth is open

# Each is a key of the plan as well: of [waves] down to second_pct, of [limits] below.
_OPTIONS: Final[dict[str, tuple[str, type[Any], str]]] = {
    "laboratory": ("--laboratory", list, "a booth of the laboratory, once for each; they come first"),
    "canaries": ("--canaries", int, "how many booths come next (default 3)"),
    "first_pct": ("--first-pct", float, "then so many per cent of the fleet (default 5)"),
    "area": ("--area", str, "then this area as a whole; any, if none is named"),
    "second_pct": ("--second-pct", float, "then so many per cent of the fleet, before all (default 25)"),
    "tried": ("--halt-on-tried", int, "halt when so many booths have tried (default 5) …"),
    "failed_pct": ("--halt-on-failed-pct", float, "… and more per cent than this have failed (default 10)"),
    "fallen_points": ("--halt-on-fallen-points", float, "halt when availability has lost more points than this (default 2) …"),
    "fallen_s": ("--halt-on-fallen-s", float, "… for so many seconds (default 60)"),
    "vanished_s": ("--halt-on-vanished-s", float, "a booth lost for so long in its opening hours has vanished (default 300)"),
    "enough_pct": ("--enough-pct", float, "a wave proves something when this share of it has the version (default 50)"),
    "patience_s": ("--wave-patience-s", float, "wait so long for a wave's booths that are away (default 86400)"),
    "pause_s": ("--pause-s", float, "watch a wave for so long before the next one (default 3600)"),
}


@dataclass(frozen=True)
class Plan:
    """A plan in a file: what its options say, in two tables."""

    waves: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)


def add_to(about: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser) -> None:
    parser = about.add_parser(
        "rollout", parents=[broker_options(), json_option], help="a version in waves, which halts by itself"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a doc with what is rolled out, such as publish -o writes")
    parser.add_argument(
        "--key", action="append", default=[], type=Path, metavar="KEY", help="a signing key, once for each signer"
    )
    keeping_options(parser)
    parser.add_argument("--epoch", type=revision, metavar="N|auto", help="that of the trust list; auto asks the broker")
    parser.add_argument("--section", metavar="NAME", help="which one of FILE, if it has several")
    parser.add_argument("--plan", type=Path, metavar="PLAN", help="tables [waves] and [limits], in TOML; options count more")
    parser.add_argument("--state", type=Path, metavar="FILE", help="how far it is (default rollout-SECTION-VERSION.json)")
    parser.add_argument("--also-pinned", action="store_true", help="booths and areas too whose own documents name a version")
    parser.add_argument(
        "--every", type=float, default=10.0, metavar="SECONDS", help="between two lines about one wave (default 10)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say the plan, and publish nothing")
    parser.add_argument("--go-on", action="store_true", help="after a halt: what led to it does not count any more")
    parser.add_argument("--withdraw", action="store_true", help="take it back from the booths told that have not got it")
    for name, (option, type_, text) in _OPTIONS.items():
        if type_ is list:
            parser.add_argument(option, dest=name, action="append", metavar="BOOTH", help=text)
        else:
            parser.add_argument(option, dest=name, type=type_, metavar="AREA" if type_ is str else "N", help=text)
    parser.set_defaults(act=online(_rollout), kind=KIND)


async def _rollout(options: argparse.Namespace, address: BrokerAddress) -> int:
    name, section, version = _wanted(options)
    choice, limits = _plan(options)
    keys = keys_of(options)
    if not (keys or options.dry_run):
        raise usage("each wave is signed: give --key, or --dry-run")
    file = options.state or Path(f"rollout-{name}-{version}.json")
    telling = Telling(limits, options.json, options.every)
    sight = Sight(name, _open_now(), signed_for(options, keys))
    desk = Desk(sight, section, keys, options.epoch, options.keep_rev)
    with nullcontext() if options.dry_run else rollout_state.alone(file):
        state = rollout_state.load(file)
        if state is not None:
            _check(options, state, file, section)
            if state.finished:
                telling.line("finished", f"{name} {version} has been rolled out")
                return EXIT_DONE
        async with Line(address, sight) as line:
            await connect(line, address, options.wait)
            await line.settled(SETTLED_S)
            if state is None:
                state = _new(options, RolloutState(1, name, version, section, ()), choice, sight, desk)
            telling.plan(state, desk.next_rev(FLEET.topic), desk.epoch)
            if options.dry_run:
                return EXIT_DONE
            if not options.withdraw:
                desk.others(FLEET.topic)  # what may not stay there is said now, and not after days, in the last wave
            rollout_state.save(file, state)
            return await _run(options, Rollout(file, state, sight, desk, line, limits, telling, options.wait), state)


async def _run(options: argparse.Namespace, rollout: Rollout, state: RolloutState) -> int:
    if options.withdraw:
        note(f"withdrawn: {await rollout.withdraw()} documents name it no more")
        if FLEET.topic in state.written:
            note("the fleet's document still does: push the one before it with boothctl update push")
        return EXIT_DONE
    if options.go_on:
        rollout.go_on()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    end = await rollout.run(stop)
    if end == "halted":
        note("halted: nobody else is told. Look at the booths; then --go-on, or --withdraw")
    elif end == "stopped":
        note("stopped: run the same again to go on")
    return EXIT_DONE if end == "finished" else EXIT_FAILED


def _wanted(options: argparse.Namespace) -> tuple[str, dict[str, Any], str]:
    """The section to be rolled out: its name, itself, its version."""
    try:
        doc = read_input(options.file).doc()
        if options.section is None and len(doc) != 1:
            raise usage(
                f"{options.file} has {', '.join(doc) or 'nothing'}: name one with --section; each has a rollout of its own"
            )
        name = options.section or next(iter(doc))
        if name not in doc:
            raise Failed(f"{options.file} has no section {name!r}")
        if problems := problems_of(KIND, {name: doc[name]}):
            raise invalid(problems)
    except Refusal as refusal:
        raise refused(refusal, options.file) from refusal
    kind = kinds()[name]
    return name, doc[name], kind.version(build(kind.section, doc[name]))


def _plan(options: argparse.Namespace) -> tuple[Choice, Limits]:
    """What the file of the plan says, and over it the options. Raises `Failed` with every problem."""
    try:
        plan = Plan() if options.plan is None else build(Plan, tomllib.loads(read_file(options.plan).decode()))
    except (Invalid, ValueError) as error:  # ValueError: no TOML, or no UTF-8
        raise Failed(f"{options.plan}: {error}") from error
    problems: list[str] = []
    built: list[Any] = []
    for type_, table in ((Choice, plan.waves), (Limits, plan.limits)):
        given = {one.name: value for one in fields(type_) if (value := getattr(options, one.name)) is not None}
        try:
            built.append(build(type_, table | given))
        except Invalid as error:
            problems += [f"the plan: {problem}" for problem in error.problems]
    if problems:
        raise Failed(*problems, status=EXIT_USAGE)
    if not built[0].laboratory:
        raise usage("no wave comes before the laboratory's: name its booths with --laboratory, or in the plan")
    return built[0], built[1]


def _new(options: argparse.Namespace, state: RolloutState, choice: Choice, sight: Sight, desk: Desk) -> RolloutState:
    """Divide the fleet that is seen now into waves."""
    if not sight.booths:
        raise Failed("no booth has said anything on this broker", status=EXIT_NO_ANSWER)
    named = sorted(root for root in sight.lying if root != FLEET.topic and desk.names(root))
    # What names this very version already is the rollout's as well: else it would hide the next one.
    pins = [root for root in named if not desk.carries(root)]
    state.shadows = named if options.also_pinned else [root for root in named if root not in pins]
    if not options.also_pinned:
        state.left_alone = {
            name: root
            for name, booth in sorted(sight.booths.items())
            for root in (audience_of("area", booth.area, name), audience_of("booth", booth.area, name))
            if root in pins
        }
    booths = {name: booth.area for name, booth in sight.booths.items() if name not in state.left_alone}
    unknown = [name for name in choice.laboratory if name not in booths]
    if choice.area is not None and choice.area not in booths.values():
        unknown.append(f"area {choice.area}")
    if unknown:
        raise Failed(*(f"{name}: not on this broker, or kept out by a document of its own" for name in unknown))
    there = {name for name, booth in sight.booths.items() if booth.word == "online"}
    state.waves = waves(booths, choice, state.version, there)
    return state


def _check(options: argparse.Namespace, state: RolloutState, file: Path, section: Mapping[str, Any]) -> None:
    if state.section != section:
        raise Failed(f"{file} is of another rollout, of {state.kind} {state.version}: name another with --state")
    if state.halted and not (options.go_on or options.withdraw or options.dry_run):
        raise Failed(f"halted in wave {state.wave.name}: {state.halted}", "look at the booths; then --go-on, or --withdraw")


def _open_now() -> Callable[[Hours], bool]:
    """Whether a booth with these hours is open. Many booths have the same, and it is asked at each message."""
    known: dict[int, tuple[Hours, float, bool]] = {}

    def open_now(hours: Hours) -> bool:
        found = known.get(id(hours))
        if found is None or time.monotonic() - found[1] > _HOURS_FOR_S:
            found = known[id(hours)] = (hours, time.monotonic(), is_open(hours, local_time(hours.tz)))
        return found[2]

    return open_now
