"""Documents on a running agent: publish one, and wait for what it says of it."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.documents.operator import Operator
from tests.world import World, world

BOOTH = "booth/v1/61/61-0007"
PLACES = {"fleet": "booth/v1/_all/_all", "area": "booth/v1/61/_all", "booth": BOOTH}
OPERATOR = Operator()
GOOD = {"reporting": {"telemetry_s": 300}}
UNDER_WAY = ("applying", "awaiting-confirmation")


def publish(w: World, layer: str, envelope: bytes, kind: str = "config") -> None:
    w.observer.publish(f"{PLACES[layer]}/{kind}/desired", envelope, retain=True)


def said(w: World, kind: str = "config") -> list[Any]:
    """Every final answer so far."""
    answers = [message.json for message in w.observer.of(f"{kind}/reported")]
    return [answer for answer in answers if answer["status"] not in UNDER_WAY]


async def answer(w: World, envelope: bytes, kind: str = "config", layer: str = "booth") -> Any:
    """The final answer to one document."""
    already = len(said(w, kind))
    publish(w, layer, envelope, kind)
    return await w.until(lambda: [*said(w, kind)[already:], None][0], f"a final {kind}/reported")


def codes(report: Any) -> list[str]:
    return [error["code"] for error in report["errors"]]


@asynccontextmanager
async def configured(folder: Path) -> AsyncIterator[tuple[World, Any]]:
    """An agent with one good document, revision 5, and what it says of it."""
    async with world(folder) as w:
        OPERATOR.install(folder)
        await w.start_agent()
        good = await answer(w, OPERATOR.sign("config", GOOD, rev=5))
        assert (good["status"], good["sections"]["reporting"]["value"]["telemetry_s"]) == ("applied", 300)
        yield w, good


def flipped(envelope: bytes, where: str) -> bytes:
    """With one bit of the payload's, or of the first signature's, first byte changed."""
    data = json.loads(envelope)
    holder, name = (data, "payload") if where == "payload" else (data["signatures"][0], "sig")
    inside = bytearray(base64.b64decode(holder[name]))
    inside[-1] ^= 1
    holder[name] = base64.b64encode(inside).decode()
    return json.dumps(data).encode()
