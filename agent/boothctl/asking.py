"""One command that is asked of a booth, and what the booth says of it. Contract §8."""

import asyncio
from collections.abc import Callable
from typing import Final, get_args

from agent.boothctl.terminal import EXIT_NO_ANSWER, Failed
from agent.contract.command import CommandStatus
from agent.contract.decode import decode_object
from agent.contract.documents import RefusalCode
from agent.contract.messages import Incoming
from agent.contract.state import State
from agent.contract.topics import PREFIX, Address, Topic
from agent.contract.typed import build

# A booth that cannot read a signed request, or does not believe it, answers under an id that it makes.
_UNBELIEVED: Final = frozenset({*get_args(RefusalCode), "rate-limited", "busy"})
_MAX_BYTES: Final = 1024 * 1024


class Asking:
    """Hand it every message of its `topics`; from `sent` on, `next` gives the statuses as they come."""

    def __init__(self, booth: str, verb: str, id_: str, *, signed: bool, on_chunk: Callable[[bytes], None] | None = None) -> None:
        self.booth = booth
        self.verb = verb
        self.id = id_
        self._signed = signed
        self._on_chunk = on_chunk
        self._states: dict[str, State] = {}
        self._before: bytes | None = None
        self._last: bytes | None = None
        self._sent = False
        self._said: asyncio.Queue[CommandStatus] = asyncio.Queue()
        self.known: CommandStatus | None = None  # what lay there under this id before it was asked

    def topics(self) -> list[str]:
        """`+` for the area: only the booth's own messages say what that is."""
        root = f"{PREFIX}/+/{self.booth}"
        wanted = [f"{root}/state", f"{root}/cmd/+/{self.id}/status"]
        wanted += [f"{root}/cmd/{self.verb}/+/status"] if self._signed else []
        return wanted + ([f"{root}/cmd/diagnostics/{self.id}/chunk/+"] if self._on_chunk is not None else [])

    def place(self) -> tuple[Address, State]:
        """Where the booth is, and what it says of itself. Raises `Failed`."""
        here = {area: state for area, state in self._states.items() if state.state in ("starting", "online")}
        found = here if len(self._states) > 1 else self._states
        if not self._states:
            raise Failed(f"no message of a booth {self.booth!r} on this broker", status=EXIT_NO_ANSWER)
        if len(found) != 1:
            raise Failed(
                f"a booth {self.booth!r} has a state in the areas {', '.join(sorted(self._states))}, and may be in any of them",
                f"clear what it left behind: an empty retained message at {PREFIX}/AREA/{self.booth}/state",
            )
        [(area, state)] = found.items()
        return Address(area, self.booth), state

    def sent(self) -> None:
        """What comes from now on is an answer."""
        self._sent = True

    @property
    def chunks(self) -> bool:
        """Whether pieces come beside the statuses."""
        return self._on_chunk is not None

    async def next(self) -> CommandStatus:
        return await self._said.get()

    def take(self, message: Incoming) -> None:
        topic = Topic.parse(message.topic)
        if topic is None or topic.address.booth != self.booth:
            return
        if topic.kind == "chunk" and self._on_chunk is not None:
            self._on_chunk(message.payload)
        elif topic.kind == "state":
            self._take_state(topic.address.area, message.payload)
        elif topic.kind == "cmd-status":
            self._take_status(topic, message)

    def _take_state(self, area: str, payload: bytes) -> None:
        try:
            self._states[area] = build(State, decode_object(payload, _MAX_BYTES), unknown="ignore")
        except ValueError:  # BadJson, Invalid: a booth may be anybody
            if not payload:
                self._states.pop(area, None)

    def _take_status(self, topic: Topic, message: Incoming) -> None:
        try:
            status = build(CommandStatus, decode_object(message.payload, _MAX_BYTES), unknown="ignore")
        except ValueError:
            return
        if topic.names != (status.verb, status.id) or not (status.id == self.id or self._is_unbelieved(status, message)):
            return
        if not self._sent:
            self._before, self.known = message.payload, status
            return
        # A new connection brings what lies there once more, and subscriptions that overlap bring it twice.
        if message.payload == self._last or (message.retained and message.payload == self._before):
            return
        self._last = message.payload
        self._said.put_nowait(status)

    def _is_unbelieved(self, status: CommandStatus, message: Incoming) -> bool:
        return (
            self._signed and self._sent and not message.retained and status.verb == self.verb and status.by is None
            and status.state == "refused" and status.reason in _UNBELIEVED
        )  # fmt: skip
