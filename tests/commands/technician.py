"""A technician with an MQTT client: sends commands to the booth of a `World`, and sees what becomes of them."""

import json
import time
from datetime import UTC, datetime
from typing import Any

from agent.contract.command import FINAL, PAYLOAD_TYPE
from agent.documents.signatures import SigningKey, seal
from agent.system.clock import rfc3339
from agent.system.session import open_lock, try_lock
from tests.documents.operator import Operator
from tests.world import BOOTH, ROOT, World

_numbers = iter(range(1_000_000))


def moment(in_s: float = 0.0) -> str:
    return rfc3339(datetime.now(UTC).timestamp() + in_s)


def dated(for_s: float = 60.0) -> dict[str, str]:
    return {"issued_at": moment(), "expires_at": moment(for_s)}


def new_id() -> str:
    return f"c-{next(_numbers)}-{time.monotonic_ns() % 1000}"


def states(w: World, verb: str, id_: str) -> list[str]:
    """Every state that was published, in order, progress as one."""
    said = [message.json["state"] for message in w.observer.of(f"cmd/{verb}/{id_}/status")]
    return [state for index, state in enumerate(said) if index == 0 or said[index - 1] != state]


def send(w: World, verb: str, *, id_: str | None = None, **request: Any) -> str:
    """Publish a plain request; its id."""
    id_ = id_ or new_id()
    w.observer.publish(f"{ROOT}/cmd/{verb}/req", json.dumps({"id": id_, **request}))
    return id_


async def ended(w: World, verb: str, id_: str) -> Any:
    """The last status of a command."""

    def final() -> Any:
        said = [message.json for message in w.observer.of(f"cmd/{verb}/{id_}/status")]
        return next((status for status in reversed(said) if status["state"] in FINAL), None)

    return await w.until(final, f"the end of {verb} {id_}")


async def command(w: World, verb: str, **request: Any) -> Any:
    """Send a plain request and wait for its end."""
    return await ended(w, verb, send(w, verb, **request))


def signed(operator: Operator, verb: str, id_: str, *, keys: list[SigningKey] | None = None, **over: Any) -> bytes:
    request = {"booth": BOOTH, "verb": verb, "id": id_, "args": {}, **dated()} | over
    return seal(PAYLOAD_TYPE, json.dumps(request).encode(), keys or [operator.first])


def send_envelope(w: World, verb: str, envelope: bytes, *, retain: bool = False) -> None:
    w.observer.publish(f"{ROOT}/cmd/{verb}/req", envelope, retain=retain)


async def signed_command(w: World, operator: Operator, verb: str, **over: Any) -> Any:
    id_ = new_id()
    send_envelope(w, verb, signed(operator, verb, id_, **over))
    return await ended(w, verb, id_)


def begin_session(w: World) -> int:
    """The kiosk's application takes the lock; closing the descriptor ends the session."""
    descriptor = open_lock(w.runtime_dir)
    assert try_lock(descriptor)
    return descriptor
