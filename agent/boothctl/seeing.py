"""`boothctl ls | show | watch`: what booths say of themselves."""

import argparse
import asyncio
import json
import signal
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent.boothctl import pages
from agent.boothctl.connection import broker_options, connect, hear_retained, online
from agent.boothctl.gather import Listener
from agent.boothctl.terminal import EXIT_DONE, EXIT_NO_ANSWER, Failed, show
from agent.boothctl.words import area, booth_id
from agent.contract.messages import Incoming
from agent.contract.topics import PREFIX
from agent.rules.fleet import BoothPicture, Fleet, message_line
from agent.system.broker import BrokerAddress

WHAT_IS_SEEN: Final = ("state", "meta", "led", "service/+", "health/+", "alarm/+/+")


def add_to(acts: "argparse._SubParsersAction[argparse.ArgumentParser]", json_option: argparse.ArgumentParser) -> None:
    common = [broker_options("--key"), json_option]
    ls = acts.add_parser("ls", parents=common, help="a line for each booth")
    ls.add_argument("--area", type=area, help="only this area")
    ls.add_argument("--red", action="store_true", help="only booths with a fault, or lost in opening hours")
    ls.set_defaults(act=online(_ls))
    one = acts.add_parser("show", parents=common, help="everything of one booth")
    one.add_argument("booth", type=booth_id)
    one.set_defaults(act=online(_show))
    watch = acts.add_parser("watch", parents=common, help="every message as it comes")
    watch.add_argument("booth", nargs="?", type=booth_id, help="only this one")
    watch.add_argument("--area", type=area, help="only this area")
    watch.set_defaults(act=online(_watch))


async def _ls(options: argparse.Namespace, address: BrokerAddress) -> int:
    fleet = await retained(options, address, options.area or "+", "+")
    booths = [booth for booth in fleet.sorted() if not options.red or booth.is_red(local_time(booth.hours.tz))]
    show(options, [booth.as_json() for booth in booths], lambda: pages.booth_list(booths))
    return EXIT_DONE


def local_time(zone: str) -> datetime:
    """What the clock in the shop shows now."""
    try:
        return datetime.now(ZoneInfo(zone)).replace(tzinfo=None)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # whatever a booth calls its zone
        return datetime.now(UTC).replace(tzinfo=None)


async def _show(options: argparse.Namespace, address: BrokerAddress) -> int:
    fleet = await retained(options, address, "+", options.booth)
    booth: BoothPicture | None = fleet.booths.get(options.booth)
    if booth is None:
        raise Failed(f"no message of a booth {options.booth!r} on this broker", status=EXIT_NO_ANSWER)
    show(options, booth.as_json(), lambda: pages.booth_page(booth))
    return EXIT_DONE


async def _watch(options: argparse.Namespace, address: BrokerAddress) -> int:
    fleet = Fleet()

    def say(message: Incoming) -> None:
        topic = fleet.take(message.topic, message.payload)
        if topic is None:
            return
        if options.json:
            text = message.payload.decode(errors="replace")
            print(json.dumps({"topic": message.topic, "retained": message.retained, "payload": text}), flush=True)
        else:
            print(message_line(topic, message.payload), flush=True)

    everything = f"{PREFIX}/{options.area or '+'}/{options.booth or '+'}/#"
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Listener(address, [everything], say) as listener:
        await connect(listener, address, options.wait)
        await stop.wait()
    return EXIT_DONE


async def retained(options: argparse.Namespace, address: BrokerAddress, area_name: str, booth: str) -> Fleet:
    """What lies at the broker of these booths; `+` is any."""
    fleet = Fleet()

    def take(message: Incoming) -> None:
        fleet.take(message.topic, message.payload)

    topics = [f"{PREFIX}/{area_name}/{booth}/{what}" for what in WHAT_IS_SEEN]
    await hear_retained(address, topics, take, options.wait)
    return fleet
