"""`boothctl tour`: which booths a technician has to go to, why, and what to bring. From retained topics alone."""

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from agent.boothctl.connection import broker_options, online
from agent.boothctl.pages import columns
from agent.boothctl.seeing import local_time, retained
from agent.boothctl.terminal import EXIT_DONE, show
from agent.boothctl.words import area
from agent.contract.words import printable
from agent.rules.fleet import BoothPicture
from agent.system.broker import BrokerAddress
from agent.ticket.phone_codes import phone_code

_TAKEN: Final = ("code", "severity", "fix_by", "since", "part", "tried", "runbook", "text")


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser) -> None:
    parser = acts.add_parser(
        "tour", parents=[broker_options("--key"), json_option], help="the visits that are due, and the parts to bring"
    )
    parser.add_argument("--area", type=area, help="only this area")
    parser.set_defaults(act=online(_tour))


async def _tour(options: argparse.Namespace, address: BrokerAddress) -> int:
    fleet = await retained(options, address, options.area or "+", "+")
    stops = sorted(map(_stop, filter(is_visited, fleet.sorted())), key=_urgency)
    tour = {"stops": stops, "parts": parts(stops)}
    show(options, tour, lambda: _page(tour))
    return EXIT_DONE


def is_visited(booth: BoothPicture) -> bool:
    """A technician's alarm stands there, or it went dark in its opening hours: nobody knows why from afar."""
    return is_dark(booth) or any(alarm["fix_by"] == "technician" for alarm in booth.alarms.values())


def is_dark(booth: BoothPicture) -> bool:
    """It went dark in its opening hours."""
    return booth.word == "lost" and booth.is_red(local_time(booth.hours.tz))


def _stop(booth: BoothPicture) -> dict[str, Any]:
    """Whoever is there sees to all that stands, worst first."""
    alarms = [
        {"peripheral": peripheral, "phone_code": phone_code(alarm["runbook"].partition("/")[0], code)}
        | {key: alarm[key] for key in _TAKEN}
        for (peripheral, code), alarm in booth.alarms.items()
    ]
    alarms.sort(key=lambda alarm: (alarm["severity"] != "fault", alarm["since"], alarm["peripheral"], alarm["code"]))
    dark = is_dark(booth)
    since = [str(booth.state.get("since", ""))] if dark else []
    return {
        "area": booth.area,
        "booth": booth.booth,
        "state": booth.word,
        "dark": dark,
        "since": min([*since, *(alarm["since"] for alarm in alarms)]),
        "alarms": alarms,
    }


def _urgency(stop: dict[str, Any]) -> tuple[Any, ...]:
    """Area by area: what does not work before what only will not for long, and the oldest first."""
    works = all(alarm["severity"] != "fault" for alarm in stop["alarms"]) and not stop["dark"]
    return stop["area"], works, stop["since"], stop["booth"]


def parts(stops: list[dict[str, Any]]) -> dict[str, int]:
    """What to bring on the way, and how many of each: one for each booth that needs it."""
    return dict(sorted(Counter(part for stop in stops for part in {a["part"] for a in stop["alarms"]} - {None}).items()))


def _page(tour: dict[str, Any]) -> str:
    if not tour["stops"]:
        return "no visit is due"
    rows: list[tuple[str, ...]] = [("AREA", "BOOTH", "STATE", "SINCE", "WHAT", "CODE", "FIX BY", "BRING")]
    for stop in tour["stops"]:
        rows += _lines(stop)
    bring = [f"{count} × {printable(part)}" for part, count in tour["parts"].items()]
    return "\n".join([columns(rows), "", f"{len(tour['stops'])} to visit; bring {', '.join(bring) or 'nothing in particular'}"])


def _lines(stop: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    who = (stop["area"], stop["booth"], stop["state"])
    if stop["dark"]:
        yield (*who, stop["since"], "dark in its opening hours", "–", "technician", "–")
        who = ("", "", "")
    for alarm in stop["alarms"]:
        what = f"{alarm['peripheral']}/{alarm['code']}"
        yield (*who, alarm["since"], what, alarm["phone_code"] or "–", alarm["fix_by"], printable(alarm["part"] or "–"))
        who = ("", "", "")
