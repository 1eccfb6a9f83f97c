"""`boothctl ls | show | watch`. Exit status 0 done, 1 failed, 2 usage, 3 no answer."""

import argparse
import asyncio
import json
import os
import signal
import sys
import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent import VERSION
from agent.boothctl import pages
from agent.boothctl.gather import Listener
from agent.contract.messages import Incoming
from agent.contract.topics import PREFIX
from agent.contract.typed import Invalid, build
from agent.contract.words import Area, BoothId
from agent.rules.fleet import BoothPicture, Fleet, message_line
from agent.system.broker import BrokerAddress

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_NO_ANSWER = 0, 1, 2, 3
CONFIG_FILE = Path("~/.config/boothctl.toml")
WHAT_IS_SEEN = ("state", "meta", "led", "service/+", "health/+", "alarm/+/+")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        address = _broker(options)
    except (ValueError, OSError) as error:
        print(f"boothctl: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        return int(asyncio.run(options.act(options, address)))
    except KeyboardInterrupt:
        return EXIT_DONE
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="boothctl",
        description="See booths, over MQTT. The broker is taken from the options, else BOOTHCTL_BROKER, "
        f"else url, ca, certificate and key in {CONFIG_FILE}.",
    )
    parser.add_argument("--version", action="version", version=f"boothctl {VERSION}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--broker", metavar="URL", help="mqtts://HOST:8883, or mqtt://127.0.0.1:PORT")
    common.add_argument("--ca", type=Path, metavar="FILE")
    common.add_argument("--certificate", type=Path, metavar="FILE")
    common.add_argument("--key", type=Path, metavar="FILE")
    common.add_argument("--wait", type=float, default=5.0, metavar="SECONDS", help="for an answer, at most (default 5)")
    common.add_argument("--json", action="store_true")
    acts = parser.add_subparsers(required=True, metavar="ls | show | watch")

    ls = acts.add_parser("ls", parents=[common], help="a line for each booth")
    ls.add_argument("--area", type=_area, help="only this area")
    ls.add_argument("--red", action="store_true", help="only booths with a fault, or lost in opening hours")
    ls.set_defaults(act=_ls)
    show = acts.add_parser("show", parents=[common], help="everything of one booth")
    show.add_argument("booth", type=_booth)
    show.set_defaults(act=_show)
    watch = acts.add_parser("watch", parents=[common], help="every message as it comes")
    watch.add_argument("booth", nargs="?", type=_booth, help="only this one")
    watch.add_argument("--area", type=_area, help="only this area")
    watch.set_defaults(act=_watch)
    return parser


def _area(text: str) -> str:
    return _of_type(Area, text)


def _booth(text: str) -> str:
    return _of_type(BoothId, text)


def _of_type(type_: Any, text: str) -> str:
    # Part of a topic: a wildcard or a slash in it would ask for something else.
    try:
        return str(build(type_, text))
    except Invalid as error:
        raise argparse.ArgumentTypeError(error.problems[0].message) from error


def _broker(options: argparse.Namespace) -> BrokerAddress:
    saved: dict[str, Any] = {}
    file = CONFIG_FILE.expanduser()
    if file.is_file():
        saved = tomllib.loads(file.read_text())
    url = options.broker or os.environ.get("BOOTHCTL_BROKER") or saved.get("url")
    if not url:
        raise ValueError(f"which broker? Give --broker URL, set BOOTHCTL_BROKER, or write url = … in {CONFIG_FILE}")

    def path(name: str) -> Path | None:
        given = getattr(options, name)
        return given or (file.parent / saved[name] if name in saved else None)

    return BrokerAddress.of_url(str(url), path("ca"), path("certificate"), path("key"))


async def _ls(options: argparse.Namespace, address: BrokerAddress) -> int:
    fleet = await _retained(options, address, options.area or "+", "+")
    if fleet is None:
        return EXIT_NO_ANSWER
    booths = [booth for booth in fleet.sorted() if not options.red or booth.is_red(_local_time(booth.hours.tz))]
    _print(options, [booth.as_json() for booth in booths], lambda: pages.booth_list(booths))
    return EXIT_DONE


def _local_time(zone: str) -> datetime:
    """What the clock in the shop shows now."""
    try:
        return datetime.now(ZoneInfo(zone)).replace(tzinfo=None)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # whatever a booth calls its zone
        return datetime.now(UTC).replace(tzinfo=None)


async def _show(options: argparse.Namespace, address: BrokerAddress) -> int:
    fleet = await _retained(options, address, "+", options.booth)
    if fleet is None:
        return EXIT_NO_ANSWER
    booth: BoothPicture | None = fleet.booths.get(options.booth)
    if booth is None:
        print(f"boothctl: no message of a booth {options.booth!r} on this broker", file=sys.stderr)
        return EXIT_NO_ANSWER
    _print(options, booth.as_json(), lambda: pages.booth_page(booth))
    return EXIT_DONE


async def _watch(options: argparse.Namespace, address: BrokerAddress) -> int:
    fleet = Fleet()

    def show(message: Incoming) -> None:
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
    async with Listener(address, [everything], show) as listener:
        if not await listener.connected(options.wait):
            return _no_broker(address, listener)
        await stop.wait()
    return EXIT_DONE


async def _retained(options: argparse.Namespace, address: BrokerAddress, area: str, booth: str) -> Fleet | None:
    fleet = Fleet()
    topics = [f"{PREFIX}/{area}/{booth}/{what}" for what in WHAT_IS_SEEN]
    async with Listener(address, topics, lambda message: _take(fleet, message)) as listener:
        if not await listener.connected(options.wait):
            _no_broker(address, listener)
            return None
        await listener.settled(options.wait)
    return fleet


def _take(fleet: Fleet, message: Incoming) -> None:
    fleet.take(message.topic, message.payload)


def _no_broker(address: BrokerAddress, listener: Listener) -> int:
    print(f"boothctl: no answer from {address.host}:{address.port} ({listener.error or 'timeout'})", file=sys.stderr)
    return EXIT_NO_ANSWER


def _print(options: argparse.Namespace, data: object, page: Callable[[], str]) -> None:
    # ASCII: JSON leaves some control characters as they are, and a terminal may obey them.
    print(json.dumps(data, indent=1) if options.json else page())


if __name__ == "__main__":
    sys.exit(main())
