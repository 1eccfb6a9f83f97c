"""Answers commands. This version carries none out, and says so with the contract's words."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

from agent.contract.command import CommandStatus, Reason, Request
from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.event import EventClass
from agent.contract.messages import Incoming
from agent.contract.topics import Address, Topic
from agent.contract.typed import Invalid, build, plain
from agent.engine.publish import Publisher

_HARMLESS_OR_IDLE: Final = frozenset({
    "locate", "self-test", "probe", "test-print", "test-scan", "test-camera", "ticket", "heal", "purge-queue",
    "diagnostics", "restart",
})  # fmt: skip
_TECHNICIAN: Final = frozenset({"accept-device", "maintenance", "reboot", "cancel"})

RATE_PER_S: Final = 50
_SAY_DROPPED_EVERY_S: Final = 60.0


class Commander:
    """One `refused` status for each request; what comes faster than the limit is dropped, counted, and said once a minute."""

    def __init__(
        self,
        address: Address,
        publisher: Publisher,
        wall: Callable[[], str],
        record: Callable[[EventClass, str, dict[str, Any]], None],
    ) -> None:
        self._address = address
        self._publisher = publisher
        self._wall = wall
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._second = 0
        self._count = 0
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def request(self, topic: Topic, message: Incoming) -> None:
        if not self._within_rate():
            return
        verb = topic.names[0]
        try:
            request = build(Request, decode_object(message.payload) if message.payload else {}, unknown="ignore")
            well_formed = True
        except (BadJson, Invalid):
            request, well_formed = Request(), False
        reason = _refusal(verb, retained=message.retained, well_formed=well_formed)
        id_ = request.id or "c-" + os.urandom(4).hex()
        status = CommandStatus(id_, verb, "refused", None, None, reason, None, request.by, self._wall())
        self._publisher.send_once("cmd-status", self._address.command_status(verb, id_), encode(plain(status)))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _within_rate(self) -> bool:
        second = int(self._loop.time())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= RATE_PER_S:
            return True
        self._dropped += 1
        if self._timer is None:
            self._timer = self._loop.call_later(_SAY_DROPPED_EVERY_S, self._say_dropped)
        return False

    def _say_dropped(self) -> None:
        self._timer = None
        self._record("command", "rate-limited", {"dropped": self._dropped})
        self._dropped = 0


def _refusal(verb: str, *, retained: bool, well_formed: bool) -> Reason:
    if verb in _TECHNICIAN:
        return "not-signed"  # before anything else is looked at
    if retained:
        return "retained"
    if not well_formed:
        return "bad-args"
    return "not-supported" if verb in _HARMLESS_OR_IDLE else "unknown-verb"
