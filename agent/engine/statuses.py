"""What is said of commands: each state that one reaches, on its own topic and where the requester wants it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from agent.contract.command import CommandState, CommandStatus, Reason
from agent.contract.decode import encode
from agent.contract.messages import Incoming
from agent.contract.topics import Address
from agent.contract.typed import Invalid, plain
from agent.contract.words import printable
from agent.engine.publish import Publisher

_STORED_WITHIN_S: Final = 3.0

Result = dict[str, Any]


class Memory(Protocol):
    """The store, as commands need it."""

    def save(self, key: str, value: Any) -> None: ...
    async def flushed(self, deadline_s: float) -> bool: ...


@dataclass(frozen=True)
class Reply:
    """Where else the requester wants every state said."""

    topic: str | None = None
    correlation: bytes | None = None


class Refused(Exception):
    """Nothing is done. `reason` is the contract's word; `result` says what to do."""

    def __init__(self, reason: Reason | None, result: Result | None = None, state: CommandState = "refused") -> None:
        super().__init__(reason)
        self.reason = reason
        self.result = result
        self.state: CommandState = state


class Statuses:
    """Makes them, and publishes them; a state is on disk before it is said."""

    def __init__(self, address: Address, publisher: Publisher, memory: Memory, wall: Callable[[], str]) -> None:
        self._address = address
        self._publisher = publisher
        self._memory = memory
        self._wall = wall

    def make(
        self, id_: str, verb: str, state: CommandState, reason: Reason | None = None, result: Result | None = None,
        by: str | None = None,
    ) -> CommandStatus:  # fmt: skip
        return CommandStatus(id_, verb, state, None, None, reason, result, by, self._wall())

    def after(
        self, status: CommandStatus, state: CommandState, reason: Reason | None = None, result: Result | None = None
    ) -> CommandStatus:
        """The next one of the same command."""
        return self.make(status.id, status.verb, state, reason, result, status.by)

    def say(self, status: CommandStatus, reply: Reply = Reply()) -> None:
        payload = encode(plain(status))
        self._publisher.follow("cmd-status", self._topic(status), payload)
        self._reply(payload, reply)

    def say_once(self, status: CommandStatus, reply: Reply) -> None:
        """One that is not said again at the next connection, nor remembered."""
        payload = encode(plain(status))
        self._publisher.send_once("cmd-status", self._topic(status), payload)
        self._reply(payload, reply)

    async def stored(self) -> bool:
        """Wait until everything so far is on disk; False where it is not in time: the booth goes on without its memory."""
        return await self._memory.flushed(_STORED_WITHIN_S)

    def forget(self, status: CommandStatus) -> None:
        self._publisher.forget(self._topic(status))

    def _reply(self, payload: bytes, reply: Reply) -> None:
        if reply.topic is not None:
            self._publisher.reply(reply.topic, payload, reply.correlation)

    def _topic(self, status: CommandStatus) -> str:
        return self._address.command_status(status.verb, status.id)


def reply_to(message: Incoming, address: Address) -> Reply:
    """Where an answer goes as well. Never below our own prefix: whoever may only ask must not write there by our hand."""
    topic = message.response_topic
    if topic is None or topic.startswith((address.prefix, "$")) or not 0 < len(topic) <= 256:
        return Reply()
    if any(letter in "+#\0" or not letter.isprintable() for letter in topic):
        return Reply()
    return Reply(topic, message.correlation)


def says(message: str, **more: Any) -> Result:
    return {"message": printable(message, 400), **more}


def problems(error: Invalid) -> Result:
    shown = [{"path": problem.path, "message": printable(problem.message, 400)} for problem in error.problems[:20]]
    return says(str(error), problems=shown)


def arguments_of(args: Mapping[str, Any] | Any) -> list[str]:
    """The peripherals that a command names."""
    return [args.peripheral] if hasattr(args, "peripheral") else list(getattr(args, "peripherals", ()))
