"""Answers commands. This version carries none out, and says so with the contract's words."""

import os
from collections.abc import Callable
from typing import Final

from agent.contract.command import CommandStatus, Reason, Request
from agent.contract.decode import BadJson, decode_object, encode
from agent.contract.messages import Incoming
from agent.contract.topics import Address, Topic
from agent.contract.typed import Invalid, build, plain
from agent.engine.publish import Publisher

_KNOWN: Final = frozenset({
    "locate", "self-test", "probe", "test-print", "test-scan", "test-camera", "ticket", "heal", "purge-queue",
    "diagnostics", "restart",
})  # fmt: skip
_TECHNICIAN: Final = frozenset({"accept-device", "maintenance", "reboot", "cancel"})

RATE_PER_S: Final = 50


class Commander:
    """One `refused` status for each request that arrives."""

    def __init__(self, address: Address, publisher: Publisher, wall: Callable[[], str], mono_s: Callable[[], float]) -> None:
        self._address = address
        self._publisher = publisher
        self._wall = wall
        self._mono_s = mono_s
        self._second = 0
        self._count = 0

    def request(self, topic: Topic, message: Incoming) -> None:
        if not self._within_rate():
            return
        verb = topic.names[0]
        reason: Reason
        try:
            request = build(Request, decode_object(message.payload) if message.payload else {}, unknown="ignore")
        except (BadJson, Invalid):
            request, reason = Request(), "bad-args"
        else:
            reason = _refusal(verb, message.retained)
        id_ = request.id or "c-" + os.urandom(4).hex()
        status = CommandStatus(id_, verb, "refused", None, None, reason, None, request.by, self._wall())
        self._publisher.retain("cmd-status", self._address.command_status(verb, id_), encode(plain(status)))

    def _within_rate(self) -> bool:
        second = int(self._mono_s())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= RATE_PER_S


def _refusal(verb: str, retained: bool) -> Reason:
    if retained:
        return "retained"
    if verb in _TECHNICIAN:
        return "not-signed"
    return "not-supported" if verb in _KNOWN else "unknown-verb"
