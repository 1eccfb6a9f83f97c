"""Which broker an act talks to, and the acts that need one."""

import argparse
import asyncio
import os
import tomllib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from agent.boothctl.gather import Listener
from agent.boothctl.terminal import EXIT_NO_ANSWER, EXIT_USAGE, Failed
from agent.boothctl.words import seconds
from agent.contract.messages import Incoming, Message
from agent.contract.typed import shown
from agent.system.broker import BrokerAddress

CONFIG_FILE: Final = Path("~/.config/boothctl.toml")
DEFAULT_WAIT_S: Final = 5.0

_REFUSED: Final = 0x80  # reason codes from here on are errors (MQTT 5, 2.4)

Online = Callable[[argparse.Namespace, BrokerAddress], Coroutine[Any, Any, int]]


def broker_options(*tls_key: str, wait_s: float | None = DEFAULT_WAIT_S) -> argparse.ArgumentParser:
    """Options of every act that talks to a broker. `tls_key`: another name of the option for the certificate's private key."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--broker", metavar="URL", help="mqtts://HOST:8883, or mqtt://127.0.0.1:PORT")
    common.add_argument("--ca", type=Path, metavar="FILE")
    common.add_argument("--certificate", type=Path, metavar="FILE", help="the client's, for TLS")
    common.add_argument("--certificate-key", *tls_key, type=Path, metavar="FILE", dest="certificate_key", help="its private key")
    if wait_s is not None:
        text = f"for an answer, at most (default {wait_s:g})"
        common.add_argument("--wait", type=seconds, default=wait_s, metavar="SECONDS", help=text)
    return common


class _Later(argparse.Action):
    """An option that stands before the act that takes it."""

    def __call__(self, parser: argparse.ArgumentParser, _namespace: object, _values: object, option: str | None = None) -> None:
        parser.error(f"write {option} behind {self.const}, as in: {parser.prog} {self.const} {option} …")


def come_later(parser: argparse.ArgumentParser, what: str) -> None:
    """Say where the options of every act stand: behind `what`."""
    names = ("--broker", "--ca", "--certificate", "--certificate-key", "--wait", "--json")
    parser.add_argument(
        *names, action=_Later, nargs="?", const=what, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )


def online(act: Online) -> Callable[[argparse.Namespace], int]:
    """An act that is run with the broker's address."""
    return lambda options: asyncio.run(act(options, broker(options)))


def broker(options: argparse.Namespace) -> BrokerAddress:
    """From the options, the environment or the file. Raises `Failed`, as wrong usage."""
    try:
        return _broker(options)
    except (ValueError, OSError) as error:
        raise Failed(str(error), status=EXIT_USAGE) from error


def _broker(options: argparse.Namespace) -> BrokerAddress:
    saved: dict[str, Any] = {}
    file = CONFIG_FILE.expanduser()
    if file.is_file():
        saved = tomllib.loads(file.read_text())
    url = options.broker or os.environ.get("BOOTHCTL_BROKER") or saved.get("url")
    if not url:
        raise ValueError(f"which broker? Give --broker URL, set BOOTHCTL_BROKER, or write url = … in {CONFIG_FILE}")

    def path(given: Path | None, name: str) -> Path | None:
        return given or (file.parent / saved[name] if name in saved else None)

    certificates = (
        path(options.ca, "ca"),
        path(options.certificate, "certificate"),
        path(options.certificate_key, "key"),
    )
    try:
        return BrokerAddress.of_url(str(url), *certificates)
    except ValueError as error:
        given = "" if "@" in str(url) else f" (here: {shown(url)})"  # no password is repeated
        raise ValueError(f"the broker: {error}{given}; one on this machine is mqtt://127.0.0.1:PORT") from error


async def hear_retained(
    address: BrokerAddress, topics: Sequence[str], on_message: Callable[[Incoming], None], wait_s: float
) -> None:
    """Hand on everything retained at these topics. Raises `Failed` where the broker does not answer."""
    async with Listener(address, topics, on_message) as listener:
        await connect(listener, address, wait_s)
        await listener.settled(wait_s)


async def connect(listener: Listener, address: BrokerAddress, wait_s: float) -> None:
    if not await listener.connected(wait_s):
        reason = listener.error or "timeout"
        raise Failed(f"no answer from {address.host}:{address.port} ({reason})", status=EXIT_NO_ANSWER)


async def publish(address: BrokerAddress, topic: str, payload: bytes, wait_s: float) -> None:
    """Publish one retained message. Raises `Failed` where the broker refuses it or does not answer."""
    async with Listener(address, [], lambda _: None) as listener:
        await connect(listener, address, wait_s)
        await say(listener, address, Message(topic, payload, retain=True), wait_s)


async def say(listener: Listener, address: BrokerAddress, message: Message, wait_s: float) -> int:
    """The same over a connection that is there already, retained or not; returns MQTT's reason code."""
    reason = await listener.publish(message, wait_s)
    if reason is None:
        raise Failed(f"{address.host}:{address.port} has not acknowledged the message", status=EXIT_NO_ANSWER)
    if reason >= _REFUSED:
        raise Failed(f"the broker refuses a message at {message.topic} (MQTT reason 0x{reason:02x})")
    return reason
